"""Where a kernel and the grader connect: a Unix socket in the kernel's own folder.

What it is: both ends of that. A kernel connects to the grader, which listens; where a
kernel may not connect (level basic), it listens and the grader connects. What it is
not: a reader of what crosses.

Assumes nothing of the kernel: what lies at its path, and who listens there, is its own.
"""

import asyncio
import socket
from pathlib import Path
from typing import Any

#: Seconds between two attempts to connect, and until a kernel gives up to listen.
PERIOD, PATIENCE = 0.005, 30.0


class Meeting:
    """The grader's end."""

    def __init__(self, ours: Path, theirs: str, *, dial: bool) -> None:
        self.theirs = theirs
        self.back = Path(f"{ours}-back")
        self.listener: socket.socket | None = None
        if not dial:
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.bind(str(ours))
            ours.chmod(0o666)  # the kernel is another user; the folder is its own
            self.listener.listen(8)
            self.listener.setblocking(False)

    def close(self) -> None:
        """Stop listening."""
        if self.listener is not None:
            self.listener.close()

    async def connection(
        self, unless: asyncio.Future[Any] | None, seconds: float | None
    ) -> socket.socket | None:
        """Return the next connection; None if none comes, or `unless` ends before."""
        coming = asyncio.ensure_future(self.accept() if self.listener else self.dial())
        either: set[asyncio.Future[Any]] = {coming, *([unless] if unless else [])}
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            coming.cancel()
            return None
        connection: socket.socket = coming.result()
        connection.setblocking(True)
        return connection

    async def accept(self) -> socket.socket:
        assert self.listener is not None
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(self.listener)
        return connection

    async def dial(self) -> socket.socket:
        """Connect as soon as the kernel listens."""
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.setblocking(False)
            try:
                connection.connect(str(self.back))
                return connection
            except OSError:
                connection.close()
            await asyncio.sleep(PERIOD)


#: By path: sockets that this process listens on. The folder lets nobody remove one.
_listening: dict[str, socket.socket] = {}


def reach(path: str) -> socket.socket:
    """The kernel's end: connect to the grader. Raises OSError where nobody is."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
        return connection
    except PermissionError:
        connection.close()
    back = f"{path}-back"
    if back not in _listening:
        _listening[back] = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        _listening[back].bind(back)
        _listening[back].listen(1)
        _listening[back].settimeout(PATIENCE)
    connection, _ = _listening[back].accept()
    connection.setblocking(True)
    return connection
