"""Our own files: the layout of safetensors, in blocks, and only of the kind that is asked for."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from seqfast.embeddings.formats import safetensors
from seqfast.embeddings.formats.safetensors import FileKind

KIND = FileKind("seqfast.test", 1, "a test")


def test_its_layout_is_that_of_safetensors(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([7], np.int64)}
    safetensors.write(tmp_path / "file", KIND, arrays, {"x": 1})
    data = (tmp_path / "file").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    assert header["a"] == {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    assert header["b"] == {"dtype": "I64", "shape": [1], "data_offsets": [24, 32]}
    assert json.loads(header["__metadata__"]["state"]) == {"x": 1}
    assert data[8 + length :] == arrays["a"].tobytes() + arrays["b"].tobytes()


def test_large_tensors_go_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors, "_BLOCK_BYTES", 50)
    padded = np.arange(64, dtype=np.float32).reshape(8, 8)
    safetensors.write(tmp_path / "file", KIND, {"a": padded[:, :5]}, {})
    stored = safetensors.read(tmp_path / "file", KIND)
    np.testing.assert_array_equal(stored.array("a"), padded[:, :5])
    room = np.zeros((8, 16), np.float32)
    stored.fill("a", room[:, :5])
    np.testing.assert_array_equal(room[:, :5], padded[:, :5])
    assert not room[:, 5:].any()
    with pytest.raises(ValueError, match=r"a of .* must be \[3, 5\], got \[8, 5\]"):
        stored.fill("a", room[:3, :5])
    with pytest.raises(TypeError, match="a must be float32, int64 or uint8, got float64"):
        safetensors.write(tmp_path / "file", KIND, {"a": np.zeros(3)}, {})


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    safetensors.write(tmp_path / "file", KIND, {"a": np.zeros(3, np.float32)}, {})
    with pytest.raises(ValueError, match="file must be a file of another, and whole: its header"):
        safetensors.read(tmp_path / "file", FileKind("seqfast.other", 1, "another"))
    safetensors.write(tmp_path / "file", FileKind("seqfast.test", 2, "a test"), {}, {})
    with pytest.raises(ValueError, match="must be of version 1 or older, got 2"):
        safetensors.read(tmp_path / "file", KIND)
