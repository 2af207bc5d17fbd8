"""Grade one notebook: the student's cells in their kernel, the tests in the checker.

What it is: `grade`, which both doors use (nbgrader's and ours): a function of the
sanitised notebook, its files, the plan and the limits. What it is not: nbgrader's; it
knows no gradebook.

Guarantees: each test cell has a `TestResult`, and points only from a verdict that the
checker reported, or, for a cell tagged ``in-kernel``, from the kernel's own reply.
"""

import asyncio
import contextlib
import copy
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbformat.notebooknode import NotebookNode
from traitlets.config import Config

from jaxgrader.grading.cells import Cells, Ran, code_cell
from jaxgrader.grading.checker import NO_CHECKER, Checker, CheckerError, Verdict
from jaxgrader.grading.meeting import Meeting
from jaxgrader.grading.plan import Kind, Plan, names_in, names_used
from jaxgrader.grading.serving import Inspector, Serving
from jaxgrader.results import Outcome, TestResult
from jaxgrader.verdicts import (
    BAD_CREDIT,
    FALSE_VALUE,
    add_error,
    as_plain_output,
    has_error,
    settle,
    show_score,
)


@dataclass(frozen=True)
class NotebookJob:
    """One notebook to grade, restored and sanitised."""

    notebook: NotebookNode
    #: None: all tests run in the notebook's own kernel, as in Validate.
    plan: Plan | None = None
    #: The submission's files; the kernel works on a copy.
    files: Path | None = None
    #: The files that the tests find beside them.
    source: Path | None = None
    #: Seconds: for a cell, and for the notebook. Bytes of output per cell.
    cell: float | None = None
    wall: float | None = None
    output: int = 1_000_000
    env: dict[str, str] | None = None


