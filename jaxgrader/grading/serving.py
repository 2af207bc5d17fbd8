"""The grader's part in a connection: it lets a kernel dial, and hands on the socket.

What it is: `Serving`, the student's end of one test, and `Inspector`, the process that
reads a submission's traced programs. What it is not: a reader of what crosses.
"""

import asyncio
import copy
import socket

from nbformat.notebooknode import NotebookNode
from traitlets.config import Config

from jaxgrader.grading.cells import UNINTERRUPTIBLE, Cells, Ran, code_cell
from jaxgrader.grading.meeting import Meeting

#: Seconds that a kernel gets to come to rest when its test is over.
REST = 5.0


class Serving:
    """The student's end of a test: connected when the test first calls it."""

    def __init__(
        self,
        kernel: Cells,
        meeting: Meeting,
        index: int,
        inspector: "Inspector",
        seconds: float | None,
    ) -> None:
        self.kernel, self.meeting, self.index = kernel, meeting, index
        self.inspector, self.seconds = inspector, seconds
        self.cell = code_cell(SERVE.format(path=meeting.theirs))
        self.running: asyncio.Future[Ran] | None = None
        #: It did not even connect in time.
        self.late = False

    async def bring(self, what: str) -> socket.socket | None:
        """Let the kernel serve, and return the connection; None if none is made.

        One for each test: a kernel that ended its connection gets no other.
        """
        if what == "inspector":
            return await self.inspector.connection()
        if self.running is not None:
            return None
        self.running = asyncio.ensure_future(self.kernel.run(self.cell, self.index))
        connection = await self.meeting.connection(self.running, self.seconds)
        self.late = connection is None and not self.running.done()
        return connection

    async def rest(self, late: bool) -> Ran:
        """Wait until the kernel has stopped serving; make it, if need be."""
        if self.running is None:
            return Ran(completed=True)
        for patience in (0 if late else REST, REST):
            done, _ = await asyncio.wait({self.running}, timeout=patience)
            if done:
                return self.running.result()
            await self.kernel.interrupt()
        done, _ = await asyncio.wait({self.running}, timeout=REST)
        if done:
            return self.running.result()
        self.running.cancel()
        return Ran(why=UNINTERRUPTIBLE, late=True, ended=True)

    @property
    def outputs(self) -> list[NotebookNode]:
        """What the student's code showed while the test called it."""
        shown = ("stream", "display_data")
        return [o for o in self.cell.get("outputs", []) if o.output_type in shown]


class Inspector:
    """A process that reads the programs of one submission, if a test asks for it.

    It lives in a jail as kernels do, and is none: nobody sends it a cell.
    """

    def __init__(self, kernel_name: str, config: Config) -> None:
        self.kernel_name, self.config = kernel_name, copy.deepcopy(config)
        # Programs are exported for a CPU, and chips are the students'.
        self.config.Sandbox.platform = "cpu"
        self.cells: Cells | None = None

    async def connection(self) -> socket.socket | None:
        """Start a new one; return the connection to it."""
        await self.close()
        self.cells = Cells(
            output=1000, kernel_name=self.kernel_name, config=self.config
        )
        ours, theirs = socket.socketpair()
        try:
            await self.cells.start_program("jaxgrader.grading.inspector", theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    async def close(self) -> None:
        """End it."""
        if self.cells is not None:
            await self.cells.close()
            self.cells = None


#: What the kernel runs while a test runs elsewhere.
SERVE = (
    "__import__('jaxgrader.grading.server', fromlist=['serve'])"
    ".serve(get_ipython().user_ns, {path!r})"
)
