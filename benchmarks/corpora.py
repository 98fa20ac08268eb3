"""Text that the benchmarks of word vectors read: the corpus of the goals, or drawn words."""

from __future__ import annotations

import lzma
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.harness import ROOT

# About 12.0 million words: part of the English Wikipedia of 2018, 106 old articles, the factbook.
PARTS = ("wiki2018", "enwiki-first106", "factbook")
LONGEST = 1000  # words of a line; longer ones are cut, so that nothing has to cut them otherwise


def data_folder() -> Path:
    """Of the shared data: beside the checkout, or where SEQFAST_DATA says."""
    return Path(os.environ.get("SEQFAST_DATA") or ROOT.parent / "shared" / "data")


def is_there() -> bool:
    return all(part_file(name).is_file() for name in PARTS)


def part_file(name: str) -> Path:
    return data_folder() / "w2v" / f"{name}.norm.txt.xz"


def lines() -> Iterator[list[str]]:
    """The words of the corpus of the goals, at most LONGEST at a time."""
    for name in PARTS:
        with lzma.open(part_file(name), "rt", encoding="utf-8") as file:
            for line in file:
                words = line.split()
                for start in range(0, len(words), LONGEST):
                    yield words[start : start + LONGEST]


def drawn_lines(types: int, seed: int = 0) -> Iterator[list[str]]:
    """Without end: words w0, w1, ... drawn by Zipf's law, 20 in a line."""
    generator = np.random.default_rng(seed)
    share = np.cumsum(1 / np.arange(1, types + 1))
    names = [f"w{number}" for number in range(types)]
    while True:
        draws = generator.random((1000, 20)) * share[-1]
        for line in np.searchsorted(share, draws):
            yield [names[number] for number in line]


def write(path: Path, source: Iterator[list[str]], most: int | None = None) -> int:
    """Writes a sentence a line until `most` words are there; returns how many. All or nothing."""
    count = 0
    partial = path.with_suffix(".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", encoding="utf-8") as file:
        for words in source:
            wanted = words if most is None else list(islice(words, most - count))
            file.write(" ".join(wanted) + "\n")
            count += len(wanted)
            if count == most:
                break
    partial.replace(path)
    return count
