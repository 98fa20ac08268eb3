"""Trees of letters: of a vocabulary's tokens, the words of a model or lexicon, and hotwords."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from seqfast.decoding.ngram import BEGIN, END, UNKNOWN, NGram
from seqfast.ops.base.checks import check_number
from seqfast.ops.ctc_decoder import Tree

Array = np.ndarray[Any, Any]

KNOWN, KNOWN_PART, WORD, WORD_PART = 1, 2, 4, 8  # the flags of csrc/core/ctc_decoder.h


def codes_of(words: Sequence[str]) -> tuple[Array, Array]:
    """Code points of all words one after the other, and how many each has."""
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    return np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), np.uint32), lengths


def tree_of(
    words: Sequence[str], letters: Array, groups: Array | None = None
) -> tuple[Tree, Array]:
    """The tree of words by letters (sorted code points, all of theirs), and each word's node.

    `groups`: whose root, a child of the root, each word hangs from.
    """
    codes, lengths = codes_of(words)
    labels = np.searchsorted(letters, codes)
    offsets = np.cumsum(lengths) - lengths
    nodes = np.zeros(len(words), np.int64)
    parents, names, made = [], [], 1
    if groups is not None:
        nodes, made = 1 + groups, 2 + int(groups.max(initial=-1))
        parents, names = [np.zeros(made - 1, np.int64)], [np.arange(made - 1)]
    for depth in range(int(lengths.max(initial=0))):
        here = np.flatnonzero(lengths > depth)
        keys = nodes[here] * len(letters) + labels[offsets[here] + depth]
        different, which = np.unique(keys, return_inverse=True)
        nodes[here] = made + which
        parents.append(different // len(letters))
        names.append(different % len(letters))
        made += len(different)
    parent = np.concatenate([*parents, np.zeros(0, np.int64)])
    starts = np.concatenate([[0], np.cumsum(np.bincount(parent, minlength=made))])
    label = np.concatenate([*names, np.zeros(0, np.int64)])
    return Tree(starts.astype(np.int32), label.astype(np.int32)), nodes


def parents_of(tree: Tree) -> Array:
    """Of each node; the root is its own."""
    counts = np.diff(tree.starts)
    return np.concatenate([[0], np.repeat(np.arange(len(counts)), counts)])


def upwards(tree: Tree, values: Array, join: np.ufunc) -> Array:
    """Each node's value joined with those of all below it."""
    result, parents = values.copy(), parents_of(tree)
    # Nodes are numbered level by level: the end of a level is where the children of its end are.
    level = [1]
    while level[-1] < len(parents):
        level.append(int(tree.starts[level[-1]]) + 1)
    for begin, end in reversed(list(itertools.pairwise(level))):
        join.at(result, parents[begin:end], result[begin:end])
    return result


def lm_words(lm: NGram) -> list[str]:
    """The words that can be written; the others are no transcript's."""
    return [word for word in lm.vocabulary if word not in (UNKNOWN, BEGIN, END)]


def word_tree(
    lm: NGram | None, known: Iterable[str] | None, lexicon: Sequence[str], letters: Array
) -> tuple[Tree, Array, Array]:
    """The tree of all words, the model's number of each node's word, and its flags."""
    of_model = [] if lm is None else lm_words(lm)
    words = [*of_model, *lexicon]
    tree, nodes = tree_of(words, letters)
    word_of = np.full(len(tree.starts) - 1, -1, np.int32)
    flags = np.zeros(len(word_of), np.uint8)
    if lm is not None:
        word_of[nodes[: len(of_model)]] = lm.ids(of_model)
        counted = nodes[: len(of_model)]
        if known is not None:
            chosen = frozenset(known)
            counted = counted[np.fromiter((w in chosen for w in of_model), bool, len(of_model))]
        flags[counted] |= KNOWN | KNOWN_PART
    flags[nodes[len(of_model) :]] |= WORD | WORD_PART
    parts = upwards(tree, flags & np.uint8(KNOWN_PART | WORD_PART), np.bitwise_or)
    return tree, word_of, flags | parts


class HotwordTrees:
    """The hotwords of all rows in one tree; rows with the same words share a root."""

    def __init__(self, rows: Sequence[Mapping[str, float]], letters: Array) -> None:
        self.roots = np.full(len(rows), -1, np.int32)
        sets = {frozenset(row.items()): row for row in rows if row}
        numbers = {key: number for number, key in enumerate(sets)}
        words: list[str] = []
        weights: list[float] = []
        groups: list[int] = []
        for key, row in sets.items():
            for word, weight in row.items():
                words.append(word)
                weights.append(weight)
                groups.append(numbers[key])
        self.tree, nodes = tree_of(words, letters, np.array(groups, np.int64))
        count = len(self.tree.starts) - 1
        self.whole = np.zeros(count)
        self.whole[nodes] = weights
        # A part has its share of the hotword that gives it most.
        shares = np.full(count, -np.inf)
        np.maximum.at(shares, nodes, np.array(weights) / np.array([len(word) for word in words]))
        depth = np.zeros(count)
        parents = parents_of(self.tree)
        for node in range(1, count):
            depth[node] = depth[parents[node]] + 1
        self.parts = upwards(self.tree, shares, np.maximum) * np.maximum(depth - 1, 0)
        self.parts[depth <= 1] = 0
        for row_number, row in enumerate(rows):
            if row:
                self.roots[row_number] = 1 + numbers[frozenset(row.items())]


def hotword_rows(
    operation: str, hotwords: Any, weight: float, batch: int
) -> list[dict[str, float]]:
    """What each row is to hear, word by word, from words for all rows or for each."""
    if isinstance(hotwords, (str, bytes)):
        raise TypeError(
            f"{operation}: hotwords must be a list of words, got {hotwords!r}: pass [{hotwords!r}]"
        )
    if isinstance(hotwords, Mapping):
        return [_weights(operation, "hotwords", hotwords, weight)] * batch
    given = list(hotwords)
    if all(isinstance(word, str) for word in given):
        return [_weights(operation, "hotwords", given, weight)] * batch
    if len(given) != batch:
        raise ValueError(
            f"{operation}: hotwords must be words for all rows, or one list for each of the "
            f"{batch} rows, got {len(given)} lists"
        )
    return [
        {} if row is None else _weights(operation, f"hotwords[{number}]", row, weight)
        for number, row in enumerate(given)
    ]


def _weights(operation: str, name: str, words: Any, weight: float) -> dict[str, float]:
    if isinstance(words, (str, bytes)) or not isinstance(words, Iterable):
        raise TypeError(f"{operation}: {name} must be a list of words, got {words!r}")
    pairs = words.items() if isinstance(words, Mapping) else ((word, weight) for word in words)
    result: dict[str, float] = {}
    for phrase, value in pairs:
        if not isinstance(phrase, str):
            raise TypeError(f"{operation}: {name} must be words, got {phrase!r}")
        number = check_number(operation, f"{name}[{phrase!r}]", value)
        parts = phrase.split()
        if not parts:
            raise ValueError(
                f"{operation}: {name} must be words, got {phrase!r}: leave out what is empty"
            )
        for word in parts:
            result[word] = max(number, result.get(word, number))
    return result
