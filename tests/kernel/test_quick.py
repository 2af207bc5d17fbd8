"""Small programs are compiled quickly, all others as JAX compiles them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import cache_key, compiler
from jax._src.interpreters import mlir

from jaxgrader.kernel import cache, lowered, quick
from jaxgrader.kernel.servers import shared_cache
from tests.kernel.conftest import Kernel

Start = Callable[..., Kernel]
Function = Callable[..., Any]

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
LARGE = np.ones((100, 100), np.float32)


def work_in(function: Function, *args: Any) -> int:
    return quick.work(jax.make_jaxpr(function)(*args).jaxpr)


def test_a_number_is_a_step() -> None:
    assert work_in(lambda x: x * 2 + 1, X) == 2 * (12 + 12 + 1)


def test_a_product_takes_a_step_for_each_multiplication() -> None:
    assert work_in(lambda x: x @ x.T, X) >= 3 * 4 * 3


@pytest.mark.parametrize("turns", [1, 10])
def test_a_loop_takes_its_turns(turns: int) -> None:
    def loop(x: Any) -> Any:
        return jax.lax.scan(lambda c, _: (c * 2, None), x, None, length=turns)[0]

    assert turns * 25 <= work_in(loop, X) <= turns * 25 + 30


def test_loops_in_functions_in_loops_are_seen() -> None:
    def inner(x: Any) -> Any:
        return jax.lax.fori_loop(0, 20, lambda _, c: c * 2, x)

    def outer(x: Any) -> Any:
        return jax.lax.fori_loop(0, 30, lambda _, c: jax.jit(inner)(c), x)

    assert work_in(outer, X) >= 20 * 30 * 25


def test_the_dearest_branch_counts() -> None:
    def choose(x: Any) -> Any:
        return jax.lax.cond(x.sum() > 0, lambda y: y, lambda y: y @ y.T @ y, x)

    assert work_in(choose, X) > work_in(lambda x: x @ x.T @ x, X)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c + 1, x),
        lambda x: jax.lax.fori_loop(0, x[0, 0].astype(int), lambda _, c: c * 2, x),
        lambda x: jnp.sort(x),
        lambda x: jnp.cumsum(x),
        lambda x: jnp.linalg.qr(x)[0],
        lambda x: jax.pure_callback(lambda y: y, x, x),
    ],
    ids=["while", "turns", "sort", "cumsum", "qr", "callback"],
)
def test_what_may_take_long_is_not_small(function: Function) -> None:
    with pytest.raises(quick.Unknown):
        work_in(function, X)


def test_whatever_is_large_is_not_counted_to_its_end() -> None:
    doubled: Any = jax.jit(lambda x: x + x)
    for _ in range(40):  # each calls the one before twice
        doubled = jax.jit(lambda x, f=doubled: f(f(x)))
    jaxpr = jax.make_jaxpr(doubled)(X)
    assert quick.SMALL < quick.work(jaxpr.jaxpr) < 3 * quick.SMALL


class Compiler:
    """JAX's own compiler, and what it was told for each program."""

    def __init__(self) -> None:
        self.real = compiler.backend_compile_and_load
        self.told: list[dict[str, Any]] = []

    def compile(
        self,
        backend: Any,
        module: Any,
        executable_devices: Any,
        options: Any,
        host_callbacks: Any,
    ) -> Any:
        self.told.append(dict(options.env_option_overrides))
        return self.real(backend, module, executable_devices, options, host_callbacks)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What JAX's compiler is told while small programs are compiled quickly."""
    own = Compiler()
    monkeypatch.setattr(compiler, "backend_compile_and_load", own.compile)
    for name in ("lower_jaxpr_to_module", "make_ir_context"):
        monkeypatch.setattr(mlir, name, getattr(mlir, name))  # to be put back
    monkeypatch.setattr(cache_key, "_hash_computation", cache_key._hash_computation)
    installed = quick.install()
    assert installed is not None, "this JAX compiles in another way"
    lowered.install(tmp_path, None, installed.note)
    return own.told


QUICKLY = dict(quick.QUICKLY)


def scaled(x: Any) -> Any:
    return jnp.tanh(x) * 3.5


def test_a_small_program_is_compiled_quickly(told: list[dict[str, Any]]) -> None:
    x = jax.device_put(X)
    got = jax.jit(lambda x: scaled(x))(x)
    assert told == [QUICKLY]
    np.testing.assert_allclose(got, np.tanh(X) * 3.5, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (lambda x: scaled(x @ x), LARGE),
        (lambda x: jax.lax.while_loop(lambda c: c.sum() < 9, scaled, x), X + 2),
    ],
    ids=["large", "unknown"],
)
def test_all_others_are_compiled_as_ever(
    told: list[dict[str, Any]], function: Function, x: Any
) -> None:
    jax.jit(function)(jax.device_put(x))
    assert told == [{}]


def test_who_chooses_gets_what_they_chose(told: list[dict[str, Any]]) -> None:
    own: dict[str, str | bool] = {"xla_backend_optimization_level": "1"}
    program = jax.jit(lambda x: scaled(x) + 1).lower(X)
    program.compile(own)
    assert told == [own]


def test_an_xla_without_the_options_compiles_as_ever(
    told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "QUICKLY", [("xla_no_such_option", 1)])
    x = jax.device_put(X)
    for number in (2, 3):
        got = jax.jit(lambda x, n=number: scaled(x) + n)(x)
        np.testing.assert_allclose(got, np.tanh(X) * 3.5 + number, rtol=1e-5, atol=1e-6)
    assert told == [{"xla_no_such_option": 1}, {}, {}]


IN_KERNEL = """
from jax._src import compiler
print(type(compiler.backend_compile_and_load).__name__)
"""


def test_kernels_do_but_not_the_one_that_fills_everybodys_cache(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXGRADER_CACHE_DIR", str(tmp_path / "cache"))
    assert start().run(IN_KERNEL).text == "Quick\n"
    with cache.filling(shared_cache("cpu")) as new:
        kernel = start(SandboxProvisioner={"fill": str(new)})
        assert kernel.run(IN_KERNEL).text == "function\n"
        kernel.stop()
