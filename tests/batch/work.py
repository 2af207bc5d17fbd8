"""Jobs for the tests of the batch: what a worker process can be sent."""

import os
import signal
import threading
from pathlib import Path


def double(number: int) -> int:
    return 2 * number


def who(_: object) -> int:
    return os.getpid()


def fail(path: str) -> None:
    """Note that it ran, then raise."""
    note(path)
    raise ValueError("not this one")


def die(path: str) -> None:
    """Note that it ran, then end as a worker that is out of memory does."""
    note(path)
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(path: str) -> str:
    """End the first worker that gets this, and answer in the second."""
    if not Path(path).exists():
        die(path)
    return "alive"


def run_for_ever(path: str) -> None:
    note(path)
    threading.Event().wait()


def mixed(job: tuple[str, str]) -> object:
    """Do what the job says."""
    return {"double": lambda x: double(int(x)), "die": die}[job[0]](job[1])


def note(path: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
