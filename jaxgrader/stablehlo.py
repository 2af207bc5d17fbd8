"""Read StableHLO, the text of a program that JAX traced, into plain Python values.

What it is: MLIR in, a tree of small frozen values out, which need no MLIR context and
cannot be executed. What it is not: a judge of structure; that is `programs.py`.

Guarantees: what is read holds only operations of `ALLOWED`, kernels of `KERNELS`, and
constants of a bounded size, all of which compute their results from their operands and
do nothing else. Whatever is wrong with the bytes is a `ProgramError`.

Assumes: the parsers of MLIR are C++ and may crash on what was made to crash them. So a
student's program is read in a process of its own, jailed like a kernel. And it is read
as text: of 220 portable artifacts with one bit flipped, several abort the process.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from jax._src.interpreters import mlir
from jax._src.lib.mlir import dialects
from jax.interpreters import mlir as public
from jaxlib import _jax
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from jaxgrader.errors import ProgramError, first_line

#: What a program may consist of: each of these is a function of its operands. Left out
#: on purpose: what talks (infeed, outfeed, send, recv, custom_call but for KERNELS),
#: what counts devices (all_reduce, partition_id, ...), what is random without a key
#: (rng), and shapes that are known only at run time (dynamic_reshape, ...).
ALLOWED = frozenset(
    word
    for words in (
        # arithmetic and comparison, element by element
        "abs add and atan2 bitcast_convert cbrt ceil clamp compare complex convert",
        "cosine count_leading_zeros divide exponential exponential_minus_one floor",
        "imag is_finite log log_plus_one logistic maximum minimum multiply negate not",
        "or popcnt power real reduce_precision remainder round_nearest_afz",
        "round_nearest_even rsqrt select shift_left shift_right_arithmetic",
        "shift_right_logical sign sine sqrt subtract tan tanh xor",
        # shapes, and reading and writing parts of arrays
        "broadcast_in_dim concatenate constant dynamic_slice dynamic_update_slice",
        "gather iota pad reshape reverse scatter slice transpose",
        # sums over axes, products, sorting, transforms
        "batch_norm_grad batch_norm_inference batch_norm_training cholesky",
        "convolution dot dot_general fft map reduce reduce_window",
        "select_and_scatter sort triangular_solve",
        # control; random bits from a state that is passed in
        "case composite if optimization_barrier return rng_bit_generator while",
    )
    for word in words.split()
)

#: LAPACK as jaxlib ships it, for CPUs: what `jnp.linalg` becomes. {} is s, d, c or z.
KERNELS = frozenset(
    f"lapack_{kind}{routine}_ffi"
    for kind in "sdcz"
    for routine in (
        *("geev", "gees", "gehrd", "geqrf", "gesdd", "gesvd", "getrf", "gtsv"),
        *("heevd", "hetrd", "orgqr", "potrf", "syevd", "sytrd", "trsm", "ungqr"),
    )
)

#: Deeper regions, or longer chains of calls, than any program that a person wrote.
MAX_DEPTH = 100

#: Contexts that no program has used yet.
_ready: list[ir.Context] = []

#: What holds a program's operations together.
_FRAME = frozenset({"builtin.module", "func.func"})


@dataclass(frozen=True)
class Array:
    """The type of an array: its dtype in NumPy's words, and its shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Op:
    """One operation. Values are numbers, each given once in a module."""

    name: str
    operands: tuple[int, ...]
    results: tuple[int, ...]
    blocks: "tuple[Block, ...]" = ()
    whole: bool = False  # are all results arrays of integers or booleans?
    callee: str | None = None
    constant: int | None = None  # of a constant integer without axes
    direction: str | None = None  # of a comparison: LT, LE, GT, GE, EQ, NE


@dataclass(frozen=True, eq=False)
class Block:
    """The body of a function, or of a region of an operation."""

    arguments: tuple[int, ...]
    ops: tuple[Op, ...]
    returns: tuple[int, ...]


