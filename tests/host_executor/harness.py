"""Builds the kernels of this directory with the host executor, and calls them through ctypes."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
EXECUTOR = sorted((CSRC / "host_executor").glob("*.cpp"))
KERNELS = [HERE / "planted_bugs.cu", HERE / "primitive_cases.cu"]
# Schedules in which every planted bug must show, and no correct kernel may fail.
SEEDS = 20


def compiler() -> list[str]:
    """The C++ compiler as words of a command line."""
    words = shlex.split(os.environ.get("CXX", ""))
    for name in (words[0] if words else "g++", "g++", "clang++", "c++"):
        found = shutil.which(name)
        if found is not None:
            return [found, *(words[1:] if name == (words or [""])[0] else [])]
    pytest.skip("needs a C++ compiler")


# Whoever preloads a sanitizer means the tests, not their compilers.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=280, env=ENVIRONMENT)


def build(output: str, sources: Sequence[Path], *flags: str) -> Path:
    """Compiles and links; kept in the temporary directory for as long as nothing changes."""
    words = compiler()
    common = ["-std=c++17", "-g", "-Wall", "-Wextra", "-pthread", "-fPIC"]
    common += [f"-I{CSRC}", f"-I{HERE}", "-fvisibility=hidden", *flags]
    common += ["-DSEQFAST_HOST_EXECUTOR", "-DSEQFAST_CUDA_NAMESPACE=cuda_host"]
    key = hashlib.sha256(repr((words, common, run([*words, "--version"]).stdout)).encode())
    read = [
        *HERE.glob("*.[ch]*"),
        *(CSRC / "host_executor").iterdir(),
        CSRC / "cuda/base/primitives.cuh",
    ]
    for path in sorted(read):
        key.update(path.name.encode() + path.read_bytes())
    user = os.getuid()
    directory = Path(tempfile.gettempdir()) / f"seqfast-host-executor-{user}-{key.hexdigest()[:16]}"
    if (directory / output).exists():
        return directory / output
    directory.mkdir(mode=0o700, exist_ok=True)
    # One process builds, the others wait for it; what is there is whole, however a build ended.
    with (
        open(directory / "lock", "w") as lock,
        tempfile.TemporaryDirectory(dir=directory) as scratch,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (directory / output).exists():
            return directory / output
        objects = [f"{scratch}/{path.name}.o" for path in sources]
        compilers = [
            subprocess.Popen(
                [*words, *common, "-x", "c++", "-c", str(path), "-o", target],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=ENVIRONMENT,
            )
            for path, target in zip(sources, objects, strict=True)
        ]
        for process in compilers:
            text, _ = process.communicate(timeout=280)
            assert process.returncode == 0, text
        shared = ["-shared"] if output.endswith(".so") else []
        linked = run([*words, *common, *shared, *objects, "-o", f"{scratch}/{output}"])
        assert linked.returncode == 0, linked.stderr
        os.replace(f"{scratch}/{output}", directory / output)
    return directory / output


class Library:
    """Planted bugs and cases by name; errors of a launch come as RuntimeError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        for name in ("planted_bug_names", "run_planted_bug", "run_primitive_case", "set_device"):
            getattr(self._library, name).restype = ctypes.c_char_p
        self._library.set_seed.argtypes = [ctypes.c_uint64]
        self._library.set_device.argtypes = [
            ctypes.c_int,
            ctypes.c_int64,
            ctypes.c_int,
            ctypes.c_int,
        ]

    def bug_names(self) -> list[str]:
        return self._library.planted_bug_names().decode().split()

    def bug(self, name: str, correct: bool) -> int:
        """How many of its results are wrong."""
        wrong = ctypes.c_int64(-1)
        self._check(
            self._library.run_planted_bug(
                name.encode(), ctypes.c_bool(correct), ctypes.byref(wrong)
            )
        )
        return wrong.value

    def case(self, name: str, *arguments: np.ndarray | int) -> None:
        """Arrays and numbers as the case wants them."""
        arrays = [x for x in arguments if isinstance(x, np.ndarray)]
        assert all(x.flags.c_contiguous for x in arrays)
        addresses = (ctypes.c_void_p * max(len(arrays), 1))(*[x.ctypes.data for x in arrays])
        numbers = [int(x) for x in arguments if not isinstance(x, np.ndarray)]
        self._check(
            self._library.run_primitive_case(
                name.encode(), addresses, (ctypes.c_int64 * max(len(numbers), 1))(*numbers)
            )
        )

    def set_seed(self, seed: int) -> None:
        self._library.set_seed(seed)

    def set_modes(self, weak_memory: bool = False, cut_off_sums: bool = False) -> None:
        self._library.set_modes(ctypes.c_bool(weak_memory), ctypes.c_bool(cut_off_sums))

    def set_device(
        self,
        multiprocessors: int = 132,
        shared_bytes: int = 232448,
        architecture: int = 90,
        max_cluster: int = 16,
    ) -> None:
        self._check(
            self._library.set_device(multiprocessors, shared_bytes, architecture, max_cluster)
        )

    def statistics(self, kernel: str = "", reset: bool = False) -> dict[str, int]:
        counts = (ctypes.c_int64 * 5)()
        self._library.statistics(ctypes.c_bool(reset), kernel.encode(), counts)
        names = ("launches", "blocks", "threads", "switches", "of_kernel")
        return dict(zip(names, counts, strict=True))

    @staticmethod
    def _check(error: bytes | None) -> None:
        if error is not None:
            raise RuntimeError(error.decode())


@functools.cache
def load() -> Library:
    return Library(build("library.so", [*KERNELS, HERE / "library.cpp", *EXECUTOR], "-O1"))


def line_of(source: str, text: str) -> int:
    """The only line of a file of this directory that has this text."""
    lines = (HERE / source).read_text().splitlines()
    (number,) = [i for i, line in enumerate(lines, 1) if text in line]
    return number
