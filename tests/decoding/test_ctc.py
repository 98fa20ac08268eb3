"""What a user of the CTC decoders relies on: torch's loss, real recognisers, language models."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.cases import Backend

from seqfast.decoding import CtcResult, ctc_beam_search, ctc_greedy

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "ctc-handwriting"
# Of a recogniser of handwriting; the blank is the last.
CHARACTERS = " !\"#&'()*+,-./0123456789:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BLANK = len(CHARACTERS)


def handwriting(name: str) -> np.ndarray:
    """[1, frames, 80] log-probabilities of one image."""
    path = DATA / f"{name}_rnnOutput.csv"
    if not path.exists():
        pytest.skip(f"needs {path.name} of githubharald/CTCDecoder in {DATA}")
    scores = np.genfromtxt(path, delimiter=";")[:, :-1]
    scores -= np.log(np.exp(scores).sum(1, keepdims=True))
    return scores[None]


def text(result: CtcResult, row: int = 0, place: int | None = 0) -> str:
    tokens = result.lists()[row]
    return "".join(CHARACTERS[c] for c in (tokens if place is None else tokens[place]))


def to(log_probs: np.ndarray, backend: Backend, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(log_probs).to(backend.device, dtype)


# What that project's own decoders say of its two images.
def test_known_transcripts(backend: Backend) -> None:
    line, word = to(handwriting("line"), backend), to(handwriting("word"), backend)
    assert text(ctc_greedy(line, blank=BLANK), 0, None) == "the fak friend of the fomly hae tC"
    found = ctc_beam_search(line, beam_size=25, blank=BLANK)
    assert text(found) == "the fak friend of the fomcly hae tC"
    assert text(ctc_greedy(word, blank=BLANK), 0, None) == "aircrapt"
    assert text(ctc_beam_search(word, beam_size=25, blank=BLANK)) == "aircrapt"


def test_a_short_repr() -> None:
    log_probs = np.log([[[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]] * 2)
    said = repr(ctc_beam_search(log_probs, n_best=2))
    # 0.593 = 0.512 + 0.064 + 0.008 + 0.001 + 0.008; greedily 0.512
    assert said == "CtcResult(2 rows, 2 each, 3 frames; first: [1, 2] -0.5226)"
    assert repr(ctc_greedy(log_probs)) == "CtcResult(2 rows, 3 frames; first: [1, 2] -0.6694)"
    assert repr(ctc_greedy(log_probs[:0])) == "CtcResult(0 rows, 3 frames)"


def test_known_loss() -> None:
    line = handwriting("line")
    truth = [CHARACTERS.index(c) for c in "the fake friend of the family, like the"]
    loss = F.ctc_loss(
        torch.from_numpy(line[0]), torch.tensor(truth), [line.shape[1]], [len(truth)], BLANK, "sum"
    )
    assert float(loss) == pytest.approx(28.090721774903226)
    best = ctc_beam_search(line, beam_size=25, blank=BLANK)
    assert -float(best.scores[0, 0]) < float(loss)


TRAINING = (
    "the fake friend of the family, like the fake friend of the family and the friend of the fake"
)


def ngram(order: int, width: int) -> Any:
    """Of characters, additively smoothed, as a callback that knows only the last ones."""
    counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    ids = [CHARACTERS.index(c) for c in TRAINING]
    for n in range(order):
        for at in range(n, len(ids)):
            counts[tuple(ids[at - n : at])][ids[at]] += 1

    def lm(prefixes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        scores = np.empty((len(lengths), width))
        for row, prefix, length in zip(scores, prefixes, lengths, strict=True):
            history = tuple(int(c) for c in prefix[max(0, length - order + 1) : length])
            while history not in counts:
                history = history[1:]
            seen = counts[history]
            total = sum(seen.values())
            row[:] = math.log(0.01 / (total + 0.01 * width))
            for token, count in seen.items():
                row[token] = math.log((count + 0.01) / (total + 0.01 * width))
        return scores

    return lm


def test_a_language_model_changes_the_winner() -> None:
    line = handwriting("line")
    lm = ngram(4, BLANK + 1)
    options: Any = {"beam_size": 25, "blank": BLANK, "top_n": 20}
    alone = text(ctc_beam_search(line, **options))
    assert alone == "the fak friend of the fomcly hae tC"
    assert text(ctc_beam_search(line, lm=lm, lm_weight=0.0, **options)) == alone
    helped = ctc_beam_search(line, lm=lm, lm_weight=1.0, **options)
    assert text(helped).startswith("the fake friend of the family")

    def on_tensors(prefixes: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(lm(prefixes.numpy(), lengths.numpy()))

    tensors = ctc_beam_search(torch.from_numpy(line), lm=on_tensors, **options)
    assert torch.is_tensor(tensors.tokens)
    np.testing.assert_array_equal(tensors.tokens.numpy(), helped.tokens)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-10), (torch.float32, 2e-5)],
    ids=["float64", "float32"],
)
def test_unpruned_scores_are_minus_the_loss(
    backend_once: Backend, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(3)
    batch, frames, vocab = 3, 6, 4
    logits = torch.randn(frames, batch, vocab, dtype=dtype) * 2
    lengths = torch.tensor([6, 4, 5])
    for blank in (0, 3):
        log_probs = logits.log_softmax(-1)
        found = ctc_beam_search(
            log_probs.transpose(0, 1), lengths, beam_size=1024, n_best=60, blank=blank
        )
        for row in range(batch):
            for place, transcript in enumerate(found.lists()[row]):
                loss = F.ctc_loss(
                    log_probs[:, row : row + 1],
                    torch.tensor([transcript], dtype=torch.int64),
                    lengths[row : row + 1],
                    torch.tensor([len(transcript)]),
                    blank,
                    "sum",
                )
                assert float(found.scores[row, place]) == pytest.approx(
                    -float(loss), rel=tolerance, abs=tolerance
                )


def test_equals_the_sum_over_all_alignments(backend_once: Backend) -> None:
    frames, vocab = 5, 3
    log_probs = torch.randn(2, frames, vocab, dtype=torch.float64).log_softmax(-1)
    for row in range(2):
        sums: dict[tuple[int, ...], float] = defaultdict(float)
        for alignment in itertools.product(range(vocab), repeat=frames):
            probability = math.exp(
                sum(float(log_probs[row, t, c]) for t, c in enumerate(alignment))
            )
            sums[tuple(c for c, _ in itertools.groupby(alignment) if c)] += probability
        found = ctc_beam_search(log_probs, beam_size=200, n_best=len(sums))
        assert {tuple(t) for t in found.lists()[row]} == set(sums)
        for transcript, score in zip(found.lists()[row], found.scores[row].tolist(), strict=True):
            assert math.exp(score) == pytest.approx(sums[tuple(transcript)])


def test_timesteps_lie_on_the_tokens() -> None:
    line = handwriting("line")
    found = ctc_beam_search(line, beam_size=25, blank=BLANK)
    timesteps = found.timesteps[0, 0, : found.lengths[0, 0]]
    assert (np.diff(timesteps) > 0).all()
    tokens = found.tokens[0, 0, : found.lengths[0, 0]]
    # Nearly all of them are the most probable token where they begin.
    assert (line[0, timesteps].argmax(1) == tokens).mean() > 0.9


def test_rows_do_not_depend_on_their_batch(backend: Backend) -> None:
    log_probs = torch.randn(5, 20, 12, device=backend.device).log_softmax(-1)
    lengths = torch.tensor([20, 1, 7, 20, 13], device=backend.device)
    together = ctc_beam_search(log_probs, lengths, beam_size=6, n_best=2)
    for row in range(5):
        alone = ctc_beam_search(log_probs[row, None], lengths[row, None], beam_size=6, n_best=2)
        for name in ("tokens", "lengths", "scores", "timesteps"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[row])


def test_lists() -> None:
    log_probs = np.log(np.array([[[0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]]))
    assert ctc_greedy(log_probs).lists() == [[1, 2]]
    assert ctc_beam_search(log_probs, n_best=2).lists()[0][0] == [1, 2]
    assert ctc_beam_search(log_probs[:, :0], n_best=2).lists() == [[[]]]
    assert ctc_beam_search(log_probs * np.inf, n_best=2).lists() == [[]]


def test_works_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, seqfast\n"
        "x = np.log(np.full((1, 3, 2), 0.5, np.float32))\n"
        "assert seqfast.decoding.ctc_beam_search(x).lists() == [[[1]]]\n"
        "lm = lambda prefixes, lengths: np.zeros((len(lengths), 2))\n"
        "assert seqfast.decoding.ctc_beam_search(x, lm=lm).lists() == [[[1]]]\n"
        "assert seqfast.decoding.ctc_greedy(x).lists() == [[]]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
