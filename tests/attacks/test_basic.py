"""The level without namespaces: Landlock, seccomp and limits keep what they can."""

import signal
from pathlib import Path

import pytest

from tests.attacks.persons import CANARY, Kernel, Kernels, Person
from tests.attacks.test_endings import daemon
from tests.attacks.test_files import SECRETS, append, read
from tests.attacks.test_network import UNIX, Bait, bait, reach
from tests.attacks.test_processes import is_there, send
from tests.attacks.test_syscalls import UNPRIVILEGED, call, number_of

__all__ = ["bait"]


@pytest.fixture
def basic(pool: Kernels) -> Kernel:
    return pool.share("basic", "copy", Sandbox={"level": "basic"})


@pytest.mark.parametrize("secret", SECRETS)
def test_reading(person: Person, basic: Kernel, secret: str) -> None:
    path = str(person.root / secret)
    assert person.call(read, path) == CANARY
    basic.refuses(read, path)
    basic.refuses(read, f"/proc/{person.pid}/root{path}")


@pytest.mark.parametrize("secret", [*SECRETS, "course/submitted/mallory/hw1/mine.txt"])
def test_writing(person: Person, basic: Kernel, secret: str) -> None:
    path = str(person.root / secret)
    person.call(append, path)
    basic.refuses(append, path)


@pytest.mark.parametrize("name", ["environ", "mem", "maps", "fd/0"])
@pytest.mark.parametrize("whose", ["driver", "guard"])
def test_other_processes(person: Person, basic: Kernel, whose: str, name: str) -> None:
    pid = person.pid if whose == "driver" else basic.guard
    basic.refuses(read, f"/proc/{pid}/{name}")


@pytest.mark.parametrize("number", [0, signal.SIGKILL, signal.SIGSTOP])
def test_signals(person: Person, basic: Kernel, number: int) -> None:
    person.call(is_there, person.pid)
    for pid in (person.pid, basic.guard):
        basic.refuses(send, pid, int(number))
    person.call(is_there, person.pid)


def test_connecting(person: Person, basic: Kernel, bait: Bait) -> None:
    person.call(reach, *bait.arguments())
    assert bait.was_reached()
    basic.refuses(reach, *bait.arguments())
    assert not bait.was_reached()


def test_connecting_to_the_fork_server(person: Person, basic: Kernel) -> None:
    """Who could, would ask for a kernel with other limits and other folders."""
    path = str(basic.sockets.parent.parent / "control")
    person.call(reach, *UNIX, path)
    basic.refuses(reach, *UNIX, path)


def test_connecting_to_another_kernel(
    start: Kernels, person: Person, basic: Kernel
) -> None:
    """Its output needs no key."""
    path = str(start(Sandbox={"level": "basic"}).sockets / "s-2")
    person.call(reach, *UNIX, path)
    basic.refuses(reach, *UNIX, path)


@pytest.mark.parametrize("name", UNPRIVILEGED)
def test_calls(basic: Kernel, name: str) -> None:
    syscall, arguments = UNPRIVILEGED[name]
    assert basic.call(call, number_of(syscall), arguments) == "EPERM"


def test_daemons(start: Kernels) -> None:
    """Without a namespace to end, the guard must find them."""
    kernel = start(Sandbox={"level": "basic"})
    kernel.call(daemon)
    (left,) = (pid for pid in children_of(kernel.guard) if pid != kernel.pid)
    kernel.stop()
    assert not Path(f"/proc/{left}").exists()
    assert not kernel.sockets.exists()


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def test_bombs(start: Kernels) -> None:
    kernel = start(Sandbox={"level": "basic"}, Limits={"cpu": 1})
    assert kernel.run("while True: pass").status == "dead"
    assert kernel.wait().startswith("The kernel was stopped: it used more than 1 s")
