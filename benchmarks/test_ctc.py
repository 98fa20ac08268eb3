"""CTC prefix beam search against flashlight-text and pyctcdecode: one thread, the same pruning.

Neither peer is among the development packages: flashlight-text has wheels for few Pythons, and
pyctcdecode asks for NumPy 1. `pip install flashlight-text==0.0.7` and
`pip install --no-deps pyctcdecode==0.5.0 pygtrie==2.5.0 kenlm` bring them; without them the rows
are skipped. Drawn frames stand for a trained model's: runs of sure blanks, tokens of a few frames,
some of them in doubt between two.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seqfast.decoding import CtcDecoder, NGram, build_ctcdecoder, ctc_beam_search

# Nats by which a transcript of ours may be less probable than the peer's, on average over a case.
# Beams lose different ones: the peers give a prefix two places, for both kinds of alignments.
WORSE = 0.1


@dataclass(frozen=True)
class Case:
    """Frames of a batch, drawn, and how they are decoded."""

    name: str
    rows: int
    frames: int
    vocab: int
    beam_size: int
    top_n: int | None = None
    min_log_prob: float | None = None
    beam_threshold: float = 25.0
    doubt: float = 0.25  # share of the frames of a token

    def log_probs(self) -> np.ndarray:
        rng = np.random.default_rng(self.vocab + self.beam_size)
        logits = rng.standard_normal((self.rows, self.frames, self.vocab))
        for row in logits:
            frame = 0
            while frame < self.frames:
                blanks, repeats = rng.integers(1, 6), rng.integers(1, 4)
                row[frame : frame + blanks, 0] += rng.uniform(8, 14)
                frame += blanks
                token, other = rng.integers(1, self.vocab, 2)
                for at in range(frame, min(frame + repeats, self.frames)):
                    row[at, token] += rng.uniform(7, 12)
                    if rng.random() < self.doubt:
                        row[at, [0, other]] += rng.uniform(5, 11, 2)
                frame += repeats
        return torch.from_numpy(logits).log_softmax(-1).float().numpy()


CASES = [
    Case("32 characters, beam 50", 8, 400, 32, 50),
    Case("32 characters, beam 100", 8, 400, 32, 100),
    Case("32 characters, beam 100, 10 tokens", 8, 400, 32, 100, top_n=10),
    Case("32 characters in doubt, beam 100", 8, 400, 32, 100, doubt=0.8),
    Case("1024 pieces, beam 50, 40 tokens", 8, 200, 1024, 50, top_n=40),
    Case("5000 pieces, beam 20, 20 tokens", 4, 200, 5000, 20, top_n=20),
]
# Its defaults: log-probabilities from -5, prefixes within 10 of the best.
LIMITED = {"min_log_prob": -5.0, "beam_threshold": 10.0}
PYCTCDECODE_CASES = [
    Case("32 characters, beam 100, limits", 4, 400, 32, 100, **LIMITED),
    Case("1024 pieces, beam 100, limits", 4, 200, 1024, 100, **LIMITED),
]
SMOKE = Case("smoke", 2, 20, 12, 5, top_n=4)
SMOKE_LIMITED = Case("smoke, limits", 2, 20, 12, 5, **LIMITED)


@pytest.fixture(autouse=True)
def _one_thread(threads: int) -> Iterator[None]:
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def collapsed(frames: list[int], blank: int) -> list[int]:
    pairs = zip([blank, *frames], frames, strict=False)
    return [token for before, token in pairs if token not in (blank, before)]


def flashlight(case: Case, log_probs: np.ndarray) -> Callable[[], list[list[int]]]:
    """The search as its documentation has it for log-probabilities: added up, no lexicon."""
    text = pytest.importorskip("flashlight.lib.text.decoder", reason="needs flashlight-text 0.0.7")
    options = text.LexiconFreeDecoderOptions(
        beam_size=case.beam_size,
        beam_size_token=case.top_n or case.vocab,
        beam_threshold=case.beam_threshold,
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,
        criterion_type=text.CriterionType.CTC,
    )
    # A silence token that scores nothing is a token like any.
    decoder = text.LexiconFreeDecoder(options, text.ZeroLM(), 1, 0, [])

    def decode() -> list[list[int]]:
        found = []
        for row in log_probs:
            # Asked for the best alone: `decode` would hand over the whole beam.
            decoder.decode_begin()
            decoder.decode_step(row.ctypes.data, case.frames, case.vocab)
            decoder.decode_end()
            # One frame before the first and one after the last belong to it.
            found.append(decoder.get_best_hypothesis().tokens[1:-1])
        return found

    return decode


def pyctcdecode(case: Case, log_probs: np.ndarray) -> Callable[[], list[list[int]]]:
    logging.disable(logging.WARNING)  # of what it guesses about the alphabet, and of KenLM
    package = pytest.importorskip("pyctcdecode", reason="needs pyctcdecode 0.5.0 and pygtrie")
    # Letters beyond ASCII, so that none means a space or the beginning of a word.
    alphabet = ["", *(chr(0x4E00 + token) for token in range(1, case.vocab))]
    decoder = package.build_ctcdecoder(alphabet)

    def decode() -> list[list[int]]:
        texts = [
            decoder.decode(
                row,
                beam_width=case.beam_size,
                beam_prune_logp=-case.beam_threshold,
                token_min_logp=case.min_log_prob,
            )
            for row in log_probs
        ]
        return [[ord(letter) - 0x4E00 for letter in text] for text in texts]

    return decode


def mean_log_prob(log_probs: np.ndarray, transcripts: list[list[int]]) -> float:
    """Over all alignments, by torch's loss, which no beam has a part in."""
    batch, frames, _ = log_probs.shape
    loss = F.ctc_loss(
        torch.from_numpy(log_probs).double().transpose(0, 1),
        torch.tensor([token for transcript in transcripts for token in transcript]),
        torch.full((batch,), frames),
        torch.tensor([len(transcript) for transcript in transcripts]),
        reduction="sum",
    )
    return -float(loss) / batch


