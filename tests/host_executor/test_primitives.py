"""Every primitive of the host executor against NumPy and the layouts of the PTX manual."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from .harness import CSRC, SEEDS, Library

LANES = np.arange(32)
# Of an m16n8k16 product, by lane and register, two elements a register.
GROUP, QUAD = LANES // 4, LANES % 4


@pytest.fixture(params=range(4))
def seeded(library: Library, request: pytest.FixtureRequest) -> Library:
    """Some schedules, of each kind of interruption."""
    library.set_seed(request.param)
    return library


# ---- The two headers ----------------------------------------------------------------------------


def declared(path: Path) -> set[str]:
    """Functions, types and macros that kernels and launches may use."""
    text = path.read_text()
    # Helpers live in namespaces of their own.
    text = re.sub(r"^namespace (\w+) \{.*?^\}  // namespace \1$", "", text, flags=re.M | re.S)
    names = re.findall(r"^(?:SEQFAST_DEVICE|inline|void|int)\b[^(=\n]*?(\w+)\(", text, re.M)
    names += re.findall(r"^(?:struct|class)\s+(?:alignas\(\d+\) )?(\w+)", text, re.M)
    names += re.findall(r"^using (?:\w+::)*(\w+)", text, re.M)
    names += re.findall(r"^#define (SEQFAST_\w+)", text, re.M)
    return set(names)


def test_same_names_as_on_the_gpu() -> None:
    gpu = declared(CSRC / "cuda" / "base" / "primitives.cuh")
    host = declared(CSRC / "host_executor" / "primitives.cuh")
    assert {"mma_bf16", "launch", "Device", "Stream", "SEQFAST_KERNEL", "round_to"} <= gpu
    # Errors of the CUDA runtime, and an address that only its instructions take.
    assert gpu - host == {"check", "cluster_address"}
    assert host - gpu == {"SEQFAST_SITE"}


# ---- Numbers ------------------------------------------------------------------------------------


def round_to_bf16(x: np.ndarray) -> np.ndarray:
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FFF), rounded)


def numbers_to_round(widened: np.ndarray) -> np.ndarray:
    """All values, what lies around them, and between neighbours: ties and their neighbours."""
    values = np.unique(widened[np.isfinite(widened)]).astype(np.float64)
    ties = ((values[1:] + values[:-1]) / 2).astype(np.float32)
    exact = np.concatenate([values.astype(np.float32), ties])
    with np.errstate(over="ignore"):
        around = [np.nextafter(exact, np.float32(end)) for end in (-np.inf, np.inf)]
    random = np.random.default_rng(0).integers(0, 2**32, 20000, np.uint32).view(np.float32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 65519, 65520, 3.4e38], np.float32)
    return np.concatenate([exact, *around, random, special])


def test_widening_every_bf16(library: Library) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    got = np.empty(1 << 16, np.float32)
    library.case("widen_bf16", bits, got, bits.size)
    expected = (bits.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


def test_widening_every_fp16(library: Library) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    got = np.empty(1 << 16, np.float32)
    library.case("widen_fp16", bits, got, bits.size)
    expected = bits.view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))


def test_rounding_to_bf16(library: Library) -> None:
    every = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    x = numbers_to_round(every)
    got = np.empty(x.size, np.uint16)
    library.case("round_bf16", x, got, x.size)
    np.testing.assert_array_equal(got, round_to_bf16(x))


def test_rounding_to_fp16(library: Library) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    x = numbers_to_round(every)
    got = np.empty(x.size, np.uint16)
    library.case("round_fp16", x, got, x.size)
    with np.errstate(over="ignore"):
        expected = np.where(np.isnan(x), np.uint16(0x7FFF), x.astype(np.float16).view(np.uint16))
    np.testing.assert_array_equal(got, expected)


def test_fast_exp_and_divide(library: Library) -> None:
    x = np.linspace(-100, 100, 4001).astype(np.float32)
    y = np.geomspace(1e-30, 2.0**125, x.size).astype(np.float32)
    y[-3:] = [2.0**127, np.inf, -np.inf]
    power, quotient = np.empty_like(x), np.empty_like(x)
    library.case("fast", x, y, power, quotient, x.size)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.exp(x.astype(np.float64)).astype(np.float32)
    expected[x < -87.33654] = 0
    np.testing.assert_allclose(power, expected, rtol=3e-7)
    np.testing.assert_array_equal(quotient[:-3], (x / y)[:-3])
    np.testing.assert_array_equal(quotient[-3:], 0)


def test_bits(library: Library) -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 1000, np.uint32)
    wide = np.random.default_rng(2).normal(size=1000)
    got, got_wide = np.empty(1000, np.float32), np.empty(1000)
    library.case("bits", bits.view(np.float32), got, wide.view(np.uint32), got_wide, 1000)
    np.testing.assert_array_equal(got.view(np.uint32), bits)
    np.testing.assert_array_equal(got_wide, wide)


def test_logarithms(library: Library) -> None:
    rng = np.random.default_rng(0)
    y = np.concatenate([rng.random(50), 10.0 ** rng.uniform(-30, 30, 50), [1, 0, np.inf, 1e-42]])
    x = y.astype(np.float32)
    logs, wide = np.empty((2, y.size), np.float32), np.empty((2, y.size))
    bits = np.empty(y.size, np.uint64)
    library.case("logarithms", x, y, logs, wide, bits, y.size)
    with np.errstate(divide="ignore"):
        exact = x.astype(np.float64)
        np.testing.assert_allclose(logs, [np.log1p(exact), np.log(exact)], rtol=3e-7)
        np.testing.assert_allclose(wide, [np.log1p(y), np.log(y)], rtol=5e-16)
    np.testing.assert_array_equal(bits, y.view(np.uint64))


def test_logs_and_counts(library: Library) -> None:
    x = np.concatenate([np.geomspace(1e-30, 1e30, 2001), [0.0, -0.5, np.inf]]).astype(np.float32)
    logs, counts = np.empty_like(x), np.empty(x.size, np.uint32)
    library.case("logs_and_counts", x, logs, counts, x.size)
    np.testing.assert_allclose(logs, np.log1p(x.astype(np.float64)), rtol=3e-7)
    expected = [bin(int(bits)).count("1") for bits in x.view(np.uint32)]
    np.testing.assert_array_equal(counts, expected)


# ---- Who am I -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "threads", "cluster"),
    [((1, 1, 1), 32, 1), ((3, 2, 5), 64, 1), ((6, 2, 1), 96, 3), ((32, 1, 1), 256, 16)],
)
def test_identity(seeded: Library, grid: tuple[int, int, int], threads: int, cluster: int) -> None:
    x, y, z = grid
    got = np.full((z, y, x, threads, 12), -1, np.int32)
    seeded.case("identity", got, x, y, z, threads, cluster)
    places = np.indices((z, y, x, threads))
    expected = [places[3], places[3] % 32, places[3] // 32, threads]
    expected += [places[2], places[1], places[0], x, y, z, places[2] % cluster, cluster]
    for i, what in enumerate(expected):
        np.testing.assert_array_equal(got[..., i], what)


def test_shared_memory_begins_as_poison(library: Library) -> None:
    patterns = set()
    for seed in range(SEEDS):
        library.set_seed(seed)
        got = np.zeros((3, 1000), np.uint8)
        library.case("fresh_shared", got, 3, 1000)
        words = got.view(np.uint16)
        assert (words == words[0, 0]).all()
        patterns.add(int(words[0, 0]))
        if words[0, 0] == 0xFFFF:
            for kind in (np.float16, np.float32, np.float64):
                assert np.isnan(got.view(kind)).all()
    assert 0xFFFF in patterns
    assert len(patterns) > 1


# ---- Lanes of a warp ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.int32, np.float32, np.float64])
def test_shuffles(seeded: Library, kind: type[np.generic]) -> None:
    random = np.random.default_rng(3)
    values = random.integers(-1000, 1000, 32).astype(kind)
    lanes = random.integers(0, 32, 32).astype(np.int32)
    got = np.empty((2, 3, 32), kind)
    seeded.case(f"shuffle_{np.dtype(kind).name}", values, lanes, got)
    beyond = LANES + lanes
    expected = [values[lanes], values[LANES ^ lanes], values[np.where(beyond < 32, beyond, LANES)]]
    for warp in range(2):
        np.testing.assert_array_equal(got[warp], expected)


def test_votes(seeded: Library) -> None:
    random = np.random.default_rng(4)
    votes = np.stack(
        [np.zeros(32), np.ones(32), LANES == 31, LANES != 7, *random.integers(0, 2, (20, 32))]
    ).astype(np.int32)
    got = np.empty((len(votes), 3, 32), np.uint32)
    seeded.case("votes", votes, got, len(votes))
    weights = (1 << LANES).astype(np.uint32)
    for mine, result in zip(votes, got, strict=True):
        assert (result[0] == (mine * weights).sum()).all()
        assert (result[1] == mine.all()).all()
        assert (result[2] == mine.any()).all()


# ---- Tensor cores -------------------------------------------------------------------------------


def fragments_of_c(c: np.ndarray) -> np.ndarray:
    """[16, 8] -> [32 lanes, 4]: rows g and g + 8, columns 2t and 2t + 1."""
    rows = np.stack([GROUP, GROUP, GROUP + 8, GROUP + 8], 1)
    columns = np.stack([2 * QUAD, 2 * QUAD + 1, 2 * QUAD, 2 * QUAD + 1], 1)
    return c[rows, columns]


def narrow(x: np.ndarray, kind: str) -> np.ndarray:
    """The 16 bits of each number."""
    if kind == "bf16":
        return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return x.astype(np.float16).view(np.uint16)


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
@pytest.mark.parametrize("warps", [1, 8])
def test_mma_16bit(seeded: Library, kind: str, warps: int) -> None:
    random = np.random.default_rng(5)
    # Small integers are exact in every format, and so are their sums.
    a = random.integers(-8, 9, (warps, 16, 16)).astype(np.float64)
    b = random.integers(-8, 9, (warps, 16, 8)).astype(np.float64)
    c = random.integers(-99, 99, (warps, 16, 8)).astype(np.float64)
    fragments_a = np.empty((warps, 32, 4, 2), np.uint16)
    fragments_b = np.empty((warps, 32, 2, 2), np.uint16)
    fragments_c = np.empty((warps, 32, 4), np.float32)
    for w in range(warps):
        for half in range(2):
            for i in range(4):
                row, k = GROUP + i % 2 * 8, 2 * QUAD + half + i // 2 * 8
                fragments_a[w, :, i, half] = narrow(a[w, row, k], kind)
            for i in range(2):
                fragments_b[w, :, i, half] = narrow(b[w, 2 * QUAD + half + 8 * i, GROUP], kind)
        fragments_c[w] = fragments_of_c(c[w])
    seeded.case(
        f"mma_{kind}", fragments_a.view(np.uint32), fragments_b.view(np.uint32), fragments_c, warps
    )
    for w in range(warps):
        np.testing.assert_array_equal(fragments_c[w], fragments_of_c(c[w] + 2 * a[w] @ b[w]))


def test_mma_of_every_fp16(library: Library) -> None:
    # One times every pattern: what comes out is its value, subnormals and infinities too.
    every = np.arange(1 << 16, dtype=np.uint16)
    for first in range(0, 1 << 16, 1 << 14):
        for column in range(first, first + (1 << 14), 8 * 8 * 64):
            patterns = every[column : column + 64]
            b = np.zeros((8, 32, 2, 2), np.uint16)
            # Element k 0 of each column of each of 8 warps.
            b[:, QUAD == 0, 0, 0] = patterns.reshape(8, 8)
            a = np.zeros((8, 32, 4, 2), np.uint16)
            a[:, QUAD == 0, :2, 0] = narrow(np.float32(0.5), "fp16")
            c = np.zeros((8, 32, 4), np.float32)
            library.case("mma_fp16", a.view(np.uint32), b.view(np.uint32), c, 8)
            values = patterns.view(np.float16).astype(np.float32).reshape(8, 8)
            for w in range(8):
                expected = fragments_of_c(np.broadcast_to(values[w], (16, 8)))
                np.testing.assert_array_equal(c[w], expected)


def test_mma_tf32(seeded: Library) -> None:
    random = np.random.default_rng(6)
    a = random.integers(-99, 99, (16, 8)).astype(np.float32)
    b = random.integers(-99, 99, (8, 8)).astype(np.float32)
    c = random.integers(-99, 99, (16, 8)).astype(np.float32)
    fragments_a = np.stack(
        [a[GROUP + i % 2 * 8, QUAD + i // 2 * 4].view(np.uint32) for i in range(4)], 1
    )
    fragments_b = np.stack([b[QUAD + 4 * i, GROUP].view(np.uint32) for i in range(2)], 1)
    # The last 13 bits do not count.
    noise = [random.integers(0, 1 << 13, x.shape, np.uint32) for x in (fragments_a, fragments_b)]
    fragments_c = fragments_of_c(c)
    seeded.case("mma_tf32", fragments_a | noise[0], fragments_b | noise[1], fragments_c, 1)
    np.testing.assert_array_equal(fragments_c, fragments_of_c(c + 2 * a @ b))


@pytest.mark.parametrize(
    ("c", "row", "rounded", "cut_off"),
    [
        (1, [2.0**-26] * 16, 1, 1),  # each is lost, and so is what they come to
        (1, [2.0**-24] * 3, 1, 1 + 2.0**-22),  # two bits more are kept of each, and added up
        (1, [1.5 * 2.0**-24], 1 + 2.0**-22, 1),
        (-1, [-1.5 * 2.0**-24], -1 - 2.0**-22, -1),  # towards zero
        (1, [-(2.0**-24)], 1 - 2.0**-23, 1 - 2.0**-23),
        (0, [3.0], 6, 6),
        (np.inf, [1.0], np.inf, np.inf),
    ],
)
def test_sums_that_are_cut_off(
    library: Library, c: float, row: list[float], rounded: float, cut_off: float
) -> None:
    """Of two products in turn, each the row times ones."""
    a, b = np.zeros((16, 16)), np.ones((16, 8))
    a[0, : len(row)] = row
    fragments_a, fragments_b = np.empty((32, 4, 2), np.uint16), np.empty((32, 2, 2), np.uint16)
    for half in range(2):
        for i in range(4):
            k = 2 * QUAD + half + i // 2 * 8
            fragments_a[:, i, half] = narrow(a[GROUP + i % 2 * 8, k], "bf16")
        for i in range(2):
            fragments_b[:, i, half] = narrow(b[2 * QUAD + half + 8 * i, GROUP], "bf16")
    for mode, wanted in ((False, rounded), (True, cut_off)):
        library.set_modes(cut_off_sums=mode)
        sums = np.full((32, 4), c, np.float32)
        library.case("mma_bf16", fragments_a.view(np.uint32), fragments_b.view(np.uint32), sums, 1)
        assert sums[0, 0] == np.float32(wanted)


def test_mma_f64(seeded: Library) -> None:
    random = np.random.default_rng(7)
    a, b, c = (random.normal(size=shape) for shape in ((8, 4), (4, 8), (8, 8)))
    got = np.stack([c[GROUP, 2 * QUAD], c[GROUP, 2 * QUAD + 1]], 1)
    seeded.case("mma_f64", a[GROUP, QUAD], b[QUAD, GROUP], got)
    expected = c + 2 * a @ b
    np.testing.assert_allclose(got[:, 0], expected[GROUP, 2 * QUAD], rtol=1e-14)
    np.testing.assert_allclose(got[:, 1], expected[GROUP, 2 * QUAD + 1], rtol=1e-14)


def test_ldmatrix(seeded: Library) -> None:
    random = np.random.default_rng(8)
    rows = random.integers(0, 2**16, (32, 8), np.uint16)
    named = random.permutation(32).astype(np.int32)
    got = np.empty((32, 4), np.uint32)
    seeded.case("ldmatrix", rows.view(np.uint32), named, got)
    for i in range(4):
        row = rows[named[8 * i + GROUP]]
        expected = np.stack([row[LANES, 2 * QUAD], row[LANES, 2 * QUAD + 1]], 1)
        np.testing.assert_array_equal(got[:, i].copy().view(np.uint16).reshape(32, 2), expected)


# ---- Copies that run beside the thread ----------------------------------------------------------


def test_copies_land_late(library: Library) -> None:
    late = 0
    for seed in range(SEEDS):
        library.set_seed(seed)
        source = np.arange(128, dtype=np.float32).reshape(32, 4)
        before = source.copy()
        got = np.full((32, 4), -1, np.float32)
        library.case("late_copy", source, got)
        assert (got[1::2] == 0).all()
        # All at the wait, or here and there before it; never something else.
        moved = got[::2] == before[::2] + 1000
        assert (moved | (got[::2] == before[::2])).all()
        late += int(moved.all())
    assert late >= SEEDS // 2


def test_ring_of_bulk_copies(library: Library) -> None:
    tiles = np.random.default_rng(9).normal(size=(9, 64)).astype(np.float32)
    for seed in range(SEEDS):
        library.set_seed(seed)
        got = np.full_like(tiles, np.nan)
        library.case("ring", tiles, got, len(tiles))
        np.testing.assert_array_equal(got, tiles[:, ::-1])


# ---- Blocks of a cluster and of a grid ----------------------------------------------------------


@pytest.mark.parametrize(("blocks", "cluster"), [(1, 1), (4, 2), (16, 8), (32, 16)])
def test_all_to_all(seeded: Library, blocks: int, cluster: int) -> None:
    got = np.zeros((blocks, cluster, 3), np.uint32)
    seeded.case("all_to_all", got, blocks, cluster)
    block, peer = np.indices((blocks, cluster))
    sender = block // cluster * cluster + peer
    np.testing.assert_array_equal(got, sender[..., None] + np.array([3, 4, 5]))


@pytest.mark.parametrize(("blocks", "cluster"), [(6, 2), (16, 16)])
def test_relay_through_shared_memory(seeded: Library, blocks: int, cluster: int) -> None:
    rounds = 5
    got = np.zeros((blocks, rounds), np.uint32)
    seeded.case("relay", got, blocks, cluster, rounds)
    rank, time = np.indices((blocks, rounds))
    np.testing.assert_array_equal(got, time * cluster + rank % cluster)


def test_grid_sync(seeded: Library) -> None:
    blocks, rounds = 24, 7
    values = np.random.default_rng(10).integers(0, 9, (2, blocks)).astype(np.float32)
    expected = values[0]
    for _ in range(rounds):
        expected = expected + np.roll(expected, -1)
    seeded.case("rounds", values, blocks, rounds)
    np.testing.assert_array_equal(values[rounds % 2], expected)


def test_atomics(seeded: Library) -> None:
    total, count = np.zeros(1, np.float32), np.zeros(1, np.uint32)
    seeded.case("atomics", total, count, 7, 256)
    assert total[0] == 7 * 255 * 128
    assert count[0] == 7 * 256


def test_atomic_max(seeded: Library) -> None:
    most = np.zeros(2, np.uint64)
    seeded.case("atomic_maxima", most, 7, 256)
    assert most.tolist() == [(7 << 40) + 258, 2**64 - 1 - ((1 << 40) + 3)]
    large = np.full(2, 2**64 - 1, np.uint64)
    seeded.case("atomic_maxima", large, 3, 32)
    assert large.tolist() == [2**64 - 1] * 2


def test_vector_atomics(seeded: Library) -> None:
    sums = aligned(3, 4)
    seeded.case("vector_atomics", sums, 3, 7, 256)
    threads = 7 * 256
    expected = [[threads, 2 * threads, 7 * 255 * 128, 256 * (21 + 7 * row)] for row in range(3)]
    np.testing.assert_array_equal(sums, expected)


def test_vector_atomics_want_16_bytes(library: Library) -> None:
    to = aligned(8)
    library.case("one_vector", to, 4)
    np.testing.assert_array_equal(to, [0] * 4 + [32] * 4)
    with pytest.raises(RuntimeError, match="add_vector"):
        library.case("one_vector", to, 1)


def aligned(*shape: int) -> np.ndarray:
    """Zeros of float32 from an address that is a multiple of 16 bytes."""
    count = int(np.prod(shape))
    memory = np.zeros(count + 3, np.float32)
    start = -memory.ctypes.data % 16 // 4
    return memory[start : start + count].reshape(shape)


def test_chain_through_global_memory(library: Library) -> None:
    blocks = 9
    for seed in range(SEEDS):
        library.set_seed(seed)
        flags = np.zeros(blocks, np.uint32)
        # 16 bytes more, so that the words can begin at a multiple of 16.
        memory = np.zeros(blocks * 32 * 4 + 4, np.uint32)
        words = memory[-(memory.ctypes.data // 4) % 4 :][: blocks * 32 * 4]
        got = np.zeros((blocks, 32), np.uint32)
        library.case("chain", flags, words, got, blocks)
        np.testing.assert_array_equal(got, LANES + np.arange(blocks)[:, None])


def test_fill_zero(library: Library) -> None:
    memory = np.ones(100, np.uint8)
    library.case("zeros", memory, 60)
    assert memory.sum() == 40
    assert not memory[:60].any()
