"""What test cells import."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgrader.errors import CourseError, ProgramError
from jaxgrader.programs import Program
from jaxgrader.testing import (
    assert_allclose,
    assert_constant_trace,
    assert_deterministic,
    assert_dtype,
    assert_finite,
    assert_loop,
    assert_no_unrolling,
    assert_shape,
    assert_vectorized,
    tolerance,
    trace,
)
from tests.traced import (
    X,
    power_loop,
    power_unrolled,
    spare_carry,
    times_zero,
    unused,
)


def complaint(check: Callable[..., object], *args: Any, **options: Any) -> str:
    """Return what a check says; the check must fail, by an AssertionError."""
    with pytest.raises(AssertionError) as raised:
        check(*args, **options)
    assert raised.type is AssertionError
    return str(raised.value)


class Lies:
    """Equals everything, and is any array."""

    shape, dtype, ndim = (4,), np.dtype("float32"), 1

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return X

    def __jax_array__(self) -> Any:
        return jnp.asarray(X)


class LyingArray(np.ndarray[Any, Any]):
    def __eq__(self, other: object) -> Any:
        return True

    __hash__ = None


class LyingList(list[Any]):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None


class LyingFloat(float):
    def __sub__(self, other: object) -> float:
        return 0.0


FOREIGN = [Lies(), X.view(LyingArray), LyingList([X]), LyingFloat(3), "text", np.sin]


class TestAllclose:
    @pytest.mark.parametrize(
        ("actual", "expected"),
        [
            (1, 1),
            (1.0, 1),
            (None, None),
            (True, np.True_),
            (X, jnp.asarray(X)),
            (jnp.asarray(X), X.astype(np.float64)),
            (X + 5e-6, X),
            ({"a": [X, (1, 2.0)], 3: None}, {3: None, "a": [X, (1, 2.0)]}),
            (np.array([np.nan, np.inf, -np.inf]), np.array([np.nan, np.inf, -np.inf])),
            (np.zeros((0, 3)), np.zeros((0, 3))),
            (jnp.array([1, 2], jnp.int4), np.array([1, 2])),
            (jnp.ones(3, jnp.bfloat16) * 1.01, np.full(3, 1.0)),
            (jnp.ones(3, jnp.float8_e4m3fn), np.ones(3)),
            (jnp.array([1 + 2j]), np.array([1 + 2.000001j])),
            (jax.random.key(3), jax.random.key(3)),
            (np.uint64(2**64 - 1), 2**64 - 1),
            (jnp.bfloat16(2), 2.0),
        ],
    )
    def test_equal(self, actual: object, expected: object) -> None:
        assert_allclose(actual, expected)

    @pytest.mark.parametrize(
        ("actual", "expected"),
        [
            (X + 5e-5, X),
            (1, 2),
            (1.0 + 1e-9, 1.0),
            (np.int64(2**62 + 1), np.int64(2**62)),
            (np.uint64(2**64 - 1), 2**64 - 2),
            (np.array([np.nan]), np.array([1.0])),
            (np.array([1.0]), np.array([np.nan])),
            (np.array([np.inf]), np.array([-np.inf])),
            (np.array([1.0]), np.array([np.inf])),
            (np.array([np.inf]), np.array([1.0])),
            (np.array([True]), np.array([False])),
            (jnp.array([1 + 2j]), np.array([1 - 2j])),
            (jax.random.key(3), jax.random.key(4)),
        ],
    )
    def test_different(self, actual: object, expected: object) -> None:
        assert "differ" in complaint(assert_allclose, actual, expected)

    @pytest.mark.parametrize("foreign", FOREIGN)
    def test_foreign_objects_are_no_arrays(self, foreign: object) -> None:
        wanted = f"is a {type(foreign).__name__}"
        for actual, expected in ((foreign, X), ([foreign], [X]), ((foreign,), ([X],))):
            assert wanted in complaint(assert_allclose, actual, expected)

    def test_a_tracer_is_no_result(self) -> None:
        def inside(x: Any) -> Any:
            assert "still tracing" in complaint(assert_allclose, x, X)
            return x

        jax.eval_shape(inside, X)

    @pytest.mark.parametrize(
        ("actual", "said"),
        [
            (X[None], "has shape (1, 4), expected (4,)"),
            (X[:1], "has shape (1,), expected (4,)"),
            (2.0, "has shape (), expected (4,)"),
            ([X], "is a list of 1, expected an array"),
            (None, "is None, expected an array"),
        ],
    )
    def test_nothing_is_broadcast(self, actual: object, said: str) -> None:
        assert complaint(assert_allclose, actual, X) == said

    def test_all_differences_at_once(self) -> None:
        expected = {"a": [X, 1, (2,)], "b": None, "c": X, "d": (1, 2)}
        actual = {"a": [X + 1, 2, [2]], "b": X, "c": X[:2], "e": 0}
        lines = complaint(assert_allclose, actual, expected, err_msg="seed 3")
        assert lines.splitlines() == [
            "seed 3",
            "lacks 'd'",
            "has 'e' which should not be there",
            "at ['a'][0]: 4 of 4 numbers differ (tolerance 1e-05 + 1e-05 * |expected|)",
            "  index   got  expected  |difference|",
            "    [0]   1.5       0.5             1",
            "    [1]     0        -1             1",
            "    [2]  1.25      0.25             1",
            "    [3]     3         2             1",
            "at ['a'][1]: 1 of 1 numbers differ (these must be equal)",
            "  index  got  expected  |difference|",
            "      -    2         1             1",
            "at ['a'][2]: is a list of 1, expected a tuple of 1",
            "at ['b']: is an array of shape (4,) and dtype float32, expected None",
            "at ['c']: has shape (2,), expected (4,)",
        ]

    def test_the_worst_come_first_and_few_are_shown(self) -> None:
        expected = np.zeros((5, 20))
        actual = np.arange(100.0).reshape(5, 20)
        actual[1, 2] = np.nan
        lines = complaint(assert_allclose, actual, expected).splitlines()
        assert lines[0].startswith("99 of 100 numbers differ")
        assert lines[2].split() == ["[1,", "2]", "nan", "0", "inf"]
        assert lines[3].split() == ["[4,", "19]", "99", "0", "99"]
        assert lines[-1] == "  and 91 more"
        assert len(lines) == 11

    def test_few_places_are_shown(self) -> None:
        lines = complaint(assert_allclose, [1] * 30, [2] * 30).splitlines()
        assert lines[-1] == "and 22 more places"

    def test_given_tolerances(self) -> None:
        assert_allclose(X + 0.1, X, rtol=0, atol=0.11)
        assert_allclose(X * 1.1, X, rtol=0.11, atol=0)
        assert "tolerance 0.09 + 0 *" in complaint(
            assert_allclose, X + 0.1, X, rtol=0, atol=0.09
        )

    def test_the_coarser_dtype_decides(self) -> None:
        half = X.astype(np.float16)
        assert_allclose(half * np.float16(1.001), X)
        assert "differ" in complaint(assert_allclose, X * np.float32(1.001), X)

    def test_an_expectation_that_is_no_array_is_the_authors_fault(self) -> None:
        with pytest.raises(CourseError, match="the test expects a str"):
            assert_allclose(X, {"a": "text"})


class TestTolerance:
    @pytest.mark.parametrize("dtype", ["int32", "bool", "uint8", "int4", "key<fry>"])
    def test_whole_numbers_are_equal_or_not(self, dtype: str) -> None:
        assert tolerance(dtype) == 0

    @pytest.mark.parametrize("platform", ["cpu", "gpu", "cuda", "tpu", "another"])
    def test_coarser_dtypes_get_more(self, platform: str) -> None:
        dtypes = ("float64", "float32", "bfloat16", "float8_e4m3fn", "float8_e5m2")
        given = [tolerance(jnp.dtype(d), platform) for d in dtypes]
        assert given == sorted(given)
        assert tolerance("complex64", platform) == tolerance("float32", platform)

    def test_float32_is_coarser_where_products_are(self) -> None:
        assert tolerance("float32") < tolerance("float32", "gpu")
        assert tolerance("float32", "gpu") < tolerance("float32", "tpu")


class TestShape:
    def test_fits(self) -> None:
        assert_shape(X, (4,))
        assert_shape(3.0, ())
        assert_shape([X, X], (None,))
        assert_shape({"a": X, "b": [np.ones((2, 3))]}, {"a": (4,), "b": [(2, None)]})
        assert_shape((X, X[:2]), ((4,), (2,)))

    def test_does_not_fit(self) -> None:
        actual = {"a": X, "b": [np.ones((2, 3))]}
        expected = {"a": (5,), "b": [(2, None, None)]}
        assert complaint(assert_shape, actual, expected, err_msg="shapes").split(
            "\n"
        ) == [
            "shapes",
            "at ['a']: has shape (4,), expected (5,)",
            "at ['b'][0]: has shape (2, 3), expected (2, None, None)",
        ]
        assert complaint(assert_shape, [X], (5,)).startswith("at [0]: has shape (4,)")
        assert complaint(assert_shape, Lies(), (4,)) == "is a Lies, expected an array"

    def test_a_shape_that_is_none(self) -> None:
        with pytest.raises(CourseError, match="expects a str"):
            assert_shape(X, ["4"])


class TestDtype:
    def test_fits(self) -> None:
        assert_dtype(X, jnp.float32)
        assert_dtype([X, X], "float32")
        assert_dtype((X, jnp.ones(2, "bfloat16")), ("float32", jnp.bfloat16))
        assert_dtype(jax.random.key(1), jax.random.key(2).dtype)

    def test_does_not_fit(self) -> None:
        actual = (X.astype(np.float64), 1.0, X.view(LyingArray))
        assert complaint(assert_dtype, actual, np.float32).splitlines() == [
            "at [0]: has dtype float64, expected float32",
            "at [1]: is a Python number, expected an array of dtype float32",
            "at [2]: is a LyingArray, expected an array",
        ]

    @pytest.mark.parametrize("dtype", ["flaot32", [object()], {"a": 3}])
    def test_a_dtype_that_is_none(self, dtype: object) -> None:
        with pytest.raises(CourseError, match="the test expects a"):
            assert_dtype(X, dtype)


class TestFinite:
    def test_finite(self) -> None:
        assert_finite({"a": X, "b": (3, 2.5, np.arange(3), jax.random.key(0))})

    def test_not_finite(self) -> None:
        actual = [np.array([[1.0, np.nan], [np.inf, -np.inf]]), float("nan"), Lies()]
        assert complaint(
            assert_finite, actual, err_msg="the gradient"
        ).splitlines() == [
            "the gradient",
            "at [0]: 1 NaN and 2 infinite, at [0, 1], [1, 0], [1, 1]",
            "at [1]: 1 NaN and 0 infinite, at []",
            "at [2]: is a Lies, expected an array",
        ]


class TestDeterministic:
    def test_equal_calls(self) -> None:
        assert_deterministic(lambda x, n: {"a": x * n, "b": np.nan}, X, 3, times=3)

    def test_a_call_that_writes_into_its_argument(self) -> None:
        def writes(x: Any) -> Any:
            x += 1
            return x

        assert_deterministic(writes, X.copy())

    def test_calls_that_differ(self) -> None:
        draws = np.random.default_rng(1)
        message = complaint(
            assert_deterministic, lambda x: x + draws.normal(), X, err_msg="seed 3"
        )
        assert message.startswith("seed 3\ncall 2 of equal arguments gives other")
        assert "4 of 4 numbers differ" in message

    def test_an_object_that_equals_itself(self) -> None:
        assert "is a Lies" in complaint(assert_deterministic, Lies)


class TestTrace:
    def test_arrays_are_inputs_and_numbers_are_held(self) -> None:
        def call(x: Any, seed: Any, /, *, turns: Any, name: str = "") -> Any:
            assert isinstance(x, jax.core.Tracer)
            assert (seed, turns, name) == (3, 5, "a")
            return power_loop(x, turns)

        assert trace(call, X, 3, turns=5, name="a").all_loops[0].trip_count == 5

    def test_says_what_to_change(self) -> None:
        message = complaint(trace, lambda x: np.tanh(x), X)
        assert "JAX cannot trace your function: line" in message
        assert "Use jnp instead of np" in message

    def test_a_remote_function_is_traced_where_it_is(self) -> None:
        traced = trace(Remote(power_loop), X, 5)
        assert traced.to_value() == trace(power_loop, X, 5).to_value()
        assert_loop(Remote(power_loop), X, 5, trip_count=5)
        assert "grows" in complaint(
            assert_no_unrolling, Remote(power_unrolled), lambda n: (X, n)
        )
        assert "Use jnp" in complaint(trace, Remote(np.tanh), X)

    def test_a_function_cannot_claim_to_be_remote(self) -> None:
        def claims(x: Any) -> Any:
            return x

        claims.__jaxgrader_trace__ = lambda *_: Program({})  # type: ignore[attr-defined]
        assert trace(lambda x: jnp.sin(claims(x)), X).operations == {"sine": 1}


class Remote:
    """A function of another process: its program arrives as a plain value."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, *args: Any) -> Any:
        return self.fn(*args)

    def __jaxgrader_trace__(self, args: Any, kwargs: Any) -> Program:
        try:
            return Program.from_value(trace(self.fn, *args, **kwargs).to_value())
        except AssertionError as error:
            raise ProgramError(str(error)) from None


