"""Dates in many notations to ISO, with attention: "3rd of May 1979" becomes 1979-05-03.

An encoder reads the characters in both directions, and a decoder with attention (Bahdanau et al.
2015) writes ten characters. The picture shows the attention weights of each.
"""

import datetime
import random

import torch

from common import BEGIN, END, PAD, Translator, Vocabulary, arguments, padded, pyplot, save, train

FORMATS = ("%d %B %Y", "%B %d, %Y", "%d %b %Y", "%b %d %Y", "%A %d %B %Y", "%d.%m.%Y", "%d/%m/%Y")
WRITINGS = (*FORMATS, "%Y %B %d", "{day} of %B %Y", "%A, %B {day} %Y", "%d. %B %Y", "%d %m %Y")


def draw(rng):
    """A date as people write it, and in ISO."""
    date = datetime.date(1900, 1, 1) + datetime.timedelta(days=rng.randrange(73_000))
    suffix = "th" if 10 < date.day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(date.day % 10, "th")
    text = date.strftime(rng.choice(WRITINGS).format(day=f"{date.day}{suffix}"))
    return rng.choice([str, str.lower, str.upper])(text), date.isoformat()


def main(argv=None):
    args = arguments(__doc__, argv, epochs=10, steps=60, batch=64, hidden=64, test=200)
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

    train(model, batches, lambda batch: model.loss(*batch), epochs=args.epochs, lr=5e-3)

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
