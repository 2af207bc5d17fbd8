"""Flattened by columns.

Earns: shape_and_dtype=2 worked_value=0 general_values=0 edge_cases=2 determinism=0 structure=0
"""

def composed_transforms(seed, x_batch, num_layers, features):
    N = int(num_layers)
    F = int(features)

    @nnx.split_rngs(splits=N)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def make_block(rngs):
        return nnx.Linear(F, F, rngs=rngs)

    blocks = make_block(nnx.Rngs(int(seed)))

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    def scan_layers(x, block):
        return jax.nn.relu(block(x))

    @nnx.vmap(in_axes=(0, None))
    def batched(x, blocks):
        return scan_layers(x, blocks)

    out = batched(x_batch, blocks)
    return out.T.reshape(-1)
