"""`nbgrader autograde` on right answers: this course's settings against stock ones.

Both courses are scratch copies with the same submissions; only nbgrader_config.py
differs. What nbgrader's start takes, seconds, is no part of the figures: the machine's
processor time is read when nbgrader says that it is done with a submission, and the
first submission of each command is not counted. Nothing else is to run.
"""

import os
import shutil
import statistics
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell
from nbgrader.api import Gradebook

from benchmarks.figures import Figure, machine
from benchmarks.floor import floor
from demo.commands import command, run
from demo.students import NOTEBOOKS, answer
from jaxgrader.grading.runner import is_test

CLONE = Path(__file__).parent.parent
STUDENTS = ("ada", "bea", "cleo", "dan", "eve", "fay", "gus")
#: Opens the last line that nbgrader logs about a submission.
DONE = "Setting destination file permissions"
POINTS = 10
#: What everybody who has not heard of jaxgrader has: a course, and nbgrader's defaults.
STOCK = """\
c = get_config()
c.CourseDirectory.course_id = "jax"
c.CourseDirectory.root = "{root}"
"""
#: The fork server is to live while the stock course is measured.
OURS = "\nc.Sandbox.idle = 900.0\n"
#: The last cell of a submission tells what its kernel has used, as a check.
CLOCK = "import time; print(time.process_time())"


@dataclass(frozen=True)
class Course:
    """A scratch course."""

    root: Path

    def prepare(self, config: str, *, in_kernel: bool = False) -> None:
        """Make the assignments, and hand in everybody's right answers."""
        self.root.mkdir()
        (self.root / "nbgrader_config.py").write_text(config)
        shutil.copytree(CLONE / "source", self.root / "source")
        if in_kernel:
            for notebook in (self.root / "source").glob("*/*.ipynb"):
                tag_tests(notebook)
        self.nbgrader(*(f"generate_assignment {name}" for name in NOTEBOOKS))
        for assignment, notebook in NOTEBOOKS.items():
            for student in STUDENTS:
                folder = self.root / "submitted" / student / assignment
                shutil.copytree(self.root / "release" / assignment, folder)
                answer(assignment, "right_idiomatic")(folder / f"{notebook}.ipynb")
                add_clock(folder / f"{notebook}.ipynb")

    def nbgrader(self, *lines: str) -> list[float]:
        """Run nbgrader; return the machine's CPU seconds at each submission's end."""
        seconds: list[float] = []

        def show(line: str) -> None:
            if DONE in line:
                seconds.append(machine())

        commands = [command(line, self.root, self.root) for line in lines]
        for done in run(commands, env=environment(), show=show):
            if done.status != 0:
                raise RuntimeError(f"nbgrader {' '.join(done.argv)}:\n{done.log}")
        return seconds

    def autograde(self) -> dict[str, list[float]]:
        """Grade everything; return the CPU seconds of notebooks by assignment."""
        seconds = self.nbgrader(*(f"autograde {name} --force" for name in NOTEBOOKS))
        count = len(STUDENTS)
        if len(seconds) != count * len(NOTEBOOKS):
            raise RuntimeError(f"nbgrader graded {len(seconds)} submissions")
        costs = {}
        for number, name in enumerate(NOTEBOOKS):
            own = seconds[count * number : count * (number + 1)]
            costs[name] = [after - before for before, after in pairwise(own)]
            for student, cost in zip(STUDENTS[1:], costs[name], strict=True):
                self.check(name, student, cost)
        return costs

    def check(self, assignment: str, student: str, cost: float) -> None:
        """Raise RuntimeError unless the answer got its points, for CPU time we saw."""
        with Gradebook(f"sqlite:///{self.root}/gradebook.db", "jax") as gradebook:
            score = gradebook.find_submission(assignment, student).score
        folder = self.root / "autograded" / student / assignment
        used = read_clock(folder / f"{NOTEBOOKS[assignment]}.ipynb")
        if score != POINTS or cost < used:
            what = f"{folder}: {score} points, {cost:.2f} CPU s in all"
            raise RuntimeError(f"{what}, {used:.2f} of them the kernel's")


def tag_tests(notebook: Path) -> None:
    """Let the tests run in the student's kernel, as stock nbgrader's do."""
    nb = nbformat.read(notebook, as_version=4)
    for cell in filter(is_test, nb.cells):
        cell.metadata["tags"] = ["in-kernel"]
    nbformat.write(nb, notebook)


def add_clock(notebook: Path) -> None:
    """Add a cell that prints the CPU seconds of its kernel."""
    nb = nbformat.read(notebook, as_version=4)
    nb.cells.append(new_code_cell(CLOCK))
    nbformat.write(nb, notebook)


def read_clock(notebook: Path) -> float:
    """Return what that cell has printed."""
    return float(nbformat.read(notebook, as_version=4).cells[-1].outputs[0].text)


def environment() -> dict[str, str]:
    """Return this process's variables, with this Python's programs on the PATH."""
    programs = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}


def notebooks(runtime: Path) -> list[Figure]:
    """Compare the CPU time of one notebook of each problem, ours and stock."""
    inside, ours, stock = (
        Course(runtime / name) for name in ("inside", "ours", "stock")
    )
    settings = (CLONE / "nbgrader_config.py").read_text() + OURS
    inside.prepare(settings, in_kernel=True)
    ours.prepare(settings)
    stock.prepare(STOCK.format(root=stock.root))
    within, mine, theirs = (c.autograde() for c in (inside, ours, stock))
    if os.environ.get("RAW"):
        print(within, mine, theirs)
    tests_inside = [
        compare(f"{name}, tests in the kernel", within[name], theirs[name], 1 / 4)
        for name in NOTEBOOKS
    ]
    whole = [compare(name, mine[name], theirs[name]) for name in NOTEBOOKS]
    mean = Figure(
        "one notebook, mean of the five problems, CPU",
        "s",
        statistics.fmean(figure.ours for figure in whole),
        statistics.fmean(figure.stock or 0.0 for figure in whole),
        bar=1 / 7,
    )
    floors = [
        floor(CLONE / "source" / name / f"{n}.ipynb", name)
        for name, n in NOTEBOOKS.items()
    ]
    above = Figure(
        "the same over the floor (in the place of stock)",
        "s",
        mean.ours,
        statistics.fmean(floors),
    )
    return [*tests_inside, *whole, mean, above]


def compare(
    what: str, ours: list[float], stock: list[float], bar: float | None = None
) -> Figure:
    """Return the figure for one notebook of a problem."""
    ours_, stock_ = statistics.median(ours), statistics.median(stock)
    return Figure(f"one notebook of {what}, CPU", "s", ours_, stock_, bar=bar)
