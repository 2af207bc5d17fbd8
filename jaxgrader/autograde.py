"""`jaxgrader autograde`: the whole class in one batch.

The coordinator reads submitted/, lets workers grade (`worker.grade`), and is the only
one that writes: gradebook, ledger and autograded/, a submission at a time.
"""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from nbgrader.preprocessors import AssignLatePenalties
from traitlets.config import Config

from jaxgrader import worker
from jaxgrader.archives import unpack
from jaxgrader.authoring import WarmCache
from jaxgrader.batch.jobs import Slots, Task, run_jobs
from jaxgrader.converters import NOT_READABLE
from jaxgrader.course import AFTER, BEFORE, Assignment, Course, Need, Readiness
from jaxgrader.errors import JaxgraderError, SubmissionError
from jaxgrader.kernel.devices import Inventory
from jaxgrader.kernel.sandbox import Sandbox, require
from jaxgrader.kernel.servers import shared_cache
from jaxgrader.results import Job, SubmissionResult, log_of
from jaxgrader.rows import Submission
from jaxgrader.store import Entry, State

#: Seconds that an assignment is expected to take before anything is known of it.
GUESS = 3.0


@dataclass
class Plan:
    """What a batch is going to do."""

    todo: list[Submission] = field(default_factory=list)
    stale: list[Submission] = field(default_factory=list)
    #: Up to date, whether it has a score or could not be read.
    done: list[Submission] = field(default_factory=list)
    #: Of these, which were not or were stale when the ledger was written last.
    newly_stale: list[Submission] = field(default_factory=list)
    stale_no_more: list[Submission] = field(default_factory=list)

    def leave(self, submission: Submission, entry: Entry, *, stale: bool) -> None:
        """Note a submission that is not to be graded."""
        (self.stale if stale else self.done).append(submission)
        if stale and not entry.stale:
            self.newly_stale.append(submission)
        elif entry.stale and not stale:
            self.stale_no_more.append(submission)


@dataclass(frozen=True)
class Finished:
    """One submission, graded or not."""

    submission: Submission
    result: SubmissionResult
    state: State
    number: int
    total: int

    @property
    def points(self) -> tuple[float, float]:
        """The auto score and what could be had, of the tests."""
        tests = [test for nb in self.result.notebooks.values() for test in nb.tests]
        return sum(t.score or 0.0 for t in tests), sum(t.max_score for t in tests)


class Batch:
    """A course's submissions on their way through workers into the gradebook."""

    def __init__(self, course: Course, config: Config, log: logging.Logger) -> None:
        self.course, self.store, self.log = course, course.store, log
        self.assignments: dict[str, Assignment] = {}
        #: Called when a submission is handed to a worker.
        self.on_start: Callable[[Submission], None] = lambda submission: None
        self.penalties = AssignLatePenalties(config=config)
        self.penalties.init_plugin()

    def plan(
        self, names: list[str], *, force: bool, missing: bool, stale: bool
    ) -> Plan:
        """Choose what to grade: all, what has no result, or what has a stale one.

        Raises:
            CourseError: for an assignment that the gradebook or source/ lacks.
        """
        plan, entries = Plan(), self.store.entries()
        for name in names:
            assignment = self.assignments[name] = self.course.assignment(name)
            folders = self.course.folders(name)
            found = (self.course.submission(path, assignment) for path in folders)
            for submission, need in self.course.sort(found, entries):
                wanted = {Need.MISSING: missing, Need.STALE: stale, Need.NONE: False}
                if force or wanted[need]:
                    plan.todo.append(submission)
                else:
                    entry = entries[submission.key]
                    plan.leave(submission, entry, stale=need is Need.STALE)
        return plan

    def run(
        self,
        plan: Plan,
        slots: Slots,
        function: Callable[[Any], SubmissionResult] = worker.grade,
    ) -> Iterator[Finished]:
        """Grade; yield each submission when it is written."""
        total = len(plan.todo)
        self.store.queue(plan.todo)
        tasks = self.tasks(plan)
        results = run_jobs(function, tasks, slots, on_start=self.started)
        for number, (task, result) in enumerate(results, start=1):
            submission, result = task.key, as_result(task.key, result)
            yield Finished(
                submission, result, self.write(submission, result), number, total
            )

    def started(self, task: Task) -> None:
        self.store.start(task.key)
        self.on_start(task.key)

    def tasks(self, plan: Plan) -> list[Task]:
        """Return a task for each submission, with how long it is expected to take."""
        entries = self.store.entries()
        usual = usual_seconds(entries)
        return [
            Task(
                key=each,
                make=self.maker(each),
                expected=expected(each, entries, usual),
                group=each.assignment,
            )
            for each in plan.todo
        ]

    def maker(self, submission: Submission) -> Callable[[], Any]:
        """Return what makes a submission's job when its turn comes."""
        assignment = self.assignments[submission.assignment]

        def make() -> Job:
            self.course.call_hook(BEFORE, submission)
            return self.course.job(submission, assignment)

        return make

    def write(self, submission: Submission, result: SubmissionResult) -> State:
        """Write a result where it belongs; say what a human must know of it."""
        log = self.keep_log(submission, result)
        if not (result.unreadable or result.internal):
            state = self.store.save(submission, result, self.penalty)
            self.course.call_hook(AFTER, submission)
            return state
        message = NOT_READABLE if result.unreadable else NOT_GRADED
        why = result.unreadable or result.internal
        said = self.course.converter.describe(submission.folder, message, why=why)
        self.log.error("%s Its log is %s.", said, log)
        return self.store.save_failure(submission, result)

    def keep_log(self, submission: Submission, result: SubmissionResult) -> Path:
        """Write down how a submission was graded; return the path in the course."""
        path = LOGS / submission.assignment / f"{submission.student}.log"
        why = result.unreadable or result.internal
        head = f"{result.seconds:.1f} s on {result.host}\n{why}"
        tests = {
            name: map(asdict, notebook.tests)
            for name, notebook in result.notebooks.items()
        }
        text = log_of(head, tests, result.log) + "\n"
        # It is for people: a full disk is said where scores are written.
        with contextlib.suppress(OSError):
            whole = Path(self.course.coursedir.root) / path
            whole.parent.mkdir(parents=True, exist_ok=True)
            whole.write_text(text, encoding="utf-8", errors="replace")
        return path

    def penalty(self, student: str, score: float, late: float) -> float | None:
        """Return the points that lateness costs, as the course's plug-in says."""
        points = self.penalties.plugin_inst.late_submission_penalty(
            student, score, late
        )
        return None if points is None else max(0.0, min(float(points), score))


