"""Key terms of a text: an LSTM reads a document; the words with the largest attention are taken.

After Shen & Lee 2016. The network learns only which subject a text has; key terms have no labels.
The words that it attends to are the key terms. Baselines: the most frequent words, and tf-idf,
which takes any rare word, such as a name, for a key term.
"""

import math
import random
from collections import Counter
from itertools import product

import torch
from torch.nn.functional import cross_entropy

import seqfast.nn
from common import PAD, UNKNOWN, Vocabulary, arguments, need, padded, shuffled, train

TERMS = {
    "music": "orchestra violin melody chord tempo conductor sonata".split(),
    "cooking": "oven recipe flour simmer garlic pastry saucepan".split(),
    "astronomy": "telescope galaxy orbit nebula comet eclipse satellite".split(),
    "sailing": "rudder mast harbour knot anchor keel regatta".split(),
}
NAMES = ["".join(syllables) for syllables in product("ka lo mi ne pu ra".split(), repeat=3)]
FILLERS = (
    "the a of and then we they with very often people day some time new good in on it was".split()
)


def documents(count, rng):
    """Common words, rare names, three terms of the subject and one of another subject."""
    found = []
    for _ in range(count):
        subject = rng.choice(list(TERMS))
        other = rng.choice([s for s in TERMS if s != subject])
        terms = rng.sample(TERMS[subject], 3)
        words = rng.choices(FILLERS, k=30) + rng.sample(NAMES, 3)
        words += terms + rng.sample(TERMS[other], 1)
        rng.shuffle(words)
        found.append((words, subject, terms))
    return found


class Reader(torch.nn.Module):
    def __init__(self, words, subjects, hidden=64):
        super().__init__()
        self.embedding = torch.nn.Embedding(words, 32)
        self.rnn = seqfast.nn.LSTM(32, hidden, bidirectional=True, batch_first=True)
        self.score = torch.nn.Linear(2 * hidden, 1)
        self.head = torch.nn.Linear(32, subjects)

    def forward(self, ids, lengths):  # [batch, steps] -> [batch, subjects], weights [batch, steps]
        x = self.embedding(ids)
        output, _ = self.rnn(x, lengths=lengths)
        within = torch.arange(ids.shape[1]) < lengths[:, None]
        weights = torch.sigmoid(self.score(output)[:, :, 0] - 2) * within  # begins near 0
        return self.head((weights[:, :, None] * x).sum(1)), weights


def main(argv=None):
    args = arguments(__doc__, argv, documents=1500, epochs=12, sparsity=0.01)
    texts = documents(args.documents, random.Random(args.seed))
    need(texts, 5, "documents")
    known, test = texts[len(texts) // 5 :], texts[: len(texts) // 5]
    words = Vocabulary((w for t, _, _ in known for w in t), (PAD, UNKNOWN))
    subjects = list(TERMS)
    model = Reader(len(words), len(subjects))

    def read(batch):
        ids, lengths = padded([words.encode(t) for t, _, _ in batch])
        return model(ids.t(), lengths)

    def loss_of(batch):
        logits, weights = read(batch)
        wanted = torch.tensor([subjects.index(subject) for _, subject, _ in batch])
        return cross_entropy(logits, wanted) + args.sparsity * weights.sum(1).mean()

    train(model, lambda: shuffled(known, 32), loss_of, epochs=args.epochs, lr=5e-3)
    with torch.no_grad():
        logits, weights = read(test)
    right = sum(subjects[k] == s for k, (_, s, _) in zip(logits.argmax(1), test, strict=True))
    documents_with = Counter(w for t, _, _ in known for w in set(t))
    hits = Counter()
    for (text, _, terms), row in zip(test, weights, strict=True):
        often = Counter(text)
        rare = {w: n * math.log(len(known) / (1 + documents_with[w])) for w, n in often.items()}
        chosen = {
            "attention": [text[i] for i in row[: len(text)].topk(3).indices],
            "tf-idf": sorted(rare, key=rare.get)[-3:],
            "frequency": [w for w, _ in often.most_common(3)],
        }
        hits.update({name: len(set(words) & set(terms)) for name, words in chosen.items()})
    found = {name: count / (3 * len(test)) for name, count in hits.items()}
    text, _, terms = test[0]
    marked = sorted(zip(weights[0].tolist(), text, strict=False), reverse=True)[:5]
    print(" ".join(text))
    print("weights:", ", ".join(f"{w} {p:.2f}" for p, w in marked), f"(terms: {', '.join(terms)})")
    print(f"subject right: {right / len(test):.1%}")
    print("key terms right:", ", ".join(f"{share:.1%} by {name}" for name, share in found.items()))
    return right / len(test), found


if __name__ == "__main__":
    main()
