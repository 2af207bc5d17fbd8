"""The kernel itself: a stock ipykernel that was forked, not started.

What it is: what runs in the jail before the first cell: ipykernel over sockets in the
kernel's own folder, its output limited where it is produced. What it is not: a defence.
Student code shares this process and can undo whatever stands here; what it must not
undo is done by `jail.py` and `guard.py`.
"""

import importlib
import os
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import zmq
from ipykernel import ipkernel, kernelapp
from ipykernel.iostream import IOPubThread, OutStream
from ipykernel.kernelapp import IPKernelApp
from jupyter_client.session import Session
from traitlets.config import Config
from zmq.eventloop.zmqstream import ZMQStream

from jaxgrader.kernel import cache, lowered, quick


class LocalPub(IOPubThread):
    """ipykernel's output thread, without TCP for what forked children print."""

    def _setup_pipe_in(self) -> None:
        self._pipe_uuid = os.urandom(16)
        self._pipe_path = f"ipc://{os.environ['TMPDIR']}/.iopub-{os.getpid()}"
        pipe = self.socket.context.socket(zmq.PULL)
        pipe.linger = 0
        pipe.bind(self._pipe_path)
        self._pipe_in = ZMQStream(pipe, self.io_loop)
        self._pipe_in.on_recv(self._handle_pipe_msg)

    def _setup_pipe_out(self) -> tuple[Any, Any]:
        context: Any = zmq.Context()
        pipe = context.socket(zmq.PUSH)
        pipe.linger = 3000
        pipe.connect(self._pipe_path)
        return context, pipe


class KernelApp(IPKernelApp):
    """ipykernel's application, told by the fork server what to listen on."""

    def init_iopub(self, context: Any) -> None:
        # ipykernel has no setting for this class.
        kernelapp.IOPubThread = LocalPub  # type: ignore[attr-defined]
        super().init_iopub(context)  # type: ignore[no-untyped-call]

    def init_kernel(self) -> None:
        # For its debugger, which there is none of, ipykernel looks at every module that
        # is loaded: two thousand pages that this fork would have of its own.
        module: Any = ipkernel
        module.sys = SimpleNamespace(**{**vars(sys), "modules": {}})
        try:
            super().init_kernel()  # type: ignore[no-untyped-call]
        finally:
            module.sys = sys

    # There is no connection file: the fork server brings the connection.
    def init_connection_file(self) -> None: ...
    def write_connection_file(self, **kwargs: Any) -> None: ...

    # Not yet: the student's folder comes last, see `serve`.
    def init_path(self) -> None: ...


