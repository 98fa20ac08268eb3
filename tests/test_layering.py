"""Reads every #include and import and fails on an arrow that docs/architecture.md does not draw."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Room:
    """What the files of one directory may see: other rooms, headers and packages from outside."""

    rooms: frozenset[str]
    outside: frozenset[str] = frozenset()


def room(rooms: str = "", outside: str = "") -> Room:
    return Room(frozenset(rooms.split()), frozenset(outside.split()))


# The paragraph "Which way things point". A directory that is not named here fails the test.
CPP_ROOMS = {
    "core": room("core"),
    "cpu": room(
        "cpu core",
        outside="linux/futex.h omp.h pthread.h sched.h sys/mman.h sys/syscall.h time.h unistd.h",
    ),
    # Its files are compiled against the GPU or against the executor; primitives.cuh chooses.
    "cuda": room("cuda host_executor core"),
    "host_executor": room("host_executor core", outside="pthread.h sanitizer sys/mman.h unistd.h"),
    "bindings": room("bindings cpu cuda host_executor core", outside="pybind11"),
}
PYTHON_ROOMS = {
    "seqfast": room("seqfast _C ops nn onnx decoding embeddings reference", outside="numpy torch"),
    "ops": room("ops _C", outside="numpy torch"),
    "reference": room("reference", outside="numpy"),
    "nn": room("nn decoding ops", outside="numpy torch"),
    "onnx": room("onnx nn ops", outside="google numpy onnx onnx_ir onnxscript torch"),
    "embeddings": room(
        "embeddings ops",
        outside="numpy torch gensim matplotlib safetensors scipy sklearn tqdm",
    ),
    "decoding": room("decoding ops", outside="kenlm numpy torch sacrebleu transformers"),
}
# Intrinsics have one home, so that everything else compiles on any processor.
HEADERS_WITH_ONE_HOME = {
    "immintrin.h": "cpu/base/simd.h",
    "x86intrin.h": "cpu/base/simd.h",
    "arm_neon.h": "cpu/base/simd.h",
    "arm_sve.h": "cpu/base/simd.h",
    "cuda_runtime.h": "cuda/base/primitives.cuh",
    "cooperative_groups.h": "cuda/base/primitives.cuh",
}
# So has what only a GPU has: every .cu file compiles for the host executor too.
HARDWARE_HOME = "cuda/base/primitives.cuh"
HARDWARE = re.compile(
    r"<<<|\b(?:__(?:global|device|shared|constant|launch_bounds|grid_constant|managed)__"
    r"|(?:thread|block)Idx|(?:block|grid)Dim|warpSize|__syncthreads\w*|__syncwarp|__shfl\w*"
    r"|__ballot\w*|__(?:all|any)_sync|__threadfence\w*|__cvta\w*|__ldg|cooperative_groups"
    r"|cuda[A-Z]\w*|cuda_runtime\w*|nvcuda)\b"
)
# The executor's fibres are switched by hand; cpu keeps the optimiser away from what it times.
ASSEMBLY = re.compile(r"\b(?:asm|__asm__)\b")
ASSEMBLY_HOMES = (HARDWARE_HOME, "cpu/", "host_executor/fibre.cpp")
# What is no call to a GPU: how nvcc is told that a function is for both.
BOTH_SIDES = {"core/config.h"}
# Modules that work without torch, so importing them must not load it.
TORCH_FREE = [
    "seqfast",
    "seqfast._C",
    "seqfast.decoding",
    "seqfast.decoding.alignment",
    "seqfast.decoding.beam_search",
    "seqfast.decoding.ctc",
    "seqfast.decoding.exact",
    "seqfast.ops",
    "seqfast.ops.decoder",
    "seqfast.embeddings",
    "seqfast.embeddings.command_line",
    "seqfast.embeddings.formats",
    "seqfast.embeddings.glove",
    "seqfast.embeddings.word2vec",
    "seqfast.ops.corpus",
    "seqfast.ops.ctc",
    "seqfast.ops.ctc_decoder",
    "seqfast.ops.glove",
    "seqfast.ops.rnn",
    "seqfast.ops.top_k",
    "seqfast.ops.word2vec",
    "seqfast.reference",
    "seqfast.reference.decoder",
    "seqfast.reference.rnn",
]

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')
CPP_SUFFIXES = {".h", ".hpp", ".cpp", ".cc", ".cu", ".cuh"}
# A C++ standard header has neither a directory nor a suffix.
STANDARD_HEADER = re.compile(r"^[a-z_0-9]+$")


def include_violations(csrc: Path) -> list[str]:
    """Every include below csrc that its room is not allowed."""
    found = []
    csrc = csrc.resolve()
    for path in sorted(csrc.rglob("*")):
        if path.suffix not in CPP_SUFFIXES:
            continue
        name = path.relative_to(csrc).as_posix()
        here = name.split("/")[0]
        if here not in CPP_ROOMS:
            found.append(f"{name}: no rule for the directory {here}")
            continue
        text = COMMENT.sub("", path.read_text())
        for bracket, header in INCLUDE.findall(text):
            target = None
            for base in (path.parent, csrc):
                candidate = (base / header).resolve()
                if bracket == '"' and candidate.is_file() and candidate.is_relative_to(csrc):
                    target = candidate.relative_to(csrc).parts[0]
                    break
            if target is not None:
                allowed = target in CPP_ROOMS[here].rooms
            elif header in HEADERS_WITH_ONE_HOME:
                allowed = HEADERS_WITH_ONE_HOME[header] == name
            elif bracket == "<" and STANDARD_HEADER.match(header):
                allowed = True
            else:
                names = {header, header.split("/")[0]}
                allowed = not names.isdisjoint(CPP_ROOMS[here].outside)
            if not allowed:
                found.append(f"{name}: includes {header}")
    return found


def hardware_violations(csrc: Path) -> list[str]:
    """Every word below csrc that only a GPU, or only an assembler, understands."""
    found = []
    for path in sorted(csrc.rglob("*")):
        name = path.relative_to(csrc).as_posix()
        if path.suffix not in CPP_SUFFIXES or name == HARDWARE_HOME:
            continue
        code = STRING.sub('""', COMMENT.sub("", path.read_text()))
        words = set() if name.startswith(ASSEMBLY_HOMES) else set(ASSEMBLY.findall(code))
        if name not in BOTH_SIDES:
            words |= set(HARDWARE.findall(code))
        found += [f"{name}: {word}" for word in sorted(words)]
    return found


def imported_modules(tree: ast.AST, package: list[str]) -> list[str]:
    """Absolute dotted names of everything imported in a module of the given package."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = base + (node.module.split(".") if node.module else [])
            names += [".".join([*prefix, alias.name]) for alias in node.names]
    return names


