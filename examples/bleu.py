"""BLEU by hand (Papineni et al. 2002): clipped counts of n-grams, and a penalty for brevity.

If BLEU only counted words that are in the reference, "the the the" would get the best score. So an
n-gram counts at most as often as a reference has it. The result equals sacrebleu's.
"""

import math
from collections import Counter

from common import arguments

REFERENCES = [["the cat is on the mat", "there is a cat on the mat"]]
CANDIDATES = ["the the the the the the the", "the cat the cat on the mat", "the cat sat on the mat"]


def ngrams(words, n):
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def precision(words, references, n, clip=True):
    """Matches and how many n-grams there are."""
    counts, most = ngrams(words, n), Counter()
    for reference in references:
        most |= ngrams(reference, n)  # the largest count in any of them
    matched = sum(min(c, most[g]) if clip else c * (g in most) for g, c in counts.items())
    return matched, sum(counts.values())


def bleu(candidates, references, longest=4):
    """Of a corpus: lists of words, and for each a list of references; from 0 to 100."""
    matched, total = [0] * longest, [0] * longest
    length = wanted = 0
    for words, refs in zip(candidates, references, strict=True):
        length += len(words)
        # The reference whose length is nearest; the shorter of two.
        wanted += min((abs(len(r) - len(words)), len(r)) for r in refs)[1]
        for n in range(longest):
            m, t = precision(words, refs, n + 1)
            matched[n] += m
            total[n] += t
    if min(matched) == 0:
        return 0.0
    log_mean = sum(math.log(m / t) for m, t in zip(matched, total, strict=True)) / longest
    brevity = min(0.0, 1 - wanted / length)
    return 100 * math.exp(log_mean + brevity)


def main(argv=None):
    arguments(__doc__, argv)
    references = [[r.split() for r in REFERENCES[0]]]
    print("references:", *REFERENCES[0], sep="\n  ")
    for text in CANDIDATES:
        words = text.split()
        plain, total = precision(words, references[0], 1, clip=False)
        clipped = [precision(words, references[0], n) for n in (1, 2)]
        print(f"\n{text}\n  words in a reference {plain}/{total}; clipped", end=" ")
        print(*(f"{m}/{t}" for m, t in clipped), sep=", of pairs ")

    corpus = [text.split() for text in CANDIDATES[1:]] + [
        "he reads a long book in the park".split()
    ]
    answers = [*references * 2, ["he reads a long book in the old park".split()]]
    ours = bleu(corpus, answers)
    print(f"\nBLEU of the last two and a longer sentence, by hand: {ours:.4f}")
    try:
        import sacrebleu
    except ImportError:
        print("sacrebleu is not installed: pip install 'seqfast[decoding]' to compare")
        return ours, None
    streams = [[" ".join(a[min(i, len(a) - 1)]) for a in answers] for i in range(2)]
    options = {"tokenize": "none", "smooth_method": "none"}
    theirs = sacrebleu.corpus_bleu([" ".join(c) for c in corpus], streams, **options).score
    print(f"BLEU of the same by sacrebleu:                       {theirs:.4f}")
    return ours, theirs


if __name__ == "__main__":
    main()
