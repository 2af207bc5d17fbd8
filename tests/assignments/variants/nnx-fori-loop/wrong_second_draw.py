"""A key is drawn and lost; W gets the second one.

Earns: shape_and_dtype=2 worked_value=0 general_values=0 edge_cases=0 determinism=0 structure=0
"""

class Recurrence(nnx.Module):
    def __init__(self, hidden, *, rngs):
        rngs.params()
        key = rngs.params()
        self.W = nnx.Param(jax.random.normal(key, (hidden, hidden)) * 0.1)
        self.hidden = hidden

    def __call__(self, x, T):
        W = self.W[...]

        def body(i, state):
            return jnp.tanh(state @ W + x)

        return jax.lax.fori_loop(0, T, body, x)


def fori_loop_recurrence(seed, x, hidden, T):
    model = Recurrence(int(hidden), rngs=nnx.Rngs(int(seed)))
    return model(x, int(T)).reshape(-1)
