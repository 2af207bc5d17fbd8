"""The recurrence in NumPy, a NumPy array returned.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=0
"""

def fori_loop_recurrence(seed, x, hidden, T):
    H = int(hidden)
    key = jax.random.fold_in(jax.random.key(int(seed)), 0)
    W = np.array(jax.random.normal(key, (H, H)) * 0.1)
    x = np.asarray(x)
    state = x.copy()
    for _ in range(int(T)):
        state = np.tanh(np.dot(state, W) + x)
    return state.astype(np.float32)
