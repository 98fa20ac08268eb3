"""Batched beam search in plain NumPy, a step at a time: what `seqfast.ops.beam_search` must do."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqfast.reference._beams import BeamOptions, Beams, start_beams
from seqfast.reference._philox import philox

__all__ = ["BeamOptions", "Beams", "beam_backtrack", "beam_step", "start_beams"]

Array = np.ndarray[Any, Any]
_GUMBEL_STREAM = 15


def beam_step(logits: Array, beams: Beams, *, allowed: Array | None = None) -> None:
    """One step of the search: every living hypothesis by one token further, or ended.

    `logits` [batch * beams, vocabulary]: the model's, for the token after each living hypothesis.
    `allowed` bool, like logits: what may be chosen at all. Changes `beams`: `next_tokens` are the
    tokens chosen, `next_rows` the rows of the model's state that they go on from.

    Each row proposes its largest candidates, equal ones by rising token; proposals of a group are
    taken by falling key, equal ones by rising beam, then as their row has them. Raises ValueError
    for a row with NaN or +inf, before anything is changed.

    Arguments and results are those of
    `seqfast.ops.beam_search.functions.beam_step`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference.beam_search import BeamOptions, beam_step, start_beams
        >>> beams = start_beams(BeamOptions(2, 4, (0,)), batch=1, capacity=5)
        >>> beam_step(np.array([[0, 1, 2, 3]] * 2, np.float32), beams)
        >>> beams.next_tokens
        array([[3, 2]])
    """
    o = beams.options
    real = np.float64 if logits.dtype == np.float64 else np.float32
    logits = logits.astype(real)
    rows = _living_rows(beams)
    bad = [row for row in rows if (np.isnan(logits[row]) | (logits[row] == np.inf)).any()]
    if bad:
        raise ValueError(f"beam_step: logits must not hold NaN or +inf, got one in row {bad[0]}")
    step = int(beams.step[0])
    for b, sentence in enumerate(beams.sentence):
        chosen: list[int] = []  # tokens of the earlier groups of this sentence
        for group in range(o.groups):
            if beams.done[sentence, group] == 1:
                _stand_still(beams, b, group)
                continue
            candidates = _candidates(logits, allowed, beams, step, b, group, chosen)
            chosen += _advance(beams, step, b, group, candidates)
    _write_history(beams, step)
    beams.step[0] += 1
    beams.living[0] = np.count_nonzero((beams.done != 1).any(axis=1))


def _stand_still(beams: Beams, b: int, group: int) -> None:
    own = beams.options.beams // beams.options.groups
    for k in range(group * own, (group + 1) * own):
        beams.scores[b, k] = -np.inf
        beams.next_tokens[b, k] = beams.options.eos[0]
        beams.next_rows[b, k] = b * beams.options.beams + k


class Candidate:
    """A token that a living hypothesis may go on with."""

    def __init__(self, beam: int, token: int, score: Any, key: Any, logprob: Any) -> None:
        self.beam, self.token = beam, token
        self.score, self.key, self.logprob = score, key, logprob


def _living_rows(beams: Beams) -> list[int]:
    return [int(row) for row in np.flatnonzero(beams.scores.ravel() > -np.inf)]


def _candidates(
    logits: Array,
    allowed: Array | None,
    beams: Beams,
    step: int,
    b: int,
    group: int,
    chosen: list[int],
) -> list[Candidate]:
    """Of a group, by falling key."""
    o = beams.options
    own = o.beams // o.groups
    found: list[Candidate] = []
    for k in range(group * own, (group + 1) * own):
        if beams.scores[b, k] > -np.inf:
            row = b * o.beams + k
            mask = None if allowed is None else allowed[row]
            found += _proposals(logits[row], mask, beams, step, b, k)
    real = beams.scores.dtype.type
    for candidate in found:
        # Hamming diversity (Vijayakumar et al. 2018).
        penalty = real(o.diversity) * real(chosen.count(candidate.token))
        candidate.score -= penalty
        candidate.key -= penalty
    found.sort(key=lambda c: -c.key)  # stable: by rising beam, then as proposed
    return [c for c in found if c.key > -np.inf]


def _proposals(
    logits: Array, allowed: Array | None, beams: Beams, step: int, b: int, k: int
) -> list[Candidate]:
    """Of a row: its largest candidates, equal ones by rising token."""
    o, sentence = beams.options, beams.sentence[b]
    real = logits.dtype.type
    x = logits * real(1 / o.temperature) if o.temperature != 1 else logits
    score = beams.scores[b, k]
    plain = _log_softmax(x)
    if beams.prefix is not None and step < beams.prefix_lengths[sentence]:
        token = int(beams.prefix[sentence, step])
        total = score + plain[token] if o.score_prefix else score
        key = total if beams.keys is None else beams.keys[b, k]
        return [Candidate(k, token, total, key if total > -np.inf else total, plain[token])]
    if o.renormalize:
        edited = plain = _log_softmax(_edited(x, allowed, beams, step, b, k))
    else:
        edited = _edited(plain, allowed, beams, step, b, k)
    order = edited
    if o.noise:
        order = edited + _gumbel(beams, step, int(sentence) * o.beams + k, real)
    best = np.argsort(-order, kind="stable")[: o.proposals]
    if o.eos_pool == "any":
        best = np.concatenate((best, [t for t in o.eos if t not in best])).astype(int)
    totals = score + edited[best]
    keys = totals
    if beams.keys is not None:
        # Sampling without replacement (Kool et al. 2019): conditioned on their largest.
        keys = _conditioned(score + order[best], score + order.max(), beams.keys[b, k])
    chosen = zip(best, totals, keys, strict=True)
    return [Candidate(k, int(token), s, key, plain[token]) for token, s, key in chosen]


def _log_softmax(x: Array) -> Array:
    largest = x.max()
    if largest == -np.inf:
        return x
    return np.asarray(x - (largest + np.log(np.exp(x - largest).sum())))


def _edited(x: Array, allowed: Array | None, beams: Beams, step: int, b: int, k: int) -> Array:
    """With penalties, and -inf where a token must not be chosen."""
    o, sentence = beams.options, beams.sentence[b]
    x = x.copy()
    if beams.history is not None:
        history = beams.history[step % 2, b, k, : beams.history_start[b] + step]
        if o.repetition_penalty != 1:
            # Keskar et al. 2019.
            seen = np.unique(history)
            penalty = x.dtype.type(o.repetition_penalty)
            x[seen] = np.where(x[seen] < 0, x[seen] * penalty, x[seen] / penalty)
        n = o.no_repeat_ngram
        if n > 0:
            for begin in range(len(history) - n + 1):
                if (history[begin : begin + n - 1] == history[len(history) - n + 1 :]).all():
                    x[history[begin + n - 1]] = -np.inf
    x[list(o.banned)] = -np.inf
    if allowed is not None:
        x[~allowed.astype(bool)] = -np.inf
    eos = np.isin(np.arange(len(x)), o.eos)
    begun = step - (0 if o.score_prefix or beams.prefix is None else beams.prefix_lengths[sentence])
    if begun < o.min_length:
        x[eos] = -np.inf
    if o.force_eos and step + 1 == beams.max_lengths[sentence]:
        x[~eos] = -np.inf
    return x


def _gumbel(beams: Beams, step: int, row: int, real: Any) -> Array:
    """-log(-log(1 - v)) of a uniform v in (0, 1), by counter (see `_philox.events`)."""
    vocabulary = beams.options.vocabulary
    groups = -(-vocabulary // 64)
    counter = np.empty((groups * 16, 4), np.uint32)
    counter[:, 0] = np.arange(groups * 16)
    counter[:, 1:] = row, step, _GUMBEL_STREAM
    key = int(beams.seed[0]) % 2**64
    words = philox(counter, (key % 2**32, key // 2**32)).reshape(groups, 16, 4).swapaxes(1, 2)
    v = (words.reshape(-1)[:vocabulary].astype(np.float64) + 0.5) * 2.0**-32
    return np.asarray(-np.log(-np.log1p(-v))).astype(real)


def _conditioned(keys: Array, largest: Any, wanted: Any) -> Array:
    """Gumbel variables `keys`, the largest of their row `largest`, given that it is `wanted`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        v = wanted - keys + np.log1p(-np.exp(keys - largest))
        result = wanted - np.maximum(v, 0) - np.log1p(np.exp(-np.abs(v)))
    return np.where(keys == -np.inf, keys, result).astype(keys.dtype)


