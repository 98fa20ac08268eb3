"""Transfer: word vectors from much plain text help when there are few labels.

A part-of-speech tagger has a few labelled sentences of an invented language. Its vectors are
random, or from seqfast.Word2Vec on 4,000 sentences without a label: kept as they are (frozen) or
trained on (fine-tuned). The fewer the labels, the more the vectors help.
"""

import random

import torch
from torch.nn.functional import cross_entropy

import seqfast.nn
from common import PAD, UNKNOWN, Vocabulary, arguments, padded, pyplot, save, shuffled, train

TAGS = ("determiner", "adjective", "noun", "verb", "adverb")
PATTERNS = ("DANV", "DNVDN", "DNVR", "DAANV", "NVDAN", "DNVRDN")
LETTERS = dict(zip("DANVR", range(5), strict=True))
SIZES = (4, 80, 160, 120, 40)  # words of each kind


def language(rng):
    """Words of two or three syllables from one distribution, so that spelling does not help."""
    words = set()
    while len(words) < sum(SIZES):
        words.add(
            "".join(rng.choices("ba do ki lu me no pa re si tu".split(), k=rng.choice([2, 3, 4])))
        )
    words = sorted(words)
    rng.shuffle(words)
    kinds, start = [], 0
    for size in SIZES:
        kinds.append(words[start : start + size])
        start += size
    return kinds


def sentences(kinds, count, rng):
    found = []
    for _ in range(count):
        tags = [LETTERS[c] for c in rng.choice(PATTERNS)]
        found.append(([rng.choice(kinds[t]) for t in tags], tags))
    return found


class Tagger(torch.nn.Module):
    def __init__(self, vectors, frozen, hidden=32):
        super().__init__()
        self.embedding = torch.nn.Embedding.from_pretrained(vectors.clone(), freeze=frozen)
        self.rnn = seqfast.nn.GRU(vectors.shape[1], hidden, bidirectional=True)
        self.head = torch.nn.Linear(2 * hidden, len(TAGS))

    def forward(self, ids, lengths):
        return self.head(self.rnn(self.embedding(ids), lengths=lengths)[0])


def accuracy(vectors, frozen, known, test, args):
    torch.manual_seed(args.seed)
    model = Tagger(vectors, frozen)

    def scores(pairs):
        ids, lengths = padded([ids for ids, _ in pairs])
        within = torch.arange(len(ids))[:, None] < lengths
        return model(ids, lengths)[within], padded([tags for _, tags in pairs])[0][within]

    train(
        model, lambda: shuffled(known, 8), lambda batch: cross_entropy(*scores(batch)),
        epochs=max(5, args.steps // len(known)), lr=5e-3,
    )  # fmt: skip
    with torch.no_grad():
        logits, tags = scores(test)
    return (logits.argmax(1) == tags).float().mean().item()


def main(argv=None):
    args = arguments(__doc__, argv, plain=4000, size=32, steps=1200)
    rng = random.Random(args.seed)
    kinds = language(rng)
    plain = [words for words, _ in sentences(kinds, args.plain, rng)]
    vocabulary = Vocabulary((w for words in plain for w in words), (PAD, UNKNOWN))
    trained = seqfast.Word2Vec(
        plain, vector_size=args.size, window=2, min_count=1, sample=0, epochs=10, workers=1,
        seed=args.seed, progress=False,
    )  # fmt: skip
    vectors = torch.zeros(len(vocabulary), args.size)
    for word, row in trained.key_to_index.items():
        vectors[vocabulary.index[word]] = torch.tensor(trained.vectors[row])
    vectors /= vectors[2:].std()
    blind = torch.randn(vectors.shape)
    ways = {
        "random, fine-tuned": (blind, False),
        "learnt, frozen": (vectors, True),
        "learnt, fine-tuned": (vectors, False),
    }
    counts, found = (10, 40, 160, 640), {name: [] for name in ways}
    encode = [(vocabulary.encode(w), torch.tensor(t)) for w, t in sentences(kinds, 1000, rng)]
    for count in counts:
        for name, (start, frozen) in ways.items():
            found[name].append(accuracy(start, frozen, encode[:count], encode[700:], args))
    print(f"{'sentences with labels':22}", *(f"{count:>7}" for count in counts))
    for name, row in found.items():
        print(f"{name:22}", *(f"{share:7.1%}" for share in row))
    figure, axes = pyplot().subplots(figsize=(7, 4), layout="constrained")
    for name, row in found.items():
        axes.semilogx(counts, row, "o-", label=name)
    axes.set(xlabel="sentences with labels", ylabel="tags right", xticks=counts, xticklabels=counts)
    axes.legend()
    save(figure, args, "transfer")
    return found


if __name__ == "__main__":
    main()
