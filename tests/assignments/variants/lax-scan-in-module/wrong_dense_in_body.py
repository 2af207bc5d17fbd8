"""A Dense is made inside the body.

Earns: shape_and_dtype=0 worked_value=0 general_values=0 edge_cases=0 determinism=0 structure=0
"""

class LaxScanModule(nn.Module):
    hidden: int
    T: int

    @nn.compact
    def __call__(self, x):
        init_carry = jnp.tanh(nn.Dense(self.hidden, use_bias=False)(x))

        def body(carry, _):
            layer = nn.Dense(self.hidden, use_bias=False)
            return jnp.tanh(layer(carry)), None

        final, _ = jax.lax.scan(body, init_carry, jnp.arange(self.T))
        return final


def lax_scan_in_module(seed, x, hidden, T):
    model = LaxScanModule(hidden=hidden, T=T)
    variables = model.init(jax.random.PRNGKey(seed), x)
    return model.apply(variables, x)
