"""Native kernels. Pointers are addresses (0: absent); nothing is checked here, see seqfast.ops."""

from typing import Any

from numpy.typing import NDArray

def build_info() -> dict[str, Any]: ...
def set_cpu_isa(name: str) -> None: ...
def max_threads() -> int: ...

# (dtype, steps, batch, input_size, hidden_size, proj_size, directions, threads)
Sizes = tuple[int, int, int, int, int, int, int, int]
# (cell, coupled, activation, output_activation, layer_norm, gate_clip, cell_clip, zoneout_hidden,
# zoneout_cell, dropout_hidden, dropout_update, seed, layer); seed: an address, 0 for evaluation.
RnnOptions = tuple[Any, ...]
# Per direction ten addresses, in the order of RnnWeights in csrc/core/rnn.h.
RnnWeights = list[tuple[int, ...]]

def rnn_workspace_size(
    backward: bool, sizes: Sizes, options: RnnOptions, weights: RnnWeights
) -> int: ...
def rnn_forward(
    sizes: Sizes,
    options: RnnOptions,
    input: int,
    input_step_stride: int,
    input_row_stride: int,
    lengths: int,
    reset: int,
    hidden: int,
    cell: int,
    weights: RnnWeights,
    output: int,
    hidden_n: int,
    cell_n: int,
    cells: int,
    gates: int,
    statistics: int,
    workspace: int,
    workspace_size: int,
) -> None: ...
def rnn_backward(
    sizes: Sizes,
    options: RnnOptions,
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
    reset: int,
    hidden: int,
    cell: int,
    weights: RnnWeights,
    output: int,
    cells: int,
    gates: int,
    statistics: int,
    grad_input: int,
    grad_hidden: int,
    grad_cell: int,
    grad_weights: RnnWeights,
    workspace: int,
    workspace_size: int,
) -> None: ...

# All three sizes are of a contiguous array; input and output may be one.
def dropout(
    dtype: int,
    steps: int,
    rows: int,
    units: int,
    input: int,
    output: int,
    probability: float,
    seed: int,
    stream: int,
    per_step: bool,
    threads: int,
) -> None: ...

# A CUDA call begins with (on_host, device, stream, tf32, way, dtype, steps, batch, hidden_size,
# proj_size, directions, extras). way: 0 automatic, 1 stepwise, 2 cluster, 3 grid; extras: whether
# there are peephole weights or resets.
CudaCall = tuple[bool, int, int, bool, int, int, int, int, int, int, int, bool]

def cuda_rnn_workspace_size(call: CudaCall, options: RnnOptions, backward: bool) -> int: ...
def cuda_rnn_strategy(call: CudaCall, options: RnnOptions, backward: bool) -> int: ...
def cuda_rnn_forward(
    call: CudaCall,
    options: RnnOptions,
    lengths: int,
    order: int,
    reset: int,
    hidden: int,
    cell: int,
    weights: RnnWeights,
    product: int,
    output: int,
    hidden_n: int,
    cell_n: int,
    cells: int,
    gates: int,
    statistics: int,
    workspace: int,
    workspace_size: int,
) -> None: ...
def cuda_rnn_backward(
    call: CudaCall,
    options: RnnOptions,
    lengths: int,
    order: int,
    reset: int,
    grad_output: int,
    grad_output_step_stride: int,
    grad_output_row_stride: int,
    grad_hidden_n: int,
    grad_cell_n: int,
    grad_cells: int,
    hidden: int,
    cell: int,
    weights: RnnWeights,
    output: int,
    cells: int,
    gates: int,
    statistics: int,
    grad_gates: int,
    grad_product: int,
    grad_peephole: int,
    grad_norm_cell: int,
    grad_hidden: int,
    grad_cell: int,
    grad_projected: int,
    unprojected: int,
    workspace: int,
    workspace_size: int,
) -> None: ...
def cuda_dropout(
    on_host: bool,
    device: int,
    gpu_stream: int,
    dtype: int,
    steps: int,
    rows: int,
    units: int,
    input: int,
    output: int,
    probability: float,
    seed: int,
    stream: int,
    per_step: bool,
) -> None: ...
def cuda_zero_padding(call: CudaCall, array: int, row_bytes: int, lengths: int) -> None: ...

