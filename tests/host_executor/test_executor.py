"""The host executor itself: launches, their limits and errors, seeds, threads and forks."""

from __future__ import annotations

import os
import re
import sys
import threading
import time

import numpy as np
import pytest

import seqfast
from seqfast import _C

from .harness import SEEDS, Library, load, run

KIB = 1 << 10


def order_of_blocks(library: Library, blocks: int = 16) -> list[int]:
    order, count = np.full(blocks, -1, np.int32), np.zeros(1, np.uint32)
    library.case("order", order, count, blocks)
    assert sorted(order) == list(range(blocks))
    return order.tolist()


# ---- Seeds --------------------------------------------------------------------------------------


def test_seed_decides_the_order(library: Library) -> None:
    orders = []
    for seed in range(SEEDS):
        library.set_seed(seed)
        orders.append([order_of_blocks(library) for _ in range(3)])
        library.set_seed(seed)
        assert [order_of_blocks(library) for _ in range(3)] == orders[-1]
    every = [tuple(order) for some in orders for order in some]
    assert len(set(every)) == len(every)


def test_statistics(library: Library) -> None:
    library.statistics(reset=True)
    order_of_blocks(library)
    order_of_blocks(library, 3)
    library.case("empty", 5, 1, 1, 64, 1, 0, 0)
    counts = library.statistics("order_kernel")
    assert counts["switches"] >= 19 * 32 + 5 * 64
    del counts["switches"]
    assert counts == {"launches": 3, "blocks": 24, "threads": 19 * 32 + 5 * 64, "of_kernel": 2}
    library.statistics(reset=True)
    assert set(library.statistics("order_kernel").values()) == {0}


def test_bindings_reach_the_extension() -> None:
    if not seqfast.build_info().get("host_executor"):
        pytest.skip("needs a build with SEQFAST_CUDA=HOST")
    _C.host_executor_set_seed(3)
    _C.host_executor_set_device(132, 232448, 90, 16)
    counts = _C.host_executor_statistics()
    assert set(counts) == {"launches", "blocks", "threads", "switches", "kernels"}
    assert counts["launches"] == sum(counts["kernels"].values())
    with pytest.raises(ValueError, match="host_executor_set_device: wanted at least 1"):
        _C.host_executor_set_device(0, 232448, 90, 16)


# ---- Shapes -------------------------------------------------------------------------------------

SHAPE = {"x": 1, "y": 1, "z": 1, "threads": 32, "cluster": 1, "shared": 0, "cooperative": 0}
BAD_SHAPES = [
    ({"x": 0}, "the grid must be"),
    ({"y": 0}, "the grid must be"),
    ({"y": 65536}, "the grid must be .* got 1 x 65536 x 1"),
    ({"z": 65536}, "the grid must be"),
    ({"threads": 0}, "the threads of a block must be 1 to 1024, got 0"),
    ({"threads": 1025}, "the threads of a block must be 1 to 1024, got 1025"),
    ({"shared": 232449}, "must be 0 to 232448 bytes, got 232449"),
    ({"shared": -1}, "must be 0 to 232448 bytes, got -1"),
    ({"x": 17, "cluster": 17}, "a cluster must be 1 to 16 blocks, got 17"),
    ({"x": 3, "cluster": 2}, "a cluster of 2 blocks must divide the grid's 3"),
    ({"cluster": 0}, "a cluster must be 1 to 16 blocks, got 0"),
    ({"x": 133, "shared": 200 * KIB, "cooperative": 1}, "1 to 132 blocks, got 133"),
    ({"x": 265, "threads": 1024, "cooperative": 1}, "1 to 264 blocks, got 265"),
    ({"x": 265, "shared": 100 * KIB, "cooperative": 1}, "1 to 264 blocks, got 265"),
]
GOOD_SHAPES = [
    {"x": 3, "y": 2, "z": 4},
    {"threads": 1},
    {"threads": 1024},
    {"threads": 33},
    {"shared": 232448},
    {"x": 32, "cluster": 16, "shared": 232448},
    {"x": 132, "shared": 200 * KIB, "cooperative": 1},
    {"x": 132, "threads": 128, "cooperative": 1},
    {"y": 65535, "threads": 1},
]


