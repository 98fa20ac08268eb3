"""What tools around torch do with torch.nn's layers, they do with ours."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

import seqfast
import seqfast.nn

KINDS = ("LSTM", "GRU", "RNN")
CELLS = ("LSTMCell", "GRUCell", "RNNCell")
SCRIPT = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
QUANTIZE = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)


class Tagger(nn.Module):
    """Every kind of layer and cell; of torch's, or ours."""

    def __init__(self, home: Any) -> None:
        super().__init__()
        self.lstm = home.LSTM(4, 5, 2, bidirectional=True, batch_first=True)
        self.gru = home.GRU(10, 6, batch_first=True)
        self.rnn = home.RNN(6, 3, batch_first=True, nonlinearity="relu")
        self.lstm_cell = home.LSTMCell(3, 4)
        self.gru_cell = home.GRUCell(4, 4)
        self.rnn_cell = home.RNNCell(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        output, (hidden, cell) = self.lstm(x)
        output, _ = self.gru(output)
        output, _ = self.rnn(output)
        hidden, cell = self.lstm_cell(output[:, -1])
        hidden = self.gru_cell(cell, hidden)
        return self.head(self.rnn_cell(hidden))


@pytest.fixture
def ours() -> Tagger:
    return Tagger(seqfast.nn)


@pytest.fixture
def theirs(ours: Tagger) -> Tagger:
    theirs = Tagger(nn)
    theirs.load_state_dict(ours.state_dict())
    return theirs


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 7, 4)


# torch.jit.script.


@SCRIPT
def test_script(ours: Tagger, x: Tensor) -> None:
    wanted = ours(x)
    scripted = torch.jit.script(ours)
    torch.testing.assert_close(scripted(x), wanted)
    assert scripted.lstm.original_name == "LSTM"
    scripted(x).sum().backward()
    assert ours.lstm.weight_hh_l0.grad.any()  # the same Parameters


def snapshot(model: nn.Module) -> list[Any]:
    """Modules by name, with classes, attributes and the modules that they hold."""
    return [
        (name, id(part), type(part), {k: id(v) for k, v in vars(part).items()}, [*part._modules])
        for name, part in model.named_modules(remove_duplicate=False)
    ]


