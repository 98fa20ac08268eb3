"""Recurrent nodes of ONNX files as our layers: ONNX's published cases, every option, bad files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqfast import nn

_NEEDED = "needs onnx, onnxscript and onnxruntime: pip install seqfast[onnx]"
onnxruntime = pytest.importorskip("onnxruntime", reason=_NEEDED)
pytest.importorskip("onnxscript", reason=_NEEDED)
onnx = pytest.importorskip("onnx", reason=_NEEDED)

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after it is known that it can be
from onnx.backend.test.case.node import gru, lstm, rnn  # noqa: E402

import seqfast.onnx  # noqa: E402
from seqfast.onnx import load_rnn  # noqa: E402

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
SIZE, HIDDEN, STEPS, BATCH = 3, 4, 5, 3
PUBLISHED = {
    f"{kind}-{name.removeprefix('export_')}": (module, kind, name)
    for module, kind in ((lstm, "LSTM"), (gru, "GRU"), (rnn, "RNN"))
    for name in sorted(vars(getattr(module, kind)))
    if name.startswith("export_")
}


def test_there_are_published_cases() -> None:
    assert len(PUBLISHED) >= 12
    assert {"LSTM-peepholes", "LSTM-batchwise", "GRU-seq_length", "RNN-seq_length"} <= {*PUBLISHED}


def in_ours(result: Any, name: str, batch_first: bool) -> Tensor:
    """What ONNX calls Y, Y_h, Y_c in the form our layers return."""
    tensor = torch.from_numpy(np.asarray(result))
    if not name.startswith("Y_"):
        return (tensor if batch_first else tensor.transpose(1, 2)).flatten(2)
    return tensor.transpose(0, 1) if batch_first else tensor


def called(layer: Any, given: dict[str, Any]) -> dict[str, Tensor]:
    """The layer's results by ONNX's names, from a node's inputs by ONNX's names."""
    inner = getattr(layer, "layer", layer)
    states = [torch.from_numpy(given[n]) for n in ("initial_h", "initial_c") if n in given]
    if inner.batch_first:
        states = [state.transpose(0, 1) for state in states]
    hx: Any = None
    if states:
        hx = tuple(states) if isinstance(inner, nn.LSTM) else states[0]
    lengths = given.get("sequence_lens")
    lengths = None if lengths is None else torch.from_numpy(lengths)
    output, states_n = layer(torch.from_numpy(given["X"]), hx, lengths=lengths)
    found = {"Y": output}
    if isinstance(inner, nn.LSTM):
        found["Y_h"], found["Y_c"] = states_n
    else:
        found["Y_h"] = states_n
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_case(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, kind, export = PUBLISHED[name]
    cases: list[tuple[Any, list[Any], list[Any]]] = []

    def expect(node: Any, inputs: list[Any], outputs: list[Any], name: str, **_: Any) -> None:
        cases.append((node, inputs, outputs))

    monkeypatch.setattr(module, "expect", expect)
    getattr(getattr(module, kind), export)()
    assert cases
    for node, inputs, outputs in cases:
        there = [each for each in node.input if each]
        given = dict(zip(there, inputs, strict=True))
        weights = {letter: given[letter] for letter in "WRBP" if letter in given}
        layer = load_rnn(node, weights=weights)
        with torch.no_grad():
            found = called(layer, given)
        named = [each for each in node.output if each]
        batch_first = getattr(layer, "layer", layer).batch_first
        for output, wanted in zip(named, outputs, strict=True):
            ours = found[output]
            theirs = in_ours(wanted, output, batch_first)
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def weights_of(kind: str, directions: int, dtype: Any = np.float32) -> dict[str, Any]:
    made = np.random.default_rng(4)
    rows = GATES[kind] * HIDDEN
    shapes = {
        "W": (directions, rows, SIZE),
        "R": (directions, rows, HIDDEN),
        "B": (directions, 2 * rows),
        "P": (directions, 3 * HIDDEN),
    }
    return {name: made.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def model_of(
    kind: str,
    weights: dict[str, Any],
    *,
    inputs: tuple[str, ...] = ("X", "W", "R", "B"),
    nodes: tuple[Any, ...] = (),
    extra: tuple[Any, ...] = (),
    shape: tuple[Any, ...] | None = None,
    **attributes: Any,
) -> Any:
    """A model of one node, whose other inputs are the graph's."""
    outputs = ["Y", "Y_h", "Y_c"] if kind == "LSTM" else ["Y", "Y_h"]
    attributes = {"hidden_size": HIDDEN, **attributes}
    attributes = {name: value for name, value in attributes.items() if value is not None}
    node = helper.make_node(kind, inputs, outputs, name="encoder", **attributes)
    types = {"sequence_lens": TensorProto.INT32}
    missing = [name for name in inputs if name and name not in weights and name != "X"]
    made = {output for node in nodes for output in node.output}
    values = [
        helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), shape)
        for name in ("X", *[name for name in missing if name not in made])
    ]
    graph = helper.make_graph(
        [*nodes, node],
        "graph",
        values,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    graph.initializer.extend(extra)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


WITH_ALL = ("X", "W", "R", "B", "sequence_lens", "initial_h")
LSTM_WITH_ALL = (*WITH_ALL, "initial_c", "P")
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("LSTM", {}),
    "lstm-no-bias": ("LSTM", {"inputs": ("X", "W", "R")}),
    "lstm-all": ("LSTM", {"inputs": LSTM_WITH_ALL, "clip": 0.5, "direction": "bidirectional"}),
    "lstm-coupled": ("LSTM", {"inputs": LSTM_WITH_ALL, "input_forget": 1, "clip": 0.7}),
    "lstm-reverse": ("LSTM", {"inputs": LSTM_WITH_ALL, "direction": "reverse"}),
    "lstm-activations": ("LSTM", {"activations": ["sigmoid", "TANH", "Tanh"]}),
    "gru": ("GRU", {"inputs": WITH_ALL, "direction": "bidirectional"}),
    "gru-after": ("GRU", {"inputs": WITH_ALL, "linear_before_reset": 1}),
    "gru-reverse": ("GRU", {"inputs": WITH_ALL, "direction": "reverse"}),
    "rnn": ("RNN", {"inputs": WITH_ALL}),
    "rnn-relu": (
        "RNN",
        {
            "inputs": WITH_ALL,
            "activations": ["Relu", "Relu"],
            "direction": "bidirectional",
        },
    ),
    "rnn-reverse": ("RNN", {"inputs": WITH_ALL, "direction": "reverse", "activations": ["Relu"]}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_layer_gives_what_onnx_runtime_gives(name: str) -> None:
    kind, options = OPTIONS[name]
    inputs = options.get("inputs", ("X", "W", "R", "B"))
    directions = 2 if options.get("direction") == "bidirectional" else 1
    weights = {k: v for k, v in weights_of(kind, directions).items() if k in inputs}
    model = model_of(kind, weights, **options)
    made = np.random.default_rng(8)

    def normal(*shape: int) -> Any:
        return made.standard_normal(shape).astype(np.float32)

    every = {
        "X": normal(STEPS, BATCH, SIZE),
        "sequence_lens": np.array([5, 2, 3], np.int32),
        "initial_h": normal(directions, BATCH, HIDDEN),
        "initial_c": normal(directions, BATCH, HIDDEN),
    }
    given = {name: value for name, value in every.items() if name in inputs}
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    wanted = dict(zip([o.name for o in session.get_outputs()], session.run(None, given)))  # noqa: B905
    layer = load_rnn(model)
    with torch.no_grad():
        found = called(layer, given)
    for output, theirs in wanted.items():
        torch.testing.assert_close(found[output], in_ours(theirs, output, False), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_weights_keep_their_dtype(dtype: str) -> None:
    weights = weights_of("GRU", 1, dtype)
    layer = load_rnn(model_of("GRU", {k: weights[k] for k in "WRB"}))
    assert layer.weight_hh_l0.dtype == getattr(torch, dtype)
    # ONNX's gates are z r h, ours r z n.
    z, r, n = np.split(weights["R"][0], 3)
    assert np.array_equal(layer.weight_hh_l0.detach().numpy(), np.concatenate([r, z, n]))


def test_bfloat16_is_read() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes, which onnx brings")
    weights = weights_of("RNN", 1, ml_dtypes.bfloat16)
    layer = load_rnn(model_of("RNN", {k: weights[k] for k in "WRB"}))
    assert layer.weight_ih_l0.dtype == torch.bfloat16
    wanted = torch.from_numpy(weights["W"][0].astype(np.float32))
    assert torch.equal(layer.weight_ih_l0.float(), wanted)


def test_an_exported_model_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(
        SIZE, HIDDEN, 2, bidirectional=True, peephole=True, gate_clip=0.5, coupled_gates=True
    )
    path = tmp_path / "lstm.onnx"
    x = torch.randn(STEPS, BATCH, SIZE)
    program = seqfast.onnx.export(layer, (x,), path)
    state = torch.get_rng_state()
    read = [load_rnn(source, f"l{k}") for k, source in enumerate((path, program))]
    assert torch.equal(torch.get_rng_state(), state)  # nothing is drawn for what is overwritten
    layer.eval()
    for k, one in enumerate(read):
        assert one.peephole
        assert one.coupled_gates
        assert one.gate_clip == pytest.approx(0.5)
        for name, parameter in one.named_parameters():
            assert torch.equal(parameter, getattr(layer, name.replace("l0", f"l{k}"))), name
    with torch.no_grad():
        torch.testing.assert_close(read[1](read[0](x)[0])[0], layer(x)[0], atol=1e-6, rtol=0)


def test_weights_that_are_computed_are_read() -> None:
    """By Constant and other nodes, from constants alone; and inside a Loop, from outside it."""
    weights = weights_of("GRU", 1)
    halves = np.split(weights["R"], 2, axis=1)
    constant = helper.make_node(
        "Constant", [], ["W"], value=numpy_helper.from_array(weights["W"], "value")
    )
    concat = helper.make_node("Concat", ["first", "second"], ["R"], axis=1)
    given = {"first": halves[0], "second": halves[1], "B": weights["B"]}
    model = model_of("GRU", given, nodes=(constant, concat))
    wanted = load_rnn(model_of("GRU", {k: weights[k] for k in "WRB"}))
    assert torch.equal(load_rnn(model).weight_hh_l0, wanted.weight_hh_l0)

    inner = helper.make_graph(
        [*model.graph.node], "body", [], [helper.make_tensor_value_info("Y", 1, None)]
    )
    outer = helper.make_node("If", ["condition"], ["Z"], then_branch=inner, else_branch=inner)
    model.graph.ClearField("node")
    model.graph.node.append(outer)
    with pytest.raises(ValueError, match="2 nodes: GRU 'encoder', GRU 'encoder'"):
        load_rnn(model)
    model.graph.node[0].attribute.pop()
    assert torch.equal(load_rnn(model, "encoder").weight_ih_l0, wanted.weight_ih_l0)


def test_initial_states_of_a_file() -> None:
    weights = weights_of("LSTM", 1)
    states = np.ones((1, BATCH, HIDDEN), np.float32)
    given = {**{k: weights[k] for k in "WRB"}, "initial_c": states}
    inputs = ("X", "W", "R", "B", "", "", "initial_c")
    model = model_of("LSTM", given, inputs=inputs)
    with pytest.raises(ValueError, match="LSTM node 'encoder': initial_h or initial_c is in the"):
        load_rnn(model)
    layer, (h, c) = load_rnn(model, return_states=True)
    assert not h.any()
    assert torch.equal(c, torch.ones(1, BATCH, HIDDEN))
    assert layer(torch.zeros(2, BATCH, SIZE), (h, c))[0].shape == (2, BATCH, HIDDEN)
    # Zeros are what a layer starts with anyway.
    load_rnn(model_of("LSTM", {**given, "initial_c": 0 * states}, inputs=inputs))
    plain = model_of("GRU", {k: weights_of("GRU", 1)[k] for k in "WRB"})
    assert load_rnn(plain, return_states=True)[1] is None


def test_the_size_may_be_that_of_the_weights() -> None:
    weights = {k: weights_of("GRU", 1)[k] for k in "WRB"}
    assert load_rnn(model_of("GRU", weights, hidden_size=None)).hidden_size == HIDDEN


def test_layout_is_batch_first() -> None:
    weights = {k: weights_of("GRU", 1)[k] for k in "WRB"}
    layer = load_rnn(model_of("GRU", weights, layout=1))
    assert layer.batch_first
    assert layer(torch.zeros(2, 5, SIZE))[0].shape == (2, 5, HIDDEN)


@pytest.mark.parametrize("batch_first", [False, True])
def test_reverse_layer(batch_first: bool) -> None:
    """Against the backward direction of a layer that has both."""
    torch.manual_seed(1)
    both = nn.GRU(SIZE, HIDDEN, bidirectional=True, batch_first=batch_first)
    one = nn.GRU(SIZE, HIDDEN, batch_first=batch_first)
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            parameter.copy_(getattr(both, f"{name}_reverse"))
    layer = seqfast.onnx.ReverseLayer(one)
    x, h = torch.randn(5, 3, SIZE), torch.randn(1, 3, HIDDEN)
    x = x.transpose(0, 1) if batch_first else x
    for lengths in (None, torch.tensor([4, 5, 0])):
        output, h_n = layer(x, h, lengths=lengths)
        wanted, wanted_n = both(x, torch.cat([h, h]), lengths=lengths)
        torch.testing.assert_close(output, wanted[..., HIDDEN:])
        torch.testing.assert_close(h_n[0], wanted_n[1])
    single = x[0] if batch_first else x[:, 0]
    output, _ = layer(single, lengths=torch.tensor(2))
    torch.testing.assert_close(output, both(single, lengths=torch.tensor(2))[0][..., HIDDEN:])
    with pytest.raises(ValueError, match="ReverseLayer: layer must have one direction"):
        seqfast.onnx.ReverseLayer(both)
    theirs: Any = torch.nn.GRU(SIZE, HIDDEN)
    with pytest.raises(TypeError, match=r"ReverseLayer: layer must be a seqfast\.nn\.LSTM"):
        seqfast.onnx.ReverseLayer(theirs)
    with pytest.raises(ValueError, match="ReverseLayer: lengths must be from 0 to 5"):
        layer(x, lengths=torch.tensor([4, 6, 0]))


# What is wrong with a file, and what must be said of it after the file and the node.
WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "no-initialiser": ("LSTM", {"without": "R"}, "R must be an initialiser.*'R' is an input of"),
    "no-weight-at-all": ("GRU", {"inputs": ("X", "W")}, "R must be given, got none"),
    "symbolic": (
        "LSTM",
        {"without": "W", "shape": (1, "rows", "size")},
        "W must be an initialiser, or computed from such; 'W' is an input",
    ),
    "unknown-activation": (
        "LSTM",
        {"activations": ["Sigmoid", "Swish", "Tanh"]},
        "the activation 'Swish' is not one of ONNX's",
    ),
    "other-activation": (
        "GRU",
        {"activations": ["HardSigmoid", "Tanh"]},
        r"activations\[0\] must be Sigmoid, which seqfast's GRU has, got 'HardSigmoid'",
    ),
    "mixed-activations": (
        "RNN",
        {"activations": ["Tanh", "Relu"], "direction": "bidirectional"},
        "activations must be the same in both directions",
    ),
    "few-activations": ("LSTM", {"activations": ["Sigmoid"]}, "activations must be 3 names"),
    "direction": ("RNN", {"direction": "sideways"}, "direction must be one of forward, reverse"),
    "hidden-size": ("LSTM", {"hidden_size": 5}, r"W must be \[1, 20, 3\] with hidden_size=5"),
    "no-hidden-size": ("LSTM", {"hidden_size": 0}, "hidden_size must be a whole number above 0"),
    "directions": (
        "GRU",
        {"direction": "bidirectional", "directions": 1},
        r"W must be \[2, 12, 3\] with hidden_size=4 and direction='bidirectional'",
    ),
    "peepholes": (
        "LSTM",
        {"inputs": LSTM_WITH_ALL, "replaced": {"P": np.zeros((1, 8), np.float32)}},
        r"P must be \[1, 12\].*got \[1, 8\]",
    ),
    "rank": (
        "RNN",
        {"replaced": {"R": np.zeros((4, 4), np.float32)}},
        r"R must be \[1, 4, 4\].*got \[4, 4\]",
    ),
    "scalar": ("RNN", {"replaced": {"R": np.float32(1)}, "hidden_size": None}, "R must be|W must"),
    "empty": ("RNN", {"replaced": {"W": np.zeros((1, 4, 0), np.float32)}}, "and not empty"),
    "dtypes": (
        "GRU",
        {"replaced": {"B": np.zeros((1, 24), np.float64)}},
        "B must be float32, as R is, got float64",
    ),
    "integers": (
        "RNN",
        {"replaced": {"W": np.zeros((1, 4, 3), np.int64)}},
        "W must be of a floating dtype, got int64",
    ),
    "clip-of-gru": ("GRU", {"clip": 1.0}, "clip must be left out: seqfast's GRU has none"),
    "clip": ("LSTM", {"clip": -1.0}, "clip must be a number above 0, got -1.0"),
    "layout": ("GRU", {"layout": 2}, "layout must be 0 or 1, got 2"),
    "attribute": (
        "GRU",
        {"input_forget": 1},
        "the attribute input_forget is not one of ONNX's GRU",
    ),
    "lengths": (
        "GRU",
        {"inputs": WITH_ALL, "replaced": {"sequence_lens": np.array([1, 2], np.int32)}},
        "sequence_lens is in the file",
    ),
    "states": (
        "GRU",
        {"inputs": WITH_ALL, "replaced": {"initial_h": np.zeros((1, 2, 5), np.float32)}},
        r"initial_h must be \[directions, batch, 4\], got \[1, 2, 5\]",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_node_is_refused(name: str, tmp_path: Path) -> None:
    kind, options, said = WRONG[name]
    options = {**options}
    both = options.get("direction") == "bidirectional"
    weights = weights_of(kind, options.pop("directions", 2 if both else 1))
    weights |= options.pop("replaced", {})
    inputs = options.get("inputs", ("X", "W", "R", "B"))
    weights = {k: v for k, v in weights.items() if k in inputs and k != options.get("without")}
    options.pop("without", None)
    path = tmp_path / "wrong.onnx"
    onnx.save(model_of(kind, weights, **options), path)
    with pytest.raises(ValueError, match=rf"wrong\.onnx: {kind} node 'encoder': .*(?:{said})"):
        load_rnn(path)


def plain_file(path: Path) -> bytes:
    weights = weights_of("LSTM", 1)
    onnx.save(model_of("LSTM", {k: weights[k] for k in "WRB"}), path)
    return path.read_bytes()


def test_a_cut_file_is_refused_or_whole(tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    content = plain_file(path)
    whole = load_rnn(path)
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        try:
            layer = load_rnn(path)
        except ValueError as error:
            assert "cut.onnx" in str(error)  # noqa: PT017
        else:
            # All that is cut off comes after the graph.
            assert torch.equal(layer.weight_hh_l0, whole.weight_hh_l0)
            assert size > len(content) - 40


def test_a_damaged_file_never_gives_a_half_built_layer(tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    content = plain_file(path)
    made = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in made.integers(0, len(content), 3):
            damaged[place] = made.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            layer = load_rnn(path)
        except (ValueError, OSError) as error:
            assert "damaged.onnx" in str(error)  # noqa: PT017
        else:
            assert isinstance(getattr(layer, "layer", layer), nn.LSTM)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not an ONNX model: it has no graph"),
        (b"PK\x03\x04 not a protobuf", "is not an ONNX model"),
        (b"some words\n" * 40, "is not an ONNX model"),
    ],
    ids=["empty", "archive", "text"],
)
def test_what_is_no_onnx_file_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "other.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"load_rnn: .*other\.bin {said}"):
        load_rnn(path)


def test_a_damaged_initialiser_is_refused() -> None:
    weights = weights_of("RNN", 1)
    model = model_of("RNN", {k: weights[k] for k in "WRB"})
    model.graph.initializer[1].raw_data = model.graph.initializer[1].raw_data[:-3]
    with pytest.raises(ValueError, match="RNN node 'encoder': the initialiser 'R' cannot be read"):
        load_rnn(model)


def test_weights_of_another_file_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "two.onnx"
    weights = weights_of("RNN", 1)
    model = model_of("RNN", {k: weights[k] for k in "WRB"})
    onnx.save(model, path, save_as_external_data=True, location="two.data", size_threshold=0)
    assert torch.equal(load_rnn(path).weight_ih_l0.detach(), torch.from_numpy(weights["W"][0]))
    (tmp_path / "two.data").unlink()
    with pytest.raises(ValueError, match=r"two\.onnx keeps weights in another file, which cannot"):
        load_rnn(path)


def test_which_node(tmp_path: Path) -> None:
    weights = {k: weights_of("RNN", 1)[k] for k in "WRB"}
    model = model_of("RNN", weights)
    again = helper.make_node("RNN", ["X", "W", "R", "B"], ["other", ""], hidden_size=HIDDEN)
    model.graph.node.append(again)
    with pytest.raises(
        ValueError, match="name must be given for the ModelProto, which has 2 nodes"
    ):
        load_rnn(model)
    with pytest.raises(ValueError, match="no LSTM, GRU or RNN nodes of the name 'decoder'; it has"):
        load_rnn(model, "decoder")
    assert torch.equal(
        load_rnn(model, "other").weight_hh_l0, load_rnn(model, "encoder").weight_hh_l0
    )
    del model.graph.node[:]
    model.graph.node.append(
        helper.make_node("DynamicQuantizeLSTM", ["X"], ["Y"], domain="com.microsoft")
    )
    with pytest.raises(ValueError, match=r"has no LSTM, GRU or RNN node, but com\.microsoft\.D"):
        load_rnn(model)
    with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
        load_rnn(tmp_path / "none.onnx")


def test_wrong_arguments() -> None:
    weights = {k: weights_of("RNN", 1)[k] for k in "WRB"}
    model = model_of("RNN", weights)
    node = model.graph.node[0]
    with pytest.raises(TypeError, match=r"load_rnn: source must be a path, an onnx\.Model"):
        load_rnn(7)
    with pytest.raises(ValueError, match="weights must be None unless source is a NodeProto"):
        load_rnn(model, weights=weights)
    with pytest.raises(TypeError, match="weights must be a mapping from names to arrays"):
        load_rnn(node, weights=[1])
    with pytest.raises(ValueError, match="the NodeProto: RNN node 'encoder': W must be an init"):
        load_rnn(node)
    for source in (weights, model.graph, model):
        assert load_rnn(node, weights=source).hidden_size == HIDDEN
    assert load_rnn(model.graph).input_size == SIZE
    with pytest.raises(ValueError, match="'Y' must be an LSTM, GRU or RNN, got Relu"):
        load_rnn(helper.make_node("Relu", ["X"], ["Y"]))


def test_an_attribute_of_a_function_is_refused() -> None:
    weights = {k: weights_of("RNN", 1)[k] for k in "WRB"}
    model = model_of("RNN", weights)
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "hidden_size":
            attribute.ClearField("i")
            attribute.ref_attr_name = "size"
    with pytest.raises(ValueError, match="hidden_size must be a value, got the attribute 'size'"):
        load_rnn(model)
