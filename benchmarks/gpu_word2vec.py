"""Measures seqfast's word vectors on a GPU against gensim on all cores of the same machine.

python -m benchmarks.gpu_word2vec --out DIR [--seconds N] [--repeats N] [--device cpu]

`--device cpu` is a self-test of this program: toy sizes on the CPU, figures that mean nothing.
Without gensim our own rates alone are measured, and stand in the result as `alone`.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import corpora, harness
from benchmarks.word2vec_quality import MODE_NAMES, MODES

SUITE = "word2vec_cuda"
SIZE, WINDOW = 128, 5
GOAL = 50.0  # of skip-gram with negative sampling
# In the order of their weight: what the time does not allow is left out from the end.
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("sg-ns", "", {}),
    ("cbow-ns", "", {}),
    ("sg-hs", "", {}),
    ("sg-ns", ", per-pair negatives", {"shared_negatives": False}),
    ("sg-ns", ", deterministic", {"deterministic": True}),
    ("cbow-hs", "", {}),
)


def settings(mode: str, toy: bool) -> dict[str, Any]:
    sizes = {"vector_size": 8, "window": 2} if toy else {"vector_size": SIZE, "window": WINDOW}
    return {**sizes, "min_count": 5, "sample": 1e-3, "seed": 1, **MODES[mode]}


def measure_ours(path: Path, mode: str, options: dict[str, Any], device: str) -> list[float]:
    """Seconds: the vocabulary and the ids, and then two epochs, of which the first warms up."""
    import seqfast

    times = [time.perf_counter()]
    model = seqfast.Word2Vec(
        device=device, progress=False, **settings(mode, device == "cpu"), **options
    )
    model.build_vocab(path)
    times.append(time.perf_counter())
    for _ in range(2):
        model.train(epochs=1)  # ends with the vectors on the host
        times.append(time.perf_counter())
    if not np.isfinite(model.vectors).all():
        raise ValueError("wrong: vectors that are not finite")
    return np.diff(times).tolist()


def measure_peer(path: Path, mode: str, workers: int, toy: bool) -> list[float]:
    """Seconds: the vocabulary, and then two epochs, of which the first warms up."""
    from gensim.models import Word2Vec

    times = [time.perf_counter()]
    model = Word2Vec(workers=workers, **settings(mode, toy))
    model.build_vocab(corpus_file=str(path))
    times.append(time.perf_counter())
    for _ in range(2):
        model.train(
            corpus_file=str(path),
            total_words=model.corpus_total_words,
            total_examples=model.corpus_count,
            epochs=1,
        )
        times.append(time.perf_counter())
    return np.diff(times).tolist()


def write_text(folder: Path, repeats: int, toy: bool) -> tuple[Path, int, str]:
    """The text `repeats` times over, the words of one time, and what it is."""
    once, repeated = folder / "once.txt", folder / "repeated.txt"
    if toy:
        words, name = corpora.write(once, corpora.drawn_lines(200), 5_000), "drawn words"
    elif corpora.is_there():
        words, name = corpora.write(once, corpora.lines()), "the corpus"
    else:
        words = corpora.write(once, corpora.drawn_lines(100_000), 4_000_000)
        name = "words drawn by Zipf's law"
    text = once.read_bytes()
    with repeated.open("wb") as file:
        for _ in range(repeats):
            file.write(text)
    return repeated, words, name


def row_of(
    mode: str, kind: str, case: str, ours: float, peer: float, facts: dict[str, Any]
) -> dict[str, Any]:
    """Seconds for the text once."""
    wanted = kind == "training" and case == MODE_NAMES["sg-ns"]
    return {
        "group": "goals",
        "case": case,
        "mode": kind,
        "dtype": "float32",
        "goal": GOAL if wanted else None,
        **facts,
        **harness.pair_statistics([ours], [peer]),
    }


def run(device: str, seconds: float, repeats: int, folder: Path) -> int:
    """Measures as many cases as the time allows; the result is whole on disk after every one."""
    deadline = time.monotonic() + seconds
    toy, cores = device == "cpu", harness.usable_cores()
    with_peer = importlib.util.find_spec("gensim") is not None
    packages = ("numpy", "torch", "gensim", "scipy") if with_peer else ("numpy", "torch")
    environment = harness.environment(cores, device, packages)
    result: dict[str, Any] = {
        "suite": SUITE,
        **environment,
        "repeats": repeats,
        "finished": False,
        "failures": {},
        "left_out": [],
        "alone": {},
        "rows": [],
    }
    if toy:
        result["self_test"] = True
    path = folder / harness.result_name(SUITE, environment)
    peers: dict[str, list[float]] = {}
    longest = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        path_of_text, words, text = write_text(Path(scratch), repeats, toy)
        facts = {"threads": cores, "words": words, "text": text}
        for mode, extra, options in CASES:
            case = MODE_NAMES[mode] + extra
            harness.write_json(path, result)
            if deadline - time.monotonic() < longest:
                result["left_out"].append(case)
                continue
            start = time.monotonic()
            try:
                vocabulary, _, training = measure_ours(path_of_text, mode, options, device)
                if with_peer and mode not in peers:
                    peers[mode] = measure_peer(path_of_text, mode, cores, toy)
            except Exception as error:  # one case must not take the others with it
                result["failures"][case] = f"{type(error).__name__}: {error}"
                print(f"{case}: FAILED: {error}", flush=True)
                continue
            longest = max(longest, time.monotonic() - start)
            result["alone"][case] = repeats * words / training
            print(f"{case}: {repeats * words / training:,.0f} words/s", end="", flush=True)
            if mode in peers:
                first, epoch = (peers[mode][0] / repeats, peers[mode][2] / repeats)
                trained = row_of(mode, "training", case, training / repeats, epoch, facts)
                everything = (vocabulary + training) / repeats, first + epoch
                result["rows"] += [trained, row_of(mode, "everything", case, *everything, facts)]
                print(f", gensim {words / epoch:,.0f} on {cores} cores", end="")
                print(f", ratio {trained['ratio']:.1f}", end="")
            print(flush=True)
    result["finished"] = True
    harness.write_json(path, result)
    print(f"{len(result['alone'])} cases, {len(result['failures'])} failed: {path}")
    return 1 if result["failures"] or not result["alone"] else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seconds", type=float, default=120.0, help="for all of it (120)")
    parser.add_argument("--repeats", type=int, default=2, help="of the text, for both sides (2)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: self-test")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f"--repeats must be positive, got {args.repeats}")
    if args.device == "cuda":
        import torch

        import seqfast

        if not torch.cuda.is_available():
            sys.exit("benchmarks.gpu_word2vec: torch sees no GPU")
        if seqfast.build_info()["cuda"] != "on":
            sys.exit("benchmarks.gpu_word2vec: seqfast was built without CUDA")
    return run(args.device, args.seconds, args.repeats, args.out)


if __name__ == "__main__":
    sys.exit(main())
