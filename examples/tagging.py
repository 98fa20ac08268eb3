"""Finding names in text: a bidirectional LSTM over words and letters, with and without a CRF.

Softmax decides on each word alone, and so may say B-person I-place. A CRF (Lample et al. 2016)
learns which tag follows which, and chooses a whole sequence. Scores are F1 of entities, by seqeval.
"""

import random
import sys
from itertools import pairwise

import torch
from torch.nn.functional import cross_entropy

import seqfast.nn
from common import PAD, UNKNOWN, Vocabulary, arguments, padded, shuffled, tagged_sentences, train

WNUT, SNIPS = "github.com/leondz/emerging_entities_17", "github.com/sonos/nlu-benchmark"
SOURCE = f"folder with the files of WNUT 17 (https://{WNUT}) or SNIPS 2017-06 (https://{SNIPS})"
# Half of the syllables tell the kind of a name; the others are of any kind.
SYLLABLES = {"person": "ka mo ri ten bo", "place": "su ne gor lim pa", "team": "zu fi rox tab wen"}
FRAMES = ("{n} won again", "is {n} here ?", "we spoke about {n} and {n}", "yesterday {n} met {n}")


def made_up(count, rng):
    """Sentences in which names of one to three words are people, places or teams."""
    for _ in range(count):
        words, tags = [], []
        for word in rng.choice(FRAMES).split():
            kind, own = rng.choice(list(SYLLABLES.items()))
            syllables = " ".join([own] * 3 + list(SYLLABLES.values())).split()
            names = ["".join(rng.choices(syllables, k=2)) for _ in range(rng.randint(1, 3))]
            words += [n.capitalize() for n in names] if word == "{n}" else [word]
            tags += ["B-" + kind, *["I-" + kind] * (len(names) - 1)] if word == "{n}" else ["O"]
        yield words, tags


def load(folder, rng):
    if folder is None:
        return list(made_up(1500, rng)), list(made_up(300, rng))
    files = sorted(folder.iterdir())
    known = [p for p in files if "train" in p.name]
    test = [p for p in files if "validate" in p.name or p.suffix == ".annotated"]
    if not known or not test:
        sys.exit(f"tagging: --data must be a {SOURCE}; {folder} has no such files")
    return tuple([s for path in part for s in tagged_sentences(path)] for part in (known, test))


class Tagger(torch.nn.Module):
    def __init__(self, words, letters, tags, crf, hidden=100):
        super().__init__()
        self.words = torch.nn.Embedding(words, 100)
        self.letters = torch.nn.Embedding(letters, 25)
        self.spelling = seqfast.nn.LSTM(25, 25, bidirectional=True)
        self.rnn = seqfast.nn.LSTM(150, hidden, bidirectional=True)
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(2 * hidden, tags)
        self.crf = seqfast.nn.CRF(tags) if crf else None

    def forward(self, batch):  # -> scores [steps, batch, tags]
        ids, lengths = padded([words for words, _, _ in batch])
        letters, spelt = padded([word for _, words, _ in batch for word in words])
        _, (last, _) = self.spelling(self.letters(letters), lengths=spelt)
        parts = last.transpose(0, 1).flatten(1).split(lengths.tolist())
        x = torch.cat([self.words(ids), padded(parts)[0]], dim=2)
        output, _ = self.rnn(self.drop(x), lengths=lengths)
        return self.head(self.drop(output)), lengths

    def loss(self, batch):
        scores, lengths = self(batch)
        tags = padded([tags for _, _, tags in batch])[0]
        if self.crf is not None:
            return -self.crf(scores, tags, lengths).sum() / lengths.sum()
        within = torch.arange(len(tags))[:, None] < lengths
        return cross_entropy(scores[within], tags[within])

    def tag(self, batch):
        scores, lengths = self(batch)
        if self.crf is not None:
            return self.crf.decode(scores, lengths).lists()
        return [row[:n] for row, n in zip(scores.argmax(2).t().tolist(), lengths, strict=True)]


def main(argv=None):
    from seqeval.metrics import f1_score

    args = arguments(__doc__, argv, data=(None, SOURCE), epochs=8, lr=4e-3)
    known, test = load(args.data, random.Random(args.seed))
    words = Vocabulary((w.lower() for t, _ in known for w in t), (PAD, UNKNOWN))
    letters = Vocabulary((c for t, _ in known for w in t for c in w), (PAD, UNKNOWN))
    tags = Vocabulary((t for _, ts in known + test for t in ts), ("O",))

    def encode(sentence, labels):
        spelt = [letters.encode(word) for word in sentence]
        return words.encode(word.lower() for word in sentence), spelt, tags.encode(labels)

    print(f"{len(known)} sentences to learn, {len(test)} to test on, {len(tags)} tags")
    learn, judge = ([encode(*pair) for pair in part] for part in (known, test))
    found = {}
    for name in ("softmax", "CRF"):
        torch.manual_seed(args.seed)
        model = Tagger(len(words), len(letters), len(tags), name == "CRF")

        def batches():
            for batch in shuffled(learn, 32):  # some words become <unk>, so that it is learnt
                yield [(torch.where(torch.rand(len(w)) < 0.1, 1, w), c, t) for w, c, t in batch]

        train(model, batches, model.loss, epochs=args.epochs, lr=args.lr)
        with torch.no_grad():
            said = [tags.decode(row) for row in model.tag(judge)]
        found[name] = f1_score([t for _, t in test], said)
        pairs = (pair for row in said for pair in pairwise(["O", *row]))
        wrong = sum(tag[0] == "I" and tag[2:] != before[2:] for before, tag in pairs)
        print(
            f"{name:8} F1 of entities {found[name]:.3f}; {wrong} tags cannot follow the one before"
        )
    return found


if __name__ == "__main__":
    main()
