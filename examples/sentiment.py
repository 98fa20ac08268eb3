"""Is a review positive? A mean of word vectors against recurrent networks, which see the order.

"completely lacking in good taste, good service and good ambience" has three good words; "terribly
exciting" has none. A mean cannot tell. Without --data the sentences are made here.
"""

import random

import torch
from torch.nn.functional import cross_entropy, dropout

import seqfast.nn
from common import Vocabulary, arguments, padded, read_archive, shuffled, train

SOURCE = "sentence_polarity.zip of NLTK (https://www.nltk.org/nltk_data/, item 'sentence_polarity')"
GOOD, BAD = "good great excellent lovely fresh".split(), "bad awful poor dull stale".split()
THINGS = "taste service ambience food plot music acting".split()
PROBES = [
    ("completely lacking in good taste , good service and good ambience", 0),
    ("terribly exciting", 1),
    ("not bad at all", 1),
]


def made_up(count, rng):
    """Sentences whose words of praise and blame count only with what stands before them."""
    found = []
    for _ in range(count):
        label, turned = rng.random() < 0.5, rng.random() < 0.5
        word = rng.choice(GOOD if label != turned else BAD)
        thing, other, third = rng.sample(THINGS, 3)
        if turned:
            frames = ["completely lacking in {w} {t} , {w} {o} and {w} {u}", "not {w} at all"]
            frames += ["the {t} is never {w}", "far from {w} {t} and {o}"]
        else:
            frames = ["a film with {w} {t} and {w} {o}", "the {t} is {w} , not only the {o}"]
            frames += [
                "terribly exciting {o}" if label else "terribly boring {o}",
                "at all times {w}",
            ]
        found.append((rng.choice(frames).format(w=word, t=thing, o=other, u=third), int(label)))
    return found


def load(args, rng):
    if args.data is None:
        return made_up(3000, rng)
    found = []
    for name, content in read_archive(args.data).items():
        if name.endswith((".pos", ".neg")):
            lines = content.decode("latin-1").splitlines()
            found += [(line, int(name.endswith(".pos"))) for line in lines if line.strip()]
    rng.shuffle(found)
    return found


class Classifier(torch.nn.Module):
    def __init__(self, words, kind, size=100, hidden=100, drop=0.5):
        super().__init__()
        self.kind, self.drop = kind, drop
        self.embedding = torch.nn.Embedding(words, size, padding_idx=0)
        torch.nn.init.normal_(self.embedding.weight, std=0.1)
        both = kind == "bidirectional"
        if kind != "mean":
            self.rnn = seqfast.nn.LSTM(size, hidden, bidirectional=both)
        self.head = torch.nn.Linear(size if kind == "mean" else hidden * (1 + both), 2)

    def forward(self, ids, lengths):  # [steps, batch] -> [batch, 2]
        x = dropout(self.embedding(ids), self.drop, self.training)
        if self.kind != "mean":
            x, _ = self.rnn(x, lengths=lengths)
        mean = x.sum(0) / lengths[:, None]
        return self.head(dropout(mean, self.drop, self.training))


def accuracy(model, sentences):
    with torch.no_grad():
        ids, lengths = padded([s for s, _ in sentences])
        labels = torch.tensor([y for _, y in sentences])
        return (model(ids, lengths).argmax(1) == labels).float().mean().item()


def main(argv=None):
    args = arguments(__doc__, argv, data=(None, SOURCE), epochs=8, lr=2e-3)
    texts = load(args, random.Random(args.seed))
    share = len(texts) // 10
    test, valid, known = texts[:share], texts[share : 2 * share], texts[2 * share :]
    vocabulary = Vocabulary(word for text, _ in known for word in text.split())
    parts = [[(vocabulary.encode(t.split()), y) for t, y in part] for part in (known, valid, test)]
    print(f"{len(known)} sentences to learn, {share} to test on, {len(vocabulary)} words")
    found = {}
    for kind in ("mean", "LSTM", "bidirectional"):
        torch.manual_seed(args.seed)
        model = Classifier(len(vocabulary), kind)

        def loss_of(batch, model=model):
            ids, lengths = padded([s for s, _ in batch])
            return cross_entropy(model(ids, lengths), torch.tensor([y for _, y in batch]))

        train(model, lambda: shuffled(parts[0], 32), loss_of, epochs=args.epochs, lr=args.lr,
              score=lambda model=model: accuracy(model, parts[1]), patience=3)  # fmt: skip
        found[kind] = accuracy(model, parts[2])
        print(f"{kind:14} {found[kind]:.1%} right")
        for text, label in PROBES if args.data is None else ():
            says = accuracy(model, [(vocabulary.encode(text.split()), 1)]) == 1
            print(
                f"    {text!r}: {'positive' if says else 'negative'}",
                "" if says == label else "(wrong)",
            )
    return found


if __name__ == "__main__":
    main()
