"""Prints the Pythons of this machine that seqfast supports, one of each version, the oldest first.

Looked for in PATH, and where pyenv and uv keep theirs.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

OLDEST, NEWEST = (3, 10), (3, 14)
ASK = "import sys, sysconfig; print(*sys.version_info[:2], sys.implementation.name, "
ASK += "int(bool(sysconfig.get_config_var('Py_GIL_DISABLED'))))"


def candidates() -> list[Path]:
    names = [f"python3.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python")
    folders += [*sorted(pyenv.glob("*/bin")), *sorted(uv.glob("*/bin"))]
    return [folder / name for name in names for folder in folders]


def version_of(python: Path) -> tuple[int, int] | None:
    """Of a CPython that runs and has a GIL; pyenv's shims run only where a version was chosen."""
    if not python.is_file():
        return None
    done = subprocess.run([str(python), "-c", ASK], capture_output=True, text=True)
    words = done.stdout.split()
    if done.returncode != 0 or words[2:] != ["cpython", "0"]:
        return None
    return int(words[0]), int(words[1])


def found() -> dict[tuple[int, int], Path]:
    pythons: dict[tuple[int, int], Path] = {}
    for python in candidates():
        version = version_of(python)
        if version is not None and OLDEST <= version <= NEWEST:
            pythons.setdefault(version, python)
    return dict(sorted(pythons.items()))


if __name__ == "__main__":
    print(*found().values(), sep="\n")
