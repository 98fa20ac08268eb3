"""Results that ONNX Runtime publishes in its tests of LSTM, GRU and RNN, from the layers that
`load_rnn` makes of those nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

_NEEDED = "needs onnx and onnxscript: pip install seqfast[onnx]"
pytest.importorskip("onnxscript", reason=_NEEDED)
onnx = pytest.importorskip("onnx", reason=_NEEDED)

from seqfast.onnx import load_rnn  # noqa: E402 - after it is known that it can be


@dataclass
class Case:
    """A node with its weights, its inputs, and what comes out: h of all steps, then the last
    states."""

    kind: str
    weights: dict[str, Any]
    x: Any  # [steps, batch, features]
    output: Any = None  # [steps, batch, directions * hidden]
    hidden_n: Any = None  # [directions, batch, hidden]
    cell_n: Any = None
    lengths: list[int] | None = None
    hx: list[Any] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)


def simple(rows: list[float], **others: Any) -> dict[str, Any]:
    """Weights of three units and one feature; all of R is 0.1."""
    gates = len(rows) // 3
    return {
        "W": np.reshape(rows, (1, 3 * gates, 1)),
        "R": np.full((1, 3 * gates, 3), 0.1),
        **{name: np.reshape(value, (1, -1)) for name, value in others.items()},
    }


# deep_cpu_lstm_op_test.cc: two rows with weights from 0.1 to 13.
LSTM_SIMPLE = simple([0.1, 0.2, 0.3, 0.4, 1, 2, 3, 4, 10, 11, 12, 13])
TWO_ROWS = [[[1], [2]], [[10], [11]]]
ONE_STEP = [[0.28828835, 0.36581863, 0.45679406], [0.34526032, 0.47220859, 0.55850911]]
TWO_STEPS = [[0.84196719, 0.89402526, 0.91073048], [0.85882828, 0.90703777, 0.92382453]]
ONE_CELL = [[0.52497941, 0.54983425, 0.5744428], [0.54983425, 0.59868795, 0.64565659]]
TWO_CELLS = [[1.27731147, 1.44181041, 1.53179041], [1.3249796, 1.51063104, 1.61451544]]
BACK = [
    [[0.55391603, 0.69201493, 0.82696019], [0.64046413, 0.82303363, 0.91610711]],
    [[0.61249432, 0.70678632, 0.74094619], [0.62759886, 0.71640738, 0.74624585]],
]
# The same file: one row of two features, with peepholes and a bias.
LSTM_FULL: dict[str, Any] = {
    "W": [
        [
            [-0.494659, 0.0453352],
            [-0.487793, 0.417264],
            [-0.0175329, 0.489074],
            [-0.446013, 0.414029],
            [-0.0091708, -0.255364],
            [-0.106952, -0.266717],
            [-0.0888852, -0.428709],
            [-0.283349, 0.208792],
        ]
    ],
    "R": [
        [
            [0.146626, -0.0620289],
            [-0.0815302, 0.100482],
            [-0.219535, -0.306635],
            [-0.28515, -0.314112],
            [-0.228172, 0.405972],
            [0.31576, 0.281487],
            [-0.394864, 0.42111],
            [-0.386624, -0.390225],
        ]
    ],
    "B": [
        [0.381619, 0.0323954, -0.14449, 0.420804, -0.258721, 0.45056, -0.250755, 0.0967895]
        + [0.0] * 8
    ],
    "P": [[0.2345, 0.5235, 0.4378, 0.3475, 0.8927, 0.3456]],
}
NO_PEEPHOLES = {name: LSTM_FULL[name] for name in "WRB"}
ONE_ROW = [[[-0.455351, -0.276391]], [[-0.185934, -0.269585]]]
FORWARD = [[[-0.0251062475, 0.0561261699]], [[-0.03277518, 0.05935364]]]
# deep_cpu_gru_op_test.cc.
GRU_BIASED = simple(
    [0.1, 0.2, 0.3, 0.2, 0.3, 0.1, 0.3, 0.1, 0.2],
    B=[
        [-0.01, 0.1, 0.01, -0.2, -0.02, 0.02, 0.3, -0.3, -0.3],
        [-0.03, 0.5, -0.7, 0.05, -0.7, 0.3, 0.07, -0.03, 0.5],
    ],
)
SMALL = [[[-0.1], [0.2]], [[-0.3], [0.4]]]
CASES = {
    "lstm-two-rows": Case("LSTM", LSTM_SIMPLE, TWO_ROWS, [ONE_STEP, TWO_STEPS], [TWO_STEPS]),
    "lstm-lengths": Case(
        "LSTM",
        LSTM_SIMPLE,
        TWO_ROWS,
        [ONE_STEP, [[0, 0, 0], TWO_STEPS[1]]],
        [[ONE_STEP[0], TWO_STEPS[1]]],
        [[ONE_CELL[0], TWO_CELLS[1]]],
        lengths=[1, 2],
    ),
    "lstm-reverse": Case(
        "LSTM", LSTM_SIMPLE, TWO_ROWS, BACK, [BACK[0]], attributes={"direction": "reverse"}
    ),
    "lstm-reverse-lengths": Case(
        "LSTM",
        LSTM_SIMPLE,
        TWO_ROWS,
        [[BACK[0][0], ONE_STEP[1]], [BACK[1][0], [0, 0, 0]]],
        [[BACK[0][0], ONE_STEP[1]]],
        lengths=[2, 1],
        attributes={"direction": "reverse"},
    ),
    "lstm-clip": Case(
        "LSTM",
        LSTM_SIMPLE,
        [[[1], [32]], [[33], [64]]],
        hidden_n=[[[0.88572926, 0.89251395, 0.89655037], [0.94103248, 0.94266769, 0.94266769]]],
        attributes={"clip": 4.0},
    ),
    "lstm-peepholes": Case(
        "LSTM", LSTM_FULL, ONE_ROW, FORWARD, [FORWARD[1]], [[[-0.0780206, 0.098829]]]
    ),
    "lstm-peepholes-both": Case(
        "LSTM",
        {name: value * 2 for name, value in LSTM_FULL.items()},
        ONE_ROW,
        [
            [[-0.0251062, 0.0561262, -0.0318928, 0.0762679]],
            [[-0.0327752, 0.0593536, -0.0306872, 0.028035]],
        ],
        [[[-0.0327752, 0.0593536]], [[-0.0318928, 0.0762679]]],
        [[[-0.0780206, 0.098829]], [[-0.0753684, 0.120794]]],
        attributes={"direction": "bidirectional"},
    ),
    "lstm-peepholes-no-bias": Case(
        "LSTM",
        {name: LSTM_FULL[name] for name in "WRP"},
        ONE_ROW,
        [[[0.04154162, 0.01969122]], [[0.05298181, 0.0030589]]],
        cell_n=[[[0.11169686, 0.00625722]]],
    ),
    "lstm-input-forget": Case(
        "LSTM",
        LSTM_FULL,
        ONE_ROW,
        [[[-0.02510626, 0.05612619]], [[-0.0314321, 0.05087372]]],
        cell_n=[[[-0.07474898, 0.08480116]]],
        attributes={"input_forget": 1},
    ),
    "lstm-clip-peepholes": Case(
        "LSTM",
        LSTM_FULL,
        ONE_ROW,
        [[[-0.02280854, 0.02744377]], [[-0.03516197, 0.03875681]]],
        cell_n=[[[-0.07415761, 0.07395997]]],
        attributes={"clip": 0.1},
    ),
    "lstm-states": Case(
        "LSTM",
        NO_PEEPHOLES,
        ONE_ROW,
        [[[0.12797015, 0.0097284]], [[0.02716939, 0.01842997]]],
        cell_n=[[[0.06408449, 0.03139432]]],
        hx=[[[[0.34, 0.72]]], [[[0.63, 0.21]]]],
    ),
    "gru-two-rows": Case(
        "GRU",
        simple([0.1, 0.2, 0.3, 1, 2, 3, 10, 11, 12]),
        TWO_ROWS,
        [
            [[0.4750208, 0.450166, 0.4255575], [0.45016602, 0.40131235, 0.35434368]],
            [[0.6027093, 0.5083023, 0.44950223], [0.5754369, 0.45485455, 0.3747841]],
        ],
    ),
    "gru-bias": Case(
        "GRU",
        GRU_BIASED,
        SMALL,
        [
            [[0.16783132, -0.11754231, 0.11977843], [0.2046872, -0.10372487, 0.15365849]],
            [[0.22688604, -0.19698407, 0.14017843], [0.33386092, -0.15799662, 0.2381169]],
        ],
    ),
    "gru-linear-before-reset": Case(
        "GRU",
        GRU_BIASED,
        SMALL,
        [
            [[0.15024948, -0.11097029, -0.02121867], [0.18887489, -0.09747667, 0.02093463]],
            [[0.19538902, -0.19016478, -0.05644283], [0.30856851, -0.15190377, 0.05999807]],
        ],
        attributes={"linear_before_reset": 1},
    ),
    # rnn_op_test.cc, whose numbers come from CNTK.
    "rnn-reverse-lengths": Case(
        "RNN",
        {
            "W": [[[0.60482931, 0.67304987], [0.13166776, -0.33417314], [0.66345924, -0.49411628]]],
            "R": [
                [
                    [0.50877059, 0.78382635, 0.665046],
                    [0.89860243, -0.71745688, 0.80142093],
                    [-0.76517141, -0.88981366, -0.48568386],
                ]
            ],
        },
        [
            [[0.54881352, 0.71518934], [0.417021990, 0.720324516]],
            [[0.60276335, 0.54488319], [0.0001143748, 0.302332580]],
            [[0.42365479, 0.64589411], [0.146755889, 0.0923385918]],
            [[0.4375872, 0.89177299], [0, 0]],
            [[0.96366274, 0.38344151], [0, 0]],
        ],
        [
            [[0.87014002, 0.09402763, -0.54269236], [0.64809889, -0.19472955, -0.24271242]],
            [[0.37661949, 0.28492415, 0.15850827], [0.29596764, 0.08308408, -0.27175695]],
            [[0.8218801, -0.33996487, -0.7320742], [0.14977546, -0.01153355, 0.05169443]],
            [[0.90398145, 0.61396617, -0.70602065], [0, 0, 0]],
            [[0.68629962, -0.00125255, 0.4218055], [0, 0, 0]],
        ],
        lengths=[5, 3],
        attributes={"direction": "reverse", "activations": ["Tanh"]},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_published_result(name: str) -> None:
    case = CASES[name]
    weights = {letter: np.asarray(value, np.float32) for letter, value in case.weights.items()}
    names = ["X", "W", "R", "B" if "B" in weights else ""]
    if "P" in weights:
        names += ["", "", "", "P"]
    node = onnx.helper.make_node(
        case.kind, names, ["Y"], hidden_size=weights["R"].shape[2], **case.attributes
    )
    layer = load_rnn(node, weights=weights)
    states = [torch.tensor(state, dtype=torch.float32) for state in case.hx]
    hx: Any = tuple(states) if states else None
    lengths = None if case.lengths is None else torch.tensor(case.lengths)
    with torch.no_grad():
        output, last = layer(torch.tensor(case.x, dtype=torch.float32), hx, lengths=lengths)
    hidden_n, cell_n = last if case.kind == "LSTM" else (last, None)
    compared = 0
    for found, wanted in (
        (output, case.output),
        (hidden_n, case.hidden_n),
        (cell_n, case.cell_n),
    ):
        if wanted is not None:
            wanted = torch.tensor(wanted, dtype=torch.float32)
            torch.testing.assert_close(found, wanted, atol=2e-6, rtol=0)
            compared += 1
    assert compared
