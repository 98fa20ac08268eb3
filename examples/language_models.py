"""Three language models on the same words: an n-gram, a window (Bengio et al. 2003), an LSTM.

An n-gram model counts; smoothing gives a probability to the many n-grams that it has never seen.
The window model sees equally few words, but learns which are similar. The LSTM has no window.
"""

import math

import torch
from torch.nn.functional import cross_entropy

import common
import seqfast.nn
from common import END, UNKNOWN, Vocabulary, need, shuffled, train
from seqfast import decoding

SOURCE = "text file, a sentence a line, such as WikiText-2's wiki.train.tokens"


class Window(torch.nn.Module):
    """Bengio et al. 2003: the vectors of the last words, side by side, through one layer."""

    def __init__(self, words, size, width, hidden):
        super().__init__()
        self.width = width
        self.embedding = torch.nn.Embedding(words, size)
        self.hidden = torch.nn.Linear(width * size, hidden)
        self.drop = torch.nn.Dropout(0.3)
        self.head = torch.nn.Linear(hidden, words)

    def forward(self, ids):  # [steps, batch] -> logits of each next word [steps, batch, words]
        before = ids.new_full((self.width - 1, ids.shape[1]), 1)  # as if sentences had just ended
        x = self.embedding(torch.cat([before, ids])).unfold(0, self.width, 1)
        return self.head(self.drop(torch.tanh(self.hidden(x.flatten(2)))))


class Recurrent(torch.nn.Module):
    def __init__(self, words, size, hidden):
        super().__init__()
        self.embedding = torch.nn.Embedding(words, size)
        self.lstm = seqfast.nn.LSTM(size, hidden, input_dropout=0.3, weight_dropout=0.3)
        self.drop = torch.nn.Dropout(0.3)
        self.head = torch.nn.Linear(hidden, words)

    def forward(self, ids):
        return self.head(self.drop(self.lstm(self.embedding(ids))[0]))


def perplexity(model, rows):
    """Of rows [count, steps + 1]; each predicts its words from those before."""
    with torch.no_grad():
        losses = [
            cross_entropy(model(chunk.t()[:-1]).flatten(0, 1), chunk.t()[1:].flatten())
            for chunk in rows.split(50)
        ]
    return math.exp(sum(losses) / len(losses))


def ngram_perplexity(model, sentences):
    found = []
    for words in ([*sentence, END] for sentence in sentences):
        found += [model.logprob(word, words[:i]) for i, word in enumerate(words)]
    return math.exp(-sum(found) / len(found))


def main(argv=None):
    settings = {"words": 100_000, "min_count": 3, "epochs": 8, "hidden": 128, "steps": 35}
    args = common.arguments(__doc__, argv, data=(None, SOURCE), **settings)
    text = common.read_text(args.data) if args.data else common.documentation()
    words = [w for line in text.splitlines() if line.strip() for w in (*line.lower().split(), END)]
    words = words[: args.words]
    need(words, 10 * (args.steps + 2), "words")  # a tenth is one row
    cut, end = len(words) * 8 // 10, len(words) * 9 // 10  # to learn, to choose, to test
    vocabulary = Vocabulary(words[:cut], (UNKNOWN, END), args.min_count)
    words = vocabulary.decode(vocabulary.encode(words))  # rare ones are <unk> now
    print(
        f"{cut} words to learn, {len(words) - end} to test on, {len(vocabulary)} in the vocabulary"
    )

    def sentences(part):
        return [line.split() for line in " ".join(part).split(END) if line.strip()]

    found = {}
    known_pairs = set(zip(words[:cut], words[1:cut], words[2:cut], strict=False))
    asked = list(zip(words[end:], words[end + 1 :], words[end + 2 :], strict=False))
    unseen = sum(triple not in known_pairs for triple in asked) / len(asked)
    print(f"{unseen:.0%} of the trigrams to test on were never seen")
    for order in (1, 2, 3):
        model = decoding.NGram.train(sentences(words[:cut]), order=order)
        found[f"{order}-gram"] = ngram_perplexity(model, sentences(words[end:]))
        print(f"{order}-gram, Kneser-Ney: perplexity {found[f'{order}-gram']:7.1f}")

    ids = vocabulary.encode(words)
    parts = ids[:cut], ids[cut:end], ids[end:]
    learn, valid, judge = (part.unfold(0, args.steps + 1, args.steps) for part in parts)
    for name, net in {
        "window of 4": Window(len(vocabulary), 64, 4, args.hidden),
        "LSTM": Recurrent(len(vocabulary), 64, args.hidden),
    }.items():

        def loss_of(batch, net=net):
            chunk = torch.stack(batch, 1)
            return cross_entropy(net(chunk[:-1]).flatten(0, 1), chunk[1:].flatten())

        train(net, lambda: shuffled(learn, 8), loss_of, epochs=args.epochs, lr=3e-3,
              score=lambda net=net: -perplexity(net, valid))  # fmt: skip
        found[name] = perplexity(net, judge)
        print(f"{name:18}: perplexity {found[name]:7.1f}")
    return found


if __name__ == "__main__":
    main()
