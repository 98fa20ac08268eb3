"""The direction of a bias, and vectors without it: neutralised, equalised, debiased."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from seqfast.embeddings.debias.table import Array, Table, double, lengths, singular, stacked
from seqfast.ops.base.checks import NOT_NEGATIVE, check_number, check_whole

Pairs = Iterable[Iterable[Any]]
Words = Iterable[Any]

_SMALL = 1e-6  # lengths of parts of unit vectors that may be the rounding of float32


def direction(
    vectors: Any,
    pairs: Pairs,
    *,
    components: int = 1,
    words: Sequence[str] | None = None,
    missing: str = "raise",
) -> Array:
    """The direction in which the words of each pair differ (Bolukbasi et al. 2016).

    The principal components of unit vectors, each pair (or larger set) about its own mean; of one
    pair, the normalised difference. It points towards the first words of the pairs.

    Args:
        vectors: see `seqfast.embeddings.debias`.
        pairs: such as [("woman", "man"), ("she", "he")]; more than two words make a set.
        components: how many; the first explains most of the differences.
        words: names of the rows of an array.
        missing: "ignore" leaves out words without a vector.

    Returns:
        float64 [size] of length 1, or [components, size] with orthonormal rows where that is above
        1; of the library and on the device of `vectors`.

    Raises:
        KeyError: names all words without a vector.
        ValueError: too few pairs, pairs that do not differ, vectors of length 0.
        TypeError: arguments that are not words or vectors.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings import debias
        >>> from seqfast.embeddings.vectors import WordVectors
        >>> rows = np.array([[1, 1], [-1, 1], [0.5, 2]], np.float32)
        >>> given = WordVectors(["she", "he", "nurse"], rows)
        >>> debias.direction(given, [("she", "he")]).tolist()
        [1.0, 0.0]
    """
    table = Table("direction", vectors, words, missing)
    sets = table.pairs("pairs", pairs)
    most = min(sum(len(rows) - 1 for rows in sets), table.given.shape[1])
    check_whole("direction", "components", components, 1, most)
    centred = []
    for rows in sets:
        units = table.unit(rows)
        # A set counts as its covariance does, however large it is.
        centred.append((units - units.mean(0)) / len(rows) ** 0.5)
    matrix = stacked(centred)
    _, values, right = singular(matrix)
    if float(values[components - 1]) < _SMALL:
        raise ValueError(
            f"direction: pairs must differ in {components} directions, got pairs of equal vectors"
        )
    basis = right[:components]
    firsts = stacked([c[:1] for c in centred]) @ basis.T
    basis = (
        basis
        * table.like_given(np.where(np.asarray(firsts.sum(0).tolist()) < 0, -1.0, 1.0))[:, None]
    )
    return basis[0] if components == 1 else basis


def neutralize(
    vectors: Any,
    g: Any,
    neutral: Words,
    *,
    words: Sequence[str] | None = None,
    missing: str = "raise",
) -> Any:
    """Removes the component along `g` from some words (Bolukbasi et al. 2016, step 1).

    Each becomes w - (w . g) g, not rescaled to length 1 (`hard` does that). Other words are
    unchanged.

    Args:
        vectors: see `seqfast.embeddings.debias`.
        g: [size], of any length but 0, or several directions [k, size]; see `direction`.
        neutral: words or ids.
        words: names of the rows of an array.
        missing: "ignore" leaves out words without a vector.

    Returns:
        A WordVectors, or an array as `vectors`.

    Raises:
        KeyError: names all words without a vector.
        TypeError: arguments that are not words or vectors.
        ValueError: a direction of length 0 or another size, vectors of length 0, and
            words of which nothing would be left.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings import debias
        >>> from seqfast.embeddings.vectors import WordVectors
        >>> rows = np.array([[1, 1], [-1, 1], [0.5, 2]], np.float32)
        >>> given = WordVectors(["she", "he", "nurse"], rows)
        >>> debias.neutralize(given, [1, 0], ["nurse"])["nurse"].tolist()
        [0.0, 2.0]
    """
    table = Table("neutralize", vectors, words, missing)
    basis = table.subspace(g)
    rows = table.rows("neutral", neutral, least=0)
    changed = double(table.given)
    if rows:
        changed[rows] = _without(table, basis, rows, changed[rows])
    return table.result(changed)


def _without(table: Table, basis: Array, rows: list[int], vectors: Array) -> Array:
    left = vectors - (vectors @ basis.T) @ basis
    left = left - (left @ basis.T) @ basis  # what rounding has left of it
    gone = lengths(left)[:, 0] <= _SMALL * lengths(vectors)[:, 0]
    if bool(gone.any()):
        row = rows[int(gone.nonzero()[0][0])]
        raise ValueError(
            f"{table.operation}: {table.name(row)} lies along g, so nothing would be left of it"
        )
    return left


def equalize(
    vectors: Any,
    g: Any,
    pairs: Pairs,
    *,
    words: Sequence[str] | None = None,
    missing: str = "raise",
) -> Any:
    """Makes the words of each pair differ only along `g` (Bolukbasi et al. 2016, step 2).

    Each pair (or larger set) gets unit vectors with a common component outside of `g`, so that any
    word without a component along `g` is equally far from both. Other words are unchanged.

    Args:
        vectors: see `seqfast.embeddings.debias`.
        g: [size], of any length but 0, or several directions [k, size]; see `direction`.
        pairs: as for `direction`; no word may appear twice.
        words: names of the rows of an array.
        missing: "ignore" leaves out words without a vector.

    Returns:
        A WordVectors, or an array as `vectors`.

    Raises:
        KeyError: names all words without a vector.
        TypeError: arguments that are not words or vectors.
        ValueError: a direction of length 0 or another size, vectors of length 0, and
            pairs whose words do not differ along `g`.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings import debias
        >>> from seqfast.embeddings.vectors import WordVectors
        >>> rows = np.array([[1, 1], [-1, 1], [0.5, 2]], np.float32)
        >>> given = WordVectors(["she", "he", "nurse"], rows)
        >>> fair = debias.equalize(given, [1, 0], [("she", "he")])
        >>> fair["she"].round(3).tolist(), fair["he"].round(3).tolist()
        ([0.707..., 0.707...], [-0.707..., 0.707...])
    """
    table = Table("equalize", vectors, words, missing)
    changed = double(table.given)
    _equalize(table, table.subspace(g), table.pairs("pairs", pairs, least=0), changed)
    return table.result(changed)


def _equalize(table: Table, basis: Array, sets: list[list[int]], changed: Array) -> None:
    # A pair that comes twice, as where a list is put into lower case, does no harm.
    counts = Counter(row for rows in {frozenset(rows) for rows in sets} for row in rows)
    if twice := [table.name(row) for row, count in counts.items() if count > 1]:
        raise ValueError(
            f"{table.operation}: a word must be in one pair only, which the next would undo, got "
            f"{', '.join(twice)} more than once; words that belong together are one larger set"
        )
    for rows in sets:
        units = changed[rows] / lengths(changed[rows])
        mean = units.mean(0)
        along = units @ basis.T  # coordinates within the subspace
        along = along - along.mean(0)
        spread = lengths(along)
        if not float(spread.min()) > _SMALL:
            names = ", ".join(table.name(row) for row in rows)
            raise ValueError(f"{table.operation}: {names} must differ along g, but they do not")
        common = mean - (mean @ basis.T) @ basis
        common = common - (common @ basis.T) @ basis
        rest = max(1.0 - float((common * common).sum()), 0.0) ** 0.5
        changed[rows] = common + rest * (along / spread) @ basis


def hard(
    vectors: Any,
    definitional: Pairs,
    equalized: Pairs,
    specific: Words,
    *,
    g: Any = None,
    words: Sequence[str] | None = None,
    missing: str = "raise",
) -> Any:
    """Hard debiasing of Bolukbasi et al. 2016: neutralises all words except specific ones,
    equalises pairs.

    Vectors are scaled to length 1. Words that are neither in `specific` nor in pairs lose their
    component along the direction of `definitional`, and are scaled again. Then the pairs are
    equalised.

    Args:
        vectors: see `seqfast.embeddings.debias`.
        definitional: pairs that define the bias; see `direction`.
        equalized: pairs, or larger sets, that should differ only along the direction; no word
            may appear twice.
        specific: words that may have the bias, such as "beard" or "queen".
        g: the direction, if it is already known; `definitional` is then ignored.
        words: names of the rows of an array.
        missing: "ignore" leaves out words without a vector. The paper's lists have
            words that are rare in vocabularies.

    Returns:
        A WordVectors, or an array as `vectors`, with unit vectors.

    Raises:
        KeyError: names all words without a vector.
        TypeError: arguments that are not words or vectors.
        ValueError: as `direction`, `neutralize` and `equalize`.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings import debias
        >>> from seqfast.embeddings.vectors import WordVectors
        >>> rows = np.array([[1, 1], [-1, 1], [0.5, 2]], np.float32)
        >>> given = WordVectors(["she", "he", "nurse"], rows)
        >>> fair = debias.hard(given, [("she", "he")], [("she", "he")], [])
        >>> fair["nurse"].tolist()
        [0.0, 1.0]
    """
    table = Table("hard", vectors, words, missing)
    if g is None:
        g = direction(vectors, definitional, words=words, missing=missing)
    basis = table.subspace(g)
    sets = table.pairs("equalized", equalized, least=0)
    kept = set(table.rows("specific", specific, least=0)).union(*sets)
    changed = table.unit()
    rows = [row for row in range(len(table)) if row not in kept]
    if rows:
        left = _without(table, basis, rows, changed[rows])
        changed[rows] = left / lengths(left)
    _equalize(table, basis, sets, changed)
    return table.result(changed)


def soft(
    vectors: Any,
    g: Any,
    neutral: Words,
    *,
    strength: float = 0.2,
    words: Sequence[str] | None = None,
    missing: str = "raise",
) -> Any:
    """Soft debiasing of Bolukbasi et al. 2016: a linear map that trades bias against closeness.

    With W all unit vectors as columns, N those of the neutral words and B the direction, T
    minimises |(TW)'(TW) - W'W|^2 + strength |(TN)'(TB)|^2 (Frobenius norms); W becomes TW, scaled
    to length 1. This is a least-squares problem in T'T, which conjugate gradients solve; negative
    eigenvalues, which are impossible for T'T, become 0.

    Args:
        vectors: see `seqfast.embeddings.debias`.
        g: [size], of any length but 0, or several directions [k, size]; see `direction`.
        neutral: words or ids that should lose their component along `g`.
        strength: weight of the bias term; 0 changes only lengths. The paper uses 0.2. The first
            term sums over all pairs of words, so more words need a larger strength.
        words: names of the rows of an array.
        missing: "ignore" leaves out words without a vector.

    Returns:
        A WordVectors, or an array as `vectors`, with unit vectors.

    Raises:
        KeyError: names all words without a vector.
        TypeError: arguments that are not words or vectors.
        ValueError: a direction of length 0 or another size, vectors of length 0, and a
            strength below 0.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings import debias
        >>> from seqfast.embeddings.vectors import WordVectors
        >>> rows = np.array([[1, 1], [-1, 1], [0.5, 2]], np.float32)
        >>> given = WordVectors(["she", "he", "nurse"], rows)
        >>> fair = debias.soft(given, [1, 0], ["nurse"], strength=10.0)
        >>> bool(abs(fair["nurse"][0]) < 0.2)  # it was 0.24
        True
    """
    table = Table("soft", vectors, words, missing)
    strength = check_number("soft", "strength", strength, NOT_NEGATIVE)
    basis = table.subspace(g)
    units = table.unit()
    chosen = units[table.rows("neutral", neutral)]
    # In the coordinates of W's own axes, scaled by its spread, the first term is |Y - S^2|^2.
    values, turned = _eigen(units.T @ units)
    spread, axes = _at_least(values, 0.0) ** 0.5, turned.T
    scale = 1 / _at_least(spread, _SMALL * float(spread.max()))
    near, far = chosen @ axes.T * scale, basis @ axes.T * scale
    target = _diagonal(spread * spread)
    weigh, along = near.T @ near, far.T @ far

    def gradient(y: Array) -> Array:
        return y + strength / 2 * (weigh @ y @ along + along @ y @ weigh)

    found = _conjugate_gradients(gradient, target)
    inner = scale[:, None] * found * scale
    values, turned = _eigen((inner + inner.T) / 2)
    root = (turned * _at_least(values, 0.0) ** 0.5) @ turned.T
    mapped = units @ axes.T @ root @ axes
    return table.result(mapped / lengths(mapped))


def _conjugate_gradients(apply: Any, target: Array) -> Array:
    x = target * 1.0
    residual = target - apply(x)
    step = residual
    size = float((residual * residual).sum())
    enough = 1e-24 * float((target * target).sum())
    for _ in range(4 * len(target) + 20):
        if size <= enough:
            break
        applied = apply(step)
        length = size / float((step * applied).sum())
        x = x + length * step
        residual = residual - length * applied
        before, size = size, float((residual * residual).sum())
        step = residual + size / before * step
    return x


def _eigen(matrix: Array) -> tuple[Array, Array]:
    if isinstance(matrix, np.ndarray):
        return np.linalg.eigh(matrix)
    import torch

    return tuple(torch.linalg.eigh(matrix))


def _at_least(values: Array, least: float) -> Array:
    return values.clip(least) if isinstance(values, np.ndarray) else values.clamp(min=least)


def _diagonal(values: Array) -> Array:
    return np.diag(values) if isinstance(values, np.ndarray) else values.diag()
