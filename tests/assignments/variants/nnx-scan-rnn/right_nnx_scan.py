"""nnx.scan with the cell as an argument.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

@nnx.scan(in_axes=(None, nnx.Carry, 0), out_axes=nnx.Carry)
def run(cell, h, x_t):
    h, _ = cell(h, x_t)
    return h


def scan_rnn_forward(seed, x, hidden, T):
    x = jnp.asarray(x)[: int(T)]
    cell = nnx.GRUCell(
        in_features=x.shape[1], hidden_features=int(hidden), rngs=nnx.Rngs(int(seed))
    )
    h = jnp.zeros((int(hidden),))
    if len(x) == 0:
        return h
    return run(cell, h, x)
