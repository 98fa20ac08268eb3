"""How the CUDA backend is built: SEQFAST_CUDA's values, the stubs, and what ptxas reports."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import seqfast
from seqfast import _C
from seqfast.ops.rnn import Options
from seqfast.ops.rnn.arguments import GpuCall, RnnSizes
from seqfast.ops.rnn.cells import cell_of

ROOT = Path(__file__).resolve().parents[1]
INFO = seqfast.build_info()
# One step of one row; nothing is read from it before the stub raises.
CALL = GpuCall(device=0, stream=0, tf32=False, strategy=0, extras=False, on_host=False)
SIZES = RnnSizes(0, 1, 1, 0, 1, 0, 1, 0)
OPTIONS = cell_of("lstm", Options(), False).native

needs_cuda_build = pytest.mark.skipif(INFO["cuda"] != "on", reason="built without nvcc")


def tool(name: str) -> str:
    # The environment's own tools come first: cmake is installed there.
    found = shutil.which(name, path=os.path.dirname(sys.executable)) or shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def nvcc() -> str:
    found = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if found is None:
        pytest.skip("needs nvcc")
    return found


def script(path: Path, text: str) -> str:
    """An executable Python program."""
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)
    return str(path)


# ---- SEQFAST_CUDA -------------------------------------------------------------------------------


def configure(directory: Path, value: str, cudacxx: str | None, *options: str) -> tuple[int, str]:
    """Exit status and output of CMake, nothing compiled; `cudacxx` is the only nvcc it may find."""
    pybind11 = pytest.importorskip("pybind11")
    environment = dict(os.environ)
    for name in ("CUDACXX", "CUDAHOSTCXX", "CUDA_HOME", "CUDA_PATH"):
        environment.pop(name, None)
    if cudacxx is not None:
        environment["CUDACXX"] = cudacxx
    result = subprocess.run(
        [
            tool("cmake"), "-S", str(ROOT), "-B", str(directory), f"-DSEQFAST_CUDA={value}",
            f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            "-DSKBUILD_PROJECT_VERSION=0", *options,
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )  # fmt: skip
    # CMake wraps its messages.
    return result.returncode, " ".join((result.stdout + result.stderr).split())


def fake_nvcc(directory: Path, release: str) -> str:
    """Says its release, and fails at everything else."""
    return script(
        directory / f"nvcc-{release}",
        f"import sys\nif '--version' not in sys.argv: sys.exit('no licence')\n"
        f"print('Cuda compilation tools, release {release}, V{release}.1')",
    )


def test_unknown_value(tmp_path: Path) -> None:
    status, text = configure(tmp_path, "YES", None)
    assert status != 0
    assert "SEQFAST_CUDA must be AUTO, ON, OFF or HOST, got YES" in text


def test_on_without_nvcc(tmp_path: Path) -> None:
    status, text = configure(tmp_path, "ON", "/nowhere/nvcc")
    assert status != 0
    assert "SEQFAST_CUDA=ON needs nvcc 12.0 or newer: CUDACXX names /nowhere/nvcc" in text


def test_on_with_an_old_nvcc(tmp_path: Path) -> None:
    old = fake_nvcc(tmp_path, "11.8")
    status, text = configure(tmp_path / "build", "ON", old)
    assert status != 0
    assert f"SEQFAST_CUDA=ON needs nvcc 12.0 or newer: {old} is 11.8" in text


def test_on_with_a_broken_nvcc(tmp_path: Path) -> None:
    status, text = configure(tmp_path / "build", "ON", fake_nvcc(tmp_path, "13.0"))
    assert status != 0
    assert "is not able to compile a simple test program" in text


def test_off_looks_for_nothing(tmp_path: Path) -> None:
    status, text = configure(tmp_path, "OFF", "/nowhere/nvcc")
    assert status == 0, text
    assert "no kernels for a GPU: SEQFAST_CUDA is OFF" in text
    assert "CUDA compiler" not in text
    assert "host executor" not in text


@pytest.mark.parametrize("value", ["AUTO", "HOST"])
@pytest.mark.parametrize("state", ["none", "old", "broken"])
def test_a_plain_build_never_needs_nvcc(tmp_path: Path, value: str, state: str) -> None:
    compiler = {
        "none": "/nowhere/nvcc",
        "old": fake_nvcc(tmp_path, "11.8"),
        "broken": fake_nvcc(tmp_path, "13.0"),
    }[state]
    status, text = configure(tmp_path / "build", value, compiler)
    assert status == 0, text
    reason = {"none": "which is not there", "old": "is 11.8", "broken": "does not work with"}
    assert re.search(f"SEQFAST_CUDA={value}: no kernels for a GPU: .*{reason[state]}", text)
    assert ("the same kernels for the host executor" in text) == (value == "HOST")


@pytest.mark.parametrize("value", ["AUTO", "ON", "HOST"])
def test_nvcc_is_found_and_used(tmp_path: Path, value: str) -> None:
    known = subprocess.run([nvcc(), "--list-gpu-code"], capture_output=True, text=True).stdout
    # Wheels have machine code for the newest, too.
    for_wheels = ["-DSEQFAST_CUDA_NEWEST=ON"] if value == "ON" else []
    newest = [name for name in ("100", "120") if for_wheels and f"sm_{name}\n" in known]
    status, text = configure(tmp_path, value, None, *for_wheels)
    assert status == 0, text
    wanted = ", ".join(["80", "90", *newest])
    assert re.search(f"SEQFAST_CUDA={value}: kernels for a GPU: {wanted}, by .*nvcc", text)
    assert ("the same kernels for the host executor" in text) == (value == "HOST")


def test_architectures_can_be_chosen(tmp_path: Path) -> None:
    status, text = configure(tmp_path, "AUTO", nvcc(), "-DCMAKE_CUDA_ARCHITECTURES=90-real")
    assert status == 0, text
    assert "kernels for a GPU: 90, by" in text


def test_sanitizers_leave_nvcc_out(tmp_path: Path) -> None:
    status, text = configure(tmp_path, "HOST", nvcc(), "-DSEQFAST_SANITIZE=ON")
    assert status == 0, text
    assert "no kernels for a GPU: sanitizers do not see what runs on a GPU" in text
    assert "the same kernels for the host executor" in text


# ---- Cells --------------------------------------------------------------------------------------

CELLS = re.findall(
    r"CELL\((\w+), (\w+)\)", (ROOT / "csrc" / "core" / "cells" / "cells.h").read_text()
)


def test_only_the_dispatch_names_a_cell() -> None:
    assert len(CELLS) >= 6
    kinds, structs = zip(*CELLS, strict=True)
    name = re.compile(rf"CellKind::({'|'.join(kinds)})\b|\bcells::({'|'.join(structs)})\b")
    sources = [*(ROOT / "csrc" / "cuda").rglob("*.*"), ROOT / "cmake" / "cuda.cmake"]
    assert {path.name for path in sources if name.search(path.read_text())} == {"families.h"}


def test_every_family_has_its_files(tmp_path: Path) -> None:
    status, text = configure(tmp_path, "HOST", "/nowhere/nvcc")
    assert status == 0, text
    header = (ROOT / "csrc" / "cuda" / "rnn" / "families.h").read_text()
    listed = re.search(r"using SequenceFamilies = FamilyList<([^>]+)>;", header)
    assert listed is not None
    wanted = itertools.product(listed[1].split(", "), ("forward", "backward"))
    assert {path.name for path in (tmp_path / "cuda").iterdir()} == {
        f"persistent_{family}_{direction}.cu" for family, direction in wanted
    }


# ---- The stubs ----------------------------------------------------------------------------------

STUB_CALLER = """
#include <cstdio>
#include <stdexcept>
#include "cuda/dropout/dropout.h"
#include "cuda/rnn/rnn.h"
template <class F> void show(F call) {
    try { call(); } catch (const std::runtime_error& error) { std::puts(error.what()); }
}
int main() {
    using namespace seqfast;
    show([] { NAMESPACE::rnn_workspace_size({}, {}, {}, false); });
    show([] { NAMESPACE::rnn_strategy({}, {}, {}, true); });
    show([] { NAMESPACE::rnn_forward({}); });
    show([] { NAMESPACE::rnn_backward({}); });
    show([] { NAMESPACE::zero_padding({}, {}); });
    show([] { NAMESPACE::dropout({}, {}); });
}
"""


@pytest.mark.parametrize(
    ("namespace", "missing"), [("cuda", "CUDA"), ("cuda_host", "the host executor")]
)
def test_every_stub_names_operation_and_what_is_missing(
    tmp_path: Path, namespace: str, missing: str
) -> None:
    compiler = os.environ.get("CXX") or tool("c++")
    caller = tmp_path / "caller.cpp"
    caller.write_text(STUB_CALLER.replace("NAMESPACE", namespace))
    subprocess.run(
        [
            compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'csrc'}",
            f"-DSEQFAST_CUDA_NAMESPACE={namespace}", f'-DSEQFAST_CUDA_MISSING="{missing}"',
            str(caller), str(ROOT / "csrc" / "cuda" / "no_cuda.cpp"), "-o", str(tmp_path / "a"),
        ],
        check=True,
        timeout=120,
    )  # fmt: skip
    done = subprocess.run([tmp_path / "a"], capture_output=True, text=True, check=True, timeout=60)
    recurrent = [f"rnn_{name}" for name in ("workspace_size", "strategy", "forward", "backward")]
    assert done.stdout.splitlines() == [
        f"{name}: seqfast was built without {missing}"
        for name in [*recurrent, "zero_padding", "dropout"]
    ]


@pytest.mark.parametrize(("on_host", "missing"), [(False, "CUDA"), (True, "the host executor")])
def test_a_build_without_it_raises(on_host: bool, missing: str) -> None:
    there = INFO["host_executor"] if on_host else INFO["cuda"] == "on"
    if there:
        pytest.skip(f"built with {missing}")
    with pytest.raises(RuntimeError, match=f"rnn_strategy: seqfast was built without {missing}"):
        _C.cuda_rnn_strategy(CALL._replace(on_host=on_host), SIZES, OPTIONS, False)


@needs_cuda_build
@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")
def test_the_cuda_runtime_stays_inside() -> None:
    # Linked statically; a second copy (torch's) must not meet it by name.
    names = subprocess.run(
        [tool("nm"), "-D", "--defined-only", _C.__file__],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.split()  # fmt: skip
    assert "PyInit__C" in names
    assert [name for name in names if re.match(r"_*cu(da)?[A-Z_]", name)] == []


# ---- The register report ------------------------------------------------------------------------


def load_register_report() -> ModuleType:
    path = ROOT / "cmake" / "register_report.py"
    spec = importlib.util.spec_from_file_location("register_report", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


register_report = load_register_report()


def read_report(path: Path) -> list[dict[str, str]]:
    """One row per kernel and architecture, by the names in the table's first line."""
    header, *lines = [line for line in path.read_text().splitlines() if line[0] != "#"]
    names = header.split()
    return [dict(zip(names, line.split(maxsplit=len(names) - 1), strict=True)) for line in lines]