def _advance(beams: Beams, step: int, b: int, group: int, candidates: list[Candidate]) -> list[int]:
    """The group's next living beams and ended hypotheses; returns the tokens of the former."""
    o, sentence = beams.options, int(beams.sentence[b])
    own = o.beams // o.groups
    first = group * own
    last = step + 1 == beams.max_lengths[sentence]
    given = 0 if o.score_prefix or beams.prefix is None else int(beams.prefix_lengths[sentence])
    length = max(step + 1 - given, 0)
    limit = {"topk": own, "top2k": 2 * own, "any": 0, "inbeam": own, "competing": own}
    slots: list[Candidate | None] = []
    if o.eos_pool == "competing":
        slots = _compete(beams, step, sentence, group, candidates, length, last)
    else:
        for rank, candidate in enumerate(candidates):
            is_eos = candidate.token in o.eos
            if is_eos or last:
                if rank < max(limit[o.eos_pool], own if last else 0) or (
                    o.eos_pool == "any" and is_eos
                ):
                    _keep(beams, step, sentence, group, candidate, length)
                if o.eos_pool == "inbeam" and rank < own:
                    slots.append(None)
            elif len(slots) < own:
                slots.append(candidate)
        if candidates and candidates[0].token in o.eos and beams.done[sentence, group] == 0:
            beams.done[sentence, group] = 2
    chosen = []
    best = -np.inf
    for i in range(own):
        k = first + i
        slot = slots[i] if i < len(slots) else None
        if slot is None:
            beams.scores[b, k] = -np.inf
            beams.next_tokens[b, k] = o.eos[0]
            beams.next_rows[b, k] = b * o.beams + first
            beams.tokens[step, sentence, k] = o.eos[0]
            beams.parents[step, sentence, k] = first
            beams.logprobs[step, sentence, k] = 0
            continue
        chosen.append(slot.token)
        best = max(best, slot.score)
        beams.scores[b, k] = slot.score
        if beams.keys is not None:
            beams.keys[b, k] = slot.key
        beams.next_tokens[b, k] = slot.token
        beams.next_rows[b, k] = b * o.beams + slot.beam
        beams.tokens[step, sentence, k] = slot.token
        beams.parents[step, sentence, k] = slot.beam
        beams.logprobs[step, sentence, k] = slot.logprob
    _stop(beams, b, sentence, group, length, best)
    return chosen


