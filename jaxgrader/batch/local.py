"""This machine: one job after the other in this process, or a process for each slot.

Not `ProcessPoolExecutor`: when one of its processes dies, all jobs fail, and nobody
knows which of them did it.
"""

import contextlib
import math
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any

from jaxgrader.batch.jobs import Slots, WorkerLost

#: What a command's workers import: what the program does before all else comes first.
PRELOAD = ["jaxgrader.__main__", "jaxgrader.worker"]


def preload() -> None:
    """Start the process that workers are forked from, and let it import what they need.

    It takes as long as the imports of a command: begun before those, it takes no time.
    Where it does not start, it is tried again with the first worker, which says why.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides
    try:
        with contextlib.suppress(OSError):
            forkserver.set_forkserver_preload(PRELOAD)
            forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


class Serial(Executor):
    """Runs a job when it is submitted, here."""

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Processes(Executor):
    """Worker processes, each with one job at a time; one that dies is replaced.

    A worker ends with this process, however this one ends. A job gets `deadline`
    seconds; then its worker is killed.
    """

    def __init__(self, count: int, deadline: float, preload: list[str]) -> None:
        # Workers are forked from a process that has imported what they need and has
        # one thread; this one has more.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(preload)
        shares = shares_of(sorted(os.sched_getaffinity(0)), count)
        self.workers = [Worker(context, share, deadline) for share in shares]
        self.idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        for worker in self.workers:
            self.idle.put(worker)
        self.threads = ThreadPoolExecutor(count, thread_name_prefix="slot")

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        return self.threads.submit(self.run, fn, args, kwargs)

    def run(self, fn: Any, args: Any, kwargs: Any) -> Any:
        """Run a job in a worker that is idle: there is one for each thread."""
        worker = self.idle.get()
        try:
            return worker.call((fn, args, kwargs))
        finally:
            self.idle.put(worker)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all workers; those that have a job are killed."""
        for worker in self.workers:
            worker.retire()
        self.threads.shutdown(wait=wait, cancel_futures=cancel_futures)


class Worker:
    """A process that runs what it is sent, and the near end of the pipe to it."""

    def __init__(self, context: Any, share: list[int], deadline: float) -> None:
        self.context, self.share, self.deadline = context, share, deadline
        self.process: Any = None
        self.pipe: Connection | None = None
        self.retired = False
        self.lock = threading.Lock()

    def call(self, job: tuple[Any, Any, Any]) -> Any:
        """Run a job there. Raises `WorkerLost` if the process does not survive it."""
        with self.lock:
            if self.retired:
                raise WorkerLost(RETIRED)
            if self.process is None or not self.process.is_alive():
                self.start()
            pipe = self.pipe
        assert pipe is not None
        try:
            pipe.send(job)
            if not pipe.poll(None if math.isinf(self.deadline) else self.deadline):
                self.kill()
                self.collect()  # the next job is not for a process that is ending
                raise WorkerLost(LATE.format(seconds=self.deadline))
            good, result = pipe.recv()
        except (EOFError, OSError):
            why = DIED.format(status=self.collect())
            raise WorkerLost(RETIRED if self.retired else why) from None
        if not good:
            raise result
        return result

    def start(self) -> None:
        """Start the process."""
        self.pipe, theirs = self.context.Pipe()
        # Its environment is this process's as it is now: the course's settings may have
        # changed it since the process that it is forked from was started.
        given = theirs, self.share, dict(os.environ)
        self.process = self.context.Process(target=serve, args=given, daemon=True)
        self.process.start()
        theirs.close()

    def retire(self) -> None:
        """End the process: at once, if it has a job."""
        with self.lock:
            self.retired = True
            self.kill()

    def kill(self) -> None:
        """End the process without asking it."""
        if self.process is not None:
            self.process.terminate()

    def collect(self) -> str:
        """Return how the process ended."""
        self.process.join(5)
        status = self.process.exitcode
        self.process.kill()
        if status is not None and status < 0:
            return f"signal {-status}"
        return f"status {status}"


_allowed: list[int] = []


def allowed() -> list[int]:
    """Return the processors that this process might use before it took a share."""
    if not _allowed:
        _allowed.extend(sorted(os.sched_getaffinity(0)))
    return _allowed


def take_share(index: int, count: int) -> None:
    """Keep this process, one of `count` with the same processors, to its share."""
    share = shares_of(allowed(), count)[index]
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.sched_setaffinity(int(thread), share)


def shares_of(processors: list[int], count: int) -> list[list[int]]:
    """Divide a machine's processors between `count` slots.

    JAX starts a thread for each processor that it may use: N kernels on N processors
    would start N times N.
    """
    size = max(1, len(processors) // count)
    starts = (size * slot % len(processors) for slot in range(count))
    return [processors[start : start + size] for start in starts]


def serve(pipe: Connection, share: list[int], environment: dict[str, str]) -> None:
    """Run jobs until the other end closes: what a worker process does."""
    os.environ.clear()
    os.environ.update(environment)
    os.sched_setaffinity(0, share)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides
    signal.signal(signal.SIGTERM, leave)
    threading.Thread(target=follow_parent, daemon=True).start()
    while True:
        try:
            function, args, kwargs = pipe.recv()
        except EOFError:
            return
        try:
            answer = True, function(*args, **kwargs)
        except Exception as error:
            answer = False, error
        pipe.send(answer)


def leave(signum: int, frame: Any) -> None:
    """Handle the first SIGTERM: end, and let the modules in use clean up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def follow_parent() -> None:
    """End this process when the one that started it is gone, whatever it does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(10)
        os.kill(os.getpid(), signal.SIGKILL)


def serial() -> Slots:
    """Return one slot, in this process."""
    return Slots(Serial(), lambda: 1)


def local(count: int, deadline: float, preload: list[str]) -> Slots:
    """Return `count` slots: processes that have imported `preload`."""
    executor = Processes(count, deadline, preload)
    return Slots(
        executor,
        lambda: count,
        stop=lambda: executor.shutdown(wait=True, cancel_futures=True),
    )


DIED = "the worker process ended with {status}"
LATE = "the worker did not return within {seconds:.0f} s and was killed"
RETIRED = "the batch was stopped"
