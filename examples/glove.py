"""GloVe: word vectors from counts. Which words stand near each other, and how often?

Pennington, Socher and Manning (2014): the ratio of two co-occurrence probabilities says what two
words have in common. Vectors e and θ of a word, as itself and as a context, are fitted so that
e_i · θ_j + b_i + c_j is the logarithm of the count X_ij; the vector of a word is (e + θ) / 2.
"""

from collections import Counter
from itertools import chain

import numpy as np

import seqfast
from common import arguments, documentation, need, pyplot, read_text, save
from seqfast.embeddings import WordVectors

SOURCE = "text file, a sentence a line; else the documentation of the language"


def sentences_of(text):
    words = ["".join(c if c.isalpha() else " " for c in p).split() for p in text.split("\n\n")]
    return [[word.lower() for word in sentence] for sentence in words if len(sentence) > 3]


def biases_alone(rows, columns, logs, weights, words):
    """The best b_i + c_j without vectors, by turns; their errors."""
    b, c = np.zeros(words), np.zeros(words)
    for _ in range(20):
        for mine, ids, other in ((b, rows, c[columns]), (c, columns, None)):
            other = b[rows] if other is None else other
            total = np.bincount(ids, weights, words)
            mine[:] = np.bincount(ids, weights * (logs - other), words) / np.maximum(total, 1e-9)
    return logs - b[rows] - c[columns]


def main(argv=None):
    settings = {"size": 50, "window": 8, "min_count": 8, "epochs": 25, "x_max": 10.0}
    args = arguments(__doc__, argv, data=(None, SOURCE), pair="list dict", **settings)
    sentences = sentences_of(read_text(args.data) if args.data else documentation())
    often = [w for w, n in Counter(chain(*sentences)).items() if n >= args.min_count]
    need(often, 2, f"words that occur {args.min_count} times")
    pair = [word for word in args.pair.split() if word in often]
    need(pair, 2, "words of --pair that occur so often")
    model = seqfast.GloVe(
        sentences, vector_size=args.size, window=args.window, min_count=args.min_count,
        epochs=args.epochs, x_max=args.x_max, alpha=0.75, seed=args.seed, progress=False,
    )  # fmt: skip
    counts = model.cooccurrences
    rows = np.repeat(np.arange(len(counts)), np.diff(counts.offsets))
    columns, values = counts.columns, counts.values
    print(f"{len(counts):,} words, {len(values):,} pairs that occur, of {len(counts) ** 2:,}")

    # Ratios: far above 1, the context goes with the first word; far below, with the second.
    one, other = pair[:2]
    totals = np.bincount(rows, values)
    near = {}
    for word in (one, other):
        row = model.key_to_index[word]
        at = rows == row
        near[word] = dict(zip(columns[at], values[at] / totals[row], strict=True))
    often = {i for i in near[one] if near[one][i] + near[other].get(i, 0) > 0.004}
    both = [i for i in often if i in near[other]]
    ratios = sorted((near[one][i] / near[other][i], model.index_to_key[i]) for i in both)
    middle = min(range(len(ratios)), key=lambda k: abs(np.log(ratios[k][0])))
    print(f"P(k | {one}) / P(k | {other}) of some k:")
    for ratio, word in [*ratios[:3], ratios[middle], *ratios[-3:]]:
        print(f"    {word:14} {ratio:7.2f}")

    # What do vectors explain beyond how frequent the words are?
    logs, weights = np.log(values), np.minimum(1, (values / args.x_max) ** 0.75)
    e, theta = model.word_vectors, model.context_vectors
    said = (e[rows] * theta[columns]).sum(1) + model.word_biases[rows]
    said += model.context_biases[columns]

    def unexplained(errors):
        mean = np.average(logs, weights=weights)
        return np.average(errors**2, weights=weights) / np.average(
            (logs - mean) ** 2, weights=weights
        )

    found = {
        "biases alone": unexplained(biases_alone(rows, columns, logs, weights, len(counts))),
        f"{args.size} numbers a word": unexplained(logs - said),
    }
    for name, share in found.items():
        print(f"{name:20} {1 - share:6.1%} of the variance of log X explained")
    for combine, vectors in (("(e + θ) / 2", (e + theta) / 2), ("e", e)):
        words = WordVectors(model.index_to_key, np.ascontiguousarray(vectors))
        answers = ", ".join(word for word, _ in words.most_similar(one, topn=5))
        print(f"near {one!r} by {combine}: {answers}")

    figure, axes = pyplot().subplots(figsize=(6, 5), layout="constrained")
    shown = axes.hexbin(logs, said, gridsize=50, bins="log", cmap="viridis", mincnt=1)
    ends = [logs.min(), logs.max()]
    axes.plot(ends, ends, color="C3", linewidth=1, label="equal")
    axes.legend()
    axes.set(xlabel="log X of a pair of words", ylabel="e · θ + b + c")
    axes.set_title("What GloVe has fitted")
    figure.colorbar(shown, label="pairs")
    save(figure, args, "glove")
    return found


if __name__ == "__main__":
    main()
