"""seqfast: fused kernels for sequence models, with a NumPy twin for each of them."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from seqfast import _C

if TYPE_CHECKING:
    from seqfast import decoding, embeddings, nn, onnx, ops, reference
    from seqfast.decoding import BeamSearch
    from seqfast.embeddings import GloVe, Word2Vec
    from seqfast.nn import accelerate, quantize, restore

__all__ = [
    "BeamSearch",
    "GloVe",
    "Word2Vec",
    "accelerate",
    "build_info",
    "decoding",
    "embeddings",
    "nn",
    "onnx",
    "ops",
    "quantize",
    "reference",
    "restore",
]

__version__: str = _C.build_info()["version"]


def build_info() -> dict[str, Any]:
    """How the native module was compiled and which instruction set it runs.

    The environment variable `SEQFAST_CPU_ISA` forces an instruction set.

    Returns:
        A dict with `version`, `compiler` and `openmp`; `cuda` ("on" or "off"), `cuda_architectures`
        (the GPUs that the kernels were compiled for) and `host_executor` (whether tests can run
        them on the CPU); `cpu_isas_built`, `cpu_isas_available` and `cpu_isa`, the one in use.

    Example:
        >>> import seqfast
        >>> info = seqfast.build_info()
        >>> info["cpu_isa"] in info["cpu_isas_available"]
        True
    """
    return _C.build_info()


# Subpackages load at first use: `import seqfast` must not import torch.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in ("decoding", "embeddings", "nn", "onnx", "ops", "reference"):
            return importlib.import_module(f"seqfast.{name}")
        if name in ("accelerate", "quantize", "restore"):
            return getattr(importlib.import_module("seqfast.nn"), name)
        if name == "BeamSearch":
            return importlib.import_module("seqfast.decoding").BeamSearch
        if name in ("GloVe", "Word2Vec"):
            return getattr(importlib.import_module("seqfast.embeddings"), name)
        raise AttributeError(f"module 'seqfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register_operators() -> None:
    """What torch.jit.load and torch.export.load need of a process that has torch already."""
    # Of a torch that is only just being imported there is no library yet.
    if hasattr(sys.modules.get("torch"), "library"):
        for operation in ("rnn", "dropout"):
            importlib.import_module(f"seqfast.ops.{operation}.torch")


_register_operators()
