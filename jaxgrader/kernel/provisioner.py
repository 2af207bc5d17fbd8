"""A jupyter_client kernel provisioner: any Jupyter client can start such a kernel.

What it is: what the kernelspec "JAX (sandboxed)" names. It asks the fork server for a
kernel, and stands for it towards the kernel manager: signals, exit status, the sentence
that says how it ended. What it is not: part of the jail; it runs in the client.

Guarantees: when the client dies, or closes the connection, the kernel ends; when
`poll` says that it has ended, its processes and files are gone. Assumes that the client
can reach the runtime folder: ZeroMQ connects to Unix sockets there.
"""

import asyncio
import contextlib
import fnmatch
import os
import select
import signal
import socket
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Bool, List, Unicode

from jaxgrader.errors import GraderError, PlatformError, SandboxError, SubmissionError
from jaxgrader.kernel import devices, wire
from jaxgrader.kernel.sandbox import SHARED_CACHE, Limits, Sandbox, jail_for
from jaxgrader.kernel.servers import runtime_folder, server_for

#: Where the leases of this machine's devices are, for all its users.
LOCKS = Path("/dev/shm/jaxgrader")  # noqa: S108
#: Seconds between two looks at a kernel whose end several may wait for.
PERIOD = 0.1
#: What a submission's folder may hold: files and folders, and folders in each other.
MOST_FILES, DEEPEST = 10_000, 64
#: Bytes that the smallest file needs in the kernel's memory.
PAGE = 4096
#: Bytes of compiled programs that a kernel may be given.
ENTRIES = 1 << 28
PORTS = {"shell": 1, "iopub": 2, "stdin": 3, "hb": 4, "control": 5}


