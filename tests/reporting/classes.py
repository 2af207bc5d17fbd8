"""Classes of any kind in a real gradebook, with results as a batch records them."""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

from jaxgrader.archives import pack
from jaxgrader.converters import put_programs_on_path
from jaxgrader.results import NotebookResult, Outcome, SubmissionResult, TestResult
from jaxgrader.rows import Submission
from jaxgrader.store import Store

NAMED = datetime.datetime(2026, 1, 31, 12, 0, 0)
STRUCTURE = "from jaxgrader.testing import assert_no_unrolling\nassert_no_unrolling(f)"

Verdicts = Mapping[str, tuple[Outcome, float | None, str]]


@dataclass(frozen=True)
class Answer:
    """What came of a submission: by grade_id an outcome, a score and a sentence."""

    student: str
    tests: Verdicts
    late: datetime.timedelta = datetime.timedelta(hours=-1)
    seconds: float = 4.0
    memory: int = 0
    unreadable: str = ""
    assignment: str = "ps"


@dataclass(frozen=True)
class Class:
    """A course folder with a gradebook and a ledger."""

    root: Path
    points: Mapping[str, float] = field(
        default_factory=lambda: {"test_values": 2.0, "test_structure": 1.0}
    )
    db_url: str = ""

    @property
    def url(self) -> str:
        return self.db_url or f"sqlite:///{self.root}/gradebook.db"

    def add_assignment(self, name: str = "ps", notebook: str = "p") -> None:
        """Add an assignment with one notebook."""
        put_programs_on_path()
        with Gradebook(self.url, "jax") as gradebook:
            gradebook.add_assignment(name, duedate=NAMED.isoformat(" "))
            gradebook.add_notebook(notebook, name)
            for grade_id, points in self.points.items():
                gradebook.add_grade_cell(
                    grade_id, notebook, name, max_score=points, cell_type="code"
                )
                text = STRUCTURE if "structure" in grade_id else "assert f(2) == 4"
                gradebook.add_source_cell(
                    grade_id, notebook, name, source=text, cell_type="code"
                )

    def add_student(self, student: str, **facts: str) -> None:
        with Gradebook(self.url, "jax") as gradebook:
            gradebook.add_student(student, **facts)

    def record(self, answers: Iterable[Answer], notebook: str = "p") -> None:
        """Write results as `jaxgrader autograde` does."""
        (self.root / "empty").mkdir(exist_ok=True)
        files = pack(self.root / "empty")
        course = CourseDirectory(
            config=Config(
                CourseDirectory={
                    "root": str(self.root),
                    "db_url": self.url,
                    "course_id": "jax",
                }
            )
        )
        store = Store(course)
        for answer in answers:
            tests = tuple(
                TestResult(
                    name,
                    outcome,
                    score,
                    self.points[name],
                    sentence,
                    seconds=0.5,
                    memory=answer.memory,
                )
                for name, (outcome, score, sentence) in answer.tests.items()
            )
            scores = {test.grade_id: test.score for test in tests}
            found = {notebook: NotebookResult(scores, {}, tests)} if tests else {}
            result = SubmissionResult(
                answer.student,
                answer.assignment,
                found,
                files,
                answer.unreadable,
                host="lab",
                seconds=answer.seconds,
            )
            submission = Submission(
                answer.student,
                answer.assignment,
                Path(),
                "submitted",
                "tests",
                NAMED + answer.late,
            )
            if answer.unreadable:
                store.save_failure(submission, result)
            else:
                store.save(submission, result, lambda *facts: 0.25)
        store.close()


RIGHT = {
    "test_values": (Outcome.PASSED, 2.0, ""),
    "test_structure": (Outcome.PASSED, 1.0, ""),
}
UNROLLED = {
    "test_values": (Outcome.PASSED, 2.0, ""),
    "test_structure": (
        Outcome.FAILED,
        0.0,
        "AssertionError: your program grows from 20 to 80 operations as n goes from 4 "
        "to 16: the loop was unrolled in Python. Write it with jax.lax.scan",
    ),
}


def wrong(sentence: str, outcome: Outcome = Outcome.FAILED) -> Verdicts:
    """Return the results of a wrong answer, with what its first test says."""
    return {**RIGHT, "test_values": (outcome, 0.0, sentence)}
