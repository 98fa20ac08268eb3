"""Models with our layers in ONNX Runtime: the same results, by ONNX's own nodes where these hold
what a layer does."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Module, ModuleDict

from seqfast import nn

_NEEDED = "needs onnx, onnxscript and onnxruntime: pip install seqfast[onnx]"
onnxruntime = pytest.importorskip("onnxruntime", reason=_NEEDED)
pytest.importorskip("onnxscript", reason=_NEEDED)
onnx = pytest.importorskip("onnx", reason=_NEEDED)

import seqfast.onnx  # noqa: E402 - after it is known that it can be

STEPS, BATCH, SIZE, HIDDEN = 5, 3, 4, 6
NATIVE = {"LSTM", "GRU", "RNN"}
REGULARISED = {
    "dropout": 0.3,
    "input_dropout": 0.2,
    "weight_dropout": 0.2,
    "recurrent_dropout": 0.2,
}


class Case:
    """A layer, which of the model's inputs it is called with, and how many nodes of ONNX it is."""

    def __init__(self, kind: type[Module], native: int, *with_: str, **options: Any) -> None:
        self.kind, self.native, self.with_, self.options = kind, native, with_, options

    def layer(self, dtype: torch.dtype) -> Module:
        sizes = {"input_size": SIZE, "hidden_size": HIDDEN, "dtype": dtype}
        return self.kind(**{**sizes, **self.options})


class Together(Module):
    """Many layers in one model, since an export takes longer than a layer."""

    def __init__(self, cases: dict[str, Case], dtype: torch.dtype) -> None:
        super().__init__()
        self.cases, self.dtype = cases, dtype
        self.layers = ModuleDict({name: case.layer(dtype) for name, case in cases.items()})

    def forward(
        self, x: Tensor, h: Tensor, c: Tensor, lengths: Tensor, mask: Tensor, reset: Tensor
    ) -> dict[str, Any]:
        return {
            name: self.run(self.layers[name], case, x, h, c, lengths, mask, reset)
            for name, case in self.cases.items()
        }

    def run(
        self,
        layer: Any,
        case: Case,
        x: Tensor,
        h: Tensor,
        c: Tensor,
        lengths: Tensor,
        mask: Tensor,
        reset: Tensor,
    ) -> Any:
        # Inputs are float32 in every model, so that one feed does for all.
        x, h, c = (tensor.to(self.dtype) for tensor in (x, h, c))
        if layer.batch_first:
            x, mask, reset = x.transpose(0, 1), mask.transpose(0, 1), reset.transpose(0, 1)
        arguments: dict[str, Any] = {"return_cells": True} if "return_cells" in case.with_ else {}
        given = {"lengths": lengths, "mask": mask, "reset": reset}
        arguments |= {name: value for name, value in given.items() if name in case.with_}
        if "unbatched" in case.with_:
            x = x[:, 0]
            h, c = h[:, 0], c[:, 0]
            if "lengths" in arguments:
                arguments["lengths"] = lengths[2]
        if "hx" in case.with_:
            rows = layer.num_layers * (2 if layer.bidirectional else 1)
            h = h[:rows, ..., : layer._output_sizes[0]].contiguous()
            arguments["hx"] = (h, c[:rows]) if isinstance(layer, nn.LSTM) else h
        return layer(x, **arguments)


