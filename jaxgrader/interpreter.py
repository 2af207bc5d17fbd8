"""Small programs, run without compiling them.

What it is: StableHLO's reference interpreter, which jaxlib ships, for programs that are
small enough for it. XLA takes 0.3 s to compile a program of this course, and the tests
run it once or twice, on arrays of a few elements: the interpreter is done in a tenth of
that. What it is not: fast; an element takes it a thousand times as long.

Guarantees: None for a program that it may not know how to run, or that might take it
long. Its errors end the process, so it runs in the inspector and nowhere else, and
whoever asks the inspector must be ready to have the program compiled instead.
"""

from collections.abc import Mapping, Sequence
from math import isqrt, prod
from typing import Any

import numpy as np
from jax.interpreters import mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from jaxgrader.programs import Loop, Program
from jaxgrader.stablehlo import ALLOWED, Module, make_context

#: What it refuses by ending the process, or what was not seen to agree with XLA.
LEFT_OUT = frozenset(
    word
    for words in (
        "batch_norm_grad batch_norm_inference batch_norm_training cholesky complex",
        "dot fft imag map real rng_bit_generator triangular_solve",
    )
    for word in words.split()
)
KNOWN = frozenset(f"stablehlo.{name}" for name in ALLOWED - LEFT_OUT) | {
    "builtin.module",
    "func.call",
    "func.func",
    "func.return",
}
#: For integers these have no answer for some operands, and the interpreter may end.
PARTIAL = frozenset({"stablehlo.divide", "stablehlo.power", "stablehlo.remainder"})
#: Operations that may touch many elements for each that they give.
WINDOWS = frozenset(
    f"stablehlo.{name}"
    for name in ("convolution", "reduce_window", "select_and_scatter")
)
#: The dtypes that go in and out of it as NumPy arrays.
DTYPES = frozenset({"float32", "int32", "uint32"})
#: Operations times the elements that the widest of them handles, which are counted for
#: all. Each takes a microsecond at most; programs of this course have 200,000.
MOST = 1 << 20


def interpret(
    module: Module, program: Program, inputs: Sequence[Any]
) -> list[np.ndarray] | None:
    """Return the results of `main` for arrays of its inputs' shapes and dtypes.

    None where the program is to be compiled instead. `program` describes `module`.
    """
    steps = executed(program.operations, program.loops)
    arrays = (*module.inputs, *module.outputs)
    if steps is None or not all(array.dtype in DTYPES for array in arrays):
        return None
    with make_context() as context, ir.Location.unknown(context):
        parsed = stablehlo.deserialize_portable_artifact(context, module.artifact)
        width = widest(parsed)
        if width is None or steps * width > MOST:
            return None
        given = [constant(np.asarray(array)) for array in inputs]
        results = stablehlo.eval_module(parsed, given)
        return [
            np.array(result).reshape(array.shape)
            for result, array in zip(results, module.outputs, strict=True)
        ]


def executed(operations: Mapping[str, int], loops: Sequence[Loop]) -> int | None:
    """Return how many operations run, turn by turn; None where that is not known."""
    inner = 0
    for loop in loops:
        turn = executed(loop.operations, loop.loops)
        if turn is None or loop.trip_count is None:
            return None
        inner += loop.trip_count * turn - sum(loop.operations.values())
    return sum(operations.values()) + inner


def widest(module: Any) -> int | None:
    """Return how many elements any operation handles; None for one it may not know."""
    widths: list[int] = [1]
    unknown: list[str] = []

    def look(op: Any) -> Any:
        if op.name not in KNOWN or (op.name in PARTIAL and is_whole(op)):
            unknown.append(op.name)
            return ir.WalkResult.INTERRUPT
        if not all(is_known(value.type) for value in (*op.operands, *op.results)):
            unknown.append(op.name)
            return ir.WalkResult.INTERRUPT
        taken = [elements_of(value.type) for value in op.operands]
        given = [elements_of(value.type) for value in op.results]
        widths.append(work(op.name, taken or [1], given or [1]))
        return ir.WalkResult.ADVANCE

    module.operation.walk(look)
    return None if unknown else max(widths)


def work(name: str, taken: Sequence[int], given: Sequence[int]) -> int:
    """Return how many elements an operation handles, products counted one by one."""
    if name == "stablehlo.dot_general":
        # Exact but for batches, of which it counts the root too often.
        return isqrt(prod(taken) * prod(given))
    if name in WINDOWS:
        return max(taken) * max(given)
    return max(*taken, *given)


def is_whole(op: Any) -> bool:
    """Whether an operation gives integers."""
    kind = ir.RankedTensorType(op.results[0].type)
    return isinstance(kind.element_type, ir.IntegerType)


def is_known(kind: Any) -> bool:
    """Whether these are numbers that XLA rounds as the interpreter does."""
    tensor = isinstance(kind, ir.RankedTensorType)
    known = (ir.F32Type, ir.IntegerType)
    return tensor and isinstance(ir.RankedTensorType(kind).element_type, known)


def elements_of(kind: Any) -> int:
    """Return how many elements an array of this type has."""
    return prod(ir.RankedTensorType(kind).shape)


def constant(array: np.ndarray) -> Any:
    """Return an array as the interpreter takes it."""
    kind = mlir.dtype_to_ir_type(array.dtype)
    buffer: Any = np.ascontiguousarray(array)
    return ir.DenseElementsAttr.get(buffer, type=kind, shape=array.shape)
