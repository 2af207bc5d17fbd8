"""What a failed check compared: read from its arguments, whatever they are."""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgrader.comparisons import LARGEST, MOST, ROWS, compared_in
from jaxgrader.testing import assert_allclose


def comparing(check: Callable[..., None], *args: Any, **kwargs: Any) -> Any:
    with pytest.raises(AssertionError) as raised:
        check(*args, **kwargs)
    compared = compared_in(raised.value)
    assert json.loads(json.dumps(compared, allow_nan=False)) is not False
    return compared


def test_got_and_expected() -> None:
    found = comparing(
        np.testing.assert_allclose, np.array([1, 2.5, 3]), [1, 2, 3], err_msg="thrice"
    )
    assert found["note"] == "thrice"
    assert found["got"]["numbers"] == ["1", "2.5", "3"]
    assert found["expected"]["numbers"] == ["1", "2", "3"]
    assert found["rows"] == [("1", "2.5", "2")]
    assert (found["wrong"], found["size"]) == (1, 3)


def test_the_first_difference_of_a_tree() -> None:
    got = {"a": jnp.ones(3), "b": [jnp.zeros((2, 2)), 3]}
    want = {"a": np.ones(3), "b": [np.array([[0, 0], [0.5, 0]]), 3]}
    found = comparing(assert_allclose, got, want)
    assert found["place"] == "at ['b'][0]"
    assert found["rows"] == [("1, 0", "0", "0.5")]


@pytest.mark.parametrize("platform", ["numpy", "jax"])
def test_rounding_is_no_difference(platform: str) -> None:
    got = np.ones(4, np.float32) + np.array([1e-7, 1e-7, 1e-7, 1], np.float32)
    given = jnp.asarray(got) if platform == "jax" else got
    assert comparing(assert_allclose, given, np.ones(4, np.float32))["wrong"] == 1
    almost = np.testing.assert_array_almost_equal
    assert comparing(almost, given, np.ones(4))["wrong"] == 1


def test_shapes() -> None:
    found = comparing(np.testing.assert_allclose, np.ones((3, 1)), np.ones(2))
    assert found["wrong"] is None
    assert (found["got"]["shape"], found["expected"]["shape"]) == ([3, 1], [2])
    # NumPy's checks compare all entries with a number.
    found = comparing(np.testing.assert_allclose, np.ones((3, 1)), 0)
    assert (found["wrong"], found["expected"]["shape"]) == (3, [3, 1])


@pytest.mark.parametrize(
    ("got", "want", "texts"),
    [
        (jnp.array([jnp.nan], jnp.bfloat16), np.array([np.inf]), ["nan", "inf"]),
        (np.array([True]), np.array([False]), ["True", "False"]),
        (np.array([1 + 1j]), np.array([1 + 2j]), ["1+1j", "1+2j"]),
        (jax.random.key(1), jax.random.key(2), ["1", "2"]),
        (2, 3, ["2", "3"]),
    ],
)
def test_kinds_of_numbers(got: Any, want: Any, texts: list[str]) -> None:
    found = comparing(assert_allclose, got, want)
    assert [*found["rows"][0][1:]] == texts


def test_it_is_small_whatever_was_compared() -> None:
    got = np.zeros(LARGEST)
    got[-5] = 1e300
    found = comparing(np.testing.assert_allclose, got, np.full(LARGEST, 1e-3))
    assert len(found["rows"]) == ROWS
    assert found["rows"][0][0] == str(LARGEST - 5)
    assert len(found["got"]["numbers"]) == MOST
    at = LARGEST - 5 - found["start"]
    assert found["got"]["numbers"][at] == "1e+300"
    assert len(json.dumps(found)) < 8000
    assert comparing(np.testing.assert_allclose, np.zeros(LARGEST + 1), 1) is None


@pytest.mark.parametrize(
    ("check", "args"),
    [
        (assert_allclose, (None, np.ones(2))),
        (assert_allclose, ({"a": 1}, {"b": 1})),
        (np.testing.assert_equal, ("<script>", "b")),
        (np.testing.assert_array_equal, (np.array(["a"]), np.array(["b"]))),
        (np.testing.assert_array_equal, (np.array([object()]), np.array([1]))),
    ],
)
def test_nothing_is_made_up(check: Callable[..., None], args: Any) -> None:
    assert comparing(check, *args) is None


def test_other_errors_compare_nothing() -> None:
    assert compared_in(AssertionError("no traceback")) is None
    with pytest.raises(ZeroDivisionError) as raised:
        1 / 0  # noqa: B018
    assert compared_in(raised.value) is None
