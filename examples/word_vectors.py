"""Word vectors from Python's own documentation: three losses, neighbours, analogies.

Skip-gram (Mikolov et al. 2013) predicts which words occur near a word. The softmax over all words
is exact and slow; hierarchical softmax follows a tree, negative sampling uses a few wrong words.
"""

import re
import sys
import sysconfig
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np

import seqfast
from common import arguments, need, pyplot, read_text, save

SOURCE = "text file, a sentence a line; else the comments and docstrings of Python's library"
LOSSES = {
    "negative sampling": {"negative": 5, "hs": 0},
    "hierarchical softmax": {"negative": 0, "hs": 1},
    "softmax": {"negative": 0, "hs": 0},
}
GROUPS = {
    "numbers": "one two three four five six",
    "containers": "list tuple dict set array string bytes",
    "files": "file directory path folder socket stream",
    "verbs": "return read write open close call",
    "size": "minimum maximum min max largest smallest",
}
ANALOGIES = ("key keys value values", "min minimum max maximum", "file files argument arguments")


def corpus(path):
    """Sentences as lists of words."""
    if path is not None:
        return [line.lower().split() for line in read_text(path).splitlines()]
    found = []
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" not in file.parts and "test" not in file.parts:
            text = file.read_text(encoding="utf-8", errors="replace")
            for part in re.findall(r'"""(.*?)"""', text, re.DOTALL):
                for paragraph in re.split(r"\n\s*\n", part):
                    words = re.findall(r"[a-z]+", paragraph.lower())
                    if len(words) > 3:
                        found.append(words)
    return found


def main(argv=None):
    args = arguments(
        __doc__, argv, data=(None, SOURCE), size=64, min_count=10, epochs=5, probe="file"
    )
    sentences = corpus(args.data)
    words = sum(map(len, sentences))
    print(f"{words:,} words in {len(sentences):,} sentences")
    often = [w for w, n in Counter(chain(*sentences)).items() if n >= args.min_count]
    need(often, 2, f"words that occur {args.min_count} times")
    models, speeds = {}, {}
    for name, options in LOSSES.items():
        begin = time.perf_counter()
        epochs = max(1, args.epochs // 5) if name == "softmax" else args.epochs
        models[name] = seqfast.Word2Vec(
            sentences, vector_size=args.size, min_count=args.min_count, epochs=epochs,
            seed=args.seed, sample=1e-3, progress=False, **options,
        )  # fmt: skip
        speeds[name] = epochs * words / (time.perf_counter() - begin)
        if args.probe not in models[name].key_to_index:
            sys.exit(f"--probe {args.probe}: must occur {args.min_count} times in the text")
        near = ", ".join(word for word, _ in models[name].most_similar(args.probe, topn=5))
        print(f"{name:21} {speeds[name]:11,.0f} words/s   near {args.probe!r}: {near}")
    model = models["negative sampling"]
    near = ", ".join(word for word, _ in model.most_similar_euclidean(args.probe, topn=5))
    print(f"near {args.probe!r} by Euclidean distance: {near}")
    for text in ANALOGIES:
        a, b, c, wanted = text.split()
        if all(word in model.key_to_index for word in (a, b, c)):
            found = [w for w, _ in model.most_similar(positive=[b, c], negative=[a], topn=3)]
            print(f"{a} : {b} = {c} : {', '.join(found)}", f"(wanted {wanted})")

    from sklearn.manifold import TSNE

    drawn = {
        group: [word for word in text.split() if word in model.key_to_index]
        for group, text in GROUPS.items()
    }
    chosen = [word for group in drawn.values() for word in group]
    if len(chosen) < 6:
        return speeds, model
    rows = np.stack([model.vectors[model.key_to_index[word]] for word in chosen])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    tsne = TSNE(perplexity=min(8, len(chosen) / 3), random_state=args.seed, init="pca")
    places = dict(zip(chosen, tsne.fit_transform(rows), strict=True))
    figure, axes = pyplot().subplots(figsize=(8, 6), layout="constrained")
    for group, members in drawn.items():
        points = np.array([places[word] for word in members]).reshape(-1, 2)
        axes.scatter(*points.T, label=group)
        for word in members:
            axes.annotate(word, places[word], xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.margins(0.1)
    axes.legend()
    axes.set_title("Word vectors by t-SNE")
    save(figure, args, "word_vectors")
    return speeds, model


if __name__ == "__main__":
    main()
