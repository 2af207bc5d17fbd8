"""Forged programs: right numbers, and a plan to make an unrolled loop pass for one.

The test of structure judges the program that the student's process exports, and runs
that very program on an array which that process has never seen. Whatever is sent, the
numbers earn their points, the structure earns none, and nobody waits for a human.
"""

from collections.abc import Iterator

import pytest

from jaxgrader.results import Outcome
from tests.slots import Slot, open_slot

SOURCE = """
import jax
import jax.numpy as jnp
def power(x, T):
    return jax.lax.fori_loop(0, int(T), lambda _, c: jnp.tanh(c) + x, x)
"""
NUMBERS = """
import jax
import jax.numpy as jnp
from jaxgrader.testing import assert_allclose, assert_loop, assert_no_unrolling, trace
def _expected(x, T):
    c = x
    for _ in range(T):
        c = np.tanh(c) + x
    return c
_x = np.linspace(-1, 1, 5, dtype=np.float32)
assert_allclose(power(_x, 7), _expected(_x, 7))
"""
STRUCTURE = """
assert_no_unrolling(power, lambda T: (_x, T), over=(4, 9), name="T")
_program = trace(power, _x, 7)
assert any(loop.trip_count == 7 for loop in _program.all_loops)
_new = np.array([0.25, -3.0, 1.5, 0.75, -0.125], np.float32)
assert_allclose(_program(_new, 7), _expected(_new, 7))
"""
TESTS = (NUMBERS, STRUCTURE)

UNROLLED = """
import jax
import jax.numpy as jnp
def power(x, T):
    c = x
    for _ in range(int(T)):
        c = jnp.tanh(c) + x
    return c
"""
#: A loop that the trace sees, with other numbers than the function gives.
DECOY = """
def decoy(x, T):
    return jax.lax.fori_loop(0, int(T), lambda _, c: jnp.tanh(c + x), x)
"""


def sends(program: str, before: str = "") -> str:
    """Answer every request for a program with the value of an expression."""
    return f"""{UNROLLED}{DECOY}
from jaxgrader import exports
from jaxgrader.grading import server
honest = server.answer
{before}
def answer(namespace, kind, body):
    if kind != "export":
        return honest(namespace, kind, body)
    args, kwargs = body["args"], body["kwargs"]
    return "value", {program}
server.answer = answer
"""


#: MLIR that says it is a program from five numbers to five.
MODULE = """
def module(operations, result="%r"):
    text = "module {{ func.func public @main(%x: tensor<5xf32>) -> tensor<5xf32> {{"
    text = text.format() + operations + " return " + result + " : tensor<5xf32> } }"
    header = b"0"
    size = len(header).to_bytes(4, "little")
    return exports.MAGIC + size + header + text.encode()
"""

