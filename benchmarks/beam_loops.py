"""A beam search over an attention decoder as it is written in torch: the peer of the fused one.

Written with care: no loop over rows or beams, the memory of a sentence shared by its beams and
projected once, one `topk` per row on the logits themselves (no log-probabilities are written out),
back-pointers walked once at the end, states reordered by `index_select`. Finished sentences leave
the batch, or, as in loops that are written for a GPU, stay in it and are masked.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import LSTMCell
from torch.nn import functional as F


class TorchBeamDecoder:
    """Over copies of an AttentionDecoder's weights: LSTM, "dot" or "general", input feeding.

    `drops`: whether finished sentences leave the batch.
    """

    def __init__(self, decoder: Any, drops: bool = True) -> None:
        self.drops = drops
        rnn, attention = decoder.rnn, decoder.attention
        self.embedding = decoder.embedding.weight.detach().clone()
        self.cells = []
        for layer in range(rnn.num_layers):
            weight_ih, weight_hh, bias_ih, bias_hh = rnn.all_weights[layer]
            cell = LSTMCell(weight_ih.shape[1], weight_hh.shape[1])
            own = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
            with torch.no_grad():
                for mine, given in zip(own, (weight_ih, weight_hh, bias_ih, bias_hh), strict=True):
                    mine.copy_(given)
            self.cells.append(cell)
        weight = attention.weight_memory
        self.weight_memory = None if weight is None else weight.detach().clone()
        self.combine = decoder.combine.weight.detach().clone()
        self.head = decoder.head.weight.detach().clone()
        self.bias = decoder.head.bias.detach().clone()

    @torch.inference_mode()
    def search(
        self,
        memory: Tensor,
        memory_lengths: Tensor,
        start: int,
        eos: int,
        beams: int,
        max_length: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best hypothesis of each sentence: tokens [batch, max_length] (eos behind the end),
        lengths, scores (log-probability over length).

        A sentence is done with `beams` ended hypotheses; one counts if it ranks among the best
        `beams` candidates of its step, and at the last step all of these do.
        """
        batch, steps, _ = memory.shape
        vocabulary, hidden_size = self.bias.shape[0], self.cells[0].hidden_size
        keys = memory if self.weight_memory is None else F.linear(memory, self.weight_memory)
        keys = keys.transpose(1, 2).contiguous()
        hidden = (torch.arange(steps) >= memory_lengths[:, None])[:, None]
        offsets = torch.arange(batch)[:, None] * beams
        states = [
            (torch.zeros(batch * beams, hidden_size), torch.zeros(batch * beams, hidden_size))
            for _ in self.cells
        ]
        fed = torch.zeros(batch * beams, self.combine.shape[0])
        scores = torch.full((batch, beams), -torch.inf)
        scores[:, 0] = 0
        ids = torch.full((batch * beams,), start)
        sentence = torch.arange(batch)
        # Records: of each step the chosen tokens and their parents; of ended ones where they are.
        tokens = torch.full((max_length, batch, beams), eos)
        parents = torch.zeros((max_length, batch, beams), dtype=torch.long)
        counts = torch.zeros(batch, dtype=torch.long)
        best_score = torch.full((batch,), -torch.inf)
        best_step = torch.zeros(batch, dtype=torch.long)
        best_parent = torch.zeros(batch, dtype=torch.long)
        best_token = torch.full((batch,), eos)
        for t in range(max_length):
            x = torch.cat([F.embedding(ids, self.embedding), fed], 1)
            for k, cell in enumerate(self.cells):
                states[k] = cell(x, states[k])
                x = states[k][0]
            query = x.view(len(sentence), beams, -1)
            weights = torch.bmm(query, keys).masked_fill_(hidden, -torch.inf).softmax(-1)
            context = torch.bmm(weights, memory).view(len(x), -1)
            fed = torch.tanh_(F.linear(torch.cat([x, context], 1), self.combine))
            logits = F.linear(fed, self.head, self.bias)

            # A row's best are enough: one of them may be the eos, which fills no beam.
            values, best = logits.topk(min(beams + 1, vocabulary))
            totals = values - logits.logsumexp(-1, keepdim=True) + scores.view(-1, 1)
            width = totals.shape[1]
            totals, order = totals.view(len(sentence), -1).topk(min(2 * beams, beams * width))
            chosen = best.view(len(sentence), -1).gather(1, order)
            beam = order // width
            last = t + 1 == max_length
            ends = chosen == eos
            if last:
                ends = torch.ones_like(ends)
            ends[:, beams:] = False
            ends &= totals > -torch.inf
            if last or bool(ends.any()):
                # Those there is still room for, by rank; the first is the best of them.
                room = (beams - counts)[:, None]
                ends &= ends.cumsum(1) <= room
                counts += ends.sum(1)
                normalised = torch.where(ends, totals / (t + 1), -torch.inf)
                score, place = normalised.max(1)
                better = score > best_score[sentence]
                to, place = sentence[better], place[better, None]
                best_score[to] = score[better]
                best_step[to] = t
                best_parent[to] = beam[better].gather(1, place).squeeze(1)
                best_token[to] = chosen[better].gather(1, place).squeeze(1)
            if last:
                break
            # The best that do not end, in their order.
            order = (chosen == eos).to(torch.uint8).argsort(dim=1, stable=True)[:, :beams]
            scores = totals.gather(1, order)
            scores = scores.masked_fill_(chosen.gather(1, order) == eos, -torch.inf)
            beam, chosen = beam.gather(1, order), chosen.gather(1, order)
            tokens[t, sentence], parents[t, sentence] = chosen, beam
            rows = beam + offsets[: len(sentence)]
            alive = counts < beams
            if not bool(alive.any()):
                break
            if not self.drops:
                scores = scores.masked_fill(~alive[:, None], -torch.inf)
            elif not bool(alive.all()):
                sentence, counts, scores = sentence[alive], counts[alive], scores[alive]
                rows, chosen = rows[alive], chosen[alive]
                keys, memory, hidden = keys[alive], memory[alive], hidden[alive]
            rows, ids = rows.view(-1), chosen.view(-1)
            states = [(h.index_select(0, rows), c.index_select(0, rows)) for h, c in states]
            fed = fed.index_select(0, rows)

        result = torch.full((batch, max_length), eos)
        every = torch.arange(batch)
        result[every, best_step] = best_token
        at = best_parent
        for t in range(int(best_step.max()) - 1, -1, -1):
            within = t < best_step
            result[:, t] = torch.where(within, tokens[t, every, at], result[:, t])
            at = torch.where(within, parents[t, every, at], at)
        return result, best_step + 1, best_score