# Words of a text; max_types 0: no limit. See seqfast/ops/corpus.py.
class WordReader:
    def __init__(
        self, known: list[bytes], frozen: bool, max_types: int, threads: int, part_bytes: int
    ) -> None: ...
    def space(self, size: int) -> memoryview: ...
    def feed(self, size: int) -> None: ...
    def end(self) -> None: ...
    @property
    def full(self) -> bool: ...
    @property
    def unread(self) -> int: ...
    @property
    def raw_words(self) -> int: ...
    @property
    def raw_sentences(self) -> int: ...
    @property
    def invalid_bytes(self) -> int: ...
    @property
    def pending(self) -> int: ...
    @property
    def types(self) -> int: ...
    def counts(self) -> NDArray[Any]: ...
    def words(self, numbers: NDArray[Any]) -> list[str]: ...
    def prune(self, keep: int) -> None: ...
    def take(self) -> NDArray[Any]: ...
    def renumber(self, ids: int, size: int, numbers: int) -> int: ...
    def offsets(self) -> NDArray[Any]: ...

def fingerprint(data: int, bytes: int) -> int: ...

# Word vectors: a dict with the fields of Word2VecArgs in csrc/core/word2vec.h.
def word2vec_workspace_size(args: dict[str, Any]) -> int: ...
def word2vec_train(args: dict[str, Any]) -> None: ...
def word2vec_first_vectors(
    rows: int, size: int, stride: int, first_row: int, seed: int, vectors: int, threads: int
) -> None: ...
def cuda_word2vec_workspace_size(
    on_host: bool, device: int, stream: int, args: dict[str, Any]
) -> int: ...
def cuda_word2vec_train(on_host: bool, device: int, stream: int, args: dict[str, Any]) -> None: ...

# Made of a dict with the names of BeamStepArgs and BeamOptions in csrc/core/beam_search.h.
class BeamStepCall:
    def __init__(self, arguments: dict[str, Any]) -> None: ...
    def workspace_size(self) -> int: ...
    def set_workspace(self, workspace: int, size: int) -> None: ...
    def step(
        self,
        dtype: int,
        logits: int,
        logits_stride: int,
        allowed: int,
        allowed_stride: int,
        threads: int,
    ) -> int: ...
    def cuda_workspace_size(self, on_host: bool, device: int) -> tuple[int, int]: ...
    def cuda_step(
        self,
        on_host: bool,
        device: int,
        stream: int,
        dtype: int,
        logits: int,
        logits_stride: int,
        allowed: int,
        allowed_stride: int,
    ) -> None: ...

# A dict with the names of BeamBacktrackArgs.
def beam_backtrack(arguments: dict[str, Any]) -> None: ...
def cuda_beam_backtrack(
    on_host: bool, device: int, stream: int, arguments: dict[str, Any]
) -> None: ...

# sizes, layers and arrays: read_args in csrc/bindings/decoder.cpp names their items.
def decoder_workspace_size(
    sizes: tuple[int, ...], layers: list[tuple[int, ...]], arrays: tuple[int, ...]
) -> int: ...
def decoder_start(
    sizes: tuple[int, ...],
    layers: list[tuple[int, ...]],
    arrays: tuple[int, ...],
    workspace: int,
    workspace_size: int,
) -> None: ...
def decoder_run(
    sizes: tuple[int, ...],
    layers: list[tuple[int, ...]],
    arrays: tuple[int, ...],
    workspace: int,
    workspace_size: int,
    beams: BeamStepCall,
    seconds: float,
) -> int: ...
def use_huge_pages(array: int, bytes: int) -> None: ...
def top_k_workspace_size(rows: int, columns: int, k: int, excluded: int, threads: int) -> int: ...
def top_k(
    rows: int,
    columns: int,
    k: int,
    excluded: int,
    row_stride: int,
    scores: int,
    exclude: int,
    values: int,
    indices: int,
    workspace: int,
    threads: int,
) -> None: ...
def cuda_top_k(
    on_host: bool,
    device: int,
    stream: int,
    rows: int,
    columns: int,
    k: int,
    excluded: int,
    row_stride: int,
    scores: int,
    exclude: int,
    values: int,
    indices: int,
    workspace: int,
    parts: int,
) -> None: ...

# CTC decoding: dicts with the fields of CtcInput and CtcGreedyArgs or CtcBeamArgs in
# csrc/core/ctc.h.
def ctc_greedy_workspace_size(args: dict[str, Any]) -> int: ...
def ctc_greedy(args: dict[str, Any]) -> None: ...
def ctc_beam_search_workspace_size(args: dict[str, Any]) -> int: ...
def ctc_beam_search(args: dict[str, Any]) -> None: ...
def cuda_ctc_beam_search_workspace_size(
    on_host: bool, device: int, stream: int, args: dict[str, Any]
) -> int: ...
def cuda_ctc_beam_search(on_host: bool, device: int, stream: int, args: dict[str, Any]) -> None: ...

# Only where build_info() says host_executor.
def host_executor_set_seed(seed: int) -> None: ...
def host_executor_set_device(
    multiprocessors: int, shared_bytes: int, architecture: int, max_cluster: int
) -> None: ...
def host_executor_statistics() -> dict[str, Any]: ...