@pytest.mark.parametrize(("change", "message"), BAD_SHAPES)
def test_shapes_that_a_gpu_would_refuse(
    library: Library, change: dict[str, int], message: str
) -> None:
    with pytest.raises(RuntimeError, match=f"^empty_kernel: .*{message}"):
        library.case("empty", *(SHAPE | change).values())


@pytest.mark.parametrize("change", GOOD_SHAPES)
def test_shapes_that_a_gpu_would_take(library: Library, change: dict[str, int]) -> None:
    library.case("empty", *(SHAPE | change).values())


def test_other_devices(library: Library) -> None:
    library.set_device(4, 100 * KIB, 80, 1)
    got = np.zeros(5, np.int64)
    library.case("properties", got, 0)
    assert got.tolist() == [0, 4, 100 * KIB, 80, 1]
    library.case("properties", got, 1)
    assert got.tolist() == [1, 4, 100 * KIB, 80, 1]
    with pytest.raises(RuntimeError, match="the device must be 0 to 1, got 2"):
        library.case("properties", got, 2)
    with pytest.raises(RuntimeError, match="must be 0 to 102400 bytes"):
        library.case("empty", *(SHAPE | {"shared": 100 * KIB + 1}).values())
    with pytest.raises(RuntimeError, match="a cluster must be 1 to 1 blocks, got 2"):
        library.case("empty", *(SHAPE | {"x": 2, "cluster": 2}).values())
    with pytest.raises(RuntimeError, match="cooperative grid must be 1 to 128 blocks, got 129"):
        library.case("empty", *(SHAPE | {"x": 129, "cooperative": 1}).values())
    with pytest.raises(RuntimeError, match=r"mbarrier_arrive_expect .*needs sm_90.* is sm_80"):
        library.case("ring", np.zeros((1, 64), np.float32), np.zeros((1, 64), np.float32), 1)
    with pytest.raises(RuntimeError, match="wanted at least 1 multiprocessor"):
        library.set_device(0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"shared": 200 * KIB}, 132),
        ({"shared": 110 * KIB, "threads": 256}, 132),
        ({"shared": 200 * KIB, "cluster": 16, "x": 16}, 8),
        ({"shared": 232449}, 0),
        ({"cluster": 17, "x": 17}, 0),
        ({"threads": 1024}, 132),
        ({"threads": 1025}, 0),
    ],
)
def test_resident_clusters(library: Library, change: dict[str, int], expected: int) -> None:
    got = np.full(1, -1, np.int64)
    library.case("resident", got, *(SHAPE | change).values())
    assert got[0] == expected


# ---- Errors -------------------------------------------------------------------------------------

MISUSE = [
    (0, "load_relaxed by thread .* the address must be a multiple of 16"),
    (1, "copy_async_16 by thread .* the address must be a multiple of 16"),
    (2, "copy_async_16 by thread .* the address must be a multiple of 16"),
    (3, "copy_async_16 .* 16 bytes at offset 256 are outside .* of 256 bytes"),
    (4, "ldmatrix_x4 .* 16 bytes at offset 241 are outside .* of 256 bytes"),
    (5, "named_barrier_sync .* the barrier must be 1 to 15, got 0"),
    (6, "named_barrier_sync .* must be whole warps of the block's 128, got 48"),
    (7, "named_barrier_sync .* must be whole warps of the block's 128, got 256"),
    (8, "named_barrier_sync .* barrier 1 is for (64|128) threads here, and for (64|128) where"),
    (9, "mbarrier_wait .* the barrier has not been initialised"),
    (10, "copy_bulk .* the bytes must be a multiple of 16, got 24"),
    (11, "mbarrier_arrive .* more arrivals than the 1 of the phase, which waits for 16 bytes"),
    (12, "cluster_map .* the rank must be 0 to 0, got 1"),
    (13, "store_cluster .* 16 bytes at offset 248 are outside"),
    (14, "cluster_map .* outside the block's shared memory"),
    (15, "cluster_wait .* the thread has not arrived"),
    (16, "cluster_arrive .* the thread has arrived before and not waited"),
    (17, "grid_sync .* the launch is not cooperative"),
    (18, "load_relaxed_shared .* 16 bytes at offset -16 are outside"),
    (19, "divergent warp: others of warp 0 are in (ballot|warp_sync) at .*primitive_cases.cu"),
]


