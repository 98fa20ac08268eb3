"""What a result says of itself, states that begin as None, and errors in the caller's terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from seqfast.decoding import (
    BeamSearch,
    StepError,
    along,
    exact_search,
    greedy,
    per_sequence,
    score,
    shared,
    transformers_step,
)

from .models import HashModel, hypotheses

EOS = 2
START = np.array([0, 3, 4])


def searched(**options: Any) -> Any:
    model = HashModel(7, seed=3)
    search = BeamSearch(3, eos=EOS, max_length=6, n_best=2, **options)
    return search(model.step, START, model.state(3))


def test_a_short_repr_lists_and_texts() -> None:
    out = searched()
    text = repr(out)
    assert text.startswith("BeamResult(3 sentences, 2 each, ")
    assert len(text) < 160
    assert out.lists() == [[list(h) for h in hypotheses(out, s)] for s in range(3)]
    words = [f"w{i}" for i in range(7)]
    spelled = [[" ".join(words[t] for t in h) for h in found] for found in out.lists()]
    assert out.texts(words) == spelled
    assert out.texts(lambda tokens: " ".join(words[t] for t in tokens)) == spelled

    class Tokenizer:
        def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
            return " ".join(words[t] for t in tokens if not skip_special_tokens or t != EOS)

    wanted = [[t.replace(f" w{EOS}", "") for t in found] for found in spelled]
    assert out.texts(Tokenizer()) == wanted
    with pytest.raises(TypeError, match="tokenizer must have decode, be callable or be a list"):
        out.texts(3)


def test_dead_ends_are_said() -> None:
    model = HashModel(7, seed=3)
    search = BeamSearch(2, eos=EOS, max_length=6)

    def nothing(sentence: int, tokens: Any) -> list[int]:
        return [] if sentence == 1 and len(tokens) == 1 else list(range(7))

    with pytest.warns(RuntimeWarning, match=r"1 of 3 sentences have no hypothesis.*: 1; see"):
        out = search(model.step, START, model.state(3), allowed=per_sequence(nothing))
    assert out.dead_ends.tolist() == [False, True, False]
    assert not out.certified[1]
    assert out.lists()[1] == []
    assert "1 dead ends" in repr(out)
    assert not searched().dead_ends.any()


def test_an_eos_inside_a_prefix_is_refused() -> None:
    """BART's users pass [[2, lang]]: what followed the EOS would be lost."""
    model = HashModel(7)
    search = BeamSearch(2, eos=EOS, max_length=6)
    message = r"EOS only as a sentence's last token, got 2 at place 0 of 2 for sentence 1; .*start"
    with pytest.raises(ValueError, match=message):
        search(model.step, START, model.state(3), prefix=[[3], [2, 5], [4, 2]])
    out = search(model.step, START, model.state(3), prefix=[[3], [5], [4, 2]])
    assert hypotheses(out, 2) == [(4, 2)]


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_state_that_begins_as_none(library: str) -> None:
    model = HashModel(7, seed=5)
    torches = library == "torch"
    start: Any = torch.from_numpy(START) if torches else START
    plain = model.torch_step if torches else model.step
    zeros = torch.zeros if torches else np.zeros

    def late(ids: Any, state: Any, t: int) -> Any:
        code = zeros(len(ids), dtype=torch.int64 if torches else np.int64)
        if state is not None:
            code = state["h"][0]
            assert state["h"].shape == (1, len(ids))
        logits, after = plain(ids, {"code": code}, t)
        return logits, {"h": along(after["code"][None], 1)}

    search = BeamSearch(4, eos=EOS, max_length=8, n_best=3)
    state = model.torch_state(3) if torches else model.state(3)
    wanted = search(plain, start, state)
    out = search(late, start, None)
    assert out.lists() == wanted.lists()
    # Inside a structure, too; and in an exact search, which comes back to its beginning.
    small = HashModel(4, seed=6)

    def inner(ids: Any, state: Any, t: int) -> Any:
        code = np.zeros(len(ids), np.int64) if state["code"] is None else state["code"]
        return small.step(ids, {"code": code}, t)

    options: dict[str, Any] = {"eos": EOS, "max_length": 4}
    ids = np.array([0, 1])
    late_exact = exact_search(inner, ids, {"code": None}, **options)
    assert late_exact.lists() == exact_search(small.step, ids, small.state(2), **options).lists()