@dataclass(frozen=True)
class Module:
    """A program: functions by name, of which `main` takes and returns the arrays."""

    functions: Mapping[str, Block]
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    constant_bytes: int
    artifact: bytes  # what was read, as jax.export carries it

    @property
    def main(self) -> Block:
        return self.functions["main"]


def read_module(program: str, *, max_constant_bytes: int) -> Module:
    """Read StableHLO and CHLO, as MLIR's text.

    Raises ProgramError for what is malformed, for any operation that is not in
    `ALLOWED`, and for constants of more than `max_constant_bytes` together; an array
    of equal numbers counts as one of them.
    """
    with make_context() as context, ir.Location.unknown(context):
        return _Reader(max_constant_bytes).module(_parse(program, context))


def make_context() -> ir.Context:
    """Return a context with the dialects that JAX's programs for a CPU are made of.

    JAX's own context loads all that there are: 4 ms for each program, where this one
    takes 0.6 ms, or nothing if one lies ready. Each serves one program.
    """
    with contextlib.suppress(IndexError):
        return _ready.pop()
    if not hasattr(mlir, "JaxIrContext"):  # another JAX
        return public.make_ir_context()
    context = mlir.JaxIrContext()
    context.append_dialect_registry(mlir.upstream_dialects)
    context.set_thread_pool(mlir.global_thread_pool)
    context.get_dialect_descriptor("func")
    for register in (
        dialects.sdy.register_dialect,  # type: ignore[attr-defined]
        dialects.mhlo.register_mhlo_dialect,
        dialects.chlo.register_dialect,
        dialects.hlo.register_dialect,  # type: ignore[attr-defined]
    ):
        register(context)
    return context


def stock_contexts(count: int = 64) -> None:
    """Make contexts that lie ready, 0.3 MB each, which forks share until they use them.

    A notebook lowers about fifty programs.
    """
    _ready.extend([make_context() for _ in range(count)])


def _parse(program: str, context: ir.Context) -> ir.Module:
    try:
        module = ir.Module.parse(program, context)
        module.operation.verify()
        _check(module.operation)
        module = _simplified(module)
        module.operation.verify()
    except RuntimeError as error:  # a pass of XLA's
        raise ProgramError(NOT_STABLEHLO.format(first_line(error, 200))) from None
    except (ValueError, ir.MLIRError):
        raise ProgramError(NOT_A_PROGRAM) from None
    return module


def _check(op: ir.Operation, depth: int = 0) -> None:
    """Let nothing come to the passes of `_simplified` but what JAX writes for a CPU."""
    if depth > MAX_DEPTH or (op.name == "func.func" and not op.regions[0].blocks):
        raise ProgramError(NOT_A_PROGRAM)
    if op.name not in _FRAME and not op.name.startswith("chlo."):
        _checked_name(op)
    for region in op.regions:
        for block in region.blocks:
            for inner in block.operations:
                _check(inner.operation, depth + 1)


def _simplified(module: ir.Module) -> ir.Module:
    """Spell in StableHLO what JAX leaves to a later pass, `chlo.erf_inv` for example.

    Constants that are equal, or that nobody uses, count once, or not at all. jaxlib
    offers these passes only as a part of this.
    """
    version = stablehlo.get_current_version()
    artifact = _jax.mlir.serialize_portable_artifact(module, version, False)
    return stablehlo.deserialize_portable_artifact(module.context, artifact)


def _to_artifact(module: ir.Module) -> bytes:
    version = stablehlo.get_current_version()
    try:
        return bytes(stablehlo.serialize_portable_artifact(module, version))
    except ValueError:
        raise ProgramError(NOT_A_PROGRAM) from None


