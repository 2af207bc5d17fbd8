"""What is remembered for a class, and above all what is not."""

import copy
import subprocess
import sys
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgrader import references
from jaxgrader.testing import remember


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Nothing is remembered yet."""
    references._kept.clear()


def cell(source: str, **given: Any) -> dict[str, Any]:
    """Run a test cell as a checker does: in a new namespace, with some names in it."""
    namespace = {"__name__": "__main__", "remember": remember, "np": np, **given}
    namespace |= {"jnp": jnp, "jax": jax}
    exec(textwrap.dedent(source), namespace)  # noqa: S102 - ours
    return namespace


def test_the_next_submission_gets_what_was_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = """
    @remember
    def reference(x, n):
        return np.sum(x) * n
    """
    first = cell(source)["reference"]
    assert first(np.arange(3), 2) == 6
    assert len(references._kept) == 1
    # Whoever computed it again would call this.
    other = cell(source)["reference"]
    monkeypatch.setattr(np, "sum", None)
    assert other(np.arange(3), 2) == 6


@pytest.mark.parametrize(
    ("args", "other"),
    [
        ((1,), (1.0,)),
        ((1,), (True,)),
        ((0.0,), (-0.0,)),
        (("a",), (b"a",)),
        (((1, 2),), ([1, 2],)),
        (({"a": 1, "b": 2},), ({"b": 2, "a": 1},)),
        ((np.float32(1),), (np.float64(1),)),
        ((np.float32(1),), (1.0,)),
        ((np.zeros(3),), (np.zeros((3, 1)),)),
        ((np.zeros(3, np.float32),), (np.zeros(3, np.int32),)),
        ((np.zeros(3, np.float32),), (jnp.zeros(3),)),
        ((jnp.asarray(1.0),), (jnp.asarray(np.float32(1.0)),)),
        ((jax.random.key(0),), (jax.random.key(1),)),
        ((jax.random.key(0),), (jax.random.key(0, impl="rbg"),)),
        ((jax.random.key(0),), (jax.random.key_data(jax.random.key(0)),)),
        ((np.zeros(100_000),), (np.append(np.zeros(99_999), 1.0),)),
    ],
)
def test_other_arguments_are_other_results(
    args: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    reference = cell("@remember\ndef reference(x):\n    return 0")["reference"]
    for each in (args, other, args, other):
        reference(*each)
    assert len(references._kept) == 2


CODE = "@remember\ndef reference(x):\n    return {}\n"


@pytest.mark.parametrize(
    ("cells", "results"),
    [
        ([CODE.format("x + 1"), CODE.format("x + 2")], [3, 4]),
        # A number, an array, a function, and what an inner function reads.
        (["N = 1\n" + CODE.format("x + N"), "N = 5\n" + CODE.format("x + N")], [3, 7]),
        (
            [f"W = np.full(2, {n})\n" + CODE.format("x + W[0]") for n in (1, 5)],
            [3, 7],
        ),
        (
            [f"def f(x): return x + {n}\n" + CODE.format("f(x)") for n in (1, 5)],
            [3, 7],
        ),
        (
            [
                f"N = {n}\ndef f(x): return x + N\n" + CODE.format("(lambda: f(x))()")
                for n in (1, 5)
            ],
            [3, 7],
        ),
        (
            [
                f"@remember\ndef f(x): return x + {n}\n" + CODE.format("f(x)")
                for n in (1, 5)
            ],
            [3, 7],
        ),
        (
            [
                "def make(n):\n    @remember\n    def reference(x): return x + n\n"
                f"    return reference\nreference = make({n})\n"
                for n in (1, 5)
            ],
            [3, 7],
        ),
        (
            [f"@remember\ndef reference(x, n={n}): return x + n\n" for n in (1, 5)],
            [3, 7],
        ),
    ],
    ids=[
        "code",
        "global",
        "array",
        "function",
        "inner",
        "remembered",
        "cell",
        "default",
    ],
)
def test_other_code_and_other_names_are_other_results(
    cells: list[str], results: list[int]
) -> None:
    found = [cell(source)["reference"](2) for source in (*cells, *cells)]
    assert found == results * 2
    assert len(references._kept) >= 2


def test_settings_of_jax_are_part_of_it() -> None:
    reference = cell(CODE.format("str(jnp.asarray(x).dtype)"))["reference"]
    assert reference(1.0) == "float32"
    with jax.enable_x64(True):
        assert reference(1.0) == "float64"


class Remote:
    """Stands where a student's function stands in a checker."""

    def __init__(self, answer: float) -> None:
        self.answer = answer

    def __call__(self, x: Any) -> Any:
        return self.answer


