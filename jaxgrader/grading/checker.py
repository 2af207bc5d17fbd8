"""The checker: the trusted process in which test cells run.

What it is: the grader's end of a long-lived sandboxed kernel that runs the instructor's
code only. It serves one submission after the other, in a fresh namespace each, and is
recycled before it grows. What it is not: the student's kernel, which it reaches through
a connection that the grader brings (`client.py`, over `wire.py`).

Guarantees: a verdict comes from the checker's own report over its control connection,
never from an output. It has no network, no gradebook and no course folder.
"""

import asyncio
import contextlib
import copy
import queue
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat.notebooknode import NotebookNode
from traitlets.config import Config

from jaxgrader.errors import GraderError
from jaxgrader.grading.cells import Cells, Ran
from jaxgrader.kernel import cache
from jaxgrader.kernel import wire as control
from jaxgrader.kernel.sandbox import Sandbox
from jaxgrader.kernel.servers import shared_cache

#: Submissions after which a checker is replaced, and bytes by which it may grow.
USES, GROWTH = 200, 1 << 30
#: Seconds that it gets to connect.
READY = 30.0
#: Bytes of output per test cell.
OUTPUT = 500_000
#: Seconds that the instructor's own code may take in one cell, the student's apart.
OWN_TIME = 120.0
#: Seconds between looks whether it lives.
PERIOD = 0.5
#: Seconds that a report may take to arrive after its cell has ended.
REPORT = 10.0

#: Brings a connection of the kind that the checker asks for, or None.
Bring = Callable[[str], Awaitable[socket.socket | None]]


@dataclass(frozen=True)
class Verdict:
    """What the checker says of one cell."""

    ran: Ran
    #: The report of `client.Session.report`; None if there is none.
    report: dict[str, Any] | None
    outputs: list[NotebookNode]
    #: The limit that ended the process, if one did.
    ended_by: str | None = None
    #: Whether what happened may be the student's doing.
    asked: bool = True

    @property
    def memory(self) -> bool:
        """Whether the process needed more memory than it may have."""
        return self.ended_by == "memory"

    @property
    def passed(self) -> bool:
        return self.report is not None and "error" not in self.report


