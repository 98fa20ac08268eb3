"""ONNX: models with seqfast's layers to files for other runtimes, and recurrent nodes of files to
seqfast's layers."""

from __future__ import annotations

try:
    from seqfast.onnx._export import export
    from seqfast.onnx._reading import load_rnn
    from seqfast.onnx._reverse import ReverseLayer
    from seqfast.onnx._translations import ExportError, translations
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("seqfast"):
        raise
    raise ImportError(f"seqfast.onnx needs {error.name}: pip install seqfast[onnx]") from error

__all__ = ["ExportError", "ReverseLayer", "export", "load_rnn", "translations"]
