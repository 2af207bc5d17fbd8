"""relu between the layers only.

Earns: shape_and_dtype=2 worked_value=0 general_values=0 edge_cases=0 determinism=0 structure=0
"""

def composed_transforms(seed, x_batch, num_layers, features):
    N, F = int(num_layers), int(features)

    @nnx.split_rngs(splits=N)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def make_block(rngs):
        return nnx.Linear(F, F, rngs=rngs)

    blocks = make_block(nnx.Rngs(int(seed)))
    h = jnp.asarray(x_batch)
    for i in range(N):
        h = h @ blocks.kernel[i] + blocks.bias[i]
        if i < N - 1:
            h = jax.nn.relu(h)
    return h.reshape(-1)
