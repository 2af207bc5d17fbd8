"""get_value(), then two Python loops in NumPy.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=0
"""

def composed_transforms(seed, x_batch, num_layers, features):
    N, F = int(num_layers), int(features)

    @nnx.split_rngs(splits=N)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def make_block(rngs):
        return nnx.Linear(F, F, rngs=rngs)

    blocks = make_block(nnx.Rngs(int(seed)))
    kernels = np.asarray(blocks.kernel.get_value())
    biases = np.asarray(blocks.bias.get_value())
    rows = []
    for x in np.asarray(x_batch, dtype=np.float32):
        for i in range(N):
            x = np.maximum(x @ kernels[i] + biases[i], 0)
        rows.append(x)
    return np.concatenate(rows)