def local_memory(row: dict[str, str]) -> int:
    return sum(int(row[name]) for name in ("stack", "spill_stores", "spill_loads"))


@pytest.fixture(scope="module")
def report() -> list[dict[str, str]]:
    """Of the very build that is imported: it is installed beside the module."""
    return read_report(Path(_C.__file__).with_name("register_report.txt"))


@needs_cuda_build
def test_every_kernel_is_reported_for_every_architecture(report: list[dict[str, str]]) -> None:
    architectures = set(INFO["cuda_architectures"])
    built: dict[str, set[str]] = {}
    for row in report:
        built.setdefault(row["kernel"], set()).add(row["architecture"])
    assert built
    assert {name: seen for name, seen in built.items() if seen != architectures} == {}


PERSISTENT = re.compile(
    r"rnn_(\w+)_persistent_kernel<\S*?(\w+), \(.*?Strategy\)(\d), .*?(\w+)Product"
)
STEPWISE = re.compile(r"rnn_(\w+)_stepwise_kernel<\S*?(\w+), \S*?(\w+)Product")
# Two launches a step; what stands for a cell there, besides the product.
IN_PAIRS = re.compile(
    r"(projection_\w+_stepwise|second_product_\w+|layer_norm_\w+|raw_product)_kernel<.*?(\w+)Product"
)


