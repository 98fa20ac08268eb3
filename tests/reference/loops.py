"""Recurrent layers as one writes them in torch for one row at a time, and ONNX's definitions: what
the twin is held against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqfast.reference import dropout as twin
from seqfast.reference.rnn import Options


@dataclass(frozen=True)
class Problem:
    """A layer and its sequence, of arrays or of tensors."""

    kind: str  # lstm, gru or rnn
    options: Options
    input: Any
    hidden: Any
    cell: Any
    weights: list[list[Any]]  # per direction, ten
    lengths: np.ndarray | None
    reset: np.ndarray | None
    seed: int | None

    @property
    def size(self) -> int:
        return len(self.weights[0][1]) // gate_count(self.kind, self.options)

    def as_tensors(self) -> Problem:
        def tensor(x: Any) -> Any:
            return None if x is None else torch.tensor(x, requires_grad=True)

        return replace(
            self,
            input=tensor(self.input),
            hidden=tensor(self.hidden),
            cell=tensor(self.cell),
            weights=[[tensor(w) for w in weights] for weights in self.weights],
        )


def gate_count(kind: str, options: Options) -> int:
    if kind == "rnn":
        return 1
    if kind == "gru":
        return 3 if options.reset_gate else 2
    return 3 if options.coupled_gates or not options.forget_gate else 4


ACTIVATIONS = {
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
}


def masks(problem: Problem, direction: int) -> dict[str, Tensor]:
    """Dropout's factors and what zoneout keeps, each [steps, batch, units]."""
    options, seed = problem.options, problem.seed
    steps, batch, _ = problem.input.shape
    units = {"hidden": problem.weights[0][1].shape[1], "cell": problem.size}

    def drawn(draw: int, p: float, of: str, once: bool = False) -> Tensor:
        stream = twin.stream_of(draw, options.layer, direction)
        events = twin.events(p, seed or 0, stream, None if once else steps, batch, units[of])
        return torch.tensor(np.broadcast_to(events, (steps, batch, units[of])), dtype=float)

    p = options.recurrent_dropout
    scale = 0.0 if p == 1 else 1 / (1 - p)
    ones = {of: torch.ones(steps, batch, n, dtype=float) for of, n in units.items()}
    result = {"hidden": ones["hidden"], "update": ones["cell"]}
    if seed is not None and options.recurrent_dropout_on == "hidden":
        result["hidden"] = (1 - drawn(0, p, "hidden", once=True)) * scale
    if seed is not None and options.recurrent_dropout_on == "update":
        result["update"] = (1 - drawn(1, p, "cell")) * scale
    result["dropped_cell"] = ones["cell"]
    if options.recurrent_dropout_on == "cell":
        kept = (1 - p) * ones["cell"]
        result["dropped_cell"] = kept if seed is None else 1 - drawn(0, p, "cell", once=True)
    for draw, of, p in zip((2, 3), ("hidden", "cell"), options.zoneout, strict=True):
        result[f"zoneout_{of}"] = p * ones[of] if seed is None else drawn(draw, p, of)
    return result


