"""A text auto-encoder: a sentence becomes one vector, and the vector the sentence again.

After Sutskever et al. 2014 and Li et al. 2015. The neighbours of a vector show what it contains,
and so do sentences decoded from points between two vectors.
"""

import random

import torch
from torch.nn.functional import cross_entropy, normalize

import seqfast.nn
from common import BEGIN, END, PAD, Vocabulary, arguments, padded, shuffled, train

PARTS = (
    "the a my every".split(),
    "old young tired happy".split(),
    "farmer teacher cat singer pilot".split(),
    "sees likes paints follows".split(),
    "the a our".split(),
    "red small wooden empty".split(),
    "house boat garden piano bicycle".split(),
    ["", "today", "at night", "in the rain"],
)


def sentences(count, rng):
    return [" ".join(rng.choice(part) for part in PARTS).split() for _ in range(count)]


class AutoEncoder(torch.nn.Module):
    def __init__(self, words, hidden):
        super().__init__()
        self.embedding = torch.nn.Embedding(words, 48)
        self.encoder = seqfast.nn.GRU(48, hidden)
        self.decoder = seqfast.nn.GRU(48, hidden)
        self.head = torch.nn.Linear(hidden, words)

    def encode(self, ids, lengths):  # [steps, batch] -> [batch, hidden]
        return self.encoder(self.embedding(ids), lengths=lengths)[1][0]

    def decode(self, ids, code):  # [steps, batch], [batch, hidden] -> [steps, batch, words]
        output, state = self.decoder(self.embedding(ids), code[None])
        return self.head(output), state[0]


def main(argv=None):
    args = arguments(__doc__, argv, sentences=3000, epochs=10, hidden=128)
    rng = random.Random(args.seed)
    known, test = sentences(args.sentences, rng), sentences(200, rng)
    vocabulary = Vocabulary((w for text in known for w in text), (PAD, BEGIN, END))
    model = AutoEncoder(len(vocabulary), args.hidden)

    def codes(texts):
        return model.encode(*padded([vocabulary.encode(text) for text in texts]))

    def loss_of(batch):
        ids, _ = padded([vocabulary.encode([BEGIN, *text, END]) for text in batch])
        logits, _ = model.decode(ids[:-1], codes(batch))
        return cross_entropy(logits.flatten(0, 1), ids[1:].flatten(), ignore_index=0)

    train(model, lambda: shuffled(known, 64), loss_of, epochs=args.epochs, lr=5e-3)

    @torch.no_grad()
    def write(code):
        """Greedily, all rows at once."""
        ids = torch.full((1, len(code)), vocabulary.index[BEGIN])
        written = []
        for _ in range(14):
            logits, code = model.decode(ids, code)
            ids = logits.argmax(-1)
            written.append(ids[0])
        rows = torch.stack(written, 1).tolist()
        texts = [vocabulary.decode(row) for row in rows]
        return [text[: text.index(END)] if END in text else text for text in texts]

    with torch.no_grad():
        vectors = codes(test)
        again = write(vectors)
        right = sum(a == b for a, b in zip(test, again, strict=True)) / len(test)
        print(f"{right:.1%} of {len(test)} new sentences come back word for word")
        near = normalize(vectors) @ normalize(vectors).t()
        near.fill_diagonal_(-1)
        for k in range(2):
            print(f"nearest to {' '.join(test[k])!r}: {' '.join(test[int(near[k].argmax())])!r}")
        print("from one sentence to another:")
        line = torch.linspace(0, 1, 5)[:, None]
        for text in write(vectors[0] * (1 - line) + vectors[1] * line):
            print("   ", " ".join(text))
    shared = [
        len(set(test[k]) & set(test[int(row.argmax())])) / len(set(test[k]))
        for k, row in enumerate(near)
    ]
    return right, sum(shared) / len(shared)


if __name__ == "__main__":
    main()
