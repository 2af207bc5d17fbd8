"""A Python loop over the rows.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=0
"""

def scan_rnn_forward(seed, x, hidden, T):
    cell = nnx.GRUCell(x.shape[1], int(hidden), rngs=nnx.Rngs(int(seed)))
    h = jnp.zeros(int(hidden))
    for t in range(int(T)):
        h, _ = cell(h, x[t])
    return h
