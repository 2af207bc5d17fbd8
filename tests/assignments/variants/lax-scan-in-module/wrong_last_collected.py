"""The last collected state; with T = 0 there is none.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=0 determinism=1 structure=1
"""

class LaxScanModule(nn.Module):
    hidden: int
    T: int

    @nn.compact
    def __call__(self, x):
        H = self.hidden
        W = self.param("W", nn.initializers.lecun_normal(), (H, H))
        init_carry = jnp.tanh(x @ W)

        def body(carry, _):
            carry = jnp.tanh(carry @ W)
            return carry, carry

        _, states = jax.lax.scan(body, init_carry, jnp.arange(self.T))
        return states[-1]


def lax_scan_in_module(seed, x, hidden, T):
    model = LaxScanModule(hidden=hidden, T=T)
    variables = model.init(jax.random.PRNGKey(seed), x)
    return model.apply(variables, x)
