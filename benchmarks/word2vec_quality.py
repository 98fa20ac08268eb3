"""Trains word vectors by gensim and by seqfast on one text, and compares how good they are.

python -m benchmarks.word2vec_quality [--modes sg-ns,cbow-ns] [--sides gensim,seqfast] [--quick]
    [--device cuda] [--same-arguments]

Every model is trained in a process of its own and kept in --cache, so that an interrupted run goes
on where it was. One evaluator scores both sides: seqfast's, which gives what gensim's does
(tests/embeddings/test_vectors.py) in a twentieth of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import seqfast
from benchmarks import corpora, harness
from seqfast.embeddings import WordVectors

SUITE = "word2vec_quality"
MODES: dict[str, dict[str, int]] = {
    "sg-ns": {"sg": 1, "hs": 0, "negative": 5},
    "cbow-ns": {"sg": 0, "hs": 0, "negative": 5},
    "sg-hs": {"sg": 1, "hs": 1, "negative": 0},
    "cbow-hs": {"sg": 0, "hs": 1, "negative": 0},
}
# What code written for gensim passes; both sides are given the same (--same-arguments).
ARGUMENTS: dict[str, dict[str, Any]] = {
    f"{mode}-{alpha}": {**MODES[mode], "alpha": alpha}
    for mode in ("cbow-ns", "cbow-hs")
    for alpha in (0.05, 0.025)
}
ARGUMENTS_SUITE, ARGUMENTS_EPOCHS = "word2vec_arguments", 3
MODE_NAMES = {
    "sg-ns": "skip-gram, negative sampling",
    "cbow-ns": "CBOW, negative sampling",
    "sg-hs": "skip-gram, hierarchical softmax",
    "cbow-hs": "CBOW, hierarchical softmax",
}
MODE_NAMES |= {
    mode: f"{MODE_NAMES[mode.rpartition('-')[0]]}, alpha={options['alpha']}"
    for mode, options in ARGUMENTS.items()
}
PEER = "gensim"
# What each side asks of seqfast beyond the settings that both have, and in which modes.
SIDES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    PEER: ({}, tuple(MODES)),
    "seqfast": ({}, tuple(MODES)),
    "per-pair negatives": ({"shared_negatives": False}, ("sg-ns",)),
    "alpha 0.025": ({"alpha": 0.025}, ("cbow-ns", "cbow-hs")),
    "legacy_cbow": ({"legacy_cbow": True}, ("cbow-ns", "cbow-hs")),
    "deterministic": ({"deterministic": True}, tuple(MODES)),
}
SINGLE = ("alpha 0.025", "deterministic")  # sides of which one seed is enough
SETTINGS = {"vector_size": 100, "window": 5, "sample": 1e-3}
PAIRS = {
    "WordSim-353": "EN-WS-353-ALL.txt",
    "SimLex-999": "EN-SIMLEX-999.txt",
    "MEN": "EN-MEN-TR-3k.txt",
    "RareWord": "EN-RW-STANFORD.txt",
}
ANALOGIES = {"analogies": "questions-words.txt"}
KNOWN = 30_000  # the commonest words, to which the analogies are restricted


def version_of(library: str) -> str:
    """Also of a checkout that is not installed."""
    return metadata.version(PEER) if library == PEER else str(seqfast.__version__)


@dataclass(frozen=True)
class Job:
    """One training; what stands here is all that its result depends on, but for chance."""

    mode: str
    side: str
    seed: int
    epochs: int
    workers: int
    min_count: int
    corpus: str
    corpus_bytes: int
    device: str = "cpu"

    @property
    def name(self) -> str:
        library = PEER if self.side == PEER else "seqfast"
        parts = (self.mode, self.side, f"seed{self.seed}", f"epochs{self.epochs}")
        parts += () if self.device == "cpu" else (self.device,)
        parts += (f"min{self.min_count}", f"workers{self.workers}", f"bytes{self.corpus_bytes}")
        parts += (f"{library}{version_of(library)}",)
        return "_".join(parts).replace(" ", "-")


# --- training, in a process of its own ----------------------------------------------------------


def train(job: Job, path: Path) -> None:
    """Writes the words, falling by count, and their vectors to `path`."""
    options: dict[str, Any] = {
        **SETTINGS,
        **(MODES | ARGUMENTS)[job.mode],
        "min_count": job.min_count,
        "epochs": job.epochs,
        "workers": job.workers,
        "seed": job.seed,
    }
    start = time.perf_counter()
    if job.side == PEER:
        from gensim.models import Word2Vec

        model = Word2Vec(corpus_file=job.corpus, **options)
        vectors, words = model.wv.vectors, model.wv.index_to_key
    else:
        extra, _ = SIDES[job.side]
        model = seqfast.Word2Vec(job.corpus, progress=False, device=job.device, **options, **extra)
        vectors, words = model.vectors, model.index_to_key
    seconds = time.perf_counter() - start
    if not np.isfinite(vectors).all():
        raise ValueError(f"word2vec_quality: {job.name} has vectors that are not finite")
    partial = path.with_suffix(".part.npz")
    np.savez(partial, vectors=vectors, words=np.array(words), seconds=seconds)
    partial.replace(path)


def train_apart(job: Job, path: Path) -> None:
    """gensim as it is meant to run: as many threads as workers, its BLAS starts none besides."""
    command = [sys.executable, "-m", "benchmarks.word2vec_quality", "--train"]
    command += [json.dumps(asdict(job)), "--cache", str(path)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    environment["OMP_NUM_THREADS"] = str(job.workers if job.side != PEER else 1)
    subprocess.run(command, cwd=harness.ROOT, env=environment, check=True)


# --- scores -------------------------------------------------------------------------------------


def evaluate(words: list[str], vectors: np.ndarray, folder: Path) -> dict[str, float]:
    """Spearman's correlation for pairs, the right share for analogies."""
    keyed = WordVectors(words, vectors)
    scores = {
        name: float(keyed.evaluate_word_pairs(folder / file).spearman[0])
        for name, file in PAIRS.items()
    }
    for name, file in ANALOGIES.items():
        scores[name] = float(keyed.evaluate_word_analogies(folder / file, KNOWN)[0])
    return scores


