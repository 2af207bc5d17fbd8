"""What test cells import: asserts on values, and asserts on traced programs.

    from jaxgrader.testing import assert_allclose, assert_loop, assert_no_unrolling

    assert_allclose(forward(3, x, 5, T=7), expected)
    assert_no_unrolling(forward, lambda T: (3, x, 5, T), name="T")

Students have it without nbgrader. A failed check raises AssertionError and nothing
else, with a message for the student. A check that is used wrongly raises CourseError.

Checks of programs take a function, and trace it as `trace` does, or a `Program`. The
same test runs on a function in this process, and on one in a student's process: its
type then has a method `__jaxgrader_trace__(args, kwargs)` that returns the Program.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxgrader.errors import CourseError, ProgramError
from jaxgrader.exports import export_call, read_packed
from jaxgrader.programs import Loop, Program
from jaxgrader.references import remember
from jaxgrader.trees import (
    Leaf,
    as_leaf,
    compare,
    each_leaf,
    each_pair,
    is_container,
    leaves,
    report,
)

__all__ = [
    "Loop",
    "Program",
    "assert_allclose",
    "assert_constant_trace",
    "assert_deterministic",
    "assert_dtype",
    "assert_finite",
    "assert_loop",
    "assert_no_unrolling",
    "assert_shape",
    "assert_vectorized",
    "remember",
    "tolerance",
    "trace",
]

#: dtype -> tolerance on a CPU, relative and absolute. Why: see `tolerance`.
TOLERANCES = {
    "float64": 1e-12,
    "float32": 1e-5,
    "float16": 4e-3,
    "bfloat16": 3e-2,
    "float8_e4m3fn": 0.25,
    "float8_e5m2": 0.5,
    "complex128": 1e-12,
    "complex64": 1e-5,
}

#: Platform -> tolerance of float32 and complex64 where matrix products round more.
COARSE_PRODUCTS = {"gpu": 2e-3, "cuda": 2e-3, "rocm": 2e-3, "tpu": 3e-2}


def tolerance(dtype: Any, platform: str = "cpu") -> float:
    """Return the relative and absolute tolerance for values of a dtype.

    | dtype | CPU | why |
    |---|---|---|
    | integers, booleans, keys | 0 | they are equal or not |
    | float64 | 1e-12 | a few thousand roundings of 1e-16, in any order |
    | float32 | 1e-5 | right answers to the five problems of this course differ by up \
