"""What may cross the wire, how much of it, and what is said of the rest.

Importing this starts no XLA backend: a fork server may have it loaded.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Bounds:
    """What one frame may hold; checked before anything is allocated."""

    #: Bytes of it, all in all.
    frame: int = 256 << 20
    #: Bytes of its header.
    header: int = 4 << 20
    #: Containers within containers.
    depth: int = 32
    #: Values in it; containers and keys of dicts count, and JAX arrays for sixteen.
    leaves: int = 100_000


class WireError(Exception):
    """A malformed frame, or a broken stream: its text says what."""


class Closed(WireError):
    """The other end is gone."""


class Late(WireError):
    """The deadline passed."""


class Refused(WireError):
    """A value that cannot cross, found by the end that has it.

    Attributes:
        path: where it is in the body, as in ``[0]['w']``; empty for the body itself.
        kind: what it is, in a word or two: the name of its type, mostly.
        why: the sentence, without the path.
    """

    def __init__(self, path: str, kind: str, why: str) -> None:
        super().__init__(f"result{path}: {why}")
        self.path, self.kind, self.why = path, kind, why


#: Dimensions of an array.
DIMENSIONS = 32
#: For how many values a JAX array counts: so much longer it takes to make.
JAX_LEAVES = 16
#: Bits of an int.
INT_BITS = 4096
_INTS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (2, 4, 8, 16, 32, 64)]
_FLOATS = ["float4_e2m1fn", "bfloat16", "float16", "float32", "float64"]
_FLOATS_8 = ["e3m4", "e4m3", "e4m3b11fnuz", "e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz"]
_FLOATS += [f"float8_{layout}" for layout in (*_FLOATS_8, "e8m0fnu")]
#: Every dtype of which JAX makes arrays, where this JAX knows it.
DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(getattr(jnp, name))
    for name in ("bool", *_INTS, *_FLOATS, "complex64", "complex128")
    if hasattr(jnp, name)
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
#: Of these JAX makes arrays only while jax_enable_x64 is set.
WIDE = {"int64", "uint64", "float64", "complex128"}
#: What a Python number becomes, in JAX: such a scalar can be weakly typed.
WEAK = {"int32", "int64", "float32", "float64", "complex64", "complex128"}
#: JAX's own kinds of PRNG keys, and how many words a key has.
KEYS = {"threefry2x32": 2, "rbg": 4, "unsafe_rbg": 4}
#: The greatest byte of the dtypes that do not use all eight bits.
_GREATEST = {"bool": 1, "int2": 3, "uint2": 3, "int4": 15, "uint4": 15}
_GREATEST |= {"float4_e2m1fn": 15}


def extent(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """Return what an array takes in bytes; if it has no elements, what it might.

    A sum over the first axis of an array of shape (0, 2**40) is not free.
    """
    return math.prod(length or 1 for length in shape) * dtype.itemsize


def has_odd_bytes(data: np.ndarray[Any, Any], name: str) -> bool:
    """Tell whether a byte stands for no value of the dtype."""
    return name in _GREATEST and data.size > 0 and int(data.max()) > _GREATEST[name]


def describe(value: Any) -> tuple[str, str]:
    """Return the kind of a value that cannot cross, and what to return instead."""
    kind = shorten(type(value).__name__, 60)
    return kind, f"{with_article(kind)} cannot cross; {_advice(value)}"


def with_article(kind: str) -> str:
    """Return "a Foo" or "an array"."""
    return f"{'an' if kind[:1] in 'aeiouAEIOU' else 'a'} {kind}"


def shorten(text: str, length: int) -> str:
    """Return text that fits into a message, and that any stream can print."""
    safe = text.encode("utf-8", "backslashreplace").decode()
    return safe if len(safe) <= length else f"{safe[: length - 1]}…"


def _advice(value: Any) -> str:
    bases = type(value).__mro__
    flax = {base.__name__ for base in bases if base.__module__.startswith("flax.nnx")}
    for name, advice in _OF_FLAX.items():
        if name in flax:
            return advice
    for base, advice in _OF_TYPES:
        if isinstance(value, base):
            return advice
    return RETURN


RETURN = "return arrays, numbers, strings, None, or tuples, lists and dicts of them"
OTHER_DTYPE = "return one of a dtype that JAX has"
TRACED = (
    "a traced value cannot cross: "
    "do not call the remote function under jit, vmap or grad"
)
DELETED = "an array that was deleted cannot cross: was its buffer donated to a jit?"
#: Flax is not imported for this: whoever has such a value has it already.
_OF_FLAX = {
    "Variable": "return variable[...]",
    "State": "return nnx.to_pure_dict(state)",
    "Module": "return nnx.to_pure_dict(nnx.state(module))",
}
#: The first that fits.
_OF_TYPES: tuple[tuple[type, str], ...] = (
    (np.ma.MaskedArray, "return its filled()"),
    (np.ndarray, "return numpy.asarray(...) of it"),
    (int, "return int(...) of it"),
    (float, "return float(...) of it"),
    (complex, "return complex(...) of it"),
    (str, "return str(...) of it"),
    (tuple, "return tuple(...) of it"),
    (list, "return list(...) of it"),
    (Mapping, "return dict(...) of it"),
    (set, "return sorted(...) of it"),
    (frozenset, "return sorted(...) of it"),
    (np.generic, "return a number"),
)
