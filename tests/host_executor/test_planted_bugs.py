"""The host executor finds every planted bug, and nothing in the same kernels without it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from .harness import CSRC, EXECUTOR, HERE, KERNELS, SEEDS, Library, build, line_of, run

# What the error says, where it is an error every time and not a wrong result.
ERRORS = {
    "divergent_exit": r"divergent barrier",
    "divergent_branch": r"block_sync by thread \d+ .*: divergent barrier: others of the block",
    "divergent_shuffle": r"divergent warp",
    "barrier_count": r"deadlock: no thread can run.*named_barrier_sync\(1, 128\), where 96 threads",
    "off_by_one": r"wrote outside its shared memory of 512 bytes, at offset 512",
    "bulk_exit": r"block \(\d, 0, 0\) ended while its copy_bulk of .*:\d+ was under way",
    "cluster_exit_read": r"cluster_map by thread .*: the block of rank \d has ended",
    "cluster_exit_store": r"store_cluster .* the block (of rank \d|it stores to) has ended",
    "flag": r"deadlock: every thread waits, or polls for what nobody stores",
}
BUGS = [
    "transpose",
    "reduction",
    "buffer_reuse",
    "warp_exchange",
    "divergent_exit",
    "divergent_branch",
    "divergent_shuffle",
    "barrier_count",
    "producer",
    "off_by_one",
    "async_copy",
    "async_group",
    "bulk_copy",
    "bulk_exit",
    "parity",
    "cluster_read",
    "cluster_exit_read",
    "cluster_exit_store",
    "grid",
    "flag",
    "residency",
    "release",
    "torn",
    "unfenced",
    "early_read",
    "pair",
]
# Found only where stores and loads come in any order that PTX leaves open.
WEAK = ("unfenced", "early_read", "pair")


def outcome(library: Library, name: str, correct: bool, seed: int) -> str | None:
    """None where all is well."""
    library.set_seed(seed)
    try:
        wrong = library.bug(name, correct)
    except RuntimeError as error:
        return str(error)
    return f"{wrong} wrong" if wrong else None


def test_list_is_complete(library: Library) -> None:
    assert library.bug_names() == BUGS


@pytest.mark.parametrize("name", BUGS)
def test_bug_is_found(library: Library, name: str) -> None:
    library.set_modes(weak_memory=name in WEAK)
    outcomes = [outcome(library, name, False, seed) for seed in range(SEEDS)]
    found = [seed for seed, text in enumerate(outcomes) if text is not None]
    assert found, f"{name} hides in {SEEDS} seeds"
    print(f"{name}: found with seed {found[0]}, in {len(found)} of {SEEDS} seeds")
    if name in ERRORS:
        for seed, text in enumerate(outcomes):
            assert text is not None
            assert f"[seed {seed}, launch 0]" in text
            assert re.search(ERRORS[name], text, re.DOTALL), text
            assert text.startswith(f"{name}_kernel: ")


@pytest.mark.parametrize("name", WEAK)
def test_weak_memory_is_needed_to_find_it(library: Library, name: str) -> None:
    assert [outcome(library, name, False, seed) for seed in range(SEEDS)] == [None] * SEEDS


@pytest.mark.parametrize("weak_memory", [False, True])
@pytest.mark.parametrize("name", BUGS)
def test_correct_kernel_passes(library: Library, name: str, weak_memory: bool) -> None:
    library.set_modes(weak_memory=weak_memory)
    assert [outcome(library, name, True, seed) for seed in range(SEEDS)] == [None] * SEEDS


def test_deadlock_says_who_waits_where(library: Library) -> None:
    line = line_of("planted_bugs.cu", "// the line of the deadlock")
    with pytest.raises(RuntimeError, match="deadlock") as error:
        library.bug("flag", False)
    text = str(error.value)
    place = rf"threads 0-127: in poll_pause at .*planted_bugs\.cu:{line}"
    assert re.search(rf"blocks \(1, 0, 0\), \(2, 0, 0\):\n\s+{place}", text), text


def test_same_seed_same_outcome(library: Library) -> None:
    for name in ("barrier_count", "divergent_exit", "torn", "buffer_reuse"):
        for seed in range(6):
            assert outcome(library, name, False, seed) == outcome(library, name, False, seed)


def sanitized() -> Path:
    program = HERE / "main.cpp"
    flags = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    # Without them there is nothing to run, whatever the compiler.
    probe = run(
        ["sh", "-c", 'echo "int main() {}" | "$0" "$@" -x c++ - -o /dev/null', "c++", *flags]
    )
    if probe.returncode:
        pytest.skip("needs a compiler with the address sanitizer")
    return build("sanitized", [KERNELS[0], program, *EXECUTOR], *flags)


def test_address_sanitizer() -> None:
    program = sanitized()
    for name in BUGS:
        good = run([str(program), name, "correct", "0", "4"])
        assert good.returncode == 0, good.stderr
        assert good.stdout == "".join(f"{seed}: 0 wrong\n" for seed in range(4))
    bad = run([str(program), "off_by_one", "bug", "0", "1"])
    assert bad.returncode != 0
    assert re.search(r"AddressSanitizer: heap-buffer-overflow", bad.stderr)
    line = line_of("planted_bugs.cu", "buffer[thread_index() + shift] = from")
    assert f"planted_bugs.cu:{line}" in bad.stderr
    # Abandoned fibres leave nothing behind that the next launch would stumble over.
    for name in ("divergent_branch", "flag", "producer", "cluster_exit_store"):
        again = run([str(program), name, "bug", "0", "4"])
        assert again.returncode == 0, again.stderr
        assert again.stdout.count("error") == 4


@pytest.mark.parametrize("source", KERNELS, ids=lambda path: path.stem)
def test_kernels_are_cuda(source: Path, tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc is None:
        pytest.skip("needs nvcc")
    command = [nvcc, "-std=c++17", "-arch=sm_90", "-c", str(source), "-o", str(tmp_path / "o")]
    command += [
        f"-I{CSRC}",
        f"-I{HERE}",
        "-DSEQFAST_CUDA_NAMESPACE=cuda",
        "-Werror",
        "all-warnings",
    ]
    compiled = run(command)
    assert compiled.returncode == 0, compiled.stderr
