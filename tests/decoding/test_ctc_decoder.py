"""CtcDecoder against its twin, against brute force over all paths, and against itself in chunks."""

from __future__ import annotations

import functools
import itertools
import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch

from seqfast.decoding import CtcDecoder, CtcTranscripts, NGram, ctc_beam_search
from seqfast.reference.ctc_decoder import Transcript, Words, ctc_decode

LETTERS = ["", " ", "a", "b", "c"]
PIECES = ["", "▁", "▁a", "a", "b", "▁ab", "ab"]
SENTENCES = ["ab a b", "a b ab", "ba ab", "b b a", "cab a", "ab ab a"]


def drawn(rng: np.random.Generator, *shape: int, scale: float = 2.0) -> np.ndarray:
    logits = scale * rng.standard_normal(shape)
    return logits - np.logaddexp.reduce(logits, -1, keepdims=True)


def setting(seed: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], Words]:
    """Arguments of the constructor, of a call, of the twin, and its words."""
    rng = np.random.default_rng(seed)
    pieces = bool(seed % 3 == 0)
    vocabulary = PIECES if pieces else LETTERS
    lm = NGram.train(SENTENCES, order=int(rng.integers(1, 4))) if rng.random() < 0.7 else None
    words = sorted({w for s in SENTENCES for w in s.split() if not pieces or "c" not in w})
    lexicon = words[: int(rng.integers(1, len(words) + 1))] if rng.random() < 0.4 else None
    known = words[::2] if lm is not None and rng.random() < 0.3 else None
    hotwords = {"ab": 3.0, "abba": 5.0, "b": -1.0} if rng.random() < 0.5 else {}
    ends = bool(rng.random() < 0.7)
    weights = {
        "alpha": float(rng.uniform(0, 1)),
        "beta": float(rng.uniform(-1, 2)),
        "unknown_score": float(rng.uniform(-4, 1)),
    }
    search: dict[str, Any] = {
        "beam_size": int(rng.choice([2, 5, 12])),
        "n_best": 2,
        "top_n": [None, 3][int(rng.integers(2))],
        "min_log_prob": [None, -2.5][int(rng.integers(2))],
        "beam_threshold": [None, 4.0][int(rng.integers(2))],
    }
    made = {
        "vocabulary": vocabulary,
        "lm": lm,
        "lexicon": lexicon,
        "known_words": known,
        "sentence_ends": ends,
        **weights,
        **search,
    }
    model_words = {w for s in SENTENCES for w in s.split()}
    twin = Words(
        vocabulary,
        boundary="" if pieces else " ",
        mark="▁" if pieces else "",
        lm=lm,
        known=frozenset(model_words if known is None else known),
        lexicon=None if lexicon is None else frozenset(lexicon),
        hotwords=hotwords,
        sentence_ends=ends,
        **weights,
    )
    return made, {"hotwords": hotwords or None}, search, twin


@functools.cache
def expected_of(seed: int) -> list[list[Transcript]]:
    _, _, search, words = setting(seed)
    log_probs, lengths = case_of(seed)
    return ctc_decode(log_probs, lengths, words=words, **search)


