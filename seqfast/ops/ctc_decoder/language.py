"""The language beside a CTC search, as the arrays that the kernels read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from seqfast import _C
from seqfast.ops.base.arrays import library_of
from seqfast.ops.base.checks import check_array, check_whole
from seqfast.ops.ctc_decoder.arguments import CtcLanguage, CtcNgram, CtcTree

Array = np.ndarray[Any, Any]


class Tree(NamedTuple):
    """A tree whose nodes' children lie together, after their parents and by rising label.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops.ctc_decoder import Tree
        >>> starts = np.array([0, 2, 2, 2], np.int32)  # a root with two children
        >>> Tree(starts, np.array([3, 5], np.int32)).labels[0]
        np.int32(3)
    """

    starts: Array  # [nodes + 1] int32: the children of node n are starts[n] + 1 to starts[n + 1]
    labels: Array  # [nodes - 1] int32, of node 1, 2, ...


class Ngram(NamedTuple):
    """The tables of an n-gram model, as `seqfast.decoding.NGram.tables` gives them.

    Example:
        >>> from seqfast.decoding import NGram
        >>> NGram.train(["a b", "a c"], order=2).tables().tree.starts[:2]
        array([0, 6], dtype=int32)
    """

    tree: Tree  # by numbers of words; a state is a node
    logprobs: Array  # [nodes] float64
    backoffs: Array  # [nodes] float64
    suffixes: Array  # [nodes] int64
    first_longest: int  # node from which on none has children


class Model(Protocol):
    """A language model of the user's own: anything that can be called so.

    It may also have `final(prefixes, lengths, rows)`, which returns [n], the log-probability that a
    transcript ends there. It is asked at the end of each row, for all prefixes that are left.

    Example:
        >>> import numpy as np
        >>> def uniform(prefixes, lengths, rows):
        ...     return np.full((len(lengths), 3), np.log(1 / 3))
    """

    def __call__(self, prefixes: Array, lengths: Array, rows: Array, /) -> Any:
        """[n, vocab], the log-probability of each token after each prefix.

        Args:
            prefixes: [n, longest] int64; behind its length a prefix holds the blank.
            lengths: [n] int64.
            rows: [n] int64, which row of the batch each prefix is of.
        """


@dataclass(frozen=True, eq=False)
class Language:
    """What a prefix is worth beside its alignments: words, an n-gram model, hotwords.

    See the comment beside each field.

    Everything is added to a prefix's score; `alpha` and `beta` are the weight of the model and what
    each of its words (or tokens) adds. Letters have numbers that all trees share.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops.ctc_decoder import Language
        >>> letters = np.arange(3, dtype=np.int32)
        >>> Language(np.array([0, 0, 1, 2], np.int32), letters[:2]).boundary
        -1
    """

    letter_starts: Array  # [vocab + 1] int32
    letters: Array  # int32, of all tokens, without the mark that begins a word
    begins: Array | None = None  # [vocab] uint8, whether a token begins a word
    boundary: int = -1  # the token that ends a word
    words: Tree | None = None  # by letters
    word_of: Array | None = None  # [nodes] int32: the model's number of a word; -1 none
    flags: Array | None = None  # [nodes] uint8: 1, 2 a known word ends, goes through; 4, 8 lexicon
    lexicon: bool = False  # only words of the lexicon
    ngram: Ngram | None = None  # of words, or of tokens
    start: int = 0  # the model's first state
    unknown: int = 0  # the model's number of the unknown word
    end: int = -1  # and of the end of a sentence; -1: sentences do not end
    token_words: Array | None = None  # [vocab] int32: numbers of tokens; None: it is of words
    alpha: float = 1.0  # weight of the model
    beta: float = 0.0  # added for each of its words or tokens
    unknown_word: float = 0.0  # added for each unknown word
    unknown_part: float = 0.0  # and while a word in progress can only become one
    part_length: float = float("inf")  # longer parts: by their length over this one
    hotwords: Tree | None = None  # by letters; a child of the root for each set
    hot_roots: Array | None = None  # [batch] int32: a node for each row; -1 none
    hot_parts: Array | None = None  # [nodes] float64: what the part of a word is worth
    hot_words: Array | None = None  # [nodes] float64: and the whole word

    def check(self, operation: str, batch: int) -> None:
        """Types and sizes of the arrays, which kernels rely on; what the trees hold is trusted."""
        starts = self.letter_starts
        vocab = len(starts) - 1
        _check(operation, "letter_starts", starts, np.int32, vocab + 1)
        if starts[0] != 0 or (np.diff(starts) < 0).any():
            raise ValueError(
                f"{operation}: language.letter_starts must begin with 0 and not fall, got {starts}"
            )
        _check(operation, "letters", self.letters, np.int32, int(starts[-1]))
        check_whole(operation, "language.boundary", self.boundary, -1, vocab - 1)
        if self.begins is not None:
            _check(operation, "begins", self.begins, np.uint8, vocab)
        if self.words is not None:
            nodes = _check_tree(operation, "words", self.words)
            _check(operation, "word_of", self.word_of, np.int32, nodes)
            _check(operation, "flags", self.flags, np.uint8, nodes)
        if self.token_words is not None:
            _check(operation, "token_words", self.token_words, np.int32, vocab)
        if self.ngram is not None or self.token_words is not None:
            self._check_ngram(operation)
        if self.hotwords is not None or self.hot_roots is not None:
            self._check_hotwords(operation, batch)

    def _check_ngram(self, operation: str) -> None:
        if self.ngram is None:
            raise ValueError(f"{operation}: language.ngram must be given with token_words")
        nodes = _check_tree(operation, "ngram.tree", self.ngram.tree)
        _check(operation, "ngram.logprobs", self.ngram.logprobs, np.float64, nodes)
        _check(operation, "ngram.backoffs", self.ngram.backoffs, np.float64, nodes)
        _check(operation, "ngram.suffixes", self.ngram.suffixes, np.int64, nodes)
        check_whole(operation, "language.start", self.start, 0, nodes - 1, "a node of the model")

    def _check_hotwords(self, operation: str, batch: int) -> None:
        if self.hotwords is None:
            raise ValueError(f"{operation}: language.hotwords must be given with hot_roots")
        nodes = _check_tree(operation, "hotwords", self.hotwords)
        _check(operation, "hot_parts", self.hot_parts, np.float64, nodes)
        _check(operation, "hot_words", self.hot_words, np.float64, nodes)
        _check(operation, "hot_roots", self.hot_roots, np.int32, batch)
        assert self.hot_roots is not None
        low, high = self.hot_roots.min(initial=-1), self.hot_roots.max(initial=-1)
        if low < -1 or high >= nodes:
            raise ValueError(
                f"{operation}: language.hot_roots must be nodes from 0 to {nodes - 1}, or -1, "
                f"got {low if low < -1 else high}"
            )

    def arguments(self) -> CtcLanguage:
        """Addresses: valid as long as this is."""
        ngram = self.ngram
        return CtcLanguage(
            letter_starts=_address(self.letter_starts),
            letters=_address(self.letters),
            begins=_address(self.begins),
            boundary=self.boundary,
            words=_tree(self.words),
            word_of=_address(self.word_of),
            flags=_address(self.flags),
            lexicon=self.lexicon,
            ngram=CtcNgram(
                tree=_tree(ngram and ngram.tree),
                logprobs=_address(ngram and ngram.logprobs),
                backoffs=_address(ngram and ngram.backoffs),
                suffixes=_address(ngram and ngram.suffixes),
                first_longest=ngram.first_longest if ngram else 0,
                start=self.start,
                unknown=self.unknown,
                end=self.end,
            ),
            token_words=_address(self.token_words),
            alpha=self.alpha,
            beta=self.beta,
            unknown_word=self.unknown_word,
            unknown_part=self.unknown_part,
            part_length=self.part_length,
            hotwords=_tree(self.hotwords),
            hot_roots=_address(self.hot_roots),
            hot_parts=_address(self.hot_parts),
            hot_words=_address(self.hot_words),
            # What the next letter gives, the kernel sees for itself.
            best_part=_largest(self.hot_parts) if np.diff(self.letter_starts).max() > 1 else 0.0,
            best_word=_largest(self.hot_words),
        )


def _check(operation: str, name: str, array: Any, dtype: Any, size: int) -> None:
    numpy, name = library_of(np.empty(0), operation, name), f"language.{name}"
    check_array(numpy, operation, name, array, array, (size,), np.dtype(dtype))
    if not numpy.fits(array, array, np.dtype(dtype), (size,)):
        raise ValueError(
            f"{operation}: {name} must be contiguous, got strides {array.strides}: "
            "pass np.ascontiguousarray of it"
        )


def _check_tree(operation: str, name: str, tree: Tree) -> int:
    """How many nodes it has."""
    nodes = len(tree.starts) - 1
    _check(operation, f"{name}.starts", tree.starts, np.int32, nodes + 1)
    _check(operation, f"{name}.labels", tree.labels, np.int32, max(nodes - 1, 0))
    return nodes


def _address(array: Array | None) -> int:
    return 0 if array is None else _C.numpy_address(array)


def _tree(tree: Tree | None) -> CtcTree:
    return CtcTree() if tree is None else CtcTree(_address(tree.starts), _address(tree.labels))


def _largest(array: Array | None) -> float:
    return 0.0 if array is None else max(0.0, float(array.max()))