def _keep(
    beams: Beams, step: int, sentence: int, group: int, candidate: Candidate, length: int
) -> None:
    """Into the pool of ended hypotheses, behind equal ones, where it is good enough."""
    o = beams.options
    ended = length - (candidate.token in o.eos and not o.count_eos)
    n = max(ended, 0)
    score = candidate.score / beams.divisor[n] + beams.addend[n]
    count = int(beams.pool_counts[sentence, group])
    scores = beams.pool_scores[sentence, group]
    if count == o.pool and (o.stop == "first_k" or score <= scores[-1]):
        return
    _insert(beams, step, sentence, group, int((scores[:count] >= score).sum()), candidate, score)


def _insert(
    beams: Beams,
    step: int,
    sentence: int,
    group: int,
    place: int,
    candidate: Candidate,
    score: Any,
) -> None:
    values = {
        "pool_scores": score,
        "pool_logprobs": candidate.score,
        "pool_last": candidate.logprob,
        "pool_keys": candidate.key,
        "pool_steps": step,
        "pool_parents": candidate.beam,
        "pool_tokens": candidate.token,
    }
    for name, value in values.items():
        array = getattr(beams, name)
        if array is not None:
            row = array[sentence, group]
            row[place + 1 :] = row[place:-1].copy()
            row[place] = value
    count = beams.pool_counts[sentence, group] + 1
    beams.pool_counts[sentence, group] = min(count, beams.options.pool)


