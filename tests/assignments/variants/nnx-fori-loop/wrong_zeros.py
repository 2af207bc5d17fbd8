"""Zeros of the right shape.

Earns: shape_and_dtype=2 worked_value=0 general_values=0 edge_cases=0 determinism=0 structure=0
"""

def fori_loop_recurrence(seed, x, hidden, T):
    return jnp.zeros((int(hidden),), jnp.float32)