def finish(job: Job, cache: Path, folder: Path) -> dict[str, Any]:
    """The scores of `job`, from the cache where they are there."""
    scored = cache / f"{job.name}.json"
    if scored.exists():
        known: dict[str, Any] = json.loads(scored.read_text(encoding="utf-8"))
        return known
    trained = cache / f"{job.name}.npz"
    if not trained.exists():
        train_apart(job, trained)
    with np.load(trained) as found:
        words, vectors, seconds = found["words"].tolist(), found["vectors"], float(found["seconds"])
    result = {
        "seed": job.seed,
        "scores": evaluate(words, vectors, folder),
        "seconds": seconds,
        "words": len(words),
        "commit": harness.commit(),
    }
    harness.write_json(scored, result)
    return result


# --- verdicts -----------------------------------------------------------------------------------


def spread(scores: list[float]) -> float:
    return max(scores) - min(scores)


def verdict(peer: list[float], ours: list[float]) -> str:
    """Whether our mean is within the range of gensim's seeds from gensim's mean, above or below."""
    difference = statistics.mean(ours) - statistics.mean(peer)
    if abs(difference) <= spread(peer):
        return "within"
    return "above" if difference > 0 else "below"


def score_text(name: str, scores: list[float]) -> str:
    """Mean and half the range: `0.561 ± 0.004`, of analogies in per cent."""
    factor, digits = (100.0, 1) if name in ANALOGIES else (1.0, 3)
    text = f"{factor * statistics.mean(scores):.{digits}f}"
    if len(scores) > 1:
        text += f" ± {factor * spread(scores) / 2:.{digits}f}"
    return text + (" %" if name in ANALOGIES else "")


def table_lines(rows: list[dict[str, Any]], peer: str = PEER) -> list[list[str]]:
    """A head and a line for each mode and side; what is below the peer's seed noise in bold."""
    names = [*PAIRS, *ANALOGIES]
    lines = [["", "seeds", *names]]
    for row in rows:
        peers = [r for r in rows if (r["mode"], r["case"]) == (row["mode"], peer)]
        cells = [
            f"{MODE_NAMES.get(row['mode'], row['mode'])}: {row['case']}",
            str(len(row["seeds"])),
        ]
        for name in names:
            scores = row["scores"][name]
            text = score_text(name, scores)
            if peers and row["case"] != peer and len(peers[0]["seeds"]) > 1:
                found = verdict(peers[0]["scores"][name], scores)
                text = f"**{text}, below**" if found == "below" else text
                text += ", above" if found == "above" else ""
            cells.append(text)
        lines.append(cells)
    return lines


def print_table(lines: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *rest in lines:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]))


