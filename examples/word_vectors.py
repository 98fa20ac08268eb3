"""Trains word vectors on text that every machine has: the documentation of its Python packages.

Docstrings, and files in .rst, .md and .txt, of the standard library and of whatever is installed
make a few million words. The vectors are then asked for neighbours and analogies, and drawn.

    word_vectors.py                    read, train, ask: a minute or two on two cores
    word_vectors.py --peer             the same by gensim beside it
    word_vectors.py --corpus FILE      of a text of your own, one sentence a line
"""

import ast
import multiprocessing
import re
import sys
import sysconfig
import time
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import seqfast
from seqfast.embeddings import plot, vectors

DOCUMENTS = (".rst", ".md", ".txt")
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
FEWEST_WORDS = 4  # of a paragraph; shorter ones are mostly headings and signatures
FILES_AT_ONCE = 100  # that a process reads before it reports

NEIGHBOURS_OF = ("array", "string", "file", "function", "error", "maximum", "first", "blue")
# a is to b as c is to ...
ANALOGIES = (
    "key keys value values",
    "file files directory directories",
    "row rows column columns",
    "min minimum max maximum",
    "returns return computes compute",
    "read reading write writing",
    "int integer str string",
    "small large low high",
    "minimum maximum lower upper",
    "array arrays tensor tensors",
    "node nodes edge edges",
    "sin cos sinh cosh",
    "open opened close closed",
    "red green yellow blue",
)
DRAWN = (
    "array matrix vector tensor list tuple dict set string bytes integer float boolean",
    "file directory path folder stream socket process thread",
    "min max minimum maximum sum mean median sin cos tan log exp",
    "return returns returned read write open close",
    "red green blue yellow black white",
    "one two three four five six",
)


# --- text ---------------------------------------------------------------------------------------


def documented_files() -> list[Path]:
    """Python files and documents of the standard library and of the installed packages."""
    packages = {"site-packages", "dist-packages"}
    folders = [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "platstdlib")]
    folders += [path for path in map(Path, sys.path) if path.name in packages]
    found: dict[Path, None] = {}
    for folder in dict.fromkeys(folders):
        for path in sorted(folder.rglob("*")):
            # Packages inside the library's folder may belong to another environment.
            inside = packages & set(path.relative_to(folder).parts)
            if path.suffix in (".py", *DOCUMENTS) and not inside:
                found[path] = None
    return list(found)


def files_in(folders: list[Path]) -> list[Path]:
    for folder in folders:
        if not folder.is_dir():
            sys.exit(f"word_vectors: no folder at {folder}")
    found = (path for folder in folders for path in sorted(folder.rglob("*")))
    return [path for path in dict.fromkeys(found) if path.suffix in (".py", *DOCUMENTS)]


