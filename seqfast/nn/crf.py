"""A linear-chain conditional random field: what a tagger puts on top of its scores."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from seqfast.nn._checks import check_dtypes, check_integers, check_lengths, check_tensor
from seqfast.nn._padding import running
from seqfast.ops.base.checks import check_whole


class Tagging(NamedTuple):
    """The best tags of each sequence of a batch, as `CRF.decode` finds them."""

    tags: Tensor  # int64 [steps, batch], or [batch, steps] with batch_first; -1 past a length
    scores: Tensor  # [batch], the unnormalised score of the tags

    def lists(self, batch_first: bool = False) -> list[list[int]]:
        """The tags of each sequence without their padding."""
        rows = self.tags.tolist() if batch_first else self.tags.t().tolist()
        return [[tag for tag in row if tag >= 0] for row in rows]


class CRF(Module):
    """Scores whole tag sequences, so that a tagger learns which tags may follow each other.

    Lafferty, McCallum, Pereira 2001; on top of a recurrent tagger Huang, Xu, Yu 2015 and Lample et
    al. 2016. With emissions e (what the tagger says of each step) a tag sequence y of length n has

        score(y) = start[y_1] + sum_t e[t, y_t] + sum_t transitions[y_t-1, y_t] + end[y_n]
        log P(y) = score(y) - log sum_y' exp score(y')

    Parameters: `start` and `end` [tags], `transitions` [tags, tags] from the row's tag to the
    column's; all start from U(-0.1, 0.1). Set an entry to -inf, or to a large negative number, to
    forbid it. float32 and float64, on any device torch has; half-precision emissions are summed up
    in float32.

    Args:
        tags: how many tags there are, at least 1.
        batch_first: whether emissions are [batch, steps, tags] instead of [steps, batch, tags].
        device: of the parameters.
        dtype: of the parameters, a floating one.

    Raises:
        TypeError: `tags` is not an integer.
        ValueError: `tags` is below 1.

    Example:
        >>> import torch, seqfast.nn
        >>> crf = seqfast.nn.CRF(3)
        >>> emissions, tags = torch.randn(5, 2, 3), torch.randint(3, (5, 2))
        >>> loss = -crf(emissions, tags, lengths=[5, 3]).mean()
        >>> [len(tags) for tags in crf.decode(emissions, lengths=[5, 3]).lists()]
        [5, 3]
    """

    def __init__(
        self,
        tags: int,
        batch_first: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.tags = check_whole("CRF", "tags", tags, 1)
        self.batch_first = bool(batch_first)
        self.start = Parameter(torch.empty(self.tags, device=device, dtype=dtype))
        self.end = Parameter(torch.empty(self.tags, device=device, dtype=dtype))
        self.transitions = Parameter(torch.empty(self.tags, self.tags, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws every parameter from U(-0.1, 0.1)."""
        for parameter in self.parameters():
            torch.nn.init.uniform_(parameter, -0.1, 0.1)

    def extra_repr(self) -> str:
        return f"{self.tags}{', batch_first=True' if self.batch_first else ''}"

    def forward(
        self, emissions: Tensor, tags: Tensor, lengths: Tensor | list[int] | None = None
    ) -> Tensor:
        """Log-probability of tag sequences.

        Args:
            emissions: [steps, batch, tags] scores; what stands past a length does not count.
            tags: integers [steps, batch], from 0 to tags - 1 within the lengths.
            lengths: integers [batch], from 0 to steps; None: all steps.

        Returns:
            [batch], at most 0; the loss of training is minus its mean. A length of 0 gives 0.

        Raises:
            TypeError, ValueError: a wrong type, dtype, shape, tag or length.
        """
        e, on = self._checked(emissions, lengths)
        check_integers("CRF", "tags", tags)
        if tags.shape != emissions.shape[:-1]:
            wanted, got = list(emissions.shape[:-1]), list(tags.shape)
            raise ValueError(f"CRF: tags must be {wanted}, as emissions are, got {got}")
        y = (tags.t() if self.batch_first else tags).to(torch.int64)
        y = torch.where(on, y, 0)
        if y.is_cpu and y.numel() and not 0 <= int(y.min()) <= int(y.max()) < self.tags:
            bad = int(y.min()) if int(y.min()) < 0 else int(y.max())
            raise ValueError(f"CRF: tags must be from 0 to {self.tags - 1}, got {bad}")
        return self._score(e, on, y) - self._log_partition(e, on)

    def decode(self, emissions: Tensor, lengths: Tensor | list[int] | None = None) -> Tagging:
        """The best tag sequence of each row, by the algorithm of Viterbi 1967.

        Args:
            emissions: [steps, batch, tags] scores; what stands past a length does not count.
            lengths: integers [batch], from 0 to steps; None: all steps.

        Returns:
            `Tagging`: tags [steps, batch], -1 past a length, and scores [batch]. Equal scores: the
            lower tag, decided from the end.

        Raises:
            TypeError, ValueError: a wrong type, dtype, shape or length.
        """
        with torch.no_grad():
            e, on = self._checked(emissions, lengths)
            steps, batch, _ = e.shape
            if steps == 0:
                tags = on.new_zeros(on.shape, dtype=torch.int64)
                return Tagging(tags.t() if self.batch_first else tags, e.new_zeros(batch))
            stay = torch.arange(self.tags, device=e.device).expand(batch, -1)
            best, back = self.start + e[0], []
            for t in range(1, steps):
                score, came_from = (best[:, :, None] + self.transitions).max(dim=1)
                best = torch.where(on[t, :, None], score + e[t], best)
                back.append(torch.where(on[t, :, None], came_from, stay))
            scores, last = (best + self.end).max(dim=1)
            path = [last]
            for came_from in reversed(back):
                path.append(came_from.gather(1, path[-1][:, None])[:, 0])
            tags = torch.where(on, torch.stack(path[::-1]), -1)
            scores = torch.where(on[0], scores, 0)
            return Tagging(tags.t() if self.batch_first else tags, scores)

    def marginals(self, emissions: Tensor, lengths: Tensor | list[int] | None = None) -> Tensor:
        """Probability of each tag at each step, all tag sequences taken together.

        Args:
            emissions: [steps, batch, tags] scores; what stands past a length does not count.
            lengths: integers [batch], from 0 to steps; None: all steps.

        Returns:
            Shaped as `emissions`, rows that sum to 1; zero past a length.

        Raises:
            TypeError, ValueError: a wrong type, dtype, shape or length.
        """
        # The derivative of log sum exp is the probability.
        with torch.enable_grad():
            given = emissions.detach().requires_grad_()
            e, on = self._checked(given, lengths)
            (found,) = torch.autograd.grad(self._log_partition(e, on).sum(), given)
        return found

    def _checked(
        self, emissions: Tensor, lengths: Tensor | list[int] | None
    ) -> tuple[Tensor, Tensor]:
        """Emissions with steps in front, and bool [steps, batch]: what is within a length."""
        check_tensor("CRF", "emissions", emissions)
        check_dtypes("CRF", "emissions", emissions, "parameters", None)
        order = "[batch, steps, tags]" if self.batch_first else "[steps, batch, tags]"
        if emissions.dim() != 3 or emissions.shape[2] != self.tags:
            raise ValueError(
                f"CRF: emissions must be {order} with {self.tags} tags, got {list(emissions.shape)}"
            )
        e = emissions.transpose(0, 1) if self.batch_first else emissions
        e = e.to(torch.promote_types(e.dtype, torch.float32))
        steps, batch, _ = e.shape
        if lengths is None:
            return e, torch.ones(steps, batch, dtype=torch.bool, device=e.device)
        if not isinstance(lengths, Tensor):
            lengths = torch.as_tensor(lengths)
        check_lengths("CRF", lengths, [batch], most=steps)
        on = running(lengths, steps, e)
        # Past a length there may be anything, NaN too.
        return torch.where(on[:, :, None], e, 0), on

    def _score(self, e: Tensor, on: Tensor, y: Tensor) -> Tensor:
        """[batch], of the tags y [steps, batch]."""
        if len(e) == 0:
            return e.new_zeros(e.shape[1]) + 0 * self.start.sum()
        emitted = e.gather(2, y[:, :, None])[:, :, 0]
        moved = self.transitions[y[:-1], y[1:]]
        last = y.gather(0, (on.sum(0) - 1).clamp(min=0)[None])[0]
        score = torch.where(on, emitted, 0).sum(0) + torch.where(on[1:], moved, 0).sum(0)
        return torch.where(on[0], score + self.start[y[0]] + self.end[last], 0)

    def _log_partition(self, e: Tensor, on: Tensor) -> Tensor:
        """[batch]: log of the sum over all tag sequences, by the forward algorithm."""
        if len(e) == 0:
            return e.new_zeros(e.shape[1]) + 0 * self.start.sum()
        alpha = self.start + e[0]
        for t in range(1, len(e)):
            following = torch.logsumexp(alpha[:, :, None] + self.transitions, dim=1) + e[t]
            alpha = torch.where(on[t, :, None], following, alpha)
        return torch.where(on[0], torch.logsumexp(alpha + self.end, dim=1), 0)
