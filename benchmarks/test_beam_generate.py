"""BeamSearch around a small `transformers` decoder with its key-value cache, against `generate`.

Both run the same model for the same steps, so what it costs is the bound: the larger the model
beside its vocabulary, the nearer to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

from seqfast.decoding import BeamSearch, transformers_step

transformers = pytest.importorskip("transformers", reason="needs transformers 5")

BEAMS, EOS, PAD = 5, 2, 1
CASES = 3  # different inputs, in turn


class Case(NamedTuple):
    kind: str
    batch: int
    length: int  # of the source, or of the prompt
    new: int
    vocabulary: int
    size: int
    layers: int

    def tiny(self) -> Case:
        return self._replace(batch=2, length=4, new=3, vocabulary=50, size=8, layers=1)

    @property
    def name(self) -> str:
        return (
            f"{self.kind}, B{self.batch} K{BEAMS} V{self.vocabulary} d{self.size} x{self.layers}, "
            f"{self.length} + {self.new} tokens"
        )


GRID = [
    Case("encoder-decoder", 8, 24, 40, 32000, 128, 2),
    Case("encoder-decoder", 8, 24, 40, 32000, 256, 3),
    Case("encoder-decoder", 32, 24, 40, 10000, 256, 3),
    Case("decoder", 8, 16, 40, 32000, 128, 2),
    Case("decoder", 8, 128, 40, 32000, 256, 4),
    Case("decoder", 1, 32, 40, 50257, 256, 4),
]


def build(case: Case) -> Any:
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    tokens: dict[str, Any] = {
        "vocab_size": case.vocabulary, "bos_token_id": 0, "eos_token_id": EOS, "pad_token_id": PAD,
    }  # fmt: skip
    heads = max(1, case.size // 64)
    if case.kind == "decoder":
        config = transformers.GPT2Config(
            **tokens, n_embd=case.size, n_layer=case.layers, n_head=heads, n_positions=256,
            initializer_range=0.1,
        )  # fmt: skip
        return transformers.GPT2LMHeadModel(config).eval()
    sizes = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (
            ("layers", case.layers), ("attention_heads", heads), ("ffn_dim", 4 * case.size),
        )
    }  # fmt: skip
    config = transformers.MarianConfig(
        **tokens, **sizes, d_model=case.size, max_position_embeddings=128, init_std=0.1,
        decoder_start_token_id=0, forced_eos_token_id=None,
    )  # fmt: skip
    return transformers.MarianMTModel(config).eval()


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.name)
def test_generate(case: Case, compare: Callable[..., None], smoke: bool) -> None:
    case = case.tiny() if smoke else case
    model = build(case)
    shape = (CASES, case.batch, case.length)
    inputs = torch.randint(3, case.vocabulary, shape, generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(inputs[0])
    search = BeamSearch.like("hf", BEAMS, eos=EOS, max_length=case.new)

    def ours(index: int) -> Any:
        return search(**transformers_step(model, inputs[index % CASES], mask))

    def peer(index: int) -> Any:
        return model.generate(
            inputs[index % CASES], attention_mask=mask, num_beams=BEAMS, do_sample=False,
            max_new_tokens=case.new,
        )  # fmt: skip

    for index in range(CASES):
        theirs = peer(index)
        theirs = theirs[:, 1 if model.config.is_encoder_decoder else case.length :]
        found = ours(index)
        for row, tokens in zip(theirs.tolist(), found.tokens[:, 0].tolist(), strict=True):
            end = row.index(EOS) + 1 if EOS in row else len(row)
            assert tokens[:end] == row[:end]
    # The work depends on what is found, so there is no number of operations to speak of.
    row: dict[str, Any] = {"group": "generate", "case": case.name, "mode": "decoding"}
    row |= {"dtype": "float32", "goal": 1.3}
    compare(row, ours, peer)