def import_violations(source: Path) -> list[str]:
    """Every import below the directory seqfast that its room is not allowed."""
    found = []
    for path in sorted(source.rglob("*.py")):
        name = path.relative_to(source).as_posix()
        parts = name.split("/")
        here = parts[0] if len(parts) > 1 else "seqfast"
        if here not in PYTHON_ROOMS:
            found.append(f"{name}: no rule for the directory {here}")
            continue
        package = ["seqfast", *parts[:-1]]
        rooms = PYTHON_ROOMS[here].rooms
        for module in imported_modules(ast.parse(path.read_text()), package):
            top, *rest = module.split(".")
            if top in sys.stdlib_module_names:
                continue
            if top == "seqfast":
                # A name of the root itself (a function, the version) counts as the root.
                known = rest and (rest[0] in PYTHON_ROOMS or rest[0] == "_C")
                allowed = (rest[0] if known else "seqfast") in rooms
            else:
                allowed = top in PYTHON_ROOMS[here].outside
            if not allowed:
                found.append(f"{name}: imports {module}")
    return found


def public_functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {name for name in functions if not name.startswith("_")}


def operations(directory: Path) -> dict[str, set[str]]:
    """Operation -> its public functions: in the file of that name, or its folder's functions.py."""
    files = {path.stem: path for path in directory.glob("*.py")}
    files |= {path.parent.name: path for path in directory.glob("*/functions.py")}
    return {
        name: public_functions(path) for name, path in files.items() if not name.startswith("_")
    }


