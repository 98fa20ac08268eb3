"""An emoji for a sentence: with vectors from plain text an LSTM handles words that had no label.

After Andrew Ng's exercise "Emojify". Few sentences have a label. The vectors, trained by
seqfast.Word2Vec on many sentences without labels, generalise to words with a similar use.
"""

import random

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import seqfast.nn
from common import PAD, UNKNOWN, Vocabulary, arguments, padded, shuffled, train

KINDS = {
    "\u2764\ufe0f": ("I {w} you", "she will {w} this song", "{w} for my family"),
    "\u26be": ("let us {w} tonight", "they {w} in the park", "a good day to {w}"),
    "\U0001f604": ("what a {w} day", "we feel {w} now", "so {w} to see you"),
    "\U0001f61e": ("what a {w} day", "we feel {w} now", "so {w} to go home"),
    "\U0001f374": ("I want {w} please", "{w} for lunch", "we cook {w} at home"),
}
WORDS = {  # the first two of each stand in labelled sentences, the others in the test alone
    "\u2764\ufe0f": "love adore cherish treasure".split(),
    "\u26be": "play run score throw".split(),
    "\U0001f604": "happy lovely funny joyful".split(),
    "\U0001f61e": "sad awful gloomy miserable".split(),
    "\U0001f374": "pizza soup noodles salad".split(),
}


def sentences(count, rng, first, last):
    found = []
    for _ in range(count):
        kind = rng.randrange(len(KINDS))
        emoji = list(KINDS)[kind]
        text = rng.choice(KINDS[emoji]).format(w=rng.choice(WORDS[emoji][first:last]))
        found.append((text.split(), kind))
    return found


def plain_text(count, rng):
    """Text without labels in which words of the same kind have the same neighbours."""
    company = {
        "\u2764\ufe0f": "heart kiss darling forever".split(),
        "\u26be": "team ball match field".split(),
        "\U0001f604": "smile laughter sunshine party".split(),
        "\U0001f61e": "tears rain loss grief".split(),
        "\U0001f374": "plate kitchen hungry cook".split(),
    }
    return [
        [*rng.sample(company[e], 3), rng.choice(WORDS[e]), *rng.sample(company[e], 2)]
        for e in rng.choices(list(KINDS), k=count)
    ]


class Emojifier(torch.nn.Module):
    def __init__(self, vectors, hidden=32):
        super().__init__()
        self.embedding = torch.nn.Embedding.from_pretrained(torch.tensor(vectors), freeze=True)
        self.rnn = seqfast.nn.LSTM(vectors.shape[1], hidden)
        self.head = torch.nn.Linear(hidden, len(KINDS))

    def forward(self, ids, lengths):
        _, (last, _) = self.rnn(self.embedding(ids), lengths=lengths)
        return self.head(last[-1])


def main(argv=None):
    args = arguments(__doc__, argv, labelled=120, plain=5000, epochs=30)
    rng = random.Random(args.seed)
    known, test = sentences(args.labelled, rng, 0, 2), sentences(200, rng, 2, 4)
    words = Vocabulary((w for t, _ in known + test for w in t), (PAD, UNKNOWN))
    corpus = plain_text(args.plain, rng) + [t for t, _ in known]
    model = seqfast.Word2Vec(
        corpus, vector_size=32, min_count=1, epochs=5, seed=args.seed, workers=1, progress=False
    )
    draw = np.random.default_rng(args.seed).standard_normal
    blind = draw((len(words), 32)).astype(np.float32)
    informed = blind * 0.1
    for word, id in words.index.items():
        if word in model.key_to_index:
            vector = model.vectors[model.key_to_index[word]]
            informed[id] = vector / np.linalg.norm(vector) * 3
    found = {}
    for name, vectors in (("random vectors", blind), ("learnt vectors", informed)):
        torch.manual_seed(args.seed)
        net = Emojifier(vectors)

        def scores(pairs, net=net):
            ids, lengths = padded([words.encode(text) for text, _ in pairs])
            return net(ids, lengths), torch.tensor([kind for _, kind in pairs])

        train(
            net, lambda: shuffled(known, 16), lambda b: cross_entropy(*scores(b)),
            epochs=args.epochs, lr=5e-3,
        )  # fmt: skip
        with torch.no_grad():
            logits, kinds = scores(test)
        said = logits.argmax(1)
        found[name] = (said == kinds).float().mean().item()
        print(f"{name}: {found[name]:.1%} of sentences with new words right")
        for (text, _), kind in list(zip(test, said.tolist(), strict=True))[:4]:
            print(f"    {' '.join(text):28} {list(KINDS)[kind]}")
    return found


if __name__ == "__main__":
    main()
