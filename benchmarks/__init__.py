"""Measures seqfast against its peers; results become docs/performance/<machine>.md."""
