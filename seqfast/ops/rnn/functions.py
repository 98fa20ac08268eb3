"""Recurrent layers: the functions a caller sees, with the signatures of their NumPy twins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqfast.ops.base.arrays import Array
from seqfast.ops.rnn import dispatch
from seqfast.ops.rnn.arguments import RnnWeights
from seqfast.ops.rnn.layer import (
    Kept,
    Layer,
    Needs,
    ResultGradients,
    Results,
    Weights,
    check_layer,
)
from seqfast.ops.rnn.options import PLAIN, Options

GradWeights = tuple[tuple[Array | None, ...], ...]


def lstm_forward(
    input: Array,
    hidden: Array | None,
    cell: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None = None,
    *,
    reset: Array | None = None,
    seed: Array | None = None,
    options: Options = PLAIN,
    save: bool = True,
) -> tuple[Any, ...]:
    """One LSTM layer over a whole sequence, in one or both directions.

    Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000, peepholes (Gers &
    Schmidhuber 2000), the projection of Sak et al. 2014, layer normalisation (Ba et al. 2016) and
    the variants of `options`. Same results as `seqfast.reference.rnn.lstm_forward`, equations in
    docs/equations.md. All arrays are NumPy arrays, or all are torch tensors on the CPU or on one
    CUDA device, of one dtype: float32, float64, bfloat16 or float16. There is no autograd here:
    that is `seqfast.nn`. On a GPU the call runs on torch's current stream, and the host does not
    wait.

    `output_size` is `proj_size or hidden_size`. `gates` is 4 (i f g o), or 3 (i g o) with
    `coupled_gates` or without `forget_gate`.

    Args:
        input: [steps, batch, input_size]. Without weight_ih it is the product with it, [steps,
            batch, directions * gates * hidden_size].
        hidden: [directions, batch, output_size]. None: zeros.
        cell: [directions, batch, hidden_size]. None: zeros.
        weights: for each direction the first five to ten of (weight_ih [gates * hidden_size,
            input_size], weight_hh [gates * hidden_size, output_size], bias_ih, bias_hh [gates *
            hidden_size], weight_hr [proj_size, hidden_size], bias_hr [proj_size], weight_peephole
            [3, hidden_size] (i f o), weight_norm_hh [gates * hidden_size], weight_norm_cell,
            bias_norm_cell [hidden_size]). All but weight_hh may be None. The second direction runs
            backward in time. The last three go together and ask for layer normalisation.
        lengths: [batch], any integer dtype: steps of each row, 0 to `steps`. Past them output,
            cells and gates are zero; length 0 gives the initial state. Lengths on a GPU are not
            checked, but clamped to this range.
        reset: [steps, batch], bool or uint8: where true, the row's states are zeroed before that
            step, and no gradient crosses. In one direction only.
        seed: one int64 number, by which masks are drawn. None is evaluation: no dropout, zoneout by
            its expectation.
        options: variants and regularisers.
        save: whether to return what `lstm_backward` needs.

    Returns:
        output [steps, batch, directions * output_size]; hidden_n and cell_n, as `hidden` and
        `cell`; cells [steps, batch, directions * hidden_size], float64 for float64, else float32;
        gates [steps, batch, directions * gates * hidden_size]. The last two are None unless `save`.
        With layer normalisation a direction's gates are followed by as many of its normalised
        product, and a sixth result is statistics [steps, batch, directions * 4].

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device, length or option, or options that exclude each other.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import rnn
        >>> x, w, r = (np.zeros(shape, np.float32) for shape in ((5, 2, 3), (16, 3), (16, 4)))
        >>> output, hidden_n, *_ = rnn.lstm_forward(x, None, None, [(w, r, None, None, None)])
        >>> output.shape, hidden_n.shape
        ((5, 2, 4), (1, 2, 4))
    """
    layer = check_layer("lstm", input, hidden, cell, weights, lengths, reset, seed, options)
    *found, statistics = dispatch.forward(layer, save)
    return (*found, statistics) if layer.cell_kind.layer_norm else tuple(found)


def gru_forward(
    input: Array,
    hidden: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None = None,
    *,
    reset: Array | None = None,
    seed: Array | None = None,
    options: Options = PLAIN,
    save: bool = True,
) -> tuple[Any, ...]:
    """One GRU layer over a whole sequence, in one or both directions.

    Cho et al. 2014. By default the reset gate comes after the recurrent product, as in torch and
    cuDNN. `options` has the other forms: `reset_after=False` (before it: ONNX, Keras) and
    `reset_gate=False` (only an update gate). Same results as `seqfast.reference.rnn.gru_forward`,
    equations in docs/equations.md. Arrays, dtypes and devices are as for `lstm_forward`. `gates` is
    3 (r z n), or 2 (z n) without reset gate.

    Args:
        input: [steps, batch, input_size]. Without weight_ih it is the product with it, [steps,
            batch, directions * gates * hidden_size].
        hidden: [directions, batch, hidden_size]. None: zeros.
        weights: for each direction the first five to eight of (weight_ih [gates * hidden_size,
            input_size], weight_hh [gates * hidden_size, hidden_size], bias_ih, bias_hh [gates *
            hidden_size], None, None, None, weight_norm_hh [gates * hidden_size]). All but weight_hh
            may be None. weight_norm_hh asks for layer normalisation (Ba et al. 2016), not with
            `reset_after=False`.
        lengths: [batch], steps of each row, as for `lstm_forward`.
        reset: [steps, batch], as for `lstm_forward`.
        seed: one int64 number; None is evaluation.
        options: variants and regularisers.
        save: whether to return what `gru_backward` needs.

    Returns:
        output [steps, batch, directions * hidden_size]; hidden_n, as `hidden`; gates [steps, batch,
        directions * saved * hidden_size], None unless `save`. A direction's gates are r z n (z n),
        followed, with the reset gate after the product, by the recurrent product's share of n. With
        layer normalisation the normalised product follows, and a fourth result is statistics
        [steps, batch, directions * 4], float64 for float64, else float32.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device, length or option, or options that exclude each other.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import rnn
        >>> x, w, r = (np.zeros(shape, np.float32) for shape in ((5, 2, 3), (12, 3), (12, 4)))
        >>> output, hidden_n, gates = rnn.gru_forward(x, None, [(w, r, None, None, None)])
        >>> output.shape, hidden_n.shape
        ((5, 2, 4), (1, 2, 4))
    """
    layer = check_layer("gru", input, hidden, None, weights, lengths, reset, seed, options)
    return _without_cell(layer, dispatch.forward(layer, save))


def rnn_forward(
    input: Array,
    hidden: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None = None,
    *,
    reset: Array | None = None,
    seed: Array | None = None,
    options: Options = PLAIN,
    save: bool = True,
) -> tuple[Any, ...]:
    """One plain recurrent layer over a whole sequence, in one or both directions.

    Elman 1990; with weight_hr the network of Jordan 1986, which feeds its output back. Same
    results as `seqfast.reference.rnn.rnn_forward`, equations in docs/equations.md. Arrays, dtypes
    and devices are as for `lstm_forward`. `output_size` is `proj_size or hidden_size`.

    Args:
        input: [steps, batch, input_size]. Without weight_ih it is the product with it, [steps,
            batch, directions * hidden_size].
        hidden: [directions, batch, output_size]. None: zeros.
        weights: for each direction the first five to eight of (weight_ih [hidden_size, input_size],
            weight_hh [hidden_size, output_size], bias_ih, bias_hh [hidden_size], weight_hr
            [proj_size, hidden_size], bias_hr [proj_size], None, weight_norm_hh [hidden_size]). All
            but weight_hh may be None. weight_norm_hh asks for layer normalisation (Ba et al. 2016),
            not with a projection.
        lengths: [batch], steps of each row, as for `lstm_forward`.
        reset: [steps, batch], as for `lstm_forward`.
        seed: one int64 number; None is evaluation.
        options: variants and regularisers.
        save: whether to return what `rnn_backward` needs.

    Returns:
        output [steps, batch, directions * output_size]; hidden_n, as `hidden`; gates [steps, batch,
        directions * hidden_size], the activated values, None unless `save`. With layer
        normalisation a direction's are followed by its normalised product, and a fourth result is
        statistics [steps, batch, directions * 4], float64 for float64, else float32.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device, length or option, or options that exclude each other.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import rnn
        >>> x, w, r = (np.zeros(shape, np.float32) for shape in ((5, 2, 3), (4, 3), (4, 4)))
        >>> output, hidden_n, gates = rnn.rnn_forward(x, None, [(w, r, None, None, None)])
        >>> output.shape, hidden_n.shape
        ((5, 2, 4), (1, 2, 4))
    """
    layer = check_layer("rnn", input, hidden, None, weights, lengths, reset, seed, options)
    return _without_cell(layer, dispatch.forward(layer, save))


def lstm_backward(
    grad_output: Array | None,
    grad_hidden_n: Array | None,
    grad_cell_n: Array | None,
    grad_cells: Array | None,
    input: Array,
    hidden: Array | None,
    cell: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None,
    output: Array,
    cells: Array,
    gates: Array,
    *,
    statistics: Array | None = None,
    reset: Array | None = None,
    seed: Array | None = None,
    options: Options = PLAIN,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None, GradWeights | None]:
    """Gradients of `lstm_forward`, by back-propagation through time (Werbos 1990).

    Args:
        grad_output: shaped as the result of `lstm_forward`. None: zero.
        grad_hidden_n: the same.
        grad_cell_n: the same.
        grad_cells: the same.
        input: the argument of `lstm_forward`; so are all up to `lengths`.
        hidden: the initial state.
        cell: the initial cell state.
        weights: for each direction.
        lengths: steps of each row.
        output: the result of `lstm_forward` with `save`; so are the next two.
        cells: every cell state.
        gates: the gates.
        statistics: its result with layer normalisation.
        reset: its argument; so are the next two.
        seed: of the masks.
        options: variants and regularisers.
        needs: which of (input, states, weights) to return a gradient for; the others are None and
            cost nothing.

    Returns:
        grad_input, grad_hidden, grad_cell and grad_weights, shaped as the arguments; grad_weights
        holds None where a weight is None. The gradients of `bias_ih` and `bias_hh` are equal, and
        may be one array.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device, length or option.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import rnn
        >>> x, w, r = (np.ones(shape, np.float32) for shape in ((5, 2, 3), (16, 3), (16, 4)))
        >>> given = x, None, None, [(w, r, None, None, None)], None
        >>> output, _, _, cells, gates = rnn.lstm_forward(*given)
        >>> rnn.lstm_backward(output, None, None, None, *given, output, cells, gates)[0].shape
        (5, 2, 3)
    """
    layer = check_layer("lstm", input, hidden, cell, weights, lengths, reset, seed, options)
    grads = ResultGradients(grad_output, grad_hidden_n, grad_cell_n, grad_cells)
    kept = Kept(output, cells, gates, statistics)
    found = dispatch.backward(layer, grads, kept, _checked_needs(layer.operation, needs))
    return found.input, found.hidden, found.cell, _as_long_as(weights, found.weights)


def gru_backward(
    grad_output: Array | None,
    grad_hidden_n: Array | None,
    input: Array,
    hidden: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None,
    output: Array,
    gates: Array,
    *,
    statistics: Array | None = None,
    reset: Array | None = None,
    seed: Array | None = None,
    options: Options = PLAIN,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, GradWeights | None]:
    """Gradients of `gru_forward`, by back-propagation through time (Werbos 1990).

    Args:
        grad_output: shaped as the result of `gru_forward`. None: zero.
        grad_hidden_n: the same.
        input: the argument of `gru_forward`; so are all up to `lengths`.
        hidden: the initial state.
        weights: for each direction.
        lengths: steps of each row.
        output: the result of `gru_forward` with `save`.
        gates: the same.
        statistics: its result with layer normalisation.
        reset: its argument; so are the next two.
        seed: of the masks.
        options: variants and regularisers.
        needs: which of (input, hidden, weights) to return a gradient for; the others are None and
            cost nothing.

    Returns:
        grad_input, grad_hidden and grad_weights, shaped as the arguments; grad_weights holds None
        where a weight is None. The gradients of `bias_ih` and `bias_hh` differ where the reset gate
        comes after the product, and are equal, maybe one array, elsewhere.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device, length or option.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import rnn
        >>> x, w, r = (np.ones(shape, np.float32) for shape in ((5, 2, 3), (12, 3), (12, 4)))
        >>> given = x, None, [(w, r, None, None, None)], None
        >>> output, _, gates = rnn.gru_forward(*given)
        >>> rnn.gru_backward(output, None, *given, output, gates)[0].shape
        (5, 2, 3)
    """
    layer = check_layer("gru", input, hidden, None, weights, lengths, reset, seed, options)
    grads = ResultGradients(grad_output, grad_hidden_n, None, None)
    kept = Kept(output, None, gates, statistics)
    found = dispatch.backward(layer, grads, kept, _checked_needs(layer.operation, needs))
    return found.input, found.hidden, _as_long_as(weights, found.weights)


def rnn_backward(
    grad_output: Array | None,
    grad_hidden_n: Array | None,
    input: Array,
    hidden: Array | None,
    weights: Sequence[Weights],
    lengths: Array | None,
    output: Array,
    gates: Array,
    *,
    statistics: Array | None = None,
    reset: Array | None = None,
    seed: Array | None = None,
    options: Options = PLAIN,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, GradWeights | None]:
    """Gradients of `rnn_forward`, by back-propagation through time (Werbos 1990).

    Args:
        grad_output: shaped as the result of `rnn_forward`. None: zero.
        grad_hidden_n: the same.
        input: the argument of `rnn_forward`; so are all up to `lengths`.
        hidden: the initial state.
        weights: for each direction.
        lengths: steps of each row.
        output: the result of `rnn_forward` with `save`.
        gates: the same.
        statistics: its result with layer normalisation.
        reset: its argument; so are the next two.
        seed: of the masks.
        options: variants and regularisers.
        needs: which of (input, hidden, weights) to return a gradient for; the others are None and
            cost nothing.

    Returns:
        grad_input, grad_hidden and grad_weights, shaped as the arguments; grad_weights holds None
        where a weight is None. The gradients of `bias_ih` and `bias_hh` are equal, and may be one
        array.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, device, length or option.

    Example:
        >>> import numpy as np
        >>> from seqfast.ops import rnn
        >>> x, w, r = (np.ones(shape, np.float32) for shape in ((5, 2, 3), (4, 3), (4, 4)))
        >>> given = x, None, [(w, r, None, None, None)], None
        >>> output, _, gates = rnn.rnn_forward(*given)
        >>> rnn.rnn_backward(output, None, *given, output, gates)[0].shape
        (5, 2, 3)
    """
    layer = check_layer("rnn", input, hidden, None, weights, lengths, reset, seed, options)
    grads = ResultGradients(grad_output, grad_hidden_n, None, None)
    kept = Kept(output, None, gates, statistics)
    found = dispatch.backward(layer, grads, kept, _checked_needs(layer.operation, needs))
    return found.input, found.hidden, _as_long_as(weights, found.weights)


def _checked_needs(operation: str, needs: Any) -> Needs:
    if not isinstance(needs, (tuple, list)) or len(needs) != len(Needs._fields):
        raise TypeError(
            f"{operation}: needs must be three flags, of input, states and weights, got {needs!r}"
        )
    return Needs(*needs)


def _without_cell(layer: Layer, results: Results) -> tuple[Any, ...]:
    if layer.cell_kind.layer_norm:
        return results.output, results.hidden_n, results.gates, results.statistics
    return results.output, results.hidden_n, results.gates


def _as_long_as(
    weights: Sequence[Weights], grads: tuple[RnnWeights, ...] | None
) -> GradWeights | None:
    """As many gradients per direction as weights were given."""
    if grads is None:
        return None
    return tuple([found[: len(given)] for found, given in zip(grads, weights, strict=True)])
