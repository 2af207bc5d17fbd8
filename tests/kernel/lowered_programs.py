"""Programs that differ by little; run as a program, it lowers them by JAX and by us.

python -m tests.kernel.lowered_programs FOLDER [CASE ...]
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend.core import Primitive
from jax.interpreters import mlir as public_mlir

from jaxgrader.kernel import lowered

X = np.linspace(0.1, 0.9, 12, dtype=np.float32).reshape(3, 4)
SQUARE = np.eye(3, dtype=np.float32) * 3 + np.float32(0.1)
WHOLE = np.arange(6, dtype=np.int32)


def scan(**options: Any) -> Callable[..., Any]:
    return lambda x: jax.lax.scan(lambda c, v: (c * 0.5 + v, c), x[0], x, **options)


def until(limit: float) -> Callable[..., Any]:
    return lambda x: jax.lax.while_loop(lambda c: c.sum() < limit, lambda c: c + 1, x)


@jax.custom_jvp
def steady(x: jax.Array) -> jax.Array:
    return jnp.sin(x) * 2


steady.defjvp(lambda primals, tangents: (steady(*primals), tangents[0]))


@jax.custom_vjp
def turned(x: jax.Array) -> jax.Array:
    return jnp.cos(x) * 2


turned.defvjp(lambda x: (turned(x), None), lambda _, g: (g,))


def own_primitive(x: Any) -> Any:
    """Multiply by seven, under the name of another operation."""
    own = Primitive("sin")
    own.def_abstract_eval(lambda x: x)
    rule = public_mlir.lower_fun(lambda x: x * 7, multiple_results=False)
    public_mlir.register_lowering(own, rule)
    return own.bind(x)


def gru(x: Any) -> Any:
    cell = nnx.GRUCell(4, 3, rngs=nnx.Rngs(0))
    return cell(jnp.zeros((3, 3)), x)


def closed_over(values: Any) -> Callable[..., Any]:
    return lambda x: x + values


def under(manager: Callable[[], Any], fn: Callable[..., Any]) -> Callable[[], Any]:
    def lower() -> Any:
        with manager():
            return jax.jit(fn).lower(X)

    return lower


def of(fn: Callable[..., Any], *args: Any, **options: Any) -> Callable[[], Any]:
    return lambda: jax.jit(fn, **options).lower(*(args or (X,)))


def key(x: Any, **options: Any) -> Any:
    return jax.random.normal(jax.random.key(3, **options), x.shape)


def add(x: Any) -> Any:
    return x + 1


def add_name(y: Any) -> Any:
    return y + 1


#: By name, what lowers a program. Neighbours differ in one thing.
CASES: dict[str, Callable[[], Any]] = {
    "add": of(add),
    "add, another argument name": of(add_name),
    "add 2": of(lambda x: x + 2),
    "add -0": of(lambda x: x + -0.0),
    "add +0": of(lambda x: x + 0.0),
    "add strong": of(lambda x: x + np.float32(1)),
    "add, other shape": of(add, X[:2]),
    "add, integers": of(add, WHOLE),
    "add, bfloat16": of(add, jnp.asarray(X, jnp.bfloat16)),
    "add, a number": of(add, 1.0),
    "add, a strong number": of(add, np.float32(1)),
    "add, donated": of(add, donate_argnums=0),
    "two, first unused": of(lambda x, y: y, X, X),
    "two, kept": of(lambda x, y: y, X, X, keep_unused=True),
    "two, second unused": of(lambda x, y: x, X, X),
    "minus": of(lambda x, y: x - y, X, X),
    "minus, turned": of(lambda x, y: y - x, X, X),
    "constant": of(closed_over(X)),
    "constant, other values": of(closed_over(X + 1)),
    "constant, on the device": of(closed_over(jnp.asarray(X))),
    "large constant": of(closed_over(np.zeros((300, 300, 3, 4), np.float32))),
    "slice": of(lambda x: x[0]),
    "slice, other row": of(lambda x: x[1]),
    "scan": of(scan()),
    "scan, reversed": of(scan(reverse=True)),
    "scan, unrolled": of(scan(unroll=2)),
    "while": of(until(9)),
    "while, longer": of(until(10)),
    "cond": of(lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x)),
    "cond, turned": of(lambda x: jax.lax.cond(x[0, 0] > 0, jnp.cos, jnp.sin, x)),
    "product": of(lambda x: x @ x.T),
    "product, precise": of(lambda x: jnp.matmul(x, x.T, precision="highest")),
    "product, by setting": under(
        lambda: jax.default_matmul_precision("bfloat16"), lambda x: x @ x.T
    ),
    "64 bits": under(lambda: jax.enable_x64(True), lambda x: jnp.sum(x.astype(float))),
    "32 bits": of(lambda x: jnp.sum(x.astype(np.float32))),
    "sum": of(lambda x: x.sum(0)),
    "sum, other axis": of(lambda x: x.sum(1)),
    "sort": of(lambda x: jnp.sort(x, 0)),
    "sort, down": of(lambda x: jnp.sort(x, 0, descending=True)),
    "gather": of(lambda x: x[WHOLE[:2]]),
    "scatter": of(lambda x: x.at[WHOLE[:2]].add(1.0)),
    "gradient": of(jax.grad(lambda x: jnp.tanh(x).sum())),
    "own gradient": of(steady),
    "own gradient, used": of(jax.grad(lambda x: steady(x).sum())),
    "own transpose": of(turned),
    "mapped": of(jax.vmap(lambda x: x / x.sum())),
    "complex": of(lambda x: jnp.abs(x + 1j)),
    "key": of(key),
    "key, other generator": of(lambda x: key(x, impl="rbg")),
    "key as an argument": of(lambda k: jax.random.uniform(k), jax.random.key(0)),
    "key of another kind": of(
        lambda k: jax.random.uniform(k), jax.random.key(0, impl="rbg")
    ),
    "qr": of(lambda x: jnp.linalg.qr(x)[1], SQUARE),
    "cholesky": of(jnp.linalg.cholesky, SQUARE),
    "solve": of(lambda x: jnp.linalg.solve(x, x), SQUARE),
    "eigenvalues": of(jnp.linalg.eigvalsh, SQUARE),
    "gru": of(gru),
    "nested": of(lambda x: jax.jit(add)(x) * 2),
    "nested, twice": of(lambda x: jax.jit(add)(jax.jit(add)(x)) * 2),
    "kept apart": of(jax.grad(lambda x: jax.checkpoint(jnp.sin)(x).sum())),
    "dict": of(lambda d: d["a"] + d["b"], {"a": X, "b": X}),
    "sine": of(lambda x: jnp.sin(x)),
    "own primitive": of(own_primitive),
    "print": of(lambda x: jax.debug.print("{}", x)),
    "callback": of(
        lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct(X.shape, X.dtype), x)
    ),
}
#: What is also run, on the arguments that it was lowered for.
RUN = ("add", "constant", "scan", "qr", "cholesky", "solve", "eigenvalues", "gru")


def texts(names: list[str]) -> dict[str, str]:
    """Lower the cases; return the modules as text, callbacks' addresses left out."""
    found: dict[str, str] = {}
    for name in names:
        jax.clear_caches()
        text = CASES[name]().as_text()
        found[name] = name if name in ("callback", "print") else text
    return found


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(CASES)
    plain = texts(names)
    lowered.install(folder)
    from jax._src.interpreters import mlir

    # What reaches JAX is a miss.
    missed: list[str] = []
    inner = mlir.ModuleContext

    def count(*args: Any, **kwargs: Any) -> Any:
        missed.append(current[0])
        return inner(*args, **kwargs)

    mlir.ModuleContext = count  # type: ignore[assignment, misc]
    current = [""]

    def counted() -> tuple[dict[str, str], dict[str, str]]:
        missed.clear()
        found: dict[str, str] = {}
        for name in names:
            current[0] = name
            found |= texts([name])
        return found, dict.fromkeys(missed, "")

    kept, misses = counted()
    found, again = counted()
    values = {}
    for name in RUN if len(names) > 1 else ():
        current[0] = name
        result = CASES[name]().compile()(SQUARE if name in LINEAR else X)
        values[name] = str(jax.tree.map(np.asarray, result))
    passes = {"plain": plain, "kept": kept, "found": found}
    more = {"misses": misses, "misses again": again, "values": values}
    print(json.dumps({**passes, **more}))


LINEAR = ("qr", "cholesky", "solve", "eigenvalues")

if __name__ == "__main__":
    main()