def _compete(
    beams: Beams,
    step: int,
    sentence: int,
    group: int,
    candidates: list[Candidate],
    length: int,
    last: bool,
) -> list[Candidate | None]:
    """Ended hypotheses keep their place only while their key is among the group's largest."""
    o = beams.options
    own = o.beams // o.groups
    keys = beams.pool_logprobs if beams.pool_keys is None else beams.pool_keys
    living: list[Candidate | None] = []
    places = own
    kept = 0  # of the pool, which falls by key
    for candidate in candidates:
        while kept < beams.pool_counts[sentence, group] and places > 0:
            if keys[sentence, group, kept] < candidate.key:
                break
            kept, places = kept + 1, places - 1
        if places == 0:
            break
        places -= 1
        if candidate.token in o.eos or last:
            n = max(length - (candidate.token in o.eos and not o.count_eos), 0)
            score = candidate.score / beams.divisor[n] + beams.addend[n]
            _insert(beams, step, sentence, group, kept, candidate, score)
            kept += 1
        else:
            living.append(candidate)
    most = own - len(living)
    if beams.pool_counts[sentence, group] > most:
        beams.pool_counts[sentence, group] = most
        beams.pool_scores[sentence, group, most:] = -np.inf
        keys[sentence, group, most:] = -np.inf
    return living


def _stop(beams: Beams, b: int, sentence: int, group: int, length: int, best: Any) -> None:
    o = beams.options
    own = o.beams // o.groups
    count = beams.pool_counts[sentence, group]
    enough = count >= o.wanted
    worst = beams.pool_scores[sentence, group, o.wanted - 1] if enough else -np.inf

    def reached(divisor: Array, addend: Array) -> bool:
        return bool(enough and worst >= best / divisor[length] + addend[length])

    if best == -np.inf:
        done = certain = True
    else:
        certain = reached(beams.certain_divisor, beams.certain_addend)
        if o.eos_pool == "competing":
            done = False
        elif o.stop == "exact":
            done = reached(beams.bound_divisor, beams.bound_addend)
        elif o.stop == "first_k":
            done = count >= own
        else:
            done = beams.done[sentence, group] == 2 and enough
    if done:
        beams.done[sentence, group] = 1
        beams.certified[sentence, group] = certain
        first = group * own
        beams.scores[b, first : first + own] = -np.inf


def _write_history(beams: Beams, step: int) -> None:
    if beams.history is None:
        return
    now, then = beams.history[step % 2], beams.history[(step + 1) % 2]
    flat = now.reshape(-1, now.shape[-1])
    then[:] = flat[beams.next_rows]
    for b, start in enumerate(beams.history_start):
        if start + step < then.shape[-1]:
            then[b, :, start + step] = beams.next_tokens[b]


def beam_backtrack(
    beams: Beams,
    last_steps: Array,
    last_parents: Array,
    last_tokens: Array,
    last_logprobs: Array,
    *,
    length: int,
    pad: int,
) -> tuple[Array, Array, Array]:
    """The sequences of ended hypotheses, along the back-pointers of the records of `beams`.

    All [sentences, hypotheses]: the step of each one's last token (-1: no hypothesis), the beam
    before it, the token, its log-probability. Returns tokens and parents (the beam that each token
    went on from), int64, and log-probabilities, each [sentences, hypotheses, length]; behind a
    hypothesis' end stand `pad`, -1 and 0.

    Arguments and results are those of
    `seqfast.ops.beam_search.functions.beam_backtrack`.

    Example:
        >>> import numpy as np
        >>> from seqfast.reference import beam_search
        >>> beams = beam_search.start_beams(beam_search.BeamOptions(2, 4, (0,)), 1, 5)
        >>> beam_search.beam_step(np.array([[0, 1, 2, 3]] * 2, np.float32), beams)
        >>> zero, last = np.zeros((1, 1), int), np.zeros((1, 1), np.float32)
        >>> beam_search.beam_backtrack(beams, zero, zero, zero + 3, last, length=2, pad=0)[0]
        array([[[3, 0]]])
    """
    shape = (*last_steps.shape, length)
    tokens = np.full(shape, pad, np.int64)
    parents = np.full(shape, -1, np.int64)
    logprobs = np.zeros(shape, last_logprobs.dtype)
    for s, h in np.ndindex(*last_steps.shape):
        at = last_steps[s, h]
        if at < 0:
            continue
        beam = last_parents[s, h]
        tokens[s, h, at], parents[s, h, at] = last_tokens[s, h], beam
        logprobs[s, h, at] = last_logprobs[s, h]
        for t in range(at - 1, -1, -1):
            tokens[s, h, t] = beams.tokens[t, s, beam]
            logprobs[s, h, t] = beams.logprobs[t, s, beam]
            beam = parents[s, h, t] = beams.parents[t, s, beam]
    return tokens, parents, logprobs
