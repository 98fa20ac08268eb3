"""The command line of GloVe: the authors' four tools with their flags, and `train` for all four.

`python -m seqfast.embeddings.glove vocab_count|cooccur|shuffle|glove|train -flag value ...`
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from seqfast.embeddings import corpus
from seqfast.embeddings.command_line import (
    check_distinct,
    check_files,
    say,
    seconds_or_epoch,
    told_on_standard_error,
    usable_cores,
)
from seqfast.embeddings.files import PathLike, atomic_file
from seqfast.embeddings.formats.counts import load_counts, save_counts
from seqfast.embeddings.formats.word2vec import save_word2vec_format
from seqfast.embeddings.glove.cooccurrences import RECORD, Cooccurrences, count
from seqfast.embeddings.glove.model import GloVe
from seqfast.embeddings.glove.settings import OPERATION

PROGRAM = "glove"
_GIGABYTE = 1 << 30
_MODELS = {1: "words", 2: "sum"}
Options = argparse.Namespace


def main(arguments: list[str]) -> int:
    """Exit status: 0, 1 after an error, 2 for a wrong use, 130 after Ctrl-C."""
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    options = parser.parse_args(arguments)
    with told_on_standard_error(PROGRAM, getattr(options, "checkpoint", None)) as outcome:
        options.run(options.own_parser, options)
    return outcome.status


# ---- arguments ----


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM,
        description="GloVe (Pennington et al. 2014) with the tools and flags of its authors.",
        epilog="TOOL -h shows the flags of a tool. Words are separated by white space; bytes that "
        "are not UTF-8 become U+FFFD.",
    )
    tools = parser.add_subparsers(metavar="TOOL", required=True)

    def tool(name: str, text: str, run: Callable[..., None]) -> Callable[..., Any]:
        own = tools.add_parser(name, help=text, description=text, allow_abbrev=False)
        own.set_defaults(run=run, own_parser=own)
        own.add_argument("-verbose", type=int, default=2, help="0: quiet, 2: all (2)")
        return own.add_argument

    add = tool("vocab_count", "counts words of a text on standard input", _vocab_count)
    add("-max-vocab", type=int, default=0, help="largest number of words; 0: all (0)")
    add("-min-count", type=int, default=1, help="rarer words are left out (1)")

    add = tool("cooccur", "counts co-occurrences of a text on standard input", _cooccur)
    _add_counting(add)
    add("-vocab-file", default="vocab.txt", help="of vocab_count (vocab.txt)")
    for name in ("-max-product", "-overflow-length"):
        add(name, type=int, help="accepted, without effect")
    add("-overflow-file", default="overflow", help="where its folder has room for large counts")

    add = tool("shuffle", "shuffles co-occurrences on standard input", _shuffle)
    add("-memory", type=float, default=2.0, help="accepted, without effect: all are in memory")
    add("-array-size", type=int, help="accepted, without effect")
    add("-temp-file", help="accepted, without effect")
    add("-seed", type=int, default=1, help="of the shuffle (1)")

    add = tool("glove", "trains vectors on co-occurrences", _glove)
    add("-input-file", default="cooccurrence.shuf.bin", help="shuffled or not")
    add("-vocab-file", default="vocab.txt", help="of vocab_count (vocab.txt)")
    _add_training(add)

    add = tool("train", "all steps: reads a text, counts, trains", _train)
    add("-train", metavar="FILE", required=True, help="a text, one sentence per line")
    add("-min-count", type=int, default=5, help="rarer words are left out (5)")
    _add_counting(add)
    _add_training(add)
    return parser


def _add_counting(add: Callable[..., Any]) -> None:
    add("-symmetric", type=int, default=1, help="0: only words on the right (1)")
    add("-window-size", type=int, default=15, help="words on each side (15)")
    add("-distance-weighting", type=int, default=1, help="0: ignore distance (1)")
    add("-memory", type=float, default=4.0, help="gigabytes; more data goes to files (4)")


def _add_training(add: Callable[..., Any]) -> None:
    add("-save-file", default="vectors", help="of vectors, .txt or .bin is appended (vectors)")
    add("-vector-size", type=int, default=50, help="size of a vector (50)")
    add("-threads", type=int, help="threads (8, but at most the number of cores)")
    add("-iter", type=int, default=25, help="epochs (25)")
    add("-eta", type=float, default=0.05, help="learning rate (0.05)")
    add("-alpha", type=float, default=0.75, help="power of the weight (0.75)")
    add("-x-max", type=float, default=100.0, help="counts from here on have weight 1 (100)")
    add("-grad-clip", type=float, default=100.0, help="largest component of a gradient (100)")
    add("-binary", type=int, default=0, help="1: all parameters as float64, 2: text as well (0)")
    add("-model", type=int, default=2, help="1: word vectors, 2: plus context vectors (2)")
    add("-write-header", type=int, default=0, help="1: a first line of sizes (0)")
    add("-seed", type=int, default=1, help="of first values and the order (1)")
    add("--device", default="cpu", help="cpu, cuda or cuda:1 (cpu)")
    add("--checkpoint", metavar="FILE", help="written repeatedly, and at Ctrl-C")
    add("--checkpoint-every", metavar="SECONDS", default=600.0, type=seconds_or_epoch,
        help="or epoch (600)")  # fmt: skip
    add("--resume", action="store_true", help="continue from --checkpoint, if it exists")


# ---- the tools ----


def _vocab_count(parser: argparse.ArgumentParser, options: Options) -> None:
    found = corpus.count("/dev/stdin")
    counted = zip(found.words, found.counts.tolist(), strict=True)
    kept = [(word, number) for word, number in counted if number >= options.min_count]
    if options.max_vocab:
        kept = kept[: options.max_vocab]
    kept.sort(key=lambda one: (-one[1], one[0].encode()))
    with _standard_output() as out:
        out.write("".join(f"{word} {number}\n" for word, number in kept).encode())
    _report(options, f"{len(kept)} words")


def _cooccur(parser: argparse.ArgumentParser, options: Options) -> None:
    vocabulary = _vocabulary(options)
    found = count(
        corpus.encode("/dev/stdin", vocabulary),
        vocabulary.words,
        window=options.window_size,
        symmetric=bool(options.symmetric),
        distance_weighting=bool(options.distance_weighting),
        memory_limit=int(options.memory * _GIGABYTE),
        cache_folder=os.path.dirname(options.overflow_file) or None,
    )
    with _standard_output() as out:
        for records in found.records():
            out.write(records.data)
    _report(options, f"{len(found.columns)} co-occurrences")


def _shuffle(parser: argparse.ArgumentParser, options: Options) -> None:
    data = sys.stdin.buffer.read()
    if len(data) % RECORD.itemsize:
        raise ValueError(
            f"standard input must be records of {RECORD.itemsize} bytes, got {len(data)} bytes"
        )
    records = np.frombuffer(data, RECORD)
    order = np.random.default_rng(options.seed).permutation(len(records))
    with _standard_output() as out:
        for begin in range(0, len(records), 1 << 20):
            out.write(records[order[begin : begin + (1 << 20)]].tobytes())
    _report(options, f"{len(records)} records")


def _glove(parser: argparse.ArgumentParser, options: Options) -> None:
    model = _model(parser, options)
    check_files(read=(options.input_file, options.vocab_file), written=_written(options))
    vocabulary = _vocabulary(options)
    counted = Cooccurrences.load_c_format(options.input_file, vocabulary.words)
    resumed = _resumed(model, options)
    if resumed is None:
        model.state.set_vocabulary(vocabulary, False, None)
        model.train(cooccurrences=counted)
    else:
        model = resumed
        if model.state.run is not None:
            model.train(cooccurrences=counted, resume=True)
    _write(model, options)


def _train(parser: argparse.ArgumentParser, options: Options) -> None:
    model = _model(
        parser,
        options,
        min_count=options.min_count,
        window=options.window_size,
        symmetric=bool(options.symmetric),
        distance_weighting=bool(options.distance_weighting),
        memory_limit=int(options.memory * _GIGABYTE),
    )
    check_files(read=(options.train,), written=_written(options))
    resumed = _resumed(model, options)
    if resumed is None:
        model.build_vocab(options.train)
        model.train()
    else:
        model = resumed
        model.finish_run(options.train)
    save_counts(f"{options.save_file}.vocab", model.index_to_key, model.counts.tolist())
    _write(model, options)


# ---- what they share ----


def _vocabulary(options: Options) -> corpus.Vocabulary:
    """Of the file, in its order: a word's line is its number."""
    counts = load_counts(options.vocab_file)
    if not counts:
        raise ValueError(f"{options.vocab_file} must have words with their counts, got none")
    return corpus.Vocabulary(list(counts), np.fromiter(counts.values(), np.int64, len(counts)))


