"""KenLM's binary files, through the `kenlm` package, which numbers neither words nor states."""

from __future__ import annotations

import importlib
import math
import os
from typing import Any

MAGIC = b"mmap lm http://kheafield.com/code format version"
LN10 = math.log(10)
NEVER = -99.0  # what ARPA files write for log10(0)


def is_binary(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


class Words(dict[str, int]):
    """Numbers of the words that it has been asked for and the model knows, from 0: `<unk>`."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__({name: id for id, name in enumerate(names)})
        self._model, self._names = model, names

    def get(self, word: str, default: Any = None) -> Any:
        if word not in self:
            if not isinstance(word, str) or word not in self._model:
                return default
            self[word] = len(self._names)
            self._names.append(word)
        return self[word]


class Model:
    """A model whose states have numbers: 0 is the one that remembers nothing.

    Args:
        path: a binary file.

    Raises:
        ValueError: where `kenlm` is not installed, or cannot read the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            kenlm = importlib.import_module("kenlm")
        except ImportError:
            raise ValueError(
                f"NGram.load: {path} is a binary of KenLM; pip install kenlm, or give the ARPA "
                "file that it was built from"
            ) from None
        try:
            self.model = kenlm.Model(os.fspath(path))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"NGram.load: kenlm cannot read {path}: {error}") from error
        self._new_state = kenlm.State
        nothing = kenlm.State()
        self.model.NullContextWrite(nothing)
        self._states, self._numbers = [nothing], {nothing: 0}

    def __len__(self) -> int:
        """How many states have been met."""
        return len(self._states)

    def after_begin(self) -> int:
        """The state after `<s>`."""
        state = self._new_state()
        self.model.BeginSentenceWrite(state)
        return self._number(state)

    def step(self, state: int, word: str) -> tuple[int, float]:
        """The state after one word more, and the natural logarithm of its probability."""
        after = self._new_state()
        score = self.model.BaseScore(self._states[state], word, after)
        return self._number(after), (score * LN10 if score > NEVER else -math.inf)

    def _number(self, state: Any) -> int:
        number: int = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
        return number
