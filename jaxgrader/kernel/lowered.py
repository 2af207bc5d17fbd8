"""Lowered programs, kept beside the compiled ones, so that none is lowered twice.

JAX's compilation cache begins where a program has been lowered to StableHLO, and in a
warm kernel that is most of what a small program costs: 15 ms of Python, where its
compiled code is read in three. Here the module is looked up by the jaxpr itself.

Guarantees: a module is found only for a jaxpr that is equal in all that lowering reads:
primitives, parameters, types, constants, configuration, names. What this module does
not know for certain how to spell (an effect, a callback, a function as a parameter, a
mesh) is lowered by JAX, each time. Only locations differ, which no program's meaning
depends on, and equal programs of one process are one object. Assumes the JAX that
`install` recognises; any other is left as it is.
"""

import contextlib
import dataclasses
import enum
import hashlib
import inspect
import io
import marshal
import os
import re
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: How the names of our entries begin; JAX's own begin with "jit_".
PREFIX = "lowered-"
#: Modules that a process remembers, with what they were compiled to: a megabyte each.
KNOWN = 32
#: Bytes of a constant that is still worth hashing.
CONSTANT = 1 << 16
#: Bytes of the digest that an entry begins with.
DIGEST = 32


#: Hears of a module and its jaxpr.
Note = Callable[[Any, Any], None]


class Unknown(Exception):
    """Something that this module cannot spell: the program is lowered as ever."""