class SandboxProvisioner(LocalProvisioner):
    """Starts kernels from a fork server, in a sandbox."""

    fill = Unicode(
        help="A folder for what this kernel compiles, in the place of the compilation "
        "cache. Only for kernels that run the instructor's own code."
    ).tag(config=True)

    entries = Unicode(
        help="A folder of compiled programs that this kernel gets a copy of, beside "
        "those of the compilation cache. Only for kernels that run the instructor's "
        "own code."
    ).tag(config=True)

    leave_out = List(
        Unicode(),
        help="Names of files in the working folder that the kernel gets no copy of; "
        "`*.ipynb` stands for all that end so.",
    ).tag(config=True)

    trusted = Bool(
        False,
        help="The kernel runs no code of a student's: its guard looks seldom at it "
        "while no cell runs.",
    ).tag(config=True)

    connection: socket.socket | None = None
    #: The event loop that was last told to look at the connection.
    watching: asyncio.AbstractEventLoop | None = None
    #: The kernel's folder on this machine, and a path to it that survives a restart.
    sockets: Path | None = None
    link: Path | None = None
    #: That folder as the kernel sees it.
    inside = ""
    #: The folder for sockets at level none, if one is asked for.
    folder: tempfile.TemporaryDirectory[str] | None = None
    #: The last message about this kernel: how it ended.
    ended: dict[str, Any] | None = None
    #: The fork server's last word, before the connection ends.
    last: dict[str, Any] | None = None
    #: Bytes: the most memory that the guard saw; and processor seconds of the kernel
    #: and its guard. Known when the kernel has ended.
    memory, cpu = 0, 0.0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sandbox = Sandbox(parent=self)
        self.limits = Limits(parent=self)

    @property
    def unconfined(self) -> bool:
        return bool(self.sandbox.level == "none")

    @property
    def has_process(self) -> bool:
        return super().has_process if self.unconfined else self.connection is not None

    @property
    def sentence(self) -> str:
        """How the kernel ended, for people; empty while it lives."""
        return self.ended["sentence"] if self.ended else ""

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Get a place in the fork server, and tell the manager where its sockets are.

        Raises:
            SandboxError, PlatformError: if this machine cannot give what is asked for.
        """
        if self.unconfined:
            return await super().pre_launch(**kwargs)
        self.ended = self.last = None
        own = self.sandbox.files == "own" and kwargs.get("cwd")
        self.server = server_for(
            self.sandbox,
            writable=os.path.realpath(kwargs["cwd"]) if own else None,
            fill=Path(self.fill) if self.fill else None,
        )
        self.connection, sockets = await asyncio.to_thread(self.server.connect)
        self.sockets = sockets
        manager: Any = self.parent
        manager.transport, manager.ip = "ipc", str(self.link_to(sockets) / "s")
        for name, number in PORTS.items():
            setattr(manager, f"{name}_port", number)
        manager.write_connection_file()
        self.connection_info = manager.get_connection_info()
        return {**kwargs, "cmd": []}

    def link_to(self, sockets: Path) -> Path:
        """Return a path to the sockets that survives a restart of the kernel."""
        if self.link is None:
            self.link = runtime_folder() / f"k-{os.urandom(4).hex()}"
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(sockets)
        return self.link

    async def launch_kernel(
        self, cmd: list[str], **kwargs: Any
    ) -> KernelConnectionInfo:
        """Ask for the kernel; return when its sockets are bound.

        With `program`, a module of ours, a process that serves `connection` with it.
        """
        program, connection = kwargs.pop("program", ""), kwargs.pop("connection", None)
        if self.unconfined:
            if program:
                number = connection.fileno()
                cmd = [sys.executable, "-m", program, str(number)]
                kwargs["pass_fds"] = [number]
            return await super().launch_kernel(cmd, **kwargs)
        cwd = kwargs.get("cwd")
        self.cwd = cwd
        async with self.lease() as (variables, descriptors):
            request = self.request(cwd, variables)
            if cwd and not self.server.view.writable:
                request["files"] = True
                descriptors.insert(0, pack(Path(cwd), self.limits.disk, self.leave_out))
            if os.path.isdir(self.entries):
                request["entries"] = True
                files = int("files" in request)
                descriptors.insert(files, pack(Path(self.entries), ENTRIES))
            if program:
                request["program"] = program
                descriptors.append(os.dup(connection.fileno()))
            assert self.connection is not None
            try:
                wire.send_request(self.connection, request, descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            message = await self.next_message()
        if message["event"] != "started":
            await self.cleanup()
            raise self.failure(message)
        self.pid = message["pid"]
        return self.connection_info

    def request(self, cwd: str | None, variables: dict[str, str]) -> dict[str, Any]:
        """Return what the guard needs to know to make this kernel."""
        view, level = self.server.view, self.sandbox.level
        assert self.sockets is not None
        jail, own = jail_for(self.sandbox, self.limits, view, self.sockets)
        jail = replace(jail, trusted=self.trusted)
        connection = {
            key: value.decode() if isinstance(value, bytes) else value
            for key, value in self.connection_info.items()
        }
        scratch = own.pop("JAXGRADER_SCRATCH")
        self.inside = jail.sockets
        return {
            "jail": vars(jail),
            "connection": {**connection, "ip": f"{jail.sockets}/s"},
            "env": {**self.kernel_spec.env, **own, **variables},
            "cwd": view.writable or scratch,
            "scratch": scratch,
            "cache": str(SHARED_CACHE if level == "strict" else view.cache),
            "fill": view.fill,
        }

    @contextlib.asynccontextmanager
    async def lease(self) -> AsyncIterator[tuple[dict[str, str], list[int]]]:
        """Wait for a device of the platform; yield its variables and its lease."""
        platform = self.sandbox.platform
        inventory = devices.Inventory.of(platform)
        if not inventory.devices:
            yield {}, []
            return
        with await devices.Leases(LOCKS, inventory).wait() as lease:
            fraction = self.sandbox.memory_fraction
            variables = devices.environment(platform, lease.device, fraction)
            yield variables, [os.dup(lease.fd)]

    async def next_message(self) -> dict[str, Any]:
        """Wait for the fork server's next message about this kernel."""
        while self.connection is not None:
            if has_news(self.connection):
                message = wire.receive(self.connection)
                return message or {"event": "ended", **LOST}
            await self.news()
        return {"event": "ended", **LOST}  # it was closed meanwhile

    def failure(self, message: dict[str, Any]) -> GraderError:
        """Return the error for a kernel that did not start."""
        self.ended = message
        text = "\n".join([message["sentence"], message.get("stderr", "")]).strip()
        kind = SandboxError if self.sandbox.platform == "cpu" else PlatformError
        return kind(text)

    def socket_paths(self, name: str) -> tuple[Path, str]:
        """Return the path of a socket between us and the kernel: ours, and its own."""
        if self.sockets is not None:
            return self.sockets / name, str(Path(self.inside) / name)
        if self.folder is None:  # level none
            self.folder = tempfile.TemporaryDirectory(prefix="jaxgrader-")
        path = Path(self.folder.name) / name
        return path, str(path)

    async def poll(self) -> int | None:
        """Return None while the kernel lives, else its exit status."""
        if self.unconfined:
            return await super().poll()
        if self.connection is None:
            return 0
        if self.ended is None:
            self.listen()
        return None if self.ended is None else int(self.ended["status"])

    def listen(self) -> None:
        """Take in what the fork server has said; the end is the end of the stream."""
        assert self.connection is not None
        while has_news(self.connection):
            message = wire.receive(self.connection)
            if message is None:
                self.ended = self.last or LOST
                if self.ended["reason"] in LIMITS:
                    self.log.warning(self.sentence)
                return
            self.memory = message.get("memory", self.memory)
            self.cpu = message.get("cpu", self.cpu)
            if message["event"] == "ended":
                self.last = message

    async def wait(self) -> int | None:
        """Wait until the kernel has ended, with all its processes and files."""
        if self.unconfined:
            return await super().wait()
        while (status := await self.poll()) is None:
            await self.news()
        self.close()
        return status

    async def news(self) -> None:
        """Wait until there may be something to read from the guard.

        No thread: Python has ended those that it lends when its last kernels end.
        """
        assert self.connection is not None
        loop, come = asyncio.get_running_loop(), asyncio.Event()
        descriptor = self.connection.fileno()
        loop.add_reader(descriptor, come.set)
        self.watching = loop
        try:
            with contextlib.suppress(TimeoutError):  # another may wait, too
                await asyncio.wait_for(come.wait(), PERIOD)
        finally:
            if self.watching is not None:  # else it is closed, and the number another's
                loop.remove_reader(descriptor)

    async def send_signal(self, signum: int) -> None:
        """Send a signal to the kernel's process group."""
        if self.unconfined:
            await super().send_signal(signum)
        elif signum == signal.SIGKILL:
            await self.kill()
        else:
            self.tell({"op": "signal", "signal": int(signum)})

    async def kill(self, restart: bool = False) -> None:
        """End the kernel's jail and everything in it."""
        if self.unconfined:
            await super().kill(restart)
        else:
            self.tell({"op": "kill"})

    async def terminate(self, restart: bool = False) -> None:
        """End the kernel's jail; student code has no say in it."""
        if self.unconfined:
            await super().terminate(restart)
        else:
            self.tell({"op": "kill"})

    def tell(self, message: dict[str, Any]) -> None:
        """Say something to the guard; it may have gone."""
        if self.connection is not None:
            with contextlib.suppress(OSError):
                wire.send(self.connection, message)

    async def cleanup(self, restart: bool = False) -> None:
        """Let go of the kernel, and of its sockets' path unless it starts again."""
        if self.folder is not None:
            self.folder.cleanup()
            self.folder = None
        if self.unconfined:
            await super().cleanup(restart)
            return
        self.close()
        if self.link is not None and not restart:
            self.link.unlink(missing_ok=True)
            self.link = None

    def close(self) -> None:
        if self.connection is not None:
            if self.watching is not None:
                self.watching.remove_reader(self.connection.fileno())
                self.watching = None
            self.connection.close()
            self.connection = None


