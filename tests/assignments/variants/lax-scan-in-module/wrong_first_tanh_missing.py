"""The carry starts at x @ W, without its tanh.

Earns: shape_and_dtype=2 worked_value=0 general_values=0 edge_cases=0 determinism=0 structure=0
"""

class LaxScanModule(nn.Module):
    hidden: int
    T: int

    @nn.compact
    def __call__(self, x):
        H = self.hidden
        W = self.param("W", nn.initializers.lecun_normal(), (H, H))
        init_carry = x @ W

        def body(carry, _):
            return jnp.tanh(carry @ W), None

        final, _ = jax.lax.scan(body, init_carry, jnp.arange(self.T))
        return final


def lax_scan_in_module(seed, x, hidden, T):
    model = LaxScanModule(hidden=hidden, T=T)
    variables = model.init(jax.random.PRNGKey(seed), x)
    return model.apply(variables, x)
