"""Dates in many notations to ISO, with attention: "3rd of May 1979" becomes 1979-05-03.

An encoder reads the characters in both directions, and a decoder with attention (Bahdanau et al.
2015) writes ten characters. The picture shows the attention weights of each. translate.py and
parsing.py use the same model.
"""

import datetime
import random

import torch
from torch.nn.functional import cross_entropy

import seqfast.nn
from common import BEGIN, END, PAD, Vocabulary, arguments, padded, pyplot, save, train

FORMATS = ("%d %B %Y", "%B %d, %Y", "%d %b %Y", "%b %d %Y", "%A %d %B %Y", "%d.%m.%Y", "%d/%m/%Y")
WRITINGS = (*FORMATS, "%Y %B %d", "{day} of %B %Y", "%A, %B {day} %Y", "%d. %B %Y", "%d %m %Y")


class Translator(torch.nn.Module):
    """An encoder in both directions, and a decoder that attends to what it has read."""

    def __init__(self, source, target, hidden, size=32, dropout=0.0):
        super().__init__()
        half = max(1, hidden // 2)
        hidden = 2 * half  # both directions side by side
        self.embedding = torch.nn.Embedding(source, size)
        self.encoder = seqfast.nn.LSTM(size, half, bidirectional=True, batch_first=True)
        self.decoder = seqfast.nn.AttentionDecoder(
            torch.nn.Embedding(target, size),
            seqfast.nn.LSTM(size + hidden, hidden),  # it sees a token and what was attended before
            seqfast.nn.Attention("additive", hidden, hidden),
            torch.nn.Linear(hidden, target),
            dropout=dropout,
        )

    def memory(self, ids, lengths):
        """[batch, steps] -> [batch, steps, hidden]."""
        return self.encoder(self.embedding(ids), lengths=lengths)[0]

    def loss(self, ids, lengths, answers, sampling=0.0):
        """Of answers [batch, longest] from `<s>` to `</s>`, with teacher forcing."""
        logits, _, _ = self.decoder(
            answers[:, :-1], self.memory(ids, lengths), lengths, sampling_probability=sampling
        )
        return cross_entropy(logits.flatten(0, 1), answers[:, 1:].flatten(), ignore_index=0)


def draw(rng):
    """A date as people write it, and in ISO."""
    date = datetime.date(1900, 1, 1) + datetime.timedelta(days=rng.randrange(73_000))
    suffix = "th" if 10 < date.day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(date.day % 10, "th")
    text = date.strftime(rng.choice(WRITINGS).format(day=f"{date.day}{suffix}"))
    return rng.choice([str, str.lower, str.upper])(text), date.isoformat()


def main(argv=None):
    settings = {"epochs": 10, "steps": 60, "batch": 64, "hidden": 64, "test": 200}
    sampling = "scheduled sampling: how often the decoder reads its own character in training"
    args = arguments(__doc__, argv, sampling=(0.0, sampling), **settings)
    rng = random.Random(args.seed)
    source = Vocabulary("abcdefghijklmnopqrstuvwxyz0123456789 ,./", (PAD, "<unk>"))
    target = Vocabulary("0123456789-", (PAD, BEGIN, END))
    model = Translator(len(source), len(target), args.hidden)

    def encode(pairs):
        ids, lengths = padded([source.encode(text.lower()) for text, _ in pairs])
        answers = torch.stack([target.encode([BEGIN, *iso, END]) for _, iso in pairs])
        return ids.t(), lengths, answers

    def batches():
        return (encode([draw(rng) for _ in range(args.batch)]) for _ in range(args.steps))

    def loss_of(batch):
        return model.loss(*batch, args.sampling)

    train(model, batches, loss_of, epochs=args.epochs, lr=5e-3)

    pairs = [draw(rng) for _ in range(args.test)]
    ids, lengths, answers = encode(pairs)
    with torch.no_grad():
        memory = model.memory(ids, lengths)
        found = model.decoder.beam(
            memory,
            lengths,
            start=target.index[BEGIN],
            eos=target.index[END],
            beam_size=3,
            max_length=12,
        )
        _, weights, _ = model.decoder(answers[:, :-1], memory, lengths)
    written = [
        "".join(c for c in target.decode(row[0].tolist()) if c in "0123456789-")
        for row in found.tokens.clamp(min=0)
    ]
    right = sum(w == iso for w, (_, iso) in zip(written, pairs, strict=True))
    for (text, _), w in list(zip(pairs, written, strict=True))[:5]:
        print(f"{text:28} {w}")
    print(f"{right} of {len(pairs)} dates right")
    figure, axes = pyplot().subplots(figsize=(9, 4.5), layout="constrained")
    longest = int(lengths.argmax())
    text, iso = pairs[longest]
    axes.imshow(weights[longest, :10, : len(text)].numpy(), cmap="Greys", aspect="auto")
    axes.set_xticks(range(len(text)), list(text))
    axes.set_yticks(range(10), list(iso))
    axes.set(xlabel="read", ylabel="written", title="Where the decoder looks")
    save(figure, args, "dates")
    return right


if __name__ == "__main__":
    main()
