"""Why plain recurrent networks are hard to train: gradients vanish or explode, errors have cliffs.

Back-propagation multiplies the gradient by the same factor at every step (Hochreiter 1991, Bengio
et al. 1994). Pascanu et al. 2013 show the effect on the error surface, and clip the gradient.
"""

import torch

import seqfast.nn
from common import arguments, pyplot, save


def powers():
    """A linear unit h[t] = w h[t-1]: 1,000 steps make a small change of w very large."""
    for w in (1.01, 1.0, 0.99, 0.01):
        print(
            f"w = {w:<4}  w^1000 = {w**1000:9.3g}   its gradient 1000 w^999 = {1000 * w**999:.3g}"
        )


def surface(steps, w, b):
    """Error of h[t] = w sigmoid(h[t-1]) + b, which should be 0.7 after all steps (Pascanu)."""
    h = torch.full_like(w, 0.5)
    for _ in range(steps):
        h = w * torch.sigmoid(h) + b
    return (torch.sigmoid(h) - 0.7) ** 2


def descend(steps, clip, rate=1.0, updates=60):
    """Places that gradient descent visits, from beside the cliff."""
    place = torch.tensor([6.3, -2.95], requires_grad=True)
    path = [place.detach().clone()]
    for _ in range(updates):
        (gradient,) = torch.autograd.grad(surface(steps, *place), place)
        norm = gradient.norm()
        if clip and norm > clip:
            gradient = gradient * clip / norm
        with torch.no_grad():
            place -= rate * gradient
        path.append(place.detach().clone())
    return torch.stack(path)


def norms(kind, args, scale):
    """|d(last output) / d(input of step t)| for each t: how far back a cell can learn from."""
    torch.manual_seed(args.seed)
    layer = kind(args.hidden, args.hidden)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(scale)
        if kind is seqfast.nn.LSTM:
            layer.bias_ih_l0[args.hidden : 2 * args.hidden] += 3  # remember, to begin with
        if kind is seqfast.nn.GRU:
            layer.bias_ih_l0[args.hidden : 2 * args.hidden] += 3
    x = torch.randn(args.steps, 8, args.hidden, requires_grad=True)
    output, _ = layer(x)
    (output[-1] * torch.randn_like(output[-1])).sum().backward()
    return x.grad.double().norm(dim=(1, 2))


def main(argv=None):
    args = arguments(__doc__, argv, steps=100, hidden=64, unrolled=(50, "steps of the cliff"))
    powers()
    weight = torch.linalg.eigvals(seqfast.nn.RNN(args.hidden, args.hidden).weight_hh_l0).abs().max()
    print(f"largest |eigenvalue| of a fresh recurrent weight: {weight:.2f} (below 1: vanishes)")

    plot = pyplot()
    figure, (left, right) = plot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    w, b = torch.meshgrid(torch.linspace(4, 8, 200), torch.linspace(-4, -2, 200), indexing="ij")
    mesh = left.pcolormesh(
        w.numpy(), b.numpy(), surface(args.unrolled, w, b).numpy(), shading="auto", cmap="viridis"
    )
    figure.colorbar(mesh, ax=left, label="error")
    jumps = {}
    for name, clip, colour in (("as it is", None, "red"), ("clipped to 0.1", 0.1, "white")):
        path = descend(args.unrolled, clip)
        jumps[name] = (path[1:] - path[:-1]).norm(dim=1).max().item()
        left.plot(*path.t().numpy(), ".-", color=colour, label=f"gradient {name}")
        print(f"gradient {name:14}: longest step {jumps[name]:.3g}")
    left.set(
        xlabel="w", ylabel="b", title="An error surface with a cliff", xlim=(4, 8), ylim=(-4, -2)
    )
    left.legend(loc="lower left", facecolor="0.6")

    found = {}
    cases = (("RNN", seqfast.nn.RNN, 1), ("RNN, weights x 5", seqfast.nn.RNN, 5))
    for name, kind, scale in (*cases, ("GRU", seqfast.nn.GRU, 1), ("LSTM", seqfast.nn.LSTM, 1)):
        through_time = norms(kind, args, scale)
        found[name] = (through_time[0] / through_time[-1]).item()
        right.semilogy(through_time.flip(0).numpy(), label=name)
        print(f"{name:16} gradient {args.steps - 1} steps back / of the last: {found[name]:.1e}")
    right.set(xlabel="steps back", ylabel="norm of the gradient", title="Gradients through time")
    right.legend()
    save(figure, args, "vanishing")
    return found, jumps


if __name__ == "__main__":
    main()
