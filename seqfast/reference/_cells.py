"""One step of every recurrent cell, forward and backward, in the letters of docs/equations.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seqfast.reference._options import Options

Array = npt.NDArray[Any]
DType = np.dtype[Any]
NORM_EPSILON = 1e-5


class Weights(NamedTuple):
    """One direction's weights, in the order in which the operations take them."""

    weight_ih: Array | None
    weight_hh: Array | None
    bias_ih: Array | None = None
    bias_hh: Array | None = None
    weight_hr: Array | None = None
    bias_hr: Array | None = None
    weight_peephole: Array | None = None
    weight_norm_hh: Array | None = None
    weight_norm_cell: Array | None = None
    bias_norm_cell: Array | None = None


class At(NamedTuple):
    """What a cell meets at one step, [batch, ...]; the states are those after a reset."""

    h: Array  # h[t-1]
    c: Array  # c[t-1], of no width in cells without a cell state
    m: Array  # h[t-1] as the recurrent product sees it, after dropout
    update_scale: Array  # 0 or 1 / (1 - p), of the candidate
    cell_scale: Array  # 0 or 1, of c[t]; in evaluation 1 - p
    zoneout_cell: Array  # the share of c[t-1] that stays


class Product(NamedTuple):
    """The recurrent product's share of the pre-activations, and what it keeps of its norm."""

    u: Array  # [batch, gates * hidden_size]
    normalised: Array  # [batch, gates * hidden_size], of no width without layer normalisation
    rstd: Array  # [batch, groups], likewise


class Moved(NamedTuple):
    """A step forward."""

    result: Array  # h~ before a projection [batch, hidden_size]
    c: Array  # c[t]
    saved: Sequence[Array]  # each [batch, hidden_size]
    product: Product
    norm_cell: tuple[Array, Array]  # mean and 1 / deviation of the cell [batch, 1]


class Kept(NamedTuple):
    """What a step forward left for the step backward."""

    saved: Sequence[Array]
    normalised: Array
    rstd: Array
    c: Array
    norm_cell: tuple[Array, Array]


class Gradients(NamedTuple):
    """A step backward: of the input's share of the pre-activations, of m, h[t-1] and c[t-1]."""

    x: Array
    m: Array
    h: Array
    c: Array