@pytest.mark.parametrize(("which", "message"), MISUSE)
def test_misuse_is_an_error(library: Library, which: int, message: str) -> None:
    memory = np.zeros(68, np.uint8)
    aligned = memory[-memory.ctypes.data % 16 :][:64]
    threads = 32 if which in (9, 10, 11, 19) else 128
    for seed in range(3):
        library.set_seed(seed)
        with pytest.raises(RuntimeError, match=f"^misuse_kernel: .*{message}") as error:
            library.case("misuse", aligned, which, threads)
        assert f"[seed {seed}, launch 0]" in str(error.value)
        # The site is the call in the kernel, not the primitive's own file.
        assert re.search(r"primitive_cases\.cu:\d+", str(error.value))
        # And the next launch knows nothing of it.
        order_of_blocks(library, 3)


def test_part_of_a_warp_at_a_named_barrier(library: Library) -> None:
    # Nobody waits for it, so only the block's end can tell.
    with pytest.raises(RuntimeError, match="barrier 3 was reached by a part of warp 0 only"):
        library.case("misuse", np.zeros(64, np.uint8), 20, 64)


def test_report_of_a_deadlock(library: Library) -> None:
    with pytest.raises(RuntimeError) as error:
        library.case("misuse", np.zeros(64, np.uint8), 21, 128)
    text = str(error.value)
    assert text.startswith("misuse_kernel: deadlock: no thread can run [seed 0, launch 0]\n")
    for line in (
        r"block \(0, 0, 0\):",
        r"threads 0-31: in block_sync at .*primitive_cases\.cu:\d+",
        r"threads 32-63: in cluster_wait at .*primitive_cases\.cu:\d+",
        r"threads 64-95: in mbarrier_wait of shared memory \+ 0, parity 0, which lacks 2 arrivals "
        r"and 0 bytes, at .*primitive_cases\.cu:\d+",
        r"threads 96-127: in named_barrier_sync\(2, 96\), where 32 threads have arrived, at ",
    ):
        assert re.search(rf"^ +{line}", text, re.MULTILINE), (line, text)


# ---- Threads and processes ----------------------------------------------------------------------


@pytest.mark.alone
def test_launches_from_several_threads(library: Library) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(10):
                tiles = np.full((4, 64), number, np.float32)
                got = np.zeros_like(tiles)
                library.case("ring", tiles, got, 4)
                np.testing.assert_array_equal(got, tiles)
                with pytest.raises(RuntimeError, match="the barrier must be 1 to 15"):
                    library.case("misuse", np.zeros(64, np.uint8), 5, 128)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


FORK = """
import os, sys, threading
sys.path.insert(0, sys.argv[1])
from host_executor.harness import Library
from pathlib import Path
import numpy as np

library = Library(Path(sys.argv[2]))

def check():
    tiles = np.arange(256, dtype=np.float32).reshape(4, 64)
    got = np.zeros_like(tiles)
    library.case("ring", tiles, got, 4)
    assert (got == tiles[:, ::-1]).all()

check()
stop = False
def work():
    while not stop:
        check()
other = threading.Thread(target=work)
other.start()
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        for _ in range(3):
            check()
        os._exit(0)
    children.append(child)
statuses = [os.waitpid(child, 0)[1] for child in children]
stop = True
other.join()
check()
assert statuses == [0] * 8, statuses
"""


@pytest.mark.alone
def test_fork_while_another_thread_launches() -> None:
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = run([sys.executable, "-W", "ignore", "-c", FORK, tests, str(load().path)])
    assert done.returncode == 0, done.stderr


@pytest.mark.alone
def test_launches_are_cheap(library: Library) -> None:
    # An upper bound far from what is usual, against a scheduler that scans all threads.
    library.case("identity", np.zeros((8, 256, 12), np.int32), 8, 1, 1, 256, 1)
    library.set_seed(0)
    library.statistics(reset=True)
    begin = time.perf_counter()
    for _ in range(20):
        library.case("identity", np.zeros((8, 256, 12), np.int32), 8, 1, 1, 256, 1)
    spent = time.perf_counter() - begin
    switches = library.statistics()["switches"]
    assert spent / switches < 5e-6, f"{spent / switches * 1e9:.0f} ns a switch"
