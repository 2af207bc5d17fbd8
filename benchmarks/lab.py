"""A Jupyter server's answers while the panel's batch runs, against those without.

The batch takes all processors that it can get, and two tabs look on. What is asked has
nothing to do with it: the server's status, a folder, a file, a page of the formgrader.
"""

import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.batch import KINDS, hand_in
from benchmarks.figures import Figure
from benchmarks.notebooks import CLONE, Course
from demo.students import FORI, NOTEBOOKS
from tests.lab.conftest import Client, over, served

STUDENTS, TABS = 50, 2
REQUESTS = [
    "/api/status",
    "/api/contents/submitted",
    "/api/contents/nbgrader_config.py",
    "/formgrader/api/status",
]
#: Seconds: how long it is asked without a batch.
CALM = 30.0


def lab(runtime: Path) -> list[Figure]:
    """Ask without a batch, then from the start of one of 50 to its end."""
    course = Course(runtime / "course")
    course.root.mkdir()
    shutil.copy(CLONE / "nbgrader_config.py", course.root)
    shutil.copytree(CLONE / "source" / FORI, course.root / "source" / FORI)
    course.nbgrader(f"generate_assignment {FORI}")
    for number in range(STUDENTS):
        folder = course.root / "submitted" / f"s{number:02}" / FORI
        shutil.copytree(course.root / "release" / FORI, folder)
        hand_in(folder / f"{NOTEBOOKS[FORI]}.ipynb", FORI, number % KINDS)
    with served(course.root, runtime / "home") as client, looking(client):
        client.until(lambda state: state["surveyed"])
        end = time.monotonic() + CALM
        without = ask(client, lambda: time.monotonic() > end)
        body = {"what": "missing", "submissions": [{"assignment": FORI}]}
        status, said = client.order("start", body)
        if status != 202:
            raise RuntimeError(said)
        beside = ask(client, lambda: over(client.until(bool)))
        state = client.until(bool)
    if state["assignments"][0]["counts"].get("not graded"):
        raise RuntimeError(state)
    return [
        Figure(
            f"an answer of Jupyter's beside a batch of {STUDENTS}: {what}",
            "s",
            pick(beside),
            pick(without),
            kind="difference",
            bar=0.2,
        )
        for what, pick in (
            ("median", statistics.median),
            (
                "one in a hundred",
                lambda seconds: statistics.quantiles(seconds, n=100)[-1],
            ),
            ("the slowest", max),
        )
    ]


def ask(client: Client, done: Callable[[], bool]) -> list[float]:
    """Ask in turn until it is done; return how long each answer took."""
    seconds: list[float] = []
    while not (len(seconds) % len(REQUESTS) == 0 and done()):
        path = REQUESTS[len(seconds) % len(REQUESTS)]
        began = time.monotonic()
        status, said, _ = client.request("GET", path, **client.allowed)
        seconds.append(time.monotonic() - began)
        if status != 200:
            raise RuntimeError(f"{path}: {said}")
        time.sleep(0.02)  # a person's pace, many times over
    return seconds


@contextmanager
def looking(client: Client) -> Iterator[None]:
    """Let tabs ask for the state once a second, as the panel does."""
    closed = threading.Event()

    def tab() -> None:
        while not closed.wait(1.0):
            client.ask("state")
            client.ask("submissions", assignment=FORI)

    tabs = [threading.Thread(target=tab) for _ in range(TABS)]
    for each in tabs:
        each.start()
    try:
        yield
    finally:
        closed.set()
        for each in tabs:
            each.join()
