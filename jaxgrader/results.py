"""What grading found out: records that travel, and that nothing changes afterwards."""

from dataclasses import dataclass
from enum import StrEnum


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