class WithHidden(nn.Module):
    """Of modules that refer to each other beside where they are registered."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = seqfast.nn.GRU(4, 4)
        self.again = self.gru
        self.__dict__["first"] = self.gru

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.again(self.gru(x)[0])
        return output


@SCRIPT
@pytest.mark.parametrize("hidden", [False, True])
def test_script_leaves_the_model_as_it_was(ours: Tagger, x: Tensor, hidden: bool) -> None:
    model = WithHidden() if hidden else ours
    before, wanted = snapshot(model), model(x)
    scripted = torch.jit.script(model)
    torch.testing.assert_close(scripted(x), wanted)
    assert snapshot(model) == before
    again = torch.jit.script(model.eval())
    torch.testing.assert_close(again(x), model(x))


class Uncompilable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * eval("2")


@SCRIPT
@pytest.mark.parametrize("last", [seqfast.nn.LSTM(4, 5, peephole=True), Uncompilable()])
def test_script_that_fails_leaves_the_model_as_it_was(last: nn.Module) -> None:
    model = nn.Sequential(seqfast.nn.GRUCell(4, 4), nn.Sequential(seqfast.nn.RNNCell(4, 4)), last)
    before = snapshot(model)
    with pytest.raises((ValueError, RuntimeError)):
        torch.jit.script(model)
    assert snapshot(model) == before


@SCRIPT
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {"peephole": True}),
        ("GRU", {"reset_after": False}),
        ("RNN", {"zoneout": 0.1}),
        ("LSTM", {"hidden_size": (5, 3)}),
        ("LSTMCell", {"cell_clip": 1.0}),
    ],
    ids=str,
)
def test_script_names_what_it_cannot(kind: str, options: dict[str, Any]) -> None:
    arguments = {"input_size": 4, "hidden_size": 5, **options}
    ((name, value),) = options.items()
    model = nn.Sequential(getattr(seqfast.nn, kind)(**arguments))
    with pytest.raises(ValueError, match=r"torch.jit.script: torch.nn.\w+ has no") as refused:
        torch.jit.script(model)
    assert f"{name}={value}" in str(refused.value)
    assert isinstance(model[0], getattr(seqfast.nn, kind))


@SCRIPT
def test_script_refuses_a_subclass() -> None:
    class Derived(seqfast.nn.GRU):
        pass

    with pytest.raises(TypeError, match=r"cannot compile Derived, a subclass of seqfast.nn.GRU"):
        torch.jit.script(Derived(4, 5))


# torch.fx.


def test_symbolic_trace(ours: Tagger, x: Tensor) -> None:
    traced = fx.symbolic_trace(ours)
    leaves = {node.target for node in traced.graph.nodes if node.op == "call_module"}
    assert leaves == {name for name, _ in ours.named_children()}
    torch.testing.assert_close(traced(x), ours(x))
    traced.graph.lint()
    assert traced.lstm is ours.lstm


@pytest.mark.parametrize("kind", KINDS)
def test_every_argument_is_traced(kind: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([getattr(seqfast.nn, kind)(4, 5)])

        def forward(self, x: Any, hx: Any, lengths: Any, mask: Any, reset: Any) -> Any:
            first, state = self.layers[0](x, hx, lengths=lengths)
            second, _ = self.layers[0](x, mask=mask, reset=reset)
            return first + second, state

    model = Model()
    x = torch.randn(7, 3, 4)
    hx: Any = torch.randn(1, 3, 5)
    hx = (hx, hx) if kind == "LSTM" else hx
    rest = torch.tensor([7, 2, 0]), torch.rand(7, 3) < 0.5, torch.rand(7, 3) < 0.5
    traced = fx.symbolic_trace(model)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["layers.0"] * 2
    torch.testing.assert_close(traced(x, hx, *rest), model(x, hx, *rest))


@pytest.mark.parametrize("kind", KINDS + CELLS)
def test_a_traced_state_beside_a_constant_input(kind: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = getattr(seqfast.nn, kind)(4, 5)
            self.register_buffer("x", torch.randn(3, 4))

        def forward(self, h: Tensor) -> Any:
            return self.layer(self.x, (h, h) if "LSTM" in kind else h)

    model, h = Model(), torch.randn(*((3, 5) if kind in CELLS else (1, 5)))
    torch.testing.assert_close(fx.symbolic_trace(model)(h), model(h))


def test_a_layer_by_itself_has_no_graph() -> None:
    with pytest.raises(TypeError, match="cannot trace a GRU alone"):
        fx.symbolic_trace(seqfast.nn.GRU(4, 5))


# Files that hold our operators, in a process that has not imported the modules.

LOAD = """
    import sys
    import torch
    import seqfast
    assert "seqfast.nn" not in sys.modules
    x = torch.load(sys.argv[1] + "/x.pt")
    traced = torch.jit.load(sys.argv[1] + "/traced.pt")
    exported = torch.export.load(sys.argv[1] + "/exported.pt2").module()
    torch.save([traced(x), exported(x)], sys.argv[1] + "/found.pt")
    assert "seqfast.nn" not in sys.modules