@pytest.mark.parametrize(
    "source",
    [
        CODE.format("student(x)"),
        CODE.format("(lambda: student(x))()"),
        "def helper(x): return student(x)\n" + CODE.format("helper(x)"),
        "@remember\ndef reference(x, f=student): return f(x)\n",
        "helpers = [student]\n" + CODE.format("helpers[0](x)"),
        CODE.format("globals()['student'](x)"),
        CODE.format("eval('student')(x)"),
        "import types\nm = types.ModuleType('m')\nm.f = student\n"
        + CODE.format("m.f(x)"),
        "def helper(): pass\nhelper.f = student\n" + CODE.format("helper.f(x)"),
    ],
)
def test_nothing_of_a_students_reaches_the_next_one(source: str) -> None:
    """The cheat: the first right answer would be everybody's."""
    for answer in (1.0, 2.0):
        assert cell(source, student=Remote(answer))["reference"](0) == answer
    assert not references._kept


def test_a_student_given_as_an_argument_is_called() -> None:
    source = "@remember\ndef reference(f, x):\n    return f(x)\n"
    for answer in (1.0, 2.0):
        assert cell(source)["reference"](Remote(answer), 0) == answer


def test_a_value_of_the_students_is_told_from_the_next() -> None:
    source = CODE.format("x + theirs")
    assert [cell(source, theirs=n)["reference"](1) for n in (1, 2, 1)] == [2, 3, 2]


def test_each_gets_a_copy() -> None:
    source = CODE.format('{"a": np.zeros(x), "b": [1]}')
    first = cell(source)["reference"](2)
    first["a"][0] = 7
    first["b"].clear()
    again = cell(source)["reference"](2)
    assert again["a"].tolist() == [0, 0]
    assert again["b"] == [1]


@pytest.mark.parametrize(
    "result",
    ["object()", "np.zeros(1 << 20)", "iter([x])", "lambda: 1", "np", "np.float32"],
)
def test_what_is_no_small_data_is_computed_each_time(result: str) -> None:
    cell(CODE.format(result))["reference"](1)
    assert not references._kept


@pytest.mark.parametrize(
    ("source", "argument"),
    [
        (CODE.format("x.update(n=x['n'] + 1) or x['n']"), {"n": 0}),
        (CODE.format("x.__iadd__(1)[0]"), np.zeros(2)),
        ("W = [0]\n" + CODE.format("W.append(x['n']) or W[-1]"), {"n": 0}),
    ],
    ids=["dict", "array", "global"],
)
def test_what_changes_something_is_called_each_time(source: str, argument: Any) -> None:
    for _ in range(2):
        given = copy.deepcopy(argument)
        namespace = cell(source)
        namespace["reference"](given)
        first = [0] if "W" in namespace else argument
        assert repr(namespace.get("W", given)) != repr(first)
    assert not references._kept


def test_what_sets_a_name_is_called_each_time() -> None:
    source = "@remember\ndef reference(x):\n    global W\n    W = x\n    return x\n"
    for _ in range(2):
        namespace = cell(source)
        assert namespace["reference"](3) == namespace["W"]


class Broken:
    """As a student's value that could not cross: whoever looks at it is told."""

    def __getattr__(self, name: str) -> Any:
        raise ValueError("this value cannot cross")


def test_a_value_that_nobody_uses_does_no_harm() -> None:
    """`x.real` is an attribute, and a student's value has its name."""
    source = CODE.format("x.real + 1")
    assert cell(source, real=Broken())["reference"](1) == 2


@pytest.mark.parametrize("argument", ["endless", "long"])
def test_an_argument_that_cannot_be_told_is_passed_on(argument: str) -> None:
    endless: list[Any] = []
    endless.append(endless)
    given = endless if argument == "endless" else "x" * (1 << 20)
    assert cell(CODE.format("type(x).__name__"))["reference"](given) in ("list", "str")
    assert not references._kept


def test_errors_are_raised_each_time() -> None:
    reference = cell(CODE.format("1 / x"))["reference"]
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            reference(0)


def test_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "RESULTS", 3)
    reference = cell(CODE.format("x"))["reference"]
    for number in (0, 1, 2, 0, 3):
        reference(number)
    assert list(references._kept.values()) == [2, 0, 3]


def test_a_function_that_calls_itself() -> None:
    source = CODE.format("1 if x == 0 else x * reference(x - 1)")
    assert [cell(source)["reference"](5) for _ in range(2)] == [120, 120]


def test_it_traces_as_before() -> None:
    reference = cell(CODE.format("x * 2"))["reference"]
    assert jax.jit(reference)(jnp.arange(2.0)).tolist() == [0.0, 2.0]


def test_it_works_without_the_rest_of_jaxgrader() -> None:
    code = "from jaxgrader.testing import remember; print(remember(lambda: 3)())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "3"
