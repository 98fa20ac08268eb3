"""Steps of a search with phrases: beams are shared among hypotheses by how much they still lack."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqfast.decoding._automata import Automaton
from seqfast.decoding._masks import _choosable_logits
from seqfast.decoding.options import SearchOptions
from seqfast.decoding.phrases import Phrases
from seqfast.decoding.state import is_tensor
from seqfast.decoding.strategies import _check_vocabulary
from seqfast.ops.beam_search.beams import BadRow, Beams
from seqfast.ops.top_k import top_k

Array = Any  # a numpy.ndarray or a torch.Tensor
Host = np.ndarray[Any, Any]

_FAR = np.int64(1) << 30
_MOST_DISTANCES = 1 << 22


class PhraseSearch:
    """Steps of a search with phrases, in the place of `beam_step`."""

    def __init__(self, phrases: Phrases, options: SearchOptions, batch: int, beams: Beams) -> None:
        self._options, self._beams = options, beams
        o = beams.options
        if phrases.per_sentence and len(phrases.entries) != batch:
            raise ValueError(
                f"{options.operation}: Phrases must have phrases for each of {batch} sentences, "
                f"got {len(phrases.entries)}"
            )
        self._table = _PhraseTable(phrases, o.vocabulary, batch)
        limits = _host(beams.max_lengths) - int(o.force_eos)
        short = np.flatnonzero(self._table.needed > limits)
        if len(short):
            raise ValueError(
                f"{options.operation}: max_length of sentence {short[0]} must hold its phrases, "
                f"{self._table.needed[short[0]]} tokens, got {limits[short[0]]}"
            )
        shape = (batch, o.beams)
        self._node = np.zeros(shape, np.int64)
        self._met = np.zeros((*shape, self._table.most), bool)
        self._met |= ~self._table.real[:, None]
        self._sentence = np.arange(batch)

    def step(self, logits: Array, allowed: Array | None) -> None:
        """As `beam_step`: changes the beams, and the states of their rows."""
        beams, o = self._beams, self._beams.options
        arrays = _OnHost(beams)
        values, tokens, total = _largest(logits, allowed, beams)
        wrong = np.isnan(total) | (total == np.inf)
        living = arrays["scores"] > -np.inf
        if (wrong & living.reshape(-1)).any():
            raise BadRow("beam_step", int(np.flatnonzero(wrong & living.reshape(-1))[0]))
        self._match(arrays["sentence"])
        batch, t = len(arrays["sentence"]), int(arrays["step"][0])
        leading = self._table.leading(self._node, self._met, self._sentence)
        # A last step may take EOS alone, whatever its rank.
        ends = np.broadcast_to(np.array(o.eos), (*leading.shape[:2], len(o.eos)))
        extra = np.concatenate((leading, ends), 2)
        seen = (extra[..., None] == tokens.reshape(batch, o.beams, 1, -1)).any(3)
        seen |= np.tril(extra[..., None] == extra[..., None, :], -1).any(3)
        picked = _at(logits, allowed, beams, np.maximum(extra, 0).reshape(len(tokens), -1))
        picked = np.where((seen | (extra < 0)).reshape(len(tokens), -1), -np.inf, picked)
        token = np.concatenate((tokens, np.maximum(extra, 0).reshape(len(tokens), -1)), 1)
        logp = np.concatenate((values, picked), 1) - total[:, None]
        with np.errstate(invalid="ignore"):
            key = arrays["scores"].reshape(-1, 1) + logp
        key = np.where(np.isnan(key), -np.inf, key)
        shape = (batch, o.beams, token.shape[1])
        self._select(arrays, t, token.reshape(shape), logp.reshape(shape), key.reshape(shape))
        arrays.back()

    def _match(self, sentence: Host) -> None:
        """Sentences may have left; `drop` has told, so this only holds them to it."""
        assert np.array_equal(self._sentence, sentence)

    def keep(self, places: Host) -> None:
        """Of the batch only those places stay in it."""
        self._node, self._met = self._node[places], self._met[places]
        self._sentence = self._sentence[places]

    def _select(self, arrays: _OnHost, t: int, token: Host, logp: Host, key: Host) -> None:
        o, table = self._beams.options, self._table
        batch, beams, count = token.shape
        sentence = self._sentence
        limits = arrays["max_lengths"][sentence][:, None, None]
        last = np.equal(limits, t + 1)
        node, met, lacking = table.after(self._node, self._met, token, sentence)
        before = table.lacking(self._node, self._met, sentence)[..., None]
        eos = np.isin(token, o.eos)
        room = limits - (t + 1) - int(o.force_eos)
        possible = np.where(eos, before == 0, lacking <= np.maximum(room, 0))
        if o.force_eos:
            possible &= ~last | eos
        done = arrays["done"][sentence, 0] == 1
        key = np.where(possible & ~done[:, None, None], key, -np.inf)
        # By falling key, then rising beam, then as the row has them.
        flat = key.reshape(batch, -1)
        order = np.argsort(-flat, axis=1, kind="stable")
        order = order[:, : int((flat > -np.inf).sum(1).max(initial=1))]

        def ordered(array: Host) -> Host:
            return np.take_along_axis(array.reshape(batch, -1), order, 1)

        key, token, logp, eos = ordered(key), ordered(token), ordered(logp), ordered(eos)
        lacking, beam = ordered(lacking), order // count
        live = key > -np.inf
        ends = live & (eos | last[:, 0])
        whole = live & (eos | (lacking == 0))
        rank = np.cumsum(whole, 1) - 1
        limit = {"topk": beams, "top2k": 2 * beams, "any": 0}[o.eos_pool]
        kept = ends & (rank < np.where(last[:, 0], max(limit, beams), limit))
        kept |= ends & eos & (o.eos_pool == "any")
        length = np.maximum(t + 1 - self._given(arrays), 0)
        for b, place in zip(*np.nonzero(kept), strict=True):
            found = (key[b, place], logp[b, place], beam[b, place], token[b, place])
            self._pool(arrays, t, int(sentence[b]), int(length[b]), bool(eos[b, place]), found)
        top = (ends[:, 0] & eos[:, 0]) if ends.shape[1] else np.zeros(batch, bool)
        fresh = arrays["done"][sentence, 0]
        arrays["done"][sentence, 0] = np.where(top & (fresh == 0), 2, fresh)
        chosen = _shared_out(np.where(live & ~ends, lacking, -1), beams)
        self._write(arrays, t, chosen, key, token, logp, beam)
        self._advance(order, chosen, node, met)
        self._stop(arrays, length)
        arrays["step"][0] += 1
        arrays["living"][0] = int((arrays["done"] != 1).any(1).sum())

    def _given(self, arrays: _OnHost) -> Host:
        """Tokens of a prefix that do not count, of each sentence in the batch."""
        o = self._beams.options
        if o.score_prefix or self._beams.prefix is None:
            return np.zeros(len(self._sentence), np.int64)
        return arrays["prefix_lengths"][self._sentence]

    def _pool(
        self, arrays: _OnHost, t: int, sentence: int, length: int, eos: bool, found: tuple[Any, ...]
    ) -> None:
        """Behind equal ones, where it is good enough."""
        o = self._beams.options
        total, logprob, beam, token = found
        n = max(length - (eos and not o.count_eos), 0)
        score = total / arrays["divisor"][n] + arrays["addend"][n]
        count = int(arrays["pool_counts"][sentence, 0])
        scores = arrays["pool_scores"][sentence, 0]
        if count == o.pool and (o.stop == "first_k" or score <= scores[-1]):
            return
        place = min(int((scores[:count] >= score).sum()), o.pool - 1)
        for name, value in (
            ("pool_scores", score), ("pool_logprobs", total), ("pool_last", logprob),
            ("pool_steps", t), ("pool_parents", beam), ("pool_tokens", token),
        ):  # fmt: skip
            row = arrays[name][sentence, 0]
            row[place + 1 :] = row[place:-1].copy()
            row[place] = value
        arrays["pool_counts"][sentence, 0] = min(count + 1, o.pool)

    def _write(
        self, arrays: _OnHost, t: int, chosen: Host, key: Host, token: Host, logp: Host, beam: Host
    ) -> None:
        o = self._beams.options
        batch = len(chosen)

        def taken(array: Host, otherwise: Any) -> Host:
            found = np.take_along_axis(array, np.maximum(chosen, 0), 1)
            return np.where(chosen < 0, otherwise, found)

        parent = taken(beam, 0)
        arrays["scores"][:] = taken(key, -np.inf)
        arrays["next_tokens"][:] = taken(token, o.eos[0])
        arrays["next_rows"][:] = parent + np.arange(batch)[:, None] * o.beams
        arrays["tokens"][t, self._sentence] = arrays["next_tokens"]
        arrays["parents"][t, self._sentence] = parent
        arrays["logprobs"][t, self._sentence] = taken(logp, 0)
        if self._beams.history is not None:
            now, then = arrays["history"][t % 2], arrays["history"][(t + 1) % 2]
            then[:] = now.reshape(-1, now.shape[-1])[arrays["next_rows"]]
            end = arrays["history_start"] + t
            rows = np.flatnonzero(end < then.shape[-1])
            then[rows, :, end[rows]] = arrays["next_tokens"][rows]

    def _advance(self, order: Host, chosen: Host, node: Host, met: Host) -> None:
        batch = len(chosen)
        place = np.take_along_axis(order, np.maximum(chosen, 0), 1)
        flat = node.reshape(batch, -1)
        self._node = np.take_along_axis(flat, place, 1)
        every = met.reshape(batch, flat.shape[1], -1)
        self._met = np.take_along_axis(every, place[..., None], 1)

    def _stop(self, arrays: _OnHost, length: Host) -> None:
        o, sentence = self._beams.options, self._sentence
        best = arrays["scores"].max(1)
        count = arrays["pool_counts"][sentence, 0]
        enough = count >= o.wanted
        worst = arrays["pool_scores"][sentence, 0, o.wanted - 1]
        dead = best == -np.inf

        def reached(name: str) -> Host:
            bound = best / arrays[f"{name}_divisor"][length] + arrays[f"{name}_addend"][length]
            return np.asarray(enough & (worst >= bound))

        done = arrays["done"][sentence, 0]
        if o.stop == "exact":
            ends = reached("bound")
        else:
            ends = count >= o.beams if o.stop == "first_k" else (done == 2) & enough
        ends = (ends | dead) & (done != 1)
        certain = dead | reached("certain")
        arrays["done"][sentence, 0] = np.where(ends, 1, done)
        held = arrays["certified"][sentence, 0]
        arrays["certified"][sentence, 0] = np.where(ends, certain, held)
        arrays["scores"][ends] = -np.inf


class _PhraseTable:
    """What of the phrases a node of their automaton stands for. A phrase is numbered within its
    sentence; `real` [batch, most]: which numbers are phrases."""

    def __init__(self, phrases: Phrases, vocabulary: int, batch: int) -> None:
        entries = phrases.entries if phrases.per_sentence else phrases.entries * min(batch, 1)
        self._whose = (
            np.arange(batch) if phrases.per_sentence else np.zeros(batch, np.int64)
        )  # sentences that share their phrases are one
        entries = entries or [[]]
        self.most = max(1, *map(len, entries))
        alternatives: list[tuple[int, int, tuple[int, ...]]] = []
        for who, sentence in enumerate(entries):
            for number, entry in enumerate(sentence):
                alternatives += [(who, number, tokens) for tokens in entry]
        _check_vocabulary("Phrases", [a[2] for a in alternatives], vocabulary)
        automaton = Automaton([a[2] for a in alternatives], vocabulary)
        self._classes, self._next = automaton.classes, automaton.next
        shortest = np.zeros((len(entries), self.most), np.int64)
        for who, sentence in enumerate(entries):
            for number, entry in enumerate(sentence):
                shortest[who, number] = min(map(len, entry))
        self._shortest = shortest[self._whose]
        self.real = self._shortest > 0
        # Of a node: (who, number, tokens gained, the next token) for what it may be going through.
        paths = [
            [
                (who, number, shortest[who, number] - (len(tokens) - read), tokens[read])
                for who, number, tokens, read in (
                    (*alternatives[which], read) for which, read in automaton.paths[node]
                )
                if read < len(tokens)
            ]
            for node in range(automaton.nodes)
        ]
        paths[0] = []
        self._path = _padded([[p[:4] for p in node] for node in paths], 4)
        ended = [[alternatives[which][:2] for which in node] for node in automaton.ended]
        self._ended = _padded(ended, 2)
        first = [
            sorted({(number, tokens[0]) for w, number, tokens in alternatives if w == who})
            for who in range(len(entries))
        ]
        self._first = _padded(first, 2)[self._whose] if batch else _padded(first, 2)
        self._real_of = shortest > 0
        self._sets = (np.int64(1) << self._real_of.sum(1)) - 1
        tables = [self._distances(whose) for whose in range(len(entries))]
        self._distance: Host | None = None
        if all(table is not None for table in tables):
            widest = max(table.shape[1] for table in tables)  # type: ignore[union-attr]
            self._distance = np.full((len(tables), automaton.nodes, widest), _FAR)
            for into, table in zip(self._distance, tables, strict=True):
                into[:, : table.shape[1]] = table  # type: ignore[union-attr]
        nobody = np.zeros(batch, np.int64)
        begun = ~self.real
        self.needed = self.lacking(nobody, begun, np.arange(batch))

    def _distances(self, whose: int) -> Host | None:
        """int64 [nodes, 2 ** phrases]: the fewest tokens after which all phrases are met, from each
        node and each set of met ones; None where the table would be large."""
        count = int(self._real_of[whose].sum())
        nodes, classes = self._next.shape
        if count > 16 or nodes * classes << count > _MOST_DISTANCES:
            return None
        ended = self._ended
        mine = ended[..., 0] == whose
        bits = np.where(mine, np.int64(1) << np.maximum(ended[..., 1], 0), 0)
        meets = np.bitwise_or.reduce(bits, 1)
        sets = np.arange(1 << count)
        after = sets | meets[self._next][..., None]
        distance = np.full((nodes, len(sets)), _FAR)
        distance[:, -1] = 0
        while True:
            shorter = distance[self._next[..., None], after].min(1) + 1
            shorter = np.minimum(distance, shorter)
            if np.array_equal(shorter, distance):
                return distance
            distance = shorter

    def lacking(self, node: Host, met: Host, sentence: Host) -> Host:
        """int64 like `node` [batch, ...]: the fewest tokens that are still needed. Of very many
        phrases overlaps are not seen, and it may be more."""
        if self._distance is not None:
            whose = self._whose[sentence].reshape((len(sentence),) + (1,) * (node.ndim - 1))
            sets = (met * (np.int64(1) << np.arange(self.most))).sum(-1)
            return np.asarray(self._distance[whose, node, sets & self._sets[whose]])
        shape = (len(sentence),) + (1,) * (node.ndim - 1)
        whole = self._shortest[sentence].reshape(*shape, self.most)
        need = np.where(met, 0, whole).sum(-1)
        path = self._path[node]
        who = self._whose[sentence].reshape(*shape, 1)
        open_ = (path[..., 0] == who) & ~_of_numbers(met, path[..., 1])
        gained = np.where(open_, path[..., 2], 0).max(-1, initial=0)
        return np.asarray(need - gained)

    def after(self, node: Host, met: Host, token: Host, sentence: Host) -> tuple[Host, Host, Host]:
        """Node, what is met and what is lacking after tokens [batch, beams, any] of each row."""
        after = self._next[node[..., None], self._classes[token]]
        ended = self._ended[after]
        mine = ended[..., 0] == self._whose[sentence][:, None, None, None]
        known = np.broadcast_to(met[:, :, None], (*token.shape, self.most)).copy()
        for place in range(ended.shape[-2]):
            number = np.maximum(ended[..., place, 1], 0)[..., None]
            before = np.take_along_axis(known, number, -1)
            np.put_along_axis(known, number, before | mine[..., place, None], -1)
        return after, known, self.lacking(after, known, sentence)

    def leading(self, node: Host, met: Host, sentence: Host) -> Host:
        """int64 [batch, beams, any]: tokens that lead on in a phrase still missing; -1: none."""
        path = self._path[node]
        who = self._whose[sentence][:, None, None]
        open_ = (path[..., 0] == who) & ~_of_numbers(met, path[..., 1])
        on = np.where(open_, path[..., 3], -1)
        first = self._first[sentence][:, None]
        new = np.where((first[..., 0] >= 0) & ~_of_numbers(met, first[..., 0]), first[..., 1], -1)
        return np.concatenate((on, np.broadcast_to(new, (*on.shape[:2], new.shape[-1]))), 2)


def _of_numbers(met: Host, number: Host) -> Host:
    """`met` [..., most] at numbers [..., any]; invalid numbers count as met."""
    number = np.broadcast_to(number, (*met.shape[:-1], number.shape[-1]))
    return np.take_along_axis(met, np.maximum(number, 0), -1) | (number < 0)


def _padded(rows: list[Any], width: int) -> Host:
    """int64 [rows, any, width] of lists of tuples, -1 behind their ends."""
    most = max(1, *map(len, rows)) if rows else 1
    table = np.full((len(rows), most, width), -1, np.int64)
    for row, items in zip(table, rows, strict=True):
        for place, item in zip(row, items, strict=False):
            place[:] = item
    return table


def _shared_out(lacking: Host, beams: int) -> Host:
    """int64 [batch, beams]: places of candidates, which come by falling key, that go on; -1: none.

    `lacking` [batch, candidates], -1 where one may not go on. Each number of missing tokens gets as
    many beams as the others, as long as it has candidates; what is over goes to the fewest missing.
    """
    batch, count = lacking.shape
    chosen = np.full((batch, beams), -1, np.int64)
    if not count:
        return chosen
    # The rank of each among those that lack as much.
    by_bank = np.argsort(lacking, axis=1, kind="stable")
    bank = np.take_along_axis(lacking, by_bank, 1)
    starts = np.where(np.diff(bank, axis=1, prepend=-2) != 0, np.arange(count), 0)
    within = np.arange(count) - np.maximum.accumulate(starts, axis=1)
    rank = np.empty_like(within)
    np.put_along_axis(rank, by_bank, within, 1)
    big = np.int64(1) << 40
    turn = np.where(lacking < 0, big, rank * (int(lacking.max()) + 1) + lacking)
    order = np.argsort(turn, axis=1, kind="stable")[:, :beams]
    good = np.take_along_axis(turn, order, 1) < big
    # By falling key again, as whoever reads the beams expects.
    picked = np.sort(np.where(good, order, count), axis=1)
    chosen[:, : picked.shape[1]] = np.where(picked == count, -1, picked)
    return chosen


def _largest(logits: Array, allowed: Array | None, beams: Beams) -> tuple[Host, Host, Host]:
    """Of each row the largest logits over the temperature, their tokens, and the log of the sum of
    the exponentials of all."""
    o = beams.options
    x = _edited(logits, allowed, beams)
    count = min(o.vocabulary, o.beams * (2 if o.eos_pool == "top2k" else 1) + len(o.eos))
    if str(x.dtype).removeprefix("torch.") == "float64":
        values, tokens = _sorted_largest(x, count)
    else:
        values, tokens = top_k(_single(x), count)
    whole = x if o.renormalize else logits
    return (
        _host(values) / o.temperature, np.maximum(_host(tokens), 0),
        _host(_log_sum(whole, o.temperature)),
    )  # fmt: skip


def _at(logits: Array, allowed: Array | None, beams: Beams, tokens: Host) -> Host:
    """Logits over the temperature, [rows, any], of those tokens of each row."""
    x = _edited(logits, allowed, beams)
    if isinstance(x, np.ndarray):
        found: Any = np.take_along_axis(x, tokens, 1)
    else:
        import torch

        found = x.gather(1, torch.from_numpy(tokens).to(x.device)).float()
        found = found.double() if x.dtype == torch.float64 else found
    return np.asarray(_host(found) / beams.options.temperature)


def _edited(logits: Array, allowed: Array | None, beams: Beams) -> Array:
    o = beams.options
    early = o.min_length > int(beams.step[0])
    if allowed is None and not o.banned and not o.no_repeat_ngram and not early:
        return logits
    return _choosable_logits(logits, allowed, beams)


def _single(x: Array) -> Array:
    return x.astype(np.float32, copy=False) if isinstance(x, np.ndarray) else x.float()


def _sorted_largest(x: Array, count: int) -> tuple[Array, Array]:
    if isinstance(x, np.ndarray):
        order = np.argsort(-x, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(x, order, 1), order
    values, order = x.sort(dim=1, descending=True, stable=True)
    return values[:, :count], order[:, :count]


def _log_sum(x: Array, temperature: float) -> Array:
    if is_tensor(x):
        import torch

        wide = x if x.dtype == torch.float64 else x.float()
        return torch.logsumexp(wide if temperature == 1 else wide / temperature, 1)
    real = np.float64 if x.dtype == np.float64 else np.float32
    wide = x.astype(real, copy=False)
    wide = wide if temperature == 1 else wide / real(temperature)
    largest = wide.max(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        shifted = np.exp(wide - np.where(np.isfinite(largest), largest, 0))
        return np.log(shifted.sum(1)) + largest[:, 0]


def _host(array: Array) -> Host:
    return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()


class _OnHost:
    """The arrays of beams as NumPy's: themselves, or copies that `back` writes to the device."""

    def __init__(self, beams: Beams) -> None:
        self._beams = beams
        self._taken: dict[str, tuple[Array, Host]] = {}

    def __getitem__(self, name: str) -> Host:
        if name not in self._taken:
            array = getattr(self._beams, name)
            self._taken[name] = array, _host(array)
        return self._taken[name][1]

    def back(self) -> None:
        for array, host in self._taken.values():
            if is_tensor(array) and array.is_cuda:
                import torch

                array.copy_(torch.from_numpy(host))
