"""A call of a function as a program that can be carried elsewhere, judged, and run.

`export_call` runs where the function is; across the wire that is the student's process.
`load_program` runs in the inspector, an isolated process without any code of the
student's: it reads the very bytes that it also runs, so the structure that a test
judges and the values that it compares belong to one and the same program.

A packed program is, in this order: `MAGIC`; the length of the header, four bytes,
little-endian; the header, JSON that says how the results are nested; StableHLO as text
in UTF-8. What arrays go in and come out is read from the StableHLO itself.

Guarantees: only operations and kernels that stablehlo.py lists; one platform, the CPU;
no effects, callbacks, collectives or run-time shapes; inputs of the shapes and dtypes
of the arguments that the test gave. Whatever is wrong is a `ProgramError`.

Assumes: `load_program` is called in a process whose memory, time and crash are bounded
from outside, and whose platform is the CPU. A program may loop for ever, ask for any
memory, or crash a parser.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxgrader.errors import ProgramError, first_line
from jaxgrader.explain import USES_LEFT_OVERS, explain
from jaxgrader.interpreter import interpret
from jaxgrader.programs import MAX_CONSTANT_BYTES, Program, describe
from jaxgrader.stablehlo import Array, Module, read_module

MAGIC = b"JXG1"

#: How JAX lowers a call of a Python function.
_CALLBACK = re.compile(r"stablehlo\.custom_call @(\w*callback\w*)")

#: A packed program may not be larger, in bytes.
MAX_BYTES = 4 << 20

#: Nor the part of it that says how the results are nested.
MAX_HEADER_BYTES = 1 << 16

#: Nor may the results be nested deeper than this.
MAX_NESTING = 50


def export_call(
    fn: Callable[..., object],
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
) -> bytes:
    """Trace `fn(*args, **kwargs)` for its array arguments, and pack the program.

    NumPy and JAX arrays, those without axes and PRNG keys included, become inputs, of
    which only shape and dtype matter; this goes for arrays in tuples, lists and dicts
    too. Everything else is held as it is. Raises ProgramError, in words for the author
    of `fn`, if JAX cannot trace it, if it returns anything but numbers and arrays in
    tuples, lists and dicts, or if the program cannot leave the process.
    """
    call = _Call(args, kwargs)
    nesting: list[object] = []

    def flat(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        new_args, new_kwargs = call.rebuild(arrays)
        leaves: list[jax.Array] = []
        nesting[:] = [_flatten(fn(*new_args, **new_kwargs), leaves)]
        return tuple(leaves)

    program = _lower(jax.jit(flat, keep_unused=True), call.inputs).encode()
    header = json.dumps(nesting[0]).encode()
    return b"".join([MAGIC, len(header).to_bytes(4, "little"), header, program])


@dataclass(frozen=True)
class LoadedProgram:
    """A program of which structure and values can be judged.

    Made by `load_program`.
    """

    program: Program
    nesting: object
    module: Module

    def run(
        self, args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        """Run this program on other arrays, in the places of the first ones.

        Everything but the arrays is ignored: it is part of the program. Returns JAX
        arrays, nested like the results of the function; a number has become an array
        without axes, a PRNG key its data. Raises ProgramError for arrays of other
        shapes or dtypes, and for a program that does not compile or run.
        """
        call = _Call(args, kwargs)
        _check_inputs(self.module.inputs, call)
        try:
            leaves = jax.block_until_ready(self._compiled(*call.inputs))
        except Exception as error:
            # Which ones a compiler raises is nowhere written down.
            raise ProgramError(DOES_NOT_RUN.format(first_line(error, 200))) from None
        return _unflatten(self.nesting, iter(leaves))

    def interpret(
        self, args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        """Do what `run` does, where the program is small, without compiling it.

        A program that the interpreter cannot run may end the process.
        """
        call = _Call(args, kwargs)
        _check_inputs(self.module.inputs, call)
        leaves = interpret(self.module, self.program, call.inputs)
        if leaves is None:
            return self.run(args, kwargs)
        return _unflatten(self.nesting, map(jax.device_put, leaves))

    @cached_property
    def _compiled(self) -> jax.stages.Compiled:
        """Compile once, and quickly: the program runs a few times at most.

        Without optimisation the programs of this course compile in a fifth to a third
        of the time, a fifth of a second each.
        """
        exported = _exported(self.module)
        lowered = jax.jit(exported.call).lower(*map(_as_shape, self.module.inputs))
        return lowered.compile({"xla_backend_optimization_level": "0"})


def load_program(
    data: bytes,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    *,
    max_bytes: int = MAX_BYTES,
    max_constant_bytes: int = MAX_CONSTANT_BYTES,
) -> LoadedProgram:
    """Unpack, check and read what `export_call` gave for these arguments.

    Raises ProgramError, whatever is wrong with the bytes.
    """
    if len(data) > max_bytes:
        raise ProgramError(TOO_LARGE.format(max_bytes))
    nesting, program = _unpack(data)
    module = read_module(program, max_constant_bytes=max_constant_bytes)
    _check_inputs(module.inputs, _Call(args, kwargs))
    if _count(nesting) != len(module.outputs):
        raise ProgramError(NOT_PACKED)
    for array in (*module.inputs, *module.outputs):
        if jax.dtypes.canonicalize_dtype(array.dtype) != jnp.dtype(array.dtype):
            raise ProgramError(OTHER_PRECISION)
    return LoadedProgram(
        program=describe(module),
        nesting=nesting,
        module=module,
    )


@dataclass(frozen=True)
class LocalProgram(Program):
    """A program of this process's own: its structure, and values on other arrays."""

    packed: bytes = field(default=b"", repr=False, compare=False)

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Run this very program; see `LoadedProgram.run`."""
        loaded = load_program(self.packed, args, kwargs, max_constant_bytes=MAX_BYTES)
        return loaded.run(args, kwargs)


def read_packed(data: bytes) -> LocalProgram:
    """Read a packed program that this process made itself."""
    artifact = _unpack(data)[1]
    program = describe(read_module(artifact, max_constant_bytes=MAX_BYTES))
    return LocalProgram(**vars(program), packed=data)


class _Call:
    """The arguments of a call: arrays, and how to put others in their places."""

    def __init__(
        self, args: Sequence[object], kwargs: Mapping[str, object] | None
    ) -> None:
        both = tuple(args), dict(kwargs or {})
        self.leaves, self.tree = jax.tree.flatten(both)
        self.places = [i for i, leaf in enumerate(self.leaves) if _is_input(leaf)]
        # jnp.asarray would compile a program for each new shape.
        self.inputs = [jax.device_put(_plain(self.leaves[i])) for i in self.places]

    def rebuild(self, arrays: Sequence[jax.Array]) -> tuple[Any, Any]:
        leaves = list(self.leaves)
        for place, array in zip(self.places, arrays, strict=True):
            given = leaves[place]
            if _is_key(given):
                array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(given))
            leaves[place] = array
        args, kwargs = jax.tree.unflatten(self.tree, leaves)
        return args, kwargs


def _is_input(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in "OSUMm"
    return isinstance(value, jax.Array)


def _is_key(value: object) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(
        value.dtype, jax.dtypes.prng_key
    )


def _plain(value: Any) -> Any:
    """An array as JAX takes it: a key as its data, numbers in this machine's order."""
    if _is_key(value):
        return jax.random.key_data(value)
    if isinstance(value, np.ndarray) and not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    return value


