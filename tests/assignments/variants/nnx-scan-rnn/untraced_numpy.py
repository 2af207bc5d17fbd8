"""The gates written out in NumPy; .value for the kernels.

Earns: shape_and_dtype=2 worked_value=2 general_values=2 edge_cases=2 determinism=1 structure=0
"""

def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def scan_rnn_forward(seed, x, hidden, T):
    H = int(hidden)
    cell = nnx.GRUCell(
        in_features=x.shape[-1], hidden_features=H, rngs=nnx.Rngs(int(seed))
    )
    Wx = np.array(cell.dense_i.kernel.value)
    b = np.array(cell.dense_i.bias.value)
    Wh = np.array(cell.dense_h.kernel.value)
    h = np.zeros(H, dtype=np.float32)
    for x_t in np.array(x)[: int(T)]:
        gx, gh = x_t @ Wx + b, h @ Wh
        r = sigmoid(gx[:H] + gh[:H])
        z = sigmoid(gx[H : 2 * H] + gh[H : 2 * H])
        n = np.tanh(gx[2 * H :] + r * gh[2 * H :])
        h = (1 - z) * n + z * h
    return h.astype(np.float32)
