"""Run many jobs on an executor, whatever happens to its workers."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    wait,
)
from dataclasses import dataclass
from typing import Any

from jaxgrader.errors import GraderError


class WorkerLost(GraderError):
    """A worker ended, or did not answer in time, while it had a job."""


@dataclass(frozen=True)
class Slots:
    """An executor, and what a batch must know of it."""

    executor: Executor
    #: How many jobs it is given at once; on a cluster, workers come and go.
    count: Callable[[], int]
    #: What a future raises when the worker is to blame and not the job.
    lost: tuple[type[BaseException], ...] = (WorkerLost,)
    #: Ends all workers at once, whatever they do.
    stop: Callable[[], None] = lambda: None
    #: Seconds after which a job that has not returned counts as lost.
    patience: float = math.inf


@dataclass(frozen=True)
class Task:
    """Something to run: `make` gives the function's argument when its turn comes."""

    key: Any
    make: Callable[[], Any]
    #: Seconds that it is expected to take, and what it shares its fate with.
    expected: float = 1.0
    group: Hashable = None


@dataclass
class Attempt:
    """A task on its way."""

    task: Task
    tries: int = 0
    began: float = 0.0


def in_order(tasks: Iterable[Task]) -> list[Task]:
    """Return the longest first; those that take alike, one of each group in turn.

    So no long job is left for the end, and no bad group holds the others up.
    """
    turns: Counter[tuple[int, Hashable]] = Counter()

    def rank(task: Task) -> tuple[int, int]:
        size = round(math.log2(max(task.expected, 0.01)))
        turns[size, task.group] += 1
        return -size, turns[size, task.group]

    ranked = [(rank(task), task) for task in tasks]
    return [task for _, task in sorted(ranked, key=lambda pair: pair[0])]


def run_jobs(
    function: Callable[[Any], Any],
    tasks: Iterable[Task],
    slots: Slots,
    *,
    tries: int = 3,
    on_start: Callable[[Task], None] = lambda task: None,
) -> Iterator[tuple[Task, Any]]:
    """Yield each task with what `function` returned for it, or with an exception.

    A job whose worker is lost is tried again when all others are done, and alone, so
    that one which kills its workers takes no other along; after `tries` it is given up.
    What `function` or `Task.make` raises is not tried again.
    """
    waiting = deque(Attempt(task) for task in in_order(tasks))
    suspects: deque[Attempt] = deque()
    running: dict[Future[Any], Attempt] = {}
    while waiting or suspects or running:
        while waiting and len(running) < slots.count():
            yield from begin(waiting.popleft(), function, slots, running, on_start)
        if suspects and not waiting and not running:
            yield from begin(suspects.popleft(), function, slots, running, on_start)
        for future in finished(running, slots.patience):
            attempt = running.pop(future)
            result = outcome(future, slots)
            if isinstance(result, WorkerLost) and attempt.tries < tries:
                suspects.append(attempt)
                continue
            if isinstance(result, WorkerLost):
                result = WorkerLost(GIVEN_UP.format(tries=tries, why=result))
            yield attempt.task, result


def begin(
    attempt: Attempt,
    function: Callable[[Any], Any],
    slots: Slots,
    running: dict[Future[Any], Attempt],
    on_start: Callable[[Task], None],
) -> Iterator[tuple[Task, Any]]:
    """Submit a task; yield it at once if it cannot even be made."""
    attempt.tries += 1
    attempt.began = time.monotonic()
    try:
        argument = attempt.task.make()
    except Exception as error:
        yield attempt.task, error
        return
    on_start(attempt.task)
    try:
        future = slots.executor.submit(function, argument)
    except slots.lost as error:
        future = Future()
        future.set_exception(error)
    running[future] = attempt


def finished(running: dict[Future[Any], Attempt], patience: float) -> list[Future[Any]]:
    """Wait for the next jobs to end; those that take too long are cancelled."""
    if not running:
        return []
    oldest = min(attempt.began for attempt in running.values())
    left = oldest + patience - time.monotonic()
    timeout = None if left == math.inf else max(0.0, left)
    done, _ = wait(running, timeout, FIRST_COMPLETED)
    late = time.monotonic() - patience
    for future, attempt in running.items():
        if future not in done and attempt.began <= late:
            future.cancel()
            done.add(future)
    return list(done)


def outcome(future: Future[Any], slots: Slots) -> Any:
    """Return what a future gave: a result, an exception, or that it was lost."""
    if not future.done():
        return WorkerLost(LATE.format(seconds=slots.patience))
    lost: tuple[type[BaseException], ...] = (CancelledError, *slots.lost)
    try:
        error = future.exception()
    except lost as cancelled:
        error = cancelled
    if error is None:
        return future.result()
    if isinstance(error, lost):
        return WorkerLost(str(error) or type(error).__name__)
    return error


GIVEN_UP = "Its worker was lost {tries} times, the last time so: {why}"
LATE = "It did not return within {seconds:.0f} s."
