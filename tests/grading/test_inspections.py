"""What the checker remembers of inspectors' answers; real inspectors, in threads."""

import socket
import threading
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgrader import exports
from jaxgrader.grading import inspector, wire
from jaxgrader.grading.inspections import Inspections, NoInspector

X = np.arange(3, dtype=np.float32)


def body(factor: float, x: np.ndarray = X) -> dict[str, object]:
    program = exports.export_call(lambda x: [x * factor], (X,))
    return {"program": program, "args": (x,), "kwargs": {}}


class Inspectors:
    """Starts inspectors, and counts them."""

    def __init__(self) -> None:
        self.started: list[threading.Thread] = []
        self.sockets: list[socket.socket] = []

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        serving = threading.Thread(target=inspector.serve, args=[theirs])
        serving.start()
        self.started.append(serving)
        self.sockets.append(ours)
        return ours


@pytest.fixture
def inspectors() -> Iterator[Inspectors]:
    made = Inspectors()
    yield made
    for sock in made.sockets:
        sock.close()
    for thread in made.started:
        thread.join()


def test_an_answer_is_asked_for_once(inspectors: Inspectors) -> None:
    asking = Inspections(inspectors.connect)
    for _ in range(3):
        kind, [got] = asking.ask("run", body(2.0))
        assert kind == "value"
        np.testing.assert_array_equal(got, X * 2)
        asking.close()
    assert len(inspectors.started) == 1


def test_reading_running_and_other_arrays_are_asked_for(inspectors: Inspectors) -> None:
    asking = Inspections(inspectors.connect)
    _, read = asking.ask("read", body(2.0))
    assert read["operations"]["multiply"] == 1
    asking.close()
    for x in (X, X + 1):
        assert jnp.array_equal(asking.ask("run", body(2.0, x))[1][0], x * 2)
        asking.close()
    assert len(inspectors.started) == 3


def test_only_a_fresh_inspector_is_believed_for_others(inspectors: Inspectors) -> None:
    asking = Inspections(inspectors.connect)
    asking.ask("run", body(2.0))
    asking.ask("run", body(3.0))  # by then it could be anybody's
    asking.close()
    asking.ask("run", body(2.0))
    assert len(inspectors.started) == 1
    asking.close()
    asking.ask("run", body(3.0))
    assert len(inspectors.started) == 2


def test_who_traces_the_same_programs_needs_no_inspector(
    inspectors: Inspectors,
) -> None:
    """In whatever order: what could have spoiled an answer is what they ask, too."""
    asking = Inspections(inspectors.connect)
    for factor in (2.0, 3.0, 4.0):
        asking.ask("read", body(factor))
    asking.close()
    for factor in (2.0, 3.0, 4.0):
        asking.ask("read", body(factor))
    assert len(inspectors.started) == 1


@pytest.mark.parametrize("before", [[], [3.0], [3.0, 5.0], [4.0, 3.0]])
def test_what_a_liar_said_is_for_those_who_trace_it(
    inspectors: Inspectors, before: list[float]
) -> None:
    """A program that broke into its inspector says what it likes of later ones."""
    broken, honest = body(2.0)["program"], inspectors.connect

    def connect() -> socket.socket:
        ours, theirs = socket.socketpair()
        inspectors.sockets.append(ours)

        def attend() -> None:
            with theirs:
                lying = False
                while True:
                    try:
                        kind, request = wire.receive(theirs)
                    except wire.WireError:
                        return
                    lying = lying or request["program"] == broken
                    reply = inspector.answer(kind, request, {})
                    wire.send(theirs, *(("value", "a lie") if lying else reply))

        serving = threading.Thread(target=attend)
        serving.start()
        inspectors.started.append(serving)
        return ours

    asking = Inspections(connect)
    assert asking.ask("read", body(2.0)) == ("value", "a lie")
    for factor in (3.0, 4.0, 5.0):
        assert asking.ask("read", body(factor)) == ("value", "a lie")
    asking.close()
    asking.connect = honest
    for factor in [*before, 4.0]:
        assert asking.ask("read", body(factor))[1] != "a lie"


def test_a_program_spoils_no_answers_but_its_own(inspectors: Inspectors) -> None:
    asking = Inspections(inspectors.connect)
    asking.ask("read", body(2.0))
    asking.ask("run", body(2.0))  # of the same program: if it lies, then of itself
    asking.ask("run", body(2.0, X + 1))
    asking.close()
    asking.ask("read", body(2.0))
    asking.ask("run", body(2.0))
    asking.ask("run", body(2.0, X + 1))
    assert len(inspectors.started) == 1


def test_every_answer_is_a_fresh_copy(inspectors: Inspectors) -> None:
    asking = Inspections(inspectors.connect)
    _, first = asking.ask("run", body(2.0))
    first.clear()
    asking.close()
    assert len(asking.ask("run", body(2.0))[1]) == 1


def test_refusals_are_remembered_too(inspectors: Inspectors) -> None:
    asking = Inspections(inspectors.connect)
    for _ in range(2):
        kind, why = asking.ask("read", {**body(2.0), "program": b"nonsense"})
        assert kind == "refused"
        assert why
        asking.close()
    assert len(inspectors.started) == 1


@pytest.mark.parametrize(("kind", "dead"), [("read", 1), ("run", 2)])
def test_an_inspector_that_ends_is_replaced(
    inspectors: Inspectors, kind: str, dead: int
) -> None:
    left = list(range(dead))

    def connect() -> socket.socket:
        if not left:
            return inspectors.connect()
        left.pop()
        ours, theirs = socket.socketpair()
        theirs.close()
        return ours

    asking = Inspections(connect)
    with pytest.raises(wire.WireError):
        asking.ask(kind, body(2.0))
    assert asking.ask(kind, body(2.0))[0] == "value"


def test_what_ends_the_interpreter_is_compiled(inspectors: Inspectors) -> None:
    """An inspector that ends for a program is asked once more, without interpreter."""
    asked = []

    def connect() -> socket.socket:
        ours, theirs = socket.socketpair()
        inspectors.sockets.append(ours)

        def attend() -> None:
            with theirs:
                kind, request = wire.receive(theirs)
                asked.append(kind)
                if kind != "run":
                    wire.send(theirs, *inspector.answer(kind, request, {}))

        serving = threading.Thread(target=attend)
        serving.start()
        inspectors.started.append(serving)
        return ours

    kind, [got] = Inspections(connect).ask("run", body(2.0))
    assert kind == "value"
    np.testing.assert_array_equal(got, X * 2)
    assert asked == ["run", "compile"]


def test_no_inspector() -> None:
    with pytest.raises(NoInspector, match="did not start"):
        Inspections(lambda: None).ask("run", body(2.0))
