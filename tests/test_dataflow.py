"""Which operations are live, and how often loops turn."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxgrader.dataflow import Summary, summarise, turns
from jaxgrader.errors import ProgramError
from jaxgrader.stablehlo import read_module
from tests.traced import (
    X,
    power_loop,
    power_unrolled,
    spare_carry,
    stablehlo,
    text,
    times_zero,
    unused,
)


def summary(fn: Callable[..., Any], *args: Any) -> Summary:
    return summarised(stablehlo(fn, *(args or [X])))


def summarised(program: str) -> Summary:
    return summarise(read_module(program, max_constant_bytes=1 << 16))


def counting(
    start: int, goes_on: Callable[[Any], Any], step: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """Return a function with a while_loop over a counter."""

    def function(x: Any) -> Any:
        def turn(carry: Any) -> Any:
            return step(carry[0]), jnp.tanh(carry[1])

        return lax.while_loop(lambda c: goes_on(c[0]), turn, (start, x))[1]

    return function


def trip_counts(fn: Callable[..., Any], *args: Any) -> list[int | None]:
    return [loop.trip_count for loop in summary(fn, *args).loops]


class TestLive:
    def test_only_what_a_result_depends_on_counts(self) -> None:
        def wasteful(x: Any) -> Any:
            jnp.sin(jnp.cos(x))
            return jnp.tanh(x)

        assert summary(wasteful).operations == {"tanh": 1}

    def test_a_function_counts_wherever_it_is_called(self) -> None:
        step = jax.jit(lambda x: jnp.tanh(jnp.sin(x)))
        twice = summary(lambda x: step(step(x)))
        assert twice.operations == {"tanh": 2, "sine": 2}

    def test_only_the_results_that_are_used_of_a_function(self) -> None:
        both = jax.jit(lambda x: (jnp.tanh(x), jnp.sin(x)))
        assert summary(lambda x: both(x)[1]).operations == {"sine": 1}

    def test_only_the_carries_that_are_used_of_a_loop(self) -> None:
        def loop(x: Any) -> Any:
            both = x, x
            return lax.fori_loop(
                0, 5, lambda _, c: (jnp.tanh(c[0]), jnp.sin(c[1])), both
            )

        assert "tanh" in summary(loop).operations
        assert "tanh" not in summary(lambda x: loop(x)[1]).operations

    def test_a_carry_that_another_one_reads_is_used(self) -> None:
        def loop(x: Any) -> Any:
            both = x, x
            return lax.fori_loop(
                0, 5, lambda _, c: (jnp.tanh(c[0]), c[0] + c[1]), both
            )[1]

        assert "tanh" in summary(loop).operations

    def test_only_the_results_that_are_used_of_a_branch(self) -> None:
        def branch(x: Any) -> Any:
            yes, no = (lambda x: (jnp.tanh(x), x)), (lambda x: (x, jnp.sin(x)))
            return lax.cond(x[0] > 0, yes, no, x)

        assert summary(branch).operations.keys() >= {"tanh", "sine", "case"}
        assert "sine" not in summary(lambda x: branch(x)[0]).operations

    def test_what_a_reduction_applies_counts(self) -> None:
        assert summary(jnp.max).operations == {"reduce": 1, "maximum": 1}

    def test_a_loop_that_nobody_uses_is_not_there(self) -> None:
        assert summary(lambda x: unused(x, 5)).loops == []

    def test_the_busy_part_of_a_decoy_is_not_there(self) -> None:
        loops = summary(lambda x: spare_carry(x, 5)).loops
        assert all("tanh" not in loop.operations for loop in loops)

    def test_an_outcome_times_zero_cannot_be_told_from_a_result(self) -> None:
        assert trip_counts(lambda x: times_zero(x, 5)) == [5]

    def test_thousands_of_turns_by_hand(self) -> None:
        assert summary(lambda x: power_unrolled(x, 3000)).operations == {"tanh": 3000}


class TestRandomBits:
    @pytest.mark.parametrize(
        "draw",
        [
            lambda x: x + jax.random.normal(jax.random.key(1), (4,)),
            lambda x: (
                x + jax.random.uniform(jax.random.split(jax.random.key(1))[0], (4,))
            ),
            lambda x: jax.random.permutation(jax.random.key(1), x),
            lambda x: jax.vmap(jax.random.normal)(
                jax.random.split(jax.random.key(1), 4)
            ),
        ],
    )
    def test_their_rounds_are_no_loop(self, draw: Callable[..., Any]) -> None:
        drawn = summary(draw)
        assert drawn.loops == []
        assert "xor" in drawn.operations

    def test_but_a_loop_that_draws_is_one(self) -> None:
        def walk(x: Any) -> Any:
            def step(x: Any, key: Any) -> Any:
                return x + jax.random.normal(key, x.shape), None

            return lax.scan(step, x, jax.random.split(jax.random.key(1), 7))[0]

        assert trip_counts(walk) == [7]


class TestTripCount:
    @pytest.mark.parametrize("count", [1, 2, 64])
    def test_of_a_loop_and_of_a_scan(self, count: int) -> None:
        assert trip_counts(lambda x: power_loop(x, count)) == [count]

    @pytest.mark.parametrize(
        ("loop", "count"),
        [
            (lambda x: lax.fori_loop(3, 10, lambda i, h: h + i, x), 7),
            (lambda x: lax.scan(lambda c, v: (c + v, c), 0.0, x)[1], 4),
            (lambda x: lax.scan(lambda c, v: (c + v, c), 0.0, x, reverse=True)[1], 4),
            (lambda x: lax.map(jnp.tanh, x), 4),
            (lambda x: jax.vmap(lambda v: power_loop(v, 5))(x), 5),
            (lambda x: jax.grad(lambda x: power_loop(x, 5).sum())(x), 5),
            (lambda x: jax.jit(power_loop)(x, 5), 5),
            (lambda x: power_loop(x, jnp.minimum(jnp.int32(9), 5)), 5),
            (counting(0, lambda i: i < 9, lambda i: i + 2), 5),
            (counting(9, lambda i: i > 0, lambda i: i - 1), 9),
            (counting(0, lambda i: i != 4, lambda i: 1 + i), 4),
            (counting(0, lambda i: lax.ge(5, i), lambda i: i + 1), 6),
        ],
    )
    def test_of(self, loop: Callable[..., Any], count: int) -> None:
        assert trip_counts(loop)[0] == count

    @pytest.mark.parametrize(
        "loop",
        [
            lambda x: lax.while_loop(lambda h: h[0] < 9.0, lambda h: h * 2, x),
            lambda x: power_loop(x, x[0].astype(int)),
            counting(1, lambda i: i < 9, lambda i: i * 2),
            counting(1, lambda i: i < 9, lambda i: i - 1),
            counting(1, lambda i: (i < 9) & (i > -9), lambda i: i + 1),
        ],
    )
    def test_is_unknown(self, loop: Callable[..., Any]) -> None:
        assert trip_counts(loop) == [None]

    @pytest.mark.parametrize("count", [0, -3])
    def test_jax_leaves_out_a_loop_without_a_turn(self, count: int) -> None:
        assert trip_counts(lambda x: power_loop(x, count)) == []

    def test_of_loops_in_a_loop(self) -> None:
        def nested(x: Any) -> Any:
            return lax.fori_loop(0, 3, lambda _, h: power_loop(power_loop(h, 4), 5), x)

        (outer,) = summary(nested).loops
        assert outer.trip_count == 3
        assert [inner.trip_count for inner in outer.loops] == [4, 5]
        assert outer.operations["tanh"] == 2

    @pytest.mark.parametrize(
        ("start", "direction", "stop", "step", "count"),
        [
            (0, "LT", 7, 2, 4),
            (0, "LE", 8, 2, 5),
            (7, "GT", 0, -3, 3),
            (7, "GE", 1, -3, 3),
            (0, "NE", 6, 3, 2),
            (0, "NE", 7, 3, None),
            (0, "NE", 6, 0, None),
            (0, "LT", 7, 0, None),
            (0, "LT", 7, -1, None),
            (9, "LT", 7, -1, 0),
            (0, "EQ", 0, 1, None),
        ],
    )
    def test_turns(
        self, start: int, direction: str, stop: int, step: int, count: int | None
    ) -> None:
        assert turns(start, direction, stop, step) == count


def twice(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return jax.jit(lambda x: step(step(x)))


def in_a_loop(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: lax.fori_loop(0, 3, lambda _, h: step(h), x)


TENSOR = "tensor<4xf32>"


def chain(length: int) -> str:
    """Write functions of which each calls the next one twice."""
    calls = [
        f"func.func private @f{i}(%x: {TENSOR}) -> {TENSOR} {{ "
        f"%y = func.call @f{i + 1}(%x) : ({TENSOR}) -> {TENSOR} "
        f"%z = func.call @f{i + 1}(%y) : ({TENSOR}) -> {TENSOR} return %z : {TENSOR} }}"
        for i in range(length)
    ]
    last = (
        f"func.func private @f{length}(%x: {TENSOR}) -> {TENSOR} {{ "
        f"%y = stablehlo.tanh %x : {TENSOR} return %y : {TENSOR} }}"
    )
    first = f"%y = func.call @f0(%x) : ({TENSOR}) -> {TENSOR} return %y : {TENSOR}"
    return text(first, *calls, last)


class TestForged:
    """A program need not come from JAX."""

    def test_functions_that_multiply(self) -> None:
        assert summarised(chain(20)).operations == {"tanh": 2**20}
        with pytest.raises(ProgramError, match="more than 1000000000 operations"):
            summarised(chain(60))

    def test_calls_that_go_too_deep(self) -> None:
        with pytest.raises(ProgramError, match="calls itself"):
            summarised(chain(300))

    def test_a_function_that_calls_itself(self) -> None:
        call = f"%y = func.call @main(%x) : ({TENSOR}) -> {TENSOR} return %y : {TENSOR}"
        with pytest.raises(ProgramError, match="calls itself"):
            summarised(text(call))

    def test_loops_that_multiply(self) -> None:
        def many(x: Any) -> Any:
            step: Callable[[Any], Any] = jax.jit(lambda x: power_loop(x, 2))
            for _ in range(14):
                step = twice(step)
            return step(x)

        with pytest.raises(ProgramError, match="more than 10000 loops"):
            summary(many)

    def test_loops_in_loops_that_multiply(self) -> None:
        def many(x: Any) -> Any:
            step: Callable[[Any], Any] = jnp.tanh
            for _ in range(20):
                step = in_a_loop(twice(step))
            return step(x)

        with pytest.raises(ProgramError, match="more than 10000 loops"):
            summary(many)

    def test_constants_that_multiply(self) -> None:
        """Each function calls the next one with two numbers that nobody passed yet."""
        number = "tensor<i32>"
        calls = [
            f"func.func private @f{i}(%x: {TENSOR}, %n: {number}) -> {TENSOR} {{ "
            f"%one = stablehlo.constant dense<1> : {number} "
            f"%even = stablehlo.add %n, %n : {number} "
            f"%odd = stablehlo.add %even, %one : {number} "
            f"%y = func.call @f{i + 1}(%x, %even) : ({TENSOR}, {number}) -> {TENSOR} "
            f"%z = func.call @f{i + 1}(%y, %odd) : ({TENSOR}, {number}) -> {TENSOR} "
            f"return %z : {TENSOR} }}"
            for i in range(28)
        ]
        last = (
            f"func.func private @f28(%x: {TENSOR}, %n: {number}) -> {TENSOR} "
            f"{{ return %x : {TENSOR} }}"
        )
        main = (
            f"%n = stablehlo.constant dense<1> : {number} "
            f"%y = func.call @f0(%x, %n) : ({TENSOR}, {number}) -> {TENSOR} "
            f"return %y : {TENSOR}"
        )
        with pytest.raises(ProgramError, match="in more than 10000 ways"):
            summarised(text(main, *calls, last))
