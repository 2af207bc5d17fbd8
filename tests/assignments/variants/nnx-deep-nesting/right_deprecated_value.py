"""Reads the arrays with the deprecated .value.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=1
"""

class InnerLinear(nnx.Module):
    def __init__(self, in_features, out_features, *, rngs: nnx.Rngs):
        std = 1 / jnp.sqrt(in_features)
        self.kernel = nnx.Param(
            std * jax.random.normal(rngs.params(), (in_features, out_features))
        )
        self.bias = nnx.Param(jnp.zeros(out_features))

    def __call__(self, x):
        return jnp.dot(x, self.kernel.value) + self.bias.value


class MiddleModule(nnx.Module):
    def __init__(self, in_features, hidden, *, rngs: nnx.Rngs):
        self.inner = InnerLinear(in_features, hidden, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.inner(x))


class OuterModule(nnx.Module):
    def __init__(self, in_features, hidden, *, rngs: nnx.Rngs):
        self.middle = MiddleModule(in_features, hidden, rngs=rngs)

    def __call__(self, x):
        return self.middle(x)


def deep_nested_forward(seed, x, hidden):
    model = OuterModule(x.shape[-1], int(hidden), rngs=nnx.Rngs(int(seed)))
    assert model.middle.inner.kernel.value.shape == (x.shape[-1], int(hidden))
    return model(x)