class Budget:
    """How many bytes the running cell may still send, by kind of output."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.cell: str | None = None
        self.left: dict[str, int] = {}

    def take(self, parent: dict[str, Any], kind: str, count: int) -> int:
        """Return how many of `count` bytes may be sent; -1 after the last was."""
        cell = (parent.get("header") or parent).get("msg_id")
        if cell != self.cell:
            self.cell, self.left = cell, {}
        left = self.left.get(kind, self.limit)
        if left < 0:
            return -1
        self.left[kind] = left - count if count <= left else -1
        return min(count, left)


class LimitedStream(OutStream):
    """Standard output that drops what a cell prints beyond its budget."""

    budget: Budget | None = None

    def write(self, string: str) -> int | None:  # type: ignore[override]
        if self.budget is None or not isinstance(string, str):
            return super().write(string)
        granted = self.budget.take(self.parent_header, self.name, len(string))
        if granted == len(string):
            return super().write(string)
        if granted >= 0:
            limit = self.budget.limit
            super().write(string[:granted] + CUT.format(limit=limit))
        return len(string)


class LimitedSession(Session):
    """Sends no more displays, values, comms and errors than a cell's budget allows."""

    budget: Budget | None = None

    def send(self, stream: Any, msg_or_type: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(msg_or_type, dict):
            kind, message = msg_or_type["msg_type"], msg_or_type
        else:
            positional = dict(zip(("content", "parent"), args, strict=False))
            kind, message = msg_or_type, {**kwargs, **positional}
        content = message.get("content")
        if self.budget is None or not isinstance(content, dict):
            return super().send(stream, msg_or_type, *args, **kwargs)
        if kind in LIMITED:
            if not self.limit(kind, message, self.budget):
                return None
            kwargs.pop("buffers", None)
            kwargs |= {"buffers": message["buffers"]} if message.get("buffers") else {}
        elif kind == "execute_reply" and len(self.pack(content)) > self.budget.limit:
            shorten_error(content)
            content.update(payload=[], user_expressions={})
        return super().send(stream, msg_or_type, *args, **kwargs)

    def limit(self, kind: str, message: dict[str, Any], budget: Budget) -> bool:
        """Return whether to send a message; the first that is too large is a note.

        An error stays an error, and has a budget of its own: it must not be lost
        because much was shown before.
        """
        content, buffers = message["content"], message.get("buffers") or []
        size = len(self.pack(content)) + sum(map(len, buffers))
        parent = message.get("parent_header") or message.get("parent") or {}
        granted = budget.take(parent, "error" if kind == "error" else "rich", size)
        if granted == size:
            return True
        message["buffers"] = []
        if kind == "error":
            shorten_error(content)
        else:
            note = CUT.format(limit=budget.limit).strip()
            content.update(data={"text/plain": note}, metadata={})
        return granted >= 0 and kind in NOTED


def shorten_error(content: dict[str, Any]) -> None:
    """Keep of a long error what it is and how its message begins."""
    for name in ("ename", "evalue"):
        if name in content:
            content[name] = str(content[name])[:1000]
    if "traceback" in content:
        content["traceback"] = [f"{content['ename']}: {content['evalue']}"]


#: What shows a note in its place when it is the first that is too large.
NOTED = {"display_data", "update_display_data", "execute_result", "error"}
LIMITED = {*NOTED, "clear_output", "comm_close", "comm_msg", "comm_open"}
CUT = "\n[output beyond {limit} bytes was dropped]\n"
#: A damaged entry is compiled again; that is all there is to it.
CACHE_WARNING = "Error (reading|writing) persistent compilation cache entry"
#: The signs of life that the guard reads.
BOUND, CELL_STARTS, CELL_ENDS = b"!", b"(", b")"


def serve(request: dict[str, Any], tell: Callable[[bytes], object]) -> None:
    """Become the kernel, or the program, of `request`; `tell` what it is doing.

    Only when all is ready does it enter the student's folder: a file of theirs that is
    called as a module or a configuration must not be found before.
    """
    os.environ.update(request["env"])
    os.chdir("/")
    sys.argv = ["ipykernel"]
    warnings.filterwarnings("ignore", CACHE_WARNING)
    forget_shared_state()
    own = os.environ["JAX_COMPILATION_CACHE_DIR"]
    set_cache(own, None if request["fill"] else Path(request["cache"]))
    start_backend(os.environ.get("JAX_PLATFORMS", "cpu"))
    if request["served"]:
        program: Any = importlib.import_module(request["program"])
        tell(BOUND)
        program.serve(socket.socket(fileno=request["served"][0]))
        return
    app = make_app(request)
    app.initialize([])
    app.kernel.shell.events.register("pre_execute", lambda: tell(CELL_STARTS))
    app.kernel.shell.events.register("post_execute", lambda: tell(CELL_ENDS))
    os.chdir(request["cwd"])
    app.kernel.shell.starting_dir = os.getcwd()
    sys.path.insert(0, "")
    tell(BOUND)
    app.start()


def forget_shared_state() -> None:
    """Draw again what every fork has inherited: NumPy's global random state."""
    if "numpy" in sys.modules:
        import numpy

        numpy.random.seed()


def set_cache(own: str, shared: Path | None) -> None:
    """Tell JAX, which was imported long ago, where compiled programs are.

    Everybody's are in `shared`, which nobody writes to; without one, this kernel fills
    it, and what goes into everybody's is compiled as well as can be.
    """
    if "jax" in sys.modules:
        import jax

        jax.config.update("jax_compilation_cache_dir", own)
        quickly = None
        if shared is not None:
            cache.read_also(shared, own)
            quickly = quick.install()
        lowered.install(Path(own), shared, quickly.note if quickly else None)


def start_backend(platforms: str) -> None:
    """Where an accelerator was asked for, prove at once that JAX finds it."""
    if platforms != "cpu":
        import jax

        jax.devices()


def make_app(request: dict[str, Any]) -> IPKernelApp:
    """Make the kernel's application from the connection that the client chose."""
    connection = request["connection"]
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.autocall = 0
    config.IPKernelApp.log_level = 40
    config.IPKernelApp.outstream_class = "jaxgrader.kernel.app.LimitedStream"
    session = LimitedSession(
        key=connection["key"].encode(), signature_scheme=connection["signature_scheme"]
    )
    limit = request["jail"]["output"]
    if limit:
        LimitedStream.budget = LimitedSession.budget = Budget(limit)
    ports = {name: connection[name] for name in PORTS}
    app: IPKernelApp = KernelApp.instance(
        config=config, session=session, transport="ipc", ip=connection["ip"], **ports
    )
    return app


PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")


def load_without_debugpy() -> None:
    """Load ipykernel's debugger, and let it find that there is no debugpy.

    debugpy takes longer to import than a kernel takes to start; the kernelspec says
    that there is no debugger. Students can import debugpy as they like.
    """
    sys.modules["debugpy"] = None  # type: ignore[assignment]
    try:
        import ipykernel.debugger  # noqa: F401
    finally:
        del sys.modules["debugpy"]