def texts_of(path: Path) -> Iterator[str]:
    """A document as it stands, or a Python file's docstrings; nothing where it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError:
        return
    if path.suffix in DOCUMENTS:
        yield content.decode("utf-8", "replace")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files that are not ours
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield text


def paragraphs(text: str) -> Iterator[str]:
    """Their lower-case words; an example of the interpreter goes on to the end of its paragraph."""
    for block in re.split(r"\n\s*\n", text):
        prose = block.partition(">>>")[0]
        words = WORD.findall(prose.lower().replace("'s", ""))
        if len(words) >= FEWEST_WORDS:
            yield " ".join(words)


def read(paths: list[Path]) -> list[str]:
    """All paragraphs of some files, each once."""
    found = (line for path in paths for text in texts_of(path) for line in paragraphs(text))
    return list(dict.fromkeys(found))


def write_corpus(paths: list[Path], target: Path, processes: int) -> int:
    """Writes every paragraph once, one a line, and returns the number of words."""
    parts = [paths[start : start + FILES_AT_ONCE] for start in range(0, len(paths), FILES_AT_ONCE)]
    seen: set[str] = set()
    partial = target.with_suffix(".part")
    with ExitStack() as stack:
        done: Iterable[list[str]] = map(read, parts)
        if processes > 1 and len(parts) > 1:
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(processes, mp_context=context)
            done = stack.enter_context(pool).map(read, parts)
        file = stack.enter_context(partial.open("w", encoding="utf-8"))
        progress = tqdm(desc="reading", total=len(paths), unit=" files", disable=None)
        bar = stack.enter_context(progress)  # none where nobody looks
        words = 0
        for part, lines in zip(parts, done, strict=True):
            bar.update(len(part))
            for line in lines:
                if line not in seen:
                    seen.add(line)
                    file.write(line + "\n")
                    words += line.count(" ") + 1
    partial.replace(target)
    return words


# --- what was learnt ----------------------------------------------------------------------------


def print_neighbours(model: seqfast.Word2Vec, count: int) -> None:
    known = [word for word in NEIGHBOURS_OF if word in model]
    unknown = [word for word in NEIGHBOURS_OF if word not in model]
    if known:
        ids = [model.key_to_index[word] for word in known]
        _, found = vectors.most_similar(model.vectors, ids, min(count, len(model)))
        for word, row in zip(known, found, strict=True):
            print(f"  {word:12} {', '.join(model.index_to_key[i] for i in row if i >= 0)}")
    if unknown:
        print(f"  not in the vocabulary: {', '.join(unknown)}")


def rank_of(model: seqfast.Word2Vec, a: str, b: str, c: str, d: str) -> tuple[int, str]:
    """Where d stands among the answers to "a is to b as c is to ...", and what stands first."""
    question = np.array([[model.key_to_index[word] for word in (a, b, c)]])
    _, answers = vectors.analogy(model.vectors, question, len(model))
    order = answers[0].tolist()
    return order.index(model.key_to_index[d]) + 1, model.index_to_key[order[0]]


def print_analogies(model: seqfast.Word2Vec) -> None:
    """Also the ranks of those that fail: the right answer is known beforehand."""
    right = asked = 0
    for words in map(str.split, ANALOGIES):
        a, b, c, d = words
        if unknown := [word for word in words if word not in model]:
            print(f"  {a} : {b} = {c} : {d}, not asked: no {', '.join(unknown)} in the vocabulary")
            continue
        rank, best = rank_of(model, a, b, c, d)
        said = "right" if rank == 1 else f"{best}; {d} is number {rank}"
        print(f"  {a} : {b} = {c} : ?  {said}")
        asked += 1
        right += rank == 1
    print(f"  {right} of {asked} right")


# --- both libraries -----------------------------------------------------------------------------


def settings(args: Namespace) -> dict[str, Any]:
    names = ("window", "min_count", "sample", "epochs", "workers", "seed")
    return {"vector_size": args.size, "sg": 1, **{name: getattr(args, name) for name in names}}


def train_ours(args: Namespace, corpus: Path) -> seqfast.Word2Vec:
    return seqfast.Word2Vec(corpus, progress=sys.stderr.isatty(), **settings(args))


def train_peer(args: Namespace, corpus: Path) -> None:
    from gensim.models import Word2Vec

    Word2Vec(corpus_file=str(corpus), **settings(args))


def parse_args(argv: list[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, help="text to learn, one sentence a line")
    parser.add_argument("--docs", type=Path, nargs="+", help="folders to read in place of Python's")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the text")
    parser.add_argument("--size", type=int, default=100, help="numbers of a vector")
    parser.add_argument("--window", type=int, default=5, help="words on each side, at most")
    parser.add_argument("--min-count", type=int, default=10, help="rarer words are left out")
    parser.add_argument("--sample", type=float, default=1e-3, help="threshold of subsampling")
    parser.add_argument("--workers", type=int, default=2, help="threads, and processes that read")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--neighbours", type=int, default=6, help="of each word")
    parser.add_argument("--peer", action="store_true", help="train by gensim too: the speed ratio")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "output")
    args = parser.parse_args(argv)
    if args.corpus and args.docs:
        parser.error("--corpus and --docs exclude each other")
    for name in ("epochs", "size", "window", "workers", "neighbours"):
        if getattr(args, name) <= 0:
            parser.error(f"--{name} must be positive, got {getattr(args, name)}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    corpus = args.corpus
    if corpus is None:
        corpus = args.out / "word_vectors.txt"
        paths = files_in(args.docs) if args.docs else documented_files()
        start = time.perf_counter()
        words = write_corpus(paths, corpus, args.workers)
        seconds = time.perf_counter() - start
        print(f"{words:,} words of {len(paths):,} files in {seconds:.0f} s: {corpus}")

    start = time.perf_counter()
    try:
        model = train_ours(args, corpus)
    except (OSError, ValueError) as error:
        sys.exit(f"word_vectors: {error}")
    ours = time.perf_counter() - start
    read_words = model.corpus_total_words * args.epochs
    print(
        f"{len(model):,} different words; {args.epochs} epochs in {ours:.1f} s, "
        f"{read_words / ours:,.0f} words/s from the open file to the vectors"
    )
    if args.peer:
        start = time.perf_counter()
        train_peer(args, corpus)
        theirs = time.perf_counter() - start
        print(f"gensim: {theirs:.1f} s, {read_words / theirs:,.0f} words/s")
        print(f"speed, seqfast / gensim: {theirs / ours:.2f}")

    print("neighbours:")
    print_neighbours(model, args.neighbours)
    print("analogies:")
    print_analogies(model)

    stored = args.out / "word_vectors.safetensors"
    model.save(stored)
    print(f"vectors: {stored}")
    drawn = [word for group in DRAWN for word in group.split() if word in model]
    if len(drawn) > 2:
        picture = args.out / "word_vectors.png"
        plot(model, drawn).savefig(picture)
        print(f"plot: {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
