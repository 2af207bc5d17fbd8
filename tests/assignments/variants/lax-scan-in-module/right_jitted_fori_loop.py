"""A fori_loop, a typed key, and a jitted apply.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

class LaxScanModule(nn.Module):
    hidden: int
    T: int

    @nn.compact
    def __call__(self, x):
        init = nn.initializers.lecun_normal()
        W = self.param("W", init, (self.hidden, self.hidden), jnp.float32)
        return jax.lax.fori_loop(0, self.T + 1, lambda i, h: jnp.tanh(h @ W), x)


def lax_scan_in_module(seed, x, hidden, T):
    x = jnp.asarray(x, dtype=jnp.float32)
    model = LaxScanModule(hidden=hidden, T=T)
    variables = model.init(jax.random.key(seed), x)
    return jax.jit(model.apply)(variables, x)
