// Beam search on a GPU: two launches a step, which read how far the search is from memory, and the
// walk back along its pointers.
#include "cuda/beam_search/beam_search.h"

#include <stdexcept>
#include <string>

#include "cuda/base/sizes.h"
#include "cuda/beam_search/merge.cuh"
#include "cuda/beam_search/scan.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

// Blocks of a multiprocessor that hide latency.
constexpr int64_t scan_blocks = 4;

void refuse(const char* what, int64_t limit, int64_t got) {
    throw std::invalid_argument(std::string("beam_step: ") + what + " must be at most " +
                                std::to_string(limit) + " on a GPU, got " + std::to_string(got));
}

struct Layout {
    BeamPlan plan;
    size_t bytes;
};

// What stands where in the workspace; counters, which are to be zero at first, in front.
Layout lay_out(const GpuPlace& place, const BeamStepArgs& args) {
    const BeamOptions& o = args.options;
    if (o.beams > kBeamMost) refuse("beams", kBeamMost, o.beams);
    const int64_t rows = args.batch * o.beams;
    const bool wide = args.dtype == DType::float64, any = o.eos_pool == EosPool::any;
    const int64_t real = wide ? sizeof(double) : sizeof(float);
    const int64_t key = wide ? sizeof(WideKey) : sizeof(uint64_t);
    BeamPlan plan{};
    plan.scale = 1 / o.temperature;
    plan.proposals = beam_proposals(o);
    if (plan.proposals > kBeamMostProposals)
        refuse("proposals of a row", kBeamMostProposals, plan.proposals);
    plan.width = plan.proposals + (any ? o.eos_count : 0);
    plan.tiles = parts_of(o.vocabulary, kBeamTile);
    const int64_t blocks = scan_blocks * device_properties(place.device).multiprocessors;
    // Each part has far more columns than it keeps.
    const int64_t worth = o.vocabulary / most(kBeamTile, 16 * plan.proposals);
    plan.splits = most(1, least(parts_of(blocks, most(rows, 1)), least(worth, plan.tiles)));
    const bool penalises = args.history != nullptr && o.repetition_penalty != 1;
    plan.late =
        (penalises ? least(o.vocabulary, args.history_capacity) : 0) + (any ? o.eos_count : 0);
    plan.edited = plan.late > 0 || o.min_length > 0 || o.no_repeat_ngram > 0 ||
                  o.banned_count > 0 || o.force_eos || o.noise || args.allowed != nullptr;
    Arena arena(args.workspace);
    plan.finished = arena.take<uint32_t>(1);  // these four are what beam_step_counter_bytes counts
    plan.bad_row = arena.take<uint64_t>(1);
    plan.arrived = arena.take<uint32_t>(rows);
    plan.late_counts = arena.take<uint32_t>(rows);
    plan.counts = arena.take<int32_t>(rows);
    plan.late_tokens = arena.take<uint32_t>(rows * plan.late);
    plan.sums = arena.take(rows * plan.tiles * kBeamWarps * 2 * real);
    plan.keys = arena.take(plan.splits > 1 ? rows * plan.splits * plan.proposals * key : 0);
    plan.totals = arena.take(rows * plan.width * real);
    plan.orders = arena.take(rows * plan.width * real);
    plan.logprobs = arena.take(rows * plan.width * real);
    plan.tokens = arena.take<int32_t>(rows * plan.width);
    return {plan, size_t(arena.used())};
}

LaunchShape shape_for(int64_t blocks, size_t shared) {
    return shape_of_blocks(blocks, kSelectionThreads, int64_t(shared));
}

template <class T>
void launch_step(const BeamParams& p, Stream stream) {
    using Real = typename RealOf<T>::type;
    const BeamOptions& o = p.args.options;
    const int64_t rows = p.args.batch * o.beams;
    if (rows > 0) {
        const LaunchShape shape = shape_for(rows * p.plan.splits, sizeof(ScanMemory<Real>));
        launch("beam_step: beam_scan_kernel",
               p.plan.edited ? beam_scan_kernel<T, true> : beam_scan_kernel<T, false>, shape,
               stream, p);
    }
    const int64_t groups = p.args.batch * (o.diversity != 0 ? 1 : o.groups);
    launch("beam_step: beam_merge_kernel", beam_merge_kernel<Real>,
           shape_for(groups, sizeof(MergeMemory<Real>)), stream, p);
}

// A thread walks back from the end of a hypothesis; it never reads or writes outside the arrays.
template <class Real>
SEQFAST_KERNEL(kSelectionThreads, 1)
beam_backtrack_kernel(SEQFAST_GRID_CONSTANT BeamBacktrackArgs args) {
    const int64_t all = args.sentences * args.hypotheses;
    const int64_t stride = int64_t(grid_x()) * kSelectionThreads;
    for (int64_t i = int64_t(block_x()) * kSelectionThreads + thread_index(); i < all;
         i += stride) {
        const int64_t sentence = i / args.hypotheses;
        int64_t* tokens = args.out_tokens + i * args.length;
        int64_t* parents = args.out_parents + i * args.length;
        Real* logprobs = reals<Real>(args.out_logprobs) + i * args.length;
        const int64_t last = args.last_steps[i];
        for (int64_t t = last < 0 ? 0 : last + 1; t < args.length; ++t) {
            tokens[t] = args.pad;
            parents[t] = -1;
            logprobs[t] = 0;
        }
        int64_t beam = args.last_parents[i];
        for (int64_t t = last < args.capacity ? last : -1; t >= 0; --t) {
            const int64_t at = (t * args.sentences + sentence) * args.beams + beam;
            const bool ends = t == last;
            const int64_t parent = ends ? beam : args.parents[at];
            if (parent < 0 || parent >= args.beams) break;
            if (t < args.length) {
                tokens[t] = ends ? args.last_tokens[i] : args.tokens[at];
                parents[t] = parent;
                logprobs[t] =
                    ends ? reals<Real>(args.last_logprobs)[i] : reals<Real>(args.logprobs)[at];
            }
            beam = parent;
        }
    }
}

}  // namespace

size_t beam_step_workspace_size(const GpuPlace& place, const BeamStepArgs& args) {
    const DeviceGuard guard(place.device);
    return lay_out(place, args).bytes;
}

void beam_step(const GpuPlace& place, const BeamStepArgs& args) {
    const DeviceGuard guard(place.device);
    const Layout layout = lay_out(place, args);
    if (layout.bytes > args.workspace_size)
        throw std::invalid_argument("beam_step: workspace must be " + std::to_string(layout.bytes) +
                                    " bytes, got " + std::to_string(args.workspace_size));
    const BeamParams p{args, layout.plan};
    with_type(args.dtype, [&](auto number) { launch_step<decltype(number)>(p, place.stream); });
}

void beam_backtrack(const GpuPlace& place, const BeamBacktrackArgs& args) {
    const DeviceGuard guard(place.device);
    const int64_t hypotheses = args.sentences * args.hypotheses;
    if (hypotheses == 0) return;
    launch("beam_backtrack: beam_backtrack_kernel",
           args.wide ? beam_backtrack_kernel<double> : beam_backtrack_kernel<float>,
           shape_for(parts_of(hypotheses, kSelectionThreads), 0), place.stream, args);
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
