"""The inspector: an isolated process that reads and runs a program of the student's.

What it is: the other end of `client.Inspector`, in a sandboxed kernel of its own that
runs no Python of a student's. A traced program is bytes that a student's process made:
a hole in the parser or the compiler that they find is a hole in this process, which
knows no test, no expected value, and ends with the submission. What it is not: the
checker, nor a judge.
"""

import socket
import sys
from typing import Any

from jaxgrader.errors import ProgramError
from jaxgrader.exports import LoadedProgram, load_program
from jaxgrader.grading import wire

#: Programs that are kept: a test works with one or two at a time.
KEPT = 4


def serve(connection: socket.socket) -> None:
    """Read and run programs until the checker closes the connection."""
    loaded: dict[bytes, LoadedProgram] = {}
    with connection:
        while True:
            try:
                kind, body = wire.receive(connection)
                reply = answer(kind, body, loaded)
                wire.send(connection, *reply)
            except wire.WireError:
                return


def answer(
    kind: str, body: dict[str, Any], loaded: dict[bytes, LoadedProgram]
) -> tuple[str, Any]:
    """Return what a program is made of, or what it gives for arrays.

    What was read is kept in `loaded`: a test reads a program, and runs it then.
    """
    data, args, kwargs = body["program"], body["args"], body["kwargs"]
    try:
        if kind == "read" or data not in loaded:
            program = load_program(data, args, kwargs)
            if len(loaded) >= KEPT:
                del loaded[next(iter(loaded))]
            loaded[data] = program
        if kind == "read":
            return "value", loaded[data].program.to_value()
        run = loaded[data].interpret if kind == "run" else loaded[data].run
        return "value", run(args, kwargs)
    except ProgramError as error:
        return "refused", str(error)


if __name__ == "__main__":  # at level none, which has no fork server
    serve(socket.socket(fileno=int(sys.argv[1])))
