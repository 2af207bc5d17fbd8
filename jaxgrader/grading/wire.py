"""Values between the checker and a student's process, as frames of bytes.

What it is: a codec, and two functions that move its frames over a stream socket. Both
ends use it. What it is not: pickle. A frame names no class and no function, and holds
nothing to evaluate; reading one builds Python's own numbers, strings and containers,
NumPy arrays, and `jax.Array`s.

Guarantees: a malformed frame is a `WireError`, whatever its bytes are. Lengths, depth
and count are checked before memory is spent on them, and memory follows the bytes that
arrived, not those that were promised. A value arrives exactly as it was sent (floats to
the bit, dicts in order, arrays as fresh, native, writable copies), or was refused by
name.

Assumes: blocking sockets without a timeout of their own; one thread reads a socket, and
one writes it. After a WireError from `send` or `receive` (but Refused) the stream is
out of step: close it. What the machine lacks, memory or stack, is not the frame's
fault, and raises what Python raises.

Of JAX arrays, value, shape and dtype cross, and the weak type of scalars. Weak types of
larger arrays, shardings and devices do not: JAX offers no way to give them back.
"""

import functools
import math
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from jaxgrader.grading.codec import (
    BOUNDS,
    MAGIC,
    PREFIX,
    check_lengths,
    decode,
    encode,
    split,
)
from jaxgrader.grading.values import Bounds, Closed, Late, Refused, WireError

__all__ = [
    "Bounds",
    "Closed",
    "Late",
    "Refused",
    "WireError",
    "decode",
    "encode",
    "receive",
    "send",
    "split",
]

#: Bytes; what is set aside before the other end has shown that it sends that much.
_FIRST = 1 << 16


def send(
    sock: socket.socket,
    kind: str,
    body: Any,
    deadline: float | None = None,
    bounds: Bounds = BOUNDS,
) -> None:
    """Send one frame, by `deadline` on `time.monotonic()`'s clock.

    Raises:
        Refused: if `body` cannot cross; nothing was sent.
        Closed, Late: if the other end is gone, or does not read.
    """
    for part in encode(kind, body, bounds):
        _write(sock, memoryview(part), deadline)


def receive(
    sock: socket.socket, deadline: float | None = None, bounds: Bounds = BOUNDS
) -> tuple[str, Any]:
    """Receive one frame, by `deadline` on `time.monotonic()`'s clock.

    Raises:
        WireError: if what arrives is no frame.
        Closed, Late: if the other end is gone, or not done in time.
    """
    magic, header, payload = PREFIX.unpack(_read(sock, PREFIX.size, deadline))
    if magic != MAGIC:
        raise WireError(f"not a frame of this version: {magic!r}")
    check_lengths(header, payload, bounds)
    head = _read(sock, header, deadline)
    return decode(head, _read(sock, payload, deadline), bounds)


def _read(sock: socket.socket, count: int, deadline: float | None) -> bytearray:
    """Read exactly `count` bytes; the buffer grows as they come."""
    buffer, filled = bytearray(min(count, _FIRST)), 0
    while filled < count:
        if filled == len(buffer):
            buffer += bytes(min(count - filled, filled))
        with memoryview(buffer)[filled:] as view:
            move = functools.partial(sock.recv_into, view, 0, socket.MSG_DONTWAIT)
            got = _when_ready(sock, select.POLLIN, deadline, move)
        if got == 0:
            raise Closed(f"the other end is gone after {filled} of {count} bytes")
        filled += got
    return buffer


def _write(sock: socket.socket, part: memoryview, deadline: float | None) -> None:
    while part:
        move = functools.partial(sock.send, part, socket.MSG_DONTWAIT)
        part = part[_when_ready(sock, select.POLLOUT, deadline, move) :]


def _when_ready(
    sock: socket.socket, event: int, deadline: float | None, move: Callable[[], int]
) -> int:
    """Call `move` when the socket is ready; return the number of bytes it moved."""
    while True:
        _wait(sock, event, deadline)
        try:
            return move()
        except BlockingIOError:
            continue
        except OSError as error:
            raise Closed(f"the other end is gone: {error}") from error


def _wait(sock: socket.socket, event: int, deadline: float | None) -> None:
    """Wait until the socket is ready, or an hour at most."""
    if sock.fileno() < 0:
        raise Closed("this end was closed")
    left = 3600.0 if deadline is None else deadline - time.monotonic()
    if left <= 0:
        raise Late("the deadline passed")
    poll = select.poll()
    poll.register(sock, event)
    poll.poll(math.ceil(min(left, 3600) * 1000))