class Cell:
    """A cell with the weights of one direction, and the gradients of those."""

    gates: int  # blocks of rows of the weights
    saved: int  # numbers kept of a unit and step
    norm_groups: tuple[int, ...]  # gates that are normalised together
    has_cell_state = False

    def __init__(
        self, weights: Sequence[Array | None], options: Options, storage: DType, accumulate: DType
    ) -> None:
        self.weights = Weights(*(None if w is None else w.astype(accumulate) for w in weights))
        self.gradients = Weights(*(None if w is None else np.zeros_like(w) for w in self.weights))
        self.options = options
        self.storage, self.accumulate = storage, accumulate
        assert self.weights.weight_hh is not None
        self.R = self.weights.weight_hh
        self.hidden_size = self.R.shape[0] // self.gates
        self.output_size = self.R.shape[1]
        self.layer_norm = self.weights.weight_norm_hh is not None

    def forward(self, x: Array, at: At) -> Moved:
        raise NotImplementedError

    def backward(self, grad: Array, grad_c: Array, at: At, kept: Kept) -> Gradients:
        """From the gradients of `Moved.result` and `Moved.c`; adds to those of the weights."""
        raise NotImplementedError

    def rounded(self, x: Array) -> Array:
        """As it reads when it has been stored."""
        return np.asarray(x.astype(self.storage).astype(self.accumulate))

    def add(self, name: str, grad: Array) -> None:
        """To the gradient of one weight, if there is that weight."""
        total = getattr(self.gradients, name)
        if total is not None:
            total += grad

    # ---- the input's product, x W^T + b_ih ----

    def input_product(self, x: Array) -> Array:
        """Without a weight x is that product already."""
        W, b = self.weights.weight_ih, self.weights.bias_ih
        product = x if W is None else x @ W.T
        return product if b is None else product + b

    def input_product_backward(self, grad: Array, x: Array) -> Array:
        W = self.weights.weight_ih
        self.add("bias_ih", grad.sum(0))
        if W is None:
            return grad
        self.add("weight_ih", grad.T @ x)
        return np.asarray(grad @ W)

    # ---- the recurrent product, m R^T + b_hh or gamma * norm(m R^T) + b_hh ----

    def _recurrent(self, m: Array) -> Product:
        product = m @ self.R.T
        normalised = rstd = np.zeros((len(m), 0), self.accumulate)
        if self.layer_norm:
            parts = [norm(part) for part in self._in_groups(product)]
            normalised = np.concatenate([part.normalised for part in parts], axis=-1)
            rstd = np.concatenate([part.rstd for part in parts], axis=-1)
            product = self.weights.weight_norm_hh * normalised
        b = self.weights.bias_hh
        return Product(product if b is None else product + b, normalised, rstd)

    def _recurrent_backward(self, grad: Array, at: At, kept: Kept) -> Array:
        """The gradient of m."""
        self.add("bias_hh", grad.sum(0))
        if self.layer_norm:
            self.add("weight_norm_hh", (grad * kept.normalised).sum(0))
            groups = zip(
                self._in_groups(self.weights.weight_norm_hh * grad),
                self._in_groups(kept.normalised),
                np.split(kept.rstd, len(self.norm_groups), axis=-1),
                strict=True,
            )
            grad = np.concatenate([norm_backward(*group) for group in groups], axis=-1)
        self.add("weight_hh", grad.T @ at.m)
        return np.asarray(grad @ self.R)

    def _in_groups(self, x: Array) -> list[Array]:
        ends = np.cumsum(self.norm_groups) * self.hidden_size
        return np.split(x, ends[:-1], axis=-1)

    # ---- the projection, act(h~ P^T + b_hr) ----

    def project(self, result: Array) -> Array:
        P, b = self.weights.weight_hr, self.weights.bias_hr
        if P is None:
            return result
        product = result @ P.T
        act, _ = ACTIVATIONS[self.options.output_nonlinearity]
        return act(product if b is None else product + b)

    def project_backward(self, grad: Array, projected: Array, result: Array) -> Array:
        """The gradient of `result`, of which `projected` is the projection."""
        P = self.weights.weight_hr
        if P is None:
            return grad
        _, slope = ACTIVATIONS[self.options.output_nonlinearity]
        grad = grad * slope(projected)
        self.add("bias_hr", grad.sum(0))
        self.add("weight_hr", grad.T @ result)
        return np.asarray(grad @ P)

    def result(self, at: At, kept: Kept) -> Array:
        """`Moved.result`, out of what was kept."""
        raise NotImplementedError


class RnnCell(Cell):
    """h~ = act(x + u)."""

    gates, saved = 1, 1
    norm_groups: tuple[int, ...] = (1,)

    def forward(self, x: Array, at: At) -> Moved:
        product = self._recurrent(at.m)
        act, _ = ACTIVATIONS[self.options.nonlinearity]
        result = act(x + product.u)
        return Moved(result, at.c, [result], product, no_norm(result))

    def backward(self, grad: Array, grad_c: Array, at: At, kept: Kept) -> Gradients:
        (result,) = kept.saved
        _, slope = ACTIVATIONS[self.options.nonlinearity]
        dz = grad * slope(result)
        return Gradients(dz, self._recurrent_backward(dz, at, kept), np.zeros_like(at.h), grad_c)

    def result(self, at: At, kept: Kept) -> Array:
        return kept.saved[0]


class GruCell(Cell):
    """The reset gate comes after the product: n = tanh(x_n + r * u_n)."""

    gates, saved = 3, 4
    norm_groups: tuple[int, ...] = (2, 1)

    def forward(self, x: Array, at: At) -> Moved:
        product = self._recurrent(at.m)
        x_r, x_z, x_n = np.split(x, 3, axis=-1)
        u_r, u_z, u_n = np.split(product.u, 3, axis=-1)
        r, z = sigmoid(x_r + u_r), sigmoid(x_z + u_z)
        n = np.tanh(x_n + r * u_n)
        return Moved(self._mix(z, n, at), at.c, [r, z, n, u_n], product, no_norm(n))

    def backward(self, grad: Array, grad_c: Array, at: At, kept: Kept) -> Gradients:
        r, z, n, u_n = kept.saved
        dz, dn = self._mix_backward(grad, z, n, at)
        dr = dn * u_n * r * (1 - r)
        dm = self._recurrent_backward(np.concatenate([dr, dz, dn * r], axis=-1), at, kept)
        return Gradients(np.concatenate([dr, dz, dn], axis=-1), dm, grad * z, grad_c)

    def _mix(self, z: Array, n: Array, at: At) -> Array:
        candidate = at.update_scale * n
        return np.asarray(candidate + z * (at.h - candidate))

    def _mix_backward(self, grad: Array, z: Array, n: Array, at: At) -> tuple[Array, Array]:
        """Of the pre-activations of z and n."""
        return (
            grad * (at.h - at.update_scale * n) * z * (1 - z),
            grad * (1 - z) * at.update_scale * (1 - n**2),
        )

    def result(self, at: At, kept: Kept) -> Array:
        return self._mix(kept.saved[1], kept.saved[2], at)


