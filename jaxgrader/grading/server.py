"""The student's end of the wire: serves calls to what the notebook has defined.

What it is: code that runs in the STUDENT's process, while a test runs elsewhere. What
it is not: trusted. Student code shares this process, and can replace all that stands
here; whatever leaves it is checked on the other side (`client.py`).

Guarantees nothing. Assumes that the trusted end listens on the socket that it is told.
"""

import builtins
import linecache
import os
import socket
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from jaxgrader.grading import wire
from jaxgrader.grading.meeting import reach

#: A connection that nobody takes means that the test asked for nothing.
Reply = tuple[str, Any]

#: Characters of an error's message, and lines of its traceback, that are told.
MESSAGE, FRAMES = 4000, 12


def serve(namespace: Mapping[str, Any], path: str) -> None:
    """Answer requests about `namespace` until the other end closes the connection."""
    with reach(path) as connection:
        while True:
            try:
                kind, body = wire.receive(connection)
            except wire.WireError:
                return
            reply = answer(namespace, kind, body)
            try:
                send(connection, reply)
            except wire.WireError:
                return


def send(connection: socket.socket, reply: Reply) -> None:
    """Send a reply; a value that cannot cross is a reply, too."""
    try:
        wire.send(connection, *reply)
    except wire.Refused as error:
        wire.send(connection, "refused", str(error))


def answer(namespace: Mapping[str, Any], kind: str, body: Any) -> Reply:
    """Do what a request asks for; what the student's code raises is an answer."""
    name = body["name"]
    if name not in namespace:
        return "missing", name
    try:
        if kind == "get":
            value = namespace[name]
            return ("callable", name) if callable(value) else ("value", value)
        function, args, kwargs = namespace[name], body["args"], body["kwargs"]
        if kind == "export":
            from jaxgrader import exports

            return "value", exports.export_call(function, args, kwargs)
        return "value", function(*args, **kwargs)
    except BaseException as error:
        return "error", describe(error)


def describe(error: BaseException) -> dict[str, Any]:
    """Return what is told of an error: its types, message and the student's lines."""
    kinds = [
        kind.__name__
        for kind in type(error).__mro__
        if getattr(builtins, kind.__name__, None) is kind
    ]
    try:
        message = str(error)[:MESSAGE]
    except Exception:
        message = "(its message cannot be shown)"
    return {
        "type": type(error).__name__[:200],
        "kinds": kinds,
        "message": message.encode(errors="replace").decode(),
        "lines": student_lines(error.__traceback__),
    }


def student_lines(trace: TracebackType | None) -> list[str]:
    """Return the lines of the student's cells and files that led to an error."""
    frames = traceback.extract_tb(trace)
    here = os.getcwd()
    lines = []
    for frame in frames:
        cell = os.path.basename(os.path.dirname(frame.filename)).startswith(
            "ipykernel_"
        )
        if cell or frame.filename.startswith(f"{here}/"):
            text = linecache.getline(frame.filename, frame.lineno or 0).strip()
            where = f"line {frame.lineno}, in {frame.name}"
            lines.append(f"{where}: {text}"[:300].encode(errors="replace").decode())
    return lines[-FRAMES:]
