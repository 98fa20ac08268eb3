"""Trigger word detection: a network listens to a stream and says when it heard "the word".

The streams are generated: noise, other words, and the trigger, each a short melody of tones. Only
one frame in hundreds, where the word ends, has the label 1. As in Andrew Ng's exercise, the frames
after it also get the label 1, and the network learns much better.
"""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

import seqfast.nn
from common import arguments, need, pyplot, save, train

BANDS = 20  # energies of a filter bank
TRIGGER, OTHERS = (4, 12, 7), ((4, 12, 15), (12, 4, 7), (7, 12, 4), (4, 7, 12), (15, 7, 2))


def draw(batch, steps, stretch):
    """Energies [steps, batch, bands], labels [steps, batch], and the frames where triggers end."""
    x = 0.5 * torch.randn(steps, batch, BANDS)
    labels, ends = torch.zeros(steps, batch), [[] for _ in range(batch)]
    for b in range(batch):
        t = int(torch.randint(5, 15, ()))
        while t + 12 < steps - stretch:
            trigger = torch.rand(()) < 0.35
            word = TRIGGER if trigger else OTHERS[int(torch.randint(len(OTHERS), ()))]
            for tone in word:  # each three or four frames long, a little out of tune
                length = int(torch.randint(3, 5, ()))
                x[t : t + length, b, tone] += 1.5 + 0.4 * torch.randn(())
                t += length
            if trigger:
                ends[b].append(t)
                labels[t : t + stretch, b] = 1
            t += int(torch.randint(12, 40, ()))
    return x, labels, ends


class Listener(torch.nn.Module):
    """Reads only past frames, so that it works while people speak."""

    def __init__(self, hidden):
        super().__init__()
        self.rnn = seqfast.nn.GRU(BANDS, hidden, num_layers=2)
        self.head = torch.nn.Linear(hidden, 1)

    def forward(self, x):  # [steps, batch, bands] -> logits [steps, batch]
        return self.head(self.rnn(x)[0])[:, :, 0]


def detections(probabilities, threshold=0.5):
    """Frames at which the probability rises above the threshold."""
    above = probabilities > threshold
    return (above[1:] & ~above[:-1]).nonzero()[:, 0].add(1).tolist()


def judge(model, x, ends, stretch):
    """Precision, recall and F1: a detection counts within `stretch` + 5 frames of a word's end."""
    with torch.no_grad():
        probabilities = torch.sigmoid(model(x))
    hits = heard = wanted = 0
    for b, truth in enumerate(ends):
        said, left = detections(probabilities[:, b]), list(truth)
        heard, wanted = heard + len(said), wanted + len(truth)
        for t in said:
            match = [end for end in left if -2 <= t - end <= stretch + 5]
            if match:
                left.remove(match[0])
                hits += 1
    precision, recall = hits / max(heard, 1), hits / wanted
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9), probabilities


def main(argv=None):
    args = arguments(__doc__, argv, epochs=15, batches=15, frames=300, hidden=64)
    torch.manual_seed(1000 + args.seed)
    test, _, ends = draw(40, args.frames, 1)
    need([end for row in ends for end in row], 1, "triggers to test on (longer streams)")
    found, curves = {}, {}
    for name, stretch in (("one frame", 1), ("stretched", 10)):
        torch.manual_seed(args.seed)
        model = Listener(args.hidden)

        def loss_of(batch, model=model):
            x, labels, _ = batch
            return binary_cross_entropy_with_logits(model(x), labels)

        def batches(stretch=stretch):
            return (draw(32, args.frames, stretch) for _ in range(args.batches))

        train(model, batches, loss_of, epochs=args.epochs, lr=4e-3)
        precision, recall, found[name], curves[name] = judge(model, test, ends, 10)
        print(
            f"labels {name}: precision {precision:.2f}, recall {recall:.2f}, F1 {found[name]:.2f}"
        )
    figure, (top, bottom) = pyplot().subplots(
        2, 1, figsize=(9, 5), sharex=True, layout="constrained"
    )
    top.imshow(test[:, 0].t().numpy(), aspect="auto", origin="lower", cmap="magma")
    top.set(ylabel="band", title="A stream, and what the networks hear in it")
    for name, p in curves.items():
        bottom.plot(p[:, 0].numpy(), label=f"labels: {name}")
    for k, end in enumerate(ends[0]):
        bottom.axvline(end, color="black", linestyle=":", label="the word ends" if k == 0 else None)
    bottom.set(xlabel="frame", ylabel="probability", ylim=(0, 1.05))
    bottom.legend(loc="upper right")
    save(figure, args, "trigger_words")
    return found


if __name__ == "__main__":
    main()