class GruResetBeforeCell(GruCell):
    """The reset gate comes before the product: n = tanh(x_n + (r * m) R_n^T + b_n)."""

    gates, saved = 3, 3
    norm_groups: tuple[int, ...] = (3,)

    def forward(self, x: Array, at: At) -> Moved:
        x_r, x_z, x_n = np.split(x, 3, axis=-1)
        H = self.hidden_size
        R_r, R_z, R_n = self.R[:H], self.R[H : 2 * H], self.R[2 * H :]
        b_r, b_z, b_n = self._biases()
        r, z = sigmoid(x_r + at.m @ R_r.T + b_r), sigmoid(x_z + at.m @ R_z.T + b_z)
        n = np.tanh(x_n + self.rounded(r * at.m) @ R_n.T + b_n)
        nothing = np.zeros((len(n), 0), self.accumulate)
        product = Product(nothing, nothing, nothing)
        return Moved(self._mix(z, n, at), at.c, [r, z, n], product, no_norm(n))

    def backward(self, grad: Array, grad_c: Array, at: At, kept: Kept) -> Gradients:
        r, z, n = kept.saved
        R_r, R_z, R_n = np.split(self.R, 3)
        dz, dn = self._mix_backward(grad, z, n, at)
        d_rm = dn @ R_n
        dr = d_rm * at.m * r * (1 - r)
        dx = np.concatenate([dr, dz, dn], axis=-1)
        self.add("bias_hh", dx.sum(0))
        self.add(
            "weight_hh",
            np.concatenate([dr.T @ at.m, dz.T @ at.m, dn.T @ self.rounded(r * at.m)]),
        )
        return Gradients(dx, dr @ R_r + dz @ R_z + d_rm * r, grad * z, grad_c)

    def _biases(self) -> list[Array]:
        b = self.weights.bias_hh
        return np.split(np.zeros(len(self.R), self.accumulate) if b is None else b, 3)


class GruUpdateGateCell(GruCell):
    """Without a reset gate: n = tanh(x_n + u_n)."""

    gates, saved = 2, 2
    norm_groups: tuple[int, ...] = (2,)

    def forward(self, x: Array, at: At) -> Moved:
        product = self._recurrent(at.m)
        z, n = np.split(x + product.u, 2, axis=-1)
        z, n = sigmoid(z), np.tanh(n)
        return Moved(self._mix(z, n, at), at.c, [z, n], product, no_norm(n))

    def backward(self, grad: Array, grad_c: Array, at: At, kept: Kept) -> Gradients:
        z, n = kept.saved
        dx = np.concatenate(self._mix_backward(grad, z, n, at), axis=-1)
        return Gradients(dx, self._recurrent_backward(dx, at, kept), grad * z, grad_c)

    def result(self, at: At, kept: Kept) -> Array:
        return self._mix(kept.saved[0], kept.saved[1], at)