class TestLoop:
    def test_found(self) -> None:
        assert_loop(power_loop, X, 5)
        assert_loop(power_loop, X, 5, trip_count=5, containing="tanh")
        assert_loop(power_loop, X, 5, trip_count=(4, 5), containing=("tanh", "add"))
        twice = trace(lambda x: power_loop(power_loop(x, 5), 6), X)
        assert_loop(twice, at_least=2)
        assert_loop(twice, trip_count=6)

    def test_not_found(self) -> None:
        message = complaint(
            assert_loop, power_loop, X, 5, trip_count={7, 6}, err_msg="the recurrence"
        )
        assert message.splitlines()[0] == "the recurrence"
        assert "expected a loop of 6 or 7 turns on which the results depend" in message
        assert "a loop of 5 turns: 1 add, 1 compare, 1 tanh" in message

    def test_too_few_and_without_the_operation(self) -> None:
        program = trace(power_loop, X, 5)
        assert "found 1, expected 2 or more" in complaint(
            assert_loop, program, at_least=2
        )
        message = complaint(assert_loop, program, containing=["dot_general", "sine"])
        assert "a loop with dot_general, sine in it" in message

    def test_an_unknown_number_of_turns_is_not_the_number(self) -> None:
        def search(x: Any) -> Any:
            return jax.lax.while_loop(lambda h: h[0] < 9.0, lambda h: h * 2, x)

        assert_loop(search, X)
        assert "of an unknown number of turns" in complaint(
            assert_loop, search, X, trip_count=5
        )

    def test_decoys(self) -> None:
        assert "found 0" in complaint(assert_loop, unused, X, 5)
        assert "found 0" in complaint(assert_loop, spare_carry, X, 5, containing="tanh")
        assert_loop(times_zero, X, 5)  # but see TestNoUnrolling

    def test_used_wrongly(self) -> None:
        with pytest.raises(CourseError, match="takes no arguments"):
            assert_loop(trace(power_loop, X, 5), X)


