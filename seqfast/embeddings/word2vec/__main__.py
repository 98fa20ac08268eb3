"""word2vec.c's command line: `python -m seqfast.embeddings.word2vec -train FILE -output FILE`."""

from __future__ import annotations

import argparse
import os
import sys

from seqfast.embeddings.command_line import (
    check_classes_can_be_found,
    check_distinct,
    check_files,
    seconds_or_epoch,
    told_on_standard_error,
    usable_cores,
    write_classes,
)
from seqfast.embeddings.files import atomic_file
from seqfast.embeddings.formats.counts import load_counts, save_counts
from seqfast.embeddings.formats.word2vec import write_as_word2vec_c
from seqfast.embeddings.word2vec.model import Word2Vec
from seqfast.embeddings.word2vec.settings import OPERATION

PROGRAM = "word2vec"


def main(arguments: list[str]) -> int:
    """Exit status: 0, 1 after an error, 2 for a wrong use, 130 after Ctrl-C."""
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    options = parser.parse_args(arguments)
    if options.train == "-":
        options.train = "/dev/stdin"
    with told_on_standard_error(PROGRAM, options.checkpoint) as outcome:
        _train(_model(parser, options), options)
    return outcome.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM,
        description="Trains word vectors (Mikolov et al. 2013) with the arguments of word2vec.c.",
        epilog="Unlike in word2vec.c, a line of any length is one sentence, the end of a line is "
        "not a word (</s>), and bytes that are not UTF-8 become U+FFFD.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "-train",
        metavar="FILE",
        required=True,
        help="text, one sentence per line; .gz, .bz2, .xz, .zst; a folder of these; -: standard "
        "input",
    )
    add("-output", metavar="FILE", help="word vectors, or classes of words")
    add("-size", type=int, default=100, help="size of a vector (100)")
    add("-window", type=int, default=5, help="words on each side, at most (5)")
    add("-sample", type=float, default=1e-3, help="threshold of subsampling (1e-3)")
    add("-hs", type=int, default=0, help="1: hierarchical softmax (0)")
    add("-negative", type=int, default=5, help="negative samples, 0: none (5)")
    add("-threads", type=int, help="threads (12, but at most the number of cores)")
    add("-iter", type=int, default=5, help="epochs (5)")
    add("-min-count", type=int, default=5, help="rarer words are left out (5)")
    add("-alpha", type=float, help="learning rate (0.025, with CBOW 0.05)")
    add("-classes", type=int, default=0, help="write this many word classes, not vectors (0)")
    add("-debug", type=int, default=2, help="0: quiet, 1: summary, 2: progress (2)")
    add("-binary", type=int, default=0, help="1: vectors as float32 (0)")
    add("-save-vocab", metavar="FILE", help="write words and counts")
    add("-read-vocab", metavar="FILE", help="read words and counts instead of counting")
    add("-cbow", type=int, default=1, help="1: continuous bag of words, 0: skip-gram (1)")
    ours = parser.add_argument_group("not in word2vec.c")
    add = ours.add_argument
    add("--seed", type=int, default=1, help="of initial vectors and all draws (1)")
    add("--deterministic", action="store_true", help="the same result with any number of threads")
    add("--mean-cbow", action="store_true", help="CBOW's exact gradient (-alpha 0.025)")
    add("--per-pair-negatives", action="store_true", help="draw negatives as word2vec.c does")
    add("--device", default="cpu", help="cpu, cuda or cuda:1 (cpu)")
    add("--checkpoint", metavar="FILE", help="written repeatedly, and at Ctrl-C")
    add(
        "--checkpoint-every",
        metavar="SECONDS",
        default=600.0,
        type=seconds_or_epoch,
        help="or epoch (600)",
    )
    add("--encoding", default="utf-8", help="of the text (utf-8)")
    add(
        "--errors",
        choices=("replace", "ignore", "strict"),
        help="invalid bytes: U+FFFD without warning, leave out, or stop (default: U+FFFD and a "
        "warning)",
    )
    add("--resume", action="store_true", help="continue from --checkpoint, if it exists")
    return parser


def _model(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Word2Vec:
    """The model, without words yet; exits where arguments cannot be."""
    if not options.output and not options.save_vocab:
        parser.error("one of -output and -save-vocab is required")
    if options.resume and not options.checkpoint:
        parser.error("--resume needs --checkpoint")
    written = {
        "-output": options.output,
        "-save-vocab": options.save_vocab,
        "--checkpoint": options.checkpoint,
    }
    check_distinct(parser, written)
    for name in ("binary", "cbow", "hs"):
        if getattr(options, name) not in (0, 1):
            parser.error(f"-{name} must be 0 or 1, got {getattr(options, name)}")
    if options.classes < 0:
        parser.error(f"-classes must be at least 0, got {options.classes}")
    alpha = options.alpha
    if alpha is None:
        alpha = 0.025 if not options.cbow or options.mean_cbow else 0.05
    threads = options.threads
    if threads is None:
        threads = min(12, usable_cores())
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
            encoding=options.encoding,
            errors=options.errors,
        )
    except (TypeError, ValueError) as error:
        parser.error(str(error).removeprefix(f"{OPERATION}: "))


def _train(model: Word2Vec, options: argparse.Namespace) -> None:
    check_files(
        read=(options.train, options.read_vocab),
        written=(options.output, options.save_vocab, options.checkpoint),
    )
    if options.classes:
        check_classes_can_be_found()
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
    if options.debug:
        print(f"Vocab size: {len(model)}", flush=True)
        print(f"Words in train file: {model.counts.sum()}", flush=True)
    if options.classes > len(model):
        raise ValueError(f"-classes must be at most the {len(model)} words, got {options.classes}")
    if options.save_vocab:
        save_counts(options.save_vocab, model.index_to_key, model.counts.tolist())
    if not options.output:
        return
    if resumed is not None:
        # Encodes the text, which a checkpoint does not carry, and finds out if it is another one.
        model.finish_run(options.train)
    else:
        model.train(options.train if options.read_vocab else None)
    with atomic_file(options.output) as file:
        if options.classes:
            write_classes(file, model, options.classes, seed=model.seed)
        else:
            write_as_word2vec_c(file, model.index_to_key, model.vectors, bool(options.binary))


def _resumed(asked: Word2Vec, options: argparse.Namespace) -> Word2Vec:
    """The model of the checkpoint, if it was made with the same arguments."""
    model = Word2Vec.load(
        options.checkpoint,
        workers=asked.workers,
        device=asked.device,
        progress=asked.progress,
        encoding=asked.encoding,
        errors=asked.errors,
        checkpoint=asked.checkpoint,
        checkpoint_every=asked.checkpoint_every,
    )
    wanted_settings = vars(asked.state.settings)
    for name, kept in vars(model.state.settings).items():
        wanted = wanted_settings[name]
        if kept != wanted and name != "cbow_step":  # older files have none
            raise ValueError(
                f"{options.checkpoint} was made with {name} = {kept}, --resume got {wanted}"
            )
    return model


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
