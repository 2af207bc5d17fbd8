"""A new cell is drawn from one Rngs for each row.

Earns: shape_and_dtype=2 worked_value=0 general_values=0 edge_cases=0 determinism=0 structure=0
"""

def scan_rnn_forward(seed, x, hidden, T):
    H = int(hidden)
    rngs = nnx.Rngs(int(seed))
    h = jnp.zeros((H,))
    for x_t in x[: int(T)]:
        cell = nnx.GRUCell(in_features=x.shape[-1], hidden_features=H, rngs=rngs)
        h, _ = cell(h, x_t)
    return h