def measure(
    case: Case, mode: str, peer: Any, compare: Any, smoke: bool, tokens_of: Callable[..., Any]
) -> None:
    log_probs = case.log_probs()
    decode = peer(case, log_probs)

    def ours() -> Any:
        return ctc_beam_search(
            log_probs,
            beam_size=case.beam_size,
            top_n=case.top_n,
            min_log_prob=case.min_log_prob,
            beam_threshold=case.beam_threshold,
        )

    mine, theirs = [row[0] for row in ours().lists()], [tokens_of(row) for row in decode()]
    better = mean_log_prob(log_probs, mine) - mean_log_prob(log_probs, theirs)
    assert smoke or better > -WORSE, f"our transcripts are {-better} nats less probable"
    agreed = np.mean([one == other for one, other in zip(mine, theirs, strict=True)])
    row = {
        "group": "ctc",
        "case": case.name,
        "mode": mode,
        "dtype": "float32",
        "threads": 1,
        "goal": 3.0,
        "agreed": float(agreed),
        "better_nats": better,
        "frames_per_row": case.frames,
        "rows": case.rows,
    }
    compare(row, lambda _: ours(), lambda _: decode())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_against_flashlight(case: Case, compare: Any, smoke: bool) -> None:
    if smoke:
        case = SMOKE
    measure(case, "flashlight-text", flashlight, compare, smoke, lambda row: collapsed(row, 0))


@pytest.mark.parametrize("case", PYCTCDECODE_CASES, ids=lambda case: case.name)
def test_against_pyctcdecode(case: Case, compare: Any, smoke: bool) -> None:
    if smoke:
        case = SMOKE_LIMITED
    measure(case, "pyctcdecode", pyctcdecode, compare, smoke, list)


# ---- words, with a language model ----

LETTERS = ["", " ", *"abcdefghijklmnopqrstuvwxyz"]
HOTWORDS = 3


