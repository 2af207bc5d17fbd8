"""What of StableHLO is read, and what is refused."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgrader.errors import ProgramError
from jaxgrader.stablehlo import ALLOWED, Array, Module, read_module
from tests.traced import X, stablehlo, text

KIB = 1 << 10


def read(program: str, max_constant_bytes: int = KIB) -> Module:
    return read_module(program, max_constant_bytes=max_constant_bytes)


class TestReading:
    def test_inputs_and_outputs(self) -> None:
        def many(x: Any) -> Any:
            return [x.astype(d) for d in ("bool", "int4", "uint8", "bfloat16")], x + 1j

        module = read(stablehlo(many, X))
        assert module.inputs == (Array("float32", (4,)),)
        dtypes = [array.dtype for array in module.outputs]
        assert dtypes == ["bool", "int4", "uint8", "bfloat16", "complex64"]

    def test_what_jax_leaves_to_a_later_pass(self) -> None:
        def fn(x: Any) -> Any:
            return jax.lax.erf_inv(x), jnp.arcsinh(x), jax.lax.top_k(x, 2)

        program = stablehlo(fn, X)
        assert all(f"chlo.{name}" in program for name in ("erf_inv", "asinh", "top_k"))
        names = {op.name for op in read(program).main.ops}
        assert names <= ALLOWED
        assert {"log_plus_one", "composite"} <= names or {
            "log_plus_one",
            "sort",
        } <= names

    def test_what_that_pass_refuses(self) -> None:
        def fn(x: Any) -> Any:
            return jax.lax.erf(x.astype(jnp.float8_e4m3fn)).astype(jnp.float32)

        with pytest.raises(ProgramError, match="cannot be written in StableHLO"):
            read(stablehlo(fn, X))

    def test_constants_that_nobody_uses_or_that_are_equal(self) -> None:
        table = np.arange(64, dtype=np.float32)

        def fn(x: Any) -> Any:
            jnp.sum(np.arange(512, dtype=np.float32) * 3)
            return x[0] + table, x[1] * np.array(table)

        assert read(stablehlo(fn, X)).constant_bytes < 2 * 256

    def test_an_array_of_equal_numbers_is_one_number(self) -> None:
        equal, other = np.full(64, 7.0, np.float32), np.arange(64.0, dtype=np.float32)
        assert read(stablehlo(lambda x: x[0] + equal, X)).constant_bytes < 64
        assert read(stablehlo(lambda x: x[0] + other, X)).constant_bytes >= 256

    @pytest.mark.parametrize("dtype", ["float32", "int32", "complex64", "bool"])
    def test_a_table_of_answers_is_refused(self, dtype: str) -> None:
        table = np.random.default_rng(1).integers(0, 2, (64, 64)).astype(dtype)
        program = stablehlo(lambda x: x[0] + table, X)
        with pytest.raises(ProgramError, match="more than 1024 bytes of constants"):
            read(program)
        assert read(program, 64 * KIB).constant_bytes >= table.nbytes


#: What students use, and what becomes of it on a CPU is worth a test.
USED: dict[str, Callable[[Any], Any]] = {
    "argsort": jnp.argsort,
    "cholesky": lambda x: jnp.linalg.cholesky(jnp.diag(x)),
    "cond": lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
    "convolve": lambda x: jnp.convolve(x, x),
    "cumsum": jnp.cumsum,
    "eigh": lambda x: jnp.linalg.eigh(jnp.diag(x)),
    "erf": jax.scipy.special.erf,
    "fft": jnp.fft.fft,
    "gradient": jax.grad(lambda x: jax.checkpoint(jnp.tanh)(x).sum()),
    "qr": lambda x: tuple(jnp.linalg.qr(jnp.diag(x))),
    "random": lambda x: x + jax.random.normal(jax.random.key(1), x.shape),
    "scatter": lambda x: x.at[jnp.array([0, 2])].add(1.0),
    "softmax": jax.nn.softmax,
    "solve": lambda x: jnp.linalg.solve(jnp.diag(x), x),
    "svd": lambda x: tuple(jnp.linalg.svd(jnp.diag(x))),
    "top_k": lambda x: jax.lax.top_k(x, 2),
}


@pytest.mark.parametrize("name", USED)
def test_what_students_use_is_allowed(name: str) -> None:
    assert read(stablehlo(USED[name], X)).main.ops


TENSOR = "tensor<4xf32>"

#: What a forged program might contain -> what the refusal says.
REFUSED = {
    "a call of code outside": (
        text(
            f"%y = stablehlo.custom_call @evil(%x) : ({TENSOR}) -> {TENSOR} "
            f"return %y : {TENSOR}"
        ),
        "calls 'evil', code outside of JAX",
    ),
    "a kernel with a side effect": (
        text(
            "%y = stablehlo.custom_call @lapack_spotrf_ffi(%x) "
            f"{{has_side_effect = true}} : ({TENSOR}) -> {TENSOR} return %y : {TENSOR}"
        ),
        "calls 'lapack_spotrf_ffi'",
    ),
    "random numbers without a key": (
        text(
            "%a = stablehlo.constant dense<0.0> : tensor<f32> "
            "%s = stablehlo.constant dense<4> : tensor<1xi64> "
            "%y = stablehlo.rng %a, %a, %s, distribution = NORMAL : "
            f"(tensor<f32>, tensor<f32>, tensor<1xi64>) -> {TENSOR} "
            f"return %y : {TENSOR}"
        ),
        "operation stablehlo.rng",
    ),
    "a token": (
        text(f"%t = stablehlo.create_token : !stablehlo.token return %x : {TENSOR}"),
        "operation stablehlo.create_token",
    ),
    "another dialect": (
        text(f"%y = math.tan %x : {TENSOR} return %y : {TENSOR}"),
        "operation math.tan",
    ),
    "a global beside the functions": (
        text(f"return %x : {TENSOR}", "sdy.mesh @mesh = <[]>"),
        "operation sdy.mesh",
    ),
    "another dialect, unused": (
        text(f"%y = math.tan %x : {TENSOR} return %x : {TENSOR}"),
        "operation math.tan",
    ),
    "a function of elsewhere": (
        text(f"return %x : {TENSOR}", "func.func private @far() -> tensor<f32>"),
        "not a program that JAX traced",
    ),
    "shapes of run time": (
        text(f"return %x : {TENSOR}", of="%x: tensor<4xf32>, %n: tensor<?xf32>"),
        r"takes or returns a tensor<\?xf32>",
    ),
    "no main": ("module {}", "not a program that JAX traced"),
    "types that do not fit": (
        text("%y = stablehlo.tanh %x : tensor<4xf32> return %y : tensor<5xf32>"),
        "not a program that JAX traced",
    ),
    "no MLIR": ("import os", "not a program that JAX traced"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    program, why = REFUSED[name]
    with pytest.raises(ProgramError, match=why):
        read(program)


def test_regions_that_are_nested_too_deeply_are_refused() -> None:
    branch = f"stablehlo.return %x : {TENSOR}"
    for level in range(150):
        name = f"%y{level}"
        branch = (
            f'{name} = "stablehlo.case"(%i) ({{ {branch} }}) : '
            f"(tensor<i32>) -> {TENSOR} stablehlo.return {name} : {TENSOR}"
        )
    main = re.sub(r"stablehlo.return (%y149) ", r"return \1 ", branch)
    zero = "%i = stablehlo.constant dense<0> : tensor<i32> "
    with pytest.raises(ProgramError, match="not a program that JAX traced"):
        read(text(zero + main))


@pytest.mark.parametrize("cut", [0, 1, 3, 5, 40, -200, -20])
def test_cut_bytes_are_refused(cut: int) -> None:
    with pytest.raises(ProgramError, match="not a program that JAX traced"):
        read(stablehlo(jnp.tanh, X)[:cut])
