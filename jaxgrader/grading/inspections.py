"""The checker's end of an inspector: what becomes of a submission's traced programs.

What it is: it asks the inspector to read or run a program, and remembers its answers.
What it is not: a reader of programs; to this process they are bytes.

Guarantees: an answer is remembered for those who ask the same, and asked before
whatever else its inspector had been asked, if there was anything. Most of a class
traces to the same few programs, and asking again costs more than most tests. A program
that breaks into its inspector can then spoil the answers about itself, and about what
is traced beside it, but never those of a submission that does not trace it.
"""

import hashlib
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from jaxgrader.grading import wire

#: Seconds that the inspector may take for one program.
PATIENCE = 20.0
#: Answers that are remembered, and bytes that one may have.
ANSWERS, ANSWER_BYTES = 256, 1 << 16


class NoInspector(Exception):
    """The grader could not start an inspector: no fault of the student's."""

    outcome = "internal"


class Inspections:
    """Asks inspectors about programs: a fresh one for each submission that needs it."""

    def __init__(self, connect: Callable[[], socket.socket | None]) -> None:
        self.connect = connect
        self.inspector: socket.socket | None = None
        #: Digests of what this submission has asked, and of what it asked this
        #: inspector.
        self.asked: set[bytes] = set()
        self.given: set[bytes] = set()
        self.remembered: OrderedDict[bytes, tuple[bytes, bytes]] = OrderedDict()

    def close(self) -> None:
        """Let the submission's inspector go."""
        if self.inspector is not None:
            self.inspector.close()
            self.inspector = None
        self.asked.clear()
        self.given.clear()

    def ask(self, kind: str, body: dict[str, Any]) -> tuple[str, Any]:
        """Return the kind and the body of the inspector's answer.

        Raises:
            NoInspector: if there is none to have.
            WireError: if it ended, took too long, or did not answer in frames; or if
                the body cannot cross.
        """
        request = hashlib.sha256(b"".join(wire.encode(kind, body))).digest()
        self.asked.add(request)
        for together in ({request}, self.asked):
            key = key_of(request, together)
            if (answer := self.remembered.get(key)) is not None:
                self.remembered.move_to_end(key)
                return wire.decode(*answer)
        self.given.add(request)
        reading = kind == "read"
        key = key_of(request, {request} if self.given == {request} else self.asked)
        try:
            kind, value = self.exchange(kind, body)
        except wire.WireError:
            self.close()
            if kind != "run":
                raise
            # The interpreter may have given up, and its process with it.
            return self.ask("compile", body)
        if kind == "value" or reading:  # a program may fail to run for lack of memory
            self.remember(key, kind, value)
        return kind, value

    def exchange(self, kind: str, body: dict[str, Any]) -> tuple[str, Any]:
        if self.inspector is None:
            self.inspector = self.connect()
        if self.inspector is None:
            raise NoInspector(NO_INSPECTOR)
        deadline = time.monotonic() + PATIENCE
        wire.send(self.inspector, kind, body, deadline)
        return wire.receive(self.inspector, deadline)

    def remember(self, key: bytes, kind: str, value: Any) -> None:
        """Keep an answer as its frame, of which each reader gets a fresh copy."""
        head, payload = wire.split(b"".join(wire.encode(kind, value)))
        if len(head) + len(payload) <= ANSWER_BYTES:
            self.remembered[key] = head, payload
        if len(self.remembered) > ANSWERS:
            self.remembered.popitem(last=False)


def key_of(request: bytes, together: set[bytes]) -> bytes:
    """Return what an answer is remembered by: all that can have made it what it is."""
    return hashlib.sha256(b"".join([request, *sorted(together)])).digest()


NO_INSPECTOR = "the inspector, which reads traced programs, did not start"
