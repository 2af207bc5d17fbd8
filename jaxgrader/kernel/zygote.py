"""The fork server: JAX and Flax imported once, one fork per kernel.

What it is: a process with one thread, started by `provisioner.py` inside bubblewrap,
that imports the preload list, warms JAX and then forks a guard for each connection.
What it is not: a place for student code, gradebooks, tests or nbgrader: whatever is
loaded here can be read in every fork.

Guarantees: before each fork there is one thread and no XLA backend; else it refuses,
with the name of the module that broke it. It ends when it has been idle for a while,
or when its folder has been removed. Assumes Linux; runs as
``python -m jaxgrader.kernel.zygote N``, with its settings as JSON on file descriptor N.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxgrader.kernel import app, guard, jail, wire
from jaxgrader.kernel.folders import remove
from jaxgrader.kernel.inside import CACHE, RUN, USER_ID, Settings
from jaxgrader.kernel.warm import warm_jax

#: Seconds between two looks at whether anybody still needs this server.
PERIOD = 1.0
#: Objects that are new when kernels look for cycles among them: as Python 3.13 has it.
#: With its older 700, a kernel looks some fifty times in a notebook. More would leave
#: more large arrays in cycles than a limit of memory may bear.
COLLECT = 2_000
#: <linux/mman.h>, and bytes: x86's; where they are larger, less is gathered.
MADV_COLLAPSE, HUGE_PAGE = 25, 2 << 20


@dataclass
class Kernel:
    """A kernel as its fork server sees it."""

    connection: socket.socket
    sockets: Path
    user_id: int


@dataclass
class Server:
    """Fork a guard for each connection; clean up when it has ended."""

    settings: Settings
    listener: socket.socket
    seccomp: Any
    refusal: str | None
    kernels: dict[int, Kernel] = field(default_factory=dict)
    #: A pipe that nobody writes to: guards see its end when this process has ended.
    alive: tuple[int, int] = field(default_factory=os.pipe)
    used: float = field(default_factory=time.monotonic)

    def serve(self) -> None:
        """Serve until nobody has needed this server for a while."""
        wake, woken = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self.listener, select.POLLIN)
        while self.is_needed():
            ready = dict(poll.poll(PERIOD * 1000))
            if wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
            self.reap()
            if self.listener.fileno() in ready:
                with contextlib.suppress(OSError):  # too many files, or gone again
                    self.start(self.listener.accept()[0])

    def is_needed(self) -> bool:
        """Whether there are kernels, or were a short while ago, and a folder."""
        if self.kernels:
            self.used = time.monotonic()
        if time.monotonic() - self.used > self.settings.idle:
            return False
        try:
            return os.stat(self.settings.sockets).st_nlink > 0
        except FileNotFoundError:
            return False

    def start(self, connection: socket.socket) -> None:
        """Fork the guard of a new kernel, or tell the client why not."""
        self.used = time.monotonic()
        reason = self.refusal or unsafe_to_fork()
        if reason:
            refuse(connection, reason)
            return
        if self.settings.user_ids and len(self.kernels) >= self.settings.user_ids[1]:
            refuse(connection, f"there are {len(self.kernels)} kernels already")
            return
        sockets = Path(self.settings.sockets, os.urandom(4).hex())
        try:
            user_id = self.make_folder(sockets)
            wire.send(connection, {"event": "accepted", "sockets": sockets.name})
            pid = self.fork(connection, sockets, user_id)
        except OSError as error:
            shutil.rmtree(sockets, ignore_errors=True)
            refuse(connection, f"cannot make a jail: {error}")
            return
        self.kernels[pid] = Kernel(connection, sockets, user_id)

    def make_folder(self, sockets: Path) -> int:
        """Make the folder of a kernel's sockets; return the kernel's user id."""
        user_id = os.geteuid()
        if self.settings.user_ids:
            first, count = self.settings.user_ids
            taken = {kernel.user_id for kernel in self.kernels.values()}
            user_id = next(n for n in range(first, first + count) if n not in taken)
        sockets.mkdir(mode=0o700)
        if self.settings.user_ids:
            for folder in [sockets, CACHE] if self.settings.fill else [sockets]:
                os.chown(folder, user_id, user_id)
        return user_id

    def fork(self, connection: socket.socket, sockets: Path, user_id: int) -> int:
        """Fork the guard into its namespaces; return its pid.

        It waits there until its user ids are mapped: only this process may do that.
        """
        ours, theirs = socket.socketpair()
        strict = self.settings.level == "strict"
        with ours, theirs:
            pid = jail.fork_into_namespaces() if strict else os.fork()
            if pid == 0:
                self.become_guard(connection, sockets, user_id, theirs)
            theirs.close()
            if strict:
                map_user(pid, user_id)
            wire.send(ours, {})
            message = wire.receive(ours)
        if message is None or "error" in message:
            raise OSError((message or {}).get("error", "the guard's process died"))
        return pid

    def become_guard(
        self,
        connection: socket.socket,
        sockets: Path,
        user_id: int,
        parent: socket.socket,
    ) -> None:
        """Run in the fork: become the kernel's user, then its guard. Never returns."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # Other kernels' connections, above all; and our end of `parent`.
            kept = {connection.fileno(), parent.fileno(), self.alive[0]}
            guard.close_all_but({0, 1, 2, *kept})
            if wire.receive(parent) is None:
                os._exit(1)
            if self.settings.level == "strict":
                user_id = USER_ID
            if self.settings.level == "strict" or self.settings.user_ids:
                os.setgroups([]) if self.settings.user_ids else None
                os.setresgid(user_id, user_id, user_id)
                os.setresuid(user_id, user_id, user_id)
            wire.send(parent, {})
            parent.close()
            guard.guard_kernel(
                connection, self.alive[0], sockets, self.seccomp, app.serve
            )
        except BaseException as error:
            wire.send(parent, {"error": str(error)})
        finally:
            os._exit(0)

    def reap(self) -> None:
        """Remove what ended kernels left; only then do their clients hear the end."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if kernel := self.kernels.pop(pid, None):
                    self.remove_folder(kernel.sockets)
                    kernel.connection.close()

    def remove_folder(self, sockets: Path) -> None:
        """Remove the folder of an ended kernel's sockets, whatever the kernel did."""
        try:
            if self.settings.user_ids:
                os.chown(sockets, os.geteuid(), os.getegid())
            remove(sockets)
        except OSError as error:
            print(f"{sockets} is left: {error}", file=sys.stderr, flush=True)


