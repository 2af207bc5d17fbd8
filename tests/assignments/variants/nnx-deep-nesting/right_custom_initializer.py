"""nnx.Linear as the inner layer, with its own kernel_init.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

def scaled_normal(key, shape, dtype=jnp.float32, **kwargs):
    return jax.random.normal(key, shape, dtype) * (1.0 / jnp.sqrt(shape[0]))


class MiddleModule(nnx.Module):
    def __init__(self, in_features, hidden, rngs):
        self.inner = nnx.Linear(
            in_features, hidden, kernel_init=scaled_normal, rngs=rngs
        )

    def __call__(self, x):
        return jax.nn.relu(self.inner(x))


class OuterModule(nnx.Module):
    def __init__(self, in_features, hidden, rngs):
        self.middle = MiddleModule(in_features, hidden, rngs)

    def __call__(self, x):
        return self.middle(x)


@nnx.jit
def run(model, x):
    return model(x)


def deep_nested_forward(seed, x, hidden):
    model = OuterModule(x.shape[-1], int(hidden), nnx.Rngs(params=int(seed)))
    return run(model, x)
