"""Floats go to nnx.Rngs and fori_loop uncast.

Earns: shape_and_dtype=0 worked_value=2 general_values=0 edge_cases=0 determinism=1 structure=1
"""

class Recurrence(nnx.Module):
    def __init__(self, hidden, *, rngs):
        key = rngs.params()
        self.W = nnx.Param(jax.random.normal(key, (hidden, hidden)) * 0.1)
        self.hidden = hidden

    def __call__(self, x, T):
        W = self.W[...]

        def body(i, state):
            return jnp.tanh(state @ W + x)

        return jax.lax.fori_loop(0, T, body, x)


def fori_loop_recurrence(seed, x, hidden, T):
    model = Recurrence(hidden, rngs=nnx.Rngs(seed))
    return model(x, T).reshape(-1)
