"""One layer applied N times.

Earns: shape_and_dtype=2 worked_value=0 general_values=0 edge_cases=0 determinism=0 structure=0
"""

def composed_transforms(seed, x_batch, num_layers, features):
    F = int(features)
    layer = nnx.Linear(F, F, rngs=nnx.Rngs(int(seed)))
    body = lambda i, h: jax.nn.relu(layer(h))
    h = jax.lax.fori_loop(0, int(num_layers), body, jnp.asarray(x_batch))
    return h.reshape(-1)
