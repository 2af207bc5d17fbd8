"""The guard: first process of a kernel's jail, its parent and its watchman.

What it is: process 1 in the kernel's pid namespace. It prepares the jail, forks the
kernel, passes on signals, watches the limits that no rlimit can express, and tells the
client how the kernel ended. What it is not: a place where student code runs.

Guarantees: when the client's end of the connection closes, when a limit is exceeded or
when the kernel ends, this process ends, and the operating system then kills whatever
lives in the namespace. At level basic, which has no namespaces, the guard kills all
descendants itself. Assumes: forked from a fork server with one thread.
"""

import contextlib
import io
import os
import select
import shutil
import signal
import socket
import sys
import tarfile
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from jaxgrader.kernel import app, jail, wire
from jaxgrader.kernel.inside import Jail
from jaxgrader.kernel.usage import (
    Clock,
    Usage,
    descendants,
    queued_in_sockets,
    usage,
    waited_for,
)

#: Seconds between two looks at the kernel's processes; and at one that is to be
#: trusted, while no cell runs in it.
PERIOD, REST = 0.1, 2.0
#: How much of what the kernel's processes write to their stderr is kept, in bytes.
TAIL = 4096
#: Seconds that a client has to stop a cell or a notebook in its own, kinder way.
GRACE = 5.0
#: Ended or stopped children that are looked after before the limits are.
AT_ONCE = 100
#: A kernel's folder of sockets has one for each channel, and links to nothing.
SOCKETS = 64


Serve = Callable[[dict[str, Any], Callable[[bytes], object]], None]


class Guard:
    """Watch one kernel. `run` returns when the kernel is to end; then exit."""

    def __init__(
        self, connection: socket.socket, kernel: int, stderr: int, busy: int
    ) -> None:
        self.connection = connection
        self.kernel = kernel
        self.stderr = stderr
        self.busy = busy
        self.started = time.monotonic()
        self.cell_started: float | None = None
        self.interrupted = False
        self.clock = Clock()
        self.tail = b""
        #: The most memory seen; pages that processes share are counted for each.
        self.peak = 0
        #: The processor seconds at the last look.
        self.cpu = 0.0

    def run(self, limits: Jail, server: int) -> None:
        """Serve until the kernel, client or server has ended or a limit is exceeded."""
        ended = os.pidfd_open(self.kernel)
        poll = select.poll()
        client = self.connection.fileno()
        for descriptor in (client, ended, server, self.stderr, self.busy):
            poll.register(descriptor, select.POLLIN)
        looked = 0.0
        while True:
            resting = limits.trusted and self.cell_started is None
            left = looked + (REST if resting else PERIOD) - time.monotonic()
            for descriptor, _ in poll.poll(max(0.0, left) * 1000):
                if descriptor == self.stderr and not self.read_stderr():
                    poll.unregister(self.stderr)
                elif descriptor == self.busy and not self.read_busy():
                    poll.unregister(self.busy)
                elif descriptor == server or (descriptor == client and not self.obey()):
                    return
            status = self.reap()
            self.read_stderr()
            reason = None
            # A look costs 0.4 ms, and a cell's start and end are no reason for one.
            if status is None and time.monotonic() >= looked + PERIOD:
                reason, looked = self.exceeded(limits), time.monotonic()
            if status is not None or reason is not None:
                self.report(status, reason, limits)
                return

    def obey(self) -> bool:
        """Do what the client asks for; return False when it is gone."""
        message = wire.receive(self.connection)
        if message is None:
            return False
        if message.get("op") == "kill":
            with contextlib.suppress(OSError):  # the client may have gone
                wire.send(self.connection, {"event": "used", **self.used()})
            return False
        if message.get("op") == "signal":
            self.signal(int(message["signal"]))
        return True

    def signal(self, number: int) -> None:
        """Send a signal to the kernel's process group, if there still is one."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.kernel, number)

    def reap(self) -> int | None:
        """Collect ended children; return the kernel's exit status if it has ended.

        A kernel that stopped itself goes on: it would wait for nobody. Whoever makes
        orphans without an end must not keep the guard busy.
        """
        with contextlib.suppress(ChildProcessError):
            for _ in range(AT_ONCE):
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
                if pid == 0:
                    break
                if os.WIFSTOPPED(status):
                    os.kill(pid, signal.SIGCONT)
                elif pid == self.kernel:
                    return os.waitstatus_to_exitcode(status)
        return None

    def read_stderr(self) -> bool:
        """Keep the end of what came; return False at the end of the stream.

        One read at a time: whoever floods this pipe must not keep the guard busy.
        """
        try:
            text = os.read(self.stderr, 65536)
        except BlockingIOError:
            return True
        self.tail = (self.tail + text)[-TAIL:]
        return bool(text)

    def read_busy(self) -> bool:
        """Note when a cell starts and ends; return False at the end of the stream."""
        signs = os.read(self.busy, 65536)
        if signs:
            running = signs.endswith(app.CELL_STARTS)
            self.cell_started = time.monotonic() if running else None
            self.interrupted = False
        return bool(signs)

    def exceeded(self, limits: Jail) -> str | None:
        """Return the name of the limit that the jail's processes exceed together."""
        now = time.monotonic()
        if limits.wall and now - self.started > limits.wall + GRACE:
            return "wall"
        if limits.cell and self.cell_started:
            late = now - self.cell_started - limits.cell
            if late > 2 * GRACE:
                return "cell"
            if late > GRACE and not self.interrupted:
                self.interrupted = True
                self.signal(signal.SIGINT)
        processes = self.processes()
        if limits.processes and len(processes) > limits.processes:
            return "processes"  # at once: there is much to read and little time
        used = self.look(processes)
        if limits.cpu and self.cpu > limits.cpu:
            return "cpu"
        if limits.processes and used.threads > limits.processes:
            return "processes"  # the rlimit does not hold for root's own user id
        if len(os.listdir(limits.sockets)) > SOCKETS:
            return "disk"
        queued = queued_in_sockets() if limits.level == "strict" else 0
        if limits.memory and used.memory + queued > limits.memory:
            # Pages that processes share were counted for each: look closer.
            used = usage(self.processes(), proportional=True)
            return "memory" if used.memory + queued > limits.memory else None
        return None

    def look(self, processes: list[str]) -> Usage:
        """Return what processes use; keep the most memory of all looks, and the CPU."""
        used = usage(processes, proportional=False)
        self.peak = max(self.peak, used.memory)
        self.cpu = max(used.cpu, self.clock.count(used.own))
        return used

    def processes(self) -> list[str]:
        """Return the pids of all processes in the jail but this one."""
        me = str(os.getpid())
        if me == "1":
            return [pid for pid in os.listdir("/proc") if pid.isdigit() and pid != me]
        return descendants(me)

    def report(self, status: int | None, reason: str | None, limits: Jail) -> None:
        """Tell the client how it ended, as a record and as a sentence."""
        stderr = self.tail.decode(errors="replace")
        if reason is None and status is not None:
            reason = why(status, limits)
        sentence = SENTENCES[reason or "exit"]
        if reason in ("signal", "exit") and speaks_of_memory(stderr):
            sentence += SENTENCES["no memory"]
        sentence = sentence.format(
            cell=limits.cell,
            wall=limits.wall,
            cpu=limits.cpu,
            memory=size(limits.memory),
            processes=limits.processes,
            status=status,
            signal=signal_name(status),
        )
        wire.send(
            self.connection,
            {
                "event": "ended",
                "status": -signal.SIGKILL if status is None else status,
                "reason": reason,
                "sentence": sentence,
                "stderr": stderr,
                # Whoever has too many processes is not looked at once more.
                **self.used(look=reason != "processes"),
            },
        )

    def used(self, *, look: bool = True) -> dict[str, Any]:
        """Return what the kernel has used by now: bytes at most, processor seconds."""
        if look:
            self.look(self.processes())
        return {"memory": self.peak, "cpu": round(self.cpu + time.process_time(), 2)}


