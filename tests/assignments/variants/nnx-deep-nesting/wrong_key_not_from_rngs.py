"""jax.random.key(seed) used directly, without Rngs.

Earns: shape_and_dtype=2 worked_value=0 general_values=0 edge_cases=0 determinism=0 structure=0
"""

def deep_nested_forward(seed, x, hidden):
    H = int(hidden)
    key = jax.random.key(int(seed))
    kernel = jax.random.normal(key, (x.shape[-1], H)) / jnp.sqrt(x.shape[-1])
    return jax.nn.relu(x @ kernel + jnp.zeros((H,)))
