"""Small programs are compiled quickly: an assignment's are, and run a few times.

What it is: the choice between two ways of XLA's. It optimises a program as if it ran
for hours, which takes 30 to 500 ms for programs that run for some microseconds; with
little optimisation and its older code generator, it takes a fifth of that, and what
comes of it runs up to six times as long. So a program whose work is small, and known
from its jaxpr, is compiled the quick way.

Guarantees: a program of more than `SMALL` steps, or of an unknown number, is compiled
as JAX compiles it; so is one for which its author gave JAX options. Both ways compute
the same up to rounding. Assumes the JAX that `install` recognises; any other is left as
it is.
"""

import contextlib
import inspect
import math
import weakref
from collections.abc import Iterator
from typing import Any

#: Steps: about what a processor does in 0.1 ms. Each call takes some 0.01 ms anyway.
SMALL = 100_000
#: Steps for each number drawn.
DRAWN = 100
#: How JAX is told, and XLA.
QUICKLY = [
    ("xla_backend_optimization_level", 0),
    ("xla_cpu_use_fusion_emitters", False),
]


class Unknown(Exception):
    """A program's work cannot be told from its jaxpr."""


class Quick:
    """Takes the place of JAX's `backend_compile_and_load`."""

    def __init__(self, compile_and_load: Any) -> None:
        self.compile_and_load = compile_and_load
        #: What modules were lowered from.
        self.jaxprs: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        #: Whether this XLA knows the options.
        self.known = True

    def __call__(
        self, backend: Any, module: Any, devices: Any, options: Any, callbacks: Any
    ) -> Any:
        plain = backend, module, devices, options, callbacks
        chosen = list(options.env_option_overrides)
        ours = backend.platform == "cpu" and not chosen and self.known
        if not ours or not self.is_small(module):
            return self.compile_and_load(*plain)
        options.env_option_overrides = QUICKLY
        try:
            return self.compile_and_load(*plain)
        except Exception:
            options.env_option_overrides = chosen
            made = self.compile_and_load(*plain)  # if it is wrong, JAX says how
            self.known = False
            return made
        finally:
            options.env_option_overrides = chosen

    def note(self, module: Any, jaxpr: Any) -> None:
        """Hear of a module, and of the jaxpr that it was lowered from."""
        with contextlib.suppress(TypeError):
            self.jaxprs[module] = jaxpr

    def is_small(self, module: Any) -> bool:
        """Whether a program's work is known, and small."""
        try:
            return work(self.jaxprs[module].jaxpr) <= SMALL
        except Exception:  # Unknown, or a jaxpr as no JAX before had it
            return False


def work(jaxpr: Any) -> int:
    """Return about how many steps a jaxpr takes, or a number above `SMALL`.

    A number that is computed, or moved, is one.

    Raises:
        Unknown: for a loop of an unknown number of turns, and for what takes more steps
            than it has numbers.
    """
    steps = 0
    for equation in jaxpr.eqns:
        steps += work_of(equation)
        if steps > SMALL:
            break  # whatever comes, it is not small
    return steps


def work_of(equation: Any) -> int:
    """Return the work of one equation. Raises `Unknown`."""
    name, params = equation.primitive.name, equation.params
    size = sum(size_of(v.aval) for v in (*equation.invars, *equation.outvars))
    if name in LARGE:
        raise Unknown(name)
    if name == "dot_general":
        (summed, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        size += size_of(equation.outvars[0].aval) * math.prod(shape[i] for i in summed)
    elif name in RANDOM:
        size *= DRAWN
    turns = params["length"] if name == "scan" else 1
    return size + turns * sum(map(work, within(params)))


def size_of(aval: Any) -> int:
    """Return how many numbers an array has. Raises `Unknown`."""
    try:
        return math.prod(map(int, aval.shape))
    except (AttributeError, TypeError):
        raise Unknown(aval) from None


def within(params: dict[str, Any]) -> Iterator[Any]:
    """Yield the jaxprs among an equation's parameters."""
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else [value]:
            jaxpr = getattr(each, "jaxpr", each)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr


def install() -> Quick | None:
    """From now on, compile small programs quickly; return who is to hear of modules.

    Where JAX is not as this module knows it, nothing changes, and it is None.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from jax._src import compiler

        known = compiler.backend_compile_and_load
        if list(inspect.signature(known).parameters) == PARAMETERS:
            quick = Quick(known)
            compiler.backend_compile_and_load = quick
            return quick
    return None


RANDOM = frozenset(
    ["random_bits", "random_fold_in", "random_seed", "random_split", "threefry2x32"]
)
#: A loop that ends when it ends, and what may take more steps than it has numbers.
LARGE = frozenset(
    """
    approx_top_k bessel_i0e bessel_i1e call_exported cholesky cholesky_update
    conv_general_dilated cumlogsumexp cummax cummin cumprod cumsum custom_partitioning
    eig eigh ffi_call fft geqp3 geqrf hessenberg householder_product igamma
    igamma_grad_a igammac io_callback lu ormqr pallas_call polygamma pure_callback qr
    ragged_dot_general random_gamma reduce_window reduce_window_max reduce_window_min
    reduce_window_sum regularized_incomplete_beta rng_bit_generator scaled_dot
    scaled_matmul_wrapper schur select_and_gather_add select_and_scatter
    select_and_scatter_add shard_map sort svd symmetric_product top_k triangular_solve
    tridiagonal tridiagonal_solve while zeta
    """.split()  # noqa: SIM905
)
#: The function that `install` replaces, as it knows it.
PARAMETERS = ["backend", "module", "executable_devices", "options", "host_callbacks"]
