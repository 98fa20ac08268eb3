"""Reads the machine code of CUDA kernels: instructions, loops that poll, what stands between."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FUNCTION = re.compile(r"^\s+Function : (\S+)")
INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:(@\S+)\s+)?([A-Z][A-Z0-9_.]*)\s*([^;]*);")
TARGET = re.compile(r"0x([0-9a-f]+)\s*$")
REGISTER = re.compile(r"\bR(\d+)")
# Loads from global memory, from shared memory, and from either.
LOADS = ("LD", "LDG", "LDS", "LDSM", "LDL")


def tool(name: str) -> str | None:
    """cuobjdump or nvdisasm, out of NVIDIA's packages or out of a toolkit."""
    found = importlib.util.find_spec("nvidia")
    for folder in found.submodule_search_locations or () if found else ():
        for path in sorted(Path(folder).glob(f"cu*/bin/{name}")):
            if os.access(path, os.X_OK):
                return str(path)
    return shutil.which(name)


@dataclass(frozen=True)
class Instruction:
    address: int
    predicate: str
    opcode: str
    operands: str

    @property
    def kind(self) -> str:
        return self.opcode.partition(".")[0]

    @property
    def is_load(self) -> bool:
        return self.kind in LOADS

    @property
    def is_move(self) -> bool:
        """From one register to another."""
        return self.opcode in ("MOV", "IMAD.MOV.U32") and len(self.registers) == 2

    @property
    def registers(self) -> list[int]:
        return [int(number) for number in REGISTER.findall(self.operands)]

    @cached_property
    def reads(self) -> set[int]:
        """Registers it reads, wider operands by their first one; predicates and stores included."""
        skipped = 0 if self.kind.startswith(("ST", "RED", "ATOM")) else 1
        first = self.operands.split(",")[0]
        if not REGISTER.match(first.strip()):
            skipped = 0
        return set(self.registers[skipped:])


@dataclass(frozen=True)
class Kernel:
    """One function of a cubin, by its mangled name."""

    name: str
    code: tuple[Instruction, ...]

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(instruction.kind for instruction in self.code)

    @cached_property
    def polls(self) -> list[tuple[Instruction, ...]]:
        """Bodies of loops that go round until a whole warp has what it waits for."""
        place = {instruction.address: i for i, instruction in enumerate(self.code)}
        found = []
        for i, instruction in enumerate(self.code):
            target = TARGET.search(instruction.operands)
            if instruction.kind != "BRA" or not instruction.predicate or target is None:
                continue
            start = place.get(int(target[1], 16), i)
            voted = any(before.opcode.startswith("VOTE") for before in self.code[max(0, i - 3) : i])
            if start < i and voted and not any(x.opcode == "BRA" for x in self.code[start:i]):
                found.append(self.code[start : i + 1])
        return found

    @cached_property
    def moved_weights(self) -> int:
        """Registers of the first factor of a product that a move has just put there."""
        count = 0
        for i, product in enumerate(self.code):
            if product.kind != "HMMA":
                continue
            first = product.registers[1]
            missing = set(range(first, first + 4))
            for before in reversed(self.code[max(0, i - 40) : i]):
                if before.opcode == "BRA" or not missing:
                    break
                if before.is_move and before.registers[0] in missing:
                    count += 1
                if before.registers and not before.kind.startswith("ST"):
                    missing.discard(before.registers[0])
        return count


def in_flight(body: tuple[Instruction, ...]) -> int:
    """Loads that a loop has issued when it first uses what one of them brought."""
    loaded: set[int] = set()
    count = 0
    for instruction in body:
        if instruction.is_load:
            if instruction.reads & loaded:
                return count
            first = instruction.registers[0]
            loaded |= set(range(first, first + 4))
            count += 1
        elif instruction.reads & loaded:
            return count
    return count


def parse(text: str) -> list[Kernel]:
    """Of what `cuobjdump -sass` prints."""
    kernels: list[Kernel] = []
    name, code = "", []
    for line in text.splitlines():
        if (match := INSTRUCTION.match(line)) is not None:
            address, predicate, opcode, operands = match.groups()
            code.append(Instruction(int(address, 16), predicate or "", opcode, operands.strip()))
        elif (match := FUNCTION.match(line)) is not None:
            if code:
                kernels.append(Kernel(name, tuple(code)))
            name, code = match[1], []
    return [*kernels, Kernel(name, tuple(code))] if code else kernels


def disassemble(path: Path, architecture: str, wanted: str, folder: Path) -> list[Kernel]:
    """Kernels of a module or an object, of the cubins that name `wanted`."""
    cuobjdump, nvdisasm = tool("cuobjdump"), tool("nvdisasm")
    assert cuobjdump is not None and nvdisasm is not None  # noqa: PT018
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(nvdisasm).parent}:{environment.get('PATH', '')}"

    def run(*words: str) -> str:
        return subprocess.run(
            [cuobjdump, *words], env=environment, cwd=folder, capture_output=True, text=True,
            check=True, timeout=300,
        ).stdout  # fmt: skip

    # Only these are worth their second each.
    run("-xelf", f"sm_{architecture}", str(path.resolve()))
    kernels = []
    for cubin in sorted(folder.glob("*.cubin")):
        if wanted.encode() in cubin.read_bytes():
            kernels += parse(run("-sass", str(cubin)))
    return kernels