"""


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_files_are_loaded_after_import_seqfast_alone(ours: Tagger, tmp_path: Path) -> None:
    x = torch.randn(3, 7, 4)
    ours.lstm.dropout = 0.5  # in evaluation no seed is drawn
    ours.eval()
    with torch.no_grad():
        wanted = ours(x)
        torch.jit.trace(ours, (x,)).save(str(tmp_path / "traced.pt"))
        torch.export.save(torch.export.export(ours, (x,)), tmp_path / "exported.pt2")
    torch.save(x, tmp_path / "x.pt")
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(LOAD), str(tmp_path)]
    subprocess.run(command, check=True, timeout=120)
    for found in torch.load(tmp_path / "found.pt"):
        torch.testing.assert_close(found, wanted)


def test_import_without_torch_registers_nothing() -> None:
    code = "import sys, seqfast; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# The profiler, and the counter of operations.


@pytest.mark.parametrize("kind", KINDS + CELLS)
@pytest.mark.parametrize("grad", [False, True], ids=["no_grad", "grad"])
def test_the_profiler_has_the_layers_name(kind: str, grad: bool) -> None:
    layer = getattr(seqfast.nn, kind)(4, 5)
    x = torch.randn(3, 4) if "Cell" in kind else torch.randn(7, 3, 4)
    with torch.set_grad_enabled(grad), torch.profiler.profile() as profile:
        layer(x)
    (event,) = (e for e in profile.key_averages() if e.key == f"seqfast.nn.{kind}")
    assert event.count == 1


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("grad", [False, True], ids=["forward", "both"])
def test_flops_are_torchs(kind: str, options: dict[str, Any], grad: bool) -> None:
    """(Of an LSTM torch counts nothing on the CPU, since oneDNN has it.)"""
    counts = []
    for home in (nn, seqfast.nn):
        layer = getattr(home, kind)(4, 5, **options)
        x = torch.randn(7, 2, 4, requires_grad=grad)
        hx = torch.zeros(4 if options else 1, 2, 5, requires_grad=grad)
        with torch.set_grad_enabled(grad), FlopCounterMode(display=False) as counter:
            output, _ = layer(x, hx)
            if grad:
                output.sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_flops_of_an_lstm() -> None:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        seqfast.nn.LSTM(4, 5, proj_size=3)(torch.randn(7, 2, 4))
    assert counter.get_total_flops() == 2 * 7 * 2 * (20 * 4 + 20 * 3 + 3 * 5)


# Quantization of torch's own.


@QUANTIZE
@pytest.mark.parametrize("what", [None, {nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell}])
def test_quantize_dynamic(ours: Tagger, theirs: Tagger, x: Tensor, what: Any) -> None:
    quantized = torch.ao.quantization.quantize_dynamic(ours, what)
    wanted = torch.ao.quantization.quantize_dynamic(theirs, what)
    # torch has no quantized layer for nn.RNN, and leaves it in float, ours as its own.
    kinds = [type(part).__module__ for part in quantized.children()]
    assert [kind.startswith("torch.ao") for kind in kinds] == [True] * 2 + [False] + [True] * 3 + [
        what is None
    ]
    torch.testing.assert_close(quantized(x), wanted(x))
    assert [type(part).__module__ for part in ours.children()][:-1] == [
        f"seqfast.nn.{name}" for name in ("lstm", "gru", "rnn", "lstm", "gru", "rnn")
    ]


@QUANTIZE
@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
def test_quantize_dynamic_refuses_what_it_would_get_wrong(kind: str) -> None:
    model = nn.Sequential(getattr(seqfast.nn, kind)(4, 5, peephole=True))
    with pytest.raises(ValueError, match=rf"torch.nn.{kind} has no peephole=True"):
        torch.ao.quantization.quantize_dynamic(model)
    # Who quantizes something else is not disturbed.
    torch.ao.quantization.quantize_dynamic(model, {nn.Linear})


class Unquantizable(nn.Module):
    @classmethod
    def from_float(cls, *args: Any, **kwargs: Any) -> nn.Module:
        raise RuntimeError("cannot")


@QUANTIZE
@pytest.mark.parametrize("fails", ["option", "bias", "conversion", "qconfig"])
@pytest.mark.parametrize("home", [torch.ao.quantization, torch.quantization])
def test_quantize_dynamic_that_fails_leaves_the_model_as_it_was(fails: str, home: Any) -> None:
    last: nn.Module = nn.Bilinear(4, 4, 4)
    options: dict[str, Any] = {"inplace": True}
    if fails == "option":
        last = seqfast.nn.LSTM(4, 5, zoneout=0.1)
    elif fails == "bias":
        last = seqfast.nn.GRU(4, 5, bias=False)
    elif fails == "conversion":
        qconfig = torch.ao.quantization.default_dynamic_qconfig
        options["qconfig_spec"] = dict.fromkeys([nn.LSTM, nn.GRUCell, nn.Bilinear], qconfig)
        mapping = torch.ao.quantization.get_default_dynamic_quant_module_mappings()
        options["mapping"] = {**mapping, nn.Bilinear: Unquantizable}
    else:
        options["qconfig_spec"] = {
            nn.GRUCell: torch.ao.quantization.default_dynamic_qconfig,
            "2": 3,
        }
    inner = nn.Sequential(seqfast.nn.LSTM(4, 4))
    model = nn.Sequential(seqfast.nn.GRUCell(4, 4), inner, last, nn.Linear(4, 4))
    before = snapshot(model)
    with pytest.raises((ValueError, RuntimeError, AssertionError, AttributeError)):
        home.quantize_dynamic(model, **options)
    assert snapshot(model) == before
    assert model.training
    model[0](torch.randn(2, 4))


IMPORTED_EARLY = """
from torch.ao.quantization import quantize_dynamic
from torch.quantization import quantize_dynamic as again
import torch, seqfast

assert "seqfast.nn" not in sys.modules
layers = seqfast.nn.LSTM(4, 4), seqfast.nn.LSTM(4, 5, zoneout=0.1), torch.nn.Linear(4, 4)
model = torch.nn.Sequential(*layers)
before = [(type(module), sorted(vars(module)), module.training) for module in model.modules()]
for function in (quantize_dynamic, again):
    try:
        function(model, inplace=True)
    except ValueError as error:
        assert "zoneout" in str(error)
    else:
        raise AssertionError
    after = [(type(module), sorted(vars(module)), module.training) for module in model.modules()]
    assert after == before, (before, after)
