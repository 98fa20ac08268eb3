"""GloVe: co-occurrences and the training on them."""

from seqfast.ops.glove.functions import Training, cooccurrences, schedule, strata, train

__all__ = ["Training", "cooccurrences", "schedule", "strata", "train"]