def test_a_late_state_keeps_its_structure() -> None:
    model = HashModel(7, seed=5)
    search = BeamSearch(2, eos=EOS, max_length=8)

    def returning(values: Any) -> Any:
        def step(ids: Any, state: Any, t: int) -> Any:
            return model.table[ids], values(ids, t)

        return step

    with pytest.raises(ValueError, match=r"state that step returned must stay dict, got list"):
        search(returning(lambda ids, t: {"a": ids} if t == 0 else [ids]), START)
    with pytest.raises(ValueError, match=r"must stay dict, got None"):
        search(returning(lambda ids, t: {"a": ids} if t == 0 else None), START)
    with pytest.raises(ValueError, match=r"must have 6 rows \(batch\) in dimension 0, got \[5\]"):
        search(returning(lambda ids, t: ids[:-1]), START)
    with pytest.raises(TypeError, match=r"shared\(\) must be used in the initial state"):
        search(returning(lambda ids, t: shared(ids)), START)


def test_an_error_of_allowed_says_when() -> None:
    model = HashModel(7)

    def allowed(t: int, rows: Any) -> None:
        if t == 1:
            raise KeyError("grammar")

    with pytest.raises(StepError, match="allowed raised KeyError at t = 1: 'grammar'") as caught:
        BeamSearch(2, eos=EOS)(model.step, START, model.state(3), allowed=allowed)
    assert isinstance(caught.value.__cause__, KeyError)


def test_nan_is_placed_after_sentences_have_left() -> None:
    """Sentence 2 stays alone, so the row of the call is no longer its own."""
    table = np.zeros((64, 7), np.float32)

    def step(ids: Any, state: Any, t: int) -> Any:
        logits = table[: len(ids)].copy()
        logits[:, EOS] = np.where(state["who"] == 2, -9, 9)
        if t == 3:
            logits[-1, 1] = np.nan
        return logits, state

    search = BeamSearch(2, eos=EOS, max_length=8)
    with pytest.raises(ValueError, match=r"of step .* at t = 3 for sentence 2, beam 1"):
        search(step, START, {"who": np.arange(3)})
    with pytest.raises(ValueError, match=r"exact_search: .* at t = 3 for sentence 2"):
        exact_search(step, START, {"who": np.arange(3)}, eos=EOS, max_length=5)


def _tiny() -> Any:
    transformers = pytest.importorskip("transformers", reason="needs transformers 5")
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=23, bos_token_id=0, eos_token_id=EOS, pad_token_id=1, n_embd=16, n_layer=1,
        n_head=2, n_positions=64, initializer_range=0.6,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize(
    "options",
    [{"repetition_penalty": 1.6}, {"no_repeat_ngram": 2}, {"no_repeat_ngram": 1}],
    ids=lambda o: "-".join(o) + str(*o.values()),
)
def test_padding_is_no_token(options: dict[str, Any]) -> None:
    """A padded row finds what it finds alone, whatever looks at the tokens before it."""
    model = _tiny()
    ids = torch.randint(3, 23, (12, 7), generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(7) >= torch.arange(12)[:, None] % 6).long()
    ids = ids.masked_fill(mask == 0, 1)
    search = BeamSearch.like("hf", 3, eos=EOS, max_length=8, **options)
    together = search(**transformers_step(model, ids, mask)).lists()
    for row in range(12):
        alone = ids[row, mask[row] == 1][None]
        assert search(**transformers_step(model, alone)).lists()[0] == together[row]


