"""What people see of a batch: progress on a terminal, and tables."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from statistics import fmean, median
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from jaxgrader.autograde import Finished
from jaxgrader.course import Need
from jaxgrader.rows import Submission
from jaxgrader.store import State

#: How many of those that run now, and of the slowest, are shown by name.
SHOWN = 8
SLOWEST = 3


class Screen:
    """A batch on a terminal, alive: what is done, what runs, what needs a human.

    What `log` writes to the terminal meanwhile stands above it.
    """

    def __init__(self, total: int, console: Console, log: logging.Logger) -> None:
        self.progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
        )
        self.bar = self.progress.add_task("", total=total, rate="")
        self.running: dict[Submission, float] = {}
        self.states: Counter[State] = Counter()
        self.began = time.monotonic()
        self.live = Live(
            get_renderable=self.render, console=console, refresh_per_second=4
        )
        self.handlers = [
            handler
            for handler in log.handlers
            if isinstance(handler, logging.StreamHandler)
            and handler.stream in (sys.stderr, sys.__stderr__)
        ]

    def __enter__(self) -> "Screen":
        self.live.start()
        for handler in self.handlers:
            handler.setStream(sys.stderr)  # it is the screen's now
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()
        for handler in self.handlers:
            handler.setStream(sys.stderr)

    def started(self, submission: Submission) -> None:
        """Take in that a submission is being graded."""
        self.running[submission] = time.monotonic()

    def finished(self, finished: Finished) -> None:
        """Take in how a submission ended; a line stays of what needs a human."""
        self.running.pop(finished.submission, None)
        self.states[finished.state] += 1
        minutes = (time.monotonic() - self.began) / 60
        rate = f"{self.states.total() / minutes:.0f}/min" if minutes > 0.05 else ""
        self.progress.update(self.bar, advance=1, rate=rate)
        # What could not be graded at all stands in the log's words.
        if finished.state is State.MANUAL and not finished.result.internal:
            why = Text(f"{name_of(finished.submission)}: {reason(finished)}")
            self.live.console.print(why)

    def render(self) -> RenderableType:
        """Return what the screen shows now."""
        now = time.monotonic()
        ages = sorted(self.running.items(), key=lambda pair: pair[1])
        lines = [
            Text(f"  {name_of(submission)}  {now - since:.0f} s")
            for submission, since in ages[:SHOWN]
        ]
        if len(ages) > SHOWN:
            lines.append(Text(f"  and {len(ages) - SHOWN} more"))
        return Group(self.progress, Text(counts(self.states)), *lines)


def reason(finished: Finished) -> str:
    """Return why a graded submission waits for a human."""
    waiting = [
        f"{test.grade_id}: {test.sentence}"
        for notebook in finished.result.notebooks.values()
        for test in notebook.tests
        if test.score is None
    ]
    return (waiting or [MANUAL])[0]


def name_of(submission: Submission) -> str:
    """Return a submission's name for people."""
    return f"{submission.assignment} {submission.student}"


def counts(states: Mapping[State, int]) -> str:
    """Return how many submissions ended how, in words."""
    return ", ".join(f"{count} {state}" for state, count in states.items())


class Line(NamedTuple):
    """What is kept of a submission until the batch's end; a class can be large."""

    assignment: str
    student: str
    state: State
    score: float
    of: float
    seconds: float

    @classmethod
    def of_finished(cls, finished: Finished) -> "Line":
        submission = finished.submission
        return cls(
            submission.assignment,
            submission.student,
            finished.state,
            *finished.points,
            finished.result.seconds,
        )


def batch_table(lines: Iterable[Line]) -> Table:
    """Return a batch's end: by assignment, how many ended how, scores, the slowest."""
    table = Table(title="This batch")
    for heading in ("assignment", "graded", "needs a human", "mean", "median", "of"):
        left = heading == "assignment"
        table.add_column(heading, justify="left" if left else "right", no_wrap=left)
    table.add_column("slowest")
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(line.assignment, []).append(line)
    for name, group in sorted(groups.items()):
        scores = [line.score for line in group if line.of] or [0.0]
        graded = sum(line.state is State.GRADED for line in group)
        slowest = sorted(group, key=lambda line: -line.seconds)[:SLOWEST]
        table.add_row(
            name,
            str(graded),
            str(len(group) - graded),
            f"{fmean(scores):.1f}",
            f"{median(scores):g}",
            f"{max(line.of for line in group):g}",
            ", ".join(f"{line.student} {line.seconds:.0f} s" for line in slowest),
        )
    return table


def next_steps(lines: Iterable[Line]) -> list[str]:
    """Return what a human has to do after a batch."""
    found: dict[State, list[str]] = {}
    for line in lines:
        found.setdefault(line.state, []).append(f"{line.assignment} {line.student}")
    return [
        text.format(count=len(names), names=", ".join([*names[:SHOWN], *more]))
        for state, text in NEXT.items()
        if (names := found.get(state, []))
        for more in [["…"] if len(names) > SHOWN else []]
    ]


def status_table(
    rows: Mapping[str, Iterable[tuple[Submission, Need, State | None]]],
) -> Table:
    """Return where all submissions stand, by assignment."""
    table = Table(title="Where submissions stand")
    table.add_column("assignment")
    columns = ["not graded", *STATES]
    for heading in ("submitted", *columns):
        table.add_column(str(heading), justify="right")
    for name, found in rows.items():
        where = Counter(standing(need, state) for _, need, state in found)
        cells = [str(where[column] or "") for column in columns]
        table.add_row(name, str(where.total()), *cells)
    return table


def standing_records(
    rows: Mapping[str, Iterable[tuple[Submission, Need, State | None]]],
) -> Iterator[dict[str, str]]:
    """Return the same as a record for each submission."""
    for assignment, found in rows.items():
        for submission, need, state in found:
            yield {
                "assignment": assignment,
                "student": submission.student,
                "state": standing(need, state),
                "need": need.value,
            }


def standing(need: Need, state: State | None) -> str:
    """Return the column of the status table that a submission belongs to."""
    if state in (State.QUEUED, State.RUNNING):
        return state
    if need is Need.MISSING or state is None:
        return "not graded"
    return State.STALE if need is Need.STALE else state


STATES = (
    State.QUEUED,
    State.RUNNING,
    State.GRADED,
    State.STALE,
    State.MANUAL,
    State.FAILED,
)
MANUAL = "it waits for manual grading"
NEXT = {
    State.MANUAL: (
        "{count} need manual grading (formgrader, Manual Grading; logs in "
        ".jaxgrader/logs): {names}"
    ),
    State.FAILED: (
        "{count} could not be read, see the messages above and .jaxgrader/logs: {names}"
    ),
}
