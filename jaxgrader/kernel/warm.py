"""What the fork server does once, so that no kernel has to do it.

What it is: JAX's way from a Python function to StableHLO, walked on small programs of
ours. It leaves behind rules, caches, lazily imported modules. What it is not: a
computation: no backend starts, and no thread, for none of them would be there after a
fork.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any


def warm_jax() -> None:
    """Trace and lower a few programs, as far as this JAX lets us.

    Whatever goes wrong makes kernels slower, and nothing else.
    """
    try:
        skip_plugins()
        with single_threaded():
            for function, argument in programs():
                trace_and_lower(function, argument)
    except Exception as error:
        print(f"JAX is not warmed: {error!r}", file=sys.stderr, flush=True)


def programs() -> Iterator[tuple[Callable[[Any], Any], Any]]:
    """Yield functions as notebooks have them, each with the type of its argument."""
    import jax
    import jax.numpy as jnp

    def loops(x: jax.Array) -> jax.Array:
        total, _ = jax.lax.scan(lambda c, v: (c + jnp.tanh(v), v), x[0], x)
        total = jax.lax.fori_loop(0, 2, lambda _, c: c * 2, total)
        sums: jax.Array = jax.vmap(jnp.sum)(x)
        sums = sums + total.mean() + (x @ x.T).sum(axis=0)
        return sums

    def draw(seed: jax.Array) -> jax.Array:
        key = jax.random.key(seed)
        first, _ = jax.random.split(key)
        numbers: jax.Array = jax.random.normal(first, (3,))
        return numbers + jax.random.uniform(key, (3,))

    x = jax.ShapeDtypeStruct((3, 4), jnp.float32)
    yield loops, x
    yield draw, jax.ShapeDtypeStruct((), jnp.int32)
    if "flax.nnx" in sys.modules:
        from flax import nnx

        def layers(x: jax.Array) -> jax.Array:
            rngs = nnx.Rngs(0)
            cell = nnx.GRUCell(4, 4, rngs=rngs)
            hidden, _ = cell(jnp.zeros((3, 4)), nnx.Linear(4, 4, rngs=rngs)(x))
            return nnx.relu(hidden)

        yield layers, x
    if "flax.linen" in sys.modules:
        from flax import linen

        dense = linen.Dense(2)
        yield lambda x: dense.init(jax.random.key(0), x), x


def trace_and_lower(function: Callable[[Any], Any], argument: Any) -> None:
    """Trace a function, and lower it without a backend: `Traced.lower` starts one."""
    import jax
    from jax._src import sharding_impls
    from jax._src.interpreters import mlir

    jaxpr = jax.jit(function).trace(argument).jaxpr
    mlir.lower_jaxpr_to_module(
        "warm",
        jaxpr,
        num_const_args=0,
        in_avals=jaxpr.in_avals,
        ordered_effects=[],
        platforms=("cpu",),
        backend=None,
        axis_context=sharding_impls.ShardingContext(1),
        donated_args=[False] * len(jaxpr.in_avals),
        lowering_parameters=mlir.LoweringParameters(),
    )


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Lower in contexts that start no threads."""
    from jax._src.interpreters import mlir

    from jaxgrader.stablehlo import make_context

    def make_one() -> Any:
        context = make_context()
        context.enable_multithreading(False)
        return context

    usual = mlir.make_ir_context
    mlir.make_ir_context = make_one
    try:
        yield
    finally:
        mlir.make_ir_context = usual


def skip_plugins() -> None:
    """Where there is the CPU alone, let no kernel look for plugins of accelerators.

    JAX searches all installed packages for them when its backend starts.
    """
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        from jax._src import xla_bridge

        if hasattr(xla_bridge, "_plugins_registered"):
            xla_bridge._plugins_registered = True
