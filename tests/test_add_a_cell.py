"""A new cell: one header in core/cells, one twin, one line in each dispatch (add_a_cell.md)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
LIST = "core/cells/cells.h"

# The cell of docs/develop/add_a_cell.md: an update gate, and a candidate without an activation.
HEADER = """\
// A leaky cell, for one vector of units: h[t] = z h[t-1] + (1 - z) n.
#pragma once

#include "core/cells/cell.h"

namespace seqfast {

template <class Math>
struct LeakyCell {
    using V = typename Math::V;
    using Options = CellOptions<typename Math::Real>;
    using Inputs = StepInputs<V>;

    // Takes pre-activations of z and n, leaves activated gates; returns h[t].
    static SEQFAST_INLINE V forward(const Options&, const Inputs& at, V (&gate)[2]) {
        gate[0] = Math::sigmoid(gate[0]);
        return gate[1] + gate[0] * (at.previous_hidden - gate[1]);
    }
    // Gradients of the pre-activations; returns what goes straight to h[t-1].
    static SEQFAST_INLINE V backward(const Options&, const Inputs& at, const V (&gate)[2],
                                     V grad_hidden, V (&grad)[2]) {
        grad[0] = grad_hidden * (at.previous_hidden - gate[1]) * gate[0] * (1 - gate[0]);
        grad[1] = grad_hidden * (1 - gate[0]);
        return grad_hidden * gate[0];
    }
};

namespace cells {

struct Leaky {
    static SEQFAST_INLINE constexpr CellTraits traits() {
        CellTraits traits;
        traits.name = "leaky";
        traits.operation = "leaky";
        traits.gates = 2;
        traits.carries_hidden = true;
        return traits;
    }
    template <class Math, bool general>
    using Cell = LeakyCell<Math>;
};

}  // namespace cells

}  // namespace seqfast
"""

# Both passes of the CPU over the new cell, against loops and against differences.
PROGRAM = """\
#include <cmath>
#include <cstdio>
#include <vector>

#include "cpu/rnn/backward/walk.h"
#include "cpu/rnn/forward/walk.h"

using namespace seqfast;
using namespace seqfast::cpu::SEQFAST_ISA;

constexpr int64_t steps = 4, batch = 3, inputs = 5, units = 6, gates = 2;
std::vector<double> weight_ih(gates * units * inputs), weight_hh(gates * units * units);

double number(size_t i) { return std::sin(1.7 * double(i) + 0.3) / 2; }
RnnOptions options() {
    RnnOptions options{};
    options.cell = CellKind::leaky;
    return options;
}
constexpr RnnSizes sizes{DType::float64, steps, batch, inputs, units, 0, 1, 1};

// Weights of the outputs' sum that is differentiated: 1, 2, 3 ...
double loss(const std::vector<double>& output) {
    double sum = 0;
    for (size_t i = 0; i < output.size(); ++i) sum += double(i + 1) * output[i];
    return sum;
}

std::vector<double> by_loops(const std::vector<double>& input) {
    std::vector<double> output(steps * batch * units);
    for (int64_t t = 0; t < steps; ++t)
        for (int64_t b = 0; b < batch; ++b)
            for (int64_t u = 0; u < units; ++u) {
                const auto past = [&](int64_t k) {
                    return t ? output[((t - 1) * batch + b) * units + k] : 0.0;
                };
                double a[gates] = {};
                for (int64_t g = 0; g < gates; ++g) {
                    const int64_t row = g * units + u;
                    for (int64_t k = 0; k < inputs; ++k)
                        a[g] += weight_ih[row * inputs + k] * input[(t * batch + b) * inputs + k];
                    for (int64_t k = 0; k < units; ++k)
                        a[g] += weight_hh[row * units + k] * past(k);
                }
                const double z = 1 / (1 + std::exp(-a[0]));
                output[(t * batch + b) * units + u] = z * past(u) + (1 - z) * a[1];
            }
    return output;
}

