"""Word vectors in plain NumPy: what `seqfast.ops.word2vec` must compute, window by window."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seqfast.reference._philox import Words, philox, words_of_units

__all__ = [
    "alias_table",
    "first_vectors",
    "huffman_paths",
    "keep_thresholds",
    "rounds_of",
    "train",
]

Array = npt.NDArray[Any]
Alias = tuple[Array, Array]
Paths = tuple[Array, Array, Array]

_ROUND = 256  # tokens
_BATCH = 32  # tokens of a deterministic batch; a round is a whole number of them
# Streams: the last word of a counter.
_SUBSAMPLE, _WINDOW, _FIRST_VECTORS = 0xF0000000, 0xF1000000, 0xF2000000
_ONE = 2**32
_ALWAYS = 2**32 - 1


def train(
    ids: Array,
    offsets: Array,
    input: Array,
    output: Array | None = None,
    nodes: Array | None = None,
    *,
    size: int,
    cbow: bool = False,
    window: int = 5,
    negative: int = 5,
    shared_negatives: bool = True,
    shrink_windows: bool = True,
    cbow_mean: bool = True,
    legacy_cbow: bool = False,
    deterministic: bool = False,
    keep: Array | None = None,
    alias: Alias | None = None,
    paths: Paths | None = None,
    locked: Array | None = None,
    seed: int = 1,
    epoch: int = 0,
    tokens_before: int = 0,
    tokens_total: int | None = None,
    alpha: float = 0.025,
    min_alpha: float = 1e-4,
    first_round: int = 0,
    last_round: int | None = None,
    threads: int | None = None,
) -> tuple[Array, Array, Array]:
    """Trains word vectors on rounds `first_round` to `last_round` of a corpus (docs/equations.md).

    Skip-gram and CBOW (Mikolov et al. 2013a) with negative sampling, hierarchical softmax (Mikolov
    et al. 2013b), both, or the full softmax where `negative` is 0 and `paths` is None.

    - `ids` int32 [tokens], below the number of words V; `offsets` int64 [sentences + 1], from 0 to
      tokens.
    - `input`, `output` float32 [V, stride] and `nodes` float32 [max(V - 1, 1), stride] are changed
      in place, in their first `size` columns: the words as contexts, the words as centres (with
      negatives, or the full softmax) and the inner nodes of the hierarchy (with `paths`).
    - `window`: words on each side, at most; with `shrink_windows` drawn from 1 to `window`.
    - `shared_negatives`: the contexts of a window share its negatives; else each pair has its own.
      A window of CBOW has one set in any case.
    - `legacy_cbow`: each context gets the whole gradient of the mean, as in word2vec.c and gensim.
    - `deterministic`: a batch is 32 tokens; else it is a window, or a pair where
      `shared_negatives` is False.
    - `keep` uint32 [V] of `keep_thresholds`; `alias` of `alias_table`, for negatives; `paths` of
      `huffman_paths`; `locked` uint8 or bool [V]: rows of `input` that are not trained.
    - `seed` int64, `epoch` below 2**32: what is drawn depends on them and on places in the corpus.
    - Round r's learning rate lies between `alpha` and `min_alpha` as `tokens_before + 256 * r` lies
      between 0 and `tokens_total` (None: the tokens of the corpus).
    - `threads` is for the fast twin.

    Returns for each round `loss` float64, the sum over its examples in nats; `kept` int64, tokens
    left by subsampling; `examples` int64, pairs (skip-gram) or windows (CBOW) trained. Windows are
    computed in float64.

    Arguments and results are those of
    `seqfast.ops.word2vec.functions.train`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import word2vec
        >>> vectors, centres = np.zeros((2, 4, 16), np.float32)
        >>> word2vec.first_vectors(vectors[:, :8], seed=1)
        >>> ids, offsets = np.array([0, 1, 2, 3], np.int32), np.array([0, 4])
        >>> table = word2vec.alias_table(np.ones(4))
        >>> loss, kept, _ = word2vec.train(ids, offsets, vectors, centres, size=8, alias=table)
        >>> kept
        array([4])
    """
    settings = _Settings(
        cbow,
        window,
        negative,
        shared_negatives,
        shrink_windows,
        cbow_mean,
        legacy_cbow,
        softmax=negative == 0 and paths is None,
    )
    model = _Model(
        input[:, :size],
        None if output is None else output[:, :size],
        None if nodes is None else nodes[:, :size],
        np.zeros(len(input), np.bool_) if locked is None else np.asarray(locked, np.bool_),
        paths,
    )
    draws = _Draws(seed, epoch)
    corpus = _kept_corpus(ids, offsets, keep, draws)
    if last_round is None:
        last_round = rounds_of(len(ids))
    total = len(ids) if tokens_total is None else tokens_total

    loss = np.zeros(last_round - first_round, np.float64)
    kept, examples = (np.zeros(last_round - first_round, np.int64) for _ in range(2))
    for i, r in enumerate(range(first_round, last_round)):
        rate = _learning_rate(alpha, min_alpha, (tokens_before + _ROUND * r) / total)
        tokens = range(_ROUND * r, _ROUND * (r + 1), _BATCH if deterministic else _ROUND)
        for first in tokens:
            windows = _windows(first, first + tokens.step, corpus, settings, alias, draws)
            kept[i] += len(windows)
            waiting = []
            for example in _examples(windows, settings):
                changes = _changes(example, model, settings, rate)
                loss[i] += changes.loss
                examples[i] += changes.examples
                if deterministic:
                    waiting.append(changes)
                else:
                    _apply(changes, model)
            for changes in waiting:
                _apply(changes, model)
    return loss, kept, examples


def rounds_of(tokens: int) -> int:
    """Rounds of a corpus of so many tokens: 256 tokens each, the last one may have less.

    Arguments and results are those of
    `seqfast.ops.word2vec.functions.rounds_of`.

    Example:
        >>> from seqfast.reference.word2vec import rounds_of
        >>> rounds_of(1000)
        4
    """
    return -(-tokens // _ROUND)


def first_vectors(
    vectors: Array, seed: int, first_row: int = 0, *, threads: int | None = None
) -> None:
    """Fills `vectors`, float32 [rows, size], from (-0.5, 0.5) / size, as word2vec.c and gensim do.

    Column c of row r, the first of which has the number `first_row`, is drawn by the word of unit c
    of row r and step 0 (docs/equations.md), and lies in the middle of one of 2**23 intervals.
    `threads` is for the fast twin.

    Arguments and results are those of
    `seqfast.ops.word2vec.functions.first_vectors`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference.word2vec import first_vectors
        >>> vectors = np.empty((3, 10), np.float32)
        >>> first_vectors(vectors, seed=1)
        >>> bool(abs(vectors).max() < 0.05)
        True
    """
    rows, size = vectors.shape
    numbers = first_row + np.arange(rows)
    (words,) = words_of_units(seed, _FIRST_VECTORS, 1, numbers, size)
    middle = ((words >> np.uint32(9)) + 0.5) * 2.0**-23 - 0.5
    vectors[...] = middle.astype(np.float32) / np.float32(size)


def keep_thresholds(counts: Array, sample: float) -> Words:
    """Of each word what its random number may be at most for an occurrence to be kept: uint32 [V].

    Mikolov et al. 2013b, in the form of word2vec.c and gensim: with f a word's share of `counts`
    [V] and s = `sample`, it is kept with probability (sqrt(f / s) + 1) * s / f, at most 1. From 1
    on, as in gensim, int(s * (3 + sqrt(5)) / 2) takes the place of s times the sum of the counts.
    0: all are kept.

    Arguments and results are those of
    `seqfast.ops.word2vec.functions.keep_thresholds`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference.word2vec import keep_thresholds
        >>> keep_thresholds(np.array([10_000, 5]), 1e-3).argmax()
        np.int64(1)
    """
    counts = np.maximum(np.asarray(counts, np.float64), 1)
    if sample == 0:
        return np.full(len(counts), _ALWAYS, np.uint32)
    limit = sample * counts.sum() if sample < 1 else int(sample * (3 + math.sqrt(5)) / 2)
    share = counts / limit
    probability = (np.sqrt(share) + 1) / share
    threshold = np.clip(np.round(probability * _ONE) - 1, 0, _ALWAYS)
    return np.asarray(threshold.astype(np.uint32))


def alias_table(weights: Array) -> Alias:
    """`(threshold uint32 [V], other int32 [V])`: number i is drawn as its share of `weights` [V].

    Walker 1977, filled in one sweep (Vose 1991; in this order Hübschle-Schneider & Sanders 2019):
    all places are drawn alike, and place i gives i where a random 32-bit number is at most
    threshold[i], else other[i]. Weights are float64, rounded to multiples of 2**-32 of their mean,
    one multiple at least; what rounding leaves over goes to the first of the largest. From there
    on the arithmetic is exact. Places with less than the mean are filled up, in rising order of i,
    by the first that has more, until that has no more than the mean itself; what it may then be
    short of comes from the next of those that have at least the mean, also in rising order. A
    place that needs no filling is its own other.

    Arguments and results are those of
    `seqfast.ops.word2vec.functions.alias_table`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference.word2vec import alias_table
        >>> alias_table(np.array([1.0, 3.0]))[1].tolist()
        [1, 1]
    """
    shares = _shares(np.asarray(weights, np.float64))
    threshold = np.full(len(shares), _ALWAYS, np.uint32)
    other = np.arange(len(shares), dtype=np.int32)

    def fill(place: int, giver: int) -> None:
        if shares[place] < _ONE:
            threshold[place], other[place] = shares[place] - 1, giver
            shares[giver] -= _ONE - shares[place]

    givers = iter([i for i, share in enumerate(shares) if share >= _ONE])
    giver = next(givers, 0)
    for place in [i for i, share in enumerate(shares) if share < _ONE]:
        while shares[giver] <= _ONE:
            following = next(givers)
            fill(giver, following)
            giver = following
        fill(place, giver)
    for following in givers:
        fill(giver, following)
        giver = following
    return threshold, other


def _shares(weights: Array) -> list[int]:
    """Whole numbers in proportion to the weights, 2**32 on average."""
    if not len(weights):
        return []
    whole = len(weights) * _ONE
    rounded = np.maximum(np.round(weights / weights.sum() * whole), 1).astype(np.int64)
    rounded[np.argmax(weights)] += whole - rounded.sum()
    return [int(share) for share in rounded]


def huffman_paths(counts: Array) -> Paths:
    """`(offsets int64 [V + 1], nodes int32 [..], codes uint8 [..])`: the way to each word.

    Huffman 1952: the two smallest by `counts` [V] are made one, until there is one, which is the
    root. Of equal counts words come before inner nodes, words of higher numbers before words of
    lower ones, and older inner nodes before younger ones. Inner nodes are numbered in the order in
    which they are made, 0 to V - 2; of two that are made one the smaller has code 0, the other 1.

    Word i's path lies from offsets[i] to offsets[i + 1]: `nodes` are the inner nodes from the root
    down, `codes` say which way to go from each. A single word has an empty path.

    Arguments and results are those of
    `seqfast.ops.word2vec.functions.huffman_paths`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference.word2vec import huffman_paths
        >>> huffman_paths(np.array([4, 2, 1]))[0].tolist()
        [0, 1, 3, 5]
    """
    words = len(counts)
    # What is not yet part of another: (count, whether an inner node, rank among equals).
    heap = [(int(count), False, words - 1 - i) for i, count in enumerate(counts)]
    heapq.heapify(heap)
    children: list[tuple[tuple[int, bool, int], ...]] = []
    while len(heap) > 1:
        pair = heapq.heappop(heap), heapq.heappop(heap)
        heapq.heappush(heap, (pair[0][0] + pair[1][0], True, len(children)))
        children.append(pair)

    to_words: list[list[tuple[int, int]]] = [[] for _ in range(words)]
    to_nodes: list[list[tuple[int, int]]] = [[] for _ in children]
    for node in reversed(range(len(children))):  # a node is younger than its children
        for code, (_, is_inner, rank) in enumerate(children[node]):
            path = [*to_nodes[node], (node, code)]
            if is_inner:
                to_nodes[rank] = path
            else:
                to_words[words - 1 - rank] = path
    offsets = np.cumsum([0, *map(len, to_words)], dtype=np.int64)
    steps = np.array([step for path in to_words for step in path], np.int64).reshape(-1, 2)
    return offsets, steps[:, 0].astype(np.int32), steps[:, 1].astype(np.uint8)


# ---- one batch ----


class _Settings(NamedTuple):
    """What the windows of a run have in common."""

    cbow: bool
    window: int
    negative: int
    shared_negatives: bool
    shrink_windows: bool
    cbow_mean: bool
    legacy_cbow: bool
    softmax: bool

    @property
    def by_pairs(self) -> bool:
        return not (self.cbow or self.shared_negatives)


class _Model(NamedTuple):
    """Parameters without their padding, and tables."""

    input: Array
    output: Array | None
    nodes: Array | None
    locked: Array
    paths: Paths | None


class _Window(NamedTuple):
    """A centre word with its contexts, left to right; with pairs by themselves a window for each.

    `negatives` [sets, negative]: one set, or one for each context.
    """

    centre: int
    contexts: Array
    negatives: Array


class _Changes(NamedTuple):
    """What is to be added to rows of the three matrices."""

    contexts: Array
    outputs: Array
    inner: Array
    to_input: Array
    to_output: Array
    to_nodes: Array
    loss: float
    examples: int


def _targets(window: _Window, model: _Model, settings: _Settings) -> tuple[Array, Array, Array]:
    """Rows of output, rows of nodes, and the labels of both."""
    outputs = inner = np.zeros(0, np.int64)
    labels: list[Array] = []
    if settings.softmax:
        assert model.output is not None
        outputs = np.arange(len(model.output))
        labels.append(outputs == window.centre)
    elif settings.negative:
        (negatives,) = window.negatives
        outputs = np.array([window.centre, *negatives[negatives != window.centre]])
        labels.append(np.arange(len(outputs)) == 0)
    if model.paths is not None:
        offsets, nodes, codes = model.paths
        path = slice(offsets[window.centre], offsets[window.centre + 1])
        inner = nodes[path]
        labels.append(codes[path] == 0)
    return outputs, inner, np.concatenate(labels)


def _changes(window: _Window, model: _Model, settings: _Settings, rate: float) -> _Changes:
    """The equations of one window, or of one pair."""
    outputs, inner, labels = _targets(window, model, settings)
    size = model.input.shape[1]
    rows = (
        matrix[chosen].astype(np.float64)
        for matrix, chosen in ((model.output, outputs), (model.nodes, inner))
        if matrix is not None
    )
    targets = np.concatenate([np.zeros((0, size)), *rows])
    contexts = model.input[window.contexts].astype(np.float64)
    divisor = len(contexts) if settings.cbow_mean else 1
    hidden = contexts.sum(0, keepdims=True) / divisor if settings.cbow else contexts

    errors, loss = (_softmax if settings.softmax else _logistic)(hidden @ targets.T, labels)
    to_targets = rate * errors.T @ hidden
    to_hidden = rate * errors @ targets

    to_contexts = to_hidden
    if settings.cbow:
        share = to_hidden if settings.legacy_cbow else to_hidden / divisor
        to_contexts = np.repeat(share, len(contexts), axis=0)
    to_contexts = np.where(model.locked[window.contexts, None], 0, to_contexts)
    return _Changes(
        window.contexts,
        outputs,
        inner,
        to_contexts,
        to_targets[: len(outputs)],
        to_targets[len(outputs) :],
        loss,
        len(hidden),
    )


def _logistic(logits: Array, labels: Array) -> tuple[Array, float]:
    """Of [hidden, targets]: label - sigmoid(logit), and the sum of -log of what was right."""
    signs = np.where(labels, 1, -1)
    losses = np.logaddexp(0, -signs * logits)
    return signs * np.exp(-np.logaddexp(0, signs * logits)), float(losses.sum())


def _softmax(logits: Array, labels: Array) -> tuple[Array, float]:
    """Of [hidden, targets]: label - softmax(logits), and the sum of -log of what was right."""
    logits = logits - logits.max(1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return labels - np.exp(logs), -float(logs[:, labels].sum())


def _apply(changes: _Changes, model: _Model) -> None:
    """Every change counts, where a row has several too."""
    np.add.at(model.input, changes.contexts, changes.to_input.astype(np.float32))
    if model.output is not None:
        np.add.at(model.output, changes.outputs, changes.to_output.astype(np.float32))
    if model.nodes is not None:
        np.add.at(model.nodes, changes.inner, changes.to_nodes.astype(np.float32))


# ---- which windows there are ----


class _Draws(NamedTuple):
    """Random words by place in the corpus."""

    seed: int
    epoch: int

    def words(self, places: Array, streams: Array) -> Words:
        """[places, streams, 4]: the words of counters (low and high of place, epoch, stream)."""
        counter = np.empty((len(places), len(streams), 4), np.uint32)
        counter[..., 0] = (places % _ONE)[:, None]
        counter[..., 1] = (places // _ONE)[:, None]
        counter[..., 2] = self.epoch
        counter[..., 3] = streams
        key = self.seed % 2**64
        return philox(counter, (key % _ONE, key // _ONE))

    def of_tokens(self, tokens: Array) -> Words:
        """[tokens]: what decides whether each is kept."""
        words = self.words(tokens // 64 * 16 + tokens % 16, np.array([_SUBSAMPLE]))
        return np.asarray(words[np.arange(len(tokens)), 0, tokens // 16 % 4])

    def of_centres(self, centres: Array, count: int) -> Words:
        """[centres, count]: the first for the size of the window, the others for negatives."""
        counters = -(-count // 4)
        words = self.words(centres, _WINDOW + np.arange(counters))
        return words.reshape(len(centres), 4 * counters)[:, :count]


class _Corpus(NamedTuple):
    """What subsampling leaves of a corpus."""

    ids: Array  # [kept]
    places: Array  # [kept] in the whole corpus, rising
    first: Array  # [kept] the first kept token of its sentence
    last: Array  # [kept] past the last one


def _kept_corpus(ids: Array, offsets: Array, keep: Array | None, draws: _Draws) -> _Corpus:
    places = np.arange(len(ids))
    if keep is not None:
        places = places[draws.of_tokens(places) <= keep[ids]]
    sentence = np.searchsorted(offsets, places, side="right") - 1
    first = np.searchsorted(places, offsets[sentence])
    last = np.searchsorted(places, offsets[sentence + 1])
    return _Corpus(ids[places], places, first, last)


def _windows(
    begin: int,
    end: int,
    corpus: _Corpus,
    settings: _Settings,
    alias: Alias | None,
    draws: _Draws,
) -> list[_Window]:
    """A window for each kept token of places [begin, end), also where it has no contexts."""
    centres = np.arange(*np.searchsorted(corpus.places, [begin, end]))
    places = corpus.places[centres]
    reach = np.full(len(centres), settings.window)
    if settings.shrink_windows:
        words = draws.of_centres(places, 1)[:, 0]
        product = words.astype(np.uint64) * np.uint64(settings.window)
        reach -= (product >> np.uint64(32)).astype(np.int64)
    firsts = np.maximum(corpus.first[centres], centres - reach)
    lasts = np.minimum(corpus.last[centres], centres + reach + 1)

    contexts = [
        corpus.ids[np.r_[b:c, c + 1 : e]] for b, c, e in zip(firsts, centres, lasts, strict=True)
    ]
    sets = max(map(len, contexts), default=0) if settings.by_pairs else 1
    negatives = np.zeros((len(centres), sets, settings.negative), np.int64)
    if settings.negative:
        assert alias is not None
        words = draws.of_centres(places, 1 + sets * settings.negative)[:, 1:]
        negatives[:] = _negatives(words, alias).reshape(negatives.shape)
    return [_Window(int(corpus.ids[c]), contexts[i], negatives[i]) for i, c in enumerate(centres)]


def _negatives(words: Words, alias: Alias) -> Array:
    """The number that each random word stands for: its upper part a place, the rest a fraction."""
    threshold, other = alias
    product = words.astype(np.uint64) * np.uint64(len(threshold))
    place, fraction = product >> np.uint64(32), product % np.uint64(_ONE)
    return np.where(fraction <= threshold[place], place.astype(np.int64), other[place])


def _examples(windows: list[_Window], settings: _Settings) -> Iterator[_Window]:
    """What is computed at once: windows that have contexts, or their pairs."""
    for window in windows:
        if not settings.by_pairs:
            if len(window.contexts):
                yield window
            continue
        for j in range(len(window.contexts)):
            pair = slice(j, j + 1)
            yield _Window(window.centre, window.contexts[pair], window.negatives[pair])


def _learning_rate(alpha: float, min_alpha: float, progress: float) -> float:
    """From alpha to min_alpha, in float32."""
    rate = alpha - (alpha - min_alpha) * progress
    low, high = sorted((alpha, min_alpha))
    return float(np.float32(min(max(rate, low), high)))