def why(status: int, limits: Jail) -> str:
    """Name the reason for which a kernel with this exit status has ended.

    Only what was measured counts: a student can send any signal and write any text.
    (Linux measures this limit by the tick, and the total exactly.)
    """
    if status == -signal.SIGXCPU and limits.cpu and waited_for() > 0.8 * limits.cpu:
        return "cpu"
    return "signal" if status < 0 else "exit"


def speaks_of_memory(stderr: str) -> bool:
    """Whether C++ or Python said that there was no memory; or somebody for them."""
    return "bad_alloc" in stderr or "MemoryError" in stderr


def kill_descendants() -> None:
    """Kill every descendant, and those that these leave behind, until none is left.

    First all are stopped: who forks faster than they are killed would never end.
    """
    me, stopped = str(os.getpid()), set[str]()
    while running := set(descendants(me)) - stopped:
        signal_all(running, signal.SIGSTOP)
        stopped |= running
    while pids := descendants(me):
        signal_all(pids, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def signal_all(pids: Iterable[str], number: int) -> None:
    """Send a signal to all processes that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), number)


def signal_name(status: int | None) -> str:
    """Return "SIGSEGV (Segmentation fault)" for -11."""
    if status is None or status >= 0:
        return ""
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"{name} ({signal.strsignal(-status)})"


def size(count: int | None) -> str:
    """Return a number of bytes as people write it: "2 GiB"."""
    number, units = float(count or 0), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while number >= 1024 and len(units) > 1:
        number /= 1024
        units.pop(0)
    return f"{number:.4g} {units[0]}"


def guard_kernel(
    connection: socket.socket,
    server: int,
    sockets: Path,
    seccomp: Any,
    serve: Serve,
) -> NoReturn:
    """Read the request, prepare the jail, fork the kernel and watch it; then exit.

    `server` is a file descriptor that shows the end of the fork server.

    `serve` runs in the kernel's process: it gets the request, and a function for signs
    of life: that the kernel's sockets are bound, that a cell starts or ends.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    limits = Jail()
    try:
        request, descriptors = wire.receive_request(connection)
        limits = Jail(**request["jail"])
        prepare(limits, sockets, descriptors, request)
        served = [descriptors.pop()] if request.get("program") else []
        guard = fork_kernel(connection, limits, request, served, seccomp, serve)
        guard.run(limits, server)
        guard.signal(signal.SIGKILL)  # most of what there is, in one call
    except Exception:
        text = traceback.format_exc()
        message = {"event": "ended", "status": 1, "reason": "internal", "stderr": text}
        with contextlib.suppress(OSError):
            wire.send(connection, {**message, "sentence": SENTENCES["internal"]})
    if limits.level == "basic":
        kill_descendants()
    os._exit(0)


def prepare(
    limits: Jail, sockets: Path, descriptors: list[int], request: dict[str, Any]
) -> None:
    """Make the private file system, fill it, and give up every privilege."""
    if limits.processors:
        os.sched_setaffinity(0, limits.processors)
    if limits.level == "strict":
        jail.mount_private(limits, sockets, own_cache=not request.get("fill"))
    else:
        jail.adopt_orphans()
        for folder in limits.private:
            os.makedirs(folder, mode=0o700, exist_ok=True)
    if request.get("files"):
        unpack(descriptors.pop(0), Path(request["scratch"]))
    if request.get("entries"):
        own = request["env"]["JAX_COMPILATION_CACHE_DIR"]
        unpack(descriptors.pop(0), Path(own))
    jail.drop_privileges()
    jail.hide()


def unpack(descriptor: int, folder: Path) -> None:
    """Unpack a tar archive of the client's, the submission's files, below `folder`.

    It has folders and regular files. (`extractall` is safe from Python 3.11.4 on only.)
    """
    with io.FileIO(descriptor, "rb") as file:
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for entry in archive:
                if entry.isdir():
                    os.makedirs(folder / entry.name, exist_ok=True)
                elif content := archive.extractfile(entry):
                    with content, open(folder / entry.name, "wb") as copy:
                        shutil.copyfileobj(content, copy)


def fork_kernel(
    connection: socket.socket,
    limits: Jail,
    request: dict[str, Any],
    served: list[int],
    seccomp: Any,
    serve: Serve,
) -> Guard:
    """Fork the kernel; return its guard once the kernel has bound its sockets.

    The kernel alone keeps the connection that it is to serve, if there is one.
    """
    stderr, kernel_stderr = os.pipe()
    bound, kernel_bound = os.pipe()
    if limits.level == "strict":
        seccomp.load()
    pid = os.fork()
    if pid == 0:
        silence(kernel_stderr)
        become_kernel(limits, request, served, seccomp, serve, kernel_bound)
    for descriptor in (kernel_stderr, kernel_bound, *served):
        os.close(descriptor)
    os.set_blocking(stderr, False)
    if os.read(bound, 1):
        wire.send(connection, {"event": "started", "pid": pid})
    return Guard(connection, pid, stderr, bound)


def silence(stderr: int) -> None:
    """Take the fork server's log away from the kernel: it would grow without limit."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, descriptor in enumerate((nothing, nothing, stderr)):
        os.dup2(descriptor, number)


def become_kernel(
    limits: Jail,
    request: dict[str, Any],
    served: list[int],
    seccomp: Any,
    serve: Serve,
    bound: int,
) -> NoReturn:
    """Turn this fork into the kernel: close, confine, serve."""
    try:
        os.setsid()
        close_all_but({0, 1, 2, bound, *served})
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        jail.hide(hidden=False)
        jail.set_limits(limits)
        jail.confine_files(limits)
        if limits.level != "strict":
            seccomp.load()
        serve({**request, "served": served}, lambda sign: os.write(bound, sign))
        os._exit(0)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    os._exit(1)


def close_all_but(keep: set[int]) -> None:
    """Close every file descriptor that is not in `keep`."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            with contextlib.suppress(OSError):
                os.close(int(name))


#: What a student is told, by reason.
SENTENCES = {
    "cell": "The kernel was stopped: a cell took longer than {cell:g} s, and did not "
    "come to rest when interrupted.",
    "wall": "The kernel was stopped after {wall:g} s: all cells of a notebook "
    "together may take no longer.",
    "cpu": "The kernel was stopped: it used more than {cpu} s of processor time.",
    "memory": "The kernel was stopped: it used more than {memory} of memory.",
    "disk": "The kernel was stopped: it wrote files that are too large, or too many.",
    "processes": "The kernel was stopped: it had more than {processes} processes and "
    "threads.",
    "signal": "The kernel died of {signal}.",
    "exit": "The kernel ended itself with exit status {status}.",
    "no memory": " Its last words were of a lack of memory; it may use {memory}.",
    "internal": "The kernel could not be started. This is not the notebook's fault.",
}
