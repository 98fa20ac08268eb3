"""Queries of word vectors: neighbours, analogies, and evaluation against people's judgements.

`most_similar` and `analogy` work on arrays, for any number of queries at once; `evaluate_pairs` and
`evaluate_analogies` read the usual test sets and score as gensim does; `Queries` gives all of them
to a class that has words and vectors, such as `WordVectors`.
"""

from seqfast.embeddings.vectors.evaluation import PairScores, evaluate_analogies, evaluate_pairs
from seqfast.embeddings.vectors.queries import Queries
from seqfast.embeddings.vectors.search import analogy, most_similar, normalise
from seqfast.embeddings.vectors.storage import WordVectors

__all__ = [
    "PairScores",
    "Queries",
    "WordVectors",
    "analogy",
    "evaluate_analogies",
    "evaluate_pairs",
    "most_similar",
    "normalise",
]
