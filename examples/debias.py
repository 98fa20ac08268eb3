"""Stereotypes in word vectors: the direction of a bias, measured, and removed.

The sentences are made here: in them nurses are mostly "she" and engineers mostly "he", as in the
texts of the world. Bolukbasi et al. (2016) find the direction from "he" to "she", take it out of
words that should be neutral, and make pairs such as "queen" and "king" equally far from these.
WEAT (Caliskan et al. 2017) measures what is left. Gonen and Goldberg (2019): not all of it is gone.
"""

import random

import numpy as np

import seqfast
from common import arguments, need, pyplot, save
from seqfast.embeddings import WordVectors, debias

PAIRS = [("she", "he"), ("woman", "man"), ("mother", "father"), ("her", "his"), ("girl", "boy")]
EQUAL = [("queen", "king"), ("sister", "brother"), *PAIRS]
# Share of sentences in which the word stands with words of women.
WORK = {
    "nurse": 0.9, "receptionist": 0.9, "librarian": 0.8, "teacher": 0.75, "dancer": 0.8,
    "engineer": 0.1, "pilot": 0.1, "boss": 0.2, "programmer": 0.15, "carpenter": 0.1,
}  # fmt: skip
HERS, HIS = [w for w, p in WORK.items() if p > 0.5], [w for w, p in WORK.items() if p < 0.5]
FRAMES = (
    "{she} is a {work} and {her} day is long", "the {work} said that {she} likes {her} job",
    "{her} {mother} was a {work} too", "a {woman} who works as a {work} met {her} {sister}",
    "the {queen} thanked {her} {work}", "as a {girl} {she} wanted to become a {work}",
)  # fmt: skip
OTHERS = (
    "the {work} bought a {thing} at the market", "a {thing} and a {thing2} are on the table",
    "every {work} needs a good {thing}", "the {queen} and {her} {sister} rule the land",
    "{she} has a {thing} from {her} {mother}",
)  # fmt: skip
THINGS = "hammer book phone chair lamp bicycle violin kettle pencil window".split()


def made_up(count, rng):
    """Tokenised sentences; the gender of each is drawn by the work in it."""
    named = {pair[0]: pair for pair in [*PAIRS, *EQUAL]}
    found = []
    for _ in range(count):
        work, frame = rng.choice([*WORK]), rng.choice(FRAMES + OTHERS)
        woman = rng.random() < (WORK[work] if "{work}" in frame else 0.5)
        words = {name: pair[0 if woman else 1] for name, pair in named.items()}
        thing, other = rng.sample(THINGS, 2)
        found.append(frame.format(work=work, thing=thing, thing2=other, **words).split())
    return found


def measure(vectors, g):
    """Direct bias, effect size of WEAT and its p, and the worst unequal distance of a pair."""
    women, men = ([pair[k] for pair in EQUAL] for k in (0, 1))
    test = debias.weat(vectors, HERS, HIS, women, men)
    rows = {w: vectors[w] / np.linalg.norm(vectors[w]) for w in [*WORK, *women, *men]}
    unequal = max(abs(rows[w] @ (rows[a] - rows[b])) for w in WORK for a, b in EQUAL)
    return debias.direct_bias(vectors, g, [*WORK]), test.effect_size, test.p_value, unequal


def main(argv=None):
    args = arguments(__doc__, argv, sentences=20_000, size=16, epochs=20)
    text = made_up(args.sentences, random.Random(args.seed))
    need(text, 500, "sentences")
    need(range(args.size), 2, "numbers a word")
    model = seqfast.GloVe(
        text, vector_size=args.size, window=8, min_count=1, epochs=args.epochs, seed=args.seed,
        progress=False,
    )  # fmt: skip
    g = debias.direction(model, PAIRS)
    specific = {word for pair in EQUAL for word in pair}
    fair = debias.neutralize(model, g, [w for w in model.index_to_key if w not in specific])
    fair = debias.equalize(fair, g, EQUAL)
    before = WordVectors(model.index_to_key, model.vectors)
    after = WordVectors(model.index_to_key, fair.vectors)

    print(f"{'cosine with she - he':20} before   after")
    cosines = {}
    for word in [*WORK, "hammer", "violin"]:
        cosines[word] = [
            float(v[word] @ g / np.linalg.norm(v[word]) / np.linalg.norm(g))
            for v in (before, after)
        ]
        print(f"{word:20} {cosines[word][0]:6.2f}  {cosines[word][1]:6.2f}")
    found = [measure(vectors, g) for vectors in (before, after)]
    names = "direct bias", "WEAT effect size", "WEAT p-value", "unequal distances"
    for name, one, other in zip(names, *found, strict=True):
        print(f"{name:20} {one:6.2f}  {other:6.2f}")
    for name, vectors in (("before", before), ("after", after)):
        closest = [word for word, _ in vectors.most_similar("nurse", topn=20) if word in WORK][:4]
        print(f"nearest to 'nurse' among the professions, {name}: {', '.join(closest)}")

    figure, axes = pyplot().subplots(figsize=(8, 4), layout="constrained")
    axes.barh([*cosines], [before for before, _ in cosines.values()], 0.6, label="before")
    axes.plot([after for _, after in cosines.values()], [*cosines], "o", color="C1", label="after")
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(xlabel='cosine with the direction from "he" to "she"', title="Bias of professions")
    axes.legend()
    save(figure, args, "debias")
    return found


if __name__ == "__main__":
    main()
