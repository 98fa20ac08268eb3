"""Finding names in text: a bidirectional LSTM over words and letters, with and without a CRF.

The CRF (Lample et al. 2016) learns that I-person cannot follow O. Scores are F1 of whole entities,
by seqeval. Without --data the sentences are generated, with new names in the test.
"""

import random
import sys

import torch
from torch.nn.functional import cross_entropy

import seqfast.nn
from common import PAD, UNKNOWN, Vocabulary, arguments, padded, shuffled, tagged_sentences, train

WNUT, SNIPS = "github.com/leondz/emerging_entities_17", "github.com/sonos/nlu-benchmark"
SOURCE = f"folder with the files of WNUT 17 (https://{WNUT}) or SNIPS 2017-06 (https://{SNIPS})"
FRAMES = (
    "{p} flew from {l} to {m} on Friday", "yesterday {p} met {q} in {l}", "is {l} near {m} ?",
    "The mayor of {l} , {p} , spoke", "Nothing happened today", "I saw {p} at the zoo in {m}",
)  # fmt: skip


def made_up(count, rng, syllables):
    """Sentences with people (one or two words) and places; their names are drawn from syllables."""
    found = []
    for _ in range(count):
        words, tags = [], []
        for word in rng.choice(FRAMES).split():
            kind = {"{p}": "person", "{q}": "person", "{l}": "place", "{m}": "place"}.get(word)
            length = 1 if kind != "person" else rng.choice([1, 2])
            names = ["".join(rng.choices(syllables, k=3)).capitalize() for _ in range(length)]
            words += names if kind else [word]
            tags += ["B-" + kind, "I-" + kind][:length] if kind else ["O"]
        found.append((words, tags))
    return found


def load(folder, rng):
    """Sentences to learn from and to test on."""
    if folder is None:
        one, other = "ka mo ri ten bo la su ne".split(), "ko mi ra ton ba le sa nu".split()
        return made_up(1500, rng, one), made_up(300, rng, other)
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
        print(f"{name:8} F1 of entities {found[name]:.3f}")
    return found


if __name__ == "__main__":
    main()
