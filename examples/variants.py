"""Variants of the cells and of stacks on one task of timing: how long ago was the last mark?

A sequence of zeros with marks; at each mark the network says how many steps have passed since the
one before. Gers and Schmidhuber (2000) gave the gates peepholes for tasks like this. A memory that
counts is read best without the last tanh. Then the same task for deep stacks with connections past
their layers.
"""

import torch
from torch.nn.functional import mse_loss

from common import arguments, pyplot, save, train
from seqfast import nn

UNIT = 10  # steps; targets are given in it
CELLS = {
    "RNN (Elman)": (nn.RNN, {}),
    "RNN (Jordan)": (nn.RNN, {"feedback": "output"}),
    "GRU": (nn.GRU, {}),
    "GRU, update gate alone": (nn.GRU, {"reset_gate": False}),
    "LSTM": (nn.LSTM, {}),
    "LSTM of 1997": (nn.LSTM, {"forget_gate": False}),
    "LSTM, f = 1 - i": (nn.LSTM, {"coupled_gates": True}),
    "LSTM, forget bias 1": (nn.LSTM, {"forget_bias": 1.0}),
    "LSTM, peepholes": (nn.LSTM, {"peephole": True}),
    "LSTM, all gates see c[t-1]": (nn.LSTM, {"peephole": "previous"}),
    "LSTM, h = o * c": (nn.LSTM, {"output_activation": "identity"}),
}
STACKS = {
    "plain": {},
    "residual": {"residual": True},
    "highway": {"highway": True},
    "dense": {"dense": True},
}


class Timer(torch.nn.Module):
    def __init__(self, kind, hidden, **options):
        super().__init__()
        self.rnn = kind(2, hidden, **options)
        self.head = torch.nn.Linear(hidden, 1)

    def forward(self, x):  # [steps, batch, 2] -> [steps, batch]
        return self.head(self.rnn(x)[0])[:, :, 0]


def draw(batch, steps=40, shortest=3, longest=15):
    """Marks beside a constant [steps, batch, 2], steps since the last one, where that counts."""
    gaps = torch.randint(shortest, longest + 1, (steps // shortest + 1, batch))
    places = gaps.cumsum(0) - shortest  # the first is early
    x, target = torch.zeros(steps, batch, 2), torch.zeros(steps, batch)
    x[:, :, 1] = 1
    for k in range(len(places)):
        rows = (places[k] < steps).nonzero()[:, 0]
        x[places[k, rows], rows, 0] = 1
        if k:
            target[places[k, rows], rows] = gaps[k, rows] / UNIT
    return x, target, target > 0


def error(model, judge):
    """Root of the mean square, in steps."""
    x, target, counts = judge
    with torch.no_grad():
        return UNIT * mse_loss(model(x)[counts], target[counts]).sqrt().item()


def main(argv=None):
    args = arguments(__doc__, argv, epochs=20, batches=25, hidden=16, layers=6)
    torch.manual_seed(1000 + args.seed)
    judge = draw(200)
    target = judge[1][judge[2]]
    found = {"the mean, always": UNIT * target.std().item()}
    print(f"{'the mean, always':28} {found['the mean, always']:5.2f} steps")
    models = {name: (kind, args.hidden, options) for name, (kind, options) in CELLS.items()}
    for name, options in STACKS.items():
        options = {"num_layers": args.layers, **options}
        models[f"{args.layers} LSTM layers, {name}"] = (nn.LSTM, args.hidden, options)
    for name, (kind, hidden, options) in models.items():
        torch.manual_seed(args.seed)
        model = Timer(kind, hidden, **options)

        def loss_of(batch, model=model):
            x, target, counts = batch
            return mse_loss(model(x)[counts], target[counts])

        train(
            model,
            lambda: (draw(32) for _ in range(args.batches)),
            loss_of,
            epochs=args.epochs,
            lr=1e-2,
        )
        found[name] = error(model, judge)
        print(f"{name:28} {found[name]:5.2f} steps")
    figure, axes = pyplot().subplots(figsize=(8, 5), layout="constrained")
    names = [*found][::-1]
    colours = ["C2" if "layers" in n else "C0" if "mean" not in n else "0.6" for n in names]
    axes.barh(names, [found[n] for n in names], color=colours)
    axes.set(xscale="log", xlabel="error in steps (root of the mean square), the lower the better")
    axes.set_title("How long ago was the last mark?")
    save(figure, args, "variants")
    return found


if __name__ == "__main__":
    main()
