"""Word vectors in files: a module for each format, and what they share in base."""

from seqfast.embeddings.files import open_by_suffix
from seqfast.embeddings.formats.base import Loaded
from seqfast.embeddings.formats.counts import load_counts, save_counts
from seqfast.embeddings.formats.decimals import number_lines
from seqfast.embeddings.formats.gensim import from_gensim, load_gensim, save_gensim, to_gensim
from seqfast.embeddings.formats.word2vec import load_word2vec_format, save_word2vec_format

__all__ = [
    "Loaded",
    "from_gensim",
    "load_counts",
    "load_gensim",
    "load_word2vec_format",
    "number_lines",
    "open_by_suffix",
    "save_counts",
    "save_gensim",
    "save_word2vec_format",
    "to_gensim",
]