# Every combination of what ONNX's LSTM can be told, on rows of different lengths with a state; both
# directions, of which one is each by itself.
LSTM_GRID = {
    f"{peephole:d}{clip:d}{coupled:d}": Case(
        nn.LSTM,
        1,
        "lengths",
        "hx",
        peephole=peephole,
        gate_clip=0.2 if clip else None,
        coupled_gates=coupled,
        bidirectional=True,
    )
    for peephole, clip, coupled in product((False, True), repeat=3)
}
LSTM = {
    "plain": Case(nn.LSTM, 1),
    "one-way": Case(nn.LSTM, 1, "hx", peephole=True, gate_clip=0.1, coupled_gates=True),
    "stack": Case(nn.LSTM, 3, "hx", "lengths", num_layers=3, bidirectional=True, **REGULARISED),
    "no-bias": Case(nn.LSTM, 1, bias=False, bidirectional=True, coupled_gates=True),
    "batch-first": Case(nn.LSTM, 2, "lengths", "hx", batch_first=True, num_layers=2),
    "unbatched": Case(nn.LSTM, 1, "unbatched", "lengths", "hx", peephole=True),
    "sizes": Case(nn.LSTM, 3, hidden_size=(5, 3, 2), bidirectional=True),
    "residual": Case(nn.LSTM, 3, "lengths", residual=True, num_layers=3),
    "dense": Case(nn.LSTM, 3, "lengths", dense=True, num_layers=3, bidirectional=True),
    "highway": Case(nn.LSTM, 2, highway=True, num_layers=2),
    "mask": Case(nn.LSTM, 2, "mask", "hx", num_layers=2, bidirectional=True, batch_first=True),
    "mask-lengths": Case(nn.LSTM, 1, "mask", "lengths"),
}
LSTM_BY_STEPS = {
    "cell-clip": Case(nn.LSTM, 0, "lengths", cell_clip=0.1, peephole=True, bidirectional=True),
    "cell-clip-coupled": Case(
        nn.LSTM, 0, "hx", cell_clip=0.1, coupled_gates=True, peephole=True, gate_clip=0.3
    ),
    "zoneout": Case(nn.LSTM, 0, "lengths", "hx", zoneout=(0.3, 0.2), num_layers=2),
    "layer-norm": Case(nn.LSTM, 0, "lengths", layer_norm=True, num_layers=2, bidirectional=True),
    "projection": Case(nn.LSTM, 0, "hx", "lengths", proj_size=2, num_layers=2, bidirectional=True),
    "no-forget-gate": Case(nn.LSTM, 0, forget_gate=False, bias=False, peephole=True),
    "peephole-previous": Case(nn.LSTM, 0, "hx", peephole="previous", bidirectional=True),
    "output-activation": Case(nn.LSTM, 0, "lengths", output_activation="identity"),
    "cell-dropout": Case(
        nn.LSTM, 0, "hx", recurrent_dropout=0.3, recurrent_dropout_on="cell", zoneout=(0.0, 0.2)
    ),
    "reset": Case(nn.LSTM, 0, "reset", "lengths", "hx", batch_first=True, num_layers=2),
    "mask-reset": Case(nn.LSTM, 0, "reset", "mask"),
    "cells": Case(nn.LSTM, 0, "return_cells", "lengths", bidirectional=True, num_layers=2),
}
GRU = {
    **{
        f"{'after' if after else 'before'}-{bias:d}": Case(
            nn.GRU, 1, "lengths", "hx", reset_after=after, bias=bias, bidirectional=True
        )
        for after, bias in product((True, False), repeat=2)
    },
    "plain": Case(nn.GRU, 1, batch_first=True),
    "stack": Case(nn.GRU, 3, "hx", "lengths", num_layers=3, bidirectional=True, **REGULARISED),
    "mask": Case(nn.GRU, 1, "mask", "hx"),
    "unbatched": Case(nn.GRU, 1, "unbatched", bidirectional=True, reset_after=False),
    "highway": Case(nn.GRU, 2, highway=True, num_layers=2, bidirectional=True),
    "no-reset-gate": Case(nn.GRU, 0, "lengths", "hx", reset_gate=False, bidirectional=True),
    "zoneout": Case(nn.GRU, 0, zoneout=0.3),
    "zoneout-before": Case(nn.GRU, 0, "hx", zoneout=0.3, reset_after=False, bias=False),
    "layer-norm": Case(nn.GRU, 0, "lengths", layer_norm=True, num_layers=2),
    "layer-norm-no-reset": Case(nn.GRU, 0, layer_norm=True, reset_gate=False),
    "reset": Case(nn.GRU, 0, "reset", "lengths", "hx", reset_after=False),
}
RNN = {
    **{
        f"{kind}-{bias:d}": Case(
            nn.RNN, 1, "lengths", "hx", nonlinearity=kind, bias=bias, bidirectional=True
        )
        for kind, bias in product(("tanh", "relu"), (True, False))
    },
    "plain": Case(nn.RNN, 2, num_layers=2),
    "dense": Case(nn.RNN, 2, dense=True, num_layers=2, bidirectional=True),
    "jordan": Case(
        nn.RNN,
        0,
        "lengths",
        "hx",
        feedback="output",
        output_size=3,
        output_nonlinearity="sigmoid",
        bidirectional=True,
    ),
    "layer-norm": Case(nn.RNN, 0, layer_norm=True, nonlinearity="relu"),
    "zoneout": Case(nn.RNN, 0, "lengths", zoneout=0.3),
    "reset": Case(nn.RNN, 0, "reset", "mask"),
}
FEW = {
    "lstm": Case(nn.LSTM, 1, "lengths", "hx", bidirectional=True, peephole=True, gate_clip=0.3),
    "lstm-steps": Case(nn.LSTM, 0, "lengths", zoneout=0.2, layer_norm=True),
    "gru": Case(nn.GRU, 1, "lengths", "hx", num_layers=1),
    "gru-steps": Case(nn.GRU, 0, reset_gate=False),
    "rnn": Case(nn.RNN, 1, nonlinearity="relu"),
    "rnn-steps": Case(nn.RNN, 0, "reset"),
    "projection": Case(nn.LSTM, 0, "hx", proj_size=3),
}
# ONNX Runtime has few kernels for bfloat16, and none of what layer_norm does around the recurrence.
FEWER = {name: case for name, case in FEW.items() if not case.options.get("layer_norm")}
GROUPS = {
    "lstm-grid": (LSTM_GRID, torch.float32, 1e-5),
    "lstm": (LSTM, torch.float32, 1e-5),
    "lstm-by-steps": (LSTM_BY_STEPS, torch.float32, 1e-5),
    "gru": (GRU, torch.float32, 1e-5),
    "rnn": (RNN, torch.float32, 1e-5),
    "float64": (FEW, torch.float64, 1e-11),
    "float16": (FEW, torch.float16, 3e-3),
    "bfloat16": (FEWER, torch.bfloat16, 3e-2),
}