class Grader:
    """One grading slot: checkers that outlive the submissions that they judge.

    There is one for each assignment, so that a class may come in any order; each works
    in a copy of its assignment's folder. `most` of them live at once.
    """

    def __init__(self, kernel_name: str, config: Config, most: int = 5) -> None:
        self.kernel_name, self.config, self.most = kernel_name, config, most
        #: By the assignment's folder; the one that was used last stands last.
        self.checkers: dict[Path | None, Checker] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def grade(
        self, job: NotebookJob
    ) -> tuple[NotebookNode, tuple[TestResult, ...]]:
        """Grade one notebook; return it with its outputs, and a verdict per test.

        Raises:
            SandboxError, PlatformError, CheckerError: if this machine cannot do it.
            SubmissionError: if the submission's files do not fit into a kernel.
        """
        nb = copy.deepcopy(job.notebook)
        kernel = Cells(
            output=job.output, kernel_name=self.kernel_name, config=self.config
        )
        inspector = Inspector(self.kernel_name, self.config)
        try:
            await kernel.start(job.files, job.env)
            checker = await self.ready(job) if job.plan is not None else None
            results = await Run(job, nb, kernel, checker, inspector).cells()
        finally:
            await inspector.close()
            await kernel.close()
        return nb, tuple(
            replace(each, memory=kernel.memory, cpu=kernel.cpu) for each in results
        )

    async def ready(self, job: NotebookJob) -> Checker:
        """Return a checker with an empty namespace."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            await self.close()
            self._loop = loop
        checker = self.checkers.pop(job.source, None)
        if checker is not None and not await is_ready(checker):
            await checker.close()
            checker = None
        while len(self.checkers) >= self.most:
            await self.checkers.pop(next(iter(self.checkers))).close()
        if checker is None:
            checker = Checker(self.kernel_name, self.config, job.source)
            try:
                await checker.start()
                await checker.begin()
            except BaseException:
                await checker.close()
                raise
        self.checkers[job.source] = checker
        return checker

    async def close(self) -> None:
        """End all checkers."""
        while self.checkers:
            await self.checkers.popitem()[1].close()


async def is_ready(checker: Checker) -> bool:
    """Let a checker begin anew; False for one that has done its time, or has died."""
    if checker.spent:
        return False
    with contextlib.suppress(CheckerError):
        await checker.begin()
        return True
    return False


class Run:
    """One submission on its way through its kernel and the checker."""

    def __init__(
        self,
        job: NotebookJob,
        nb: NotebookNode,
        kernel: Cells,
        checker: Checker | None,
        inspector: "Inspector",
    ) -> None:
        self.job, self.nb, self.kernel, self.checker = job, nb, kernel, checker
        self.inspector = inspector
        self.deadline = time.monotonic() + (job.wall or math.inf)
        #: Why no further cell can run in the kernel, no further test in the checker.
        self.ended: tuple[Outcome, str] | None = None
        self.stuck: tuple[Outcome, str] | None = None
        #: Whether a process of ours was lost, and another try may end otherwise.
        self.again = False
        #: How many steps of the plan the checker has done.
        self.done = 0
        self.names_of_failed: set[str] = set()
        #: Names in the checker whose values came from the student, as far as known.
        self.theirs: set[str] = set()
        self.meeting: Meeting | None = None

    async def cells(self) -> tuple[TestResult, ...]:
        """Run all cells of the notebook; return the verdicts on its tests."""
        if self.checker is not None:
            self.meeting = self.kernel.meet("wire")
        try:
            results = [
                await self.one(cell, index)
                for index, cell in enumerate(self.nb.cells)
                if cell.cell_type == "code"
            ]
        finally:
            if self.meeting is not None:
                self.meeting.close()
        return tuple(
            replace(result, again=self.again and result.score is None)
            for result in results
            if result is not None
        )

    async def one(self, cell: NotebookNode, index: int) -> TestResult | None:
        """Run one code cell where it belongs; return the verdict, if it is a test."""
        started = time.monotonic()
        test = is_test(cell)
        if self.ended is None and started > self.deadline:
            self.ended = Outcome.TIMEOUT, WALL.format(seconds=self.job.wall)
        if self.ended is not None:
            cell.outputs = []
            outcome, why = self.ended
            sentence = AFTER_STOP.format(why=why)
            return self.conclude(cell, outcome, 0.0, sentence) if test else None
        if not test:
            await self.in_kernel(cell, index)
            return None
        result = await self.test(cell, index)
        return replace(result, seconds=round(time.monotonic() - started, 3))

    async def test(self, cell: NotebookNode, index: int) -> TestResult:
        """Run a test cell where it belongs."""
        plan = self.job.plan
        if plan is None or cell.metadata.nbgrader.grade_id in plan.in_kernel:
            return await self.unprotected(cell, index)
        if self.stuck is None:
            try:
                await self.follow(plan, cell.metadata.nbgrader.grade_id, index)
            except CheckerError as error:
                self.stuck, self.again = (Outcome.INTERNAL, str(error)), True
        if self.stuck is not None:
            cell.outputs = []
            return self.conclude(cell, self.stuck[0], 0.0, self.stuck[1])
        verdict = await self.in_checker(cell, index)
        return self.judge(cell, verdict)

    def seconds(self) -> float | None:
        """Return how long the next cell may take, None for ever."""
        left = max(1.0, self.deadline - time.monotonic())
        seconds = min(self.job.cell or math.inf, left)
        return None if seconds == math.inf else seconds

    async def in_kernel(self, cell: NotebookNode, index: int) -> Ran:
        """Run a cell in the student's kernel."""
        ran = await self.kernel.run(cell, index, self.seconds())
        if ran.ended:
            self.ended = self.how_it_ended(ran)
        return ran

    def how_it_ended(self, ran: Ran) -> tuple[Outcome, str]:
        """Return the outcome for a kernel that is gone, and its sentence."""
        default = Outcome.TIMEOUT if ran.late else Outcome.CRASHED
        if self.kernel.reason in LOST:
            default, self.again = Outcome.INTERNAL, True
        outcome = LIMITS.get(self.kernel.reason or "", default)
        return outcome, self.kernel.sentence or ran.why

    async def unprotected(self, cell: NotebookNode, index: int) -> TestResult:
        """Run a test in the notebook's own kernel, as nbgrader does."""
        ran = await self.in_kernel(cell, index)
        no_score = settle(cell, None if ran.completed else ran.why)
        errors = [o.evalue for o in cell.outputs if o.output_type == "error"]
        if no_score:
            return record(cell, Outcome.INTERNAL, 0.0, errors[-1], protected=False)
        if errors:
            stopped = Outcome.TIMEOUT if ran.late else Outcome.FAILED
            outcome = self.ended[0] if self.ended else stopped
            return record(cell, outcome, 0.0, errors[-1], protected=False)
        values = [o for o in cell.outputs if o.output_type == "execute_result"]
        points = float(cell.metadata.nbgrader.points)
        score = float(values[-1].data["text/plain"]) if values else points
        outcome = Outcome.PASSED if score == points else Outcome.FAILED
        return record(cell, outcome, score, "", protected=False)

    async def follow(self, plan: Plan, grade_id: str, index: int) -> None:
        """Bring the checker to where a test stands in the source.

        Raises:
            CheckerError: if it does not answer.
        """
        assert self.checker is not None
        if self.checker.broken:
            raise CheckerError(NO_CHECKER)
        steps = plan.before(grade_id)
        todo, self.done = steps[self.done :], max(self.done, len(steps))
        for step in todo if self.stuck is None else ():
            if step.kind is Kind.NAMES:
                await self.checker.bind(step.functions, step.values)
                self.theirs.update(step.values)
                continue
            cell = code_cell(step.text)
            verdict = await self.in_checker(cell, index)
            if verdict.passed or self.stuck is not None:
                continue
            if verdict.report is not None and verdict.asked:
                # As in a notebook: what it was to define is missing, no more.
                self.names_of_failed |= names_in(cell.source)
                continue
            why = SETUP.format(why=message_of(verdict))
            self.stuck = Outcome.INTERNAL, why

    async def in_checker(self, cell: NotebookNode, index: int) -> Verdict:
        """Run a cell in the checker, while the student's kernel serves its calls."""
        assert self.checker is not None
        assert self.meeting is not None
        seconds = self.seconds()
        serving = Serving(self.kernel, self.meeting, index, self.inspector, seconds)
        verdict = await self.checker.run(cell, serving.bring, seconds)
        late = (verdict.report or {}).get("outcome") == Outcome.TIMEOUT
        ran = await serving.rest(late or serving.late)
        if ran.ended:
            self.ended = self.how_it_ended(ran)
        cell.outputs = [*serving.outputs, *verdict.outputs]
        verdict = replace(verdict, asked=self.has_asked(cell, verdict))
        if verdict.asked and (verdict.memory or verdict.ran.late):
            # The checker lost itself in what it was given: an endless range, say.
            self.stuck = BURST if verdict.memory else ENDLESS
        return verdict

    def has_asked(self, cell: NotebookNode, verdict: Verdict) -> bool:
        """Whether what a cell did in the checker may be the student's doing."""
        theirs = bool(names_used(cell.source) & self.theirs)
        # A cell that was cut off has reported nothing: it may have asked.
        asked = theirs or (verdict.report or {"asked": True})["asked"]
        if asked:
            self.theirs |= names_in(cell.source)
        return bool(asked)

    def judge(self, cell: NotebookNode, verdict: Verdict) -> TestResult:
        """Turn the checker's report into the verdict on a test."""
        report, points = verdict.report, float(cell.metadata.nbgrader.points)
        if self.stuck is not None:
            return self.conclude(cell, self.stuck[0], 0.0, self.stuck[1])
        if report is None or verdict.ran.late:
            why = verdict.ran.why or NO_REPORT
            self.again = self.again or verdict.ran.ended
            return self.conclude(cell, Outcome.INTERNAL, 0.0, why)
        if "error" in report:
            return self.failure(cell, report, verdict.asked)
        value = report.get("value") or {}
        if value.get("truth") is False:
            return self.conclude(cell, Outcome.FAILED, 0.0, FALSE_VALUE)
        score = float(value.get("number", points))
        if "none" in value or not math.isfinite(score):
            # An author sees this with any answer, or it comes of this one.
            why = NO_CREDIT.format(value=value.get("none") or value["number"])
            outcome = Outcome.FAILED if verdict.asked else Outcome.INTERNAL
            return self.conclude(cell, outcome, 0.0, why)
        if not 0 <= score <= points:
            why = BAD_CREDIT.format(value=value["number"], points=points)
            return self.conclude(cell, Outcome.INTERNAL, 0.0, why)
        outcome = Outcome.PASSED if score == points else Outcome.FAILED
        return self.conclude(cell, outcome, score, "")

    def failure(
        self, cell: NotebookNode, report: dict[str, Any], asked: bool
    ) -> TestResult:
        """Say whose fault an error in a test is."""
        sentence = named(report)
        if report["outcome"] is not None:
            outcome, sentence = Outcome(report["outcome"]), report["message"]
            if self.ended is not None and outcome is not Outcome.ERROR:
                outcome, sentence = self.ended
        elif report["name"] in self.names_of_failed:
            outcome, sentence = Outcome.FAILED, EARLIER.format(name=report["name"])
        elif report["error"] == "AssertionError" or asked:
            outcome = Outcome.FAILED
        else:
            outcome, sentence = Outcome.INTERNAL, OWN_ERROR.format(why=sentence)
        self.names_of_failed |= names_in(cell.source)
        result = self.conclude(cell, outcome, 0.0, sentence, report.get("line"))
        if outcome is Outcome.FAILED and report.get("compared"):
            # For the feedback, which shows it where it may show the message.
            cell.metadata["jaxgrader"]["compared"] = report["compared"]
        return result

    def conclude(
        self,
        cell: NotebookNode,
        outcome: Outcome,
        score: float,
        sentence: str,
        line: int | None = None,
    ) -> TestResult:
        """Write a verdict into the cell's outputs, in nbgrader's vocabulary."""
        points = float(cell.metadata.nbgrader.points)
        for output in cell.outputs:
            if output.output_type == "stream":
                output.name = "stdout"
            elif output.output_type == "execute_result":
                as_plain_output(output)
        if outcome is Outcome.PASSED or score > 0:
            cell.outputs = [o for o in cell.outputs if o.output_type != "error"]
            if score != points:
                show_score(cell, score)
        elif outcome is Outcome.FAILED and not sentence:
            show_score(cell, score)
        elif outcome not in (Outcome.FAILED, Outcome.ERROR) or not has_error(cell):
            cell.outputs = [o for o in cell.outputs if o.output_type != "error"]
            add_error(cell, ENAMES[outcome], sentence)
        return record(cell, outcome, score, sentence, line=line)


