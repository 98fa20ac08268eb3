"""Slot filling: "arrive in Taipei on May 2nd" against "leave Taipei on May 2nd".

A feed-forward network that sees one word at a time must give Taipei the same slot in both. A
recurrent one remembers "arrive" or "leave". tagging.py does the same on real requests.
"""

import random

import torch
from torch.nn.functional import cross_entropy

import seqfast.nn
from common import PAD, UNKNOWN, Vocabulary, arguments, need, padded, shuffled, train

CITIES = "Taipei Paris London Kyoto Lima Oslo Cairo Delhi Quito Rome".split()
DAYS = "Monday Tuesday Friday Sunday tomorrow tonight".split()


def requests(count, rng):
    """Sentences as lists of words, and a slot for each word; O is none."""
    found = []
    for _ in range(count):
        first, second = rng.sample(CITIES, 2)
        came = ("arrive in {a}", "I arrive at {a}", "get me to {a}", "my train reaches {a}")
        went = ("leave {d}", "I depart from {d}", "we are leaving {d}", "my train starts from {d}")
        parts = [rng.choice(came).format(a=first), rng.choice(went).format(d=second)]
        rng.shuffle(parts)
        text = " and ".join(parts[: rng.choice([1, 2])]) + f" on {rng.choice(DAYS)}"
        words = text.split()
        goal = {first: "arrival", second: "departure"}
        found.append((words, [goal.get(w, "day" if w in DAYS else "O") for w in words]))
    return found


class Tagger(torch.nn.Module):
    def __init__(self, words, slots, recurrent, hidden=64):
        super().__init__()
        self.embedding = torch.nn.Embedding(words, 64)
        self.rnn = seqfast.nn.LSTM(64, hidden, bidirectional=True) if recurrent else None
        self.net = torch.nn.Sequential(torch.nn.Linear(64, 2 * hidden), torch.nn.ReLU())
        self.head = torch.nn.Linear(2 * hidden, slots)

    def forward(self, ids, lengths):  # [steps, batch] -> [steps, batch, slots]
        x = self.embedding(ids)
        return self.head(self.net(x) if self.rnn is None else self.rnn(x, lengths=lengths)[0])


def main(argv=None):
    args = arguments(__doc__, argv, epochs=6, sentences=2000)
    texts = requests(args.sentences, random.Random(args.seed))
    need(texts, 5, "sentences")
    known, test = texts[len(texts) // 5 :], texts[: len(texts) // 5]
    words = Vocabulary((w for t, _ in known for w in t), (PAD, UNKNOWN))
    slots = Vocabulary((s for _, ss in texts for s in ss), ("O",))
    print(f"{len(known)} requests to learn, {len(test)} to test on, {len(slots)} slots")
    encoded = [(words.encode(t), slots.encode(s)) for t, s in known]
    found = {}
    for kind in ("feed-forward", "LSTM"):
        torch.manual_seed(args.seed)
        model = Tagger(len(words), len(slots), kind == "LSTM")

        def loss_of(batch, model=model):
            ids, lengths = padded([w for w, _ in batch])
            within = torch.arange(len(ids))[:, None] < lengths
            return cross_entropy(
                model(ids, lengths)[within], padded([s for _, s in batch])[0][within]
            )

        def tag(sentences, model=model):
            ids, lengths = padded([words.encode(s) for s in sentences])
            with torch.no_grad():
                rows = model(ids, lengths).argmax(-1).t().tolist()
            return [slots.decode(row[: len(s)]) for row, s in zip(rows, sentences, strict=True)]

        train(model, lambda: shuffled(encoded, 32), loss_of, epochs=args.epochs, lr=5e-3)
        tagged = tag([t for t, _ in test])
        pairs = [p for (_, s), t in zip(test, tagged, strict=True) for p in zip(s, t, strict=True)]
        cities = [a == b for a, b in pairs if a in ("arrival", "departure")]
        found[kind] = sum(cities) / len(cities)
        print(f"{kind:13} {found[kind]:6.1%} of the cities right", end="; ")
        said = tag(["arrive in Taipei on Sunday".split(), "leave Taipei on Sunday".split()])
        print("Taipei:", said[0][2], "/", said[1][1])
    return found


if __name__ == "__main__":
    main()