"""


@QUANTIZE
def test_quantize_dynamic_that_was_imported_before_seqfast() -> None:
    program = [sys.executable, "-W", "ignore", "-c", "import sys" + IMPORTED_EARLY]
    subprocess.run(program, check=True, timeout=120)


@QUANTIZE
def test_quantize_dynamic_in_place(ours: Tagger, theirs: Tagger, x: Tensor) -> None:
    held = [*ours.children()]
    torch.ao.quantization.quantize_dynamic(ours, inplace=True)
    wanted = torch.ao.quantization.quantize_dynamic(theirs)
    torch.testing.assert_close(ours(x), wanted(x))
    # What is replaced stays what it was for who holds it; what is not stays in the model.
    assert [type(part).__module__.split(".")[0] for part in held[:6]] == ["seqfast"] * 6
    assert ours.rnn is held[2]


# Tools from elsewhere.


def test_ptflops(ours: Tagger, theirs: Tagger) -> None:
    ptflops = pytest.importorskip("ptflops", reason="needs ptflops")
    counts = [
        ptflops.get_model_complexity_info(
            model, (7, 4), as_strings=False, print_per_layer_stat=False
        )
        for model in (ours, theirs)
    ]
    assert counts[0] == counts[1]
    assert counts[0][1] == sum(p.numel() for p in ours.parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_thop(ours: Tagger, theirs: Tagger, x: Tensor) -> None:
    thop = pytest.importorskip("thop", reason="needs thop", exc_type=ImportError)
    counts = [thop.profile(model, (x,), verbose=False) for model in (ours, theirs)]
    assert counts[0] == counts[1]
    assert counts[0][1] == sum(p.numel() for p in ours.parameters())


def test_torchinfo(ours: Tagger, theirs: Tagger, x: Tensor) -> None:
    torchinfo = pytest.importorskip("torchinfo", reason="needs torchinfo")
    shown = [str(torchinfo.summary(model, input_data=x, verbose=0)) for model in (ours, theirs)]
    assert shown[0] == shown[1]
    assert "LSTMCell" in shown[0]


@pytest.mark.parametrize("kind", KINDS)
def test_higher(kind: str) -> None:
    """Gradients through two steps of an inner optimizer (Finn et al. 2017)."""
    higher = pytest.importorskip("higher", reason="needs higher")
    grads = []
    theirs = getattr(nn, kind)(4, 5).double()
    ours = getattr(seqfast.nn, kind)(4, 5).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(7, 3, 4, dtype=torch.float64)
    for layer in (ours, theirs):
        optimizer = torch.optim.SGD(layer.parameters(), 0.1)
        with higher.innerloop_ctx(layer, optimizer, copy_initial_weights=False) as (inner, step):
            for _ in range(2):
                step.step(inner(x)[0].pow(2).mean())
            inner(x)[0].pow(2).sum().backward()
        grads.append([parameter.grad for parameter in layer.parameters()])
    torch.testing.assert_close(*grads)


@pytest.mark.filterwarnings("ignore")
def test_opacus(ours: Tagger, theirs: Tagger) -> None:
    validators = pytest.importorskip("opacus.validators", reason="needs opacus")
    found = [
        [str(error) for error in validators.ModuleValidator.validate(model)]
        for model in (ours, theirs)
    ]
    assert found[0] == found[1]
    assert any("LSTM" in error for error in found[0])
    fixed = validators.ModuleValidator.fix(ours)
    assert type(fixed.lstm).__module__.startswith("opacus")
    torch.testing.assert_close(fixed(torch.ones(3, 7, 4)), ours(torch.ones(3, 7, 4)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_captum(ours: Tagger, theirs: Tagger, x: Tensor) -> None:
    attr = pytest.importorskip("captum.attr", reason="needs captum")
    for made in (
        lambda model: attr.IntegratedGradients(model).attribute(x, target=0, n_steps=8),
        lambda model: attr.Saliency(model).attribute(x.clone().requires_grad_(), target=0),
        lambda model: attr.LayerActivation(model, model.gru).attribute(x),
        lambda model: attr.FeatureAblation(model).attribute(x, target=0),
    ):
        torch.testing.assert_close(made(ours), made(theirs))


@pytest.mark.filterwarnings("ignore")
def test_lightning(ours: Tagger, theirs: Tagger, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning", reason="needs lightning")

    class Training(lightning.LightningModule):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, index: int) -> Tensor:
            return self.model(batch[0]).pow(2).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    data = torch.utils.data.TensorDataset(torch.randn(12, 7, 4))
    for model in (ours, theirs):
        trainer = lightning.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(Training(model), torch.utils.data.DataLoader(data, batch_size=4))
    torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()))