def has_news(connection: socket.socket) -> bool:
    """Whether there is something to read, or the end."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def pack(folder: Path, limit: int, leave_out: Sequence[str] = ()) -> int:
    """Return an open file with the tar archive of `folder`'s files.

    Symbolic links are left out: they would lead somewhere else in the jail, or
    nowhere. So are files whose names match `leave_out`. A file with two names is packed
    twice.

    Raises:
        SubmissionError: if the files need more than `limit` bytes together, if there
            are too many, or if folders lie too deep in each other.
    """
    pages = count = 0

    def choose(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        nonlocal pages, count
        name = os.path.basename(entry.name)
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in leave_out):
            return None
        # Else the second name of a file would be a link to the first.
        archive.inodes.clear()  # type: ignore[attr-defined]
        pages, count = pages - (-entry.size // PAGE), count + 1
        if pages * PAGE > limit:
            raise SubmissionError(TOO_LARGE.format(folder=folder, limit=limit))
        if count > MOST_FILES:
            raise SubmissionError(TOO_MANY.format(folder=folder, limit=MOST_FILES))
        if entry.name.count("/") > DEEPEST:
            raise SubmissionError(TOO_DEEP.format(folder=folder, limit=DEEPEST))
        return entry if entry.isreg() or entry.isdir() else None

    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(folder, arcname=".", filter=choose)
        return os.dup(file.fileno())


#: Reasons for a kernel's end that its user should hear of in the log.
LIMITS = {"cell", "cpu", "disk", "memory", "processes", "wall"}
LOST: dict[str, Any] = {
    "status": -9,  # as if killed
    "reason": "lost",
    "sentence": "The kernel was stopped from outside.",
}
TOO_LARGE = (
    "{folder}: the files are larger than the {limit} bytes that a kernel may have. "
    "Remove what is not needed, or raise c.Limits.disk."
)
TOO_MANY = (
    "{folder}: there are more than {limit} files and folders in it. Remove what is not "
    "needed."
)
TOO_DEEP = (
    "{folder}: folders lie more than {limit} deep in each other. Remove what is not "
    "needed."
)
