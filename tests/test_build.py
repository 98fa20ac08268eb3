"""What was built: what it says of itself, the forced instruction set, the libraries it needs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import seqfast
from seqfast import _C

ROOT = Path(__file__).resolve().parents[1]
INFO = seqfast.build_info()


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter; variables given as "" are removed."""
    full = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={name: value for name, value in full.items() if value},
        capture_output=True,
        text=True,
        timeout=120,
    )


def output(code: str, **environment: str) -> str:
    result = python(code, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def needs(name: str) -> str:
    # The environment's own tools come first: cmake is installed there.
    found = shutil.which(name, path=os.path.dirname(sys.executable)) or shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def test_build_info() -> None:
    assert {name: type(value) for name, value in INFO.items()} == {
        "version": str,
        "compiler": str,
        "openmp": bool,
        "cuda": str,
        "cuda_architectures": list,
        "host_executor": bool,
        "cpu_isas_built": list,
        "cpu_isas_available": list,
        "cpu_isa": str,
    }
    assert INFO["cpu_isa"] in INFO["cpu_isas_available"]
    assert set(INFO["cpu_isas_available"]) <= set(INFO["cpu_isas_built"])
    assert "baseline" in INFO["cpu_isas_available"]
    assert INFO["compiler"]
    assert INFO["cuda"] in {"on", "off"}
    assert bool(INFO["cuda_architectures"]) == (INFO["cuda"] == "on")


def isas_of_a_build(directory: Path, value: str) -> tuple[int, str]:
    """The status of CMake, and its message or the instruction sets that it would build."""
    pybind11 = pytest.importorskip("pybind11")
    done = subprocess.run(
        [
            needs("cmake"), "-S", str(ROOT), "-B", str(directory), f"-DSEQFAST_ISAS={value}",
            "-DSEQFAST_CUDA=OFF", f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", "-DSKBUILD_PROJECT_VERSION=0",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    if done.returncode != 0:
        return done.returncode, " ".join(done.stderr.split())
    commands = (directory / "compile_commands.json").read_text(encoding="utf-8")
    return 0, " ".join(sorted(set(re.findall(r"-DSEQFAST_ISA=(\w+)", commands))))


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="x86-64 only")
def test_instruction_sets_of_a_build(tmp_path: Path) -> None:
    best = INFO["cpu_isas_available"][-1]
    assert isas_of_a_build(tmp_path / "native", "native") == (
        0,
        " ".join(sorted({"baseline", best})),
    )
    assert isas_of_a_build(tmp_path / "some", "avx512") == (0, "avx512 baseline")
    status, message = isas_of_a_build(tmp_path / "wrong", "avx9")
    assert status != 0
    assert "list of baseline, avx2, avx512, avx512bf16, got 'avx9'" in message


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="x86-64 only")
def test_every_x86_isa_is_built() -> None:
    assert INFO["cpu_isas_built"] == ["baseline", "avx2", "avx512", "avx512bf16"]


def test_build_info_is_a_copy() -> None:
    seqfast.build_info()["cpu_isas_built"].clear()
    assert seqfast.build_info() == INFO


def test_version_is_the_package_version() -> None:
    assert seqfast.__version__ == INFO["version"] == importlib.metadata.version("seqfast")


PRINT_ISA = "import seqfast; print(seqfast.build_info()['cpu_isa'])"


@pytest.mark.parametrize("isa", INFO["cpu_isas_available"])
def test_environment_forces_isa(isa: str) -> None:
    assert output(PRINT_ISA, SEQFAST_CPU_ISA=isa) == isa


def test_best_isa_is_the_default() -> None:
    assert output(PRINT_ISA, SEQFAST_CPU_ISA="") == INFO["cpu_isas_available"][-1]


UNAVAILABLE = [
    "sse9000",
    *sorted({"avx2", "avx512", "avx512bf16"} - set(INFO["cpu_isas_available"])),
]


@pytest.mark.parametrize("isa", UNAVAILABLE)
def test_environment_with_unavailable_isa(isa: str) -> None:
    result = python(PRINT_ISA, SEQFAST_CPU_ISA=isa)
    assert result.returncode == 1, f"exit status {result.returncode}: {result.stderr}"
    last_line = result.stderr.strip().splitlines()[-1]
    assert re.match(r"(ImportError|ValueError): ", last_line)
    # The message names the variable or function, what came, and what would do.
    assert isa in last_line
    assert "baseline" in last_line


def test_set_cpu_isa() -> None:
    before = _C.build_info()["cpu_isa"]
    try:
        for isa in INFO["cpu_isas_available"]:
            _C.set_cpu_isa(isa)
            assert _C.build_info()["cpu_isa"] == isa
            for wrong in (*UNAVAILABLE, ""):
                with pytest.raises(ValueError, match="baseline"):
                    _C.set_cpu_isa(wrong)
            assert _C.build_info()["cpu_isa"] == isa
    finally:
        _C.set_cpu_isa(before)


@pytest.mark.skipif(not INFO["openmp"], reason="built without OpenMP")
@pytest.mark.parametrize("threads", ["1", "3"])
def test_max_threads_follows_openmp(threads: str) -> None:
    code = "from seqfast import _C; print(_C.max_threads())"
    assert output(code, OMP_NUM_THREADS=threads) == threads


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")
def test_linked_libraries() -> None:
    dynamic = subprocess.run(
        [needs("readelf"), "-d", _C.__file__], capture_output=True, text=True, check=True
    ).stdout
    needed = set(re.findall(r"\(NEEDED\).*\[(.+?)\]", dynamic))
    assert any(name.startswith("libc.so") for name in needed)
    # No framework, no CUDA runtime, no libpython: one build serves every torch and Python build.
    prefixes = ["libtorch", "libc10", "libcuda", "libcudart", "libpython"]
    assert [name for name in needed if name.startswith(tuple(prefixes))] == []


# Both orders, and the second library is really used before anything is counted.
LOADED_OPENMP = """
import re
import {first}
import {second}
import torch
from seqfast import _C
torch.ones(1000, 1000).exp()
assert _C.max_threads() >= 1
with open("/proc/self/maps") as maps:
    print(len(set(re.findall(r"/\\S*lib[gi]?omp\\S*", maps.read()))))
"""


@pytest.mark.skipif(not INFO["openmp"], reason="built without OpenMP")
@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="reads /proc/self/maps")
@pytest.mark.parametrize(("first", "second"), [("seqfast._C", "torch"), ("torch", "seqfast._C")])
def test_one_openmp_runtime_with_torch(first: str, second: str) -> None:
    pytest.importorskip("torch")
    assert output(LOADED_OPENMP.format(first=first, second=second)) == "1"


def test_aarch64_compiles(tmp_path: Path) -> None:
    compiler = needs("aarch64-linux-gnu-g++")
    sources = sorted((ROOT / "csrc" / "cpu").rglob("*.cpp"))
    assert sources
    for source in sources:
        result = subprocess.run(
            [
                compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fopenmp",
                f"-I{ROOT / 'csrc'}", "-DSEQFAST_ISA=baseline", "-DSEQFAST_HAVE_BASELINE=1",
                "-c", str(source), "-o", str(tmp_path / "a.o"),
            ],
            capture_output=True,
            text=True,
            timeout=600,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
