"""Installs wheels into fresh environments and tries them there, with torch and without it.

    python packaging/wheel_test.py FOLDER [--torch 2.13.0 ...]

For each Python of this machine that FOLDER has a wheel for. No environment sees a compiler, and
nothing but wheels is installed. `--torch`: versions to try, each where pip finds a build without
CUDA for that Python; what could not be tried is said.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pythons

SMOKE = Path(__file__).with_name("smoke.py").resolve()


def environment(folder: Path) -> dict[str, str]:
    """PATH has the new environment alone, and none of this checkout is seen, nor make's pins."""
    ours = ("PYTHON", "SEQFAST", "PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return kept | {"PATH": str(folder / "bin"), "CC": "/nowhere/cc", "CXX": "/nowhere/c++"}


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(folder / "bin" / "python"), *words],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def torch_without_cuda(folder: Path, version: str) -> str:
    """Why this version cannot be tried here, or ""."""
    words = ["install", "--dry-run", "--only-binary", ":all:", f"torch=={version}"]
    done = run(folder, "-m", "pip", *words)
    if done.returncode != 0:
        return "pip finds no wheel of it"
    if "nvidia" in done.stdout or "cuda" in done.stdout.replace("cpu", ""):
        return "pip finds a build with CUDA alone, of several GB"
    return ""


def tried(python: Path, wheel: Path, torch: str | None) -> str:
    """ "ok: ...", "not tried: ...", or what went wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        subprocess.run([str(python), "-m", "venv", name], check=True)
        if torch is not None and (why := torch_without_cuda(folder, torch)):
            return f"not tried: {why}"
        words = [str(wheel), *([f"torch=={torch}"] if torch is not None else [])]
        done = run(folder, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *words)
        if done.returncode != 0:
            return done.stdout
        done = run(folder, str(SMOKE), "--no-torch" if torch is None else "--torch")
        said = done.stdout.strip().splitlines() or [f"nothing said, status {done.returncode}"]
        return said[-1] if done.returncode == 0 else done.stdout


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--torch", nargs="*", default=[], help="versions, beside none")
    args = parser.parse_args(argv)
    worked = failed = 0
    for (major, minor), python in pythons.found().items():
        wheels = sorted(args.folder.resolve().glob(f"*-cp{major}{minor}-cp{major}{minor}-*linux*"))
        if not wheels:
            print(f"Python {major}.{minor}: no wheel in {args.folder}")
        for torch in (None, *args.torch) if wheels else ():
            said = tried(python, wheels[-1], torch)
            print(f"Python {major}.{minor}, torch {torch or 'not there'}: {said}", flush=True)
            worked += said.startswith("ok: ")
            failed += not said.startswith(("ok: ", "not tried: "))
    print(f"{worked} environments work, {failed} do not")
    return int(failed > 0 or worked == 0)


if __name__ == "__main__":
    sys.exit(main())
