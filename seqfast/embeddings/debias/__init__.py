"""Bias of word vectors along a direction: find, measure and remove it.

Bolukbasi, Chang, Zou, Saligrama & Kalai, Man is to computer programmer as woman is to homemaker?
Debiasing word embeddings. NIPS 2016. Caliskan, Bryson & Narayanan, Semantics derived automatically
from language corpora contain human-like biases. Science 2017.

`vectors` is anything that has words and vectors: `WordVectors`, a model, gensim's KeyedVectors, a
WEFE WordEmbeddingModel; or an array [V, size], of NumPy or torch on any device, with `words=`
naming its rows, or ids in place of words. What comes back is a new WordVectors, or an array of the
same library on the same device; nothing is changed in place. Word lists are arguments. Words that
are not there are all named in a KeyError; `missing="ignore"` leaves them out, and pairs with them.

These methods remove the bias along one direction. Gonen & Goldberg 2019 (Lipstick on a pig) show
that words that shared a bias stay neighbours.
"""

from seqfast.embeddings.debias.measures import (
    Analogy,
    Weat,
    analogies,
    direct_bias,
    indirect_bias,
    weat,
)
from seqfast.embeddings.debias.projection import direction, equalize, hard, neutralize, soft

__all__ = [
    "Analogy",
    "Weat",
    "analogies",
    "direct_bias",
    "direction",
    "equalize",
    "hard",
    "indirect_bias",
    "neutralize",
    "soft",
    "weat",
]
