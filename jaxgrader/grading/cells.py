"""One kernel, and notebook cells run in it; whatever they do becomes a record.

What it is: nbclient, set up for grading: output cut as it arrives, sockets that take no
flood, and no exception for what a cell does. What it is not: a judge (`runner.py`), nor
a sandbox (`jaxgrader.kernel`).
"""

import asyncio
import contextlib
import json
import math
import queue
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.notebooknode import NotebookNode, from_dict
from nbformat.v4 import new_notebook
from traitlets import Bool, Dict, Enum, Integer, List

from jaxgrader.grading.meeting import Meeting
from jaxgrader.verdicts import add_error, limit_output

#: Bytes of a message that a kernel may send, beside its output.
MESSAGE = 1 << 20
#: Seconds for a kernel's first answer before it is asked again, for the outputs'
#: channel to be connected after it, and for a killed kernel to be gone.
ANSWER, CONNECTED, GONE = 1.0, 0.2, 5.0


@dataclass(frozen=True)
class Ran:
    """What became of a cell."""

    #: The kernel replied "ok".
    completed: bool = False
    #: Why it was stopped, as a sentence; empty for an ordinary error.
    why: str = ""
    #: It took longer than it may.
    late: bool = False
    #: The kernel is gone, or will not listen: no further cell can run in it.
    ended: bool = False


def code_cell(source: str = "") -> NotebookNode:
    """Return a cell to run that no file will hold; nbformat's maker validates, 1 ms."""
    fields = {"cell_type": "code", "source": source, "execution_count": None}
    more: dict[str, Any] = {"metadata": {}, "outputs": []}
    cell: NotebookNode = from_dict(fields | more)
    return cell


class Client(AsyncKernelClient):
    """jupyter_client's, which is ready when the kernel is.

    Its own waits for 0.2 s until no more outputs have come; here the kernel's word that
    it is idle again, on that very channel, is enough. Nor does it listen to a kernel's
    heart, with a thread for each: the provisioner hears of its end.
    """

    def start_channels(
        self,
        shell: bool = True,
        iopub: bool = True,
        stdin: bool = True,
        hb: bool = True,
        control: bool = True,
    ) -> None:
        """Open the channels to the kernel, but its heartbeat."""
        super().start_channels(shell, iopub, stdin, hb=False, control=control)

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        """Wait until the kernel answers, and what it shows arrives.

        Raises:
            RuntimeError: if it dies before, or is silent for `timeout` seconds.
        """
        end = time.monotonic() + (timeout or math.inf)
        while time.monotonic() < end:
            asked = self.kernel_info()
            with contextlib.suppress(queue.Empty):
                await self.answered(asked)
                return
            if not await self.is_alive():
                raise RuntimeError("Kernel died before replying to kernel_info")
        raise RuntimeError(f"Kernel didn't respond in {timeout} seconds")

    async def answered(self, asked: str) -> None:
        """Return when a request is answered, and its last sign on iopub is there.

        Raises:
            Empty: if one of them does not come, since nobody listened yet.
        """
        reply = await self.get_shell_msg(timeout=ANSWER)
        self._handle_kernel_info_reply(reply)
        state = None
        while state != (asked, "idle"):
            sign = await self.get_iopub_msg(timeout=CONNECTED)
            told = sign["content"].get("execution_state")
            state = sign["parent_header"].get("msg_id"), told