@dataclass(frozen=True)
class Speech:
    """Frames of drawn sentences, and a 3-gram model of others of their kind."""

    rows: int = 4
    frames: int = 300
    words: int = 5000
    sentences: int = 20000
    beam_size: int = 100
    doubt: float = 0.15

    def texts(self) -> list[list[str]]:
        """Words by falling frequency, each drawn after one of a few that may follow."""
        rng = np.random.default_rng(0)
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        words = ["".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(self.words)]
        found = []
        for _ in range(self.sentences):
            at, sentence = 0, []
            for _ in range(int(rng.integers(4, 12))):
                at = (7 * at + int(rng.zipf(1.3))) % self.words
                sentence.append(words[at])
            found.append(sentence)
        return found

    def log_probs(self, texts: list[list[str]]) -> np.ndarray:
        rng = np.random.default_rng(1)
        logits = rng.standard_normal((self.rows, self.frames, len(LETTERS)))
        for row in logits:
            text = " ".join(" ".join(texts[i]) for i in rng.integers(0, len(texts), 20))
            frame = 0
            for letter in text:
                for token in [0] * int(rng.integers(1, 3)) + [LETTERS.index(letter)] * 2:
                    if frame == self.frames:
                        break
                    row[frame, token] += rng.uniform(6, 9)
                    if rng.random() < self.doubt:
                        row[frame, rng.integers(0, len(LETTERS), 2)] += rng.uniform(4, 9, 2)
                    frame += 1
        return torch.from_numpy(logits).log_softmax(-1).float().numpy()


SMOKE_SPEECH = Speech(1, 30, 50, 100, 10)


@pytest.fixture(scope="module")
def speech(smoke: bool) -> tuple[Speech, NGram, list[str], np.ndarray]:
    case = SMOKE_SPEECH if smoke else Speech()
    texts = case.texts()
    lm = NGram.train(texts[: -case.sentences // 10], order=3)
    return case, lm, texts[-1][:HOTWORDS], case.log_probs(texts[-case.sentences // 10 :])


def row_of(case: Speech, name: str, mode: str, **more: Any) -> dict[str, Any]:
    return {
        "group": "ctc",
        "case": name,
        "mode": mode,
        "dtype": "float32",
        "threads": 1,
        "frames_per_row": case.frames,
        "rows": case.rows,
        **more,
    }


@pytest.mark.parametrize("limits", [False, True], ids=["all", "limits"])
def test_cost_of_a_language_model(speech: Any, limits: bool, compare: Any) -> None:
    # Without a peer, but a row of a suite that is measured with all of them.
    pytest.importorskip("flashlight.lib.text.decoder", reason="needs flashlight-text 0.0.7")
    case, lm, _, log_probs = speech
    pruning: Any = {"beam_size": case.beam_size, **(LIMITED if limits else {})}
    ours, without = (CtcDecoder(LETTERS, lm=model, **pruning) for model in (lm, None))
    row = row_of(case, f"3-gram words, {'limits' if limits else 'all'}", "without a model")
    compare(row | {"most": 1.3}, lambda _: ours(log_probs), lambda _: without(log_probs))


def test_words_against_pyctcdecode(speech: Any, tmp_path: Path, compare: Any, smoke: bool) -> None:
    logging.disable(logging.WARNING)
    package = pytest.importorskip("pyctcdecode", reason="needs pyctcdecode 0.5.0 and pygtrie")
    pytest.importorskip("kenlm", reason="needs kenlm")
    case, lm, hotwords, log_probs = speech
    lm.save(tmp_path / "lm.arpa")
    words = [word for word in lm.vocabulary if word[0] != "<"]
    theirs = package.build_ctcdecoder(LETTERS, str(tmp_path / "lm.arpa"), unigrams=words)
    mine = build_ctcdecoder(LETTERS, lm)
    options: Any = {"beam_width": case.beam_size, "hotwords": hotwords}
    found = [mine.decode(row, **options) for row in log_probs]
    expected = [theirs.decode_beams(row, **options)[0][0] for row in log_probs]
    agreed = float(np.mean([one == other for one, other in zip(found, expected, strict=True)]))
    compare(
        row_of(case, "3-gram words, hotwords", "pyctcdecode, words", goal=15.0, agreed=agreed),
        lambda _: [mine.decode(row, **options) for row in log_probs],
        lambda _: [theirs.decode(row, **options) for row in log_probs],
    )