def arguments(steps: int, batch: int, lengths: list[int]) -> tuple[Tensor, ...]:
    made = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=made)

    mask = torch.rand(steps, batch, generator=made) > 0.4
    mask[:, -1] = False
    return (
        normal(steps, batch, SIZE),
        normal(6, batch, HIDDEN),
        normal(6, batch, HIDDEN),
        torch.tensor(lengths),
        mask,
        torch.rand(steps, batch, generator=made) > 0.6,
    )


def flat(results: Any) -> list[Tensor]:
    if isinstance(results, Tensor):
        return [results]
    values = results.values() if isinstance(results, dict) else results
    return [tensor for value in values for tensor in flat(value)]


def session(model: Any) -> Any:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def run(model: Any, given: tuple[Tensor, ...]) -> list[Tensor]:
    running = session(model)
    # An input that no layer reads is there all the same.
    names = [value.name for value in running.get_inputs()]
    feed = dict(zip(names, [tensor.numpy() for tensor in given], strict=True))
    return [torch.from_numpy(np.array(result)) for result in running.run(None, feed)]


class Widened(Module):
    """float32 in and out: what NumPy has no bfloat16 for."""

    def __init__(self, model: Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *given: Tensor) -> dict[str, list[Tensor]]:
        # Not those of 16 bits alone: float64 stays as exact as it is.
        def wide(tensor: Tensor) -> Tensor:
            return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor

        return {k: [wide(t) for t in flat(v)] for k, v in self.model(*given).items()}


