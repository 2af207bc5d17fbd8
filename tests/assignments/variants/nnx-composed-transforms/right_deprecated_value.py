"""Prints shapes with .value; transforms as calls.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

def composed_transforms(seed, x_batch, num_layers, features):
    n, f, s = int(num_layers), int(features), int(seed)

    def make_block(rngs):
        return nnx.Linear(f, f, rngs=rngs)

    make_blocks = nnx.split_rngs(splits=n)(nnx.vmap(make_block, in_axes=(0,)))
    blocks = make_blocks(nnx.Rngs(s))
    assert blocks.kernel.value.shape == (n, f, f), blocks.kernel.value.shape

    def layer(x, block):
        return nnx.relu(block(x))

    scan_layers = nnx.scan(layer, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    batched = nnx.vmap(lambda x, b: scan_layers(x, b), in_axes=(0, None))
    return jnp.ravel(batched(x_batch, blocks))