def check_machine(config: Config) -> None:
    """Refuse to begin what this machine cannot grade.

    Raises:
        SandboxError, PlatformError: says what is missing, and how to get it.
    """
    sandbox = Sandbox(config=config)
    require(sandbox.level)
    Inventory.of(sandbox.platform)


def prepare(readiness: Readiness) -> None:
    """Called on each worker of a cluster: get ready, or refuse to grade there.

    It starts this host's fork server, and fills its compilation cache where that is
    empty: another host's is of no use to another processor.

    Raises:
        WrongWorker: if its packages are not the coordinator's.
        SandboxError, PlatformError: if its machine cannot give such a kernel.
    """
    worker.require(readiness.versions)
    config = Config(readiness.config)
    check_machine(config)
    if any(shared_cache(Sandbox(config=config).platform).iterdir()):
        return
    with tempfile.TemporaryDirectory(prefix="jaxgrader-warm-") as folder:
        for name, source in readiness.sources.items():
            unpack(source, Path(folder, name))
            for path in sorted(Path(folder, name).glob("*.ipynb")):
                WarmCache(config=config).warm(path)


def as_result(submission: Submission, result: Any) -> SubmissionResult:
    """Return a result for whatever a job ended with."""
    if isinstance(result, SubmissionResult):
        return result
    ours = not isinstance(result, SubmissionError)
    known = isinstance(result, JaxgraderError)
    why = str(result) if known else f"{type(result).__name__}: {result}"
    return SubmissionResult(
        submission.student,
        submission.assignment,
        internal=why if ours else "",
        unreadable="" if ours else why,
    )


def usual_seconds(entries: dict[tuple[str, str], Entry]) -> dict[str, float]:
    """Return the mean seconds of an assignment's submissions so far."""
    found: dict[str, list[float]] = {}
    for (assignment, _), entry in entries.items():
        if entry.seconds:
            found.setdefault(assignment, []).append(entry.seconds)
    return {name: fmean(seconds) for name, seconds in found.items()}


def expected(
    submission: Submission,
    entries: dict[tuple[str, str], Entry],
    usual: dict[str, float],
) -> float:
    """Return the seconds that a submission is expected to take."""
    entry = entries.get(submission.key)
    known = entry.seconds if entry else None
    return known or usual.get(submission.assignment, GUESS)


#: Where, in a course, each submission has its log.
LOGS = Path(".jaxgrader", "logs")
NOT_GRADED = (
    "{folder}: it could not be graded here ({why}). It has no score and waits for "
    "manual grading.{earlier} Run `jaxgrader autograde {assignment} "
    "--student={student}` to try again; `jaxgrader doctor` checks this machine."
)