@needs_cuda_build
def test_every_cell_direction_strategy_and_dtype_is_reported(report: list[dict[str, str]]) -> None:
    names = [row["kernel"] for row in report]
    persistent = {match.groups() for name in names if (match := PERSISTENT.search(name))}
    stepwise = {match.groups() for name in names if (match := STEPWISE.search(name))}
    in_pairs = {match.groups() for name in names if (match := IN_PAIRS.search(name))}
    directions, narrow = ("forward", "backward"), ("BFloat16", "Float16", "Float32")
    cells = ("PlainLstm", "Lstm", "Gru", "Rnn")
    assert persistent == set(itertools.product(directions, cells, "01", narrow))
    assert stepwise == set(itertools.product(directions, cells[1:], (*narrow, "Float64")))
    kinds = [
        *(f"projection_{direction}_stepwise" for direction in directions),
        *(f"second_product_{direction}" for direction in directions),
        *(f"layer_norm_{direction}" for direction in directions),
        "raw_product",
    ]
    assert in_pairs == set(itertools.product(kinds, (*narrow, "Float64")))


@needs_cuda_build
def test_persistent_kernels_keep_to_their_registers(report: list[dict[str, str]]) -> None:
    # The stepwise ones may spill: they are what takes the sizes that nothing else can.
    rows = [row for row in report if "_persistent_kernel<" in row["kernel"]]
    assert rows
    assert [row for row in rows if local_memory(row) != 0] == []