class LstmCell(Cell):
    """Gates i f g o. What is not asked for stands as peephole 0, clip at infinity, norm 1."""

    gates, saved = 4, 4
    norm_groups: tuple[int, ...] = (4,)
    has_cell_state = True

    def __init__(
        self, weights: Sequence[Array | None], options: Options, storage: DType, accumulate: DType
    ) -> None:
        super().__init__(weights, options, storage, accumulate)
        # The projection of an LSTM is linear.
        self.options = options._replace(output_nonlinearity="identity")
        p = self.weights.weight_peephole
        self.p_i, self.p_f, self.p_o = (
            np.zeros((3, self.hidden_size), accumulate) if p is None else p
        )
        self.gate_clip = accumulate.type(options.gate_clip or np.inf)
        self.cell_clip = accumulate.type(options.cell_clip or np.inf)
        self.activate, self.slope = ACTIVATIONS[options.output_activation]
        self.sees_previous = options.peephole_on == "previous"

    def forward(self, x: Array, at: At) -> Moved:
        product = self._recurrent(at.m)
        z = np.split(x + product.u, self.gates, axis=-1)
        i = sigmoid(self._clip(self._peep(z[0], self.p_i, at.c)))
        g = np.tanh(self._clip(z[-2]))
        f = self._forget(z, i, at)
        c_new = self._new_cell(i, f, g, at)
        o = sigmoid(self._clip(self._peep(z[-1], self.p_o, self._seen_by_o(at.c, c_new))))
        norm_cell = norm(c_new)[1:] if self.layer_norm else no_norm(c_new)
        result = o * self.activate(self._normalised_cell(c_new, norm_cell))
        c = zoned(c_new, at.c, at.zoneout_cell)
        return Moved(result, c, self._saved(i, f, g, o), product, norm_cell)

    def backward(self, grad: Array, grad_c: Array, at: At, kept: Kept) -> Gradients:
        i, f, g, o = self._gates(kept)
        c_new = self._kept_new_cell(at, kept)
        a = self.activate(self._normalised_cell(c_new, kept.norm_cell))

        do = grad * a * self._sigmoid_slope(o)
        through_o = do * self.p_o
        dc = grad_c * (1 - at.zoneout_cell) + (0 if self.sees_previous else through_o)
        dc = dc + self._normalised_cell_backward(grad * o * self.slope(a), c_new, kept.norm_cell)
        if self.options.cell_clip:
            dc = dc * (np.abs(c_new) < self.cell_clip)
        dc = dc * at.cell_scale
        di, df = self._input_and_forget_backward(dc, i, f, g, at)
        dg = dc * at.update_scale * i * self._tanh_slope(g)

        dx = np.concatenate(self._saved(di, df, dg, do), axis=-1)
        seen = self._seen_by_o(at.c, c_new)
        self.add("weight_peephole", np.stack([di * at.c, df * at.c, do * seen]).sum(1))
        to_c = dc * f + di * self.p_i + df * self.p_f + grad_c * at.zoneout_cell
        to_c = to_c + (through_o if self.sees_previous else 0)
        return Gradients(dx, self._recurrent_backward(dx, at, kept), np.zeros_like(at.h), to_c)

    def result(self, at: At, kept: Kept) -> Array:
        *_, o = self._gates(kept)
        c_new = self._kept_new_cell(at, kept)
        return np.asarray(o * self.activate(self._normalised_cell(c_new, kept.norm_cell)))

    # ---- what differs with three gates ----

    def _forget(self, z: list[Array], i: Array, at: At) -> Array:
        return sigmoid(self._clip(self._peep(z[1], self.p_f, at.c)))

    def _input_and_forget_backward(
        self, dc: Array, i: Array, f: Array, g: Array, at: At
    ) -> tuple[Array, Array]:
        di = dc * at.update_scale * g * self._sigmoid_slope(i)
        return di, dc * at.c * self._sigmoid_slope(f)

    def _saved(self, i: Array, f: Array, g: Array, o: Array) -> list[Array]:
        return [i, f, g, o]

    def _gates(self, kept: Kept) -> Sequence[Array]:
        return kept.saved

    # ---- the cell ----

    def _new_cell(self, i: Array, f: Array, g: Array, at: At) -> Array:
        c = at.cell_scale * (f * at.c + i * (at.update_scale * g))
        return np.asarray(np.clip(c, -self.cell_clip, self.cell_clip))

    def _kept_new_cell(self, at: At, kept: Kept) -> Array:
        """The cell before zoneout: what was kept, where there is none."""
        i, f, g, _ = self._gates(kept)
        return self._new_cell(i, f, g, at) if self.options.zoneout[1] > 0 else kept.c

    def _normalised_cell(self, c: Array, norm_cell: tuple[Array, Array]) -> Array:
        if not self.layer_norm:
            return c
        mean, rstd = norm_cell
        weight, bias = self.weights.weight_norm_cell, self.weights.bias_norm_cell
        return np.asarray((c - mean) * rstd * weight + bias)

    def _normalised_cell_backward(
        self, grad: Array, c: Array, norm_cell: tuple[Array, Array]
    ) -> Array:
        if not self.layer_norm:
            return grad
        mean, rstd = norm_cell
        normalised = (c - mean) * rstd
        self.add("weight_norm_cell", (grad * normalised).sum(0))
        self.add("bias_norm_cell", grad.sum(0))
        return norm_backward(grad * self.weights.weight_norm_cell, normalised, rstd)

    def _seen_by_o(self, c: Array, c_new: Array) -> Array:
        return c if self.sees_previous else c_new

    def _peep(self, z: Array, p: Array, c: Array) -> Array:
        # An infinite cell and no peephole do not make NaN.
        return z if self.weights.weight_peephole is None else z + p * c

    # ---- clipped gates: no slope where the limit stands ----

    def _clip(self, z: Array) -> Array:
        return np.asarray(np.clip(z, -self.gate_clip, self.gate_clip))

    def _sigmoid_slope(self, gate: Array) -> Array:
        low, high = (self.rounded(sigmoid(x)) for x in (-self.gate_clip, self.gate_clip))
        return np.asarray(gate * (1 - gate) * ((low < gate) & (gate < high)))

    def _tanh_slope(self, gate: Array) -> Array:
        return np.asarray((1 - gate**2) * (np.abs(gate) < self.rounded(np.tanh(self.gate_clip))))


