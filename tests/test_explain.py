"""Why JAX could not trace a function."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgrader.errors import ProgramError
from jaxgrader.exports import export_call
from tests.traced import X


def to_numpy(x: Any) -> Any:
    return jnp.asarray(np.tanh(x))


def asks_an_array(x: Any) -> Any:
    if x[0] > 0:
        return x
    return -x


def counts_by_an_array(x: Any) -> Any:
    return [x, -x][x[0].astype(int)]


def wants_a_number(x: Any) -> Any:
    return int(x[0]) * x


def masks(x: Any) -> Any:
    return x[x > 0]


def never_ends(x: Any) -> Any:
    return never_ends(x + 1)


def multiplies_what_does_not_fit(x: Any) -> Any:
    return x @ jnp.ones(9)


def says_nothing(x: Any) -> Any:
    raise KeyError


@pytest.mark.parametrize(
    ("fn", "line", "remedy"),
    [
        (to_numpy, "return jnp.asarray(np.tanh(x))", "Use jnp instead of np"),
        (asks_an_array, "if x[0] > 0:", "Use jnp.where, jax.lax.cond"),
        (counts_by_an_array, "[x[0].astype(int)]", "Use jax.lax loops"),
        (wants_a_number, "return int(x[0]) * x", "Keep it an array"),
        (masks, "return x[x > 0]", "Use jnp.where with three arguments"),
        (never_ends, "return never_ends(x + 1)", "calls itself without an end"),
        (
            multiplies_what_does_not_fit,
            "return x @ jnp.ones(9)",
            "raises TypeError: dot",
        ),
        (says_nothing, "raise KeyError", "raises KeyError"),
    ],
)
def test_says_where_and_what_to_do(
    fn: Callable[[Any], Any], line: str, remedy: str
) -> None:
    with pytest.raises(ProgramError) as raised:
        export_call(fn, (X,))
    message = str(raised.value)
    number = fn.__code__.co_firstlineno
    assert message.startswith("JAX cannot trace your function: line ")
    assert int(message.split("line ")[1].split(" ")[0]) in range(number, number + 9)
    assert f"in `{fn.__name__}`" in message
    assert line in message
    assert remedy in message
    assert "\n" not in message
    assert len(message) < 500


def test_an_array_that_is_stored_in_a_loop() -> None:
    kept = []

    def stores(x: Any) -> Any:
        def body(_: int, h: Any) -> Any:
            kept.append(jnp.tanh(h))
            return kept[-1]

        jax.lax.fori_loop(0, 3, body, x)
        return kept[-1] + x

    with pytest.raises(ProgramError, match="return what a loop computes"):
        export_call(stores, (X,))


def test_code_without_a_file_has_a_line_number_all_the_same() -> None:
    names: dict[str, Any] = {}
    exec("def f(x):\n    return float(x[0])", names)  # noqa: S102
    with pytest.raises(ProgramError, match="line 2 in `f` needs the value"):
        export_call(names["f"], (X,))


def test_a_function_of_a_package_has_no_line_to_mend() -> None:
    with pytest.raises(ProgramError, match="your function: it raises TypeError"):
        export_call(jnp.tanh, (X, X))
