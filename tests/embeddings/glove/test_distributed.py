"""Two processes (gloo) train one GloVe, stay in step, and end about where one process does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this torch has no gloo", allow_module_level=True)

from seqfast import GloVe  # noqa: E402

from .. import planted  # noqa: E402

OPTIONS: dict[str, Any] = {
    "vector_size": 8, "window": 5, "min_count": 1, "x_max": 20, "epochs": 10, "workers": 1,
    "progress": False,
}  # fmt: skip
# Each process is told of the other as torchrun would tell it.
WORKER = """
    import sys
    import torch
    from pathlib import Path

    sys.path.insert(0, sys.argv[2])
    from embeddings import planted
    from embeddings.glove.test_distributed import OPTIONS
    from seqfast import GloVe

    torch.set_num_threads(1)
    model = GloVe(planted.sentences(), **OPTIONS, distributed=True)
    model.save(Path(sys.argv[1]) / f"model-{torch.distributed.get_rank()}")
"""


@pytest.mark.alone
def test_two_processes(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    common |= {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":
        common["GLOO_SOCKET_IFNAME"] = "lo"
    workers = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(WORKER),
                str(tmp_path),
                str(Path(__file__).parents[2]),
            ],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [worker.communicate(timeout=150)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], errors
    one, other = (GloVe.load(tmp_path / f"model-{rank}") for rank in range(2))
    for name, matrix in one.state.matrices.items():
        np.testing.assert_array_equal(matrix, other.state.matrices[name])
    assert one.loss_per_epoch == other.loss_per_epoch
    alone = GloVe(planted.sentences(), **OPTIONS)
    assert one.loss_per_epoch[-1] < 0.3 * one.loss_per_epoch[0]
    assert one.loss_per_epoch[-1] < 2 * alone.loss_per_epoch[-1]
