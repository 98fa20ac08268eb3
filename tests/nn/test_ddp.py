"""Two processes under DistributedDataParallel (gloo) train as one process on the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import seqfast.nn  # noqa: F401 - LAYERS

WORKER = """
    import sys
    import torch
    import torch.distributed as dist
    import seqfast.nn

    rank, folder = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    layers = eval(sys.argv[3])
    data = torch.load(f"{folder}/data.pt")
    for k, layer in enumerate(layers):
        torch.manual_seed(1)
        model = torch.nn.parallel.DistributedDataParallel(layer)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for x in data:
            output, state = model(x[:, 2 * rank : 2 * rank + 2])
            optimizer.zero_grad()
            (output.pow(2).mean() + state[-1].pow(2).mean()).backward()
            optimizer.step()
        torch.save(layer.state_dict(), f"{folder}/{rank}-{k}.pt")
    dist.destroy_process_group()
"""

# Masks of weights are the same for all rows, so both processes, of one seed, have those of one.
LAYERS = """[
    seqfast.nn.LSTM(4, 5, 2, bidirectional=True),
    seqfast.nn.GRU(4, 5, 2, weight_dropout=0.4, layer_norm=True, highway=True),
    seqfast.nn.RNN(4, (5, 3), feedback="output", output_size=2, dense=True),
    seqfast.nn.LSTM(4, 5, weight_dropout=0.4, peephole=True, coupled_gates=True),
]"""


@pytest.mark.alone
@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo",
)
def test_two_processes_train(tmp_path: Path) -> None:
    data = torch.randn(4, 6, 4, 4)
    torch.save(data, tmp_path / "data.pt")
    environment = dict(os.environ)
    if sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WORKER), str(rank), str(tmp_path), LAYERS],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [worker.communicate(timeout=120)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], errors

    torch.manual_seed(0)
    for k, model in enumerate(eval(LAYERS)):
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for x in data:
            output, state = model(x)
            optimizer.zero_grad()
            (output.pow(2).mean() + state[-1].pow(2).mean()).backward()
            optimizer.step()
        for rank in range(2):
            found = torch.load(tmp_path / f"{rank}-{k}.pt")
            torch.testing.assert_close(found, dict(model.state_dict()), rtol=1e-4, atol=1e-6)