def map_user(pid: int, user_id: int) -> None:
    """Map the kernel's user to `user_id` of this namespace, and nobody else."""
    if os.geteuid() != 0:
        Path(f"/proc/{pid}/setgroups").write_text("deny")
    group = user_id if user_id != os.geteuid() else os.getegid()
    Path(f"/proc/{pid}/uid_map").write_text(f"{USER_ID} {user_id} 1")
    Path(f"/proc/{pid}/gid_map").write_text(f"{USER_ID} {group} 1")


def refuse(connection: socket.socket, reason: str) -> None:
    """Tell the client why it gets no kernel."""
    with connection, contextlib.suppress(OSError):
        wire.send(connection, {"event": "refused", "sentence": reason})


def unsafe_to_fork() -> str | None:
    """Return why a fork of this process would not work; None where it is safe."""
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        return f"the fork server has {threads} threads, and must have one to fork"
    bridge: ModuleType | None = sys.modules.get("jax._src.xla_bridge")
    if bridge is not None and bridge.backends_are_initialized():
        return "an XLA backend runs in the fork server; its forks would hang"
    return None


def preload(modules: list[str]) -> str | None:
    """Import what every kernel will need; return what makes a fork impossible.

    A module that is not installed is skipped: the list names what *may* be there.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            print(f"{name} is not preloaded: {error}", file=sys.stderr, flush=True)
        except Exception as error:
            return f"preloading {name} failed: {type(error).__name__}: {error}"
        if reason := unsafe_to_fork():
            return f"preloading {name} is not possible: {reason}. {HOW_TO_PRELOAD}"
    app.load_without_debugpy()
    if "jax" in sys.modules:
        from jaxgrader.stablehlo import stock_contexts

        warm_jax()
        stock_contexts()
        if reason := unsafe_to_fork():
            return f"warming JAX is not possible: {reason}"
    return None


def gather_memory() -> None:
    """Let what this process holds lie in huge pages, as far as the system has any.

    A fork copies an entry of the page tables for each page, and its end takes it down
    again. With huge ones, a jailed process costs the machine a sixth less to start.
    Linux 6.1 and later can do it; elsewhere nothing happens.
    """
    libc = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, rights, _, _, inode, *name = line.split()
        if rights != "rw-p" or inode != "0" or name not in ([], ["[heap]"]):
            continue
        start, end = (int(address, 16) for address in place.split("-"))
        first = -(-start // HUGE_PAGE) * HUGE_PAGE
        for address in range(first, end - HUGE_PAGE + 1, HUGE_PAGE):
            # It refuses where nothing lies yet, and that is as well.
            libc.madvise(
                ctypes.c_void_p(address), ctypes.c_size_t(HUGE_PAGE), MADV_COLLAPSE
            )


def main() -> None:
    """Read the settings, preload, serve."""
    with open(int(sys.argv[1])) as file:
        settings = Settings(**json.load(file))
    if settings.level == "strict" and os.geteuid() == 0:
        # The kernels' own /proc needs one here that nothing covers, else the
        # operating system refuses to mount it. Afterwards no mount is needed.
        jail.mount_proc(RUN / "proc")
        jail.keep_only(
            jail.CAP_CHOWN, jail.CAP_SETGID, jail.CAP_SETUID, jail.CAP_SETFCAP
        )
    jail.adopt_orphans()
    refusal = preload(settings.preload)
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT)
    gather_memory()
    listener = socket.socket(fileno=settings.listener)
    server = Server(settings, listener, jail.build_filter(settings.level), refusal)
    server.serve()


HOW_TO_PRELOAD = (
    "Take it out of c.Sandbox.preload, or name only the part of it that starts nothing."
)

if __name__ == "__main__":
    main()
