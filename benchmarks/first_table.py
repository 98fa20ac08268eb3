"""Six measurements on this machine in under a minute, the end of `make demo`.

python -m benchmarks.first_table [--seconds N]

Both sides of a row alternate in one process, with the same weights, inputs and number of threads;
their results are compared first. `make bench` measures far more, and takes longer.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

import seqfast
from benchmarks import cases, corpora, harness
from benchmarks.gpu_beam_search import PEERS, Sizes, check_step, living_beams

SECONDS = 5.0  # for the pairs of a row
WORDS = 200_000  # of the word vectors' text
NEXT = """
To try next, after `. .venv/bin/activate` and `pip install '.[course]'`:
  seqfast.accelerate(model)              swaps torch's recurrent layers inside your own model
  python examples/word_vectors.py        word vectors of the comments in Python's library
  python examples/translate.py --help    a translator with attention and beam search
  python examples/awd_lstm.py --help     a regularised language model
  make test                              every kernel against its reference
"""


class Row(NamedTuple):
    """What is done, the name of the peer, and both sides; `peer` is None where there is none."""

    what: str
    against: str
    ours: Callable[[int], object]
    peer: Callable[[int], object] | None


def layer_row(what: str, case: cases.Case) -> Row:
    """Forward and backward of a layer; with ragged lengths torch packs, ours takes the lengths."""
    torch.manual_seed(0)
    peer, ours = (cases.build_layer(module, case) for module in (torch.nn, seqfast.nn))
    ours.load_state_dict(peer.state_dict())
    inputs = cases.draw_inputs(case, grad=True)
    calls = cases.padded_call(peer), cases.padded_call(ours)
    if case.ragged:
        lengths = cases.ragged_lengths(case.steps, case.batch)
        calls = cases.repacked_call(peer, lengths), cases.padded_call(ours, lengths=lengths)
    gradient = torch.randn(case.steps, case.batch, case.hidden_size)
    sides = [
        cases.training(layer, call, inputs, gradient)
        for layer, call in zip((peer, ours), calls, strict=True)
    ]
    torch.testing.assert_close(sides[1](0), sides[0](0), rtol=1e-3, atol=1e-4)
    return Row(f"{what}, {case.name}", f"torch.nn.{case.layer}", sides[1], sides[0])


def one_step_row(size: int) -> Row:
    """A sequence of one step and one row, as where a model answers one item after another."""
    torch.manual_seed(0)
    peer = torch.nn.LSTM(size, size)
    ours = seqfast.nn.LSTM(size, size)
    ours.load_state_dict(peer.state_dict())
    x, h, c = (torch.randn(1, 1, size) for _ in range(3))

    def call(layer: torch.nn.Module) -> Callable[[int], object]:
        def step(_: int) -> object:
            with torch.inference_mode():
                return layer(x, (h, c))

        return step

    torch.testing.assert_close(call(ours)(0), call(peer)(0), rtol=1e-3, atol=1e-4)
    return Row(f"one step of an LSTM, 1x1x{size}x{size}", "torch.nn.LSTM", call(ours), call(peer))


def text_words() -> Iterator[list[str]]:
    """Words of the comments and code of Python's standard library, again and again."""
    while True:
        for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
            text = file.read_text(encoding="utf-8", errors="replace").lower()
            words = re.findall(r"[a-z]+", text)
            for start in range(0, len(words), 40):
                yield words[start : start + 40]


def word_vectors_row(folder: Path, words: int) -> Row:
    """An epoch of skip-gram with negative sampling, which gensim reads from the same file."""
    path = folder / "words.txt"
    corpora.write(path, text_words(), words)
    threads = torch.get_num_threads()
    common: dict[str, Any] = {"vector_size": 100, "window": 5, "negative": 5, "min_count": 5}
    common |= {"sg": 1, "workers": threads, "seed": 1}
    # A rate that stays, as the same models train again and again.
    epoch: dict[str, Any] = {"epochs": 1, "start_alpha": 0.025, "end_alpha": 0.025}
    ours = seqfast.Word2Vec(progress=False, **common)
    ours.build_vocab(str(path))
    what = f"word vectors, {words // 1000},000 words"
    if importlib.util.find_spec("gensim") is None:
        return Row(what, "pip install gensim", lambda _: ours.train(**epoch), None)
    from gensim.models import Word2Vec

    peer = Word2Vec(**common)
    peer.build_vocab(corpus_file=str(path))
    totals = {"total_words": peer.corpus_total_words, "total_examples": peer.corpus_count}
    if len(peer.wv) != len(ours.index_to_key):
        raise AssertionError(f"{len(ours.index_to_key)} words, gensim has {len(peer.wv)}")
    return Row(
        what,
        "gensim",
        lambda _: ours.train(**epoch),
        lambda _: peer.train(corpus_file=str(path), **epoch, **totals),
    )


