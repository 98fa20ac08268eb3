"""Native kernels. Pointers are addresses (0: absent); nothing is checked here, see seqfast.ops."""

from typing import Any

def build_info() -> dict[str, Any]: ...
def set_cpu_isa(name: str) -> None: ...
def max_threads() -> int: ...
def lstm_workspace_size(
    backward: bool,
    dtype: int,
    steps: int,
    batch: int,
    input_size: int,
    hidden_size: int,
    proj_size: int,
    directions: int,
    threads: int,
) -> int: ...
def lstm_forward(
    dtype: int,
    steps: int,
    batch: int,
    input_size: int,
    hidden_size: int,
    proj_size: int,
    directions: int,
    threads: int,
    input: int,
    input_step_stride: int,
    input_row_stride: int,
    lengths: int,
    hidden: int,
    cell: int,
    weights: list[tuple[int, int, int, int, int]],
    output: int,
    hidden_n: int,
    cell_n: int,
    cells: int,
    gates: int,
    workspace: int,
    workspace_size: int,
) -> None: ...
def lstm_backward(
    dtype: int,
    steps: int,
    batch: int,
    input_size: int,
    hidden_size: int,
    proj_size: int,
    directions: int,
    threads: int,
    grad_output: int,
    grad_output_step_stride: int,
    grad_output_row_stride: int,
    grad_hidden_n: int,
    grad_cell_n: int,
    grad_cells: int,
    input: int,
    input_step_stride: int,
    input_row_stride: int,
    lengths: int,
    hidden: int,
    cell: int,
    weights: list[tuple[int, int, int, int, int]],
    output: int,
    cells: int,
    gates: int,
    grad_input: int,
    grad_hidden: int,
    grad_cell: int,
    grad_weights: list[tuple[int, int, int, int]],
    workspace: int,
    workspace_size: int,
) -> None: ...

# A CUDA call begins with (on_host, device, stream, tf32, way, dtype, steps, batch, hidden_size,
# proj_size, directions). way: 0 automatic, 1 stepwise, 2 cluster, 3 grid.
CudaCall = tuple[bool, int, int, bool, int, int, int, int, int, int, int]

def cuda_lstm_workspace_size(call: CudaCall, backward: bool) -> int: ...
def cuda_lstm_way(call: CudaCall, backward: bool) -> int: ...
def cuda_lstm_forward(
    call: CudaCall,
    lengths: int,
    order: int,
    hidden: int,
    cell: int,
    weights: list[tuple[int, int, int, int]],
    gates: int,
    save_gates: bool,
    output: int,
    hidden_n: int,
    cell_n: int,
    cells: int,
    workspace: int,
    workspace_size: int,
) -> None: ...
def cuda_lstm_backward(
    call: CudaCall,
    lengths: int,
    order: int,
    grad_output: int,
    grad_output_step_stride: int,
    grad_output_row_stride: int,
    grad_hidden_n: int,
    grad_cell_n: int,
    grad_cells: int,
    cell: int,
    weights: list[tuple[int, int, int, int]],
    cells: int,
    gates: int,
    grad_gates: int,
    grad_cell: int,
    grad_projected: int,
    unprojected: int,
    workspace: int,
    workspace_size: int,
) -> None: ...
def cuda_zero_padding(call: CudaCall, array: int, row_bytes: int, lengths: int) -> None: ...

# Only where build_info() says host_executor.
def host_executor_set_seed(seed: int) -> None: ...
def host_executor_set_device(
    multiprocessors: int, shared_bytes: int, architecture: int, max_cluster: int
) -> None: ...
def host_executor_statistics() -> dict[str, Any]: ...
