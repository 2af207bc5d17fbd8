"""Array taken out with the deprecated .value.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

class Recurrence(nnx.Module):
    def __init__(self, hidden, *, rngs):
        self.W = nnx.Param(jax.random.normal(rngs.params(), (hidden, hidden)) * 0.1)
        self.hidden = hidden

    def __call__(self, x, T):
        W = self.W.value
        return jax.lax.fori_loop(0, T, lambda i, s: jnp.tanh(s @ W + x), x)


def fori_loop_recurrence(seed, x, hidden, T):
    return Recurrence(int(hidden), rngs=nnx.Rngs(int(seed)))(x, int(T)).reshape(-1)