def test_padding_on_the_right_is_refused() -> None:
    model = _tiny()
    ids = torch.tensor([[3, 4, 5], [6, 7, 1]])
    message = "must be padded on the left, got padding at the end of row 1; set padding_side"
    with pytest.raises(ValueError, match=message):
        transformers_step(model, ids, torch.tensor([[1, 1, 1], [1, 1, 0]]))
    with pytest.raises(ValueError, match=message):
        transformers_step(model, ids)  # the model's pad token, as `generate` sees it
    transformers_step(model, ids, torch.ones_like(ids))


def test_scores_and_exact_searches_take_a_transformers_model() -> None:
    model = _tiny()
    ids = torch.tensor([[3, 4, 5], [6, 7, 8]])
    arguments = transformers_step(model, ids)
    found = greedy(**arguments, eos=EOS, max_length=4)
    given = score(**arguments, sequences=[f[0] for f in found.lists()], eos=EOS)
    torch.testing.assert_close(given.logprobs, found.logprobs[:, 0])
    best = exact_search(**arguments, eos=EOS, max_length=2)
    assert (best.logprobs[:, 0] >= greedy(**arguments, eos=EOS, max_length=2).logprobs[:, 0]).all()


def test_embeddings_in_place_of_tokens() -> None:
    model = _tiny()
    ids = torch.tensor([[3, 4, 5], [6, 7, 8]])
    embedded = model.get_input_embeddings()(ids).detach()
    search = BeamSearch.like("hf", 3, eos=EOS, max_length=6)
    wanted = search(**transformers_step(model, ids)).lists()
    assert search(**transformers_step(model, inputs_embeds=embedded)).lists() == wanted


def test_a_model_without_a_cache_says_so() -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers 5")
    torch.manual_seed(0)
    config = transformers.OpenAIGPTConfig(
        vocab_size=23, n_embd=16, n_layer=1, n_head=2, n_positions=64, initializer_range=0.6
    )
    model = transformers.OpenAIGPTLMHeadModel(config).eval()
    ids = torch.tensor([[3, 4, 5], [6, 7, 8]])
    with pytest.warns(UserWarning, match="OpenAIGPTLMHeadModel returns no cache, so every step"):
        arguments = transformers_step(model, ids)
    found = BeamSearch.like("hf", 3, eos=EOS, max_length=6)(**arguments)
    wanted = model.generate(
        ids, attention_mask=torch.ones_like(ids), num_beams=3, max_new_tokens=6, do_sample=False,
        eos_token_id=EOS, pad_token_id=1,
    )[:, 3:]  # fmt: skip
    for mine, row in zip(found.lists(), wanted.tolist(), strict=True):
        assert mine[0] == (row[: row.index(EOS) + 1] if EOS in row else row)


def test_pixels() -> None:
    """An encoder of pictures with a decoder of texts."""
    transformers = pytest.importorskip("transformers", reason="needs transformers 5")
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = transformers.ViTConfig(**small, intermediate_size=32, image_size=8, patch_size=4)
    text = transformers.BertConfig(
        **small, intermediate_size=32, vocab_size=23, is_decoder=True, add_cross_attention=True,
        initializer_range=0.6,
    )  # fmt: skip
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 0, 1, EOS
    model = transformers.VisionEncoderDecoderModel(config).eval()
    pixels = torch.randn(2, 3, 8, 8)
    model.generation_config.decoder_start_token_id = 0
    model.generation_config.pad_token_id = 1
    wanted = model.generate(
        pixel_values=pixels, num_beams=3, max_new_tokens=6, do_sample=False, eos_token_id=EOS
    )[:, 1:]
    search = BeamSearch.like("hf", 3, eos=EOS, max_length=6)
    found = search(**transformers_step(model, pixel_values=pixels))
    for mine, row in zip(found.lists(), wanted.tolist(), strict=True):
        assert mine[0] == (row[: row.index(EOS) + 1] if EOS in row else row)
