"""Regularisers beside the recurrent layers: dropout of features and of words, and penalties."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Embedding, Module

from seqfast.nn._checks import check_lengths, check_mask, check_tensor
from seqfast.nn._padding import running
from seqfast.nn._random import MASKS, draw_seed, drop_weight, dropout
from seqfast.ops.base.checks import PROBABILITY, check_choice, check_number, check_type
from seqfast.ops.dropout.torch import OTHER


class LockedDropout(Module):
    """Variational dropout: one mask for all steps of a sequence.

    Gal & Ghahramani 2016; "locked" in Merity et al. 2018. In training `layer(input)` is

        input[t, n, k] * m[n, k],   m[n, k] = 0 with probability p, else 1 / (1 - p);

    in evaluation it is the input. `input` is [steps, batch, features], with `batch_first` [batch,
    steps, features], or unbatched [steps, features], in a floating dtype; the result has its shape.
    The mask comes from one seed of torch's CPU generator, so `torch.manual_seed` decides it, and it
    is the same on every device. A wrong rank raises ValueError, an input that is not a tensor
    TypeError.

    Args:
        p: probability that a feature is dropped, from 0 to 1.
        batch_first: whether the batch is the first dimension.

    Raises:
        ValueError: `p` outside 0 to 1.

    Example:
        >>> import torch, seqfast
        >>> layer = seqfast.nn.LockedDropout(0.5)
        >>> dropped = layer(torch.ones(10, 4, 8))
        >>> bool((dropped == dropped[0]).all())
        True
    """

    def __init__(self, p: float = 0.5, batch_first: bool = False) -> None:
        super().__init__()
        check_number("LockedDropout", "p", p, PROBABILITY)
        self.p = p
        self.batch_first = batch_first

    def forward(self, input: Tensor) -> Tensor:
        """Drops features, the same ones at all steps.

        Args:
            input: [steps, batch, features], with `batch_first` [batch, steps, features], or
                [steps, features], in a floating dtype.

        Returns:
            A tensor shaped as the input; in evaluation the input itself.

        Raises:
            TypeError: an input that is not a tensor.
            ValueError: a wrong rank.
        """
        check_tensor("LockedDropout", "input", input)
        if input.dim() not in (2, 3):
            raise ValueError(
                f"LockedDropout: Expected input to be 2D or 3D, got {input.dim()}D instead"
            )
        if not self.training or self.p == 0:
            return input
        seed = draw_seed(input)
        if input.dim() == 2:
            return dropout(input.unsqueeze(1), self.p, seed, OTHER).squeeze(1)
        if self.batch_first:
            return dropout(input.transpose(0, 1), self.p, seed, OTHER).transpose(0, 1)
        return dropout(input, self.p, seed, OTHER)

    def extra_repr(self) -> str:
        return f"p={self.p}" + (", batch_first=True" if self.batch_first else "")


class EmbeddingDropout(Module):
    """Dropout of whole words: in training a dropped word's vector is zero at all its occurrences.

    Gal & Ghahramani 2016, section 4; Merity et al. 2018. With the embedding E [words, features]

        layer(ids)[...] = E[ids] * m[ids],   m[w] = 0 with probability p, else 1 / (1 - p);

    with one m per call, so that a word is dropped in the whole batch. In evaluation it is E[ids].
    `EmbeddingDropout(p, embedding)` wraps a `torch.nn.Embedding`, which becomes part of the module:
    call `layer(ids)`. For `EmbeddingDropout(p)` call `layer(embedding, ids)`. `ids` is an integer
    tensor of any shape; the result has another dimension, the features. Masks come from torch's CPU
    generator, as for `LockedDropout`. A call in the other form, or with arguments of another type,
    raises TypeError.

    Args:
        p: probability that a word is dropped, from 0 to 1.
        embedding: the embedding to wrap.

    Raises:
        TypeError: `embedding` is not a `torch.nn.Embedding`.
        ValueError: `p` outside 0 to 1.

    Example:
        >>> import torch, seqfast
        >>> layer = seqfast.nn.EmbeddingDropout(0.1, torch.nn.Embedding(100, 8))
        >>> layer(torch.randint(100, (5, 2))).shape
        torch.Size([5, 2, 8])
    """

    embedding: Embedding | None

    def __init__(self, p: float = 0.1, embedding: Embedding | None = None) -> None:
        super().__init__()
        check_number("EmbeddingDropout", "p", p, PROBABILITY)
        if embedding is not None:
            _check_embedding(embedding)
        self.p = p
        self.embedding = embedding

    def forward(self, *arguments: object) -> Tensor:
        """Looks up words, some of which are dropped.

        Args:
            arguments: `ids`, integers of any shape; before them the `torch.nn.Embedding` if the
                module has none.

        Returns:
            The vectors, shaped as `ids` with another dimension, the features.

        Raises:
            TypeError: the other form of a call, or an argument of a wrong type.
        """
        wanted = "ids" if self.embedding is not None else "embedding and ids"
        if len(arguments) != len(wanted.split(" and ")):
            raise TypeError(
                f"EmbeddingDropout: wanted {wanted}, got {len(arguments)} argument"
                f"{'s' * (len(arguments) != 1)}"
            )
        embedding: object = self.embedding if self.embedding is not None else arguments[0]
        ids = arguments[-1]
        _check_embedding(embedding)
        check_tensor("EmbeddingDropout", "ids", ids)
        assert isinstance(embedding, Embedding)
        assert isinstance(ids, Tensor)
        vectors: Tensor = embedding(ids)
        if not self.training or self.p == 0:
            return vectors
        words = vectors.new_ones((1, 1, embedding.num_embeddings))
        scale = dropout(words, self.p, draw_seed(vectors), OTHER)
        return vectors * scale.flatten()[ids].unsqueeze(-1)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class DropConnectLinear(torch.nn.Linear):
    """A fully connected layer that drops weights in training: DropConnect.

    Wan et al. 2013. In training a call is

        input @ (W * M)^T + b,   M = 0 with probability p, else 1 / (1 - p),

    with one number of M for each weight or, with `on="row"`, for each output (the variational mask
    of fastai's WeightDrop); one M for each call, the bias is kept. In evaluation it is the plain
    layer. Parameters, their names and initialisation are torch.nn.Linear's, and a weight's gradient
    is that of the raw weight. Masks come from torch's CPU generator, as for `LockedDropout`.

    Args:
        in_features: of the input, its last dimension.
        out_features: of the result.
        p: probability that a weight, or a row of weights, is dropped, from 0 to 1.
        bias: whether there is one.
        on: "element" or "row".
        device: of the parameters.
        dtype: of the parameters, default torch's.

    Raises:
        TypeError: a `p` that is not a number.
        ValueError: `p` outside 0 to 1, another `on`.

    Example:
        >>> import torch, seqfast
        >>> layer = seqfast.nn.DropConnectLinear(8, 3, p=0.5)
        >>> layer(torch.ones(4, 8)).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        p: float = 0.5,
        bias: bool = True,
        *,
        on: str = "element",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        check_number("DropConnectLinear", "p", p, PROBABILITY)
        check_choice("DropConnectLinear", "on", on, MASKS)
        super().__init__(in_features, out_features, bias, device, dtype)
        self.p = p
        self.on = on

    def forward(self, input: Tensor) -> Tensor:
        """Multiplies by the weights, some of which are dropped in training.

        Args:
            input: [..., in_features], in the dtype of the parameters.

        Returns:
            [..., out_features].

        Raises:
            TypeError: an input that is not a tensor.
        """
        check_tensor("DropConnectLinear", "input", input)
        weight: Tensor = self.weight
        if self.training and self.p > 0:
            weight = drop_weight(weight, self.p, self.on, draw_seed(weight), OTHER)
        return torch.nn.functional.linear(input, weight, self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, p={self.p}" + (", on='row'" if self.on == "row" else "")


def activation_regularization(
    output: Tensor,
    dropped: Tensor | None = None,
    alpha: float = 2.0,
    beta: float = 1.0,
    batch_first: bool = False,
    *,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Activation and temporal activation regularisation: a penalty to add to the loss.

    Merity et al. 2018, section 4.6, after Merity, McCann & Socher 2017:

        alpha * mean(dropped[t]^2) + beta * mean((output[t + 1] - output[t])^2)

    The first mean is over all steps, the second over all pairs of neighbouring steps. With
    `lengths` or `mask` or both they are over the steps that ran, and over pairs that both ran.

    Args:
        output: the last layer's output, [steps, batch, features], with `batch_first` [batch, steps,
            features], or unbatched [steps, features].
        dropped: `output` after dropout, of the same shape. None: `output`.
        alpha: factor of the squared activations.
        beta: factor of the squared differences.
        batch_first: whether the batch is the first dimension.
        lengths: integers [batch], [] for unbatched output.
        mask: bool, shaped as the output without its features.

    Returns:
        A scalar, float32 for the 16-bit dtypes.

    Raises:
        TypeError: arguments that are not tensors, lengths that are not integers, a mask that is not
            bool.
        ValueError: a wrong shape or device.

    Example:
        >>> import torch, seqfast
        >>> output = torch.tensor([1.0, 3.0]).reshape(2, 1, 1)
        >>> seqfast.nn.activation_regularization(output)  # 2 * mean(1, 9) + (3 - 1)**2
        tensor(14.)
    """
    name = "activation_regularization"
    check_tensor(name, "output", output)
    if output.dim() not in (2, 3):
        raise ValueError(f"{name}: Expected output to be 2D or 3D, got {output.dim()}D instead")
    dropped = output if dropped is None else dropped
    check_tensor(name, "dropped", dropped)
    if dropped.shape != output.shape:
        raise ValueError(
            f"{name}: dropped must be {list(output.shape)}, as output is, got {list(dropped.shape)}"
        )
    if mask is not None:
        check_mask(name, "mask", mask, output)
    batch_leads = batch_first and output.dim() == 3
    if batch_leads:
        output, dropped = output.transpose(0, 1), dropped.transpose(0, 1)
        mask = None if mask is None else mask.transpose(0, 1)
    if lengths is not None:
        check_lengths(name, lengths, list(output.shape[1:-1]))
        within = running(lengths, output.shape[0], output)
        within = within if output.dim() == 3 else within.squeeze(1)
        mask = within if mask is None else mask & within
    if output.dtype in (torch.float16, torch.bfloat16):
        output, dropped = output.float(), dropped.float()
    pairs = None if mask is None else mask[1:] & mask[:-1]
    if mask is not None:
        # What stands elsewhere may be NaN, and so would be its gradient after a square.
        output, dropped = (torch.where(mask.unsqueeze(-1), x, 0) for x in (output, dropped))
    penalty = alpha * _mean(dropped.square(), mask)
    return penalty + beta * _mean((output[1:] - output[:-1]).square(), pairs)


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Over the elements where the mask is True; 0 of none."""
    if mask is None:
        return values.sum() / max(values.numel(), 1)
    total = torch.where(mask.unsqueeze(-1), values, 0).sum()
    return total / (mask.sum() * values.shape[-1]).clamp(min=1)


def _check_embedding(embedding: object) -> None:
    check_type("EmbeddingDropout", "embedding", embedding, Embedding, "a torch.nn.Embedding")