class Speller:
    """Spells a jaxpr, so that equal spellings are lowered to equal modules.

    A spelling is a nest of tuples of Python's own constants, for `marshal`.
    """

    def __init__(self) -> None:
        from jax._src import core, sharding_impls
        from jax._src.interpreters import mlir
        from jax._src.named_sharding import UnspecifiedValue
        from jax._src.random import prng

        self.core = core
        self.unspecified: type = UnspecifiedValue
        self.single: type = sharding_impls.SingleDeviceSharding
        #: Those that came with JAX. One that a notebook defines may have any name.
        self.primitives = {
            *mlir._lowerings,
            *mlir._platform_specific_lowerings.get("cpu", ()),
        }
        self.generators = set(map(id, prng.prngs.values()))
        self.by_type: dict[type, Callable[[Any], Any]] = {
            core.ClosedJaxpr: self.closed,
            core.Jaxpr: self.jaxpr,
            core.ShapedArray: self.aval,
            core.Literal: self.literal,
            core.AxisEnv: self.axes,
        }
        #: Of what never changes once it is made.
        self.known: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def spell(self, value: Any) -> Any:
        """Return the spelling of a value. Raises `Unknown`."""
        kind = type(value)
        if value is None or kind in PLAIN:
            return value
        if kind is tuple or kind is list:
            return (kind.__name__, *map(self.spell, value))
        if kind is dict:
            items = sorted(value.items())
            return ("dict", *((str(name), self.spell(each)) for name, each in items))
        speller = self.by_type.get(kind)
        return speller(value) if speller is not None else self.other(kind, value)

    def other(self, kind: type, value: Any) -> Any:
        """Spell what JAX's own modules define, as far as it is made of plain parts."""
        if isinstance(value, self.unspecified):
            return "unspecified"
        if kind is self.single:
            return ("one device", value.memory_kind)
        if id(value) in self.generators:
            return ("generator", value.tag)
        if isinstance(value, type) and is_jaxs(value):
            return ("type", value.__module__, value.__qualname__)
        if isinstance(value, enum.Enum) and is_jaxs(kind):
            return (kind.__qualname__, value.name)
        plain = next((each for each in NUMBERS if isinstance(value, each)), None)
        if plain is not None and is_jaxs(kind):
            return (kind.__name__, plain(value), str(value.dtype))
        if hasattr(value, "dtype") and hasattr(value, "nbytes"):
            return self.array(value)
        if kind.__module__.partition(".")[0] == "numpy" and hasattr(value, "itemsize"):
            return ("dtype", str(value))
        if getattr(value, "empty", False) is True and "Mesh" in kind.__name__:
            return "no mesh"
        if not is_jaxs(kind):
            raise Unknown(kind)
        if isinstance(value, tuple):
            return (kind.__qualname__, *map(self.spell, value))
        if dataclasses.is_dataclass(value):
            fields = dataclasses.fields(value)
            parts = (self.spell(getattr(value, field.name)) for field in fields)
            return (kind.__qualname__, *parts)
        raise Unknown(kind)

    def array(self, value: Any) -> Any:
        """Spell a constant."""
        if value.nbytes > CONSTANT or not isinstance(value.shape, tuple):
            raise Unknown("a large constant")
        import numpy

        host = numpy.asarray(value)
        if host.dtype.hasobject:
            raise Unknown("an array of objects")
        weak = bool(getattr(value, "weak_type", False))
        on_device = not isinstance(value, numpy.ndarray | numpy.generic)
        return ("array", str(host.dtype), host.shape, host.tobytes(), weak, on_device)

    def aval(self, aval: Any) -> Any:
        """Spell the type of an array."""
        found = self.known.get(aval)
        if found is None:
            if not aval.sharding.mesh.empty or not aval.mat.empty:
                raise Unknown("a mesh")
            if not all(type(size) is int for size in aval.shape):
                raise Unknown("a symbolic shape")
            space = getattr(aval.memory_space, "name", str(aval.memory_space))
            dtype = (type(aval.dtype).__name__, str(aval.dtype))
            found = (aval.shape, dtype, bool(aval.weak_type), space)
            self.known[aval] = found
        return found

    def axes(self, axes: Any) -> Any:
        """Spell the named axes that a program is lowered under: none, or refuse."""
        if axes.axis_sizes or axes.spmd_axis_names or axes.explicit_mesh_axis_names:
            raise Unknown("named axes")
        return "no axes"

    def literal(self, literal: Any) -> Any:
        """Spell a constant within a jaxpr."""
        kind = type(literal.val).__name__
        return ("literal", kind, self.spell(literal.val), self.spell(literal.aval))

    def closed(self, closed: Any) -> Any:
        """Spell a jaxpr and its constants."""
        return ("closed", self.jaxpr(closed.jaxpr), self.spell(list(closed.consts)))

    def jaxpr(self, jaxpr: Any) -> Any:
        """Spell a jaxpr as the digest of its equations, with variables by number."""
        found = self.known.get(jaxpr)
        if found is None:
            if jaxpr.effects:
                raise Unknown("effects")
            numbers: dict[Any, int] = {}
            bound = [*jaxpr.constvars, *jaxpr.invars]
            spelled = (
                tuple(self.bind(numbers, var) for var in bound),
                len(jaxpr.constvars),
                tuple(self.equation(numbers, eqn) for eqn in jaxpr.eqns),
                tuple(self.atom(numbers, atom) for atom in jaxpr.outvars),
            )
            found = digest(spelled)
            self.known[jaxpr] = found
        return found

    def bind(self, numbers: dict[Any, int], var: Any) -> Any:
        """Number a variable where it is bound; return its type."""
        if isinstance(var, self.core.DropVar):
            return ("drop", self.spell(var.aval))
        numbers[var] = len(numbers)
        return self.spell(var.aval)

    def atom(self, numbers: dict[Any, int], atom: Any) -> Any:
        """Spell a variable or a literal where it is used."""
        if isinstance(atom, self.core.Literal):
            return self.literal(atom)
        return numbers[atom]

    def equation(self, numbers: dict[Any, int], eqn: Any) -> Any:
        """Spell one equation."""
        primitive = eqn.primitive
        if primitive not in self.primitives or eqn.effects:
            raise Unknown(primitive)
        ignored = IGNORED.get(primitive.name, ())
        params = sorted(eqn.params.items())
        return (
            primitive.name,
            tuple(self.atom(numbers, atom) for atom in eqn.invars),
            tuple((k, self.spell(v)) for k, v in params if k not in ignored),
            self.context(eqn.ctx),
            tuple(self.bind(numbers, var) for var in eqn.outvars),
        )

    def context(self, ctx: Any) -> Any:
        """Spell the settings that an equation was made under."""
        found = self.known.get(ctx)
        if found is None:
            if not ctx.cur_abstract_mesh.empty or ctx.xla_metadata:
                raise Unknown("a mesh, or metadata")
            found = (
                self.spell(ctx.compute_type),
                bool(ctx.threefry_partitionable),
                bool(ctx.remove_size_one_mesh_axis),
            )
            self.known[ctx] = found
        return found


def is_jaxs(kind: type) -> bool:
    """Whether a class is one of JAX's own, or of NumPy's."""
    return kind.__module__.partition(".")[0] in ("jax", "jaxlib", "numpy")


def digest(spelled: Any) -> bytes:
    """Return the digest of a spelling; the same in all processes."""
    return hashlib.sha256(marshal.dumps(spelled, 2)).digest()


