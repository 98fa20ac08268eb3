// Entries of the recurrent operations: the plan of a call, and the launches that follow from it.
#include "cuda/rnn/rnn.h"

#include <stdexcept>
#include <string>
#include <type_traits>

#include "cuda/rnn/policy.h"
#include "cuda/rnn/steps.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

std::string name_of(CellKind kind, bool backward) {
    return std::string(traits_of(kind).operation) + (backward ? "_backward" : "_forward");
}

void check_sizes(const char* operation, const RnnSizes& sizes) {
    const int64_t most = int64_t(1) << 30;
    const auto check_one = [&](const char* name, int64_t size) {
        if (size >= most)
            throw std::runtime_error(std::string(operation) + ": " + name +
                                     " must be less than 2**30 on a GPU, got " +
                                     std::to_string(size));
    };
    check_one("steps", sizes.steps);
    check_one("batch", sizes.batch);
    check_one("5 * hidden_size * directions", 5 * sizes.hidden_size * sizes.directions);
}

Plan plan_of(const GpuCall& call, const RnnSizes& sizes, const RnnOptions& options, bool backward) {
    const std::string operation = name_of(options.cell, backward);
    check_sizes(operation.c_str(), sizes);
    if (options.layer_norm && (sizes.proj_size || traits_of(options.cell).has_second_product))
        throw std::runtime_error(operation +
                                 ": layer normalisation does not go with a projection or a reset "
                                 "gate before the product");
    Plan plan = Policy::choose(call, sizes, options, backward);
    if (!plan.refused.empty())
        throw std::runtime_error(operation + ": strategy must be one the layer fits, got " +
                                 (call.strategy == RnnStrategy::cluster ? "cluster: " : "grid: ") +
                                 plan.refused);
    return plan;
}

template <class Args, class Params>
void run_sequence(const Args& args, Params params, const Plan& plan, const PersistentWorkspace& w,
                  Stream stream) {
    constexpr bool backward = std::is_same_v<Params, BackwardParams>;
    RecurrenceParams& r = params.recurrence;
    r.chunks = plan.shape.chunks;
    r.exchange = w.exchange;
    r.group = plan.group;
    r.groups = plan.groups;
    r.slabs = plan.slabs;
    r.items = plan.items;
    r.layout = plan.layout;
    for (int64_t d = 0; d < args.sizes.directions; ++d) {
        r.packed[d] = w.packed[d];
        pack_recurrent(args.sizes, args.options.cell, args.weights[d], backward, w.packed[d],
                       w.m_tiles, r.chunks, stream);
    }
    if (!backward && args.hidden) {
        stage_rows(args.sizes, r.rows, params.variant, args.hidden, w.staged, r.slabs, r.chunks,
                   w.rows, stream);
        r.staged = w.staged;
    }
    if (w.exchange_bytes) fill_zero(w.exchange, size_t(w.exchange_bytes), stream);
    with_sequence_family(args.call, args.options, [&](auto family) {
        persistent_pass_of<decltype(family), Params>().run(plan.shape, plan.launch, params, stream);
    });
}

// steps, batch and hidden_size are not 0.
template <class Args>
void run(const Args& args) {
    constexpr bool backward = std::is_same_v<Args, RnnRecurrenceBackwardArgs>;
    const DeviceGuard guard(args.call.device);
    const Plan plan = plan_of(args.call, args.sizes, args.options, backward);
    const std::string operation = name_of(args.options.cell, backward);
    Arena arena(args.workspace);
    if (plan.strategy == RnnStrategy::stepwise) {
        const StepwiseWorkspace w(arena, args.sizes, args.options, backward);
        check_workspace(operation.c_str(), arena, args.workspace_size);
        run_steps(args, params_of(args), w, args.call.stream);
    } else {
        const PersistentWorkspace w(arena, plan, args.sizes, args.options, backward);
        check_workspace(operation.c_str(), arena, args.workspace_size);
        run_sequence(args, params_of(args), plan, w, args.call.stream);
    }
}

bool is_empty(const RnnSizes& sizes) { return sizes.steps * sizes.batch * sizes.hidden_size == 0; }

}  // namespace

size_t rnn_workspace_size(const GpuCall& call, const RnnSizes& sizes, const RnnOptions& options,
                          bool backward) {
    if (is_empty(sizes)) return 0;
    const DeviceGuard guard(call.device);
    return workspace_size(plan_of(call, sizes, options, backward), sizes, options, backward);
}

RnnStrategy rnn_strategy(const GpuCall& call, const RnnSizes& sizes, const RnnOptions& options,
                         bool backward) {
    const DeviceGuard guard(call.device);
    return plan_of(call, sizes, options, backward).strategy;
}

RnnGroups rnn_groups(const GpuCall& call, const RnnSizes& sizes, const RnnOptions& options,
                     bool backward) {
    const DeviceGuard guard(call.device);
    const Plan plan = plan_of(call, sizes, options, backward);
    return {plan.group, plan.groups};
}

void rnn_forward(const RnnRecurrenceForwardArgs& args) {
    if (!is_empty(args.sizes)) run(args);
}

void rnn_backward(const RnnRecurrenceBackwardArgs& args) {
    if (!is_empty(args.sizes)) run(args);
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