class LstmThreeGatesCell(LstmCell):
    """Gates i g o; f = 1 - i where `coupled_gates`, else f = 1."""

    gates, saved = 3, 3
    norm_groups: tuple[int, ...] = (3,)

    def _forget(self, z: list[Array], i: Array, at: At) -> Array:
        return 1 - i if self.options.coupled_gates else np.ones_like(i)

    def _input_and_forget_backward(
        self, dc: Array, i: Array, f: Array, g: Array, at: At
    ) -> tuple[Array, Array]:
        through_f = at.c if self.options.coupled_gates else np.zeros_like(at.c)
        di = dc * (at.update_scale * g - through_f) * self._sigmoid_slope(i)
        return di, np.zeros_like(di)

    def _saved(self, i: Array, f: Array, g: Array, o: Array) -> list[Array]:
        return [i, g, o]

    def _gates(self, kept: Kept) -> Sequence[Array]:
        i, g, o = kept.saved
        return i, 1 - i if self.options.coupled_gates else np.ones_like(i), g, o


def lstm_cell(options: Options) -> type[Cell]:
    return LstmThreeGatesCell if options.coupled_gates or not options.forget_gate else LstmCell


def gru_cell(options: Options) -> type[Cell]:
    if not options.reset_gate:
        return GruUpdateGateCell
    return GruCell if options.reset_after else GruResetBeforeCell


def rnn_cell(options: Options) -> type[Cell]:
    return RnnCell


# ---- activations, and their slopes where they gave y ----


def zoned(new: Array, old: Array, share: Array) -> Array:
    """`share` of the old state stays; where that is nothing it may be infinite."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(share == 0, new, new + share * (old - new)))


def sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "identity": (lambda x: x, lambda y: np.ones_like(y)),
    "tanh": (lambda x: np.asarray(np.tanh(x)), lambda y: np.asarray(1 - y**2)),
    "relu": (lambda x: np.maximum(x, 0), lambda y: np.asarray(y > 0, y.dtype)),
    "sigmoid": (sigmoid, lambda y: np.asarray(y * (1 - y))),
}


# ---- normalisation ----


class Normalised(NamedTuple):
    normalised: Array
    mean: Array
    rstd: Array


def norm(x: Array) -> Normalised:
    """Ba, Kiros & Hinton 2016, without scale and shift; mean and 1 / deviation are [batch, 1]."""
    mean = x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + x.dtype.type(NORM_EPSILON))
    return Normalised((x - mean) * rstd, mean, rstd)


def norm_backward(grad: Array, normalised: Array, rstd: Array) -> Array:
    """The gradient of what was normalised, from that of the result."""
    mean = grad.mean(-1, keepdims=True)
    along = (grad * normalised).mean(-1, keepdims=True)
    return np.asarray(rstd * (grad - mean - normalised * along))


def no_norm(x: Array) -> tuple[Array, Array]:
    """Statistics of a cell that is not normalised."""
    zeros = np.zeros((len(x), 1), x.dtype)
    return zeros, zeros