def is_test(cell: NotebookNode) -> bool:
    """Whether this is a code cell that earns its points by running."""
    info = cell.metadata.get("nbgrader", {})
    return bool(
        cell.cell_type == "code" and info.get("grade") and not info.get("solution")
    )


def record(
    cell: NotebookNode,
    outcome: Outcome,
    score: float,
    sentence: str,
    protected: bool = True,
    line: int | None = None,
) -> TestResult:
    """Return the `TestResult` of a cell, and leave it in the cell's metadata.

    `line` is where the test failed: only the checker knows it.
    """
    info = cell.metadata.nbgrader
    result = TestResult(
        grade_id=info.grade_id,
        outcome=outcome,
        score=None if outcome is Outcome.INTERNAL else score,
        max_score=float(info.points),
        sentence=sentence,
        protected=protected,
    )
    cell.metadata["jaxgrader"] = {
        "outcome": str(outcome),
        "sentence": sentence,
        "protected": protected,
        "line": line,
    }
    return result


def message_of(verdict: Verdict) -> str:
    """Return what went wrong in a cell of the instructor's."""
    if verdict.report is None:
        return verdict.ran.why or NO_REPORT
    return named(verdict.report)


def named(report: dict[str, Any]) -> str:
    """Return an error's type and message in one line."""
    return ": ".join(filter(None, (report["error"], report["message"].strip())))


