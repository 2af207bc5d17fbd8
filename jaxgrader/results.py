"""What is to be graded, and what came of it: records that travel and never change."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a test cell ended.

    All but INTERNAL are about the submission, and have a score. INTERNAL is the
    author's fault, or ours: no score follows from it, and a human must look.
    """

    PASSED = "passed"
    #: The test ran to its end with partial credit, or found a wrong answer.
    FAILED = "failed"
    #: The student's code raised, is not there, or gave what cannot cross the wire.
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    #: The student's kernel is gone, or does not answer any more.
    CRASHED = "crashed"
    INTERNAL = "internal"


@dataclass(frozen=True)
class TestResult:
    """The verdict on one test cell.

    `score` is a number in [0, `max_score`], or None for INTERNAL. `sentence` says what
    happened, for the student. `seconds` is wall time.
    """

    __test__ = False  # not one of pytest's, whatever its name

    grade_id: str
    outcome: Outcome
    score: float | None
    max_score: float
    sentence: str = ""
    #: False for a cell that ran in the student's own kernel.
    protected: bool = True
    seconds: float = 0.0
    #: Bytes that the student's kernel held at most, up to its end; 0 if nobody saw.
    memory: int = 0
    #: Processor seconds of the student's kernel and its guard, up to their end.
    cpu: float = 0.0
    #: A process of ours was lost: the next try may end otherwise.
    again: bool = False


@dataclass(frozen=True)
class Job:
    """One submission to grade, with all that a worker needs: it has no course.

    `files` and `source` are tar archives: of the submitted folder, and of the
    assignment's folder in source/.
    """

    student: str
    assignment: str
    files: bytes
    source: bytes
    #: Of each notebook of the assignment: the author's kernelspec and cells, as in
    #: `preprocessors.ORIGINAL`.
    notebooks: Mapping[str, Any]
    #: The course's settings, and the versions of what they are for.
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    #: Which notebooks, as a file pattern.
    only: str = "*"


@dataclass(frozen=True)
class NotebookResult:
    """What the gradebook is to hold of one notebook.

    `scores` and `comments` are by grade_id; a score of None waits for a human.
    """

    scores: Mapping[str, float | None]
    comments: Mapping[str, str | None]
    tests: tuple[TestResult, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class SubmissionResult:
    """What came of a job. With an `unreadable` or `internal` sentence: no score.

    `files` is the tar archive of what belongs into autograded/.
    """

    student: str
    assignment: str
    notebooks: Mapping[str, NotebookResult] = field(default_factory=dict)
    files: bytes = b""
    #: What is wrong with the submission, that it cannot be graded.
    unreadable: str = ""
    #: What went wrong here; nobody was graded, and a human must look.
    internal: str = ""
    log: str = ""
    host: str = ""
    #: Wall time.
    seconds: float = 0.0


def log_of(
    head: str, notebooks: Mapping[str, Iterable[Mapping[str, Any]]], log: str
) -> str:
    """Return how a submission was graded, for people: what came of it, and its log.

    `notebooks`: by name, the fields of the `TestResult`s.
    """
    lines = [head]
    for name, tests in notebooks.items():
        lines += ["", name, *map(line_about, tests)]
    return "\n".join([*lines, "", log]).strip()


def line_about(test: Mapping[str, Any]) -> str:
    """Return a log's line about a test, given the fields of a `TestResult`."""
    score = "no score" if test["score"] is None else f"{test['score']:g}"
    head = f"  {test['grade_id']}: {test['outcome']}, {score} of {test['max_score']:g}"
    return f"{head}. {test['sentence']}".rstrip()