class _Reader:
    """Gives each value of one module its number, and counts its constants."""

    def __init__(self, max_constant_bytes: int) -> None:
        self.numbers: dict[ir.Value[ir.Type], int] = {}
        self.max_constant_bytes = max_constant_bytes
        self.constant_bytes = 0

    def module(self, module: ir.Module) -> Module:
        functions = {}
        main = None
        _strip(module.operation)
        for op in module.body.operations:
            if op.operation.name != "func.func":
                raise _refused(op.operation.name)
            _strip(op.operation)
            name = ir.StringAttr(op.operation.attributes["sym_name"]).value
            functions[name] = self.block(op.operation, 0, 0)
            main = op if name == "main" else main
        if main is None:
            raise ProgramError(NOT_A_PROGRAM)
        kind = ir.FunctionType(
            ir.TypeAttr(main.operation.attributes["function_type"]).value
        )
        return Module(
            functions=functions,
            inputs=tuple(map(_array, kind.inputs)),
            outputs=tuple(map(_array, kind.results)),
            constant_bytes=self.constant_bytes,
            artifact=_to_artifact(module),
        )

    def block(self, op: ir.Operation, region: int, depth: int) -> Block:
        """Read the one block of a region."""
        blocks = list(op.regions[region].blocks)
        if len(blocks) != 1 or depth > MAX_DEPTH:
            raise ProgramError(NOT_A_PROGRAM)
        arguments = self.ids(blocks[0].arguments)
        operations = [inner.operation for inner in blocks[0].operations]
        *ops, last = [self.op(inner, depth) for inner in operations]
        if last.name != "return":
            raise ProgramError(NOT_A_PROGRAM)
        return Block(arguments, tuple(ops), last.operands)

    def op(self, op: ir.Operation, depth: int) -> Op:
        name = _checked_name(op)
        _strip(op)
        if name == "composite":  # XLA has operations of its own for some names
            op.attributes["name"] = ir.StringAttr.get("jaxgrader.composite")
        regions = range(len(op.regions))
        return Op(
            name=name,
            operands=self.ids(op.operands),
            results=self.ids(op.results),
            blocks=tuple(self.block(op, region, depth + 1) for region in regions),
            whole=all(_is_whole(value.type) for value in op.results),
            callee=_callee(op, name),
            constant=self.constant(op) if name == "constant" else None,
            direction=_direction(op) if name == "compare" else None,
        )

    def constant(self, op: ir.Operation) -> int | None:
        """Count a constant's bytes; return its value if it is one integer."""
        kind = ir.RankedTensorType(op.results[0].type)
        value = _elements(op)
        items = 1 if value is not None and value.is_splat else prod(kind.shape)
        self.constant_bytes += items * _item_bytes(kind.element_type)
        if self.constant_bytes > self.max_constant_bytes:
            raise ProgramError(TOO_MANY_CONSTANTS.format(self.max_constant_bytes))
        if value is None or kind.shape or not _is_whole(kind):
            return None
        return _integer(value.get_splat_value(), ir.IntegerType(kind.element_type))

    def ids(self, values: Iterable[ir.Value[ir.Type]]) -> tuple[int, ...]:
        numbers = self.numbers
        return tuple(numbers.setdefault(value, len(numbers)) for value in values)


def _strip(op: ir.Operation) -> None:
    """Remove notes to compilers: how to share work among devices, names of results.

    What an operation computes does not depend on them, but for a kernel's options.
    """
    for name in list(op.attributes):
        note = "." in name and name != "mhlo.backend_config"
        if note or name in ("arg_attrs", "res_attrs"):
            del op.attributes[name]


def _checked_name(op: ir.Operation) -> str:
    """Return an operation's name without its dialect, if the operation is allowed."""
    dialect, _, name = op.name.partition(".")
    if dialect == "func" and name in ("call", "return"):
        return name
    if op.name == "stablehlo.custom_call":
        return _kernel(op)
    if dialect != "stablehlo" or name not in ALLOWED:
        raise _refused(op.name)
    return name