def kinds_by_case(model: Any) -> Counter[str]:
    """How many of ONNX's own recurrent nodes each case of `Together` has."""
    nodes = [node.name for node in model.graph.node if node.op_type in NATIVE]
    return Counter(name.split("layers.")[1].split(".")[0] for name in nodes)


@pytest.mark.parametrize("group", GROUPS)
def test_onnx_runtime_gives_what_the_layers_give(group: str) -> None:
    cases, dtype, tolerance = GROUPS[group]
    torch.manual_seed(3)
    model = Widened(Together(cases, dtype)).train()
    exported_with = arguments(STEPS, BATCH, [5, 0, 2])
    steps, batch = torch.export.Dim("steps", min=2), torch.export.Dim("batch", min=2)
    shapes = ({0: steps, 1: batch}, *[{1: batch}] * 2, {0: batch}, *[{0: steps, 1: batch}] * 2)
    program = seqfast.onnx.export(model, exported_with, dynamic_shapes=(shapes,))
    assert model.training
    assert all(module.training for module in model.modules())
    model.eval()
    found_nodes = kinds_by_case(program.model_proto)
    wanted_nodes = {name: 0 if dtype == torch.float64 else c.native for name, c in cases.items()}
    assert {name: found_nodes[name] for name in cases} == wanted_nodes
    onnx.checker.check_model(program.model_proto, full_check=True)

    # Other sizes than those of the export too.
    wrong = []
    for given in (exported_with, arguments(9, 4, [0, 9, 3, 1])):
        with torch.no_grad():
            wanted = model(*given)
        found = iter(run(program.model_proto, given))
        for name in cases:
            for k, tensor in enumerate(flat(wanted[name])):
                ours = next(found)
                assert ours.shape == tensor.shape, f"{name}[{k}]"
                worst = (ours.double() - tensor.double()).abs().max().item()
                if not worst <= tolerance:
                    wrong.append((name, k, worst))
        assert next(found, None) is None
    assert wrong == []


