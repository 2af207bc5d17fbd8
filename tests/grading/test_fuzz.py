"""Random values arrive as they were; random bytes are a WireError, and nothing else.

`make fuzz` looks further, guided by coverage: fuzz_wire.py.
"""

import json
import random
import resource
import socket
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgrader.grading import wire
from jaxgrader.grading.codec import MAGIC, PREFIX
from jaxgrader.grading.values import DTYPES, NAMES, WIDE
from tests.grading.frames import ODD, check_types, cross, mutate, same, seeds, split

MASS = 100_000

numbers = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**4096) + 1, 2**4096 - 1),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.complex_numbers(),
)
keys = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text()
)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Draw an array of any dtype, from any bytes that it can have."""
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    size = int(np.prod(shape, dtype=int))
    data = bytearray(draw(st.binary(min_size=(n := size * dtype.itemsize), max_size=n)))
    greatest = {"bool": 1, "int2": 3, "uint2": 3, "int4": 15, "uint4": 15}
    mask = greatest.get(NAMES[dtype], 15 if "float4" in NAMES[dtype] else 255)
    raw = np.frombuffer(bytes(byte & mask for byte in data), np.uint8)
    array = raw.view(dtype).reshape(shape)
    if draw(st.booleans()):
        return array
    with jax.enable_x64(NAMES[dtype] in WIDE):
        return jnp.asarray(array)


@st.composite
def bodies(draw: st.DrawFn) -> Any:
    """Draw anything that can cross."""
    leaves = numbers | st.text() | st.binary() | arrays()
    return draw(
        st.recursive(
            leaves,
            lambda items: (
                st.lists(items, max_size=4)
                | st.lists(items, max_size=4).map(tuple)
                | st.dictionaries(keys, items, max_size=4)
            ),
            max_leaves=12,
        )
    )


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(bodies())
def test_any_value_arrives_as_it_was(body: Any) -> None:
    assert same(cross(body), body)


nodes = st.recursive(
    st.sampled_from([odd for odd in ODD if not isinstance(odd, str | dict)])
    | st.sampled_from(sorted("tlducifnjskwb"))
    | st.sampled_from(sorted(DTYPES)),
    lambda items: st.lists(items, max_size=5),
    max_leaves=20,
)


@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(nodes, st.binary(max_size=40))
def test_any_structure_is_a_value_or_a_wire_error(node: Any, payload: bytes) -> None:
    header = json.dumps(["value", node]).encode()
    try:
        check_types(wire.decode(header, payload)[1])
    except wire.WireError:
        return


@pytest.fixture
def little_memory() -> Any:
    """Let this process grow by a gigabyte of address space, and no more."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("little_memory")
def test_a_hundred_thousand_broken_frames_are_wire_errors() -> None:
    rng = random.Random(4)  # noqa: S311 - no secret
    outcomes = {"value": 0, "refused": 0}
    for _ in range(MASS):
        data = mutate(rng)
        padded = data[: PREFIX.size].ljust(PREFIX.size, b"\0")
        header, payload = split(padded + data[PREFIX.size :])
        try:
            check_types(wire.decode(header, payload)[1])
            outcomes["value"] += 1
        except wire.WireError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > MASS / 2
    assert outcomes["value"] > MASS / 100


def test_broken_frames_through_a_socket_are_wire_errors() -> None:
    rng = random.Random(5)  # noqa: S311 - no secret
    for _ in range(3000):
        here, there = socket.socketpair()
        with here, there:
            there.sendall(mutate(rng))
            there.close()
            try:
                check_types(wire.receive(here, time.monotonic() + 60)[1])
            except wire.WireError:
                continue


def test_the_mutations_start_from_frames_that_are_whole() -> None:
    for data in seeds():
        assert data.startswith(MAGIC)
        check_types(wire.decode(*split(data))[1])
