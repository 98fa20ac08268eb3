"""Measures beam search on a GPU: a step against torch's two formulations and against the memory's
speed, a whole search against a loop in torch and `generate` of transformers.

python -m benchmarks.gpu_beam_search --out DIR [--seconds N] [--device cpu]

`--device cpu` is a self-test of this program: toy sizes on the CPU, figures that mean nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import gpu, harness
from seqfast.ops import beam_search as ops

SUITE = "beam_search_cuda"
GOAL = 1.4  # times the roofline at (64, 8, 50257)
CAPACITY = 4096  # steps that a search has room for; then it begins again
DTYPES = {"float32": torch.float32, "float16": torch.float16}
LONGEST = 1.5  # seconds for the pairs of a row
Device = gpu.Cpu | gpu.Cuda


@dataclass(frozen=True)
class Sizes:
    batch: int
    beams: int
    vocabulary: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.beams}x{self.vocabulary}"


# In the order of their weight: what the time does not allow is left out from the end.
STEPS = (
    Sizes(64, 8, 50257), Sizes(32, 4, 50257), Sizes(64, 8, 10000), Sizes(8, 5, 32000),
    Sizes(1, 4, 32000), Sizes(4, 100, 10000),
)  # fmt: skip
TOY_STEPS = (Sizes(2, 3, 100), Sizes(1, 4, 33))


@dataclass(frozen=True)
class Decoder:
    """Of the whole searches: an LSTM decoder, or layers of a small transformer."""

    batch: int
    beams: int
    vocabulary: int
    steps: int
    hidden: int
    layers: int


DECODER = Decoder(32, 5, 10000, 64, 512, 2)
TOY_DECODER = Decoder(2, 3, 40, 5, 16, 1)


# ---- a step -------------------------------------------------------------------------------------


def by_log_softmax(logits: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
    """log_softmax, then the largest over beams and vocabulary together."""
    batch, beams = scores.shape
    vocabulary = logits.shape[1]
    totals = torch.log_softmax(logits.float(), 1).view(batch, beams, -1) + scores[..., None]
    best, flat = totals.view(batch, -1).topk(2 * beams)
    return best, flat // vocabulary, flat % vocabulary


def by_row(logits: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
    """The largest of each row, then those of a sentence; the sum by logsumexp."""
    batch, beams = scores.shape
    values, tokens = logits.topk(2 * beams, dim=1)
    totals = values.float() - torch.logsumexp(logits.float(), 1, keepdim=True)
    totals = totals.view(batch, beams, -1) + scores[..., None]
    best, flat = totals.view(batch, -1).topk(2 * beams)
    return best, flat // (2 * beams), tokens.view(batch, -1).gather(1, flat)


PEERS = {"log_softmax, topk": by_log_softmax, "topk of rows": by_row}


def living_beams(sizes: Sizes, device: str) -> ops.Beams:
    """A search all of whose beams live, and go on living as no EOS is ever likely."""
    options = ops.BeamOptions(beams=sizes.beams, vocabulary=sizes.vocabulary, eos=(0,))
    like = torch.empty(0, device=device)
    beams = ops.start_beams(options, sizes.batch, CAPACITY, torch.float32, like=like)
    beams.scores.uniform_(-2, -1)
    return beams


def check_step(logits: Tensor, sizes: Sizes) -> None:
    """Of one step: the hypotheses that torch finds."""
    beams = living_beams(sizes, str(logits.device))
    for peer in PEERS.values():
        scores = beams.scores.clone()
        best, _, tokens = (x[:, : sizes.beams] for x in peer(logits, scores))
        ops.beam_step(logits, beams)
        if not torch.allclose(beams.scores, best, atol=1e-4):
            raise ValueError(f"wrong: scores differ by {(beams.scores - best).abs().max():.2e}")
        same = (beams.next_tokens == tokens).float().mean().item()
        if same < 0.99:
            raise ValueError(f"wrong: {100 * same:.1f} % of the tokens are torch's")


class Steps:
    """Calls as a search makes them: captured once for each of several inputs."""

    def __init__(self, device: Device, sizes: Sizes, dtype: torch.dtype) -> None:
        shape = sizes.batch * sizes.beams, sizes.vocabulary
        self.bytes = shape[0] * shape[1] * dtype.itemsize
        self.inputs = []
        for _ in range(device.input_sets(self.bytes)):
            logits = torch.randn(shape, device=device.name, dtype=torch.float32)
            logits[:, 0] = -30
            self.inputs.append(logits.to(dtype))
        self.device, self.sizes = device, sizes
        self.beams = living_beams(sizes, device.name)
        self.taken = 0
        self.replays = [device.capture(self._step, logits) for logits in self.inputs]

    def _step(self, logits: Tensor) -> Any:
        ops.beam_step(logits, self.beams)
        return self.beams.next_tokens

    def ours(self, index: int) -> None:
        if self.taken % (CAPACITY // 2) == 0:
            self.beams.step.zero_()
        self.taken += 1
        self.replays[index % len(self.replays)](index)

    def peer(self, function: Callable[[Tensor, Tensor], Any]) -> Callable[[int], object]:
        scores = self.beams.scores.clone()
        calls = [
            self.device.capture(lambda logits: function(logits, scores), logits)
            for logits in self.inputs
        ]
        return lambda index: calls[index % len(calls)](index)


def step_rows(device: Device, sizes: Sizes, dtype_name: str, copy_gbs: float) -> list[Any]:
    steps = Steps(device, sizes, DTYPES[dtype_name])
    check_step(steps.inputs[0], sizes)
    roofline_ms = 1e-6 * steps.bytes / copy_gbs
    rows = []
    for name, function in PEERS.items():
        duel = harness.Duel(steps.ours, steps.peer(function), device.timer)
        duel.run(LONGEST if device.name == "cuda" else 0)
        row = duel.statistics()
        first = sizes == STEPS[0]
        rows.append(
            {
                "group": "step", "mode": "step", "case": f"{sizes}: {name}",
                "dtype": dtype_name, "roofline_ms": roofline_ms,
                "of_roofline": row["ours_ms"] / roofline_ms,
                "most_of_roofline": GOAL if first else None, **row,
            }
        )  # fmt: skip
    return rows


# ---- a whole search -----------------------------------------------------------------------------


class LstmDecoder(torch.nn.Module):
    """Embedding, LSTM cells, a head: what both loops call."""

    def __init__(self, sizes: Decoder) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(sizes.vocabulary, sizes.hidden)
        self.cells = torch.nn.ModuleList(
            torch.nn.LSTMCell(sizes.hidden, sizes.hidden) for _ in range(sizes.layers)
        )
        self.head = torch.nn.Linear(sizes.hidden, sizes.vocabulary)
        torch.nn.init.constant_(self.head.bias[:1], -30.0)  # no EOS: all searches are as long

    def forward(self, ids: Tensor, state: list[tuple[Tensor, Tensor]], t: Any) -> Any:
        x, after = self.embedding(ids), []
        for cell, part in zip(self.cells, state, strict=True):
            part = cell(x, part)
            after.append(part)
            x = part[0]
        return self.head(x), after


def search_row(name: str, sizes: Decoder, duel: harness.Duel) -> dict[str, Any]:
    case = f"{sizes.batch}x{sizes.beams}x{sizes.vocabulary}, {sizes.steps} steps: {name}"
    row = {"group": "search", "mode": "search", "case": case, "dtype": "float32"}
    return {**row, **duel.statistics()}


@torch.no_grad()
def loop_in_torch(model: LstmDecoder, start: Tensor, state: Any, beams: int, steps: int) -> Tensor:
    """Vectorised over batch and beams; back-pointers are walked at the end; nobody waits."""
    batch = start.shape[0]
    ids = start.repeat_interleave(beams)
    state = [tuple(x.repeat_interleave(beams, 0) for x in part) for part in state]
    scores = torch.full((batch, beams), -torch.inf, device=start.device)
    scores[:, 0] = 0
    first = torch.arange(batch, device=start.device)[:, None] * beams
    tokens, parents = [], []
    for t in range(steps):
        logits, state = model(ids, state, t)
        best, parent, token = (x[:, :beams] for x in by_row(logits, scores))
        scores, rows = best, (first + parent).flatten()
        ids = token.flatten()
        state = [tuple(x.index_select(0, rows) for x in part) for part in state]
        tokens.append(token)
        parents.append(parent)
    at = torch.zeros(batch, 1, dtype=torch.int64, device=start.device)
    walked = []
    for token, parent in zip(reversed(tokens), reversed(parents), strict=True):
        walked.append(token.gather(1, at))
        at = parent.gather(1, at)
    return torch.cat(walked[::-1], 1)


def search_rows(device: Device, sizes: Decoder) -> list[dict[str, Any]]:
    """`BeamSearch` around an LSTM decoder against the loop above; without synchronisation."""
    from seqfast.decoding import BeamSearch

    torch.manual_seed(0)
    model = LstmDecoder(sizes).to(device.name)
    start = torch.ones(sizes.batch, dtype=torch.int64, device=device.name)
    zeros = torch.zeros(sizes.batch, sizes.hidden, device=device.name)
    state = [(zeros, zeros)] * sizes.layers
    search = BeamSearch(sizes.beams, eos=0, max_length=sizes.steps, length_norm="none")
    found = search(model, start, state).tokens[:, 0, : sizes.steps]
    wanted = loop_in_torch(model, start, state, sizes.beams, sizes.steps)
    same = (torch.as_tensor(found) == wanted).float().mean().item()
    if same < 0.95:
        raise ValueError(f"wrong: {100 * same:.1f} % of the tokens are the loop's")
    duel = harness.Duel(
        lambda index: search(model, start, state),
        lambda index: loop_in_torch(model, start, state, sizes.beams, sizes.steps),
        device.timer,
    )
    duel.run(2 * LONGEST if device.name == "cuda" else 0)
    return [search_row("LSTM decoder, a loop in torch", sizes, duel)]


def generate_rows(device: Device, sizes: Decoder) -> list[dict[str, Any]]:
    """`BeamSearch` around a small GPT-2 and its cache against `generate`."""
    from benchmarks.test_beam_generate import BEAMS, EOS, Case, build
    from seqfast.decoding import BeamSearch, transformers_step

    case = Case("decoder", sizes.batch, 4, sizes.steps, sizes.vocabulary, sizes.hidden, 2)
    model = build(case).to(device.name)
    prompt = torch.randint(3, sizes.vocabulary, (case.batch, case.length), device=device.name)
    mask = torch.ones_like(prompt)
    search = BeamSearch.like("hf", BEAMS, eos=EOS, max_length=case.new)

    def ours(index: int) -> object:
        return search(**transformers_step(model, prompt, mask))

    def peer(index: int) -> object:
        return model.generate(
            prompt, attention_mask=mask, num_beams=BEAMS, do_sample=False, max_new_tokens=case.new
        )

    duel = harness.Duel(ours, peer, device.timer)
    duel.run(2 * LONGEST if device.name == "cuda" else 0)
    return [search_row("GPT-2, `generate`", sizes, duel)]


def check_waits(device: Device, sizes: Decoder) -> None:
    """No call in the loop of a search waits for the device; torch would raise."""
    from seqfast.decoding import BeamSearch

    if device.name == "cpu":
        return
    model = LstmDecoder(sizes).to(device.name)
    options = ops.BeamOptions(beams=sizes.beams, vocabulary=sizes.vocabulary, eos=(0,))
    like = torch.empty(0, device=device.name)
    beams = ops.start_beams(options, sizes.batch, sizes.steps, torch.float32, like=like)
    rows = sizes.batch * sizes.beams
    ids = torch.ones(rows, dtype=torch.int64, device=device.name)
    zeros = torch.zeros(rows, sizes.hidden, device=device.name)
    state: Any = [(zeros, zeros)] * sizes.layers
    ops.beam_step(model(ids, state, 0)[0].detach(), beams)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.no_grad():
            for t in range(1, sizes.steps):
                logits, state = model(ids, state, t)
                ops.beam_step(logits, beams)
                ids = beams.next_tokens.flatten()
                chosen = beams.next_rows.flatten()
                state = [tuple(x.index_select(0, chosen) for x in part) for part in state]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    start = torch.ones(sizes.batch, dtype=torch.int64, device=device.name)
    zeros = zeros[: sizes.batch]
    search = BeamSearch(sizes.beams, eos=0, max_length=sizes.steps, cuda_graph=True)
    search(model, start, [(zeros, zeros)] * sizes.layers)  # raises where it cannot be captured


# ---- all of it ----------------------------------------------------------------------------------


def jobs(device: Device, copy_gbs: float) -> list[tuple[str, Callable[[], list[Any]]]]:
    toy = device.name == "cpu"
    decoder = TOY_DECODER if toy else DECODER

    def waits() -> list[Any]:
        check_waits(device, decoder)
        return []

    steps: list[tuple[str, Callable[[], list[Any]]]] = [
        (f"{sizes}, {dtype}", partial(step_rows, device, sizes, dtype, copy_gbs))
        for sizes in (TOY_STEPS if toy else STEPS)
        for dtype in DTYPES
    ]
    searches: list[tuple[str, Callable[[], list[Any]]]] = []
    if importlib.util.find_spec("seqfast.decoding.beam_search"):
        searches += [("nobody waits", waits), ("loop", partial(search_rows, device, decoder))]
        if importlib.util.find_spec("transformers"):
            searches.append(("generate", partial(generate_rows, device, decoder)))
    return [*steps[:2], *searches, *steps[2:]]


def run(device: Device, seconds: float, folder: Path) -> int:
    """Measures as many cases as the time allows; the result is whole on disk after every one."""
    deadline = time.monotonic() + seconds
    packages = tuple(
        name for name in ("numpy", "torch", "transformers") if importlib.util.find_spec(name)
    )
    environment = harness.environment(harness.usable_cores(), device.name, packages)
    source = torch.ones(device.copy_bytes // 4, device=device.name)
    target = torch.empty_like(source)
    times = sorted(device.timer(partial(target.copy_, source)) for _ in range(7))
    copy_gbs = 2e-9 * source.nbytes / times[3]
    del source, target
    result: dict[str, Any] = {
        "suite": SUITE, **environment, **device.facts(), "copy_gbs": copy_gbs, "finished": False,
        "failures": {}, "left_out": [], "rows": [],
    }  # fmt: skip
    path = folder / harness.result_name(SUITE, environment)
    longest = 0.0
    for name, job in jobs(device, copy_gbs):
        harness.write_json(path, result)
        if deadline - time.monotonic() < longest or not device.still_works():
            result["left_out"].append(name)
            continue
        begin = time.monotonic()
        try:
            rows = job()
        except Exception as error:  # one case must not take the others with it
            result["failures"][name] = f"{type(error).__name__}: {error}"
            print(f"{name}: FAILED: {error}", flush=True)
            continue
        longest = max(longest, time.monotonic() - begin)
        result["rows"] += rows
        for row in rows:
            print(
                f"{row['case']}, {row['dtype']}: {row['ours_ms']:.3f} ms, ratio {row['ratio']:.1f}",
                end="",
            )
            if "of_roofline" in row:
                print(f", {row['of_roofline']:.2f} times the roofline", end="")
            print(flush=True)
    result["finished"] = True
    harness.write_json(path, result)
    print(f"{len(result['rows'])} rows, {len(result['failures'])} failed: {path}")
    return 1 if result["failures"] or not result["rows"] else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all of it (60)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: self-test")
    args = parser.parse_args(argv)
    if args.device == "cpu":
        return run(gpu.Cpu(), args.seconds, args.out)
    import seqfast

    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu_beam_search: torch sees no GPU")
    if seqfast.build_info()["cuda"] != "on":
        sys.exit("benchmarks.gpu_beam_search: seqfast was built without CUDA")
    return run(gpu.Cuda(), args.seconds, args.out)


if __name__ == "__main__":
    sys.exit(main())