class Cells(NotebookClient):
    """A kernel, and what it needs to run cells one at a time."""

    allow_errors = Bool(True)
    kernel_manager_class = AsyncKernelManager
    # A kernel that was graded has nothing left to do, and no say in it.
    shutdown_kernel = Enum(
        ["graceful", "immediate"],
        default_value="immediate",
        help=NotebookClient.shutdown_kernel.help,
    ).tag(config=True)
    # nbclient's 4 s are too few for honest output on a busy machine.
    iopub_timeout = Integer(10)
    raise_on_iopub_timeout = Bool(True)
    interrupt_on_timeout = Bool(True)
    error_on_timeout = Dict(
        {"ename": "CellTimeoutError", "evalue": "", "traceback": []}
    )
    # ipykernel warns of its TCP ports at every start, in students' faces.
    extra_arguments = List(["--log-level=ERROR"])

    def __init__(self, *, output: int, **kwargs: Any) -> None:
        super().__init__(new_notebook(), **kwargs)
        self.limit = output
        self._room: dict[tuple[int, str], int] = {}
        self._seconds: float | None = None
        self._ran = Ran()
        self._watching: asyncio.Task[Any] | None = None
        #: Bytes that the kernel held at most, and its processor seconds; known when
        #: it is closed.
        self.memory, self.cpu = 0, 0.0

    async def start(self, cwd: Path | None, env: dict[str, str] | None = None) -> None:
        """Start the kernel on a copy of the files in `cwd`.

        Raises:
            SandboxError, PlatformError: if this machine cannot give such a kernel.
            SubmissionError: if the files are too many or too large.
        """
        if self.km is None:
            manager = self.create_kernel_manager()
            manager.client_factory = Client
            # A flood must not fill the grader's memory.
            manager.context.setsockopt(zmq.MAXMSGSIZE, 8 * self.limit + MESSAGE)
            manager.context.setsockopt(zmq.RCVHWM, 100)
        more = {"cwd": str(cwd)} if cwd else {}
        await self.async_start_new_kernel(**({"env": env} if env else {}), **more)
        await self.async_start_new_kernel_client()

    async def start_program(self, module: str, connection: socket.socket) -> None:
        """Start a process that serves `connection` with a module of ours.

        It is confined as a kernel is, and speaks no Jupyter.

        Raises:
            SandboxError, PlatformError: if this machine cannot give such a process.
        """
        self.create_kernel_manager()
        await self.async_start_new_kernel(program=module, connection=connection)

    async def close(self) -> None:
        """End the kernel and everything that it started."""
        if self.km is not None:
            provisioner = getattr(self.km, "provisioner", None)
            if self.shutdown_kernel == "immediate" and provisioner is not None:
                # Else the manager interrupts it first, and looks every 0.1 s.
                await provisioner.kill()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(provisioner.wait(), GONE)
            await self._async_cleanup_kernel()
            self.memory = getattr(provisioner, "memory", 0)
            self.cpu = getattr(provisioner, "cpu", 0.0)

    async def run(
        self, cell: NotebookNode, index: int, seconds: float | None = None
    ) -> Ran:
        """Run one cell, for at most `seconds`; it has its outputs afterwards."""
        self._seconds, self._ran = seconds, Ran()
        # A cell's outputs are its own: none changes those of an earlier cell, where
        # what a hidden test asked for could be kept for the feedback.
        self._display_id_map.clear()
        # nbclient puts each cell into its notebook, which is nobody's but its own.
        missing = index + 1 - len(self.nb.cells)
        self.nb.cells += [code_cell() for _ in range(missing)]
        try:
            await self.async_execute_cell(cell, index)
        except DeadKernelError:
            return self.stopped(cell, "DeadKernelError", self.sentence or DEAD_KERNEL)
        except CellTimeoutError:
            return self.stopped(cell, "CellTimeoutError", UNINTERRUPTIBLE)
        except Exception as error:
            # A student's process holds the key of its sockets: anything may arrive.
            self.log.debug("%s", error, exc_info=True)
            return self.stopped(cell, "DeadKernelError", NO_MESSAGE)
        finally:
            if self._watching is not None:
                self._watching.cancel()
        if not isinstance(cell.get("execution_count"), int):
            cell["execution_count"] = None  # a kernel can say anything
        return self._ran

    async def _async_poll_kernel_alive(self) -> None:
        # nbclient leaves it running where a cell ends in an exception.
        self._watching = asyncio.current_task()
        await super()._async_poll_kernel_alive()

    def stopped(self, cell: NotebookNode, ename: str, sentence: str) -> Ran:
        add_error(cell, ename, sentence)
        return Ran(why=sentence, late=ename == "CellTimeoutError", ended=True)

    @property
    def sentence(self) -> str:
        """How the kernel ended, for people; empty while it lives."""
        provisioner = self.km and getattr(self.km, "provisioner", None)
        return str(getattr(provisioner, "sentence", "") or "")

    @property
    def reason(self) -> str | None:
        """The limit that ended the kernel, by its name in `Limits`, if one did."""
        provisioner = self.km and getattr(self.km, "provisioner", None)
        ended = getattr(provisioner, "ended", None)
        return ended["reason"] if ended else None

    def meet(self, name: str) -> Meeting:
        """Return the place where the kernel and we connect, by a name for it."""
        provisioner: Any = self.km and self.km.provisioner
        ours, theirs = provisioner.socket_paths(name)
        # At this level a kernel may not connect to anything, so we do.
        return Meeting(ours, theirs, dial=provisioner.sandbox.level == "basic")

    async def interrupt(self) -> None:
        """Interrupt what the kernel is doing, as a person would."""
        manager: Any = self.km
        with contextlib.suppress(RuntimeError):  # there is none any more
            await manager.interrupt_kernel()

    def timeout_func(self, cell: NotebookNode) -> int | None:
        """Called by nbclient before each cell: its limit in seconds, None for none."""
        return None if self._seconds is None else max(1, math.ceil(self._seconds))

    def process_message(
        self, msg: dict[str, Any], cell: NotebookNode, cell_index: int
    ) -> NotebookNode | None:
        """Called by nbclient with each message that belongs to a running cell."""
        kind = msg["msg_type"]
        content = msg["content"] = as_text(msg["content"])
        if kind not in FORMS or not FORMS[kind](content):
            return None
        if kind in ("stream", "error", "display_data", "execute_result"):
            room = self._room.get((cell_index, kind), self.limit)
            if room < 0:
                return None
            self._room[cell_index, kind] = limit_output(kind, content, room)
        return super().process_message(msg, cell, cell_index)

    async def _async_check_alive(self) -> None:
        # nbclient goes on to look after a kernel that was closed meanwhile.
        if self.kc is None:
            raise DeadKernelError("Kernel died")
        await super()._async_check_alive()

    def on_cell_executed(self, **kwargs: Any) -> None:
        """Called by nbclient with the kernel's reply to a cell."""
        cell, reply = kwargs["cell"], as_text(kwargs["execute_reply"]["content"])
        if reply.get("status") == "ok":
            self._ran = Ran(completed=True)
        elif reply.get("ename") == "CellTimeoutError":
            # The kernel was interrupted: its KeyboardInterrupt is ours, not a clue.
            cell.outputs = [o for o in cell.outputs if o.output_type != "error"]
            add_error(cell, "CellTimeoutError", CELL_TIMEOUT)
            self._ran = Ran(why=CELL_TIMEOUT, late=True)
        else:
            shown = [o.ename for o in cell.outputs if o.output_type == "error"]
            if reply.get("ename") not in shown or not shown:
                add_error(cell, str(reply.get("ename")), str(reply.get("evalue")))