#: By outcome: the name of the error that nbgrader shows.
ENAMES = {
    Outcome.FAILED: "AssertionError",
    Outcome.ERROR: "StudentError",
    Outcome.TIMEOUT: "CellTimeoutError",
    Outcome.MEMORY: "DeadKernelError",
    Outcome.CRASHED: "DeadKernelError",
    Outcome.INTERNAL: "TestCellError",
}
#: By the limit that ended a kernel.
LIMITS = {
    "cell": Outcome.TIMEOUT,
    "cpu": Outcome.TIMEOUT,
    "wall": Outcome.TIMEOUT,
    "memory": Outcome.MEMORY,
}
#: Reasons for a kernel's end that are none of the student's: nothing in a jail reaches
#: its guard.
LOST = {"lost", "internal"}
WALL = "The notebook used up its {seconds:g} s."
AFTER_STOP = "An earlier cell ended the run. {why}"
NO_REPORT = "The checker ended while this test ran."
SETUP = "A set-up cell of the assignment failed in the checker: {why}"
EARLIER = "This test needs {name!r} from an earlier test, which failed."
NO_CREDIT = "The value of this test, {value}, is no score, nor True or False."
ENDLESS = (
    Outcome.TIMEOUT,
    "A test did not come to an end with what your code gave it.",
)
BURST = (
    Outcome.MEMORY,
    "A test needed more memory than it may have for what your code gave it.",
)
OWN_ERROR = (
    "The test itself is wrong: it raised {why}, and had not asked for anything of the "
    "student's yet. It needs manual grading."
)