def _lower(jitted: Any, inputs: Sequence[jax.Array]) -> str:
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs]
    try:
        traced = jitted.trace(*shapes)
    except ProgramError:
        raise
    except Exception as error:  # whatever the student's function raises
        raise ProgramError(explain(error)) from None
    # An array of an earlier trace, and a Ref from outside, JAX passes as inputs.
    more = len(traced.jaxpr.in_avals) != len(shapes)
    if more or any(isinstance(held, jax.Ref) for held in traced.jaxpr.consts):
        raise ProgramError(LEFT_OVER)
    try:
        text: str = traced.lower(lowering_platforms=("cpu",)).as_text()
    except Exception as error:  # a lowering may raise anything
        raise ProgramError(NOT_EXPORTED.format(first_line(error, 200))) from None
    if called := _CALLBACK.search(text):
        raise ProgramError(NOT_EXPORTED.format(f"it calls {called[1]}"))
    return text


def _exported(module: Module) -> export.Exported:
    """Make what was read and checked callable.

    All that JAX wants to know beside it comes from a program of our own, with the same
    inputs and outputs, so that nothing else has to be taken from a stranger.
    """
    shapes = map(_as_shape, module.inputs)

    def zeros(*_: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(jnp.zeros(a.shape, a.dtype) for a in module.outputs)

    frame = export.export(jax.jit(zeros, keep_unused=True), platforms=("cpu",))(*shapes)
    return replace(frame, mlir_module_serialized=module.artifact)


def _as_shape(array: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, jnp.dtype(array.dtype))


def _check_inputs(wanted: tuple[Array, ...], call: _Call) -> None:
    given = tuple(Array(str(x.dtype), x.shape) for x in call.inputs)
    if wanted != given:
        raise ProgramError(OTHER_INPUTS.format(_listed(wanted), _listed(given)))


def _listed(arrays: tuple[Array, ...]) -> str:
    return ", ".join(f"{a.dtype}{list(a.shape)}" for a in arrays) or "no array"


# How results are nested: an array is 0, None is null, a tuple is {"tuple": [...]}, a
# dict is {"dict": [[key, ...], ...]}, a list is a list.


def _flatten(value: Any, leaves: list[jax.Array]) -> object:
    if value is None:
        return None
    if type(value) is list:
        return [_flatten(v, leaves) for v in value]
    if isinstance(value, tuple):  # what jnp.linalg returns has names, too
        return {"tuple": [_flatten(v, leaves) for v in value]}
    if type(value) is dict and all(type(key) in (str, int) for key in value):
        return {"dict": [[key, _flatten(v, leaves)] for key, v in value.items()]}
    leaves.append(_as_result(value))
    return 0


def _as_result(value: Any) -> jax.Array:
    number = isinstance(value, bool | int | float | complex | np.number | np.bool_)
    if not number and not _is_input(value):
        raise ProgramError(NOT_AN_ARRAY.format(type(value).__name__))
    return jnp.asarray(_plain(value))


def _unflatten(nesting: Any, leaves: Any) -> object:
    if nesting is None:
        return None
    if nesting == 0:
        return next(leaves)
    if isinstance(nesting, list):
        return [_unflatten(v, leaves) for v in nesting]
    if "tuple" in nesting:
        return tuple(_unflatten(v, leaves) for v in nesting["tuple"])
    return {key: _unflatten(v, leaves) for key, v in nesting["dict"]}


def _count(nesting: Any, depth: int = 0) -> int:
    """Count the arrays; raise ProgramError for what `_flatten` never returns."""
    if depth > MAX_NESTING:
        raise ProgramError(NOT_PACKED)
    match nesting:
        case None:
            return 0
        case 0 if type(nesting) is int:
            return 1
        case list():
            return sum(_count(value, depth + 1) for value in nesting)
        case {"tuple": list(values)} if len(nesting) == 1:
            return sum(_count(value, depth + 1) for value in values)
        case {"dict": list(items)} if len(nesting) == 1:
            return sum(_count_item(item, depth + 1) for item in items)
    raise ProgramError(NOT_PACKED)


def _count_item(item: Any, depth: int) -> int:
    match item:
        case [str() | int(), value]:
            return _count(value, depth)
    raise ProgramError(NOT_PACKED)


def _unpack(data: bytes) -> tuple[Any, str]:
    start = len(MAGIC) + 4
    size = int.from_bytes(data[len(MAGIC) : start], "little")
    header = data[start : start + size]
    if data[: len(MAGIC)] != MAGIC or size > MAX_HEADER_BYTES or len(header) != size:
        raise ProgramError(NOT_PACKED)
    try:
        nesting = json.loads(header)
        _count(nesting)
        return nesting, data[start + size :].decode()
    except (ValueError, RecursionError):
        raise ProgramError(NOT_PACKED) from None


NOT_PACKED = "this is not a program that jaxgrader packed"
TOO_LARGE = (
    "the program is larger than {} bytes. Compute from the arguments, and write loops "
    "with jax.lax instead of letting Python unroll them"
)
NOT_EXPORTED = (
    "the program that JAX traced cannot be written down ({}). Remove callbacks and "
    "jax.debug.print from what the test calls"
)
LEFT_OVER = f"JAX cannot trace your function: it {USES_LEFT_OVERS}"
NOT_AN_ARRAY = "your function returned a {}, expected an array"
OTHER_INPUTS = "the program takes {}, and the test gives {}"
OTHER_PRECISION = (
    "the program returns 64-bit numbers, which are off in JAX unless asked for. Remove "
    "jax_enable_x64, and compute in float32"
)
DOES_NOT_RUN = "the program that JAX traced cannot be compiled or run: {}"
