"""Zeros of the right shape.

Earns: shape_and_dtype=2 worked_value=0 general_values=0 edge_cases=0 determinism=0 structure=0
"""

def lax_scan_in_module(seed, x, hidden, T):
    return jnp.zeros((hidden,), jnp.float32)
