"""What the checks of `jaxgrader.testing` say is recognised, as they say it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgrader import testing
from jaxgrader.reporting.structure import (
    AS_ASKED,
    GROWS,
    NO_LOOP,
    NOT_REACHED,
    NOT_TRACED,
    OTHER,
    OVER_BATCH,
    UNROLLED,
    finding,
    judges_structure,
)
from jaxgrader.results import Outcome

X = jnp.ones(3)


def unrolled(turns: int, x: Any) -> Any:
    for _ in range(turns):
        x = jnp.tanh(x)
    return x


def over_samples(batch: Any) -> Any:
    return jnp.stack([jnp.tanh(sample) for sample in batch])


def over_samples_in_a_loop(batch: Any) -> Any:
    return jax.lax.map(jnp.tanh, batch)


def untraceable(turns: int, x: Any) -> Any:
    return np.asarray(x) * turns


def sizes(n: int) -> tuple[Any, ...]:
    return (n, X)


def batches(n: int) -> tuple[Any, ...]:
    return (jnp.ones((n, 3)),)


@pytest.mark.parametrize(
    ("check", "wanted"),
    [
        (lambda: testing.assert_no_unrolling(unrolled, sizes), UNROLLED),
        (
            lambda: testing.assert_no_unrolling(
                unrolled, sizes, name="T", err_msg="Use scan.\nPlease."
            ),
            UNROLLED,
        ),
        (lambda: testing.assert_loop(unrolled, 5, X, trip_count=5), NO_LOOP),
        (lambda: testing.assert_loop(unrolled, 5, X, containing="tanh"), NO_LOOP),
        (lambda: testing.assert_constant_trace(unrolled, sizes), GROWS),
        (lambda: testing.assert_vectorized(over_samples, batches), OVER_BATCH),
        (
            lambda: testing.assert_vectorized(over_samples_in_a_loop, batches),
            OVER_BATCH,
        ),
        (lambda: testing.assert_no_unrolling(untraceable, sizes), NOT_TRACED),
        (lambda: testing.assert_allclose(unrolled(2, X), X), OTHER),
    ],
)
def test_findings(check: Callable[[], None], wanted: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check()
    assert finding(Outcome.FAILED, f"AssertionError: {caught.value}") == wanted


def test_outcomes_decide_first() -> None:
    """A student's own message is an ERROR, whatever it says."""
    boast = "ValueError: the loop was unrolled in Python"
    assert finding(Outcome.ERROR, boast) == NOT_REACHED
    traced = "ProgramError: JAX cannot trace your function: it raises"
    assert finding(Outcome.ERROR, traced) == NOT_TRACED
    assert finding(Outcome.PASSED, traced) == AS_ASKED
    assert finding(Outcome.PASSED, boast) == AS_ASKED
    assert finding(Outcome.TIMEOUT, "") == NOT_REACHED


@pytest.mark.parametrize("name", ["assert_loop", "assert_vectorized"])
def test_tests_of_the_structure(name: str) -> None:
    assert judges_structure(f"if True:\n    {name}(f, 1)")
    assert judges_structure(f"import jaxgrader.testing as t\nt.{name}(f, 1)")
    assert not judges_structure(f"# {name}(f, 1)\nassert f(1) == '{name}(f)'")
    assert not judges_structure(f"%%time\n{name}(f, 1)")
    assert not judges_structure(None)
