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

_ROWS_AT_ONCE = 1024  # words whose analogies are looked at together


class Weat(NamedTuple):
    """What `weat` returns."""

    effect_size: float
    """Difference of the mean associations over their standard deviation, from -2 to 2."""
    p_value: float
    """One-sided."""
    statistic: float
    """Difference of the sums of associations: WEFE's WEAT."""
    exact: bool
    """Whether all partitions were looked at."""
    partitions: int
    """How many were."""


class Analogy(NamedTuple):
    """One of `analogies`: `first` is to `second` as the first of the pair to its second."""

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
    """The mean of |cos(w, g)|**strictness over words that should have none of it: 0 to 1.

    DirectBias of Bolukbasi et al. 2016. With several directions [k, size] in `g`, the length of
    the part of w in their space. Arguments and errors as of `seqfast.embeddings.debias.neutralize`.

    Example:
        >>> debias.direct_bias(model, g, professions, missing="ignore")
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

    (w . v - cos(w', v')) / w . v of unit vectors, where w' and v' are without their parts along
    `g`; negative where they are closer without. Raises KeyError for a word without a vector,
    ValueError where w . v is 0 or nothing is left of a word.

    Example:
        >>> debias.indirect_bias(model, g, "receptionist", "softball")
    """
    table = Table("indirect_bias", vectors, words, "raise")
    basis = table.subspace(g)
    units = table.unit(table.rows("first and second", [first, second]))
    left = units - (units @ basis.T) @ basis
    size = lengths(left)
    both = float((units[0] * units[1]).sum())
    if not abs(both) > 1e-12 or not float(size.min()) > 1e-9:
        raise ValueError(
            f"indirect_bias: {first!r} and {second!r} must have a similarity, and a part outside g"
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
    the mean association of `x` minus that of `y`, over the standard deviation of all of them (of
    the population, as in WEFE). The p-value is the share of the partitions of x and y into two sets
    of their sizes with a larger statistic than they have themselves: of all partitions where there
    are at most `exact_limit`, else of `partitions` drawn with `seed`, (larger + 1) / (drawn + 1).

    Args:
        vectors, words, missing: see `seqfast.embeddings.debias`.
        x, y: target words, such as occupations of two kinds.
        a, b: attribute words, such as "he", "him" and "she", "her".

    Returns: effect_size, p_value, statistic, exact, partitions.

    Raises: KeyError naming all words without a vector; ValueError for empty lists, words that are
        in x and in y, and associations that are all the same.

    Example:
        >>> debias.weat(model, science, arts, male, female).effect_size
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
    if not deviation > 1e-12:
        raise ValueError("weat: the words of x and y must differ in their associations")
    statistic = float(of_x.sum() - of_y.sum())
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

    Of all x and y whose unit vectors are at most `delta` apart, the pairs of largest
    cos(a - b, x - y), a and b being `pair`; of each word as the first, and as the second, only the
    best. What is found shows which stereotypes the vectors have.

    Args:
        vectors, words: see `seqfast.embeddings.debias`.
        pair: such as ("she", "he").
        topn: how many, at most.
        delta: largest distance; at 1, the paper's, x and y are at most 60 degrees apart.
        restrict_vocab: only so many words, the first ones; time grows with their square.

    Returns: `Analogy` of words (ids, where there are no words) and score, the best first.

    Raises: KeyError for words without a vector; ValueError for numbers that cannot be.

    Example:
        >>> debias.analogies(model, ("she", "he"), topn=10)
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
    along = np.array((units @ (g / length)).tolist())
    rows = _as_float32(units)
    found: list[tuple[float, int, int]] = []
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        cosines = rows[begin : begin + _ROWS_AT_ONCE] @ rows.T
        near = cosines.cpu().numpy() if hasattr(cosines, "cpu") else cosines
        apart = np.sqrt(np.maximum(2 - 2 * near, 0))
        rise = along[begin : begin + len(near), None] - along
        # The same words twice are no pair, whatever rounding makes of their distance.
        score = np.where((apart <= delta) & (apart > 1e-3), rise / np.maximum(apart, 1e-3), 0)
        best = np.partition(score, -1, axis=1)[:, -1]
        for i in np.flatnonzero(best > 0):
            j = int(score[i].argmax())
            found.append((float(score[i, j]), begin + int(i), j))
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
