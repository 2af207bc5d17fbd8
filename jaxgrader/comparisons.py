"""What a failed check compared, got and expected, as a record for the feedback.

What it is: a look at the arguments of the check that raised, where a test called one of
`CHECKS`. No message is parsed. What it is not: a verdict, which does not depend on it.

Guarantees: plain JSON of some kilobytes, whatever was compared; never an error. Assumes
that nobody but the instructor's code shares this process: numbers may be the student's.
"""

import inspect
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxgrader.trees import Leaf, apart, as_leaf, at, leaves, show


class Check(NamedTuple):
    """A function that compares, and what it calls the two."""

    module: str
    function: str
    actual: str
    expected: str


CHECKS = (
    Check("jaxgrader.testing", "assert_allclose", "actual", "expected"),
    *(
        Check("numpy.testing", f"assert_{name}", "actual", "desired")
        for name in (
            *("allclose", "array_equal", "equal"),
            *("array_almost_equal", "almost_equal"),
        )
    ),
)
#: Entries of an array in all, and rows of those that differ most.
MOST, ROWS = 200, 8
#: Entries of an array that is worth the time and the memory of a second look.
LARGEST = 1_000_000
#: Characters of a text.
LONGEST = 500


def compared_in(error: BaseException) -> dict[str, Any] | None:
    """Return what the check behind an error compared, None where none is known.

    note: the author's words for it.
    place: where in a tree of arrays the first difference is.
    got, expected: a shape and a dtype each, and the entries from `start` on, row by
        row, as text: `MOST` at most, the one that differs most among them.
    wrong, size: how many entries differ, of how many; None of the first where the
        shapes differ.
    rows: the entries that differ most, as (index, got, expected).
    """
    try:
        return _compared(error)
    except Exception:  # what was compared can be anything
        return None


def _compared(error: BaseException) -> dict[str, Any] | None:
    found = next(_frames(error, _codes()), None)
    if found is None:
        return None
    check, values = found
    numpy = check.module == "numpy.testing"
    both = values[check.actual], values[check.expected]
    # NumPy's checks take lists for arrays, ours for trees of them.
    actual, wanted = map(_as_array, both) if numpy else both
    for place, got, expected in _pairs(actual, wanted):
        if numpy and not expected.array.shape:
            # And a number for all entries.
            wide = np.broadcast_to(expected.array, got.array.shape)
            expected = Leaf(wide, expected.dtype, expected.platform)
        if record := _record(got, expected, *_tolerances(values, got, expected)):
            note = str(values.get("err_msg") or "")[:LONGEST]
            return {"note": note, "place": place[:LONGEST], **record}
    return None


def _codes() -> dict[CodeType, Check]:
    """Return the checks by their code; one that is not loaded has not raised."""
    return {
        inspect.unwrap(
            getattr(sys.modules[check.module], check.function)
        ).__code__: check
        for check in CHECKS
        if check.module in sys.modules
    }


def _frames(
    error: BaseException, codes: dict[CodeType, Check]
) -> Iterator[tuple[Check, dict[str, Any]]]:
    """Yield the checks on the way to an error, the test's own call first."""
    trace = error.__traceback__
    while trace is not None:
        frame: FrameType = trace.tb_frame
        if frame.f_code in codes:
            yield codes[frame.f_code], frame.f_locals
        trace = trace.tb_next


def _pairs(actual: Any, expected: Any) -> Iterator[tuple[str, Leaf, Leaf]]:
    """Yield arrays of numbers that stand at the same places of two trees."""
    theirs = {at(path): _numbers(value) for path, value in leaves(actual)}
    for path, value in leaves(expected):
        got, want = theirs.get(at(path)), _numbers(value)
        if got is not None and want is not None:
            yield at(path).removesuffix(": "), got, want


def _as_array(value: object) -> object:
    return np.asarray(value) if isinstance(value, list | tuple) else value


def _numbers(value: object) -> Leaf | None:
    leaf = as_leaf(value)
    if leaf is None or leaf.array.size > LARGEST:
        return None
    return leaf if leaf.array.dtype.kind in "biufc" or not leaf.exact else None


def _tolerances(values: dict[str, Any], got: Leaf, want: Leaf) -> tuple[float, float]:
    """Return what a check allows, relative and absolute."""
    if "decimal" in values:
        return 0.0, 1.5 * 10.0 ** -values["decimal"]
    rtol, atol = values.get("rtol", 0.0), values.get("atol", 0.0)
    if rtol is None or atol is None:
        # Loaded already: it is the module of the check.
        from jaxgrader.testing import tolerance_of

        chosen = tolerance_of(got, want)
        return (chosen if rtol is None else rtol), (chosen if atol is None else atol)
    return rtol, atol


def _record(got: Leaf, want: Leaf, rtol: float, atol: float) -> dict[str, Any] | None:
    """Return what differs between two arrays; None where nothing does."""
    if got.array.shape != want.array.shape:
        return {
            "got": _side(got, 0),
            "expected": _side(want, 0),
            **{"start": 0, "wrong": None, "size": want.array.size, "rows": []},
        }
    wrong, distance = (np.ravel(part) for part in apart(got, want, rtol, atol))
    if not wrong.any():
        return None
    order = np.argsort(-np.where(wrong, distance, -1.0), kind="stable")
    most = [int(n) for n in order[: min(ROWS, int(wrong.sum()))]]
    start = max(0, min(most[0] - MOST // 2, wrong.size - MOST))
    return {
        "got": _side(got, start),
        "expected": _side(want, start),
        "start": start,
        "wrong": int(wrong.sum()),
        "size": int(wrong.size),
        "rows": [_row(got.array, want.array, n) for n in most],
    }


def _side(leaf: Leaf, start: int) -> dict[str, Any]:
    numbers = leaf.array.reshape(-1)[start : start + MOST]
    return {
        "shape": [int(length) for length in leaf.array.shape],
        "dtype": "number" if leaf.dtype is None else str(leaf.dtype),
        "numbers": [_text(number) for number in numbers],
    }


def _row(got: Any, want: Any, number: int) -> tuple[str, str, str]:
    place = [int(n) for n in np.unravel_index(number, got.shape)]
    index = ", ".join(map(str, place))
    return index, _text(got.reshape(-1)[number]), _text(want.reshape(-1)[number])


def _text(number: Any) -> str:
    if jnp.issubdtype(number.dtype, jnp.bool_):
        return str(bool(number))
    return show(number)
