// Word vectors by the kernels of one instruction set.
#include "core/word2vec.h"

#include "cpu/base/random.h"
#include "cpu/base/team.h"
#include "cpu/word2vec/rounds.h"
#include "cpu/word2vec/table.h"
#include "cpu/word2vec/windows.h"

namespace seqfast::cpu::SEQFAST_ISA {
namespace {

// Rounds that a thread takes at a time: enough that finding their windows' neighbours costs
// little, few enough that all threads have something to do.
int64_t rounds_at_once(const Word2VecArgs& args, int threads) {
    const int64_t rounds = args.last_round - args.first_round;
    return larger(1, smaller(8, threads > 1 ? rounds / (4 * threads) : rounds));
}

bool train_windows(const Word2VecArgs& args, int threads, Arena arena) {
    const int64_t reach = longest_reach(args);
    const int64_t at_once = rounds_at_once(args, threads);
    const size_t own = [&] {
        Arena counting{0};
        WindowTrainer(args, counting, at_once, reach);
        return (counting.used + 127) / 128 * 128;
    }();
    int64_t next = args.first_round;
    return run_team(threads, [&](int thread) {
        Arena part{arena.base + own * static_cast<size_t>(thread)};
        WindowTrainer trainer(args, part, at_once, reach);
        trainer.begin();
        for (;;) {
            const int64_t first = __atomic_fetch_add(&next, at_once, __ATOMIC_RELAXED);
            if (first >= args.last_round) break;
            trainer.train(first, smaller(first + at_once, args.last_round));
        }
    });
}

size_t workspace_of(const Word2VecArgs& args, int threads) {
    const int64_t reach = longest_reach(args);
    Arena arena{0};
    if (args.deterministic) {
        RoundTrainer trainer(args, arena, threads, reach);
        return arena.used;
    }
    WindowTrainer(args, arena, rounds_at_once(args, threads), reach);
    return (arena.used + 127) / 128 * 128 * static_cast<size_t>(threads);
}

// Without rounds to take a thread is not worth waking.
int useful_threads(const Word2VecArgs& args) {
    const int64_t rounds = larger(args.last_round - args.first_round, 1);
    return static_cast<int>(args.deterministic ? args.threads : smaller(args.threads, rounds));
}

// Room for the wanted threads and for one, should the runtime grant no more.
size_t workspace(const Word2VecArgs& args) {
    const size_t wanted = workspace_of(args, useful_threads(args)), single = workspace_of(args, 1);
    return wanted > single ? wanted : single;
}

bool run(const Word2VecArgs& args, int threads) {
    Arena arena{reinterpret_cast<uintptr_t>(args.workspace)};
    if (args.deterministic) {
        return RoundTrainer(args, arena, threads, longest_reach(args)).run();
    }
    return train_windows(args, threads, arena);
}

void train(const Word2VecArgs& args) {
    if (args.first_round >= args.last_round) return;
    if (!run(args, useful_threads(args))) run(args, 1);
}

bool draw_first_vectors(const FirstVectorsArgs& args, int threads) {
    return run_team(threads, [&](int thread) {
        const Range rows = part_of(args.rows, threads, thread);
        const Vector<float> size = broadcast(static_cast<float>(args.size));
        alignas(64) float drawn[kDrawUnits];
        for (int64_t row = rows.begin; row < rows.end; ++row) {
            const DrawAt at{args.seed, static_cast<uint32_t>(args.first_row + row), 0,
                            kFirstVectorStream};
            for (int64_t unit = 0; unit < args.size; unit += kDrawUnits) {
                draw_words(at, unit / kDrawUnits, [&](int first, Words words) {
                    // Exact in float32 up to the division, and never 0 or 1 before it.
                    const auto interval = __builtin_convertvector(
                        (typename VectorTypes<float>::Int)(words >> 9), Vector<float>);
                    store(drawn + first, ((interval + 0.5f) * 0x1p-23f - 0.5f) / size);
                });
                const int64_t count = smaller(args.size - unit, kDrawUnits);
                __builtin_memcpy(args.vectors + row * args.stride + unit, drawn,
                                 static_cast<size_t>(count) * sizeof(float));
            }
        }
    });
}

void first_vectors(const FirstVectorsArgs& args) {
    if (!draw_first_vectors(args, args.threads)) draw_first_vectors(args, 1);
}

}  // namespace

extern const Word2VecKernels word2vec = {&workspace, &train, &first_vectors};

}  // namespace seqfast::cpu::SEQFAST_ISA