class Stepped(Module):
    """Cells, each three times, and a decoder with attention."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTMCell(SIZE, HIDDEN, peephole=True, gate_clip=0.3)
        self.gru = nn.GRUCell(SIZE, HIDDEN, reset_after=False)
        self.rnn = nn.RNNCell(SIZE, HIDDEN, nonlinearity="relu", bias=False)
        self.normed = nn.LSTMCell(SIZE, HIDDEN, layer_norm=True, zoneout=0.2)
        self.gated = nn.GRUCell(SIZE, HIDDEN, reset_gate=False)
        self.decoder = nn.AttentionDecoder(
            torch.nn.Embedding(9, 4),
            nn.LSTM(4 + 5, HIDDEN, 2),
            nn.Attention("additive", HIDDEN, HIDDEN, 5),
            torch.nn.Linear(5, 9),
        )

    def forward(self, x: Tensor, h: Tensor, ids: Tensor) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in ("lstm", "gru", "rnn", "normed", "gated"):
            state: Any = (h, h) if name in ("lstm", "normed") else h
            for step in x:
                state = getattr(self, name)(step, state)
            found[name] = state
        found["unbatched"] = self.gru(x[0, 0])
        logits, weights, _ = self.decoder(ids, x.new_ones(3, 4, HIDDEN).cumsum(1) * 0.1)
        return {**found, "logits": logits, "weights": weights}


def test_cells_and_a_decoder() -> None:
    torch.manual_seed(5)
    model = Stepped().eval()
    given = torch.randn(3, BATCH, SIZE), torch.randn(BATCH, HIDDEN), torch.randint(9, (BATCH, 2))
    program = seqfast.onnx.export(model, given)
    kinds = Counter(node.op_type for node in program.model_proto.graph.node)
    # Of the cells; a decoder that is fed its own output makes the first layer's product itself.
    assert (kinds["LSTM"], kinds["GRU"], kinds["RNN"]) == (3 + 2, 3 + 1, 3)
    assert kinds["Scan"] == 0  # a single step needs no loop
    names = [n.name for n in program.model_proto.graph.node if n.op_type == "GRU"]
    assert names == ["gru.l0", "gru.l0.1", "gru.l0.2", "gru.l0.3"]
    with torch.no_grad():
        wanted = flat(model(*given))
    for found, tensor in zip(run(program.model_proto, given), wanted, strict=True):
        torch.testing.assert_close(found, tensor, atol=1e-5, rtol=0)


class Tagger(Module):
    """A model as users have them."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.rnn = nn.LSTM(SIZE, HIDDEN, 2, bidirectional=True, batch_first=True, **options)
        self.head = torch.nn.Linear(2 * HIDDEN, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        output, _ = self.rnn(x, lengths=lengths)
        result: Tensor = self.head(output)
        return result


def tagged() -> tuple[Tensor, Tensor]:
    torch.manual_seed(11)
    return torch.randn(3, 5, SIZE), torch.tensor([4, 5, 1])


def test_torchs_exporter_takes_the_translations() -> None:
    model, given = Tagger().eval(), tagged()
    table = seqfast.onnx.translations()
    program = torch.onnx.export(
        model, given, dynamo=True, verbose=False, custom_translation_table=table
    )
    assert program is not None
    kinds = Counter(node.op_type for node in program.model_proto.graph.node)
    # It traces with gradients on, and what a backward pass would need is left out again.
    assert kinds["LSTM"] == 2
    assert kinds["Scan"] == 0
    with torch.no_grad():
        (found,) = run(program.model_proto, given)
        torch.testing.assert_close(found, model(*given), atol=1e-5, rtol=0)


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    model, given = Tagger(dropout=0.5), tagged()
    path = tmp_path / "tagger.onnx"
    shapes = {"x": {0: "batch", 1: "steps"}, "lengths": {0: "batch"}}
    seqfast.onnx.export(
        model, given, path, dynamic_shapes=shapes, input_names=["x", "n"], output_names=["tags"]
    )
    assert [each.name for each in tmp_path.iterdir()] == ["tagger.onnx"]
    loaded = onnx.load(path)
    names = [node.name for node in loaded.graph.node if node.op_type == "LSTM"]
    assert names == ["rnn.l0", "rnn.l1"]
    weights = {tensor.name: list(tensor.dims) for tensor in loaded.graph.initializer}
    assert weights["rnn.l1.R"] == [2, 4 * HIDDEN, HIDDEN]
    # Nothing is left twice, in torch's order and in ONNX's.
    assert not [name for name in weights if "weight_hh" in name or "bias_ih" in name]
    assert [value.name for value in loaded.graph.input] == ["x", "n"]
    (found,) = run(loaded, (given[0][:1, :2], torch.tensor([2])))
    with torch.no_grad():
        wanted = model.eval()(given[0][:1, :2], torch.tensor([2]))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    seqfast.onnx.export(model, given, tmp_path / "two.onnx", external_data=True)
    assert (tmp_path / "two.onnx.data").exists()
    assert onnx.load(tmp_path / "two.onnx").graph.initializer


def test_a_model_of_torchs_after_accelerate() -> None:
    torch.manual_seed(2)
    theirs = torch.nn.GRU(SIZE, HIDDEN, 2, bidirectional=True).eval()
    x = torch.randn(STEPS, BATCH, SIZE)
    with torch.no_grad():
        wanted = flat(theirs(x))
    model = seqfast.accelerate(torch.nn.Sequential(theirs))
    program = seqfast.onnx.export(model, x, opset_version=22)
    assert {each.version for each in program.model_proto.opset_import} == {22}
    kinds = Counter(node.op_type for node in program.model_proto.graph.node)
    assert kinds["GRU"] == 2
    for found, tensor in zip(run(program.model_proto, (x,)), wanted, strict=True):
        torch.testing.assert_close(found, tensor, atol=1e-5, rtol=0)


def reason(model: Module, given: tuple[Any, ...]) -> str:
    """What our translations say at the bottom of what torch raises."""
    with pytest.raises(torch.onnx.OnnxExporterError) as caught:
        torch.onnx.export(
            model,
            given,
            dynamo=True,
            verbose=False,
            custom_translation_table=seqfast.onnx.translations(),
        )
    below: BaseException | None = caught.value
    while below is not None and not isinstance(below, seqfast.onnx.ExportError):
        below = below.__cause__
    return str(below)


@pytest.mark.filterwarnings("ignore:Exporting a model while it is in training mode:UserWarning")
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"zoneout": 0.1}, "lstm: zoneout and recurrent_dropout draw random numbers in training"),
        ({"dropout": 0.1}, "dropout, input_dropout and weight_dropout draw random numbers"),
    ],
    ids=["zoneout", "dropout"],
)
def test_random_numbers_are_refused(option: dict[str, Any], said: str) -> None:
    message = reason(nn.LSTM(SIZE, HIDDEN, 2, **option).train(), (torch.randn(2, 1, SIZE),))
    assert message.startswith(said)
    assert "model.eval() before torch.onnx.export, or seqfast.onnx.export" in message


