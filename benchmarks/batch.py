"""`jaxgrader autograde` on a class: throughput against stock, and what it costs itself.

Throughput is wall time per submission, on the same mix of answers. The coordinator's
own cost is measured with recorded results: everything but grading.
"""

import json
import logging
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.api import SubmittedAssignment
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from benchmarks.figures import MB, Figure, cpu_of_children, machine
from benchmarks.floor import floor
from benchmarks.notebooks import CLONE, STOCK, Course, environment
from demo.students import NOTEBOOKS, answer
from jaxgrader import worker
from jaxgrader.autograde import Batch
from jaxgrader.batch.local import serial
from jaxgrader.course import Course as Graded
from jaxgrader.kernel.jail import adopt_orphans
from jaxgrader.results import Job, SubmissionResult
from jaxgrader.store import State, Store
from tests.postgres import server

#: How a student answers: two right ways, mistakes, and one that takes its time.
KINDS = 6
STUDENTS, STOCK_STUDENTS = 30, 6
#: The fork server is to live while the stock course is measured.
KEPT = "\nc.Sandbox.idle = 900.0\n"
SLOW_SECONDS = 2
SLOW = f"""\
import time
end = time.process_time() + {SLOW_SECONDS}
while time.process_time() < end:
    pass
"""
FEW, MANY, LARGE = 50, 5000, 2000


def batch(runtime: Path) -> list[Figure]:
    """Grade a class of 30, and six of them with stock nbgrader."""
    ours, stock = Course(runtime / "ours"), Course(runtime / "stock")
    prepare(ours, (CLONE / "nbgrader_config.py").read_text() + KEPT, STUDENTS)
    prepare(stock, STOCK.format(root=stock.root), STOCK_STUDENTS)
    command = [Path(sys.executable).parent / "jaxgrader", "autograde"]
    run([*command, "--student=s00"], ours.root)  # the fork server starts, once
    notebooks = STUDENTS * len(NOTEBOOKS)
    adopt_orphans()  # the workers' own parent ends after the command
    outside, whole = ended(), machine()
    mine = run([*command, "--force"], ours.root) / notebooks
    whole = (machine() - whole) / notebooks
    outside = (ended() - outside) / notebooks
    kernels = kernels_of(ours.root) / notebooks
    least = statistics.fmean(
        floor(CLONE / "source" / name / f"{notebook}.ipynb", name)
        for name, notebook in NOTEBOOKS.items()
    )
    program = Path(sys.executable).parent / "nbgrader"
    theirs = sum(run([program, "autograde", name], stock.root) for name in NOTEBOOKS)
    theirs /= STOCK_STUDENTS * len(NOTEBOOKS)
    return [
        Figure("a class of 30: wall time per notebook", "s", mine, theirs, bar=1 / 12),
        Figure("its CPU, all of the machine's (over the floor)", "s", whole, least),
        Figure("of it, the students' kernels and their guards", "s", kernels),
        Figure("of them, what the slow sixth waits for", "s", SLOW_SECONDS / KINDS),
        Figure("of it, the command and its workers", "s", outside),
        Figure("of it, checkers, inspectors, forks", "s", whole - kernels - outside),
    ]


def kernels_of(root: Path) -> float:
    """Return the CPU seconds of all students' kernels, as the ledger has them."""
    with closing(sqlite3.connect(root / "gradebook.db")) as database:
        rows = database.execute("SELECT results FROM jaxgrader_ledger").fetchall()
    found = (json.loads(results).values() for (results,) in rows)
    return float(sum(tests[0]["cpu"] for each in found for tests in each))