def _kernel(op: ir.Operation) -> str:
    target = ir.StringAttr(op.attributes["call_target_name"]).value
    if target not in KERNELS or _is_true(op, "has_side_effect"):
        raise ProgramError(FOREIGN_CALL.format(target))
    return target


def _is_true(op: ir.Operation, key: str) -> bool:
    return key in op.attributes and bool(ir.BoolAttr(op.attributes[key]).value)


def _callee(op: ir.Operation, name: str) -> str | None:
    key = {"call": "callee", "composite": "decomposition"}.get(name)
    return ir.FlatSymbolRefAttr(op.attributes[key]).value if key else None


def _direction(op: ir.Operation) -> str:
    return str(
        stablehlo.ComparisonDirectionAttr(op.attributes["comparison_direction"]).value
    )


def _elements(op: ir.Operation) -> ir.DenseElementsAttr | None:
    """Return a constant's elements; None for complex ones, which MLIR cannot hand out.

    Elements that are stored apart from the program are refused.
    """
    try:
        value = op.attributes["value"]
    except TypeError:
        return None
    if not isinstance(value, ir.DenseElementsAttr):
        raise ProgramError(NOT_A_PROGRAM)
    return value


def _integer(value: ir.Attribute, kind: ir.IntegerType) -> int:
    """Read an integer of any width and sign; booleans are 0 and 1."""
    if kind.width == 1:
        return int(ir.BoolAttr(value).value)
    return int(ir.IntegerAttr(value).value)


def _is_whole(kind: ir.Type) -> bool:
    if not isinstance(kind, ir.RankedTensorType):
        return False
    return isinstance(ir.RankedTensorType(kind).element_type, ir.IntegerType)


def _item_bytes(kind: ir.Type) -> int:
    if isinstance(kind, ir.ComplexType):
        return 2 * _item_bytes(ir.ComplexType(kind).element_type)
    width = getattr(kind, "width", 64)
    return max(1, int(width) // 8)


#: How MLIR names the types of elements -> how NumPy does.
_DTYPES = {
    "i1": "bool",
    "bf16": "bfloat16",
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "complex<f32>": "complex64",
    "complex<f64>": "complex128",
    **{f"i{n}": f"int{n}" for n in (2, 4, 8, 16, 32, 64)},
    **{f"ui{n}": f"uint{n}" for n in (2, 4, 8, 16, 32, 64)},
    "f8E4M3FN": "float8_e4m3fn",
    "f8E5M2": "float8_e5m2",
}


def _array(kind: ir.Type) -> Array:
    if not isinstance(kind, ir.RankedTensorType):
        raise ProgramError(NOT_ARRAYS.format(kind))
    array = ir.RankedTensorType(kind)
    dtype = _DTYPES.get(str(array.element_type))
    if dtype is None or not array.has_static_shape:
        raise ProgramError(NOT_ARRAYS.format(kind))
    return Array(dtype, tuple(array.shape))


def _refused(name: str) -> ProgramError:
    return ProgramError(NOT_ALLOWED.format(name))


NOT_A_PROGRAM = (
    "this is not a program that JAX traced: it cannot be read. Return to the JAX "
    "functions that the notebook asks for, and leave jax.export alone"
)
NOT_STABLEHLO = "the program that JAX traced cannot be written in StableHLO: {}"
NOT_ALLOWED = (
    "the program contains the operation {}, which does more than compute arrays from "
    "arrays, or depends on the machine. Use ordinary jax.numpy and jax.lax functions"
)
FOREIGN_CALL = (
    "the program calls {!r}, code outside of JAX. Remove callbacks, jax.debug.print "
    "and kernels of your own from what the test calls"
)
TOO_MANY_CONSTANTS = (
    "the program carries more than {} bytes of constants. Compute from the arguments, "
    "or make the parameters in the function, instead of storing arrays outside of it"
)
NOT_ARRAYS = (
    "the program takes or returns a {}, expected arrays of one of JAX's usual dtypes "
    "with a fixed shape"
)
