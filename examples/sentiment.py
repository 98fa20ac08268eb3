"""Is a review positive? A mean of word vectors against recurrent networks, which use the order.

"completely lacking in good taste, good service and good ambience" has three good words; "terribly
exciting" has none. A mean of vectors fails here. Without --data the sentences are generated.
"""

import random

import torch
from torch.nn.functional import cross_entropy, dropout

import seqfast.nn
from common import Vocabulary, arguments, padded, read_archive, shuffled, train

SOURCE = "sentence_polarity.zip of NLTK (https://www.nltk.org/nltk_data/, item 'sentence_polarity')"
TEXT = "more text for word vectors, which are then kept as they are: movie_reviews.zip of NLTK"
GOOD, BAD = "good great excellent lovely fresh".split(), "bad awful poor dull stale".split()
THINGS = "taste service ambience food plot music acting".split()
PROBES = ["completely lacking in good taste , good service and good ambience", "not bad at all"]


def made_up(count, rng):
    """Sentences in which a word of praise or blame depends on the words before it."""
    turned = ["completely lacking in {w} {t} , {w} {o} and {w} {u}", "not {w} at all"]
    turned += ["the {t} is never {w}", "far from {w} {t} and {o}"]
    plain = ["a film with {w} {t} and {w} {o}", "the {t} is {w} , not only the {o}"]
    plain += ["{a} {o}", "at all times {w}"]
    found = []
    for _ in range(count):
        label, not_so = rng.random() < 0.5, rng.random() < 0.5
        thing, other, third = rng.sample(THINGS, 3)
        word = rng.choice(GOOD if label != not_so else BAD)
        adverb = "terribly exciting" if label else "terribly boring"
        text = rng.choice(turned if not_so else plain)
        found.append((text.format(a=adverb, w=word, t=thing, o=other, u=third), int(label)))
    return found


def read_polarity(path):
    """Sentences of Pang and Lee 2005, shuffled, and whether they are positive."""
    found = []
    for name, content in read_archive(path).items():
        if name.endswith((".pos", ".neg")):
            lines = filter(str.strip, content.decode("latin-1").splitlines())
            found += [(line, int(name.endswith(".pos"))) for line in lines]
    random.Random(1).shuffle(found)
    return found


def learn_vectors(path, known, size=100):
    """Word vectors of the texts in an archive and of the sentences, and their words."""
    texts = [c.decode("latin-1") for n, c in read_archive(path).items() if n.endswith(".txt")]
    lines = [line.split() for line in "\n".join(texts).splitlines()]
    corpus = lines + [text.split() for text, _ in known]
    model = seqfast.Word2Vec(corpus, vector_size=size, min_count=2, epochs=8, progress=False)
    vectors = torch.nn.functional.normalize(torch.tensor(model.vectors)) * 2
    return torch.cat([torch.zeros(2, size), vectors]), list(model.index_to_key)


class Classifier(torch.nn.Module):
    def __init__(self, vectors, frozen, kind, hidden=100, drop=0.5):
        super().__init__()
        self.kind, self.drop = kind, drop
        self.embedding = torch.nn.Embedding.from_pretrained(vectors.clone(), freeze=frozen)
        both, size = kind == "bidirectional", vectors.shape[1]
        if kind != "mean":
            self.rnn = seqfast.nn.LSTM(size, hidden, bidirectional=both)
        self.head = torch.nn.Linear(size if kind == "mean" else hidden * (1 + both), 2)

    def forward(self, ids, lengths):  # [steps, batch] -> [batch, 2]
        x = dropout(self.embedding(ids), self.drop, self.training)
        if self.kind == "mean":
            x = x.sum(0) / lengths[:, None]  # what is behind the end has the vector 0
        else:
            within = (torch.arange(len(ids))[:, None] < lengths)[:, :, None]
            x = self.rnn(x, lengths=lengths)[0].masked_fill(~within, -1).amax(0)
        return self.head(dropout(x, self.drop, self.training))


def accuracy(model, sentences):
    with torch.no_grad():
        said = model(*padded([s for s, _ in sentences])).argmax(1)
    return (said == torch.tensor([y for _, y in sentences])).float().mean().item()


def main(argv=None):
    args = arguments(__doc__, argv, data=(None, SOURCE), vectors=(None, TEXT), epochs=8)
    texts = read_polarity(args.data) if args.data else made_up(3000, random.Random(args.seed))
    share = len(texts) // 10
    test, valid, known = texts[:share], texts[share : 2 * share], texts[2 * share :]
    if args.vectors is None:
        vocabulary = Vocabulary(word for text, _ in known for word in text.split())
        vectors = torch.randn(len(vocabulary), 100) * 0.1
        vectors[0] = 0
    else:
        vectors, words = learn_vectors(args.vectors, known)
        vocabulary = Vocabulary(words)
    parts = [[(vocabulary.encode(t.split()), y) for t, y in part] for part in (known, valid, test)]
    print(f"{len(known)} sentences to learn, {share} to test on, {len(vocabulary)} words")
    found = {}
    for kind in ("mean", "LSTM", "bidirectional"):
        torch.manual_seed(args.seed)
        model = Classifier(vectors, args.vectors is not None, kind)

        def loss_of(batch, model=model):
            ids, lengths = padded([s for s, _ in batch])
            return cross_entropy(model(ids, lengths), torch.tensor([y for _, y in batch]))

        train(model, lambda: shuffled(parts[0], 32), loss_of, epochs=args.epochs,
              score=lambda model=model: accuracy(model, parts[1]), patience=3)  # fmt: skip
        found[kind] = accuracy(model, parts[2])
        print(f"{kind:14} {found[kind]:.1%} right")
        for text in PROBES if args.data is None else ():
            says = accuracy(model, [(vocabulary.encode(text.split()), 1)]) == 1
            print(f"    {text!r}: {'positive' if says else 'negative'}")
    return found


if __name__ == "__main__":
    main()