@needs_cuda_build
def test_beam_search_keeps_to_its_registers(report: list[dict[str, str]]) -> None:
    rows = [row for row in report if row["file"] == "beam_search.cu"]
    # Four types of logits, with and without edits, and what has two types or none.
    assert len(rows) == (8 + 2 + 2) * len(INFO["cuda_architectures"])
    assert [row for row in rows if local_memory(row) != 0] == []


@needs_cuda_build
def test_ctc_keeps_to_its_registers(report: list[dict[str, str]]) -> None:
    rows = [row for row in report if row["file"] in ("align.cu", "ctc.cu")]
    assert len(rows) == 2 * 2 * len(INFO["cuda_architectures"])
    assert [row for row in rows if local_memory(row) != 0] == []


@needs_cuda_build
def test_word_vectors_keep_to_their_registers(report: list[dict[str, str]]) -> None:
    rows = [row for row in report if "word2vec_" in row["kernel"]]
    # Where a row is wider than most models have, a block has too many threads for their registers.
    wide = [row for row in rows if re.search(r"word2vec_plain_kernel<.*, 1024>", row["kernel"])]
    assert len(wide) == len(INFO["cuda_architectures"])
    assert len(rows) > len(wide)
    assert [row for row in rows if row not in wide and local_memory(row) != 0] == []


PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z1fPf' for 'sm_80'
ptxas info    : Function properties for _Z1fPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, used 1 barriers, 1024 bytes smem, 360 bytes cmem[0]
ptxas info    : Compile time = 3.100 ms
ptxas warning : Value of threads per SM is out of range
ptxas info    : Compiling entry function '_Z1gPf' for 'sm_90'
ptxas info    : Function properties for _Z1gPf
    40 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers, 40 bytes cumulative stack size