int main() {
    for (size_t i = 0; i < weight_ih.size(); ++i) weight_ih[i] = number(i);
    for (size_t i = 0; i < weight_hh.size(); ++i) weight_hh[i] = number(i + 1000);
    std::vector<double> input(steps * batch * inputs);
    for (size_t i = 0; i < input.size(); ++i) input[i] = number(i + 2000);

    std::vector<double> output(steps * batch * units), last(batch * units);
    std::vector<double> kept(steps * batch * gates * units);
    std::vector<char> workspace(1 << 22);
    RnnForwardArgs forward{};
    forward.sizes = sizes;
    forward.options = options();
    forward.input = {input.data(), batch * inputs, inputs};
    forward.weights[0].weight_ih = weight_ih.data();
    forward.weights[0].weight_hh = weight_hh.data();
    forward.output = output.data();
    forward.hidden_n = last.data();
    forward.gates = kept.data();
    forward.workspace = workspace.data() + 64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64;
    if (!RnnForward<double, double>(forward, 1).run()) return 1;
    const std::vector<double> expected = by_loops(input);
    double worst = 0;
    for (size_t i = 0; i < output.size(); ++i)
        worst = std::fmax(worst, std::fabs(output[i] - expected[i]));

    std::vector<double> grad_output(output.size()), grad_input(input.size());
    for (size_t i = 0; i < grad_output.size(); ++i) grad_output[i] = double(i + 1);
    RnnBackwardArgs backward{};
    backward.sizes = sizes;
    backward.options = options();
    backward.grad_output = {grad_output.data(), batch * units, units};
    backward.input = forward.input;
    backward.weights[0] = forward.weights[0];
    backward.output = output.data();
    backward.gates = kept.data();
    backward.grad_input = grad_input.data();
    backward.workspace = forward.workspace;
    if (!RnnBackward<double, double>(backward, 1).run()) return 1;
    double worst_gradient = 0;
    for (size_t i = 0; i < input.size(); ++i) {
        std::vector<double> higher = input, lower = input;
        higher[i] += 1e-5;
        lower[i] -= 1e-5;
        const double slope = (loss(by_loops(higher)) - loss(by_loops(lower))) / 2e-5;
        worst_gradient = std::fmax(worst_gradient, std::fabs(grad_input[i] - slope));
    }
    std::printf("%g %g\\n", worst, worst_gradient);
    return !(worst < 1e-12 && worst_gradient < 1e-6);
}
"""


def test_a_cell_is_a_header_and_a_line(tmp_path: Path) -> None:
    compiler = next(filter(None, map(shutil.which, [os.environ.get("CXX", ""), "c++", "g++"])), "")
    if not compiler:
        pytest.skip("needs a C++ compiler")
    for room in ("core", "cpu"):
        shutil.copytree(CSRC / room, tmp_path / room)
    (tmp_path / "core" / "cells" / "leaky_cell.h").write_text(HEADER)
    registered = tmp_path / LIST
    text = registered.read_text()
    line = re.search(r"^ +CELL\(rnn, Rnn\)\n", text, re.MULTILINE)
    assert line, f"{LIST} lists its last cell otherwise"
    text = text.replace(line[0], line[0].rstrip("\n") + " CELL(leaky, Leaky)\n")
    registered.write_text(
        text.replace('#include "core/cells/lstm_cell.h"\n',
                     '#include "core/cells/leaky_cell.h"\n#include "core/cells/lstm_cell.h"\n')
    )  # fmt: skip
    (tmp_path / "leaky.cpp").write_text(PROGRAM)
    built = subprocess.run(
        [compiler, "-std=c++17", "-O1", f"-I{tmp_path}", "-DSEQFAST_ISA=baseline",
         tmp_path / "leaky.cpp", tmp_path / "cpu" / "base" / "gemm.cpp", "-o", tmp_path / "leaky"],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[-4000:]
    ran = subprocess.run([tmp_path / "leaky"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, f"errors of the output and of the input's gradient: {ran.stdout}"


def listed_cells() -> dict[str, str]:
    """Kind -> its struct, of every cell in the list."""
    return dict(re.findall(r"\bCELL\((\w+), (\w+)\)", (CSRC / LIST).read_text()))


# Where code may say which cell it means: the headers of the cells, and one dispatch for each
# backend. What is compiled for a cell by itself, or explained by it, stands in these too.
MAY_NAME_A_CELL = {
    LIST,
    "core/cells/gru_cell.h",
    "core/cells/lstm_cell.h",
    "core/cells/rnn_cell.h",
    "cuda/rnn/families.h",  # the GPU's dispatch
}


def test_no_other_file_names_a_cell() -> None:
    cells = listed_cells()
    assert {"lstm", "gru", "rnn"} <= set(cells), f"{LIST} lists {sorted(cells)}"
    # A kind by itself; the struct of a cell; equations of a header in core/cells.
    name = re.compile(
        rf"\bCellKind::\w+|\bcells::(?:{'|'.join(cells.values())})\b|\b(?:Lstm|Gru|Rnn)\w*Cell\b"
    )
    found = []
    for path in sorted(CSRC.rglob("*.*")):
        code = re.sub(r"//[^\n]*", "", path.read_text())
        if name.search(code) and path.relative_to(CSRC).as_posix() not in MAY_NAME_A_CELL:
            found.append(f"{path.relative_to(CSRC)}: {sorted(set(name.findall(code)))}")
    assert found == []


# The same in Python: of kinds that are not an operation by themselves.
MAY_NAME_A_KIND = {"ops/rnn/cells.py"}


def test_no_other_python_file_names_a_kind_of_cell() -> None:
    kinds = set(listed_cells()) - {"lstm", "gru", "rnn"}
    assert kinds, "no kind has a name of its own"
    name = re.compile(rf"[\"'](?:{'|'.join(kinds)})[\"']|\b(?:{'|'.join(kinds).upper()})\b")
    source = ROOT / "seqfast"
    found = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if "reference" not in path.parts and name.search(path.read_text())
    }
    assert found == MAY_NAME_A_KIND
