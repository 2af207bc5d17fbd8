"""`jaxgrader export` against `nbgrader export`, and the class report of a large course.

The gradebooks are written in bulk, with results of many kinds: what is measured reads.
"""

import csv
import datetime
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook, new_uuid
from nbgrader.coursedir import CourseDirectory
from nbgrader.plugins import CsvExportPlugin
from sqlalchemy.engine import Engine
from traitlets.config import Config

from benchmarks.batch import opened
from benchmarks.figures import Figure
from benchmarks.notebooks import CLONE, environment
from jaxgrader.converters import put_programs_on_path
from jaxgrader.reporting.export import TABLES, Export
from jaxgrader.reporting.records import STOCK, read_records
from jaxgrader.results import Outcome, TestResult
from jaxgrader.rows import GRADE, NOTEBOOK, STUDENT, SUBMITTED
from jaxgrader.store import LEDGER, State, Store

TESTS = {
    "test_shape_and_dtype": 2.0,
    "test_worked_value": 2.0,
    "test_general_values": 2.0,
    "test_edge_cases": 2.0,
    "test_determinism": 1.0,
    "test_structure": 1.0,
}
CHECK = "assert_no_unrolling(f, lambda n: (n, x))"
UNROLLED = (
    "AssertionError: your program grows from {} to {} operations as T goes from 4 to "
    "64: the loop was unrolled in Python. Write it with jax.lax.scan, "
    "jax.lax.fori_loop or nnx.scan, so that JAX traces one turn however many there are"
)
#: Outcome -> what a test says; numbers differ from student to student.
SENTENCES = (
    (Outcome.FAILED, "AssertionError: entry [0, {}]: got {}.5, expected {}.25"),
    (Outcome.FAILED, "AssertionError: has shape ({}, {}), expected (4, 8)"),
    (Outcome.ERROR, "NotImplementedError"),
    (Outcome.ERROR, "TypeError: add got incompatible shapes: ({},), ({},)"),
    (Outcome.ERROR, "NameError: name 'h{}' is not defined"),
    (Outcome.TIMEOUT, "The test took longer than the 30 s that it may."),
    (Outcome.CRASHED, "The kernel died: SIGSEGV (Segmentation fault)."),
)
DUE = datetime.datetime(2026, 1, 31, 23, 59)
SMALL, LARGE = (400, 8), (2000, 5)


def exports(runtime: Path) -> list[Figure]:
    """Export 400 students x 8 assignments, and the same with stock nbgrader.

    In one process, since both programs start with seconds of nbgrader's imports; then
    once more as commands.
    """
    root = write_course(runtime / "exports", *SMALL)
    with opened(root, None) as course:
        engine, gradebook = course.store.engine, course.store.gradebook
        plugin = CsvExportPlugin(to=str(root / "grades.csv"))
        ours = timed(lambda: export(engine, root, ["assignments"]))
        stock = timed(lambda: plugin.export(gradebook))
        every = timed(lambda: export(engine, root, TABLES))
        parquet = timed(lambda: export(engine, root, TABLES, "parquet"))
    compare(root / "exports" / "assignments.csv", root / "grades.csv")
    programs = Path(sys.executable).parent
    command = timed(lambda: run([programs / "jaxgrader", "export"], root))
    theirs = timed(lambda: run([programs / "nbgrader", "export"], root))
    return [
        Figure("export of 400 x 8, as nbgrader's", "s", ours, stock, bar=1 / 20),
        Figure("the same, notebooks and cells, too", "s", every),
        Figure("all of it as Parquet", "s", parquet),
        Figure("as commands, with their start", "s", command, theirs),
    ]


def export(
    engine: Engine, root: Path, tables: Iterable[str], kind: str = "csv"
) -> None:
    Export(kind).write(read_records(engine), tables, root / "exports")


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def report(runtime: Path) -> list[Figure]:
    """Write the class report of 2,000 students x 5 assignments."""
    root = write_course(runtime / "report", *LARGE)
    program = Path(sys.executable).parent / "jaxgrader"
    named = timed(lambda: run([program, "report"], root))
    without = [program, "report", "--anonymous", "--to=class.html"]
    anonymous = timed(lambda: run(without, root))
    size = (root / "report.html").stat().st_size / 1e6
    return [
        Figure("class report of 2,000 x 5", "s", named, bar=10),
        Figure("the same without names", "s", anonymous, bar=10),
        Figure("its size", "MB", size),
    ]