def install(
    folder: Path, shared: Path | None = None, lowered_from: Note | None = None
) -> None:
    """From now on, look for lowered programs in folders, and keep new ones in `folder`.

    `lowered_from` hears of each module, and of the jaxpr that it was lowered from.
    Where JAX is not as this module knows it, nothing changes.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from jax._src import cache_key
        from jax._src.interpreters import mlir

        lower, add_to_key = mlir.lower_jaxpr_to_module, cache_key._hash_computation
        known = inspect.signature(lower).parameters, inspect.signature(add_to_key)
        if (list(known[0]), list(known[1].parameters)) == (PARAMETERS, KEY_PARAMETERS):
            start_lapack()
            folders = [folder] if shared is None else [shared, folder]
            looking_up = LookingUp(
                folders, lowered_from or (lambda module, jaxpr: None)
            )
            mlir.make_ir_context = looking_up.make_ir_context
            mlir.lower_jaxpr_to_module = looking_up
            cache_key._hash_computation = looking_up.add_to_key  # type: ignore[assignment]


class LookingUp:
    """Takes the place of JAX's `lower_jaxpr_to_module`, and looks into `folders` first.

    What it returns once, it returns again: JAX finds the compiled program by the
    module. So a function that is made anew in each call is loaded, or compiled, once.
    New entries go into the last folder.
    """

    def __init__(self, folders: list[Path], note: Note) -> None:
        from jax._src import cache_key, config
        from jax._src.interpreters import mlir

        from jaxgrader.stablehlo import make_context

        held = config.config._value_holders
        self.settings = [held[name] for name in SETTINGS if name in held]
        self.folders, self.note = folders, note
        self.speller = Speller()
        self.lower = mlir.lower_jaxpr_to_module
        self.add_text_to_key = cache_key._hash_computation
        self.full_context = mlir.make_ir_context
        self.small_context = make_context
        #: Whether this thread is to lower in a small context.
        self.here = threading.local()
        self.known: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        #: The names of modules that were looked up.
        self.names: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()

    def __call__(self, module_name: str, jaxpr: Any, **rest: Any) -> Any:
        made = self.look(module_name, jaxpr, rest)
        self.note(made.module, jaxpr)
        return made

    def look(self, module_name: str, jaxpr: Any, rest: dict[str, Any]) -> Any:
        """Return what was lowered from an equal jaxpr, or lower this one."""
        name = None
        with contextlib.suppress(Exception):  # whatever is wrong, JAX says it better
            name = self.name(module_name, jaxpr, rest)
        if name is None:
            return self.lower(module_name, jaxpr, **rest)
        key = (name, *(setting.value for setting in self.settings))
        found = self.known.get(key) or self.kept(name, rest["platforms"])
        if found is None:
            found = self.lowered(module_name, jaxpr, rest)
            if found.keepalive or found.host_callbacks or calls_out(found.module):
                return found
            without_locations(found.module)
            keep(self.folders[-1] / name, found.module)
        self.names[found.module] = name
        self.known.pop(key, None)  # it becomes the newest
        self.known[key] = found
        if len(self.known) > KNOWN:
            self.known.popitem(last=False)
        return found

    def name(self, module_name: str, jaxpr: Any, rest: dict[str, Any]) -> str:
        """Return the name of a program's entry. Raises `Unknown`."""
        from jax._src import config

        speller, backend, axes = self.speller, rest["backend"], rest["axis_context"]
        alone = rest["num_partitions"] == 1 and axes.device_assignment is None
        if not alone or axes.abstract_mesh is not None:
            raise Unknown("more than one device")
        if backend is None or tuple(rest["platforms"]) != ("cpu",):
            raise Unknown("another platform")
        kept = {k: v for k, v in rest.items() if k not in ("backend", "axis_context")}
        settings = speller.spell(config.trace_context())
        place = backend.platform, backend.platform_version
        closed = speller.closed(jaxpr)
        spelled = (module_name, closed, speller.spell(kept), place, settings)
        plain = re.sub(r"\W", "_", module_name)[:60]
        return f"{PREFIX}{plain}-{digest(spelled).hex()}"

    def kept(self, name: str, platforms: Any) -> Any:
        """Return what the folder holds under a name, None for nothing."""
        from jax._src.interpreters import mlir
        from jaxlib.mlir import ir

        for folder in self.folders:
            with contextlib.suppress(OSError, ir.MLIRError, ValueError):
                module = ir.Module.parse(read(folder / name), self.small_context())
                state = mlir.ShapePolyLoweringState((), tuple(platforms))
                return mlir.LoweringResult(module, [], [], state)
        return None

    def add_to_key(self, key: Any, module: Any, ignore_callbacks: Any) -> None:
        """Take the place of JAX's function that adds a module to the cache's key.

        JAX writes the module down, which takes as long as to look it up; its name
        tells as much, of a module that nobody has changed.
        """
        if (name := self.names.get(module)) is not None:
            key.update(name.encode())
        else:
            self.add_text_to_key(key, module, ignore_callbacks)

    def lowered(self, module_name: str, jaxpr: Any, rest: dict[str, Any]) -> Any:
        """Lower a program in a small context, or if that does not do, in JAX's own."""
        with contextlib.suppress(Exception), self.small_contexts():
            return self.lower(module_name, jaxpr, **rest)
        # It is made of another dialect, or it is wrong, and JAX says how.
        return self.lower(module_name, jaxpr, **rest)

    @contextlib.contextmanager
    def small_contexts(self) -> Iterator[None]:
        """What this thread lowers, it lowers in small contexts."""
        self.here.small = True
        try:
            yield
        finally:
            self.here.small = False

    def make_ir_context(self) -> Any:
        """Take the place of JAX's function of this name."""
        small = getattr(self.here, "small", False)
        return self.small_context() if small else self.full_context()


