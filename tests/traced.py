"""Programs that tests look at, and the StableHLO of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from demo.students import NOTEBOOKS, variant


def stablehlo(fn: Callable[..., Any], *args: Any) -> str:
    """Return what JAX traces for fn with these arrays."""
    return jax.jit(fn).lower(*args).as_text()


def text(main: str, *functions: str, of: str = "%x: tensor<4xf32>") -> str:
    """Write a module by hand: a main that returns one tensor<4xf32>."""
    head = f"func.func public @main({of}) -> tensor<4xf32>"
    return "\n".join(["module {", f"{head} {{ {main} }}", *functions, "}"])


def answer(assignment: str, name: str) -> Callable[..., Any]:
    """Return the function that a variant defines."""
    names: dict[str, Any] = dict(jax=jax, jnp=jnp, np=np, nnx=nnx, nn=nn)
    names["__name__"] = "__main__"  # as in a notebook
    code = compile(variant(assignment, name)[1], f"{name}.py", "exec")
    exec(code, names)  # noqa: S102  # variants are ours
    function: Callable[..., Any] = names[NOTEBOOKS[assignment]]
    return function


def power_loop(x: Any, turns: Any) -> Any:
    """Compute tanh, turns times, in a loop that JAX sees."""
    return jax.lax.fori_loop(0, turns, lambda _, h: jnp.tanh(h), x)


def power_unrolled(x: Any, turns: int) -> Any:
    """Compute tanh, turns times, in a loop that only Python sees."""
    for _ in range(turns):
        x = jnp.tanh(x)
    return x


#: A vector of four numbers.
X = np.array([0.5, -1.0, 0.25, 2.0], np.float32)


def unused(x: Any, turns: int) -> Any:
    """A decoy: a loop of which nobody uses the outcome."""
    power_loop(x, turns)
    return power_unrolled(x, turns)


def times_zero(x: Any, turns: int) -> Any:
    """A decoy: a loop of which the outcome is added, times zero."""
    return power_unrolled(x, turns) + 0.0 * power_loop(x, turns)


def spare_carry(x: Any, turns: int) -> Any:
    """A decoy: a busy loop that returns the unrolled answer that it was given."""

    def turn(_: int, carry: Any) -> Any:
        kept, busy = carry
        return kept, jnp.tanh(busy)

    return jax.lax.fori_loop(0, turns, turn, (power_unrolled(x, turns), x))[0]
