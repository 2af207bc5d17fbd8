"""What client, fork server and guard say to each other: JSON, length first.

What it is: the control connection of one kernel, a Unix stream socket between two ends
that trust each other. What it is not: a way for student code to reach the client; the
kernel's process closes its end before it serves anything.
"""

import array
import json
import socket
import struct
from typing import Any

Message = dict[str, Any]
_LENGTH = struct.Struct("!I")
#: Bytes; a request is a few kilobytes.
LONGEST = 1 << 20
#: File descriptors that a request may bring along.
DESCRIPTORS = 4


def encode(message: Message) -> bytes:
    """Return the bytes of `message` on the wire."""
    text = json.dumps(message).encode()
    return _LENGTH.pack(len(text)) + text


def send(connection: socket.socket, message: Message) -> None:
    """Send one message; raise OSError where the other end is gone."""
    connection.sendall(encode(message))


def send_request(
    connection: socket.socket, message: Message, descriptors: list[int]
) -> None:
    """Send the first message of a connection, with open files."""
    head, text = encode(message)[: _LENGTH.size], encode(message)[_LENGTH.size :]
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    connection.sendmsg([head], [rights] if descriptors else [])
    connection.sendall(text)


def receive_request(connection: socket.socket) -> tuple[Message, list[int]]:
    """Receive what `send_request` sent.

    Raises:
        EOFError: if the client closes the connection before that.
    """
    head, descriptors, _, _ = socket.recv_fds(connection, _LENGTH.size, DESCRIPTORS)
    message = _read_rest(connection, head)
    if message is None:
        raise EOFError("the client closed the connection before its request")
    return message, descriptors


def receive(connection: socket.socket) -> Message | None:
    """Receive one message; None where the other end is gone."""
    try:
        return _read_rest(connection, b"")
    except ConnectionError:
        return None


def _read_rest(connection: socket.socket, head: bytes) -> Message | None:
    head += _read(connection, _LENGTH.size - len(head))
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > LONGEST:
        raise ValueError(f"a control message of {length} bytes")
    text = _read(connection, length)
    message: Message | None = json.loads(text) if len(text) == length else None
    return message


def _read(connection: socket.socket, count: int) -> bytes:
    """Read `count` bytes, fewer at the end of the stream."""
    parts = b""
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            break
        parts += part
    return parts
