"""How much bias there is: along a direction, between sets of words, in analogies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqfast.embeddings.debias.table import Table, double, lengths
from seqfast.ops.base.checks import NOT_NEGATIVE, POSITIVE, check_number, check_whole

Words = Iterable[Any]

_ROUNDING = 1e-6  # of cosines of float32 vectors
_ROWS_AT_ONCE = 1024  # words whose analogies are looked at together


class Weat(NamedTuple):
    """What `weat` returns.

    Attributes:
        effect_size: the difference of the mean associations over their standard deviation, -2 to 2.
        p_value: one-sided.
        statistic: the difference of the sums of associations: WEFE's WEAT.
        exact: whether all partitions were used.
        partitions: how many were used.

    Example:
        >>> from seqfast.embeddings.debias import Weat
        >>> Weat(1.5, 0.01, 0.9, True, 20).effect_size
        1.5
    """

    effect_size: float
    p_value: float
    statistic: float
    exact: bool
    partitions: int


class Analogy(NamedTuple):
    """One of `analogies`: `first` is to `second` as the first of the pair to its second.

    Attributes:
        first: a word, or an id.
        second: a word, or an id.
        score: the cosine of the two differences.

    Example:
        >>> from seqfast.embeddings.debias import Analogy
        >>> Analogy("queen", "king", 0.8).score
        0.8
    """

    first: Any
    second: Any
    score: float


def direct_bias(
    vectors: Any,
    g: Any,
    neutral: Words,
    *,
    strictness: float = 1.0,
    words: Sequence[str] | None = None,
    missing: str = "raise",
) -> float:
    """The mean of |cos(w, g)|**strictness over words that should be neutral: 0 to 1.

    DirectBias of Bolukbasi et al. 2016. With several directions in `g`, the length of the
    projection of w onto their space takes the place of |cos|.

    Args:
        vectors: see `seqfast.embeddings.debias`.
        g: [size], of any length but 0, or several directions [k, size].
        neutral: words or ids that should have no component along `g`.
        strictness: c of the paper; 0 counts the words with any bias.
        words: names of the rows of an array.
        missing: "ignore" leaves out words without a vector.

    Returns:
        The mean.

    Raises:
        KeyError: names all words without a vector.
        TypeError: arguments that are not words or vectors.
        ValueError: a direction of length 0 or another size, vectors of length 0, and an empty list.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings import debias
        >>> from seqfast.embeddings.vectors import WordVectors
        >>> rows = np.array([[1, 1], [-1, 1], [0.5, 2]], np.float32)
        >>> given = WordVectors(["she", "he", "nurse"], rows)
        >>> round(debias.direct_bias(given, [1, 0], ["nurse"]), 3)
        0.243
    """
    table = Table("direct_bias", vectors, words, missing)
    strictness = check_number("direct_bias", "strictness", strictness, NOT_NEGATIVE)
    along = lengths(table.unit(table.rows("neutral", neutral)) @ table.subspace(g).T)
    return float((along**strictness).mean())


def indirect_bias(
    vectors: Any,
    g: Any,
    first: Any,
    second: Any,
    *,
    words: Sequence[str] | None = None,
) -> float:
    """The share that `g` has in the similarity of two words (beta of Bolukbasi et al. 2016).

    (w . v - cos(w', v')) / w . v of unit vectors, where w' and v' are without their components
    along `g`; negative if w' and v' are closer than w and v.

    Args:
        vectors: see `seqfast.embeddings.debias`.
        g: [size], of any length but 0, or several directions [k, size].
        first: a word or id.
        second: a word or id.
        words: names of the rows of an array.

    Returns:
        The share.

    Raises:
        KeyError: a word without a vector.
        TypeError: arguments that are not words or vectors.
        ValueError: w . v is 0, a word lies along `g`, or a direction has length 0.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings import debias
        >>> from seqfast.embeddings.vectors import WordVectors
        >>> rows = np.array([[1, 1], [-1, 1], [0.5, 2]], np.float32)
        >>> given = WordVectors(["she", "he", "nurse"], rows)
        >>> round(debias.indirect_bias(given, [1, 0], "she", "nurse"), 3)
        -0.166
    """
    table = Table("indirect_bias", vectors, words, "raise")
    basis = table.subspace(g)
    units = table.unit(table.rows("first and second", [first, second]))
    left = units - (units @ basis.T) @ basis
    size = lengths(left)
    both = float((units[0] * units[1]).sum())
    if not abs(both) > 1e-12 or not float(size.min()) > 1e-9:
        raise ValueError(
            f"indirect_bias: {first!r} and {second!r} must not be orthogonal, nor lie along g"
        )
    left = left / size
    return (both - float((left[0] * left[1]).sum())) / both


def weat(
    vectors: Any,
    x: Words,
    y: Words,
    a: Words,
    b: Words,
    *,
    partitions: int = 10_000,
    exact_limit: int = 200_000,
    seed: int = 1,
    words: Sequence[str] | None = None,
    missing: str = "raise",
) -> Weat:
    """The word embedding association test of Caliskan et al. 2017.

    The association of a word is its mean cosine with `a` minus that with `b`. The effect size is
    the mean association of `x` minus that of `y`, divided by the standard deviation of all of them
    (of the population, as in WEFE). The p-value is the share of partitions of x and y into two sets
    of their sizes that have a larger statistic than x and y: among all partitions if there are at
    most `exact_limit`, else among `partitions` drawn with `seed`, (larger + 1) / (drawn + 1). If
    associations differ only by float32 rounding, as after `hard` with all of `a` and `b` equalised,
    the effect size is 0 and the p-value 1.

    Args:
        vectors: see `seqfast.embeddings.debias`.
        x: target words, such as occupations of one kind.
        y: target words of another kind, none of them in `x`.
        a: attribute words, such as "he", "him".
        b: attribute words of another kind, such as "she", "her".
        partitions: how many are drawn.
        exact_limit: up to this many partitions, all are used.
        seed: of the draws.
        words: names of the rows of an array.
        missing: "ignore" leaves out words without a vector.

    Returns:
        `Weat`: effect_size, p_value, statistic, exact, partitions.

    Raises:
        KeyError: names all words without a vector.
        TypeError: arguments that are not words or vectors.
        ValueError: empty lists, words that are in x and in y, vectors of length 0.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings import debias
        >>> from seqfast.embeddings.vectors import WordVectors
        >>> rows = np.array([[1, 1], [-1, 1], [0.5, 2]], np.float32)
        >>> given = WordVectors(["she", "he", "nurse"], rows)
        >>> found = debias.weat(given, ["nurse"], ["he"], ["she"], ["he"])
        >>> round(found.effect_size, 6), found.p_value
        (2.0, 0.0)
    """
    table = Table("weat", vectors, words, missing)
    check_whole("weat", "partitions", partitions, 1)
    check_whole("weat", "exact_limit", exact_limit, 0)
    check_whole("weat", "seed", seed, 0)
    sets = {name: table.rows(name, keys) for name, keys in zip("xyab", (x, y, a, b), strict=True)}
    if both := set(sets["x"]) & set(sets["y"]):
        names = ", ".join(table.name(row) for row in sorted(both))
        raise ValueError(f"weat: x and y must have no word in common, got {names} in both")
    units = {name: table.unit(rows) for name, rows in sets.items()}

    def associations(rows: Any) -> np.ndarray[Any, Any]:
        found = (rows @ units["a"].T).mean(1) - (rows @ units["b"].T).mean(1)
        return np.array(found.tolist())

    of_x, of_y = associations(units["x"]), associations(units["y"])
    every = np.concatenate([of_x, of_y])
    deviation = float(every.std())
    statistic = float(of_x.sum() - of_y.sum())
    if deviation < _ROUNDING:
        return Weat(0.0, 1.0, statistic, True, 0)
    total = math.comb(len(every), len(of_x))
    exact = total <= exact_limit
    # Sums over one set tell, since those over both stay the same; what is equal is not larger.
    limit = float(of_x.sum()) + 1e-12 * float(np.abs(every).sum())
    if exact:
        chosen = itertools.combinations(range(len(every)), len(of_x))
        done = larger = 0
        while block := list(itertools.islice(chosen, 1 << 14)):
            larger += int((every[np.array(block)].sum(1) > limit).sum())
            done += len(block)
        p_value = larger / done
    else:
        generator = np.random.default_rng(seed)
        done, larger = partitions, 0
        for _ in range(partitions):
            larger += generator.permutation(every)[: len(of_x)].sum() > limit
        p_value = (larger + 1) / (done + 1)
    effect = float(of_x.mean() - of_y.mean()) / deviation
    return Weat(effect, float(p_value), statistic, exact, done)


def analogies(
    vectors: Any,
    pair: tuple[Any, Any],
    topn: int = 50,
    *,
    delta: float = 1.0,
    restrict_vocab: int = 20_000,
    words: Sequence[str] | None = None,
) -> list[Analogy]:
    """Pairs of words that differ as `pair` does: the probe of Bolukbasi et al. 2016.

    Among all x and y whose unit vectors are at most `delta` apart, finds the pairs with the largest
    cos(a - b, x - y), where a and b are `pair`. Each word appears only once as the first and once
    as the second of a pair. The pairs show which stereotypes the vectors have.

    Args:
        vectors: see `seqfast.embeddings.debias`.
        pair: such as ("she", "he").
        topn: largest number of pairs.
        delta: largest distance; at 1 (as in the paper) x and y are at most 60 degrees apart.
        restrict_vocab: use only this many of the first words; time grows with the square.
        words: names of the rows of an array.

    Returns:
        A list of `Analogy` with words (ids if there are no words) and score, the best first.

    Raises:
        KeyError: words without a vector.
        TypeError: arguments that are not words or vectors.
        ValueError: numbers out of range, a pair of equal vectors.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings import debias
        >>> rows = np.array([[1, 1], [-1, 1], [0.5, 2], [-0.5, 2]], np.float32)
        >>> names = ["she", "he", "queen", "king"]
        >>> [one[:2] for one in debias.analogies(rows, ("she", "he"), words=names)]
        [('queen', 'king')]
    """
    table = Table("analogies", vectors, words, "raise")
    check_whole("analogies", "topn", topn, 1)
    check_number("analogies", "delta", delta, POSITIVE)
    check_whole("analogies", "restrict_vocab", restrict_vocab, 2)
    own = table.rows("pair", pair)
    if len(own) != 2:
        raise ValueError(f"analogies: pair must be two words, got {len(own)}")
    ends = table.unit(own)
    g = ends[0] - ends[1]
    length = float(lengths(g)[0])
    if not length > 1e-9:
        raise ValueError("analogies: the words of pair must have different vectors")
    units = table.unit(slice(0, restrict_vocab))
    along = np.array((units @ (g / length)).tolist(), np.float32)
    rows = _as_float32(units)
    found: list[tuple[float, int, int]] = []
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        cosines = rows[begin : begin + _ROWS_AT_ONCE] @ rows.T
        near = cosines.cpu().numpy() if hasattr(cosines, "cpu") else cosines
        apart = np.sqrt(np.maximum(2 - 2 * near, 0))
        rise = along[begin : begin + len(near), None] - along
        # The same words twice are no pair, whatever rounding makes of their distance.
        score = np.where((apart <= delta) & (apart > 1e-3), rise / np.maximum(apart, 1e-3), 0)
        best = score.argmax(1)
        for i, j in enumerate(best.tolist()):
            if score[i, j] > 0:
                found.append((float(score[i, j]), begin + i, j))
    found.sort(key=lambda one: (-one[0], one[1]))
    seconds: set[int] = set()
    result = []
    for value, first, second in found:
        if second in seconds or {first, second} & set(own):
            continue
        seconds.add(second)
        if table.words is None:
            result.append(Analogy(first, second, value))
        else:
            result.append(Analogy(table.words[first], table.words[second], value))
        if len(result) == topn:
            break
    return result


def _as_float32(units: Any) -> Any:
    return units.astype(np.float32) if isinstance(units, np.ndarray) else double(units).float()
