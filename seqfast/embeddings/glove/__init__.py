"""GloVe: co-occurrences of words counted, and vectors trained on them."""

from seqfast.embeddings.base.model import Interrupted
from seqfast.embeddings.glove.cooccurrences import Cooccurrences
from seqfast.embeddings.glove.model import GloVe

__all__ = ["Cooccurrences", "GloVe", "Interrupted"]