def test_includes_point_down() -> None:
    csrc = ROOT / "csrc"
    assert list(csrc.rglob("*.cpp")), f"no C++ sources below {csrc}"
    assert include_violations(csrc) == []


def test_only_primitives_know_the_hardware() -> None:
    csrc = ROOT / "csrc"
    assert (csrc / HARDWARE_HOME).is_file()
    assert list((csrc / "cuda").rglob("*.cu")), f"no CUDA sources in {csrc / 'cuda'}"
    assert hardware_violations(csrc) == []


def test_imports_point_down() -> None:
    source = ROOT / "seqfast"
    assert list(source.rglob("*.py")), f"no Python sources below {source}"
    assert import_violations(source) == []


def is_for_type_checkers(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def import_graph(source: Path) -> dict[str, set[str]]:
    """Module -> the modules below the directory that it imports, wherever in the file."""
    files = {
        ".".join(path.relative_to(source.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in source.rglob("*.py")
    }
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        graph[module] = set()
        tree = ast.parse(path.read_text())
        if path.name == "__init__.py":
            # What a package shows to type checkers alone; at run time it loads at first use.
            tree.body = [node for node in tree.body if not is_for_type_checkers(node)]
        for name in imported_modules(tree, package):
            while name and name not in files:
                name = name.rpartition(".")[0]
            if name and name != module:
                graph[module].add(name)
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The modules that import each other, if only in the end."""
    reached = {module: set(imports) for module, imports in graph.items()}
    for middle in graph:
        for imports in reached.values():
            if middle in imports:
                imports |= reached[middle]
    together = {
        frozenset(other for other in imports if module in reached[other])
        for module, imports in reached.items()
        if module in imports
    }
    return sorted(sorted(modules) for modules in together)


def test_no_two_files_import_each_other() -> None:
    graph = import_graph(ROOT / "seqfast")
    assert len(graph) > 50
    assert circles(graph) == []


def test_checker_catches_a_circle(tmp_path: Path) -> None:
    package = tmp_path / "seqfast"
    (package / "ops").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "ops" / "__init__.py").write_text("from seqfast.ops.a import f\n")
    (package / "ops" / "a.py").write_text("def f():\n    from seqfast.ops import b\n")
    (package / "ops" / "b.py").write_text("from . import c\n")
    (package / "ops" / "c.py").write_text("if TYPE_CHECKING:\n    from seqfast.ops.a import f\n")
    assert circles(import_graph(package)) == [["seqfast.ops.a", "seqfast.ops.b", "seqfast.ops.c"]]


def test_every_operation_is_a_twin() -> None:
    fast = operations(ROOT / "seqfast" / "ops")
    reference = operations(ROOT / "seqfast" / "reference")
    assert "rnn" in fast
    reference["ctc"].remove("ctc_loss")  # its fast form is torch's
    assert fast == reference


@pytest.mark.parametrize("module", TORCH_FREE)
def test_import_without_torch(module: str) -> None:
    # In its own process, where torch cannot be found at all.
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"import importlib; importlib.import_module({module!r})\n"
        "assert sys.modules['torch'] is None\n"
        "assert not any(name.startswith('torch.') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_nn_without_torch_says_what_it_needs() -> None:
    code = "import sys; sys.modules['torch'] = None\nimport seqfast\nseqfast.nn.LSTM"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "ModuleNotFoundError: seqfast.nn needs torch: pip install seqfast[torch]\n"
    )


# What the checker must catch: file, its text, and the arrow it should report (None: allowed).
PLANTED_INCLUDES = [
    ("core/a.h", '#include "cpu/x.h"', "includes cpu/x.h"),
    ("core/a.h", '#include "../cpu/x.h"', "includes ../cpu/x.h"),
    ("core/a.h", "#include <omp.h>", "includes omp.h"),
    ("core/cells/a.h", '#include "cuda/x.cuh"', "includes cuda/x.cuh"),
    ("cpu/a.cpp", '#include "cuda/x.cuh"', "includes cuda/x.cuh"),
    ("cpu/a.cpp", '#include "bindings/x.h"', "includes bindings/x.h"),
    ("cpu/a.cpp", "#include <immintrin.h>", "includes immintrin.h"),
    ("cpu/a.cpp", "#include <pybind11/pybind11.h>", "includes pybind11/pybind11.h"),
    ("cpu/a.cpp", "#include <sys/socket.h>", "includes sys/socket.h"),
    ("cpu/a.cpp", "#include <torch/extension.h>", "includes torch/extension.h"),
    ("cuda/a.cu", '  #  include "cpu/x.h"', "includes cpu/x.h"),
    ("cuda/a.cu", "#include <arm_neon.h>", "includes arm_neon.h"),
    ("cuda/a.cu", "#include <cuda_runtime.h>", "includes cuda_runtime.h"),
    ("cuda/a.cuh", "#include <cooperative_groups.h>", "includes cooperative_groups.h"),
    ("cuda/a.cu", "#include <cuda_fp16.h>", "includes cuda_fp16.h"),
    ("host_executor/a.h", '#include "cuda/x.cuh"', "includes cuda/x.cuh"),
    ("host_executor/a.h", '#include "cpu/x.h"', "includes cpu/x.h"),
    ("host_executor/a.h", "#include <cuda_runtime.h>", "includes cuda_runtime.h"),
    ("cpu/a.cpp", '#include "host_executor/x.h"', "includes host_executor/x.h"),
    ("core/a.h", '#include "host_executor/x.h"', "includes host_executor/x.h"),
    ("bindings/a.cpp", "#include <ATen/ATen.h>", "includes ATen/ATen.h"),
    ("bindings/a.cpp", '#include "c10/util/Half.h"', "includes c10/util/Half.h"),
    ("attic/a.h", "", "no rule for the directory attic"),
    ("core/a.h", '#include "core/x.h"\n#include <cmath>', None),
    ("core/a.h", '// #include "cpu/x.h"\n/*\n#include <omp.h>\n*/', None),
    ("cpu/base/simd.h", "#include <immintrin.h>", None),
    ("cpu/a.cpp", '#include "x.h"\n#include "core/x.h"\n#include <omp.h>', None),
    ("bindings/a.cpp", "#include <pybind11/stl.h>", None),
    (
        "cuda/base/primitives.cuh",
        "#include <cuda_runtime.h>\n#include <cooperative_groups.h>",
        None,
    ),
    ("cuda/base/primitives.cuh", '#include "host_executor/x.h"', None),
    ("cuda/a.cu", '#include "x.cuh"\n#include "core/x.h"', None),
    ("host_executor/a.cpp", '#include "x.h"\n#include "core/x.h"\n#include <vector>', None),
    ("bindings/a.cpp", '#include "host_executor/x.h"', None),
]


@pytest.mark.parametrize(("name", "text", "expected"), PLANTED_INCLUDES)
def test_checker_catches_includes(
    tmp_path: Path, name: str, text: str, expected: str | None
) -> None:
    headers = ["core/x.h", "cpu/x.h", "cuda/x.cuh", "host_executor/x.h", "bindings/x.h"]
    for header in [*headers, name]:
        path = tmp_path / header
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n" if header == name else "")
    assert include_violations(tmp_path) == ([f"{name}: {expected}"] if expected else [])


PLANTED_HARDWARE = [
    ("cuda/a.cu", "__global__ void f() {}", "__global__"),
    ("cuda/a.cu", "f<<<1, 2>>>();", "<<<"),
    ("cuda/a.cuh", "int f() { return threadIdx.x; }", "threadIdx"),
    ("cuda/a.cu", "void f() { __syncthreads(); }", "__syncthreads"),
    ("cuda/a.cu", "void f() { cudaDeviceSynchronize(); }", "cudaDeviceSynchronize"),
    ("cuda/a.cu", 'void f() { asm volatile("bar.sync 0;"); }', "asm"),
    ("bindings/a.cpp", "void f() { cudaGetLastError(); }", "cudaGetLastError"),
    ("cpu/a.cpp", "__device__ int f();", "__device__"),
    ("core/a.h", 'void f() { __asm__("nop"); }', "__asm__"),
    ("host_executor/a.cpp", 'void f() { asm("nop"); }', "asm"),
    ("cuda/base/primitives.cuh", '__global__ void f() { asm(""); cudaMalloc(); }', None),
    ("host_executor/fibre.cpp", 'void f() { asm("nop"); }', None),
    ("core/config.h", "#define BOTH __host__ __device__", None),
    ("cuda/a.cu", '// __global__ <<<\nconst char* f = "cudaMalloc: threadIdx";', None),
    ("cuda/a.cu", "int cuda_lstm = lstm(cuda::strategy), asmodeus = thread_index();", None),
]


@pytest.mark.parametrize(("name", "text", "expected"), PLANTED_HARDWARE)
def test_checker_catches_hardware(
    tmp_path: Path, name: str, text: str, expected: str | None
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(text + "\n")
    assert hardware_violations(tmp_path) == ([f"{name}: {expected}"] if expected else [])


PLANTED_IMPORTS = [
    ("reference/rnn.py", "import torch", "imports torch"),
    ("reference/rnn.py", "from seqfast.ops import rnn", "imports seqfast.ops.rnn"),
    ("reference/rnn.py", "from ..ops.rnn import f", "imports seqfast.ops.rnn.f"),
    ("reference/rnn.py", "from .. import _C", "imports seqfast._C"),
    ("reference/rnn.py", "def f():\n    import scipy.special", "imports scipy.special"),
    ("ops/rnn.py", "from seqfast import nn", "imports seqfast.nn"),
    ("ops/rnn.py", "from seqfast import reference", "imports seqfast.reference"),
    ("ops/rnn.py", "from seqfast import build_info", "imports seqfast.build_info"),
    ("ops/rnn.py", "import seqfast", "imports seqfast"),
    ("nn/rnn.py", "import seqfast._C", "imports seqfast._C"),
    ("nn/rnn.py", "from .. import _C", "imports seqfast._C"),
    ("decoding/beam.py", "from ..nn import rnn", "imports seqfast.nn.rnn"),
    ("nn/rnn.py", "import onnx", "imports onnx"),
    ("nn/rnn.py", "from seqfast.onnx import export", "imports seqfast.onnx.export"),
    ("attic/a.py", "", "no rule for the directory attic"),
    ("reference/rnn.py", "import numpy as np\nimport math\nfrom . import cells", None),
    ("ops/rnn.py", "from seqfast import _C\nfrom . import torch_rnn\nimport numpy", None),
    ("nn/rnn.py", "from ..ops.rnn import f\nimport torch", None),
    ("nn/rnn.py", "from ..decoding import beam", None),
    ("__init__.py", "from . import _C", None),
]


@pytest.mark.parametrize(("name", "text", "expected"), PLANTED_IMPORTS)
def test_checker_catches_imports(
    tmp_path: Path, name: str, text: str, expected: str | None
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    assert import_violations(tmp_path) == ([f"{name}: {expected}"] if expected else [])


def test_checker_catches_a_missing_twin(tmp_path: Path) -> None:
    (tmp_path / "rnn").mkdir()
    (tmp_path / "rnn" / "functions.py").write_text("def lstm(): ...\ndef _check(): ...\n")
    (tmp_path / "rnn" / "torch.py").write_text("def register(): ...\n")
    (tmp_path / "ctc.py").write_text("def greedy(): ...\n")
    (tmp_path / "_beams.py").write_text("def start(): ...\n")
    assert operations(tmp_path) == {"rnn": {"lstm"}, "ctc": {"greedy"}}