def compare(ours: Path, stock: Path) -> None:
    """Raise RuntimeError unless nbgrader's columns hold the same text."""
    tables = []
    for path in (ours, stock):
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            tables.append(sorted([row[name] for name in STOCK] for row in rows))
    if tables[0] != tables[1] or not tables[0]:
        raise RuntimeError(f"{ours} and {stock} differ")


def run(command: list[Any], root: Path) -> None:
    """Run a command in a course."""
    subprocess.run(
        command, cwd=root, env=environment(), check=True, capture_output=True
    )


def write_course(root: Path, students: int, assignments: int) -> Path:
    """Write a course in which nearly everybody has handed in."""
    root.mkdir()
    (root / "nbgrader_config.py").write_text((CLONE / "nbgrader_config.py").read_text())
    url, chance = f"sqlite:///{root}/gradebook.db", random.Random(0)  # noqa: S311
    place = {"root": str(root), "db_url": url, "course_id": "jax"}
    put_programs_on_path()
    store = Store(CourseDirectory(config=Config(CourseDirectory=place)))
    names = [f"s{number:05}" for number in range(students)]
    with store.engine.begin() as database:
        people = [
            {
                "id": name,
                "last_name": f"Last{name[1:]}",
                "first_name": "First",
                "email": f"{name}@example.org",
            }
            for name in names
        ]
        database.execute(STUDENT.insert(), people)
    for number in range(assignments):
        rows = Rows(store.gradebook, f"problem-{number}", chance)
        for name in names:
            if chance.random() < 0.95:
                rows.add(name)
        with store.engine.begin() as database:
            for table, values in rows.tables.items():
                database.execute(table.insert(), values)
    store.close()
    return root


class Rows:
    """The rows of an assignment's submissions."""

    def __init__(self, gradebook: Gradebook, name: str, chance: random.Random) -> None:
        self.name, self.chance = name, chance
        self.assignment = gradebook.add_assignment(name, duedate=str(DUE)).id
        self.notebook = gradebook.add_notebook("problem", name).id
        self.cells: dict[str, str] = {}
        for grade_id, points in TESTS.items():
            where = grade_id, "problem", name
            cell = gradebook.add_grade_cell(*where, max_score=points, cell_type="code")
            source = CHECK if grade_id == "test_structure" else "assert f(1) == 2"
            gradebook.add_source_cell(*where, source=source, cell_type="code")
            self.cells[grade_id] = cell.id
        self.tables: dict[Any, list[dict[str, Any]]] = {
            SUBMITTED: [],
            NOTEBOOK: [],
            GRADE: [],
            LEDGER: [],
        }

    def add(self, student: str) -> None:
        """Add a student's submission, with results of some kind."""
        chance, part, whole = self.chance, new_uuid(), new_uuid()
        memory = int(chance.lognormvariate(19.3, 0.2))
        tests = [replace(self.test(name), memory=memory) for name in TESTS]
        late = chance.gauss(-30, 25)
        self.tables[SUBMITTED].append(
            {
                "id": whole,
                "assignment_id": self.assignment,
                "student_id": student,
                "timestamp": DUE + datetime.timedelta(hours=late),
            }
        )
        self.tables[NOTEBOOK].append(
            {
                "id": part,
                "assignment_id": whole,
                "notebook_id": self.notebook,
                "flagged": False,
                "late_submission_penalty": 0.5 if late > 0 else None,
            }
        )
        self.tables[GRADE] += [
            {
                "id": new_uuid(),
                "notebook_id": part,
                "cell_id": self.cells[test.grade_id],
                "auto_score": test.score,
                "needs_manual_grade": False,
            }
            for test in tests
        ]
        self.tables[LEDGER].append(
            {
                "assignment": self.name,
                "student": student,
                "state": State.GRADED,
                "stale": False,
                "submitted": "",
                "tests": "",
                "sentence": "",
                "results": json.dumps({"problem": [asdict(test) for test in tests]}),
                "seconds": round(chance.lognormvariate(1.2, 0.4), 3),
                "host": "lab",
            }
        )

    def test(self, grade_id: str) -> TestResult:
        """Return a test's result: mostly it passed."""
        chance, points = self.chance, TESTS[grade_id]
        if chance.random() < 0.7:
            return TestResult(grade_id, Outcome.PASSED, points, points, seconds=0.2)
        numbers = [chance.randrange(1000) for _ in range(3)]
        outcome, text = chance.choice(SENTENCES)
        if grade_id == "test_structure":
            outcome, text = Outcome.FAILED, UNROLLED
        sentence = text.format(*numbers)
        return TestResult(grade_id, outcome, 0.0, points, sentence, seconds=0.2)