def beam_rows(sizes: Sizes) -> list[Row]:
    """A step of beam search against each of torch's two formulations of it."""
    torch.manual_seed(0)
    logits = [3 * torch.randn(sizes.batch * sizes.beams, sizes.vocabulary) for _ in range(4)]
    for one in logits:
        one[:, 0] = -30.0  # the end is never likely, so that all beams live on
    check_step(logits[0], sizes)
    scores = torch.empty(sizes.batch, sizes.beams).uniform_(-2, -1)
    beams = living_beams(sizes, "cpu")

    def ours(index: int) -> None:
        beams.step.zero_()
        beams.scores.copy_(scores)
        seqfast.ops.beam_search.beam_step(logits[index % len(logits)], beams)

    def against(peer: Callable[..., object]) -> Callable[[int], object]:
        return lambda index: peer(logits[index % len(logits)], scores)

    what = f"a step of beam search, {sizes}"
    return [Row(what, f"torch: {name}", ours, against(peer)) for name, peer in PEERS.items()]


def rows(folder: Path, toy: bool) -> Iterator[list[Row]]:
    """Each with its peers: the fastest of them counts."""
    small, long = ((3, 2, 8, 8),) * 2 if toy else ((100, 32, 128, 128), (200, 32, 128, 128))
    yield [layer_row("LSTM, training", cases.Case("demo", *small))]
    yield [layer_row("GRU, training", cases.Case("demo", *small, cell="gru"))]
    yield [layer_row("LSTM, training", cases.Case("demo", *long, ragged="lengths"))]
    yield [one_step_row(8 if toy else 256)]
    yield [word_vectors_row(folder, 3000 if toy else WORDS)]
    yield beam_rows(Sizes(2, 3, 40) if toy else Sizes(8, 5, 32000))


def milliseconds(value: float) -> str:
    return f"{value:.3f} ms" if value < 1 else f"{value:.1f} ms"


def measured(row: Row, seconds: float) -> dict[str, Any]:
    """Medians and the ratio; of ours alone where there is no peer."""
    duel = harness.Duel(row.ours, row.peer or (lambda _: None))
    duel.run(seconds, fewest=3 if seconds else 1)
    return duel.statistics()


def line(row: Row, found: dict[str, Any]) -> str:
    ours = milliseconds(found["ours_ms"])
    if row.peer is None:
        return f"{row.what:42} {'':>10} {ours:>10}         to compare: {row.against}"
    peer = milliseconds(found["peer_ms"])
    return f"{row.what:42} {peer:>10} {ours:>10} {found['ratio']:>7.2f} {row.against}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for the pairs of a row")
    parser.add_argument("--toy", action="store_true", help="tiny sizes: does it still run?")
    args = parser.parse_args(argv)
    seconds = 0.0 if args.toy else args.seconds
    name, threads = harness.cpu_name(harness.cpu_facts()), torch.get_num_threads()
    isa = seqfast.build_info()["cpu_isa"]
    print(f"\nOn this machine: {name}, {threads} threads, {isa} kernels, torch {torch.__version__}")
    print("Sizes: steps x batch x input x hidden; beam search: batch x beams x vocabulary.\n")
    print(f"{'':42} {'peer':>10} {'seqfast':>10} {'ratio':>7} peer is", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for several in rows(Path(folder), args.toy):
            found = [(row, measured(row, seconds / len(several))) for row in several]
            print(line(*min(found, key=lambda pair: pair[1]["ratio"])), flush=True)
    print(
        "\nRatio: time of the peer / time of seqfast, median of pairs; above 1 seqfast is faster."
    )
    print(NEXT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
