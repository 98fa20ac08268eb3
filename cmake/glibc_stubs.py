"""Makes libraries to link with in place of this machine's glibc, so that an older one will do.

    glibc_stubs.py VERSION COMPILER FOLDER      as in: glibc_stubs.py 2.28 g++ build/glibc

A symbol of glibc has a version for each change of its meaning, and a linker takes the newest. The
stubs have the names of libc and libm, and of each symbol the newest version that is not newer than
VERSION; what came later is not there. Standard library and binutils only.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LIBRARIES = ("libc.so.6", "libm.so.6")
LOADERS = ("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1")
SYMBOL = re.compile(
    r"^\s*\d+: [0-9a-f]+ +(\d+) (FUNC|IFUNC|OBJECT) +(?:GLOBAL|WEAK) +DEFAULT +\d+ "
    r"(\w+)@@?(GLIBC_[0-9.]+)$",
    re.MULTILINE,
)


def numbers(version: str) -> tuple[int, ...]:
    """`GLIBC_2.2.5` or `2.2.5` as (2, 2, 5)."""
    return tuple(int(part) for part in version.removeprefix("GLIBC_").split("."))


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def chosen(table: str, newest: str) -> dict[str, tuple[str, str, str]]:
    """Of readelf's table: name -> version, kind, size, of the newest version that is allowed."""
    found: dict[str, tuple[str, str, str]] = {}
    for size, kind, name, version in SYMBOL.findall(table):
        if numbers(version) > numbers(newest):
            continue
        if name not in found or numbers(version) > numbers(found[name][0]):
            found[name] = version, "object" if kind == "OBJECT" else "function", size
    return found


def assembly(symbols: dict[str, tuple[str, str, str]]) -> str:
    lines = []
    for number, (name, (version, kind, size)) in enumerate(sorted(symbols.items())):
        stub = f"stub_{number}"
        # AArch64's assembler takes % where @ begins a comment elsewhere.
        lines += [
            ".data" if kind == "object" else ".text",
            f".globl {stub}",
            f".type {stub}, %{kind}",
            f"{stub}: .zero {max(int(size), 1) if kind == 'object' else 1}",
            f".size {stub}, {size}",
            f".symver {stub}, {name}@@{version}, remove",
        ]
    return "\n".join(lines) + '\n.section .note.GNU-stack,"",%progbits\n'


def version_script(symbols: dict[str, tuple[str, str, str]]) -> str:
    versions = sorted({version for version, _, _ in symbols.values()}, key=numbers)
    return "".join(f"{version} {{ }};\n" for version in versions)


def make_stub(library: str, newest: str, compiler: str, folder: Path) -> bool:
    """Whether the compiler knows such a library."""
    path = Path(output(compiler, f"-print-file-name={library}"))
    if not path.is_absolute():
        return False
    symbols = chosen(output("readelf", "--dyn-syms", "--wide", str(path)), newest)
    if not symbols:
        raise SystemExit(f"glibc_stubs: {path} has nothing as old as GLIBC_{newest}")
    source, script = folder / f"{library}.s", folder / f"{library}.map"
    source.write_text(assembly(symbols), encoding="utf-8")
    script.write_text(version_script(symbols), encoding="utf-8")
    output(
        compiler, "-shared", "-nostdlib", f"-Wl,-soname,{library}",
        f"-Wl,--version-script={script}", str(source), "-o", str(folder / library),
    )  # fmt: skip
    return True


def main(newest: str, compiler: str, target: str) -> None:
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    for library in LIBRARIES:
        if not make_stub(library, newest, compiler, folder):
            raise SystemExit(f"glibc_stubs: {compiler} knows no {library}")
    # Thread-local variables are the loader's.
    loaders = [folder / name for name in LOADERS if make_stub(name, newest, compiler, folder)]
    (folder / "libm.so").unlink(missing_ok=True)
    (folder / "libm.so").symlink_to("libm.so.6")
    # What glibc links into everything itself, such as atexit, has no version.
    rest = output(compiler, "-print-file-name=libc_nonshared.a")
    needed = " ".join(map(str, loaders))
    group = f"GROUP ( {folder / 'libc.so.6'} {rest} AS_NEEDED ( {needed} ) )\n"
    (folder / "libc.so").write_text(f"/* GNU ld script */\n{group}", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