"""


def test_ptxas_is_understood() -> None:
    assert register_report.parse(PTXAS) == [
        {
            "kernel": "_Z1fPf", "architecture": "80", "registers": 12,
            "stack": 0, "spill_stores": 0, "spill_loads": 0, "shared": 1024,
        },
        {
            "kernel": "_Z1gPf", "architecture": "90", "registers": 255,
            "stack": 40, "spill_stores": 8, "spill_loads": 12, "shared": 0,
        },
    ]  # fmt: skip


@pytest.mark.parametrize("missing", ["stack frame", "Used 12", "Used 255"])
def test_ptxas_is_not_guessed_at(missing: str) -> None:
    text = "".join(line for line in PTXAS.splitlines(True) if missing not in line)
    with pytest.raises(ValueError, match="ptxas gave no"):
        register_report.parse(text)


def test_the_launcher_keeps_what_ptxas_says_and_no_more(tmp_path: Path) -> None:
    compiler = script(
        tmp_path / "nvcc",
        f"import sys\nsys.stderr.write({PTXAS!r})\n"
        "sys.exit('x.cu: error' if '-bad' in sys.argv else 0)",
    )
    command = [sys.executable, str(ROOT / "cmake" / "register_report.py")]

    def compile_to(name: str, *options: str) -> subprocess.CompletedProcess[str]:
        words = [*command, "compile", compiler, "-c", f"d/{name}.cu", "-o", f"{name}.o", *options]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    for name in ("b", "a"):
        done = compile_to(name)
        assert done.returncode == 0
        # Warnings stay visible, and nothing else does.
        assert done.stderr == "ptxas warning : Value of threads per SM is out of range\n"
    failed = compile_to("c", "-bad")
    assert failed.returncode == 1
    assert "x.cu: error" in failed.stderr
    assert not (tmp_path / "c.o.registers").exists()

    subprocess.run([*command, "merge", "report.txt", "b.o", "a.o"], cwd=tmp_path, check=True)
    rows = read_report(tmp_path / "report.txt")
    assert [(row["file"], row["architecture"], local_memory(row)) for row in rows] == [
        ("a.cu", "80", 0), ("a.cu", "90", 60), ("b.cu", "80", 0), ("b.cu", "90", 60),
    ]  # fmt: skip
    assert rows[1]["kernel"] in {"g(float*)", "_Z1gPf"}
    # A piece that is not there is no reason for a shorter table.
    words = [*command, "merge", "report.txt", "a.o", "c.o"]
    assert subprocess.run(words, cwd=tmp_path, capture_output=True).returncode != 0


SPILLING = """
extern "C" __global__ void __launch_bounds__(1024, 1) spills(const float* in, float* out) {
    float x[200];
#pragma unroll
    for (int i = 0; i < 200; ++i) x[i] = in[i * 1024 + threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 200; ++i) out[i * 1024 + threadIdx.x] = x[i] * x[(i * 7 + 3) % 200];
}
"""


def test_a_spill_is_seen(tmp_path: Path) -> None:
    source = tmp_path / "spills.cu"
    source.write_text(SPILLING)
    command = [sys.executable, str(ROOT / "cmake" / "register_report.py")]
    words = [*command, "compile", nvcc(), "-arch=sm_90", "-Xptxas=-v", "-c", str(source)]
    subprocess.run([*words, "-o", "a.o"], cwd=tmp_path, check=True, timeout=120)
    subprocess.run([*command, "merge", "report.txt", "a.o"], cwd=tmp_path, check=True)
    (row,) = read_report(tmp_path / "report.txt")
    assert (row["kernel"], row["architecture"]) == ("spills", "90")
    assert int(row["spill_stores"]) > 0
    assert local_memory(row) > 0


# ---- Kernels that wait --------------------------------------------------------------------------

WAITING = """
#include "cuda/base/primitives.cuh"
using namespace seqfast::cuda;
extern "C" __global__ void waits(const U32x4* from, U32x4* to) {
    PollWatch watch;
    for (;;) {
        const U32x4 words = load_relaxed(from + threadIdx.x, blockIdx.x == 0);
        to[threadIdx.x] = words;
        if (warp_all(words.x == 1) || watch.gives_up({1, 2, 3, words.y})) break;
    }
}
"""


@pytest.mark.parametrize(
    ("define", "there", "not_there"),
    [
        ("SEQFAST_NOTHING", [], ["globaltimer", "vprintf", "nanosleep"]),
        ("SEQFAST_CUDA_WATCHDOG", ["globaltimer", "vprintf"], ["nanosleep"]),
        ("SEQFAST_CUDA_POLL_PAUSE=20", ["nanosleep.u32 \t20"], ["globaltimer"]),
    ],
)
def test_how_a_kernel_waits(
    tmp_path: Path, define: str, there: list[str], not_there: list[str]
) -> None:
    source = tmp_path / "waits.cu"
    source.write_text(WAITING)
    command = [nvcc(), "-std=c++17", "-arch=sm_90", "-ptx", f"-I{ROOT / 'csrc'}", f"-D{define}"]
    command += ["-DSEQFAST_CUDA_NAMESPACE=cuda", str(source), "-o", str(tmp_path / "waits.ptx")]
    subprocess.run(command, check=True, timeout=200)
    text = (tmp_path / "waits.ptx").read_text()
    assert "ld.relaxed.gpu.global.v2.b64" in text
    for word in there:
        assert re.sub(r"\s+", " ", word) in re.sub(r"\s+", " ", text)
    for word in not_there:
        assert word not in text


@needs_cuda_build
def test_no_kernel_has_static_shared_memory(report: list[dict[str, str]]) -> None:
    """What a launch plans is all that a block takes."""
    assert [row for row in report if int(row["shared"]) != 0] == []