# --- the run ------------------------------------------------------------------------------------


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    of_same = f"with --same-arguments of {','.join(ARGUMENTS)}"
    parser.add_argument("--modes", help=f"some of {','.join(MODES)}; {of_same}")
    parser.add_argument(
        "--same-arguments", action="store_true", help="CBOW as code for gensim calls it, both sides"
    )
    parser.add_argument("--sides", help=f"some of {','.join(SIDES)}")
    parser.add_argument("--seeds", type=int, default=3, help="models of each kind (3)")
    parser.add_argument("--peer-seeds", type=int, help="models of gensim (as many)")
    parser.add_argument("--epochs", type=int, help="5; with --same-arguments 3")
    parser.add_argument("--workers", type=int, default=2, help="threads of both sides (2)")
    parser.add_argument("--peer-workers", type=int, help="threads of gensim (those of both sides)")
    parser.add_argument("--min-count", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of seqfast (cpu)")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch")
    parser.add_argument("--fresh", action="store_true", help="train seqfast's models again")
    parser.add_argument("--corpus", type=Path, help="text to train on; else the shared corpus")
    parser.add_argument("--evaluation", type=Path, help="folder of the test sets; else the shared")
    parser.add_argument(
        "--cache", type=Path, default=harness.ROOT / "build" / SUITE, help="finished models"
    )
    parser.add_argument("--results", type=Path, help="folder of the results; a partial run too")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    same = args.same_arguments
    args.epochs = args.epochs or (ARGUMENTS_EPOCHS if same else 5)
    sides: dict[str, Any] = {PEER: 0, "seqfast": 0} if same else SIDES
    for name, known in (("modes", ARGUMENTS if same else MODES), ("sides", sides)):
        chosen = list(known) if getattr(args, name) is None else getattr(args, name).split(",")
        if unknown := set(chosen) - set(known):
            parser.error(f"--{name}: got {sorted(unknown)}, wanted some of {list(known)}")
        setattr(args, name, [each for each in known if each in chosen])
    if args.quick:
        args.seeds = args.epochs = 1
    args.peer_seeds = args.seeds if args.peer_seeds is None else args.peer_seeds
    args.peer_workers = args.workers if args.peer_workers is None else args.peer_workers
    for name in ("seeds", "epochs", "workers", "peer_workers", "peer_seeds", "min_count"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be positive, got {getattr(args, name)}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.train:
        train(Job(**json.loads(args.train)), args.cache)
        return 0
    evaluation = args.evaluation or corpora.data_folder() / "embed-eval"
    wanted = [evaluation / file for file in (*PAIRS.values(), *ANALOGIES.values())]
    if missing := [str(path) for path in wanted if not path.is_file()]:
        sys.exit(f"word2vec_quality: not there: {', '.join(missing)}; --evaluation says where")
    args.cache.mkdir(parents=True, exist_ok=True)
    corpus = args.corpus or args.cache / "corpus.txt"
    if args.corpus is None and not corpus.exists():
        if not corpora.is_there():
            sys.exit(f"word2vec_quality: no corpus in {corpora.data_folder()}; --corpus names one")
        corpora.write(corpus, corpora.lines())
    if not corpus.is_file():
        sys.exit(f"word2vec_quality: no corpus at {corpus}")

    rows: list[dict[str, Any]] = []
    for mode in args.modes:
        done: dict[str, list[dict[str, Any]]] = {}
        for seed in range(1, max(args.seeds, args.peer_seeds) + 1):
            for side in args.sides:
                if side in SINGLE and seed > 1:
                    continue
                if mode not in SIDES[side][1] and not args.same_arguments:
                    continue
                if seed > (args.peer_seeds if side == PEER else args.seeds):
                    continue
                job = Job(
                    mode,
                    side,
                    seed,
                    args.epochs,
                    args.peer_workers if side == PEER else args.workers,
                    args.min_count,
                    str(corpus.resolve()),
                    corpus.stat().st_size,
                    "cpu" if side == PEER else args.device,
                )
                if args.fresh and side != PEER:
                    for suffix in (".json", ".npz"):
                        (args.cache / f"{job.name}{suffix}").unlink(missing_ok=True)
                found = finish(job, args.cache, evaluation)
                scores = ", ".join(f"{k} {score_text(k, [s])}" for k, s in found["scores"].items())
                print(f"{mode} {side} {seed}: {found['seconds']:.0f} s; {scores}", flush=True)
                done.setdefault(side, []).append(found)
        for side in args.sides:
            if models := done.get(side):
                names = models[0]["scores"]
                rows.append(
                    {
                        "group": "quality",
                        "mode": mode,
                        "case": side,
                        "seeds": [model["seed"] for model in models],
                        "scores": {n: [m["scores"][n] for m in models] for n in names},
                        "seconds": [model["seconds"] for model in models],
                        "commits": sorted({model["commit"] for model in models}),
                    }
                )
    print_table(table_lines(rows))
    same = args.same_arguments
    whole = args.corpus is None and not args.quick and args.seeds >= 3
    whole = whole and args.epochs == (ARGUMENTS_EPOCHS if same else 5)
    whole = whole and args.modes == list(ARGUMENTS if same else MODES)
    whole = whole and (same or args.sides == list(SIDES))
    if not whole and args.results is None:
        print("partial run: results not written (--results DIR does)")
        return 0
    packages = ("gensim", "numpy", "scipy")
    environment = harness.environment(args.workers, args.device, packages)
    environment |= {"epochs": args.epochs, "peer_workers": args.peer_workers}
    environment["corpus_bytes"] = corpus.stat().st_size
    suite = ARGUMENTS_SUITE if same else SUITE
    path = harness.write_results(suite, rows, environment, args.results or harness.RESULTS)
    print(f"results: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