def normalised(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Without scale and shift; mean and 1 / deviation."""
    rstd = (x.var(unbiased=False) + 1e-5).rsqrt()
    return (x - x.mean()) * rstd, x.mean(), rstd


def step(
    problem: Problem, weights: list[Any], x: Tensor, h: Tensor, c: Tensor, mask: dict[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """h[t], c[t], what is kept of the gates, and the statistics of one row."""
    W, R, b_ih, b_hh, P, b_hr, peephole, norm_hh, norm_cell, norm_bias = weights
    options, size = problem.options, problem.size
    h_old, c_old = h, c
    statistics = [torch.zeros((), dtype=float) for _ in range(4)]

    X = x if W is None else W @ x
    if b_ih is not None:
        X = X + b_ih
    m = h * mask["hidden"]
    U = R @ m
    kept_norm = []
    if norm_hh is not None:
        groups = [2 * size, size] if len(U) == 3 * size and problem.kind == "gru" else [len(U)]
        parts = [normalised(part) for part in U.split(groups)]
        kept_norm = [torch.cat([part[0] for part in parts])]
        for k, part in enumerate(parts):
            statistics[k] = part[2]
        U = norm_hh * kept_norm[0]
    if b_hh is not None:
        U = U + b_hh

    if problem.kind == "rnn":
        new = ACTIVATIONS[options.nonlinearity](X + U)
        saved = [new]
    elif problem.kind == "gru":
        new, saved = _gru(problem, R, b_hh, X, U, m, h, mask["update"])
    else:
        clip = options.gate_clip or np.inf
        p_i, p_f, p_o = torch.zeros(3, size, dtype=float) if peephole is None else peephole
        z = (X + U).split(size)
        i = torch.sigmoid((z[0] + p_i * c).clamp(-clip, clip))
        g = torch.tanh(z[-2].clamp(-clip, clip))
        if options.coupled_gates:
            f = 1 - i
        elif not options.forget_gate:
            f = torch.ones_like(i)
        else:
            f = torch.sigmoid((z[1] + p_f * c).clamp(-clip, clip))
        c = mask["dropped_cell"] * (f * c + i * (mask["update"] * g))
        if options.cell_clip:
            c = c.clamp(-options.cell_clip, options.cell_clip)
        seen_by_o = c_old if options.peephole_on == "previous" else c
        o = torch.sigmoid((z[-1] + p_o * seen_by_o).clamp(-clip, clip))
        seen = c
        if norm_cell is not None:
            seen, statistics[2], statistics[3] = normalised(c)
            seen = norm_cell * seen + norm_bias
        new = o * ACTIVATIONS[options.output_activation](seen)
        c = c + mask["zoneout_cell"] * (c_old - c)
        saved = [i, f, g, o] if len(z) == 4 else [i, g, o]

    if P is not None:
        new = P @ new
        if b_hr is not None:
            new = new + b_hr
        new = ACTIVATIONS[options.output_nonlinearity](new)
    h = new + mask["zoneout_hidden"] * (h_old - new)
    return h, c, torch.cat(saved + kept_norm), torch.stack(statistics)


def _gru(
    problem: Problem,
    R: Tensor,
    b_hh: Any,
    X: Tensor,
    U: Tensor,
    m: Tensor,
    h: Tensor,
    scale: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    options, size = problem.options, problem.size
    if not options.reset_gate:
        z, n = (X + U).split(size)
        z, n = torch.sigmoid(z), torch.tanh(n)
        return (1 - z) * (scale * n) + z * h, [z, n]
    r, z = torch.sigmoid(X + U)[: 2 * size].split(size)
    X_n, U_n = X[2 * size :], U[2 * size :]
    if options.reset_after:
        n = torch.tanh(X_n + r * U_n)
        saved = [r, z, n, U_n]
    else:
        U_n = R[2 * size :] @ (r * m)
        n = torch.tanh(X_n + U_n + (0 if b_hh is None else b_hh[2 * size :]))
        saved = [r, z, n]
    return (1 - z) * (scale * n) + z * h, saved


def loop(problem: Problem) -> dict[str, Tensor]:
    """All results of the forward pass, row by row and step by step."""
    steps, batch, _ = problem.input.shape
    output_size, size = problem.weights[0][1].shape[1], problem.size
    gates = gate_count(problem.kind, problem.options)
    places: dict[str, list[list[list[Tensor | None]]]] = {
        name: [[[] for _ in range(batch)] for _ in range(steps)]
        for name in ("output", "cells", "gates", "statistics")
    }
    states: dict[str, list[Tensor]] = {"hidden_n": [], "cell_n": []}
    for d, weights in enumerate(problem.weights):
        mask = masks(problem, d)
        for row in range(batch):
            h, c = torch.zeros(output_size, dtype=float), torch.zeros(size, dtype=float)
            if problem.hidden is not None:
                h = problem.hidden[d, row]
            if problem.cell is not None:
                c = problem.cell[d, row]
            length = steps if problem.lengths is None else int(problem.lengths[row])
            times = range(length) if d == 0 else range(length - 1, -1, -1)
            for t in times:
                if problem.reset is not None and problem.reset[t, row]:
                    h, c = torch.zeros_like(h), torch.zeros_like(c)
                x = problem.input[t, row]
                if weights[0] is None:
                    x = x[d * gates * size : (d + 1) * gates * size]
                here = {name: values[t, row] for name, values in mask.items()}
                h, c, saved, statistics = step(problem, weights, x, h, c, here)
                results = {"output": h, "cells": c, "gates": saved, "statistics": statistics}
                for name, value in results.items():
                    places[name][t][row].append(value)
            states["hidden_n"].append(h)
            states["cell_n"].append(c)

    results = {}
    for name, rows in places.items():
        sizes = [len(torch.cat(parts)) for at_step in rows for parts in at_step if parts]
        nothing = torch.zeros(max(sizes, default=0), dtype=float)
        results[name] = torch.stack(
            [
                torch.stack([torch.cat(parts) if parts else nothing for parts in at_step])
                for at_step in rows
            ]
        )
    for name, values in states.items():
        results[name] = torch.stack(values).reshape(len(problem.weights), batch, -1)
    return results


# ---- the operators LSTM and GRU of ONNX (docs/Operators.md), in its own gate orders ----


def onnx_lstm(
    X: np.ndarray,
    W: np.ndarray,
    R: np.ndarray,
    B: np.ndarray,
    initial_h: np.ndarray,
    initial_c: np.ndarray,
    P: np.ndarray,
    clip: float | None,
    input_forget: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y, Y_h, Y_c of one direction; W, R, B in the order iofc, P in the order iof."""

    def clipped(x: np.ndarray) -> np.ndarray:
        return x if clip is None else np.minimum(np.maximum(x, -clip), clip)

    def f(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-clipped(x)))

    Wi, Wo, Wf, Wc = np.split(W, 4)
    Ri, Ro, Rf, Rc = np.split(R, 4)
    Wbi, Wbo, Wbf, Wbc, Rbi, Rbo, Rbf, Rbc = np.split(B, 8)
    Pi, Po, Pf = np.split(P, 3)
    H, C, Y = initial_h, initial_c, []
    for Xt in X:
        it = f(Xt @ Wi.T + H @ Ri.T + Pi * C + Wbi + Rbi)
        ft = 1 - it if input_forget else f(Xt @ Wf.T + H @ Rf.T + Pf * C + Wbf + Rbf)
        ct = np.tanh(clipped(Xt @ Wc.T + H @ Rc.T + Wbc + Rbc))
        C = ft * C + it * ct
        ot = f(Xt @ Wo.T + H @ Ro.T + Po * C + Wbo + Rbo)
        H = ot * np.tanh(C)
        Y.append(H)
    return np.stack(Y), H, C


def onnx_gru(
    X: np.ndarray,
    W: np.ndarray,
    R: np.ndarray,
    B: np.ndarray,
    initial_h: np.ndarray,
    linear_before_reset: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Y, Y_h of one direction; W, R, B in the order zrh."""

    def f(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    Wz, Wr, Wh = np.split(W, 3)
    Rz, Rr, Rh = np.split(R, 3)
    Wbz, Wbr, Wbh, Rbz, Rbr, Rbh = np.split(B, 6)
    H, Y = initial_h, []
    for Xt in X:
        zt = f(Xt @ Wz.T + H @ Rz.T + Wbz + Rbz)
        rt = f(Xt @ Wr.T + H @ Rr.T + Wbr + Rbr)
        if linear_before_reset:
            ht = np.tanh(Xt @ Wh.T + rt * (H @ Rh.T + Rbh) + Wbh)
        else:
            ht = np.tanh(Xt @ Wh.T + (rt * H) @ Rh.T + Rbh + Wbh)
        H = (1 - zt) * ht + zt * H
        Y.append(H)
    return np.stack(Y), H
