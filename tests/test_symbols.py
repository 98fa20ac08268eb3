"""Looks into the objects of each instruction set for code that the linker could mix up."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ISA_CMAKE = ROOT / "cmake" / "isa.cmake"
X86 = platform.machine() in {"x86_64", "AMD64"}

# nm's letters for a definition that the linker merges with others of its name.
MERGED = {"W", "V", "u"}
# A pointer to the unwinder's entry: data, the same for every instruction set.
HARMLESS = {"DW.ref.__gxx_personality_v0"}


def tool(*names: str) -> str:
    for name in names:
        found = shutil.which(name) if name else None
        if found:
            return found
    pytest.skip(f"needs {' or '.join(filter(None, names))}")


def run(*command: object) -> str:
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def isa_flags() -> dict[str, list[str]]:
    """Instruction set -> its compiler flags, as cmake/isa.cmake names them."""
    text = re.sub(r"#[^\n]*", "", ISA_CMAKE.read_text())
    calls = re.findall(r"^\s*seqfast_add_isa\((\w+)([^)]*)\)", text, re.MULTILINE)
    return {name: flags.split() for name, flags in calls if X86 or name == "baseline"}


def isa_sources() -> list[Path]:
    match = re.search(r"set\(seqfast_isa_sources\s+([^)]*)\)", ISA_CMAKE.read_text())
    assert match, f"{ISA_CMAKE} names no sources"
    return [ROOT / name for name in match[1].split()]


def built_objects(isa: str) -> list[Path]:
    """Objects of the newest build for which ninja has nothing left to do."""
    # The environment's own tools come first: ninja is installed there.
    ninja = shutil.which("ninja", path=os.path.dirname(sys.executable)) or shutil.which("ninja")
    builds = {path.parent: path.stat().st_mtime for path in ROOT.glob("build/*/.ninja_log")}
    for build in sorted(builds, key=lambda path: -builds[path]) if ninja else ():
        target = f"seqfast_cpu_{isa}"
        dry = subprocess.run(
            [ninja, "-C", str(build), "-n", target], capture_output=True, text=True
        )
        objects = sorted((build / "CMakeFiles" / f"{target}.dir").rglob("*.o"))
        if "no work to do" in dry.stdout and len(objects) == len(isa_sources()):
            return objects
    return []


def compiled_objects(isa: str, directory: Path) -> list[Path]:
    compiler = tool(os.environ.get("CXX", ""), "c++", "g++")

    def compiled(source: Path) -> Path:
        target = directory / f"{isa}_{source.stem}.o"
        run(
            compiler, "-std=c++17", "-O2", "-fPIC", "-fopenmp", "-fvisibility=hidden",
            "-fvisibility-inlines-hidden", f"-I{ROOT / 'csrc'}", f"-DSEQFAST_ISA={isa}",
            *isa_flags()[isa], "-c", source, "-o", target,
        )  # fmt: skip
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compiled, isa_sources()))


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Instruction set -> its object files."""
    directory = tmp_path_factory.mktemp("objects")
    return {isa: built_objects(isa) or compiled_objects(isa, directory) for isa in isa_flags()}


def merged_symbols(path: Path) -> set[str]:
    """Demangled names of what the linker would merge with the same name in another object."""
    names = set()
    for line in run(tool("nm"), "-C", path).splitlines():
        match = re.match(r"^[0-9a-fA-F]*\s+(\w) (.+)$", line)
        if match and match[1] in MERGED and match[2] not in HARMLESS:
            names.add(match[2])
    return names


def strays(path: Path, isa: str) -> list[str]:
    """Merged symbols whose name does not hold the namespace of the instruction set."""
    return sorted(n for n in merged_symbols(path) if f"seqfast::cpu::{isa}::" not in n)


def registers(path: Path) -> set[str]:
    """Which widths of vector register the machine code names: xmm, ymm, zmm."""
    return set(re.findall(r"%([xyz]mm)\d", run(tool("objdump"), "-d", path)))


def test_merged_symbols_stay_in_their_namespace(objects: dict[str, list[Path]]) -> None:
    found = {path.name: strays(path, isa) for isa, paths in objects.items() for path in paths}
    assert {name: symbols for name, symbols in found.items() if symbols} == {}


def test_objects_define_something_in_their_namespace(objects: dict[str, list[Path]]) -> None:
    for isa, paths in objects.items():
        for path in paths:
            assert f"seqfast::cpu::{isa}::" in run(tool("nm"), "-C", path), path


@pytest.mark.skipif(not X86, reason="register names of x86-64")
def test_vector_registers(objects: dict[str, list[Path]]) -> None:
    every = {"xmm", "ymm", "zmm"}
    widest = {"baseline": {"xmm"}, "avx2": {"xmm", "ymm"}, "avx512": every, "avx512bf16": every}
    for isa, paths in objects.items():
        used = set().union(*(registers(path) for path in paths))
        assert used <= widest[isa], f"{isa} code uses {used}"
        # The wide registers are what the extra objects are for.
        assert {"avx2": "ymm", "avx512": "zmm", "avx512bf16": "zmm"}.get(isa, "xmm") in used


@pytest.mark.parametrize(
    ("text", "stray"),
    [
        ("inline int f(int x) { return x; } int g(int x) { return f(x); }", "seqfast::f(int)"),
        (
            "template <class T> struct Cell { static int f(int x) { return x; } };\n"
            "namespace cpu { namespace avx2 { struct Math; int g(int x)"
            " { return Cell<Math>::f(x); } } }",
            None,
        ),
        (
            "namespace cpu { namespace avx2 { inline int f(int x) { return x; }\n"
            "int g(int x) { return f(x); } } }",
            None,
        ),
    ],
)
def test_checker_catches_a_stray(tmp_path: Path, text: str, stray: str | None) -> None:
    compiler = tool(os.environ.get("CXX", ""), "c++", "g++")
    source, target = tmp_path / "a.cpp", tmp_path / "a.o"
    source.write_text(f"namespace seqfast {{ {text} }}\n")
    run(compiler, "-std=c++17", "-O0", "-c", source, "-o", target)
    assert merged_symbols(target), "the planted symbol was not compiled"
    assert strays(target, "avx2") == ([stray] if stray else [])
