"""`jaxgrader autograde` on a class: throughput against stock, and what it costs itself.

Throughput is wall time per submission, on the same mix of answers. The coordinator's
own cost is measured with recorded results: everything but grading.
"""

import logging
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from benchmarks.figures import MB, Figure
from benchmarks.notebooks import CLONE, OURS, STOCK, Course, environment
from demo.students import NOTEBOOKS, answer
from jaxgrader import worker
from jaxgrader.autograde import Batch
from jaxgrader.batch.local import serial
from jaxgrader.course import Course as Graded
from jaxgrader.results import Job, SubmissionResult
from jaxgrader.store import Store

#: How a student answers: two right ways, mistakes, and one that takes its time.
KINDS = 6
STUDENTS, STOCK_STUDENTS = 30, 6
SLOW = """\
import time
end = time.process_time() + 2
while time.process_time() < end:
    pass
"""
FEW, MANY = 50, 5000


def batch(runtime: Path) -> list[Figure]:
    """Grade a class of 30, and six of them with stock nbgrader."""
    ours, stock = Course(runtime / "ours", runtime), Course(runtime / "stock", runtime)
    prepare(ours, (CLONE / "nbgrader_config.py").read_text() + OURS, STUDENTS)
    prepare(stock, STOCK.format(root=stock.root), STOCK_STUDENTS)
    command = [Path(sys.executable).parent / "jaxgrader", "autograde"]
    run([*command, "--student=s00"], ours.root)  # the fork server starts, once
    mine = run([*command, "--force"], ours.root) / (STUDENTS * len(NOTEBOOKS))
    program = Path(sys.executable).parent / "nbgrader"
    theirs = sum(
        run([program, "autograde", name], stock.root) for name in NOTEBOOKS
    ) / (STOCK_STUDENTS * len(NOTEBOOKS))
    return [
        Figure("a class of 30: wall time per notebook", "s", mine, theirs, bar=1 / 12)
    ]


def prepare(course: Course, config: str, students: int) -> None:
    """Make the assignments; hand in each kind of answer in turn."""
    course.root.mkdir()
    (course.root / "nbgrader_config.py").write_text(config)
    shutil.copytree(CLONE / "source", course.root / "source")
    course.nbgrader(*(f"generate_assignment {name}" for name in NOTEBOOKS))
    for assignment, notebook in NOTEBOOKS.items():
        for number in range(students):
            folder = course.root / "submitted" / f"s{number:02}" / assignment
            shutil.copytree(course.root / "release" / assignment, folder)
            hand_in(folder / f"{notebook}.ipynb", assignment, number % KINDS)


def hand_in(path: Path, assignment: str, kind: int) -> None:
    """Write an answer of a kind into a notebook."""
    folder = CLONE / "tests" / "assignments" / "variants" / assignment
    names = sorted(each.stem for each in folder.glob("*.py"))
    other = [name for name in names if name.startswith("right")][-1]
    wrong = [name for name in names if name.startswith("wrong")]
    variant = ["right_idiomatic", other, *wrong[:3], "right_idiomatic"][kind]
    answer(assignment, variant)(path)
    if kind == KINDS - 1:
        nb = nbformat.read(path, as_version=4)
        nb.cells.append(nbformat.v4.new_code_cell(SLOW))
        nbformat.write(nb, path)


def run(command: list[Any], root: Path) -> float:
    """Run a command in a course; return the seconds it took."""
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=root, env=environment(), capture_output=True, text=True
    )
    if done.returncode not in (0, 3):
        raise RuntimeError(f"{command}:\n{done.stderr}")
    return time.monotonic() - started


def coordinator(runtime: Path) -> list[Figure]:
    """Write recorded results: few and many submissions; then once more, for nothing."""
    few = Recorded(runtime / "few", runtime, FEW)
    many = Recorded(runtime / "many", runtime, MANY)
    return [
        Figure("coordinator, CPU per notebook, of 50", "s", few.cost, bar=0.020),
        Figure("coordinator, CPU per notebook, of 5,000", "s", many.cost, bar=0.020),
        Figure("the same against 50", "", many.cost, few.cost, bar=1.25),
        Figure("a rerun with nothing to do, of 5,000", "s", many.again, bar=0.010),
        Figure("coordinator, memory grown by 5,000", "MB", many.growth, bar=50),
    ]


class Recorded:
    """A course whose submissions all come to one result that was recorded before."""

    def __init__(
        self, root: Path, runtime: Path, students: int, db_url: str | None = None
    ) -> None:
        course = Course(root, runtime)
        root.mkdir()
        config = (CLONE / "nbgrader_config.py").read_text()
        (root / "nbgrader_config.py").write_text(config)
        name, notebook = next(iter(NOTEBOOKS.items()))
        shutil.copytree(CLONE / "source" / name, root / "source" / name)
        course.nbgrader(f"generate_assignment {name}")
        for number in range(students):
            folder = root / "submitted" / f"s{number:05}" / name
            shutil.copytree(root / "release" / name, folder)
        first = root / "submitted" / "s00000" / name / f"{notebook}.ipynb"
        answer(name, "right_idiomatic")(first)
        with opened(root, db_url) as graded:
            self.record(graded, name)
            self.cost, self.growth = self.measure(graded, name)
            self.again = self.rerun(graded, name)

    def record(self, graded: Graded, name: str) -> None:
        """Grade one submission for the record."""
        assignment = graded.assignment(name)
        first = graded.submission(graded.folders(name)[0], assignment)
        self.result = worker.grade(graded.job(first, assignment))
        if self.result.internal or self.result.unreadable:
            raise RuntimeError(self.result)

    def replay(self, job: Job) -> SubmissionResult:
        return replace(self.result, student=job.student, assignment=job.assignment)

    def measure(self, graded: Graded, name: str) -> tuple[float, float]:
        """Return CPU seconds per notebook, and by how many MB the process grew."""
        runner = Batch(graded, graded.config, logging.getLogger("benchmarks"))
        started = time.process_time()
        plan = runner.plan([name], force=False, missing=True, stale=False)
        before, count = peak(), 0
        for _ in runner.run(plan, serial(), self.replay):
            count += 1
        return (time.process_time() - started) / count, peak() - before

    def rerun(self, graded: Graded, name: str) -> float:
        """Return CPU seconds per submission when there is nothing to do."""
        runner = Batch(graded, graded.config, logging.getLogger("benchmarks"))
        started = time.process_time()
        plan = runner.plan([name], force=False, missing=True, stale=False)
        if plan.todo:
            raise RuntimeError(f"{len(plan.todo)} were not up to date")
        return (time.process_time() - started) / len(plan.done)


@contextmanager
def opened(root: Path, db_url: str | None) -> Iterator[Graded]:
    """Open a course as `jaxgrader autograde` does."""
    config: Config = PyFileConfigLoader("nbgrader_config.py", str(root)).load_config()
    config.CourseDirectory.root = str(root)
    config.CourseDirectory.db_url = db_url or f"sqlite:///{root}/gradebook.db"
    store = Store(CourseDirectory(config=config))
    try:
        with store.lock():
            yield Graded(store.course, config, store)
    finally:
        store.close()


def peak() -> float:
    """Return the most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
