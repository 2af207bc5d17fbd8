"""Small programs without a compiler: the same values as XLA's, or no values at all."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxgrader import interpreter
from jaxgrader.exports import LoadedProgram, export_call, load_program

X = np.linspace(-0.9, 0.9, 12, dtype=np.float32).reshape(3, 4)
WHOLE = np.arange(-3, 3, dtype=np.int32)
KEY = np.array([1, 2], np.uint32)


def loaded(fn: Callable[..., Any], *args: Any) -> LoadedProgram:
    return load_program(export_call(fn, args), args)


def interpreted(fn: Callable[..., Any], *args: Any) -> Any:
    program = loaded(fn, *args)
    return interpreter.interpret(program.module, program.program, args)


def windows(x: Any) -> Any:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 2), (1, 1), "VALID")


def block(x: Any) -> Any:
    rngs = nnx.Rngs(0)
    return nnx.relu(nnx.LayerNorm(4, rngs=rngs)(nnx.Linear(4, 4, rngs=rngs)(x)))


SAME: dict[str, tuple[Callable[..., Any], Any]] = {
    "element by element": (lambda x: jnp.tanh(x) * jnp.exp(x) - jnp.abs(x) / 3, X),
    "special functions": (lambda x: jax.nn.gelu(x) + jax.lax.erf_inv(x), X),
    "comparisons": (lambda x: jnp.where(x > 0, x, -x), X),
    "bits": (lambda x: (x ^ 5) + (x << 2) + jax.lax.shift_right_logical(x, 1), WHOLE),
    "bits moved too far": (lambda x: (x << 40) + (x >> 40), WHOLE),
    "sums": (lambda x: (x.sum(0), x.max(1), x.mean(), jnp.argmax(x)), X),
    "products": (lambda x: jnp.einsum("ij,kj->ik", x, x) @ x, X),
    "parts": (lambda x: (x[::-1], x[jnp.array([2, 9])], x.at[5].add(1.0)), X),
    "places that are not there": (
        lambda x: jax.lax.dynamic_slice(x, (jnp.int32(9), jnp.int32(-9)), (2, 2)),
        X,
    ),
    "sorted": (lambda x: (jnp.sort(x, 1), jnp.argsort(-x, 0)), X),
    "windows": (
        lambda x: (jnp.cumsum(x, 0), windows(x)),
        X,
    ),
    "convolution": (lambda x: jnp.convolve(x[0], x[1]), X),
    "not a number": (lambda x: (jnp.log(x), x / 0, jnp.sign(jnp.sqrt(x))), X),
    "scan": (lambda x: jax.lax.scan(lambda c, v: (c * 0.5 + v, c), x[0], x), X),
    "fori_loop": (lambda x: jax.lax.fori_loop(0, 5, lambda i, c: c * 0.9 + i, x), X),
    "cond": (lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x), X),
    "random": (lambda k: jax.random.normal(jax.random.wrap_key_data(k), (3, 2)), KEY),
    "module": (block, X),
    "gradient": (jax.grad(lambda x: (jnp.tanh(x) ** 2).sum()), X),
    "nothing": (lambda x: (), X),
    "no elements": (lambda x: x[:0].sum(), X),
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.filterwarnings("ignore:scatter inputs have incompatible")
def test_values_are_those_of_xla(name: str) -> None:
    fn, x = SAME[name]
    program = loaded(fn, x)
    got = interpreter.interpret(program.module, program.program, [x])
    assert got is not None
    expected = jax.tree.leaves(program.run([x]))
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=1e-6)


COMPILED: dict[str, tuple[Callable[..., Any], Any]] = {
    "a loop without a known end": (
        lambda x: jax.lax.while_loop(lambda c: c.sum() < 99, lambda c: c + 1, x),
        X,
    ),
    "long": (lambda x: jax.lax.fori_loop(0, 10**6, lambda i, c: c * 0.9, x), X),
    "large": (lambda x: jnp.tanh(x) @ x, np.zeros((400, 400), np.float32)),
    "whole numbers divided": (lambda x: x // 0, WHOLE),
    "and their rest": (lambda x: jax.lax.rem(x, x * 0), WHOLE),
    "half precision": (lambda x: (x.astype(jnp.bfloat16) * 3).astype(x.dtype), X),
    "complex": (lambda x: jnp.abs(jnp.fft.fft(x)), X),
    "LAPACK": (lambda x: jnp.linalg.cholesky(x @ x.T + 9 * jnp.eye(3)), X),
    "another generator": (
        lambda x: x + jax.random.uniform(jax.random.key(0, impl="rbg"), x.shape),
        X,
    ),
    "other dtypes": (lambda x: x > 0, X),
}


@pytest.mark.parametrize("name", COMPILED)
def test_the_rest_is_compiled(name: str) -> None:
    fn, x = COMPILED[name]
    assert interpreted(fn, x) is None
    program = loaded(fn, x)
    got, expected = program.interpret([x]), program.run([x])
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_small_programs_are_not_compiled() -> None:
    program = loaded(jnp.tanh, X)
    got: Any = program.interpret([X])
    np.testing.assert_allclose(got, np.tanh(X), rtol=1e-6)
    assert "_compiled" not in vars(program)
    program.run([X])
    assert "_compiled" in vars(program)
