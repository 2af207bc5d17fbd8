"""Jitted with T traced, so that the loop is a while.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

class Recurrence(nnx.Module):
    def __init__(self, hidden, *, rngs):
        self.W = nnx.Param(jax.random.normal(rngs(), (hidden, hidden)) * 0.1)

    def __call__(self, x, T):
        W = self.W[...]
        return jax.lax.fori_loop(0, T, lambda i, h: jnp.tanh(h @ W + x), x)


@nnx.jit
def run(model, x, T):
    return model(x, T)


def fori_loop_recurrence(seed, x, hidden, T):
    model = Recurrence(int(hidden), rngs=nnx.Rngs(int(seed)))
    return run(model, x, int(T)).reshape(-1)
