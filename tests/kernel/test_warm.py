"""What the fork server does before its forks, and what it must not do."""

import os
import subprocess
import sys

import pytest

WARM = """
import os, sys
import jax
from flax import linen, nnx
from jax._src import xla_bridge
from jax._src.interpreters import mlir
from jaxgrader.kernel.warm import warm_jax
from jaxgrader.stablehlo import stock_contexts

lowered = []
usual, context = mlir.lower_jaxpr_to_module, mlir.make_ir_context
def lowering(*args, **kwargs):
    made = usual(*args, **kwargs)
    lowered.append(str(made.module))
    return made
mlir.lower_jaxpr_to_module = lowering
warm_jax()
stock_contexts(2)
assert mlir.make_ir_context is context
assert not xla_bridge.backends_are_initialized()
assert len(os.listdir("/proc/self/task")) == 1, "its forks would hang"
assert len(lowered) == 4 and all("stablehlo" in text for text in lowered)
print(xla_bridge._plugins_registered, flush=True)
if pid := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
import jax.numpy as jnp
x = jax.random.normal(jax.random.key(0), (3, 4))
module = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
assert module(x).shape == (3, 4)
assert jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, c: c + x, x))(2) == 8
"""


@pytest.mark.parametrize(("platforms", "skipped"), [("cpu", True), ("", False)])
def test_jax_is_warm_and_safe_to_fork(platforms: str, skipped: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WARM],
        env={**os.environ, "JAX_PLATFORMS": platforms, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    # Where there are other platforms, JAX must look for their plugins.
    assert done.stdout.split() == [str(skipped)]