def as_text(content: Any) -> dict[str, Any]:
    """Return a message's content as files can hold it: no halves of characters.

    Empty if it is no dict, or nested too deeply for what handles notebooks.
    """
    if not isinstance(content, dict) or not is_shallow(content):
        return {}
    text = json.dumps(content, ensure_ascii=False, default=str)
    clean: dict[str, Any] = json.loads(text.encode(errors="replace"))
    return clean


def is_shallow(value: Any, levels: int = 20) -> bool:
    """Whether JSON is nested no deeper than `levels`."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return True
    return levels > 0 and all(is_shallow(item, levels - 1) for item in value)


def is_stream(content: dict[str, Any]) -> bool:
    text, name = content.get("text"), content.get("name")
    return isinstance(text, str) and name in ("stdout", "stderr")


def is_error(content: dict[str, Any]) -> bool:
    texts = [content.get("ename"), content.get("evalue"), content.get("traceback")]
    lines = texts.pop()
    return isinstance(lines, list) and all(
        isinstance(text, str) for text in (*texts, *lines)
    )


def is_display(content: dict[str, Any]) -> bool:
    """Whether this is display_data, or a value of that form."""
    data, transient = content.get("data"), content.get("transient") or {}
    return (
        isinstance(data, dict)
        and all(
            isinstance(value, str) or ("json" in kind and value is not None)
            for kind, value in data.items()
        )
        and isinstance(content.get("metadata"), dict)
        and isinstance(transient, dict)
        and isinstance(transient.get("display_id", ""), str)
        and isinstance(content.get("execution_count"), int | None)
    )


#: The messages that become outputs, or that nbclient goes by, and what they must be.
#: No comms: nbclient would let a widget take over the outputs.
FORMS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "stream": is_stream,
    "error": is_error,
    "display_data": is_display,
    "execute_result": is_display,
    "update_display_data": is_display,
    "execute_input": lambda content: isinstance(content.get("execution_count"), int),
    "status": lambda content: isinstance(content.get("execution_state"), str),
    "clear_output": lambda content: isinstance(content.get("wait"), bool),
}


NO_MESSAGE = "The kernel sent what is no message of Jupyter's. No further cell can run."
CELL_TIMEOUT = "Stopped: the cell took longer than it may. Is there an endless loop?"
UNINTERRUPTIBLE = (
    "Stopped: the cell took too long, and did not come to rest when interrupted."
)
DEAD_KERNEL = "The kernel died while this cell ran: a crash, or too much memory."