def _model(parser: argparse.ArgumentParser, options: Options, **more: Any) -> GloVe:
    """The model, without words yet; exits where arguments cannot be."""
    if options.resume and not options.checkpoint:
        parser.error("--resume needs --checkpoint")
    if options.model not in _MODELS:
        parser.error(f"-model must be 1 or 2, got {options.model}")
    if options.binary not in (0, 1, 2):
        parser.error(f"-binary must be 0, 1 or 2, got {options.binary}")
    check_distinct(parser, {f"the file {name}": name for name in _written(options) if name})
    threads = options.threads if options.threads is not None else min(8, usable_cores())
    try:
        return GloVe(
            vector_size=options.vector_size,
            workers=threads,
            epochs=options.iter,
            learning_rate=options.eta,
            alpha=options.alpha,
            x_max=options.x_max,
            grad_clip=options.grad_clip,
            combine=_MODELS[options.model],
            seed=options.seed,
            device=options.device,
            checkpoint=options.checkpoint,
            checkpoint_every=options.checkpoint_every,
            progress=options.verbose > 1,
            **more,
        )
    except (TypeError, ValueError) as error:
        parser.error(str(error).removeprefix(f"{OPERATION}: "))


def _written(options: Options) -> tuple[str | None, ...]:
    text = f"{options.save_file}.txt" if options.binary != 1 else None
    return text, f"{options.save_file}.bin" if options.binary else None, options.checkpoint


