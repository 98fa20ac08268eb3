"""The predictions' arithmetic: one case by hand, what must hold for all, and the written page."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

import seqfast  # noqa: E402
from benchmarks import cuda_model, gpu, gpu_grid  # noqa: E402
from benchmarks.cases import Case  # noqa: E402

GRID = list(gpu_grid.grid())
ALL = [*GRID, *gpu_grid.other_cells(), *gpu_grid.variants()]


def test_headline_by_hand() -> None:
    """48 blocks of 16 units, two groups of 8 rows; k is 24 chunks, 3 for each of 8 warps."""
    case = gpu_grid.build_case((1024, 16, 768), "bfloat16")
    where = cuda_model.plan(case, backward=False)
    assert where == cuda_model.Plan("grid", cuda_model.Block(16, 4, 1, 24), 48, 2, 1, 2)
    clocks = {
        "compute": 64 * 768 * 8 / 1270,
        "exchange": 1110 + 768 * 8 * 2 / 26,
        # The sums of 8 warps, 64 outputs of 8 rows, are written and read.
        "epilogue": 330 + 2 * 8 * 64 * 8 * 4 / 128 + 10 * 16 * 8 / 16,
    }
    expected = {name: value / 1980 for name, value in clocks.items()} | {"memory": 0}
    packing = 2 * 2.1 + 2 * 4 * 768 * 768 * 2 / 4300e3
    expected["launch"] = (packing + 8 + 64 * 768 * 2 / 26 / 1980) / 1024
    expected["products"] = (2 * 16 * 1024 * 768 * 3072 / 700e6 + 2.1) / 1024
    prediction = cuda_model.predict(case, "forward")
    assert prediction.parts == pytest.approx(expected)
    assert prediction.expected == pytest.approx(1.418, abs=1e-3)
    assert prediction.most == "exchange"
    assert prediction.floor == pytest.approx(2 * 16 * 2 * 768 * 3072 / 700e6)


def test_a_cluster_by_hand() -> None:
    """Backward at H = 256: 8 blocks of 32 units, 4 rows in each of 16 clusters."""
    case = Case("", 10, 64, 256, 256, dtype=torch.float16)
    where = cuda_model.plan(case, backward=True)
    assert where == cuda_model.Plan("cluster", cuda_model.Block(32, 1, 1, 32), 8, 16, 1, 16)
    step = cuda_model.persistent_step(case, where, True, True, cuda_model.constants())
    sent = 4 * 32 * 4 * 2 * 8
    assert step["exchange"] == pytest.approx((230 + sent / 13) / 1980)


def test_passes_hide_latency() -> None:
    case = gpu_grid.build_case((10, 128, 1024), "float16")
    where = cuda_model.plan(case, backward=False)
    assert (where.strategy, where.passes, where.rounds) == ("grid", 4, 1)
    constants = cuda_model.constants()
    steps = [
        sum(cuda_model.persistent_step(case, where, False, False, c).values())
        for c in (constants, constants | {"l2_latency": 2 * constants["l2_latency"]})
    ]
    assert steps[0] == steps[1]


@pytest.mark.parametrize("job", ALL, ids=str)
def test_what_must_hold_for_every_case(job: gpu_grid.Job) -> None:
    prediction = cuda_model.predict(job.case, job.mode)
    assert 0 < prediction.floor <= prediction.low <= prediction.expected <= prediction.high
    assert sum(prediction.parts.values()) == pytest.approx(prediction.expected)
    assert min(prediction.parts.values()) >= 0
    longer = replace(job.case, steps=2 * job.case.steps)
    assert cuda_model.predict(longer, job.mode).expected <= prediction.expected
    for wider in (
        replace(job.case, batch=2 * job.case.batch),
        replace(job.case, layers=job.case.layers + 1),
        replace(job.case, bidirectional=True),
    ):
        # A larger batch may go by another strategy, which at its size had been a little faster too.
        assert cuda_model.predict(wider, job.mode).expected >= 0.97 * prediction.expected


@pytest.mark.parametrize("name", cuda_model.CONSTANTS)
def test_the_ends_of_a_constant_are_the_right_way_round(name: str) -> None:
    low, expected, high = cuda_model.CONSTANTS[name][:3]
    assert low <= expected <= high or low >= expected >= high
    for job in GRID:
        times = [
            sum(cuda_model.call_parts(job.case, job.mode, constants).values())
            for constants in (cuda_model.constants() | {name: end} for end in (low, high))
        ]
        assert times[0] <= times[1] * (1 + 1e-12)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("precision", gpu_grid.PRECISIONS)
@pytest.mark.parametrize("cell", gpu_grid.GATES)
def test_plans_fit_the_chip(cell: str, precision: str, backward: bool) -> None:
    for hidden in (1, 8, 64, 65, 128, 200, 512, 513, 650, 1024, 1536, 2048, 4096):
        for batch in (1, 7, 16, 64, 1000):
            for bidirectional in (False, True):
                case = gpu_grid.build_case((10, batch, hidden), precision, bidirectional, cell=cell)
                where = cuda_model.plan(case, backward)
                block = where.block
                if where.strategy == "stepwise":
                    continue
                assert block.units * where.group >= hidden
                assert where.groups * where.group <= cuda_model.MULTIPROCESSORS
                rows = where.items * where.passes * block.rows
                assert rows >= batch * case.directions
                cluster = where.strategy == "cluster"
                assert not cluster or where.group <= 16
                kind = cuda_model.cell_of(case)
                used = block.shared_bytes(case.dtype.itemsize, where.passes, cluster, kind)
                assert used <= cuda_model.SHARED_BYTES


def test_what_does_not_fit_goes_stepwise() -> None:
    for case in (
        Case("", 1, 1, 8, 1536),
        Case("", 1, 1, 8, 4096, dtype=torch.float16),
        Case("", 1, 1, 8, 64, dtype=torch.float64),
        Case("", 1, 1, 8, 64, proj_size=32),
    ):
        assert cuda_model.plan(case, backward=False).strategy == "stepwise"


def test_ragged_rows_cost_less() -> None:
    case = gpu_grid.build_case((256, 128, 512), "float16", ragged="lengths")
    half = cuda_model.predict(case, "training", tokens=256 * 64)
    whole = cuda_model.predict(case, "training")
    assert half.expected < whole.expected
    assert half.parts["products"] == whole.parts["products"]


@pytest.mark.skipif(
    not seqfast.build_info().get("host_executor"),
    reason="the kernels' policy is in the build with the host executor (SEQFAST_CUDA=HOST)",
)
def test_the_model_goes_the_way_of_the_kernels() -> None:
    def clusters(blocks: int, shared_bytes: int) -> int:
        """As many as the executor's device holds, which has no gaps between clusters."""
        return cuda_model.MULTIPROCESSORS // blocks

    for job in ALL:
        kernels = gpu.strategies(job.case, job.mode, host=True)
        for backward, strategy in zip((False, True), kernels, strict=False):
            assert cuda_model.plan(job.case, backward, clusters).strategy == strategy, (
                str(job),
                backward,
            )


def test_the_page_is_what_the_model_says() -> None:
    written = cuda_model.PAGE.read_text(encoding="utf-8")
    assert written == cuda_model.page(), "run python -m benchmarks.cuda_model --write"