def ended() -> float:
    """Return the CPU seconds of all processes of ours that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return cpu_of_children()


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
    one = list(NOTEBOOKS)[:1]
    few = Recorded(runtime / "few", FEW, one)
    many = Recorded(runtime / "many", MANY, one)
    return [
        Figure("coordinator, CPU per notebook, of 50", "s", few.cost, bar=0.020),
        Figure("coordinator, CPU per notebook, of 5,000", "s", many.cost, bar=0.020),
        Figure("the same against 50", "s", many.cost, few.cost, bar=1.25),
        Figure("a rerun with nothing to do, of 5,000", "s", many.again, bar=0.010),
        Figure("coordinator, memory grown by 5,000", "MB", many.growth, bar=50),
    ]


def scale(runtime: Path) -> list[Figure]:
    """Write the results of 2,000 students, into both kinds of gradebook."""
    names = list(NOTEBOOKS)
    lite = Recorded(runtime / "lite", LARGE, names)
    with server() as url:
        postgres = Recorded(runtime / "postgres", LARGE, names, url)
    return [
        Figure(f"{what}: {which}, CPU per submission", "s", cost, bar=0.020)
        for what, recorded in (("SQLite", lite), ("PostgreSQL", postgres))
        for which, cost in (
            ("the first tenth of 10,000", recorded.early),
            ("the last tenth", recorded.late),
        )
    ]


class Recorded:
    """A course whose submissions all come to results that were recorded before."""

    def __init__(
        self,
        root: Path,
        students: int,
        names: list[str],
        db_url: str | None = None,
    ) -> None:
        course = Course(root)
        root.mkdir()
        config = (CLONE / "nbgrader_config.py").read_text()
        (root / "nbgrader_config.py").write_text(config)
        db = [] if db_url is None else [f"--db={db_url}"]
        for name in names:
            shutil.copytree(CLONE / "source" / name, root / "source" / name)
            course.nbgrader(" ".join(["generate_assignment", name, *db]))
            for number in range(students):
                folder = root / "submitted" / f"s{number:05}" / name
                shutil.copytree(root / "release" / name, folder)
            first = root / "submitted" / "s00000" / name / f"{NOTEBOOKS[name]}.ipynb"
            answer(name, "right_idiomatic")(first)
        self.results: dict[str, SubmissionResult] = {}
        with opened(root, db_url) as graded:
            for name in names:
                self.record(graded, name)
            self.measure(graded, names)
            self.again = self.rerun(graded, names)
            self.check(graded, students * len(names))

    def record(self, graded: Graded, name: str) -> None:
        """Grade one submission for the record."""
        assignment = graded.assignment(name)
        first = graded.submission(graded.folders(name)[0], assignment)
        result = self.results[name] = worker.grade(graded.job(first, assignment))
        if result.internal or result.unreadable:
            raise RuntimeError(result)

    def replay(self, job: Job) -> SubmissionResult:
        return replace(self.results[job.assignment], student=job.student)

    def measure(self, graded: Graded, names: list[str]) -> None:
        """Note CPU seconds per notebook, and by how many MB the process grew."""
        runner = Batch(graded, graded.config, logging.getLogger("benchmarks"))
        started = time.process_time()
        plan = runner.plan(names, force=False, missing=True, stale=False)
        before, ends = peak(), []
        for _ in runner.run(plan, serial(), self.replay):
            ends.append(time.process_time())
        self.cost = (ends[-1] - started) / len(ends)
        self.growth = peak() - before
        tenth = max(1, len(ends) // 10)
        self.early = (ends[tenth] - ends[0]) / tenth
        self.late = (ends[-1] - ends[-1 - tenth]) / tenth

    def rerun(self, graded: Graded, names: list[str]) -> float:
        """Return CPU seconds per submission when there is nothing to do."""
        runner = Batch(graded, graded.config, logging.getLogger("benchmarks"))
        started = time.process_time()
        plan = runner.plan(names, force=False, missing=True, stale=False)
        if plan.todo:
            raise RuntimeError(f"{len(plan.todo)} were not up to date")
        return (time.process_time() - started) / len(plan.done)

    def check(self, graded: Graded, count: int) -> None:
        """Raise RuntimeError unless no row is lost."""
        entries = graded.store.entries().values()
        written = sum(entry.state is State.GRADED for entry in entries)
        rows = graded.store.gradebook.db.query(SubmittedAssignment).count()
        if (written, rows) != (count, count):
            raise RuntimeError(f"{written} in the ledger, {rows} rows, of {count}")


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
