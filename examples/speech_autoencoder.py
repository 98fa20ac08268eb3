"""A speech auto-encoder finds recordings by example: it turns sounds into vectors to compare.

After Chung et al. 2016, "Audio Word2Vec": an encoder reads a recording of a word, and a decoder
reconstructs it from the encoder's last state alone. There are no labels, but recordings of the
same word get similar vectors. Baseline: the mean of the features over time.
"""

import random

import torch
from torch.nn.functional import normalize

import seqfast.nn
from common import SPOKEN_DIGITS, arguments, padded, pyplot, save, shuffled, spoken_digits, train
from speech import BANDS, log_mel


class AutoEncoder(torch.nn.Module):
    def __init__(self, hidden, code):
        super().__init__()
        self.encoder = seqfast.nn.GRU(BANDS, hidden, bidirectional=True)
        self.code = torch.nn.Linear(2 * hidden, code)
        self.decoder = seqfast.nn.GRU(code + 1, hidden)
        self.head = torch.nn.Linear(hidden, BANDS)

    def encode(self, x, lengths):  # [frames, batch, bands] -> [batch, code]
        _, last = self.encoder(x, lengths=lengths)
        return self.code(last.transpose(0, 1).flatten(1))

    def decode(self, code, lengths, frames):
        """Every step gets the code and the share of time that has passed, but not the sound."""
        time = torch.arange(frames)[:, None, None] / lengths[:, None]
        steps = torch.cat([code.expand(frames, -1, -1), time], dim=2)
        return self.head(self.decoder(steps, lengths=lengths)[0])


def precision(vectors, labels):
    """Mean average precision: each recording is a query; those of its word should rank first."""
    similarity = normalize(vectors) @ normalize(vectors).t()
    found = []
    for k, row in enumerate(similarity):
        order = row.argsort(descending=True)
        hits = (labels[order[order != k]] == labels[k]).float()
        places = torch.arange(1, len(hits) + 1)
        found.append(((hits.cumsum(0) / places) * hits).sum() / hits.sum())
    return torch.stack(found).mean().item()


def main(argv=None):
    args = arguments(
        __doc__,
        argv,
        data=(None, SPOKEN_DIGITS),
        epochs=15,
        takes=(25, "of each digit"),
        hidden=64,
        code=32,
    )
    parts = spoken_digits(args.data, random.Random(args.seed))
    known, test = (
        [
            (torch.tensor(log_mel(s)), d)
            for d, takes in part.items()
            for s in takes[:: max(1, len(takes) // args.takes)]
        ]
        for part in parts
    )
    mean = torch.cat([x for x, _ in known]).mean(0)
    scale = torch.cat([x for x, _ in known]).std(0)
    known, test = ([((x - mean) / scale, d) for x, d in part] for part in (known, test))
    print(f"{len(known)} recordings to learn from without a label, {len(test)} to search in")
    model = AutoEncoder(args.hidden, args.code)

    def loss_of(batch):
        x, lengths = padded([x for x, _ in batch])
        again = model.decode(model.encode(x, lengths), lengths, len(x))
        within = (torch.arange(len(x))[:, None] < lengths)[:, :, None]
        return ((again - x) ** 2 * within).sum() / within.sum() / BANDS

    losses = train(model, lambda: shuffled(known, 16), loss_of, epochs=args.epochs, lr=3e-3)
    x, lengths = padded([x for x, _ in test])
    labels = torch.tensor([d for _, d in test])
    with torch.no_grad():
        codes = model.encode(x, lengths)
        again = model.decode(codes, lengths, len(x))
    found = {
        "mean of the features": precision(x.sum(0) / lengths[:, None], labels),
        "code of the auto-encoder": precision(codes, labels),
        "chance": (labels.bincount().float() / len(labels)).square().sum().item(),
    }
    print(f"error of the copy {losses[0]:.2f} -> {losses[-1]:.2f}")
    for name, value in found.items():
        print(f"{name:25} mean average precision {value:.2f}")
    figure, axes = pyplot().subplots(2, 3, figsize=(9, 4.5), layout="constrained")
    for column in range(3):
        k = column * len(test) // 3
        for row, sound in zip(axes[:, column], (x, again), strict=True):
            row.imshow(
                sound[: lengths[k], k].t().numpy(), origin="lower", aspect="auto", vmin=-2, vmax=2
            )
        axes[0, column].set_title(f"a {int(labels[k])}")
        axes[1, column].set(title="the same from its code", xlabel="frame")
    for axis in axes[:, 0]:
        axis.set_ylabel("band")
    save(figure, args, "speech_autoencoder")
    return losses, found


if __name__ == "__main__":
    main()
