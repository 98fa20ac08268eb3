"""The recurrent modules as Python loops over rows and steps, after docs/equations.md: what they are
held against where torch has no such layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqfast.reference import dropout as twin

DRAWS = {
    "hidden": 0,
    "update": 1,
    "zoneout_hidden": 2,
    "zoneout_cell": 3,
    "input": 4,
    "output": 5,
    "weight": 6,
    "other": 7,
}


def seed_of(manual_seed: int) -> int:
    """What a module draws first after `torch.manual_seed`."""
    torch.manual_seed(manual_seed)
    return int(torch.randint(2**63 - 1, (1,), dtype=torch.int64, device="cpu"))


def events(
    seed: int, draw: str, p: float, layer: int, direction: int, shape: tuple[int, int, int]
) -> Tensor:
    """bool [steps, rows, units]; steps 1 is a mask for a whole sequence."""
    steps, rows, units = shape
    stream = (layer * 2 + direction) * 8 + DRAWS[draw]
    return torch.tensor(twin.events(p, seed, stream, steps, rows, units))


def scale(seed: int | None, draw: str, p: float, at: tuple[int, int], shape: Any) -> Tensor | None:
    """Factors of dropout, or None where there is none."""
    if seed is None or p == 0:
        return None
    kept = 0.0 if p == 1 else 1 / (1 - p)
    return (~events(seed, draw, p, *at, shape)).double() * kept


def norm(v: Tensor) -> Tensor:
    centred = v - v.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def step(
    module: Any,
    weights: dict[str, Tensor],
    x: Tensor,
    h: Tensor,
    c: Tensor,
    drop_hidden: Tensor | None = None,
    drop_update: Tensor | None = None,
    keep_hidden: Any = None,
    keep_cell: Any = None,
    cell_scale: Any = 1.0,
) -> tuple[Tensor, Tensor]:
    """h[t] and c[t] of rows x [..., input_size]; keep_*: the share of the old state that stays."""
    kind, gates, hh = module._cell, module._options.gates, weights["weight_hh"]
    size = hh.shape[0] // gates

    def normalised(product: Tensor, gain: Tensor) -> Tensor:
        if kind == "gru" and gates == 3:
            rz, n = product[..., : 2 * size], product[..., 2 * size :]
            return torch.cat([norm(rz), norm(n)], -1) * gain
        return norm(product) * gain

    seen = h if drop_hidden is None else h * drop_hidden
    from_x, from_h = x @ weights["weight_ih"].T, seen @ hh.T
    if module.layer_norm:
        from_x = normalised(from_x, weights["weight_norm_ih"])
        from_h = normalised(from_h, weights["weight_norm_hh"])
    bias_hh = torch.zeros(hh.shape[0], dtype=x.dtype)
    if module.bias:
        from_x = from_x + weights["bias_ih"]
        bias_hh = weights["bias_hh"]
    from_h = from_h + bias_hh
    update = 1.0 if drop_update is None else drop_update
    c_next = c
    if kind == "rnn":
        h_next = getattr(torch, module.nonlinearity)(from_x + from_h)
    elif kind == "gru":
        if gates == 2:
            z, n = (from_x + from_h).chunk(2, -1)
            z, n = z.sigmoid(), n.tanh()
        else:
            r_x, z_x, n_x = from_x.chunk(3, -1)
            r_h, z_h, n_h = from_h.chunk(3, -1)
            r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
            if module.reset_after:
                n = (n_x + r * n_h).tanh()
            else:
                n = (n_x + (r * seen) @ hh[2 * size :].T + bias_hh[2 * size :]).tanh()
        h_next = (1 - z) * update * n + z * h
    else:
        i, *f, g, o = (from_x + from_h).chunk(gates, -1)
        p_i, p_f, p_o = weights["weight_peephole"] if module.peephole else (0.0, 0.0, 0.0)

        def clipped(v: Tensor) -> Tensor:
            return v if module.gate_clip is None else v.clamp(-module.gate_clip, module.gate_clip)

        i = clipped(i + p_i * c).sigmoid()
        if f:
            forget: Any = clipped(f[0] + p_f * c).sigmoid()
        else:
            forget = 1 - i if module.coupled_gates else 1.0
        c_next = cell_scale * (forget * c + i * (update * clipped(g).tanh()))
        if module.cell_clip is not None:
            c_next = c_next.clamp(-module.cell_clip, module.cell_clip)
        o = clipped(o + p_o * (c if module.peephole == "previous" else c_next)).sigmoid()
        inner = c_next
        if module.layer_norm:
            inner = norm(c_next) * weights["weight_norm_cell"] + weights["bias_norm_cell"]
        h_next = o * (inner.tanh() if module.output_activation == "tanh" else inner)
    if "weight_hr" in weights:
        h_next = h_next @ weights["weight_hr"].T
        if "bias_hr" in weights:
            h_next = h_next + weights["bias_hr"]
        if module.output_nonlinearity != "identity":
            h_next = getattr(torch, module.output_nonlinearity)(h_next)
    if keep_hidden is not None:
        h_next = (
            torch.where(keep_hidden, h, h_next)
            if keep_hidden.dtype == torch.bool
            else (h_next + keep_hidden * (h - h_next))
        )
    if keep_cell is not None:
        c_next = (
            torch.where(keep_cell, c, c_next)
            if keep_cell.dtype == torch.bool
            else (c_next + keep_cell * (c - c_next))
        )
    return h_next, c_next


def stays(seed: int | None, draw: str, p: float, at: tuple[int, int], shape: Any) -> Tensor | None:
    """What zoneout keeps: drawn in training, in evaluation the probability."""
    if p == 0:
        return None
    if seed is None:
        return torch.full(shape, p, dtype=torch.float64)
    return events(seed, draw, p, *at, shape)


def run(
    module: Any,
    x: Tensor,
    states: Any = None,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    seed: int | None = None,
) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
    """Output, h_n, c_n and cells, the last three by layer, of x [steps, batch, input_size].

    `states`: (list of h_0 by layer, list of c_0 by layer) or None. `seed` None is evaluation.
    """
    steps, batch, _ = x.shape
    ends = [steps] * batch if lengths is None else [int(n) for n in lengths]
    times = [[t for t in range(ends[n]) if mask is None or bool(mask[t, n])] for n in range(batch)]
    directions = 2 if module.bidirectional else 1
    last = module.num_layers - 1
    below, seen, fed = x, [x], x
    h_n, c_n, cells = [], [], []
    for layer in range(module.num_layers):
        size, out = module._hidden_sizes[layer], module._output_sizes[layer]
        shared = spread(
            fed, times, scale(seed, "input", module.input_dropout, (layer, 0), (1, *fed.shape[1:]))
        )
        outputs, finals, cell_finals, all_cells = [], [], [], []
        for d in range(directions):
            end = f"_l{layer}" + "_reverse" * d
            weights = {
                name.removesuffix(end): p for name, p in named(module).items() if name.endswith(end)
            }
            hh = weights["weight_hh"]
            dropped = scale(seed, "weight", module.weight_dropout, (layer, d), (1, *hh.shape))
            if module.weight_dropout_on == "row":
                dropped = scale(seed, "weight", module.weight_dropout, (layer, d), (1, 1, len(hh)))
                dropped = None if dropped is None else dropped[0].T[None]
            if dropped is not None:
                weights["weight_hh"] = hh * dropped[0]
            at = (layer, d)
            p = module.recurrent_dropout
            on_hidden = p if module.recurrent_dropout_on == "hidden" else 0.0
            on_update = p if module.recurrent_dropout_on == "update" else 0.0
            drop_hidden = scale(seed, "hidden", on_hidden, at, (1, batch, out))
            drop_update = scale(seed, "update", on_update, at, (steps, batch, size))
            cell_scale = torch.ones(batch, size, dtype=x.dtype)
            if module.recurrent_dropout_on == "cell":
                cell_scale = cell_scale - p  # its expectation
                if seed is not None:
                    cell_scale = (~events(seed, "hidden", p, *at, (1, batch, size)))[0].double()
            zoneout = module.zoneout
            zone_h, zone_c = zoneout if isinstance(zoneout, tuple) else (zoneout, zoneout)
            keep_h = stays(seed, "zoneout_hidden", zone_h, at, (steps, batch, out))
            keep_c = stays(seed, "zoneout_cell", zone_c, at, (steps, batch, size))
            h_all = [[torch.zeros(out, dtype=x.dtype)] * batch for _ in range(steps)]
            c_all = [[torch.zeros(size, dtype=x.dtype)] * batch for _ in range(steps)]
            h_last, c_last = [], []
            for n in range(batch):
                h = torch.zeros(out, dtype=x.dtype)
                c = torch.zeros(size, dtype=x.dtype)
                if states is not None:
                    h = states[0][layer][d, n]
                    c = states[1][layer][d, n] if len(states) > 1 else c
                order = list(enumerate(times[n]))
                before = 0  # resets from here on have not been seen
                for j, t in order if d == 0 else reversed(order):
                    if reset is not None and bool(reset[before : t + 1, n].any()):
                        h, c = torch.zeros_like(h), torch.zeros_like(c)
                    before = t + 1
                    h, c = step(
                        module,
                        weights,
                        shared[t, n],
                        h,
                        c,
                        None if drop_hidden is None else drop_hidden[0, n],
                        None if drop_update is None else drop_update[j, n],
                        None if keep_h is None else keep_h[j, n],
                        None if keep_c is None else keep_c[j, n],
                        cell_scale[n],
                    )
                    h_all[t][n], c_all[t][n] = h, c
                if reset is not None and bool(reset[before : ends[n], n].any()):
                    h, c = torch.zeros_like(h), torch.zeros_like(c)
                h_last.append(h)
                c_last.append(c)
            outputs.append(torch.stack([torch.stack(rows) for rows in h_all]))
            all_cells.append(torch.stack([torch.stack(rows) for rows in c_all]))
            finals.append(torch.stack(h_last))
            cell_finals.append(torch.stack(c_last))
        output = torch.cat(outputs, -1)
        h_n.append(torch.stack(finals))
        c_n.append(torch.stack(cell_finals))
        cells.append(torch.cat(all_cells, -1))
        if layer > 0 and module.residual:
            output = output + below
        if layer > 0 and module.highway:
            own = named(module)
            weight, bias = own[f"weight_highway_l{layer}"], own[f"bias_highway_l{layer}"]
            gate = (below @ weight.T + bias).sigmoid()
            output = gate * output + (1 - gate) * below
        below = output
        if layer == last:
            break
        fed = spread(output, times, scale(seed, "output", module.dropout, (layer, 0), output.shape))
        if module.dense:
            seen.append(fed)
            fed = torch.cat(seen, -1)
    on = torch.zeros(steps, batch, 1, dtype=torch.bool)
    for n, row in enumerate(times):
        on[row, n] = True
    return torch.where(on, output, 0), h_n, c_n, cells


def spread(x: Tensor, times: list[list[int]], factors: Tensor | None) -> Tensor:
    """x times factors, which go by the steps that run; or one for the sequence."""
    if factors is None:
        return x
    everywhere = torch.ones(x.shape, dtype=x.dtype)
    for n, row in enumerate(times):
        for j, t in enumerate(row):
            everywhere[t, n] = factors[j if len(factors) > 1 else 0, n]
    return x * everywhere


def named(module: Any) -> dict[str, Tensor]:
    return dict(module.named_parameters())