CHEATS = {
    "export": UNROLLED
    + DECOY
    + """
from jax import export
honest = export.export
fake = jax.jit(lambda x: decoy(x, 7))
export.export = lambda f, **k: honest(fake, **k)
""",
    "make_jaxpr": UNROLLED
    + DECOY
    + "jax.make_jaxpr = jax.jit = lambda f, *a, **k: lambda *b: decoy(*b)\n",
    "helpers": UNROLLED
    + """
import jaxgrader.testing, jaxgrader.programs, jaxgrader.stablehlo
for module in (jaxgrader.testing, jaxgrader.programs, jaxgrader.stablehlo):
    for name in list(vars(module)):
        if name.startswith(("assert", "trace", "describe", "read")):
            setattr(module, name, lambda *a, **k: True)
""",
    "attribute": UNROLLED + "power.__jaxgrader_trace__ = lambda *a: True\n",
    "export_call": UNROLLED
    + DECOY
    + """
from jaxgrader import exports
from jaxgrader.grading import server
honest = exports.export_call
exports.export_call = server.export_call = lambda f, *a: honest(decoy, *a)
""",
    "decoy": sends("exports.export_call(decoy, args, kwargs)"),
    "knows_tracers": DECOY
    + """
import jax
import jax.numpy as jnp
def power(x, T):
    if isinstance(x, jax.core.Tracer):
        return decoy(x, T)
    c = x
    for _ in range(int(T)):
        c = jnp.tanh(c) + x
    return c
""",
    "table": sends(
        "exports.export_call(table, args, kwargs)",
        """
import numpy as np
KNOWN = {T: np.asarray(power(np.linspace(-1, 1, 5, dtype="f"), T)) for T in range(20)}
def table(x, T):
    return jax.lax.fori_loop(0, int(T), lambda _, c: c + 0 * x, jnp.array(KNOWN[T]))
""",
    ),
    "empty_loop": sends(
        "exports.export_call(padded, args, kwargs)",
        """
def padded(x, T):
    c = jax.lax.fori_loop(0, int(T), lambda _, c: c + 0, x)
    return power(c, T)
""",
    ),
    "structure_as_value": sends(
        "{'operations': {'tanh': 1}, 'loops': ({'trip_count': args[1], 'operations': "
        "{'tanh': 1}, 'loops': ()},), 'constant_bytes': 0}"
    ),
    "garbage": sends("b'ML\\xefR' + bytes(1000)"),
    "nothing": sends("b''"),
    "giant": sends("bytes(8 << 20)"),
    "nesting": sends(
        "exports.MAGIC + (60000).to_bytes(4, 'little') + b'[' * 30000 + b']' * 30000"
    ),
    "callback": sends(
        "module('%r = stablehlo.custom_call @xla_ffi_python_cpu_callback(%x) : "
        "(tensor<5xf32>) -> tensor<5xf32>')",
        MODULE,
    ),
    "outfeed": sends(
        "module('%t = stablehlo.create_token : !stablehlo.token', '%x')", MODULE
    ),
    "not_mlir": sends("module('%r = nonsense')", MODULE),
    "recursion": sends(
        "module('%r = func.call @main(%x) : (tensor<5xf32>) -> tensor<5xf32>')", MODULE
    ),
    "other_inputs": sends("exports.export_call(decoy, (args[0][:2], args[1]), {})"),
}

#: Programs that the inspector can read, and had better not run.
TRAPS = {
    "memory": sends(
        "exports.export_call(lambda x, T: jnp.sort(jnp.sin(jnp.arange(3e9) * x[0]))[:5]"
        ", args, kwargs)"
    ),
    "endless": sends(
        "exports.export_call(lambda x, T: jax.lax.while_loop("
        "lambda c: jnp.sum(c * c) >= 0, jnp.sin, x), args, kwargs)"
    ),
}
RUNS = """
_program = trace(power, _x, 7)
assert_allclose(_program(_x + 1, 7), _expected(_x + 1, 7))
"""


@pytest.fixture(scope="module")
def slot() -> Iterator[Slot]:
    with open_slot() as made:
        yield made


def test_the_solution_earns_all(slot: Slot) -> None:
    results = slot.grade(SOURCE, *TESTS, source=SOURCE)
    assert [result.score for result in results] == [2, 2], results


@pytest.mark.parametrize("name", ["honest", *CHEATS])
def test_an_unrolled_loop_earns_its_numbers(slot: Slot, name: str) -> None:
    answer = CHEATS.get(name, UNROLLED)
    numbers, structure = slot.grade(answer, *TESTS, source=SOURCE)
    assert (numbers.outcome, numbers.score) == (Outcome.PASSED, 2), numbers
    assert structure.score == 0, structure
    assert structure.outcome in (Outcome.FAILED, Outcome.ERROR), structure


@pytest.mark.parametrize("name", TRAPS)
def test_a_program_that_does_harm_harms_itself(slot: Slot, name: str) -> None:
    results = slot.grade(TRAPS[name], NUMBERS, RUNS, NUMBERS, source=SOURCE)
    assert [result.score for result in results] == [2, 0, 2], results
    assert results[1].outcome is Outcome.FAILED


def test_nobody_else_is_touched(slot: Slot) -> None:
    """What the inspectors said above was about those programs only."""
    for _ in range(3):
        results = slot.grade(SOURCE, *TESTS, source=SOURCE)
        assert [result.score for result in results] == [2, 2], results


def test_level_basic() -> None:
    with open_slot(level="basic") as slot:
        results = slot.grade(SOURCE, *TESTS, source=SOURCE)
        assert [result.score for result in results] == [2, 2], results
        results = slot.grade(CHEATS["decoy"], *TESTS, source=SOURCE)
        assert [result.score for result in results] == [2, 0], results
