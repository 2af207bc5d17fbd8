"""get_value() and the forward pass in NumPy.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=0
"""

def deep_nested_forward(seed, x, hidden):
    H = int(hidden)
    D = len(x)

    class InnerLinear(nnx.Module):
        def __init__(self, in_features, out_features, rngs):
            k = jax.random.normal(rngs.params(), (in_features, out_features))
            self.kernel = nnx.Param(k / np.sqrt(in_features))
            self.bias = nnx.Param(jnp.zeros((out_features,)))

    class MiddleModule(nnx.Module):
        def __init__(self, in_features, hidden, rngs):
            self.inner = InnerLinear(in_features, hidden, rngs)

    class OuterModule(nnx.Module):
        def __init__(self, in_features, hidden, rngs):
            self.middle = MiddleModule(in_features, hidden, rngs)

    inner = OuterModule(D, H, nnx.Rngs(int(seed))).middle.inner
    kernel = np.asarray(inner.kernel.get_value())
    bias = np.asarray(inner.bias.get_value())
    z = np.asarray(x, dtype=np.float32) @ kernel + bias
    return np.maximum(z, 0).astype(np.float32)
