"""Small models whose next token depends on all tokens before it, and every sequence they allow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

_CODES = 101


class HashModel:
    """Logits drawn from a table by a hash of all tokens so far, start token included.

    `step` and `torch_step` are the same numbers; `calls` are the rows of each call.
    """

    def __init__(
        self, vocabulary: int, seed: int = 0, dtype: Any = np.float32, scale: float = 2.0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.vocabulary = vocabulary
        self.table = (rng.standard_normal((_CODES, vocabulary)) * scale).astype(dtype)
        self.tensor = torch.from_numpy(self.table)
        self.calls: list[int] = []

    def state(self, batch: int) -> dict[str, Any]:
        return {"code": np.zeros(batch, np.int64)}

    def torch_state(self, batch: int) -> dict[str, Any]:
        return {"code": torch.zeros(batch, dtype=torch.int64)}

    def step(self, ids: Any, state: dict[str, Any], t: Any) -> tuple[Any, dict[str, Any]]:
        self.calls.append(len(ids))
        code = self.code(state["code"], ids)
        return self.table[code], {"code": code}

    def torch_step(self, ids: Any, state: dict[str, Any], t: Any) -> tuple[Any, dict[str, Any]]:
        self.calls.append(len(ids))
        code = self.code(state["code"], ids)
        return self.tensor[code], {"code": code}

    @staticmethod
    def code(code: Any, ids: Any) -> Any:
        return (code * 31 + ids * 7 + 3) % _CODES

    def log_softmax(self, tokens: tuple[int, ...], start: int) -> Any:
        """float64 [vocabulary], of the token after those."""
        code = 0
        for token in (start, *tokens):
            code = int(self.code(code, token))
        x = self.table[code].astype(np.float64)
        return x - (x.max() + np.log(np.exp(x - x.max()).sum()))

    def logprob(self, tokens: tuple[int, ...], start: int) -> float:
        parts = (self.log_softmax(tokens[:n], start)[t] for n, t in enumerate(tokens))
        return float(sum(parts))

    def sequences(self, eos: tuple[int, ...], length: int) -> Iterator[tuple[int, ...]]:
        """All that end in EOS, or are cut at that length."""
        others = [t for t in range(self.vocabulary) if t not in eos]
        for n in range(length):
            for body in itertools.product(others, repeat=n):
                for end in eos:
                    yield (*body, end)
        yield from itertools.product(others, repeat=length)


def hypotheses(out: Any, sentence: int) -> list[tuple[int, ...]]:
    """The tokens of a sentence's hypotheses, without padding."""
    return [
        tuple(row[:n].tolist())
        for row, n in zip(out.tokens[sentence], out.lengths[sentence].tolist(), strict=True)
    ]