to 1.6e-6 from a float64 reference, wrong ones by 2.6e-3 and more |
    | float16 | 4e-3 | four roundings of 1e-3 |
    | bfloat16 | 3e-2 | four roundings of 8e-3 |
    | float8 | 0.25, 0.5 | two roundings of 1/8 (e4m3fn) or 1/4 (e5m2) |

    Complex dtypes are as their parts. On other platforms JAX multiplies float32
    matrices in fewer bits by default: TF32 on GPUs, with 11 bits (2e-3, four
    roundings), and bfloat16 on TPUs, with 8 bits (3e-2). A dtype never gets a finer
    tolerance there than on a CPU. The tolerance is absolute as well as relative, since
    an entry near zero that is a sum of large ones has large relative errors.
    """
    name = str(dtype)
    fine = TOLERANCES.get(name, 0.0)
    if name in ("float32", "complex64"):
        return max(fine, COARSE_PRODUCTS.get(platform, 0.0))
    return fine


# Values.


def assert_allclose(
    actual: object,
    expected: object,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    err_msg: str = "",
) -> None:
    """Check that two trees of arrays are equal, up to rounding.

    actual, expected: numbers, NumPy or JAX arrays, or tuples, lists and dicts of them.
        Structures and shapes must be equal; nothing is broadcast. dtypes may differ:
        see assert_dtype.
    rtol, atol: an entry may differ by atol + rtol * |expected|. None: `tolerance` of
        the coarser dtype of the two, and of the platform where `actual` lies.
        Integers, booleans and PRNG keys must be equal.
    err_msg: the first line of the message.

    NaN equals NaN, and an infinity equals itself. Raises AssertionError that shows all
    places which differ, worst first.
    """
    _check_expected(expected, lambda value: as_leaf(value) is not None)

    def complain(got: Leaf, wanted: Any) -> str | None:
        want = as_leaf(wanted)
        assert want is not None
        chosen = tolerance_of(got, want)
        return compare(
            got,
            want,
            chosen if rtol is None else rtol,
            chosen if atol is None else atol,
        )

    report(
        each_pair(actual, expected, complain, lambda v: as_leaf(v) is not None), err_msg
    )


def tolerance_of(got: Leaf, want: Leaf) -> float:
    """Choose for the coarser dtype; a Python number is as precise as the other."""
    dtypes = [leaf.dtype for leaf in (got, want) if leaf.dtype is not None]
    return max((tolerance(d, got.platform) for d in dtypes or ["float64"]), default=0)


def assert_shape(actual: object, shape: Any, *, err_msg: str = "") -> None:
    """Check the shapes of a tree of arrays.

    shape: a tuple of ints, where None fits any length: the shape of every leaf. Or a
        list or dict, or a tuple of these or of shapes, with the structure of `actual`.
    err_msg: the first line of the message.

    A number has the shape (). Raises AssertionError that names all wrong leaves.
    """

    def complain(got: Leaf, wanted: tuple[int | None, ...]) -> str | None:
        lengths = got.array.shape
        fits = len(lengths) == len(wanted) and all(
            w is None or w == n for w, n in zip(wanted, lengths, strict=True)
        )
        return None if fits else f"has shape {lengths}, expected {wanted}"

    _check_each(actual, shape, complain, _is_shape, err_msg)


def assert_dtype(actual: object, dtype: Any, *, err_msg: str = "") -> None:
    """Check the dtypes of a tree of arrays.

    dtype: what jnp.dtype understands, such as jnp.float32 or "bfloat16", or the dtype
        of a PRNG key: the dtype of every leaf. Or a tuple, list or dict of dtypes, with
        the structure of `actual`.
    err_msg: the first line of the message.

    A Python number has no dtype. Raises AssertionError that names all wrong leaves.
    """

    def complain(got: Leaf, wanted: Any) -> str | None:
        if got.dtype is None:
            return f"is a Python number, expected an array of dtype {_dtype(wanted)}"
        if got.dtype == _dtype(wanted):
            return None
        return f"has dtype {got.dtype}, expected {_dtype(wanted)}"

    _check_each(actual, dtype, complain, _is_dtype, err_msg)


def assert_finite(tree: object, *, err_msg: str = "") -> None:
    """Check that no number in a tree of arrays is NaN or infinite.

    Raises AssertionError that counts them, and says where the first ones are.
    """

    def complain(leaf: Leaf) -> str | None:
        if leaf.exact:
            return None
        array = leaf.array.astype(np.complex128)
        wrong = np.argwhere(~np.isfinite(array))
        if not len(wrong):
            return None
        nans = int(np.isnan(array).sum())
        where = ", ".join(str(place.tolist()) for place in wrong[:5])
        more = ", ..." if len(wrong) > 5 else ""
        return f"{nans} NaN and {len(wrong) - nans} infinite, at {where}{more}"

    report(each_leaf(tree, complain), err_msg)


def assert_deterministic(
    fn: Callable[..., object], *args: object, times: int = 2, err_msg: str = ""
) -> None:
    """Check that calls with equal arguments give equal results, bit for bit.

    NumPy arrays are copied for each call, so that a call cannot spoil the next one.
    Raises AssertionError that shows what differs between the first call and another.
    """
    first = fn(*_copied(args))
    report(each_leaf(first, lambda leaf: None), err_msg)  # nothing but arrays
    for number in range(2, times + 1):
        again = fn(*_copied(args))
        message = f"call {number} of equal arguments gives other results than call 1"
        shown = f"{err_msg}\n{message}" if err_msg else message
        assert_allclose(again, first, rtol=0, atol=0, err_msg=shown)


def _copied(args: tuple[object, ...]) -> Any:
    def copy(leaf: object) -> object:
        return leaf.copy() if isinstance(leaf, np.ndarray) else leaf

    return jax.tree.map(copy, args)


def _check_each(
    actual: object,
    expected: object,
    complain: Callable[[Leaf, Any], str | None],
    is_leaf: Callable[[object], bool],
    err_msg: str,
) -> None:
    """Check a tree against one thing for all its leaves, or a tree of such things."""
    if is_leaf(expected):
        report(each_leaf(actual, lambda leaf: complain(leaf, expected)), err_msg)
    else:
        _check_expected(expected, is_leaf)
        report(each_pair(actual, expected, complain, is_leaf), err_msg)


def _check_expected(expected: object, is_leaf: Callable[[object], bool]) -> None:
    if is_leaf(expected):
        return
    for _, value in leaves(expected, is_leaf=is_leaf):
        if not is_leaf(value):
            raise CourseError(
                f"the test expects a {type(value).__name__}: {value!r:.80}"
            )


def _is_shape(value: object) -> bool:
    return type(value) is tuple and all(v is None or isinstance(v, int) for v in value)


def _is_dtype(value: Any) -> bool:
    if value is None or is_container(value):
        return False
    try:
        _dtype(value)
    except TypeError:
        return False
    return True


def _dtype(value: Any) -> Any:
    extended = jnp.issubdtype(value, jax.dtypes.extended)
    return value if extended else jnp.dtype(value)


# Programs.


def trace(fn: Callable[..., object], *args: object, **kwargs: object) -> Program:
    """Return the program that JAX traces for `fn(*args, **kwargs)`.

    NumPy and JAX arrays in the arguments, also those without axes, stand for any array
    of their shape and dtype. Everything else, above all Python numbers, is held as it
    is: give a seed, a size or a number of turns as a Python number.

    The program can be called with other arrays, which runs this very program:
    `trace(f, 3, x)(3, y)`. What a test finds out about it is then true of what it
    computes, too; a function can give one program to be looked at, and other numbers.

    Raises AssertionError that says what to change if JAX cannot trace the function.
    """
    remote = getattr(type(fn), "__jaxgrader_trace__", None)
    try:
        if remote is not None:
            return cast(Program, remote(fn, args, kwargs))
        return read_packed(export_call(fn, args, kwargs))
    except ProgramError as error:
        raise AssertionError(str(error)) from None


def assert_loop(
    fn: Callable[..., object] | Program,
    *args: object,
    trip_count: int | Collection[int] | None = None,
    at_least: int = 1,
    containing: str | Sequence[str] = (),
    err_msg: str = "",
) -> None:
    """Check that the results come out of a loop of the program.

    Finds jax.lax.scan, fori_loop, while_loop and map, and all that is built on them,
    at any depth and in any function. A Python loop leaves none.

    fn, args: the call to trace; or a Program, and no arguments.
    trip_count: how many turns the loop must make, or several numbers that will do.
        None: any number, also one that the program does not tell.
    at_least: how many such loops there must be.
    containing: operations that the loop must hold, in StableHLO's names, such as
        "dot_general" or ("tanh", "add").
    err_msg: the first line of the message.
    """
    program = _program(fn, args)
    wanted = {trip_count} if isinstance(trip_count, int) else trip_count
    names = {containing} if isinstance(containing, str) else set(containing)
    found = [
        loop
        for loop in program.all_loops
        if (wanted is None or loop.trip_count in wanted)
        and loop.operations.keys() >= names
    ]
    if len(found) < at_least:
        description = _wanted_loop(wanted, names)
        _fail(err_msg, NO_LOOP.format(description, len(found), at_least, program))


def assert_no_unrolling(
    fn: Callable[..., object],
    make_args: Callable[[int], tuple[object, ...]],
    over: Sequence[int] = (4, 16, 64),
    *,
    name: str = "n",
    err_msg: str = "",
) -> None:
    """Check that the program does not grow with a number of turns.

    make_args: n -> the arguments of the call.
    over: at least two sizes, ascending; with three or more, growth that slows down as
        the logarithm does (jax.lax.associative_scan) is told from unrolling.
    name: what n is called in the message.
    err_msg: the first line of the message.

    Raises AssertionError if the program grows in step with n: between the last two
    sizes by an operation or more for 16 turns, and at half the first pace or faster.
    """
    programs = _programs(fn, make_args, over)
    sizes = [program.size for program in programs]
    if _keeps_growing(over, sizes):
        growth = _growth(sizes[0], sizes[-1], name, over)
        _fail(err_msg, f"{growth}: the loop was unrolled in Python. {REMEDY}")


def assert_constant_trace(
    fn: Callable[..., object],
    make_args: Callable[[int], tuple[object, ...]],
    over: Sequence[int] = (4, 16, 64),
    *,
    name: str = "n",
    err_msg: str = "",
) -> None:
    """Check that the program has the same operations whatever n is.

    Takes what assert_no_unrolling takes, and is stricter: not a single operation may
    come or go.
    """
    programs = _programs(fn, make_args, over)
    for n, program in zip(over, programs, strict=True):
        if program.operations != programs[0].operations:
            changes = _changes(programs[0], program)
            what = _growth(programs[0].size, program.size, name, (over[0], n))
            _fail(err_msg, f"{what} ({changes}), expected the same program")


def assert_vectorized(
    fn: Callable[..., object],
    make_args: Callable[[int], tuple[object, ...]],
    over: Sequence[int] = (2, 8, 32),
    *,
    name: str = "the batch",
    err_msg: str = "",
) -> None:
    """Check that a function treats a batch at once, and in no loop over its samples.

    make_args: n -> the arguments of a call with n samples.

    Raises AssertionError if the program grows with n, or if its loops make more turns.
    Loops over other things, such as time or layers, are fine.
    """
    programs = _programs(fn, make_args, over)
    sizes = [program.size for program in programs]
    if _keeps_growing(over, sizes):
        growth = _growth(sizes[0], sizes[-1], name, over)
        _fail(err_msg, f"{growth}: Python loops over the samples. {BATCH_REMEDY}")
    turns = [sum(loop.trip_count or 0 for loop in p.all_loops) for p in programs]
    if _keeps_growing(over, turns):
        _fail(err_msg, LOOPS_OVER.format(name, over[-1], turns[-1], programs[-1]))


class _Pace(NamedTuple):
    """How much something grows, for how much larger an n."""

    growth: int
    more: int


def _keeps_growing(over: Sequence[int], counts: Sequence[int]) -> bool:
    """Tell growth in step with n from none, and from growth that slows down."""
    paces = [
        _Pace(counts[i + 1] - counts[i], over[i + 1] - over[i])
        for i in range(len(over) - 1)
    ]
    first, last = paces[0], paces[-1]
    return (
        16 * last.growth >= last.more
        and 2 * last.growth * first.more >= first.growth * last.more
    )


def _programs(
    fn: Callable[..., object], make_args: Callable[[int], Any], over: Sequence[int]
) -> list[Program]:
    if len(over) < 2 or list(over) != sorted(set(over)):
        raise CourseError(f"over={over!r}: give two or more sizes, ascending")
    return [trace(fn, *_arguments(make_args(n))) for n in over]


def _arguments(args: object) -> tuple[object, ...]:
    if type(args) is not tuple:
        raise CourseError(f"make_args gave a {type(args).__name__}, expected a tuple")
    return args


def _program(fn: Any, args: tuple[object, ...]) -> Program:
    if isinstance(fn, Program):
        if args:
            raise CourseError("a Program has been traced: it takes no arguments")
        return fn
    return trace(fn, *args)


def _wanted_loop(turns: Collection[int | None] | None, names: Collection[str]) -> str:
    count = " or ".join(str(n) for n in sorted(n for n in turns or () if n is not None))
    of = f" of {count} turns" if count else ""
    holding = f" with {', '.join(sorted(names))} in it" if names else ""
    return f"a loop{of}{holding}"


def _growth(first: int, last: int, name: str, over: Sequence[int]) -> str:
    verb = "grows" if last > first else "shrinks" if last < first else "changes"
    return (
        f"your program {verb} from {first} to {last} operations as {name} goes from "
        f"{over[0]} to {over[-1]}"
    )


def _changes(before: Program, after: Program) -> str:
    return ", ".join(_each_change(before, after))


def _each_change(before: Program, after: Program) -> Iterator[str]:
    for name in sorted({*before.operations, *after.operations}):
        change = after.operations.get(name, 0) - before.operations.get(name, 0)
        if change:
            yield f"{change:+d} {name}"


def _fail(err_msg: str, message: str) -> None:
    raise AssertionError(f"{err_msg}\n{message}" if err_msg else message)


NOT_EXPECTED = "the test expects a {}, which is nothing that can be compared: {!r:.80}"
REMEDY = (
    "Write it with jax.lax.scan, jax.lax.fori_loop or nnx.scan, so that JAX traces one "
    "turn however many there are"
)
BATCH_REMEDY = "Treat them at once, with jax.vmap or with operations on whole arrays"
NO_LOOP = """\
expected {0} on which the results depend; found {1}, expected {2} or more. Write it \
with jax.lax.scan, jax.lax.fori_loop or nnx.scan. The program:
{3}"""
LOOPS_OVER = (
    "your program loops over {0}: for a size of {1} its loops make {2} turns. "
    + BATCH_REMEDY
    + ". The program:\n{3}"
)
