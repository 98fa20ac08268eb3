"""word2vec.c's command line: `python -m seqfast.embeddings.word2vec -train FILE -output FILE`."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import warnings
from typing import Any, BinaryIO

import numpy as np

from seqfast.embeddings import _settings
from seqfast.embeddings._files import atomic_file, check_writable
from seqfast.embeddings.formats import load_counts
from seqfast.embeddings.word2vec import Word2Vec

PROGRAM = "word2vec"
_FAILURES = (OSError, ValueError, RuntimeError, ImportError, ArithmeticError, MemoryError)


def main(arguments: list[str]) -> int:
    """Exit status: 0, 1 after an error, 2 for a wrong use, 130 after Ctrl-C."""
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = _show_warning
        try:
            model = _model(parser, options)
            return _run(model, options)
        except KeyboardInterrupt:
            kept = options.checkpoint and os.path.exists(options.checkpoint)
            _say(
                f"interrupted; --resume goes on from {options.checkpoint}"
                if kept
                else "interrupted; there are no vectors"
            )
            return 130
        except _FAILURES as error:
            _say(f"error: {error or type(error).__name__}")
            return 1


def _say(text: str) -> None:
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _say(f"warning: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM,
        description="Trains word vectors (Mikolov et al. 2013) with the arguments of word2vec.c.",
        epilog="Unlike word2vec.c, a line is one sentence whatever its length, ends of lines are "
        "no word (</s>), and bytes that are no UTF-8 become U+FFFD.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-train", metavar="FILE", required=True, help="text, one sentence a line; .gz, .bz2, .xz")
    add("-output", metavar="FILE", help="word vectors, or classes of words")
    add("-size", type=int, default=100, help="columns of a vector (100)")
    add("-window", type=int, default=5, help="words on each side, at most (5)")
    add("-sample", type=float, default=1e-3, help="threshold of subsampling (1e-3)")
    add("-hs", type=int, default=0, help="1: hierarchical softmax (0)")
    add("-negative", type=int, default=5, help="negative samples, 0: none (5)")
    add("-threads", type=int, help="threads (12, or as many as there are cores)")
    add("-iter", type=int, default=5, help="epochs (5)")
    add("-min-count", type=int, default=5, help="rarer words are left out (5)")
    add("-alpha", type=float, help="learning rate (0.025, with CBOW 0.05)")
    add("-classes", type=int, default=0, help="write so many classes of words, not vectors (0)")
    add("-debug", type=int, default=2, help="0: quiet, 1: summary, 2: progress (2)")
    add("-binary", type=int, default=0, help="1: vectors as float32 (0)")
    add("-save-vocab", metavar="FILE", help="write words and counts")
    add("-read-vocab", metavar="FILE", help="read words and counts, do not count")
    add("-cbow", type=int, default=1, help="1: continuous bag of words, 0: skip-gram (1)")
    ours = parser.add_argument_group("beyond word2vec.c")
    add = ours.add_argument
    add("--seed", type=int, default=1, help="of first vectors and all draws (1)")
    add("--deterministic", action="store_true", help="the same result with any number of threads")
    add("--mean-cbow", action="store_true", help="CBOW's true gradient (-alpha 0.1)")
    add("--per-pair-negatives", action="store_true", help="draw negatives as word2vec.c does")
    add("--device", default="cpu", help="cpu, cuda or cuda:1 (cpu)")
    add("--checkpoint", metavar="FILE", help="replaced now and then, and at Ctrl-C")
    add("--checkpoint-every", metavar="SECONDS", default=600.0, type=_every, help="or epoch (600)")
    add("--resume", action="store_true", help="go on from --checkpoint, if it is there")
    return parser


def _every(text: str) -> float | str:
    return text if text == "epoch" else float(text)


def _model(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Word2Vec:
    """The model, without words yet; exits where arguments cannot be."""
    if not options.output and not options.save_vocab:
        parser.error("one of -output and -save-vocab is required")
    if options.resume and not options.checkpoint:
        parser.error("--resume needs --checkpoint")
    _check_distinct(parser, options)
    for name in ("binary", "cbow", "hs"):
        if getattr(options, name) not in (0, 1):
            parser.error(f"-{name} must be 0 or 1, got {getattr(options, name)}")
    if options.classes < 0:
        parser.error(f"-classes must be at least 0, got {options.classes}")
    alpha = options.alpha
    if alpha is None:
        alpha = 0.025 if not options.cbow else 0.1 if options.mean_cbow else 0.05
    threads = options.threads
    if threads is None:
        threads = min(12, _cores())
    try:
        return Word2Vec(
            vector_size=options.size,
            window=options.window,
            sample=options.sample,
            hs=options.hs,
            negative=options.negative,
            workers=threads,
            epochs=options.iter,
            min_count=options.min_count,
            alpha=alpha,
            min_alpha=alpha * 1e-4,
            sg=1 - options.cbow,
            legacy_cbow=not options.mean_cbow,
            shared_negatives=not options.per_pair_negatives,
            seed=options.seed,
            deterministic=options.deterministic,
            device=options.device,
            checkpoint=options.checkpoint,
            checkpoint_every=options.checkpoint_every,
            progress=options.debug > 1,
        )
    except (TypeError, ValueError) as error:
        parser.error(str(error).removeprefix("Word2Vec: "))


def _check_distinct(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    written = {
        "-output": options.output,
        "-save-vocab": options.save_vocab,
        "--checkpoint": options.checkpoint,
    }
    given = [(name, path) for name, path in written.items() if path]
    for (one, path), (other, again) in itertools.combinations(given, 2):
        # A device takes all of it; in a file what is written last would replace the rest.
        special = os.path.exists(path) and not os.path.isfile(path)
        if not special and _same_file(path, again):
            parser.error(f"{one} and {other} must be different files, got {path} for both")


def _same_file(one: str, other: str) -> bool:
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run(model: Word2Vec, options: argparse.Namespace) -> int:
    _check_files(options)
    if options.classes:
        from sklearn.cluster import KMeans  # noqa: F401 - not found out after the training
    if options.debug:
        print(f"Starting training using file {options.train}", flush=True)
    resumed = None
    if options.resume and os.path.exists(options.checkpoint):
        resumed = _resumed(model, options)
        model = resumed
    elif options.read_vocab:
        counts = load_counts(options.read_vocab)
        # word2vec.c counts ends of lines as a word, which never comes here.
        counts.pop("</s>", None)
        model.build_vocab_from_freq(counts)
    else:
        model.build_vocab(options.train)
    if invalid := model.vocabulary.invalid_bytes:
        _say(f"warning: {options.train} has {invalid} bytes that are no UTF-8, read as U+FFFD")
    if options.debug:
        print(f"Vocab size: {len(model)}", flush=True)
        print(f"Words in train file: {model.counts.sum()}", flush=True)
    if options.classes > len(model):
        raise ValueError(f"-classes must be at most the {len(model)} words, got {options.classes}")
    if options.save_vocab:
        with atomic_file(options.save_vocab) as file:
            for word, count in zip(model.index_to_key, model.counts.tolist(), strict=True):
                file.write(f"{word} {count}\n".encode())
    if not options.output:
        return 0
    if resumed is not None:
        # Encodes the text, which a checkpoint does not carry, and finds out if it is another one.
        model._go_on(options.train)
    else:
        model.train(options.train if options.read_vocab else None)
    with atomic_file(options.output) as file:
        if options.classes:
            _write_classes(file, model, options.classes)
        else:
            write_vectors(file, model.index_to_key, model.vectors, bool(options.binary))
    return 0


def _check_files(options: argparse.Namespace) -> None:
    """What cannot be written is found out before the training, not after it."""
    for path in (options.output, options.save_vocab, options.checkpoint):
        if path is None:
            continue
        check_writable(path)
        for source in (options.train, options.read_vocab):
            if source and os.path.exists(path) and os.path.samefile(path, source):
                raise ValueError(f"{path} is read, so it must not be written")


def _resumed(asked: Word2Vec, options: argparse.Namespace) -> Word2Vec:
    """The model of the checkpoint, if it was made with the same arguments."""
    model = Word2Vec.load(
        options.checkpoint,
        workers=asked.workers,
        device=asked.device,
        progress=asked.progress,
        checkpoint=asked.checkpoint,
        checkpoint_every=asked.checkpoint_every,
    )
    for name in _settings.NAMES:
        kept, wanted = getattr(model, name), getattr(asked, name)
        if kept != wanted:
            raise ValueError(
                f"{options.checkpoint} was made with {name} = {kept}, --resume got {wanted}"
            )
    return model


def write_vectors(file: BinaryIO, words: list[str], vectors: Any, binary: bool) -> None:
    """Byte for byte as word2vec.c: a space after every number, a newline after every word."""
    size = vectors.shape[1]
    file.write(b"%d %d\n" % vectors.shape)
    layout = "%f " * size + "\n"
    for word, row in zip(words, vectors, strict=True):
        file.write(f"{word} ".encode())
        if binary:
            file.write(np.ascontiguousarray(row, "<f4").tobytes() + b"\n")
        else:
            file.write((layout % tuple(row.tolist())).encode())


def _write_classes(file: BinaryIO, model: Word2Vec, classes: int) -> None:
    """K-means of the directions of the vectors, a word and its class a line."""
    from sklearn.cluster import KMeans

    vectors = np.array(model.vectors)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    clusters = KMeans(classes, n_init=1, random_state=model.seed % 2**32).fit_predict(vectors)
    for word, cluster in zip(model.index_to_key, clusters.tolist(), strict=True):
        file.write(f"{word} {cluster}\n".encode())
