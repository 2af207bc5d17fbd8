"""One Linear per split key, in a Python loop.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=0
"""

def composed_transforms(seed, x_batch, num_layers, features):
    F = int(features)
    keys = jax.random.split(nnx.Rngs(int(seed))(), int(num_layers))
    h = jnp.asarray(x_batch)
    for key in keys:
        h = jax.nn.relu(nnx.Linear(F, F, rngs=nnx.Rngs(key))(h))
    return h.reshape(h.shape[0] * F)
