"""How wheels are made for an older Linux: which symbols they are linked with, which Pythons."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(name: str, kind: str = "FUNC", where: str = "12") -> str:
    return f"    47: 0000000000001234    21 {kind}    GLOBAL DEFAULT   {where} {name}"


@pytest.mark.parametrize(
    ("newest", "version"), [("2.28", "GLIBC_2.2.5"), ("2.29", "GLIBC_2.29"), ("2.40", "GLIBC_2.34")]
)
def test_the_newest_version_that_is_allowed(newest: str, version: str) -> None:
    stubs = load("cmake/glibc_stubs.py")
    versions = ("@@GLIBC_2.34", "@GLIBC_2.29", "@GLIBC_2.2.5")
    found = stubs.chosen("\n".join(row(f"exp{v}") for v in versions), newest)
    assert found == {"exp": (version, "function", "21")}


def test_what_came_later_is_not_there() -> None:
    stubs = load("cmake/glibc_stubs.py")
    table = [
        row("arc4random@@GLIBC_2.36"),
        row("environ@@GLIBC_2.2.5", "OBJECT"),
        row("secret@@GLIBC_PRIVATE"),
        row("errno@@GLIBC_2.2.5", "TLS"),
        row("PyInit@@GLIBC_2.2.5", where="UND"),
    ]
    assert stubs.chosen("\n".join(table), "2.28") == {"environ": ("GLIBC_2.2.5", "object", "21")}


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")
def test_a_module_that_needs_an_old_glibc_alone(tmp_path: Path) -> None:
    for name in ("g++", "readelf", "objdump"):
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}")
    stubs, repair = load("cmake/glibc_stubs.py"), load("packaging/repair_wheel.py")
    stubs.main("2.28", "g++", str(tmp_path / "stubs"))
    code = "#include <cmath>\n#include <pthread.h>\n#include <stdlib.h>\n#include <threads.h>\n"
    code += 'extern "C" double f(double x) { static pthread_once_t o; pthread_once(&o, abort);\n'
    (tmp_path / "old.cpp").write_text(code + "return std::exp(x) * std::pow(x, x); }\n")
    (tmp_path / "new.cpp").write_text(code + "return arc4random(); }\n")
    for name, folders in (("old", ["stubs"]), ("new", ["stubs"]), ("plain", [])):
        source = tmp_path / ("old.cpp" if name == "plain" else f"{name}.cpp")
        command = ["g++", "-shared", "-fPIC", "-O1", str(source), "-o", str(tmp_path / name)]
        subprocess.run([*command, *(f"-L{tmp_path / folder}" for folder in folders)], check=True)
    assert repair.newest_glibc(tmp_path / "old") <= (2, 28)
    assert repair.unanswered(tmp_path / "old") == []
    assert repair.unanswered(tmp_path / "new") in ([], ["arc4random"])  # [] where glibc has none
    # What the stubs are for: without them the module asks for this machine's glibc.
    assert repair.newest_glibc(tmp_path / "plain") >= repair.newest_glibc(tmp_path / "old")


@pytest.mark.skipif(sys.platform != "linux", reason="wheels for Linux")
def test_tools_beside_this_python_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`make wheel` calls the environment's Python without the environment being active."""
    tool = tmp_path / "patchelf_of_the_test"
    tool.write_text("#!/bin/sh\necho here\n")
    tool.chmod(0o755)
    with pytest.raises(SystemExit, match="needs patchelf_of_the_test, which is not there"):
        load("packaging/repair_wheel.py").output(tool.name)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert load("packaging/repair_wheel.py").output(tool.name) == "here\n"


def test_this_python_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pythons = load("packaging/pythons.py")
    for name in ("python3.10", "python3.14"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")  # as pyenv's shims do
        (tmp_path / name).chmod(0o755)
    version = sys.version_info[:2]
    name = f"python{version[0]}.{version[1]}"
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for variable in ("PYENV_ROOT", "UV_PYTHON_INSTALL_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "nowhere"))
    found = pythons.found()
    assert found[version] == tmp_path / name
    assert tmp_path / "python3.14" not in found.values() or version == (3, 14)


def test_a_new_environment_has_nothing_of_this_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "packaging"))
    monkeypatch.setenv("PIP_CONSTRAINT", "constraints.txt")  # as make sets it, for its own folder
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    seen = load("packaging/wheel_test.py").environment(tmp_path)
    assert not {"PIP_CONSTRAINT", "PYTHONPATH"} & set(seen)
    assert seen["PATH"] == str(tmp_path / "bin")


def test_the_smoke_test_of_wheels_passes_here() -> None:
    command = [sys.executable, str(ROOT / "packaging" / "smoke.py"), "--no-children"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("ok: ")