class Packed(Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(SIZE, HIDDEN)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        result: Tensor = self.rnn(packed)[1]
        return result


@pytest.mark.parametrize("where", ["inside", "given"])
def test_packed_sequences_are_refused(where: str, tmp_path: Path) -> None:
    x, lengths = torch.randn(5, 3, SIZE), torch.tensor([5, 2, 3])
    model: Module = Packed()
    given: tuple[Any, ...] = (x, lengths)
    if where == "given":
        model = nn.GRU(SIZE, HIDDEN)
        given = (torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False),)
    model.train()
    path = tmp_path / "packed.onnx"
    path.write_bytes(b"of before")
    with pytest.raises(seqfast.onnx.ExportError, match="give the layer the padded batch and"):
        seqfast.onnx.export(model, given, path)
    assert path.read_bytes() == b"of before"
    assert all(module.training for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_what_is_no_model_is_refused() -> None:
    model: Any = lambda x: x  # noqa: E731
    with pytest.raises(TypeError, match=r"onnx\.export: model must be a torch\.nn\.Module, got"):
        seqfast.onnx.export(model, ())


def test_arguments_that_cannot_be(tmp_path: Path) -> None:
    model = nn.GRU(SIZE, HIDDEN)
    with pytest.raises(ValueError, match=r"onnx\.export: dynamo must be True, got False"):
        seqfast.onnx.export(model, torch.zeros(2, 1, SIZE), dynamo=False)
    with pytest.raises(
        FileNotFoundError, match=r"onnx\.export: path must be in an existing folder"
    ):
        seqfast.onnx.export(model, torch.zeros(2, 1, SIZE), tmp_path / "none" / "gru.onnx")


def test_without_the_extra_the_import_says_what_is_missing() -> None:
    code = (
        "import sys\n"
        "sys.modules['onnxscript'] = None\n"
        "import seqfast\n"
        "try:\n"
        "    seqfast.onnx\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True
    )
    assert found.stdout == "seqfast.onnx needs onnxscript: pip install seqfast[onnx]\n"


def test_other_errors_of_the_exporter_pass() -> None:
    model, (x, lengths) = Tagger(), tagged()
    with pytest.raises(Exception, match=r"LSTM: .*input_size") as caught:
        seqfast.onnx.export(model, (x[..., :2], lengths))
    assert not isinstance(caught.value, seqfast.onnx.ExportError)
    assert model.training
