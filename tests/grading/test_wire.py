"""Frames over real sockets, with an other end that does what it likes."""

import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgrader.grading import wire
from jaxgrader.grading.codec import MAGIC, PREFIX
from tests.grading.frames import frame, same

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Return the two ends of a wire."""
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def run(function: Callable[..., Any], *args: Any) -> threading.Thread:
    """Start a thread, the other end."""
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


def soon() -> float:
    """Return a deadline that passes while a test waits for it."""
    return time.monotonic() + 0.2


def test_frames_arrive_one_after_the_other(ends: Ends) -> None:
    here, there = ends
    bodies: list[Any] = [
        None,
        "a",
        {"x": jnp.arange(3), "y": (1, 2.5)},
        np.arange(10**6),
        [],
    ]

    def talk() -> None:
        for body in bodies:
            wire.send(there, "value", body)

    thread = run(talk)
    for body in bodies:
        kind, arrived = wire.receive(here, time.monotonic() + 60)
        assert kind == "value"
        assert same(arrived, body)
    thread.join()


def test_an_answer_comes_back_without_a_deadline(ends: Ends) -> None:
    here, there = ends
    thread = run(lambda: wire.send(there, "value", wire.receive(there)[1]))
    wire.send(here, "call", [1, np.ones(3)])
    assert same(wire.receive(here), ("value", [1, np.ones(3)]))
    thread.join()


def test_a_value_that_cannot_cross_leaves_the_stream_in_step(ends: Ends) -> None:
    here, there = ends
    with pytest.raises(wire.Refused):
        wire.send(there, "value", [b"x" * 10**5, object()])
    wire.send(there, "error", "it could not cross")
    assert wire.receive(here, soon()) == ("error", "it could not cross")


def test_silence_ends_at_the_deadline(ends: Ends) -> None:
    deadline = soon()
    with pytest.raises(wire.Late, match="the deadline passed"):
        wire.receive(ends[0], deadline)
    assert deadline <= time.monotonic() < deadline + 30


def test_a_deadline_in_the_past_is_late_even_if_all_is_there(ends: Ends) -> None:
    here, there = ends
    wire.send(there, "value", None)
    with pytest.raises(wire.Late):
        wire.receive(here, time.monotonic() - 1)


def test_a_trickle_does_not_pass_the_deadline(ends: Ends) -> None:
    here, there = ends
    data = PREFIX.pack(MAGIC, 1000, 200 << 20)

    def trickle() -> None:
        there.sendall(data)
        try:
            while True:
                there.send(b"x")
        except OSError:
            return

    thread = run(trickle)
    deadline = soon()
    with pytest.raises(wire.WireError):
        wire.receive(here, deadline, wire.Bounds(header=1 << 28))
    assert time.monotonic() < deadline + 30
    here.close()
    thread.join()


def test_a_trickle_of_few_bytes_is_late_too(ends: Ends) -> None:
    here, there = ends
    stop = threading.Event()

    def trickle() -> None:
        for byte in frame(b"x" * 10**5):
            if stop.wait(0.01):
                return
            there.send(bytes([byte]))

    thread = run(trickle)
    with pytest.raises(wire.Late):
        wire.receive(here, soon())
    stop.set()
    thread.join()


def test_a_frame_in_single_bytes_arrives(ends: Ends) -> None:
    here, there = ends
    thread = run(lambda: [there.send(bytes([byte])) for byte in frame({"a": [1.5]})])
    assert wire.receive(here, time.monotonic() + 60) == ("value", {"a": [1.5]})
    thread.join()


@pytest.mark.parametrize("count", [0, 1, 15, 16, 20, -1])
def test_an_end_midway_is_closed(ends: Ends, count: int) -> None:
    here, there = ends
    there.sendall(frame(np.arange(9))[:count])
    there.close()
    with pytest.raises(wire.Closed, match="the other end is gone"):
        wire.receive(here, time.monotonic() + 60)


def test_a_process_that_dies_midway_is_closed(ends: Ends) -> None:
    here, there = ends
    program = (
        "import os, sys; os.write(int(sys.argv[1]), b'JGW1' + bytes(3)); os.abort()"
    )
    fd = there.fileno()
    arguments = [sys.executable, "-c", program, str(fd)]
    with subprocess.Popen(arguments, pass_fds=[fd], stderr=subprocess.DEVNULL):
        there.close()
        with pytest.raises(wire.Closed):
            wire.receive(here, time.monotonic() + 60)


def test_a_reset_is_closed(ends: Ends) -> None:
    here, there = ends
    here.sendall(b"never read")
    there.close()
    with pytest.raises(wire.Closed, match="reset"):
        wire.receive(here)


def test_an_end_that_is_gone_takes_nothing(ends: Ends) -> None:
    here, there = ends
    there.close()
    with pytest.raises(wire.Closed):
        wire.send(here, "value", None)
    here.close()
    with pytest.raises(wire.Closed, match="this end was closed"):
        wire.receive(here)


def test_an_end_that_does_not_read_is_late(ends: Ends) -> None:
    with pytest.raises(wire.Late):
        wire.send(ends[0], "value", np.zeros(10**7), soon())


@pytest.mark.parametrize(
    ("header", "payload", "why"),
    [
        (2**32 - 1, 0, "a header of 4294967295 bytes"),
        (10, 2**64 - 1, "a payload of 18446744073709551615 bytes"),
        (10, 256 << 20, "a payload of 268435456 bytes"),
    ],
)
def test_too_long_a_frame_is_refused_at_its_prefix(
    ends: Ends, header: int, payload: int, why: str
) -> None:
    here, there = ends
    there.sendall(PREFIX.pack(MAGIC, header, payload))
    with pytest.raises(wire.WireError, match=why):
        wire.receive(here, time.monotonic() + 60)


def test_a_length_that_lies_takes_no_memory(ends: Ends) -> None:
    here, there = ends
    header = b'["value",["b",209715200]]'
    there.sendall(PREFIX.pack(MAGIC, len(header), 200 << 20) + header + b"x" * 1000)
    there.close()
    tracemalloc.start()
    try:
        with pytest.raises(wire.Closed, match="after 1000 of 209715200 bytes"):
            wire.receive(here)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"JGW2" * 16])
def test_what_is_no_frame_is_refused_at_its_first_bytes(
    ends: Ends, noise: bytes
) -> None:
    here, there = ends
    there.sendall(noise)
    with pytest.raises(wire.WireError, match="not a frame of this version"):
        wire.receive(here, time.monotonic() + 60)