def _resumed(asked: GloVe, options: Options) -> GloVe | None:
    """The model of the checkpoint, if there is one, and it was made with the same arguments."""
    if not options.resume or not os.path.exists(options.checkpoint):
        return None
    model = GloVe.load(
        options.checkpoint,
        workers=asked.workers,
        device=asked.device,
        progress=asked.progress,
        checkpoint=asked.checkpoint,
        checkpoint_every=asked.checkpoint_every,
    )
    wanted = vars(asked.state.settings)
    for name, kept in vars(model.state.settings).items():
        if kept != wanted[name]:
            raise ValueError(
                f"{options.checkpoint} was made with {name} = {kept}, --resume got {wanted[name]}"
            )
    return model


def _write(model: GloVe, options: Options) -> None:
    if options.binary != 1:
        save_word2vec_format(
            f"{options.save_file}.txt",
            model.vectors,
            model.index_to_key,
            model.counts,
            write_header=bool(options.write_header),
        )
    if options.binary:
        _write_binary(f"{options.save_file}.bin", model)
    _report(options, f"{len(model)} vectors in {options.save_file}")


def _write_binary(path: PathLike, model: GloVe) -> None:
    """All parameters as the C program writes them: words then contexts, each with its bias."""
    width = model.vector_size + 1
    with atomic_file(path) as file:
        for name in ("word_rows", "context_rows"):
            file.write(model.state.matrices[name][:, :width].astype("<f8").tobytes())


def _standard_output() -> BinaryIO:
    return os.fdopen(os.dup(sys.stdout.fileno()), "wb")


def _report(options: Options, text: str) -> None:
    if options.verbose:
        say(PROGRAM, text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
