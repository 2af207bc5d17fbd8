"""get_value(), once inside the body, rngs.params.normal.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

def fori_loop_recurrence(seed, x, hidden, T):
    x = jnp.asarray(x, dtype=jnp.float32)

    class Recurrence(nnx.Module):
        def __init__(self, hidden, *, rngs):
            self.hidden = hidden
            self.W = nnx.Param(0.1 * rngs.params.normal((hidden, hidden)))

        def __call__(self, x, T):
            def body(i, state):
                return jnp.tanh(jnp.dot(state, self.W.get_value()) + x)

            return jax.lax.fori_loop(0, T, body, x)

    rngs = nnx.Rngs(params=int(seed))
    return jnp.ravel(Recurrence(int(hidden), rngs=rngs)(x, int(T)))