class Checker:
    """One trusted kernel, kept for many submissions to one assignment."""

    def __init__(self, kernel_name: str, config: Config, files: Path | None) -> None:
        config = copy.deepcopy(config)
        config.pop("Limits", None)  # they are the student's
        shared = shared_cache(Sandbox(config=config).platform)
        config.Sandbox.files = "copy"
        # An accelerator's chips are the students': each process leases one for itself.
        config.Sandbox.platform = "cpu"
        config.SandboxProvisioner.trusted = True
        # What tests compile is for no kernel of a student's.
        filling = config.SandboxProvisioner.pop("fill", None)
        if files is not None:
            own = cache.for_tests(shared, files.name)
            if filling:
                config.SandboxProvisioner.fill = str(cache.unpublished(own))
            else:
                config.SandboxProvisioner.entries = str(own)
        self.cells = Cells(output=OUTPUT, kernel_name=kernel_name, config=config)
        self.files = files
        self.control: socket.socket | None = None
        self.uses = 0
        self.first_memory: int | None = None
        self.broken = False

    async def start(self) -> None:
        """Start the process, and let it connect back.

        Raises:
            SandboxError, PlatformError: if this machine cannot give such a kernel.
            CheckerError: if it does not connect.
        """
        await self.cells.start(self.files)
        meeting = self.cells.meet("control")
        with contextlib.closing(meeting):
            command = ATTACH.format(path=meeting.theirs)
            attached = asyncio.ensure_future(self.silently(command))
            self.control = await meeting.connection(None, READY)
            if not await attached or self.control is None:
                raise CheckerError(NO_CHECKER)

    async def close(self) -> None:
        """End the process."""
        if self.control is not None:
            self.control.close()
            self.control = None
        await self.cells.close()

    @property
    def spent(self) -> bool:
        """Whether the next submission must get a new one."""
        return self.broken or self.uses >= USES

    async def begin(self) -> None:
        """Start anew for a submission: an empty namespace.

        Raises:
            CheckerError: if the process does not answer.
        """
        self.uses += 1
        if not await self.silently("session().reset()"):
            raise CheckerError(NO_CHECKER)

    async def silently(self, code: str) -> bool:
        """Run a line of ours; return whether it ended well."""
        kc: Any = self.cells.kc
        asking = asyncio.ensure_future(
            kc.execute_interactive(
                IMPORT + code,
                silent=True,
                store_history=False,
                allow_stdin=False,
                timeout=OWN_TIME,
                output_hook=lambda message: None,
            )
        )
        try:
            while not asking.done():
                await asyncio.wait({asking}, timeout=PERIOD)
                if not asking.done() and not await self.is_alive():
                    asking.cancel()
            reply = await asking
        except asyncio.CancelledError:
            self.broken = True
            if not asking.cancelled():
                raise
            return False
        except (RuntimeError, TimeoutError, queue.Empty):  # it is dead, or stuck
            self.broken = True
            return False
        ended_well = reply["content"]["status"] == "ok"
        self.broken = self.broken or not ended_well
        return bool(ended_well)

    async def is_alive(self) -> bool:
        """Whether there still is such a process."""
        manager: Any = self.cells.km
        return bool(await manager.is_alive())

    async def bind(self, functions: tuple[str, ...], values: tuple[str, ...]) -> None:
        """Make names the student's from here on.

        Raises:
            CheckerError: if the process does not answer.
        """
        if not await self.silently(f"bind({list(functions)!r}, {list(values)!r})"):
            raise CheckerError(NO_CHECKER)

    async def run(
        self, cell: NotebookNode, bring: Bring, seconds: float | None
    ) -> Verdict:
        """Run a cell, in which the student's code may take `seconds`.

        Meanwhile `bring` is asked for the connections that it needs.
        """
        listening = asyncio.ensure_future(self.listen(bring))
        limit = None if seconds is None else seconds + OWN_TIME
        opened = self.tell({"event": "open", "seconds": seconds})
        ran = await self.cells.run(cell, 0, limit) if opened else Ran(ended=True)
        # A cell's end and its report come on two ways, the report first.
        stopped = ran.ended or ran.late
        await asyncio.wait({listening}, timeout=0 if stopped else REPORT)
        if stopped or not listening.done():
            self.broken = True
            self.hang_up()
        report = await listening
        if report is None:
            self.broken = True
        else:
            self.weigh(report)
        ended_by = self.cells.reason if ran.ended else None
        return Verdict(ran, report, cell.get("outputs", []), ended_by)

    def tell(self, message: dict[str, Any]) -> bool:
        """Say something to the process; return False if it is gone."""
        assert self.control is not None
        try:
            control.send(self.control, message)
        except OSError:
            return False
        return True

    def hang_up(self) -> None:
        """Let whoever waits for the checker's report go on without."""
        if self.control is not None:
            with contextlib.suppress(OSError):
                self.control.shutdown(socket.SHUT_RDWR)

    async def listen(self, bring: Bring) -> dict[str, Any] | None:
        """Answer the checker's requests until its report comes; None for none."""
        assert self.control is not None
        while True:
            message = await asyncio.to_thread(control.receive, self.control)
            if message is None or message["event"] == "verdict":
                return message
            try:
                connection = await bring(message["what"])
            except BaseException:
                # The process waits for an answer, and we for its cell's end.
                self.broken = True
                self.hang_up()
                raise
            descriptors = [] if connection is None else [connection.fileno()]
            try:
                control.send_request(self.control, {}, descriptors)
            except OSError:
                return None
            finally:
                if connection is not None:
                    connection.close()

    def weigh(self, report: dict[str, Any]) -> None:
        """Notice when the process has grown too much to be kept."""
        memory = report.get("memory") or 0
        if self.first_memory is None:
            self.first_memory = memory
        if memory - self.first_memory > GROWTH:
            self.broken = True


class CheckerError(GraderError):
    """The checker does not work: no verdict, and so no score, comes of it."""


IMPORT = "from jaxgrader.grading.client import attach, bind, session\n"
ATTACH = "attach({path!r})"
NO_CHECKER = (
    "The checker, in which the tests run, did not start or stopped answering. Nothing "
    "was graded. Run the command again; `jaxgrader doctor` checks this machine."
)
