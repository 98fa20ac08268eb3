"""What only a GPU has: streams, graphs, other devices, a host that must not wait, and cuDNN."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from support.cases import TOLERANCE, Backend, no_synchronisation
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import seqfast.nn
from seqfast import ops

from .test_options import EVERYTHING


def train(layer: Any, x: Tensor, *args: Any, **options: Any) -> list[Tensor]:
    """Results and gradients of one pass forward and backward."""
    layer.zero_grad(set_to_none=True)
    leaf = x.detach().requires_grad_()
    output, states = layer(leaf, *args, **options)
    states = states if isinstance(states, tuple) else (states,)
    loss = output.float().pow(2).sum() + states[0].float().sum() + states[-1].float().sin().sum()
    loss.backward()
    return [output, *states, leaf.grad, *(p.grad for p in layer.parameters())]


def assert_same(found: list[Tensor], wanted: list[Tensor]) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def assert_near(found: list[Tensor], wanted: list[Tensor], dtype: torch.dtype) -> None:
    bounds = TOLERANCE[str(dtype).removeprefix("torch.")]
    for one, other in zip(found, wanted, strict=True):
        scale = 2 * max(1.0, other.abs().max().item())  # both are rounded
        torch.testing.assert_close(
            one.double(), other.double(), rtol=bounds["rtol"], atol=bounds["atol"] * scale
        )


def busy() -> None:
    """Keeps the current stream busy for some tenths of a second."""
    torch.cuda._sleep(500_000_000)


# Streams.


def test_waits_for_nothing_and_runs_on_the_current_stream(gpu: Backend) -> None:
    layer = seqfast.nn.LSTM(8, 64, 2, bidirectional=True)
    x, lengths = torch.randn(20, 4, 8), torch.tensor([20, 3, 0, 11])
    wanted = train(layer, x, lengths=lengths)
    late = torch.zeros_like(x)
    stream, end = torch.cuda.Stream(), torch.cuda.Event()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        train(layer, x, lengths=lengths)  # what is made once per stream is made now
        busy()
        late.copy_(x)
        found = train(layer, late, lengths=lengths)
        end.record()
    assert not end.query()  # all is issued, and the stream still sleeps
    torch.cuda.synchronize()
    assert_same(found, wanted)


def test_backward_runs_where_forward_ran(gpu: Backend) -> None:
    layer = seqfast.nn.LSTM(8, 64)
    x = torch.randn(20, 4, 8)
    wanted = train(layer, x)[4:]
    layer.zero_grad(set_to_none=True)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        output, (h_n, c_n) = layer(x)
        busy()
        loss = output.pow(2).sum() + h_n.sum() + c_n.sin().sum()
    loss.backward()  # from the default stream, and from torch's thread
    torch.cuda.synchronize()
    assert_same([p.grad for p in layer.parameters()], wanted)


def test_threads_with_streams_of_their_own(gpu: Backend) -> None:
    layer = seqfast.nn.LSTM(8, 70)
    x = torch.randn(50, 9, 8)
    with torch.no_grad():
        wanted = layer(x)[0]
    torch.cuda.synchronize()
    wrong: list[BaseException] = []

    def work() -> None:
        try:
            with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
                for _ in range(20):
                    found = layer(x)[0]
                    torch.cuda.current_stream().synchronize()
                    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("options", [{}, {"proj_size": 9}, {"bidirectional": True}], ids=str)
def test_no_synchronisation(gpu: Backend, options: dict[str, Any], dtype: torch.dtype) -> None:
    layer = seqfast.nn.LSTM(8, 70, 2, dropout=0.3, **options).to(dtype)
    x = torch.randn(12, 5, 8, dtype=dtype)
    on_gpu = torch.tensor([12, 0, 7, 1, 3], dtype=torch.int32)
    on_cpu = torch.tensor([12, 0, 7, 1, 3], device="cpu")
    with no_synchronisation():
        train(layer, x)
        train(layer, x, lengths=on_gpu)
        train(layer, x, lengths=on_cpu)
        with torch.autocast("cuda", torch.float16):
            train(layer.float(), x.float(), lengths=on_gpu)


@pytest.mark.parametrize("kind", EVERYTHING)
def test_masks_without_synchronisation(gpu: Backend, kind: str) -> None:
    layer = getattr(seqfast.nn, kind)(8, 70, **EVERYTHING[kind])
    x, lengths = torch.randn(12, 5, 8), torch.tensor([12, 0, 7, 1, 3])
    mask, reset = torch.rand(12, 5) > 0.3, torch.rand(12, 5) > 0.8
    with no_synchronisation():
        output, _ = layer(x, lengths=lengths, mask=mask, reset=reset)
        output.sum().backward()


@pytest.mark.parametrize("kind", EVERYTHING)
def test_same_masks_as_on_the_cpu(gpu: Backend, kind: str) -> None:
    layer = getattr(seqfast.nn, kind)(8, 70, **EVERYTHING[kind])
    x, mask = torch.randn(12, 5, 8), torch.rand(12, 5) > 0.3
    found = []
    for device in ("cuda", "cpu"):
        torch.manual_seed(7)
        layer.zero_grad()
        output, _ = layer.to(device)(x.to(device), mask=mask.to(device))
        output.sum().backward()
        found.append([output.cpu(), *(p.grad.cpu() for p in layer.parameters())])
    assert_near(*found, torch.float32)


def test_pinned_lengths_may_change_after_the_call(gpu: Backend) -> None:
    layer = seqfast.nn.LSTM(8, 70)
    x = torch.randn(12, 5, 8)
    lengths = torch.tensor([12, 0, 7, 1, 3], device="cpu")
    with torch.no_grad():
        wanted = layer(x, lengths=lengths)[0]
        pinned = lengths.pin_memory()
        busy()
        found = layer(x, lengths=pinned)[0]
        pinned.zero_()
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_no_synchronisation_for_packed_input(gpu: Backend) -> None:
    layer = seqfast.nn.LSTM(8, 70, 2, bidirectional=True)
    packed = pack_padded_sequence(torch.randn(12, 4, 8), [12, 7, 3, 1])
    with no_synchronisation():
        output, _ = layer(packed)
        output.data.sum().backward()


def test_nothing_is_left_behind(gpu: Backend) -> None:
    layer = seqfast.nn.LSTM(8, 70, 2, bidirectional=True)
    x, lengths = torch.randn(12, 5, 8), torch.tensor([12, 0, 7, 1, 3])
    train(layer, x, lengths=lengths)
    before = torch.cuda.memory_allocated()
    for _ in range(5):
        train(layer, x, lengths=lengths)
    assert torch.cuda.memory_allocated() == before


# Graphs.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("hidden_size", [40, 200])
@pytest.mark.parametrize("ragged", [False, True])
def test_cuda_graph(gpu: Backend, ragged: bool, hidden_size: int, dtype: torch.dtype) -> None:
    layer = seqfast.nn.LSTM(16, hidden_size, 2, bidirectional=True).to(dtype)
    x = torch.randn(10, 6, 16, dtype=dtype)
    lengths = torch.tensor([10, 1, 0, 7, 7, 3]) if ragged else None
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            train(layer, x, lengths=lengths)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    layer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        captured = train(layer, x, lengths=lengths)
    for seed in range(3):
        torch.manual_seed(seed)
        x.copy_(torch.randn_like(x))
        if lengths is not None:
            lengths.copy_(torch.randint(0, 11, (6,)))
        graph.replay()
        found = [tensor.clone() for tensor in captured]
        assert_near(found, train(layer, x, lengths=lengths), dtype)


# Devices.


def test_lengths_on_the_gpu_are_clamped_and_on_the_cpu_checked(gpu: Backend) -> None:
    layer = seqfast.nn.LSTM(4, 5, bidirectional=True)
    x = torch.randn(6, 3, 4)
    wanted = train(layer, x, lengths=torch.tensor([6, 0, 2], device="cpu"))
    assert_same(train(layer, x, lengths=torch.tensor([99, -3, 2])), wanted)
    with pytest.raises(ValueError, match="lengths must be from 0 to 6, got 99"):
        layer(x, lengths=torch.tensor([99, 1, 2], device="cpu"))


@pytest.mark.parametrize("position", [1, 2, 3, 4])
def test_arguments_on_two_devices(gpu: Backend, position: int) -> None:
    names = {1: "hidden", 2: "cell", 3: "weight_hh"}
    arguments: list[Any] = [
        torch.zeros(2, 3, 4),
        torch.zeros(1, 3, 5),
        torch.zeros(1, 3, 5),
        [(torch.zeros(20, 4), torch.zeros(20, 5), None, None, None)],
    ]
    if position in (1, 2):
        arguments[position] = arguments[position].cpu()
    elif position == 3:
        ih, hh, *rest = arguments[3][0]
        arguments[3] = [(ih, hh.cpu(), *rest)]
    else:
        arguments[0] = arguments[0].cpu()
    if position == 4:
        message = "weight_ih must be a dense array on the CPU, got cuda:0"
        arguments[1:3] = None, None
    else:
        message = f"{names[position]} must be a dense array on cuda:0, as input is, got cpu"
    with pytest.raises(ValueError, match=f"lstm: {message}"):
        ops.rnn.lstm_forward(*arguments)


def test_module_and_input_on_two_devices(gpu: Backend) -> None:
    layer = seqfast.nn.LSTM(4, 5)
    x, state = torch.zeros(2, 3, 4), torch.zeros(1, 3, 5)
    with pytest.raises(RuntimeError, match=r"LSTM: Input and parameter .* not at the same device"):
        layer(x.cpu())
    with pytest.raises(
        RuntimeError, match=r"LSTM: Input and hidden\[0\] .* not at the same device"
    ):
        layer(x, (state.cpu(), state))


def test_module_moves(gpu: Backend) -> None:
    layer = seqfast.nn.LSTM(4, 5, 2, device="cpu")
    x = torch.randn(6, 3, 4, device="cpu")
    wanted = train(layer, x)
    found = train(layer.cuda(), x.cuda())
    assert_near([tensor.cpu() for tensor in found], wanted, torch.float32)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_second_device(gpu: Backend, dtype: torch.dtype) -> None:
    layer = seqfast.nn.LSTM(8, 70, 2, bidirectional=True).to(dtype)
    x, lengths = torch.randn(12, 5, 8, dtype=dtype), torch.tensor([12, 0, 7, 1, 3])
    wanted = [tensor.cpu() for tensor in train(layer, x, lengths=lengths)]
    layer.to("cuda:1")
    found = train(layer, x.to("cuda:1"), lengths=lengths.to("cuda:1"))
    assert torch.cuda.current_device() == 0
    assert {tensor.device.index for tensor in found} == {1}
    assert_near([tensor.cpu() for tensor in found], wanted, dtype)
    with pytest.raises(ValueError, match="on cuda:1, as input is, got cuda:0"):
        layer(x.to("cuda:1"), lengths=lengths)


# Beside cuDNN.


@contextmanager
def cudnn() -> Iterator[None]:
    before = torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32 = True, False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("hidden_size", [40, 200, 768, 1100])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_same_as_cudnn(
    gpu: Backend, kind: str, options: dict[str, Any], hidden_size: int, dtype: torch.dtype
) -> None:
    theirs = getattr(nn, kind)(32, hidden_size, **options).to(dtype)
    ours = getattr(seqfast.nn, kind)(32, hidden_size, **options).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(33, 20, 32).to(dtype)
    with cudnn():
        wanted = train(theirs, x)
    assert_near(train(ours, x), wanted, dtype)


def test_accelerated_model_trains_as_cudnn(gpu: Backend) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(8, 96, 2, batch_first=True)
            self.head = nn.Linear(96, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0])

    def losses(model: nn.Module) -> list[float]:
        torch.manual_seed(0)
        optimizer = torch.optim.Adam(model.parameters(), 0.005)
        found = []
        for _ in range(30):
            x = torch.randn(16, 20, 8)
            loss = (model(x) - x.sum(-1, keepdim=True).cumsum(1).tanh()).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    torch.manual_seed(1)
    model = Model()
    torch.manual_seed(1)
    fast = seqfast.accelerate(Model())
    with cudnn():
        wanted = losses(model)
    found = losses(fast)
    assert found[-1] < 0.7 * found[0]
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=1e-3)


# Training with scaled gradients, and on several GPUs.


def test_grad_scaler(gpu: Backend) -> None:
    layer, head = seqfast.nn.LSTM(8, 96, 2), nn.Linear(96, 1)
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, 0.005)
    # So large that the first gradients overflow.
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
    losses = []
    for _ in range(80):
        x = torch.randn(20, 16, 8)
        with torch.autocast("cuda", torch.float16):
            found = head(layer(x)[0])
        loss = (found.float() - x.sum(-1, keepdim=True).cumsum(0).tanh()).pow(2).mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert scaler.get_scale() < 2.0**40
    assert all(parameter.isfinite().all() for parameter in parameters)
    assert losses[-1] < 0.7 * losses[0]


WORKER = """
    import sys
    import torch
    import torch.distributed as dist
    import seqfast.nn

    rank, folder = int(sys.argv[1]), sys.argv[2]
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    layer = seqfast.nn.LSTM(4, 70, 2, bidirectional=True).cuda()
    model = torch.nn.parallel.DistributedDataParallel(layer, device_ids=[rank])
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for x in torch.load(f"{folder}/data.pt"):
        output, (h_n, c_n) = model(x[:, 2 * rank : 2 * rank + 2].cuda())
        optimizer.zero_grad()
        (output.pow(2).mean() + c_n.pow(2).mean()).backward()
        optimizer.step()
    torch.save({name: p.cpu() for name, p in layer.state_dict().items()}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
"""


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_nccl_available()),
    reason="this torch has no NCCL",
)
def test_two_gpus_train_as_one(gpu: Backend, tmp_path: Path) -> None:
    data = torch.randn(4, 6, 4, 4, device="cpu")
    torch.save(data, tmp_path / "data.pt")
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WORKER), str(rank), str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [worker.communicate(timeout=180)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], errors

    torch.manual_seed(0)
    layer = seqfast.nn.LSTM(4, 70, 2, bidirectional=True, device="cpu").cuda()
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    for x in data.cuda():
        output, (_, c_n) = layer(x)
        optimizer.zero_grad()
        (output.pow(2).mean() + c_n.pow(2).mean()).backward()
        optimizer.step()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", map_location="cpu")
        wanted = {name: p.cpu() for name, p in layer.state_dict().items()}
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
