"""Frames for the tests: values to send, and ways to break what was sent."""

import functools
import json
import random
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgrader.grading import wire
from jaxgrader.grading.codec import MAGIC, PREFIX
from jaxgrader.grading.values import DTYPES

#: What a decoded body is made of, exactly.
PLAIN = (type(None), bool, int, float, complex, str, bytes)


def frame(body: Any, kind: str = "value") -> bytes:
    """Return a frame in one piece."""
    return b"".join(wire.encode(kind, body))


def split(data: bytes) -> tuple[bytes, bytes]:
    """Return header and payload of a frame, as far as they are there."""
    _, length, _ = PREFIX.unpack(data[: PREFIX.size])
    rest = data[PREFIX.size :]
    return rest[:length], rest[length:]


def cross(body: Any) -> Any:
    """Return what arrives on the other end."""
    kind, arrived = wire.decode(*split(frame(body)))
    assert kind == "value"
    return arrived


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same: types, order, and every bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, jax.Array):
        weak = [getattr(array, "weak_type", None) for array in (one, other)]
        return weak[0] == weak[1] and same(bare(one), bare(other))
    if isinstance(one, np.ndarray | np.generic):
        form = (one.dtype, one.shape, one.tobytes())
        return form == (other.dtype, other.shape, other.tobytes())
    return (
        one == other if isinstance(one, str | bytes | int) else repr(one) == repr(other)
    )


def bare(array: jax.Array) -> np.ndarray[Any, Any]:
    """Return a JAX array's elements, or a key's words."""
    is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(array) if is_key else array)


def check_types(value: Any) -> None:
    """Fail on whatever is not of a type that the wire may build."""
    if type(value) in (tuple, list):
        for item in value:
            check_types(item)
    elif type(value) is dict:
        check_types([*value.keys(), *value.values()])
    elif type(value) is not np.ndarray and type(value) not in PLAIN:
        assert isinstance(value, jax.Array) or type(value) is value.dtype.type


@functools.cache
def seeds() -> list[bytes]:
    """Return valid frames with everything in them."""
    arrays = [np.arange(6).reshape(2, 3).astype(dtype) for dtype in DTYPES.values()]
    bodies = [
        None,
        [True, -1, 2**80, 0.5, float("nan"), -0.0, 1j, "ä", b"\0", (), {}],
        {"a": [1, (2.5, None)], 3: "b", 0.5: {"c": []}, None: False},
        {"name": "f", "args": (jnp.arange(3), jnp.asarray(2.0)), "kwargs": {"n": 3}},
        [jax.random.key(0), jax.random.split(jax.random.key(0, impl="rbg"), 2)],
        [np.float32(1.5), np.int8(-3), np.zeros((0, 3)), np.array(3)],
        [[[[[[[["deep"]]]]]]]],
        *arrays,
        *[jnp.asarray(array) for array in arrays[:4]],
    ]
    return [frame(body) for body in bodies]


#: What an edited header gets in the place of something else.
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 255, 2**31, 2**63, 10**19, 10**30, 0.5, 1e300),
    *("", "n", "j", "k", "s", "w", "c", "d", "t", "l", "u", "b", "i", "f", "object"),
    *("float32", "bool", "int4", "rbg", "ffffffffffffffff", "-0", "[[", "}", "\udc80"),
    *([], [[]], ["t"], ["d", 1], ["n", "float32", [0, 2**40]], ["n", "bool", [1]]),
    *(["s", "int2"], ["w", "float32"], ["k", "rbg", [0]], ["j", "int64", []], {"a": 1}),
]


def mutate(rng: random.Random) -> bytes:
    """Return a broken frame, or sometimes one that is still whole."""
    data = rng.choice(seeds())
    ways = _ROUGH if rng.random() < 0.4 else _GENTLE
    for _ in range(rng.randint(1, 3)):
        data = rng.choice(ways)(rng, data)
    return data


def grow(data: bytes) -> bytes:
    """Return the frame that these bytes describe: a tree of odd things, a payload."""
    lists: list[list[Any]] = [["value"]]
    rest = iter(data)
    for byte in rest:
        if byte == 255:
            lists.append([])
        elif byte == 254 and len(lists) > 1:
            lists[-2].append(lists.pop())
        elif byte == 254:
            break
        else:
            lists[-1].append(ODD[byte % len(ODD)])
    while len(lists) > 1:
        lists[-2].append(lists.pop())
    return _join(lists[0], bytes(rest))


def _join(tree: Any, payload: bytes) -> bytes:
    """Return a frame whose lengths are true."""
    header = json.dumps(tree).encode()
    return PREFIX.pack(MAGIC, len(header), len(payload)) + header + payload


def _flip(rng: random.Random, data: bytes) -> bytes:
    broken = bytearray(data)
    for _ in range(rng.randint(1, 4) if data else 0):
        broken[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(broken)


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randint(0, len(data))]


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.randbytes(rng.randint(1, 8)) + data[at:]


def _splice(rng: random.Random, data: bytes) -> bytes:
    return _cut(rng, data) + rng.choice(seeds())[rng.randint(0, 40) :]


def _noise(rng: random.Random, data: bytes) -> bytes:
    return rng.randbytes(rng.randint(0, 200))


def _edit(rng: random.Random, data: bytes) -> bytes:
    """Put something odd somewhere into the header, and keep the lengths true."""
    try:
        header, payload = split(data)
        tree = json.loads(header)
    except Exception:
        return data
    body = (
        isinstance(tree, list)
        and tree
        and isinstance(tree[-1], list)
        and rng.random() < 0.9
    )
    _replace(rng, tree[-1] if body else tree)
    return _join(tree, payload)


def _repay(rng: random.Random, data: bytes) -> bytes:
    """Change the payload, and keep the lengths true."""
    header, payload = split(data)
    payload = rng.choice([_flip, _cut, _insert, _flip])(rng, payload)
    return PREFIX.pack(MAGIC, len(header), len(payload)) + header + payload


def _replace(rng: random.Random, tree: Any) -> None:
    while isinstance(tree, list) and tree:
        at = rng.randrange(len(tree))
        if not isinstance(tree[at], list) or not tree[at] or rng.random() < 0.3:
            tree[at : at + rng.randint(0, 1)] = [rng.choice(ODD)] * rng.randint(0, 2)
            return
        tree = tree[at]


_GENTLE: list[Callable[[random.Random, bytes], bytes]] = [_edit, _edit, _repay]
_ROUGH: list[Callable[[random.Random, bytes], bytes]]
_ROUGH = [_flip, _cut, _insert, _splice, _noise, _edit]
