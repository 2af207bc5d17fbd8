"""Compare trees of arrays, and say everything that differs.

A tree is a number, a NumPy or JAX array, or a tuple, list or dict of trees. Types are
compared exactly: a subclass can claim to equal anything, so it is no array here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

#: A place in a tree, as jax.tree_util.keystr shows it.
Path = tuple[Any, ...]

#: How many entries of a leaf, and how many complaints in all, a message shows.
MAX_ROWS = 8
MAX_COMPLAINTS = 8


@dataclass(frozen=True)
class Leaf:
    """A number or an array.

    array: its numbers; those of a PRNG key are its data.
    dtype: as the person who wrote the value sees it; None for a Python number.
    platform: where it lies, such as "cpu".
    """

    array: np.ndarray[Any, Any]
    dtype: Any
    platform: str

    @property
    def exact(self) -> bool:
        """Are these integers, booleans or keys, which are equal or not?"""
        return not jnp.issubdtype(self.array.dtype, jnp.inexact)


def as_leaf(value: Any) -> Leaf | None:
    """Return what a number or an array holds; None for any other object."""
    kind = type(value)
    if kind in (bool, int, float, complex):
        return Leaf(np.asarray(value), None, "cpu")
    if kind is np.ndarray or kind in _numpy_scalars():
        return (
            None
            if value.dtype.hasobject
            else Leaf(np.asarray(value), value.dtype, "cpu")
        )
    if kind is _array_type():
        return Leaf(np.asarray(value), value.dtype, _platform(value))
    if kind is _key_type():
        data = jax.random.key_data(value)
        return Leaf(np.asarray(data), value.dtype, _platform(data))
    return None


def _platform(array: jax.Array) -> str:
    return str(next(iter(array.devices())).platform)


@cache
def _array_type() -> type:
    return type(jnp.zeros(()))


@cache
def _key_type() -> type:
    return type(jax.random.key(0))


@cache
def _numpy_scalars() -> frozenset[type]:
    extended = (jnp.bfloat16, jnp.float8_e4m3fn, jnp.float8_e5m2, jnp.int4, jnp.uint4)
    return frozenset([*np.sctypeDict.values(), *(np.dtype(t).type for t in extended)])


def is_container(value: object) -> bool:
    return type(value) in (tuple, list, dict)


def children(value: Any) -> dict[Any, Any]:
    """Return the parts of a tuple, list or dict, by index or key."""
    return value if type(value) is dict else dict(enumerate(value))


def step_into(path: Path, parent: object, key: Any) -> Path:
    """Return the path of a part."""
    dictionary = type(parent) is dict
    entry = jax.tree_util.DictKey(key) if dictionary else jax.tree_util.SequenceKey(key)
    return (*path, entry)


def at(path: Path) -> str:
    """Name a place in a complaint."""
    return f"at {jax.tree_util.keystr(path)}: " if path else ""


def describe(value: object) -> str:
    """Say what a value is, without asking it."""
    if is_container(value):
        count = len(value)  # type: ignore[arg-type]
        return f"a {type(value).__name__} of {count}"
    if value is None:
        return "None"
    leaf = as_leaf(value)
    if leaf is None or leaf.dtype is None:
        return f"a {type(value).__name__}"
    return f"an array of shape {leaf.array.shape} and dtype {leaf.dtype}"


def leaves(
    tree: object,
    path: Path = (),
    *,
    is_leaf: Callable[[object], bool] = lambda value: False,
) -> Iterator[tuple[Path, object]]:
    """Yield all that is in a tree and is no container, or a leaf, with its path."""
    if is_container(tree) and not is_leaf(tree):
        for key, value in children(tree).items():
            yield from leaves(value, step_into(path, tree, key), is_leaf=is_leaf)
    elif tree is not None:
        yield path, tree


def each_leaf(tree: object, complain: Callable[[Leaf], str | None]) -> Iterator[str]:
    """Yield the complaints about the leaves of a tree, foreign objects among them."""
    for path, value in leaves(tree):
        leaf = as_leaf(value)
        complaint = _foreign(value) if leaf is None else complain(leaf)
        if complaint:
            yield at(path) + complaint


def each_pair(
    actual: object,
    expected: object,
    complain: Callable[[Any, Any], str | None],
    is_leaf: Callable[[object], bool],
    path: Path = (),
) -> Iterator[str]:
    """Yield the complaints about two trees: their structures, then leaf by leaf.

    expected: a tree of whatever `is_leaf` says is a leaf, as a dtype or a shape.
    """
    if is_leaf(expected):
        leaf = as_leaf(actual)
        foreign = _foreign(actual) if leaf is None else complain(leaf, expected)
        yield from [at(path) + foreign] if foreign else []
    elif expected is None or type(actual) is not type(expected):
        if actual is not None or expected is not None:
            yield f"{at(path)}is {describe(actual)}, expected {describe(expected)}"
    else:
        mine, theirs = children(actual), children(expected)
        yield from _structure(path, mine, theirs)
        for key in theirs:
            if key in mine:
                inner = step_into(path, expected, key)
                yield from each_pair(mine[key], theirs[key], complain, is_leaf, inner)


def _structure(path: Path, mine: Any, theirs: Any) -> Iterator[str]:
    missing = [repr(key) for key in theirs if key not in mine]
    extra = [repr(key) for key in mine if key not in theirs]
    if missing:
        yield f"{at(path)}lacks {', '.join(missing)}"
    if extra:
        yield f"{at(path)}has {', '.join(extra)} which should not be there"


def _foreign(value: object) -> str:
    if isinstance(value, jax.core.Tracer):
        return "is an array that JAX is still tracing: call this outside of jax.jit"
    return f"is {describe(value)}, expected an array"


# Numbers.


def compare(actual: Leaf, expected: Leaf, rtol: float, atol: float) -> str | None:
    """Complain about numbers that differ by more than atol + rtol * |expected|."""
    got, want = actual.array, expected.array
    if got.shape != want.shape:
        return f"has shape {got.shape}, expected {want.shape}"
    wrong, distance = apart(actual, expected, rtol, atol)
    within = f"tolerance {atol:g} + {rtol:g} * |expected|"
    if actual.exact and expected.exact:
        within = "these must be equal"
    if not wrong.any():
        return None
    title = f"{wrong.sum()} of {wrong.size} numbers differ ({within})"
    return "\n".join([title, *_rows(got, want, wrong, distance)])


def apart(actual: Leaf, expected: Leaf, rtol: float, atol: float) -> tuple[Any, Any]:
    """Return which entries differ, and how far all of them are apart.

    Both have the same shape.
    """
    if actual.exact and expected.exact:
        return _apart_exactly(actual.array, expected.array)
    return _apart(actual.array, expected.array, rtol, atol)


def _apart_exactly(got: Any, want: Any) -> tuple[Any, Any]:
    """Compare integers of any width without rounding them."""
    if got.dtype == want.dtype and np.array_equal(got, want):
        return np.zeros(got.shape, bool), np.zeros(got.shape)
    a, b = got.astype(object), want.astype(object)
    distance = np.asarray(abs(a * 1 - b * 1), object)
    return np.asarray(distance != 0, bool), distance.astype(np.float64)


def _apart(got: Any, want: Any, rtol: float, atol: float) -> tuple[Any, Any]:
    a, b = _wide(got), _wide(want)
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        distance = np.where(same, 0.0, np.abs(a - b))
        close = distance <= atol + rtol * np.abs(b)
        close &= np.isfinite(a) & np.isfinite(b)
    return ~(same | close), np.where(np.isnan(distance), np.inf, distance)


def _wide(array: Any) -> Any:
    complex_ = jnp.issubdtype(array.dtype, jnp.complexfloating)
    return array.astype(np.complex128 if complex_ else np.float64)


def _rows(got: Any, want: Any, wrong: Any, distance: Any) -> Iterator[str]:
    """Show the entries that differ most, in columns."""
    places = np.argwhere(wrong)
    order = np.argsort(-distance[wrong], kind="stable")
    rows = [("index", "got", "expected", "|difference|")]
    for place in places[order[:MAX_ROWS]]:
        i = tuple(int(n) for n in place)
        index = "[" + ", ".join(map(str, i)) + "]" if i else "-"
        rows.append((index, show(got[i]), show(want[i]), f"{distance[i]:.3g}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(f"{t:>{w}}" for t, w in zip(row, widths, strict=True))
    if len(places) > MAX_ROWS:
        yield f"  and {len(places) - MAX_ROWS} more"


def show(number: Any) -> str:
    """Write a number in as many digits as a person compares."""
    if jnp.issubdtype(number.dtype, jnp.complexfloating):
        return f"{complex(number):.7g}"
    if jnp.issubdtype(number.dtype, jnp.inexact):
        return f"{float(number):.7g}"
    return str(number.item() if number.dtype.kind in "biu" else int(number))


def report(complaints: Iterator[str], err_msg: str) -> None:
    """Raise AssertionError if there are complaints, err_msg first."""
    found = list(complaints)
    if not found:
        return
    shown = found[:MAX_COMPLAINTS]
    if len(found) > MAX_COMPLAINTS:
        shown.append(f"and {len(found) - MAX_COMPLAINTS} more places")
    raise AssertionError("\n".join([err_msg, *shown] if err_msg else shown))