def grows_by(more: Callable[[int], int]) -> Callable[..., Any]:
    return lambda x, n: power_unrolled(x, more(n))


class TestNoUnrolling:
    @pytest.mark.parametrize(
        "fn",
        [
            power_loop,
            jax.jit(power_loop, static_argnums=1),
            lambda x, n: jax.lax.scan(lambda h, _: (jnp.tanh(h), h), x, length=n),
            lambda x, n: jax.lax.associative_scan(jnp.multiply, jnp.ones(n) * x[0]),
            lambda x, n: jnp.cumsum(jnp.ones(n) * x[0]),
            lambda x, n: jnp.linalg.matrix_power(jnp.diag(x), n),
            lambda x, n: x + jax.random.normal(jax.random.key(1), (n, 4)).sum(0),
            grows_by(lambda n: n if n < 16 else 16),
        ],
    )
    def test_not_unrolled(self, fn: Callable[..., Any]) -> None:
        assert_no_unrolling(fn, lambda n: (X, n))

    @pytest.mark.parametrize(
        "fn",
        [
            power_unrolled,
            jax.jit(power_unrolled, static_argnums=1),
            unused,
            times_zero,
            spare_carry,
            grows_by(lambda n: n // 8),
            grows_by(lambda n: n * n // 16),
            grows_by(lambda n: 0 if n < 64 else n),
            lambda x, n: jax.lax.map(lambda v: power_unrolled(v, n), x),
        ],
    )
    def test_unrolled(self, fn: Callable[..., Any]) -> None:
        message = complaint(assert_no_unrolling, fn, lambda n: (X, n), name="T")
        assert "the loop was unrolled in Python" in message

    def test_the_message(self) -> None:
        message = complaint(
            assert_no_unrolling, power_unrolled, lambda n: (X, n), err_msg="the cell"
        )
        assert message.startswith(
            "the cell\nyour program grows from 4 to 64 operations as n goes from 4 to "
            "64: the loop was unrolled in Python. Write it with jax.lax.scan"
        )

    @pytest.mark.parametrize("over", [(4,), (), (8, 4), (4, 4)])
    def test_sizes_that_show_nothing(self, over: tuple[int, ...]) -> None:
        with pytest.raises(CourseError, match="give two or more sizes"):
            assert_no_unrolling(power_loop, lambda n: (X, n), over)

    def test_arguments_that_are_no_tuple(self) -> None:
        with pytest.raises(CourseError, match="make_args gave a list"):
            assert_no_unrolling(power_loop, lambda n: [X, n])  # type: ignore[arg-type,return-value]


class TestConstantTrace:
    def test_constant(self) -> None:
        assert_constant_trace(power_loop, lambda n: (X, n))
        assert_constant_trace(jnp.sin, lambda n: (np.ones(n),), over=(1, 2))

    def test_a_single_operation_is_too_much(self) -> None:
        fn = grows_by(lambda n: 3 if n < 64 else 4)
        message = complaint(assert_constant_trace, fn, lambda n: (X, n), name="T")
        assert message == (
            "your program grows from 3 to 4 operations as T goes from 4 to 64 (+1 "
            "tanh), expected the same program"
        )

    def test_another_operation_is_too_much(self) -> None:
        def changes(x: Any, n: int) -> Any:
            return jnp.sin(x) if n < 64 else jnp.cos(x)

        message = complaint(assert_constant_trace, changes, lambda n: (X, n))
        assert "changes from 1 to 1" in message
        assert "(+1 cosine, -1 sine)" in message


class TestVectorized:
    @pytest.mark.parametrize(
        "fn",
        [
            jnp.tanh,
            jax.vmap(lambda v: power_loop(v, 5)),
            lambda xs: jax.lax.scan(lambda h, _: (jnp.tanh(h), None), xs, length=9)[0],
            lambda xs: jnp.sort(xs) @ jnp.ones(len(xs)),
        ],
    )
    def test_vectorized(self, fn: Callable[..., Any]) -> None:
        assert_vectorized(fn, lambda n: (np.ones(n, np.float32),))

    @pytest.mark.parametrize(
        ("fn", "said"),
        [
            (lambda xs: jnp.stack([jnp.sin(x) for x in xs]), "Python loops over"),
            (lambda xs: jax.lax.map(jnp.sin, xs), "size of 32 its loops make 32 turns"),
            (lambda xs: jax.lax.map(jnp.sin, xs, batch_size=2), "loops make 16 turns"),
        ],
    )
    def test_not_vectorized(self, fn: Callable[..., Any], said: str) -> None:
        message = complaint(
            assert_vectorized, fn, lambda n: (np.ones(n, np.float32),), name="B"
        )
        assert said in message
        assert "jax.vmap" in message


def test_importing_it_starts_no_backend_and_needs_no_nbgrader() -> None:
    """A fork server may import it; a student has nothing but JAX and NumPy."""
    code = (
        "import sys, jaxgrader.testing, jax._src.xla_bridge as bridge\n"
        "assert not bridge.backends_are_initialized()\n"
        "assert not {'nbgrader', 'flax', 'nbconvert', 'traitlets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
