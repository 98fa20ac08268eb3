// Recurrences one launch a step, for what no chip can keep: any size, float64, projections, any
// architecture.
#include "cuda/rnn/backward_cell.cuh"
#include "cuda/rnn/forward_cell.cuh"
#include "cuda/rnn/stepwise.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

template <class Cell, class Product, class G>
SEQFAST_DEVICE void run_step(const typename Cell::Params& p, int next_chunks) {
    using Acc = typename Product::Acc;
    const StepBlock<Product, G> block(p.recurrence);
    Cell cell(p);
    cell.start(block.direction, block.layer_unit());
    Gates4<Acc> bias{}, peephole{};
    cell.load_weights(bias, peephole);
    block.for_each_row(
        [&](int64_t row) { cell.finish_empty(row); },
        [&](const StepPlace& place) {
            const Planes<Acc> state = block.planes(p.state, place);
            if (place.at.s == 0) cell.begin(place.at.row, place.at.length, state);
            typename Cell::Ahead ahead;
            cell.load(ahead, place.at);
            typename Cell::Sum sum{};
            if (block.r.staged) sum = Cell::template sum_of<G>(block.partial, place.n, block.unit);
            const auto result = cell.step(ahead, sum, {&bias, &peephole}, state, place.at);
            const auto sent = cell.advance(result, ahead, state);
            cell.write(result, place.at);
            store_sent(block.next(next_chunks, place, Cell::k_slots), cell.handed_on(result, sent));
        });
}

template <class Family, class Product, class G>
SEQFAST_KERNEL(256, 1)
rnn_forward_stepwise_kernel(SEQFAST_GRID_CONSTANT ForwardParams p, int next_chunks) {
    run_step<ForwardCell<Family, Product>, Product, G>(p, next_chunks);
}
template <class Family, class Product, class G>
SEQFAST_KERNEL(256, 1)
rnn_backward_stepwise_kernel(SEQFAST_GRID_CONSTANT BackwardParams p, int next_chunks) {
    run_step<BackwardCell<Family, Product>, Product, G>(p, next_chunks);
}

}  // namespace

void launch_stepwise_forward(DType dtype, const ForwardParams& params, int next_chunks,
                             Stream stream) {
    StepFamilies::with_family(params.variant.kind, true, [&](auto family) {
        using Family = decltype(family);
        const auto kernel_of = [](auto product, auto geometry) {
            return rnn_forward_stepwise_kernel<Family, decltype(product), decltype(geometry)>;
        };
        launch_step<Family::slots>("rnn_forward: rnn_forward_stepwise_kernel", dtype, kernel_of,
                                   params, next_chunks, stream);
    });
}

void launch_stepwise_backward(DType dtype, const BackwardParams& params, int next_chunks,
                              Stream stream) {
    StepFamilies::with_family(params.variant.kind, true, [&](auto family) {
        using Family = decltype(family);
        const auto kernel_of = [](auto product, auto geometry) {
            return rnn_backward_stepwise_kernel<Family, decltype(product), decltype(geometry)>;
        };
        launch_step<1>("rnn_backward: rnn_backward_stepwise_kernel", dtype, kernel_of, params,
                       next_chunks, stream);
    });
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