def case_of(seed: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(1000 + seed)
    frames = int(rng.integers(0, 14))
    log_probs = drawn(rng, 2, frames, len(PIECES if seed % 3 == 0 else LETTERS))
    return log_probs, [frames, int(rng.integers(0, frames + 1))]


@pytest.mark.parametrize("seed", range(40))
def test_against_the_twin(cpu_isa: str, seed: int) -> None:
    made, called, _, words = setting(seed)
    log_probs, lengths = case_of(seed)
    found = CtcDecoder(**made)(log_probs, lengths, **called)
    for mine, theirs in zip(found.n_best, expected_of(seed), strict=True):
        assert [t.text for t in mine] == [t.text for t in theirs]
        for one, other in zip(mine, theirs, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-9)
            assert one.language_score == pytest.approx(other.language_score, abs=1e-9)
            assert " ".join(w.text for w in one.words) == one.text
            spans = [
                span
                for token, span in zip(other.tokens, other.spans, strict=True)
                if words.vocabulary[token] != words.boundary
            ]
            assert [(t.first_frame, t.last_frame) for t in one.tokens] == spans


@pytest.mark.parametrize("seed", range(6))
def test_against_all_paths(seed: int) -> None:
    made, called, search, words = setting(100 + seed)
    search |= {"beam_size": 1000, "n_best": 5}
    search |= dict.fromkeys(("top_n", "min_log_prob", "beam_threshold"))
    log_probs = drawn(np.random.default_rng(seed), 1, 3, len(words.vocabulary))
    sums: dict[str, float] = defaultdict(float)
    language: dict[str, list[float]] = defaultdict(list)
    for path in itertools.product(range(len(words.vocabulary)), repeat=3):
        tokens = tuple(token for token, _ in itertools.groupby(path) if token)
        worth = words.score(tokens, finished=True)
        alignment = sum(log_probs[0, frame, token] for frame, token in enumerate(path))
        sums[words.text(tokens)] += math.exp(alignment + worth)
        language[words.text(tokens)].append(worth)
    best = sorted(((p, text) for text, p in sums.items() if p > 0), reverse=True)[:5]
    found = CtcDecoder(**(made | search))(log_probs, **called).n_best[0]
    assert [t.text for t in found] == [text for _, text in best]
    np.testing.assert_allclose([t.score for t in found], np.log([p for p, _ in best]), atol=1e-9)
    assert all(t.language_score == pytest.approx(language[t.text][0]) for t in found)
    twin = ctc_decode(log_probs, words=words, **search)[0]
    assert [t.text for t in twin] == [text for _, text in best]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_dtypes(dtype: torch.dtype) -> None:
    made, called, _, words = setting(301)
    log_probs = torch.from_numpy(drawn(np.random.default_rng(1), 2, 30, len(words.vocabulary)))
    decoder = CtcDecoder(**made)
    rounded = log_probs.to(dtype).clamp(max=0)
    same(decoder(rounded, **called), decoder(rounded.double().numpy(), **called))
    across = rounded.transpose(0, 1).contiguous().transpose(0, 1)  # as torch's CTCLoss has it
    same(decoder(across, **called), decoder(rounded, **called))


def same(one: CtcTranscripts, other: CtcTranscripts) -> None:
    assert one.texts == other.texts
    assert repr(one.n_best) == repr(other.n_best)
    for name in ("scores", "acoustic_scores", "tokens", "lengths", "timesteps"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("seed", range(8))
def test_chunks_give_the_same_bits(seed: int) -> None:
    made, called, _, words = setting(200 + seed)
    rng = np.random.default_rng(seed)
    batch, frames = 3, 200
    log_probs = drawn(rng, batch, frames, len(words.vocabulary), scale=3.0).astype(np.float32)
    lengths = np.array([frames, 57, 0])
    decoder = CtcDecoder(**(made | {"beam_threshold": None}))
    whole = decoder(log_probs, lengths, **called)
    stream = decoder.stream(batch, **called)
    at = 0
    while at < frames:
        size = int(rng.integers(0, 40))
        here = np.clip(lengths - at, 0, log_probs[:, at : at + size].shape[1])
        stream.step(log_probs[:, at : at + size], here)
        at += size
    same(stream.finish(), whole)
    alone = decoder(torch.from_numpy(log_probs[1:2, :57]), **called)
    np.testing.assert_array_equal(alone.scores[0], whole.scores[1])
    assert alone.texts[0] == whole.texts[1]


class Called:
    """An NGram of tokens as a model of the user's own."""

    def __init__(self, lm: NGram, names: list[str]) -> None:
        self.lm, self.names = lm, names
        self.rows: set[int] = set()

    def __call__(self, prefixes: np.ndarray, lengths: np.ndarray, rows: np.ndarray) -> Any:
        self.rows |= set(rows.tolist())
        return torch.tensor(
            [
                [self.lm.logprob(name, self.context(prefix, n)) for name in self.names]
                for prefix, n in zip(prefixes, lengths, strict=True)
            ]
        )

    def final(self, prefixes: np.ndarray, lengths: np.ndarray, rows: np.ndarray) -> Any:
        pairs = zip(prefixes, lengths, strict=True)
        return np.array([self.lm.logprob("</s>", self.context(p, n)) for p, n in pairs])

    def context(self, prefix: np.ndarray, length: int) -> list[str]:
        return ["<s>", *(self.names[token] for token in prefix[:length])]


@pytest.mark.parametrize("beam_size", [3, 8])
def test_a_model_of_tokens_and_the_same_one_called(beam_size: int) -> None:
    lm = NGram.train([list(s.replace(" ", "|")) for s in SENTENCES], order=3)
    log_probs = drawn(np.random.default_rng(beam_size), 3, 12, 5)
    lengths = (12, 5, 0)
    options: Any = {"alpha": 0.7, "beta": 0.3, "beam_size": beam_size, "n_best": 2}
    native = CtcDecoder(LETTERS, lm=lm, lm_unit="token", **options)(log_probs, lengths)
    called = Called(lm, ["", "|", "a", "b", "c"])
    decoder = CtcDecoder(LETTERS, lm=called, **options)
    found = decoder(log_probs, lengths)
    assert called.rows == {0, 1, 2}
    assert native.texts == found.texts
    np.testing.assert_allclose(native.scores, found.scores, atol=1e-9)
    np.testing.assert_allclose(native.acoustic_scores[0], found.acoustic_scores[0], atol=1e-9)
    stream = decoder.stream(3)
    for begin in range(0, 12, 4):
        stream.step(log_probs[:, begin : begin + 4], np.clip(np.array(lengths) - begin, 0, 4))
    same(stream.finish(), found)


def test_without_words_as_the_search_of_tokens() -> None:
    rng = np.random.default_rng(5)
    table, log_probs = drawn(rng, 4, 4), drawn(rng, 4, 15, 4)

    def lm(prefixes: np.ndarray, lengths: np.ndarray, rows: Any = None) -> np.ndarray:
        pairs = zip(prefixes, lengths, strict=True)
        return table[[p[n - 1] if n else 0 for p, n in pairs]]

    for model, weight in ((None, 0.0), (lm, 0.6)):
        decoder = CtcDecoder(
            ["", "a", "b", "c"], lm=model, alpha=weight, beta=0, beam_size=6, n_best=3,
            word_boundary=None,
        )  # fmt: skip
        found = decoder(log_probs)
        tokens = ctc_beam_search(log_probs, beam_size=6, n_best=3, lm=model, lm_weight=weight)
        np.testing.assert_array_equal(found.tokens, tokens.tokens[..., : found.tokens.shape[2]])
        np.testing.assert_allclose(found.scores, tokens.scores, atol=1e-9)
        np.testing.assert_array_equal(
            found.timesteps, tokens.timesteps[..., : found.tokens.shape[2]]
        )


def test_a_dead_end_is_no_transcript() -> None:
    frames = np.full((1, 4, 4), -20.0)
    frames[0, :, 2] = 0  # only "a", and no word of the lexicon is so short
    found = CtcDecoder(["", " ", "a", "b"], lexicon=["ab"], beam_threshold=1.0)(frames)
    assert found.texts == [""]
    assert found.scores[0, 0] == -np.inf
    assert found.n_best == [[]]
    assert "-inf" in repr(found)


def test_long_streams_forget_what_no_prefix_goes_through() -> None:
    log_probs = drawn(np.random.default_rng(0), 1, 3000, 5, scale=4.0)
    decoder = CtcDecoder(LETTERS, lm=NGram.train(SENTENCES, order=2), beam_size=8)
    stream = decoder.stream(1)
    sizes = set()
    for begin in range(0, 3000, 100):
        stream.step(log_probs[:, begin : begin + 100])
        sizes.add(len(stream._search._memory))
    # Room for the text, which is about 2,000 tokens, not for 24,000 prefixes.
    assert max(sizes) < 8192 * 110
    same(stream.finish(), decoder(log_probs))
