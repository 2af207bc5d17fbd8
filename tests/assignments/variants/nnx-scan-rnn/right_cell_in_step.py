"""The cell is built in the step from a fresh Rngs.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

def scan_rnn_forward(seed, x, hidden, T):
    seed, hidden, T = int(seed), int(hidden), int(T)

    def step(carry, x_t):
        cell = nnx.GRUCell(
            in_features=x.shape[-1], hidden_features=hidden, rngs=nnx.Rngs(seed)
        )
        return cell(carry, x_t)

    carry, _ = jax.lax.scan(step, jnp.zeros((hidden,)), x[:T])
    return carry.reshape(-1)
