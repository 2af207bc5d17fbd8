"""The whole scan jitted; get_value() of one kernel for H.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

@nnx.jit
def forward(cell, x):
    H = cell.dense_h.kernel.get_value().shape[0]
    carry, _ = jax.lax.scan(lambda h, x_t: cell(h, x_t), jnp.zeros((H,)), x)
    return carry


def scan_rnn_forward(seed, x, hidden, T):
    rngs = nnx.Rngs(params=int(seed))
    cell = nnx.GRUCell(x.shape[-1], int(hidden), rngs=rngs)
    return forward(cell, jnp.asarray(x[: int(T)])).reshape(-1)
