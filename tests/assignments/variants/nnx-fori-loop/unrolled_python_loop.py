"""A Python loop over eager steps, the Param used as it is.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=0
"""

class Recurrence(nnx.Module):
    def __init__(self, hidden, *, rngs):
        k = rngs.params()
        self.hidden = hidden
        self.W = nnx.Param(jax.random.normal(k, (hidden, hidden)) * 0.1)

    def __call__(self, x, T):
        state = x
        for _ in range(T):
            state = jnp.tanh(state @ self.W + x)
        return state


def fori_loop_recurrence(seed, x, hidden, T):
    x = jnp.array(x)
    rec = Recurrence(int(hidden), rngs=nnx.Rngs(int(seed)))
    return rec(x, int(T)).reshape(-1)
