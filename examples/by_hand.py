"""RNN, GRU and LSTM by hand: forward and back-propagation through time in NumPy.

Each cell is a few lines of equations, each gradient a few more. The result is checked against
seqfast's kernels, which compute the same thing fast.
"""

import numpy as np
import torch

import seqfast.nn
from common import arguments


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rnn(x, h, w, u, b):  # x [steps, batch, input], h [batch, hidden]
    """h[t] = tanh(W x[t] + U h[t-1] + b), and the gradients for dL/dh[t] = dh[t]."""
    hs = [h]
    for xt in x:
        hs.append(np.tanh(xt @ w.T + hs[-1] @ u.T + b))

    def backward(dhs):
        dw, du, carried = np.zeros_like(w), np.zeros_like(u), np.zeros_like(h)
        for t in reversed(range(len(x))):
            da = (dhs[t] + carried) * (1 - hs[t + 1] ** 2)  # through tanh
            dw, du = dw + da.T @ x[t], du + da.T @ hs[t]
            carried = da @ u  # to the step before
        return dw, du

    return np.stack(hs[1:]), backward


def gru(x, h, w, u, b):  # w, u, b: rows r, z, n
    """r, z = sigmoid(...), n = tanh(W x + r * (U h)), h = (1 - z) * n + z * h."""
    hs, kept = [h], []
    for xt in x:
        (ar, az, an), (pr, pz, pn) = (np.split(v, 3, 1) for v in (xt @ w.T + b, hs[-1] @ u.T))
        r, z = sigmoid(ar + pr), sigmoid(az + pz)
        n = np.tanh(an + r * pn)
        hs.append((1 - z) * n + z * hs[-1])
        kept.append((r, z, n, pn))

    def backward(dhs):
        dw, du, carried = np.zeros_like(w), np.zeros_like(u), np.zeros_like(h)
        for t in reversed(range(len(x))):
            r, z, n, pn = kept[t]
            dh = dhs[t] + carried
            dn = dh * (1 - z) * (1 - n**2)
            dz = dh * (hs[t] - n) * z * (1 - z)
            dr = dn * pn * r * (1 - r)
            da, dp = np.hstack([dr, dz, dn]), np.hstack([dr, dz, dn * r])
            dw, du = dw + da.T @ x[t], du + dp.T @ hs[t]
            carried = dh * z + dp @ u
        return dw, du

    return np.stack(hs[1:]), backward


def lstm(x, h, w, u, b):  # w, u, b: rows i, f, g, o
    """c = f * c + i * g, h = o * tanh(c)."""
    hs, cs, kept = [h], [np.zeros_like(h)], []
    for xt in x:
        ai, af, ag, ao = np.split(xt @ w.T + hs[-1] @ u.T + b, 4, 1)
        i, f, g, o = sigmoid(ai), sigmoid(af), np.tanh(ag), sigmoid(ao)
        cs.append(f * cs[-1] + i * g)
        hs.append(o * np.tanh(cs[-1]))
        kept.append((i, f, g, o))

    def backward(dhs):
        dw, du, dh, dc = np.zeros_like(w), np.zeros_like(u), np.zeros_like(h), np.zeros_like(h)
        for t in reversed(range(len(x))):
            i, f, g, o = kept[t]
            tanh_c = np.tanh(cs[t + 1])
            dh = dh + dhs[t]
            dc = dc + dh * o * (1 - tanh_c**2)
            gates = [dc * g * i * (1 - i), dc * cs[t] * f * (1 - f)]
            gates += [dc * i * (1 - g**2), dh * tanh_c * o * (1 - o)]
            da = np.hstack(gates)
            dw, du = dw + da.T @ x[t], du + da.T @ hs[t]
            dh, dc = da @ u, dc * f  # the cell state's gradient is only scaled: it survives
        return dw, du

    return np.stack(hs[1:]), backward


def main(argv=None):
    args = arguments(__doc__, argv, steps=20, batch=3, inputs=5, hidden=7)
    x, h = torch.randn(args.steps, args.batch, args.inputs), torch.zeros(args.batch, args.hidden)
    worst = 0.0
    for cell, kind in ((rnn, seqfast.nn.RNN), (gru, seqfast.nn.GRU), (lstm, seqfast.nn.LSTM)):
        layer = kind(args.inputs, args.hidden).double()
        torch.nn.init.zeros_(layer.bias_hh_l0)  # one bias is enough
        output, _ = layer(x.double())
        gradient = torch.randn_like(output)  # of some loss, by the output
        output.backward(gradient)

        weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0)
        hs, backward = cell(*(a.detach().double().numpy() for a in (x, h, *weights)))
        results = zip(
            (hs, *backward(gradient.numpy())),
            (output.detach(), layer.weight_ih_l0.grad, layer.weight_hh_l0.grad),
            strict=True,
        )
        difference = max(np.abs(a - b.numpy()).max() for a, b in results)
        print(f"{kind.__name__:4} by hand and by the kernels differ by at most {difference:.1e}")
        worst = max(worst, difference)
    return worst


if __name__ == "__main__":
    main()
