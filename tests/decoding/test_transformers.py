"""Models of `transformers`, made here: the same tokens as their own `generate`."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from seqfast.decoding import BeamSearch, greedy, sample, transformers_step

transformers = pytest.importorskip("transformers", reason="needs transformers 5")
if int(transformers.__version__.split(".")[0]) < 5:
    pytest.skip("needs transformers 5", allow_module_level=True)

VOCABULARY, EOS, PAD, NEW = 23, 2, 1, 10
LIKES_TO_END = 3.0


def _made(kind: str) -> Any:
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    tokens: dict[str, Any] = {
        "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": EOS, "pad_token_id": PAD,
    }  # fmt: skip
    if kind in ("bart", "marian"):
        sizes = {
            f"{side}_{name}": value
            for side in ("encoder", "decoder")
            for name, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
        }
        both: dict[str, Any] = {
            **tokens, **sizes, "d_model": 16, "max_position_embeddings": 64, "init_std": 0.3,
            "decoder_start_token_id": EOS, "forced_eos_token_id": None,
        }  # fmt: skip
        if kind == "bart":
            model = transformers.BartForConditionalGeneration(transformers.BartConfig(**both))
        else:
            model = transformers.MarianMTModel(transformers.MarianConfig(**both))
        model.final_logits_bias[0, EOS] += LIKES_TO_END
        return model.eval()
    if kind == "gpt2":
        config = transformers.GPT2Config(
            **tokens, n_embd=16, n_layer=1, n_head=2, n_positions=64, initializer_range=0.6
        )
        return transformers.GPT2LMHeadModel(config).eval()
    config = transformers.LlamaConfig(
        **tokens, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, initializer_range=0.6,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


MODELS = ("bart", "marian", "gpt2", "llama")


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """Each with its input, padded where the model pads, and the mask."""
    found = {}
    for kind in MODELS:
        model = _made(kind)
        ids = torch.randint(3, VOCABULARY, (3, 6), generator=torch.Generator().manual_seed(1))
        mask = torch.ones_like(ids)
        if model.config.is_encoder_decoder:
            mask[0, 4:], mask[1, 3:] = 0, 0
        else:
            mask[0, :2], mask[1, :3] = 0, 0
        found[kind] = (model, ids.masked_fill(mask == 0, PAD), mask)
    return found


def generated(model: Any, ids: Any, mask: Any, **options: Any) -> list[list[list[int]]]:
    """New tokens by sentence and hypothesis, without padding behind their end."""
    out = model.generate(ids, attention_mask=mask, do_sample=False, **options)
    begin = options.get("decoder_input_ids", ids[:, :1]).shape[1]
    new = out[:, begin:] if model.config.is_encoder_decoder else out[:, ids.shape[1] :]
    rows = []
    for row in new.tolist():
        rows.append(row[: row.index(EOS) + 1] if EOS in row else row)
    each = len(rows) // len(ids)
    return [rows[i : i + each] for i in range(0, len(rows), each)]


def searched(out: Any) -> list[list[list[int]]]:
    return [
        [row[:n] for row, n in zip(rows, counts, strict=True)]
        for rows, counts in zip(out.tokens.tolist(), out.lengths.tolist(), strict=True)
    ]


GRID = [
    (kind, beams, alpha, early_stopping)
    for kind in ("bart", "gpt2")
    for beams in (2, 5)
    for alpha in (0.0, 0.6, 1.0, 2.0)
    for early_stopping in (True, False, "never")
] + [(kind, 5, 0.6, False) for kind in ("marian", "llama")]


@pytest.mark.parametrize(("kind", "beams", "alpha", "early_stopping"), GRID)
def test_the_same_tokens(
    made: dict[str, Any], kind: str, beams: int, alpha: float, early_stopping: bool | str
) -> None:
    model, ids, mask = made[kind]
    wanted = generated(
        model, ids, mask, num_beams=beams, length_penalty=alpha, early_stopping=early_stopping,
        num_return_sequences=beams, max_new_tokens=NEW,
    )  # fmt: skip
    search = BeamSearch.like(
        "hf", beams, eos=EOS, alpha=alpha, early_stopping=early_stopping, max_length=NEW,
        n_best=beams,
    )  # fmt: skip
    found = searched(search(**transformers_step(model, ids, mask)))
    assert found == wanted
    if kind in ("bart", "gpt2") and beams == 5 and alpha <= 1:
        # Some end, and not all at once.
        assert len({len(tokens) for rows in found for tokens in rows}) > 1


@pytest.mark.parametrize("kind", MODELS)
def test_one_beam_is_greedy(made: dict[str, Any], kind: str) -> None:
    model, ids, mask = made[kind]
    wanted = generated(model, ids, mask, num_beams=1, max_new_tokens=NEW)
    search = BeamSearch.like("hf", 1, eos=EOS, max_length=NEW)
    assert searched(search(**transformers_step(model, ids, mask))) == wanted


@pytest.mark.parametrize(
    "theirs",
    [
        {"repetition_penalty": 1.4},
        {"no_repeat_ngram_size": 2},
        {"min_new_tokens": 5},
        {"repetition_penalty": 0.8, "no_repeat_ngram_size": 3, "min_new_tokens": 4},
        {"bad_words_ids": [[7], [9]]},
    ],
    ids=lambda theirs: "-".join(theirs),
)
@pytest.mark.parametrize("kind", ["bart", "llama"])
def test_the_same_tokens_with_penalties(
    made: dict[str, Any], kind: str, theirs: dict[str, Any]
) -> None:
    model, ids, mask = made[kind]
    ours = {
        "repetition_penalty": theirs.get("repetition_penalty", 1.0),
        "no_repeat_ngram": theirs.get("no_repeat_ngram_size", 0),
        "min_length": theirs.get("min_new_tokens", 0),
        "banned": [t for word in theirs.get("bad_words_ids", []) for t in word],
    }
    wanted = generated(
        model, ids, mask, num_beams=4, max_new_tokens=NEW, num_return_sequences=2, **theirs
    )
    search = BeamSearch.like("hf", 4, eos=EOS, max_length=NEW, n_best=2, **ours)
    assert searched(search(**transformers_step(model, ids, mask))) == wanted


@pytest.mark.parametrize("kind", ["bart", "marian"])
def test_decoder_prompts(made: dict[str, Any], kind: str) -> None:
    model, ids, mask = made[kind]
    prompt = torch.tensor([[EOS, 5, 6], [EOS, 7, 8], [EOS, 5, 9]])
    options: dict[str, Any] = {"max_new_tokens": NEW, "num_beams": 3, "repetition_penalty": 1.3}
    wanted = generated(model, ids, mask, decoder_input_ids=prompt, **options)
    search = BeamSearch.like("hf", 3, eos=EOS, max_length=NEW, repetition_penalty=1.3)
    arguments = transformers_step(model, ids, mask, decoder_input_ids=prompt)
    assert searched(search(**arguments)) == wanted
    outputs = model.get_encoder()(input_ids=ids, attention_mask=mask)
    arguments = transformers_step(
        model, attention_mask=mask, decoder_input_ids=prompt, encoder_outputs=outputs
    )
    assert searched(search(**arguments)) == wanted


@pytest.mark.parametrize("kind", MODELS)
def test_greedy_and_sampling_take_it_too(made: dict[str, Any], kind: str) -> None:
    model, ids, mask = made[kind]
    arguments = transformers_step(model, ids, mask)
    wanted = generated(model, ids, mask, max_new_tokens=NEW)
    assert searched(greedy(**arguments, eos=EOS, max_length=NEW)) == wanted
    drawn = sample(**arguments, n=3, eos=EOS, max_length=NEW, seed=4)
    again = sample(**arguments, n=3, eos=EOS, max_length=NEW, seed=4)
    assert torch.equal(drawn.tokens, again.tokens)
    # What is drawn has the probability that the model gives it.
    tokens = drawn.tokens[:, 0, : int(drawn.lengths[:, 0].min())]
    if not model.config.is_encoder_decoder:
        whole, seen = torch.cat((ids, tokens), 1), torch.cat((mask, torch.ones_like(tokens)), 1)
        position = (seen.cumsum(1) - 1).clamp(min=0)
        with torch.no_grad():
            logits = model(input_ids=whole, attention_mask=seen, position_ids=position).logits
        logits = logits[:, ids.shape[1] - 1 : -1]
        logprobs = logits.log_softmax(-1).gather(2, tokens[..., None])[..., 0]
        got = drawn.token_logprobs[:, 0, : tokens.shape[1]]
        torch.testing.assert_close(got, logprobs, rtol=1e-3, atol=1e-3)


def test_no_padding_needs_no_mask(made: dict[str, Any]) -> None:
    model, ids, _ = made["gpt2"]
    ids = ids.masked_fill(ids == PAD, 5)
    search = BeamSearch.like("hf", 3, eos=EOS, max_length=NEW)
    bare = transformers_step(model, ids)
    full = transformers_step(model, ids, torch.ones_like(ids))
    assert bare["state"].arguments["attention_mask"] is None
    assert full["state"].arguments["attention_mask"] is None
    assert torch.equal(search(**bare).tokens, search(**full).tokens)


def test_wrong_arguments(made: dict[str, Any]) -> None:
    model, ids, mask = made["gpt2"]
    with pytest.raises(TypeError, match="model must be a transformers model, got int"):
        transformers_step(3, ids)
    with pytest.raises(TypeError, match="input_ids must be a torch tensor, got ndarray"):
        transformers_step(model, np.zeros((2, 3), np.int64))
    with pytest.raises(TypeError, match=r"input_ids must be int64, got torch\.float32"):
        transformers_step(model, ids.float())
    with pytest.raises(ValueError, match=r"input_ids must be \[batch, at least 1\], got \[3\]"):
        transformers_step(model, ids[:, 0])
    with pytest.raises(ValueError, match=r"attention_mask must be \[3, 6\], got \[3, 5\]"):
        transformers_step(model, ids, mask[:, 1:])
    with pytest.raises(TypeError, match="decoder_input_ids is for models with an encoder"):
        transformers_step(model, ids, decoder_input_ids=ids)


@pytest.mark.parametrize("room", [1, 3, 64])
def test_a_growing_cache_holds_what_a_dynamic_one_does(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Whatever is appended, and whichever rows change places or leave."""
    from seqfast.decoding import _kv_cache

    monkeypatch.setattr(_kv_cache, "_ROOM", room)
    generator = torch.Generator().manual_seed(room)
    plain = transformers.DynamicCache()

    def draw(rows: int, length: int) -> tuple[Any, Any]:
        keys = torch.randn(rows, 2, length, 3, generator=generator)
        return keys, torch.randn(rows, 2, length, 4, generator=generator)

    def integers(high: int, *size: int) -> Any:
        return torch.randint(high, size, generator=generator)

    for layer in range(2):
        plain.update(*draw(3, 5), layer)
    ours = _kv_cache.growing(copy.deepcopy(plain))
    assert type(ours) is _kv_cache.GrowingCache
    sentences, beams = 3, 4
    rows = torch.arange(3).repeat_interleave(beams)
    for cache in (plain, ours):
        cache.reorder_cache(rows)
    for step in range(40):
        if step % 7 == 6 and sentences > 1:
            stay = torch.randperm(sentences, generator=generator)[: sentences - 1].sort().values
            chosen = (stay[:, None] * beams + integers(beams, len(stay), beams)).reshape(-1)
            sentences -= 1
            for cache in (plain, ours):
                cache.reorder_cache(chosen)
        for layer in range(2):
            new = draw(sentences * beams, 1 + step % 3)
            for mine, wanted in zip(
                ours.update(*new, layer), plain.update(*new, layer), strict=True
            ):
                assert torch.equal(mine, wanted)
        chosen = torch.arange(sentences)[:, None] * beams + integers(beams, sentences, beams)
        plain.reorder_cache(chosen.reshape(-1))
        ours.reorder_beams(chosen.reshape(-1))
        assert ours.get_seq_length() == plain.get_seq_length()
    kept = copy.deepcopy(ours)
    for layer in range(2):
        ours.update(*draw(sentences * beams, 1), layer)
    for layer, wanted in zip(kept.layers, plain.layers, strict=True):
        assert torch.equal(layer.keys, wanted.keys)
        assert torch.equal(layer.values, wanted.values)


def test_caches_of_other_kinds_stay_as_they_are() -> None:
    from seqfast.decoding._kv_cache import growing

    cache = transformers.DynamicCache()
    assert growing(cache) is cache
    config = transformers.MistralConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, sliding_window=4
    )
    sliding = transformers.DynamicCache(config=config)
    assert growing(sliding) is sliding
    assert growing(None) is None


@pytest.mark.parametrize("kind", MODELS)
def test_the_same_tokens_where_a_cache_often_moves(
    made: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqfast.decoding._kv_cache._ROOM", 1)
    model, ids, mask = made[kind]
    wanted = generated(model, ids, mask, num_beams=5, max_new_tokens=30)
    search = BeamSearch.like("hf", 5, eos=EOS, max_length=30)
    arguments = transformers_step(model, ids, mask)
    assert searched(search(**arguments)) == wanted
    assert searched(search(**arguments)) == wanted
