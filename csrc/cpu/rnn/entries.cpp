// The recurrent operations: what is prepared before the kernels of the active instruction set.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "cpu/base/entry.h"
#include "cpu/rnn/rnn.h"
#include "cpu/rnn/table.h"

namespace seqfast::cpu {
namespace {

Kernels<RnnForwardKernels> forward_kernels() {
    static constexpr const RnnForwardKernels* tables[] = SEQFAST_TABLES(rnn_forward);
    return Kernels<RnnForwardKernels>(tables);
}
Kernels<RnnBackwardKernels> backward_kernels() {
    static constexpr const RnnBackwardKernels* tables[] = SEQFAST_TABLES(rnn_backward);
    return Kernels<RnnBackwardKernels>(tables);
}

size_t order_size(int64_t batch) {
    const size_t bytes = 2 * static_cast<size_t>(batch) * sizeof(int64_t);
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// What is kept from call to call begins with the instruction set that laid it out.
char* kept_by(void* memory) {
    char* const base = aligned(memory);
    int64_t isa;
    std::memcpy(&isa, base, sizeof(isa));
    if (isa != active_isa_index() + 1)
        throw std::invalid_argument(
            "rnn_forward: packed weights and states must be of the active instruction set (" +
            active_isa() + "): make them again");
    return base + kAlignment;
}
char* keep_in(void* memory) {
    char* const base = aligned(memory);
    const int64_t isa = active_isa_index() + 1;
    std::memcpy(base, &isa, sizeof(isa));
    return base + kAlignment;
}

template <class Args>
void prepare(Args& args) {
    use_huge_pages(args.workspace, args.workspace_size);
    args.sizes.threads = usable_threads(args.sizes.threads);
    char* base = aligned(args.workspace);
    args.order = {nullptr, nullptr};
    if (args.lengths) {
        const int64_t batch = args.sizes.batch;
        int64_t* row = reinterpret_cast<int64_t*>(base);
        int64_t* steps = row + batch;
        for (int64_t r = 0; r < batch; ++r) row[r] = r;
        std::sort(row, row + batch, [&](int64_t a, int64_t b) {
            return args.lengths[a] != args.lengths[b] ? args.lengths[a] > args.lengths[b] : a < b;
        });
        for (int64_t r = 0; r < batch; ++r) steps[r] = args.lengths[row[r]];
        args.order = {row, steps};
    }
    args.workspace = base + order_size(args.sizes.batch);
}

}  // namespace

size_t rnn_workspace_size(RnnForwardArgs args) {
    args.sizes.threads = usable_threads(args.sizes.threads);
    return kAlignment + order_size(args.sizes.batch) + forward_kernels()->workspace(args);
}

size_t rnn_workspace_size(RnnBackwardArgs args) {
    args.sizes.threads = usable_threads(args.sizes.threads);
    return kAlignment + order_size(args.sizes.batch) + backward_kernels()->workspace(args);
}

void rnn_forward(RnnForwardArgs args) {
    if (args.packed) args.packed = kept_by(const_cast<void*>(args.packed));
    if (args.state) args.state = args.resumes ? kept_by(args.state) : keep_in(args.state);
    prepare(args);
    const RnnSizes& sizes = args.sizes;
    const size_t rows = static_cast<size_t>(sizes.steps * sizes.batch * sizes.directions);
    const size_t units = rows * static_cast<size_t>(sizes.hidden_size);
    const size_t element = element_size(sizes.dtype);
    use_huge_pages(args.output, rows * static_cast<size_t>(sizes.output_size()) * element);
    use_huge_pages(args.cells, units * std::max<size_t>(element, 4));
    use_huge_pages(args.gates, static_cast<size_t>(saved_of(args.options.cell)) * units * element);
    forward_kernels()->run(args);
}

size_t rnn_packed_size(const RnnPackArgs& args) {
    return 2 * kAlignment + forward_kernels()->packed_size(args);
}

void rnn_pack(RnnPackArgs args) {
    args.workspace = keep_in(args.workspace);
    forward_kernels()->pack(args);
}

size_t rnn_state_size(const RnnForwardArgs& args) {
    return 2 * kAlignment + forward_kernels()->state_size(args);
}

void rnn_reset_state(RnnForwardArgs args, const int64_t* rows, int64_t count) {
    args.state = kept_by(args.state);
    forward_kernels()->reset_state(args, rows, count);
}

void rnn_backward(RnnBackwardArgs args) {
    prepare(args);
    const RnnSizes& sizes = args.sizes;
    const size_t element = element_size(sizes.dtype);
    const auto bytes = [&](int64_t rows, int64_t columns) {
        return static_cast<size_t>(rows * columns) * element;
    };
    const int64_t gates = gates_of(args.options.cell) * sizes.hidden_size;
    use_huge_pages(args.grad_input, bytes(sizes.steps * sizes.batch, sizes.input_size));
    for (const RnnWeightGradients& grads : args.grad_weights) {
        use_huge_pages(grads.weight_ih, bytes(gates, sizes.input_size));
        use_huge_pages(grads.weight_hh, bytes(gates, sizes.output_size()));
    }
    backward_kernels()->run(args);
}

}  // namespace seqfast::cpu
