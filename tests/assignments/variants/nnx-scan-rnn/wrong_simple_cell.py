"""nnx.SimpleCell in the place of nnx.GRUCell.

Earns: shape_and_dtype=2 worked_value=0 general_values=0 edge_cases=0 determinism=0 structure=0
"""

def scan_rnn_forward(seed, x, hidden, T):
    H, Tt, s = int(hidden), int(T), int(seed)
    cell = nnx.SimpleCell(in_features=x.shape[-1], hidden_features=H, rngs=nnx.Rngs(s))
    init_carry = jnp.zeros((H,))

    def step(carry, x_t):
        new_carry, y = cell(carry, x_t)
        return new_carry, y

    final_carry, ys = jax.lax.scan(step, init_carry, x[:Tt])
    return final_carry.reshape(-1)
