"""Every dropout for recurrent networks, on a task where a network without dropout overfits.

The text is small and the network large: training perplexity falls, validation perplexity rises
again. Each kind of dropout is one argument of the layer, and masks another place.
"""

import math

import torch
from torch.nn.functional import cross_entropy

import seqfast.nn
from common import Vocabulary, arguments, pyplot, save, train

# Name, paper, arguments of seqfast.nn.LSTM.
KINDS = {
    "none": ("", {}),
    "between layers": ("Zaremba et al. 2014", {"dropout": 0.4}),
    "input, one mask": ("Gal & Ghahramani 2016", {"input_dropout": 0.4}),
    "state, one mask": ("Gal & Ghahramani 2016", {"recurrent_dropout": 0.3}),
    "candidate": (
        "Semeniuta et al. 2016",
        {"recurrent_dropout": 0.3, "recurrent_dropout_on": "update"},
    ),
    "cell state": (
        "Moon et al. 2015",
        {"recurrent_dropout": 0.1, "recurrent_dropout_on": "cell"},
    ),
    "zoneout": ("Krueger et al. 2017", {"zoneout": (0.1, 0.3)}),
    "weights": ("Merity et al. 2018", {"weight_dropout": 0.4}),
    "rows of weights": ("fastai's WeightDrop", {"weight_dropout": 0.2, "weight_dropout_on": "row"}),
    "input and weights": (
        "weights with the third",
        {"input_dropout": 0.3, "weight_dropout": 0.4},
    ),
}


def by_hand(x, p, training):
    """Plain dropout is one line: the kept values are scaled up, so that the mean stays."""
    return x * (torch.rand_like(x) >= p) / (1 - p) if training else x


class Model(torch.nn.Module):
    def __init__(self, letters, hidden, options):
        super().__init__()
        self.embedding = torch.nn.Embedding(letters, 32)
        self.lstm = seqfast.nn.LSTM(32, hidden, num_layers=2, **options)
        self.head = torch.nn.Linear(hidden, letters)

    def forward(self, ids):
        output, _ = self.lstm(self.embedding(ids))
        return self.head(by_hand(output, 0.1, self.training))


def text():
    """The Zen of Python and other text that is part of every Python."""
    from pydoc_data.topics import topics

    return "\n".join(
        topics[name] for name in ("for", "while", "if", "try", "with", "assert", "del")
    )


def main(argv=None):
    args = arguments(__doc__, argv, epochs=12, hidden=128, steps=50, batch=16)
    letters = Vocabulary(text(), ("\0",))
    ids = letters.encode(text())
    cut = len(ids) * 4 // 5
    rows = [
        p[: len(p) // args.steps * args.steps].view(-1, args.steps) for p in (ids[:cut], ids[cut:])
    ]
    print(f"{cut} letters to learn, {len(ids) - cut} held out")
    found = {}
    for name, (paper, options) in KINDS.items():
        torch.manual_seed(args.seed)
        model = Model(len(letters), args.hidden, options)

        def loss_of(batch, model=model):
            batch = batch.t()
            return cross_entropy(model(batch[:-1]).flatten(0, 1), batch[1:].flatten())

        def held_out(rows=rows, loss_of=loss_of):
            return -loss_of(rows[1]).item()

        def batches(rows=rows):
            return rows[0][torch.randperm(len(rows[0]))].split(args.batch)

        losses = train(model, batches, loss_of, epochs=args.epochs, lr=5e-3, score=held_out)
        with torch.no_grad():
            found[name] = math.exp(losses[-1]), math.exp(-held_out())
        seen, new = found[name]
        print(f"{name:18} training {seen:5.2f}  validation {new:5.2f}  {paper}")
    figure, axes = pyplot().subplots(figsize=(8, 4), layout="constrained")
    places = range(len(found))
    axes.barh([k + 0.2 for k in places], [v for _, v in found.values()], 0.4, label="validation")
    axes.barh([k - 0.2 for k in places], [t for t, _ in found.values()], 0.4, label="training")
    axes.set_yticks(places, found)
    axes.set(xlabel="perplexity of a letter, the lower the better")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    save(figure, args, "dropouts")
    return found


if __name__ == "__main__":
    main()