def calls_out(module: Any) -> bool:
    """Whether a program calls what its lowering may have made ready, but for LAPACK."""
    from jaxlib.mlir import ir

    found = []

    def look(operation: Any) -> Any:
        if operation.name == "stablehlo.custom_call":
            found.append(ir.StringAttr(operation.attributes["call_target_name"]).value)
        return ir.WalkResult.ADVANCE

    module.operation.walk(look)
    return not all(name.startswith("lapack_") for name in found)


def start_lapack() -> None:
    """Give jaxlib the LAPACK functions of SciPy, as lowering would."""
    import numpy
    from jaxlib import lapack

    lapack.prepare_lapack_call("geqrf_ffi", numpy.dtype("float32"))  # type: ignore[no-untyped-call]


def read(path: Path) -> bytes:
    """Return the module in a file.

    Raises:
        OSError: if there is none.
        ValueError: if it is damaged: MLIR may end the process for it.
    """
    content = path.read_bytes()
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        raise ValueError(f"{path} is damaged")
    return content[DIGEST:]


def without_locations(module: Any) -> None:
    """Forget where a module's operations stood in somebody's code.

    XLA writes each into the compiled program, and reads it with it: a sixth of what
    loading a program takes.
    """
    from jaxlib.mlir import passmanager

    with module.context:
        strip = passmanager.PassManager.parse("builtin.module(strip-debuginfo)")
        strip.run(module.operation)


def keep(path: Path, module: Any) -> None:
    """Write a module to a file, at once and whole, if there is room for it."""
    written = io.BytesIO()
    module.operation.write_bytecode(file=written)
    content = written.getvalue()
    with contextlib.suppress(OSError):
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(hashlib.sha256(content).digest() + content)
        os.replace(file.name, path)


PLAIN = frozenset({bool, int, float, complex, str, bytes})
NUMBERS: tuple[Any, ...] = (int, float, complex)
#: Parameters that lowering for a processor does not read: rules of differentiation.
IGNORED = {
    "custom_jvp_call": ("jvp_jaxpr_fun", "jvp_jaxpr_thunk"),
    "custom_vjp_call": ("fwd_jaxpr_thunk", "bwd", "out_trees"),
    "custom_vjp_call_jaxpr": ("fwd_jaxpr_thunk", "bwd", "out_trees"),
}
#: What the compiler reads and lowering does not.
SETTINGS = (
    "jax_disable_most_optimizations",
    "jax_optimization_level",
    "jax_exec_time_optimization_effort",
    "jax_memory_fitting_effort",
    "jax_compiler_enable_remat_pass",
)
#: The functions that `install` replaces, as it knows them.
KEY_PARAMETERS = ["hash_obj", "module", "ignore_callbacks"]
PARAMETERS = [
    "module_name",
    "jaxpr",
    "num_const_args",
    "in_avals",
    "ordered_effects",
    "platforms",
    "backend",
    "axis_context",
    "donated_args",
    "replicated_args",
    "arg_shardings",
    "result_shardings",
    "in_layouts",
    "out_layouts",
    "arg_names",
    "result_names",
    "num_partitions",
    "all_default_mem_kind",
    "input_output_aliases",
    "propagated_out_mem_kinds",
    "lowering_parameters",
]
