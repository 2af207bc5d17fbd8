"""The other order: vmap inside scan.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

def composed_transforms(seed, x_batch, num_layers, features):
    F = int(features)

    @nnx.vmap(in_axes=0, out_axes=0)
    def make_block(rngs):
        return nnx.Linear(F, F, rngs=rngs)

    blocks = make_block(nnx.Rngs(int(seed)).split(int(num_layers)))

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    def scan_layers(xs, block):
        one_layer = nnx.vmap(lambda x, b: jax.nn.relu(b(x)), in_axes=(0, None))
        return one_layer(xs, block)

    return scan_layers(x_batch, blocks).flatten()
