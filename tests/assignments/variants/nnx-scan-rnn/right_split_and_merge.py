"""nnx.split outside, nnx.merge in the step.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

def scan_rnn_forward(seed, x, hidden, T):
    hidden = int(hidden)
    cell = nnx.GRUCell(
        in_features=x.shape[-1], hidden_features=hidden, rngs=nnx.Rngs(int(seed))
    )
    graphdef, state = nnx.split(cell)

    def step(carry, x_t):
        return nnx.merge(graphdef, state)(carry, x_t)

    carry, _ = jax.lax.scan(step, jnp.zeros(hidden, jnp.float32), x[0 : int(T)])
    return jnp.ravel(carry)
