// Beam search by the kernels of one instruction set.
#include "cpu/beam_search/step.h"

#include "cpu/base/storage.h"
#include "cpu/base/team.h"
#include "cpu/beam_search/table.h"

namespace seqfast::cpu::SEQFAST_ISA {
namespace {

size_t step_workspace(const BeamStepArgs& args) {
    return with_storage(args.dtype,
                        [&](auto storage) { return BeamStep<decltype(storage)>::workspace(args); });
}

// Who works alone waits for nobody.
struct NoBarrier {
    void wait() {}
};

template <class Storage>
void run_step(const BeamStepArgs& args) {
    // Threads that the runtime does not grant leave their work to this one.
    const auto alone = [&] {
        BeamStep<Storage> step(args, 1);
        NoBarrier none;
        if (!step.begin()) return;
        step.work(0, none);
        step.finish();
    };
    if (args.threads == 1) return alone();
    BeamStep<Storage> step(args, args.threads);
    if (!step.begin()) return;
    Barrier barrier;
    barrier.reset(args.threads);
    if (run_team(args.threads, [&](int thread) { step.work(thread, barrier); })) {
        step.finish();
    } else {
        alone();
    }
}

void step(const BeamStepArgs& args) {
    with_storage(args.dtype, [&](auto storage) { run_step<decltype(storage)>(args); });
}

template <class Real>
void backtrack_as(const BeamBacktrackArgs& args, Range part) {
    const Real* logprobs = static_cast<const Real*>(args.logprobs);
    const Real* last_logprobs = static_cast<const Real*>(args.last_logprobs);
    for (int64_t i = part.begin; i < part.end; ++i) {
        const int64_t sentence = i / args.hypotheses;
        int64_t* tokens = args.out_tokens + i * args.length;
        int64_t* parents = args.out_parents + i * args.length;
        Real* out = static_cast<Real*>(args.out_logprobs) + i * args.length;
        const int64_t last = args.last_steps[i];
        for (int64_t t = last + 1; t < args.length; ++t) {
            tokens[t] = args.pad;
            parents[t] = -1;
            out[t] = 0;
        }
        if (last < 0) continue;
        int64_t beam = args.last_parents[i];
        tokens[last] = args.last_tokens[i];
        parents[last] = beam;
        out[last] = last_logprobs[i];
        for (int64_t t = last - 1; t >= 0; --t) {
            const int64_t record = (t * args.sentences + sentence) * args.beams + beam;
            tokens[t] = args.tokens[record];
            out[t] = logprobs[record];
            parents[t] = beam = args.parents[record];
        }
    }
}

void backtrack(const BeamBacktrackArgs& args) {
    const int64_t total = args.sentences * args.hypotheses;
    const auto walk = [&](Range part) {
        if (args.wide) {
            backtrack_as<double>(args, part);
        } else {
            backtrack_as<float>(args, part);
        }
    };
    if (!run_team(args.threads, [&](int thread) { walk(part_of(total, args.threads, thread)); })) {
        walk({0, total});
    }
}

}  // namespace

extern const BeamSearchKernels beam_search = {&step_workspace, &step, &backtrack};

}  // namespace seqfast::cpu::SEQFAST_ISA
