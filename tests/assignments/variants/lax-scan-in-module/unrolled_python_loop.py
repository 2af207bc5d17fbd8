"""A Python loop in place of the scan.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=0
"""

class LaxScanModule(nn.Module):
    hidden: int
    T: int

    @nn.compact
    def __call__(self, x):
        shape = (self.hidden, self.hidden)
        W = self.param("W", nn.initializers.lecun_normal(), shape)
        h = jnp.tanh(x @ W)
        for _ in range(self.T):
            h = jnp.tanh(h @ W)
        return h


def lax_scan_in_module(seed, x, hidden, T):
    model = LaxScanModule(hidden, T)
    params = model.init(jax.random.PRNGKey(seed), x)
    return model.apply(params, x)
