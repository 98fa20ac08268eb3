// Word vectors on a GPU: how the work is cut up, workspace, launches.
#include "cuda/word2vec/word2vec.h"

#include <stdexcept>
#include <string>

#include "cuda/base/sizes.h"
#include "cuda/word2vec/batches.cuh"
#include "cuda/word2vec/plain.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

constexpr int64_t up_to_power(int64_t x) {
    int64_t power = 1;
    while (power < x) power *= 2;
    return power;
}

constexpr int64_t most_reach = int64_t(1) << 24, most_columns = 4096;
// Bytes of memory that are no reason to do with less.
constexpr int64_t ample = int64_t(256) << 20;

int reach_in(const Word2VecArgs& args) {
    const int64_t reach = least(args.window, args.tokens);
    if (reach > most_reach)
        throw std::runtime_error("word2vec: window must be at most " + std::to_string(most_reach) +
                                 " on a GPU, or the corpus shorter, got " +
                                 std::to_string(args.window));
    return int(reach);
}

int64_t targets_in(const Word2VecArgs& args) {
    return (args.negative > 0 ? args.negative + 1 : 0) +
           (args.hierarchical ? args.longest_path : 0);
}
bool is_softmax(const Word2VecArgs& args) { return args.negative == 0 && !args.hierarchical; }

// ---- Windows one after the other ----------------------------------------------------------------

enum class PlainKernel { windows, vectors, any, wide };
using WindowsTile = PlainTile<5, 6, PlainUse::windows>;
using VectorsTile = PlainTile<1, 8, PlainUse::vectors>;
// Its targets are a power of two, as WideTile's, for the full softmax.
using AnyTile = PlainTile<4, 4, PlainUse::any>;
// Where a worker has so many warps that a thread has half as many registers.
using WideTile = PlainTile<2, 2, PlainUse::any>;
constexpr int plain_warps = 16, any_warps = 12, wide_warps = 32;

struct PlainChoice {
    PlainKernel kernel;
    PlainPlan plan;
    int64_t workspace;
};

// The memory of a warp, and of a block.
void lay_out(const Word2VecArgs& args, const Device& device, PlainKernel kernel, PlainPlan& plan) {
    const int tile_targets = kernel == PlainKernel::wide      ? WideTile::targets
                             : kernel == PlainKernel::any     ? AnyTile::targets
                             : kernel == PlainKernel::vectors ? VectorsTile::targets
                                                              : WindowsTile::targets;
    Arena memory(nullptr, 16);
    const bool waits = is_softmax(args) || plan.targets > tile_targets;
    const int64_t contexts = 2 * int64_t(plan.reach);
    const int64_t changes = args.cbow || !args.shared_negatives ? 1 : waits ? contexts : 0;
    const int64_t row = int64_t(plan.row_vectors) * 16;
    memory.place(sizeof(KeptTokens::State));
    plan.then_rows = memory.place(plan.slots * row);
    plan.now_rows = memory.place((plan.slots + (args.cbow ? 1 : 0)) * row);
    plan.change_rows = memory.place(changes * row);
    plan.tokens = memory.place(plan.queue * int64_t(sizeof(KeptToken)));
    plan.owners = memory.place(plan.slots * int64_t(sizeof(RingSlot)));
    plan.contexts = memory.place((contexts + 1) * int64_t(sizeof(Context)));
    plan.target_list = memory.place(plan.targets * int64_t(sizeof(Target)));
    plan.ahead =
        memory.place(plan.draws_ahead ? centres_ahead * (1 + int64_t(args.negative)) * 4 : 0);
    plan.warp_bytes = memory.used();

    const int64_t shared = plain_shared_bytes(plan.warps);
    const int64_t all_shared = shared + plan.warps * plan.warp_bytes;
    plan.in_shared = all_shared <= device.shared_bytes;
    plan.shared_bytes = plan.in_shared ? all_shared : shared;
}

PlainChoice choose_plain(const Word2VecArgs& args, const Device& device) {
    if (args.size > most_columns)
        throw std::runtime_error("word2vec: size must be at most " + std::to_string(most_columns) +
                                 " on a GPU, got " + std::to_string(args.size));
    PlainPlan plan{};
    const int64_t vectors = parts_of(args.size, 4);
    plan.warps = int(parts_of(vectors, 32));
    plan.row_vectors = int(plan.warps > 1 ? 32 : vectors);
    plan.reach = reach_in(args);
    // From `reach` before the centre to one more than `reach` behind it.
    plan.slots = 2 * plan.reach + 2;
    // Tokens come 32 at a time, until there are all that the centres ahead can reach.
    plan.queue = int(up_to_power(2 * int64_t(plan.reach) + centres_ahead + 33));
    plan.targets = int(targets_in(args));
    plan.draws_ahead = args.negative <= 16 && (args.cbow || args.shared_negatives);
    const PlainKernel general = plan.warps > any_warps ? PlainKernel::wide : PlainKernel::any;
    PlainKernel kernel = is_softmax(args) || plan.warps > plain_warps ? general
                         : args.cbow || !args.shared_negatives        ? PlainKernel::vectors
                                                                      : PlainKernel::windows;
    lay_out(args, device, kernel, plan);
    if (!plan.in_shared && kernel != general) {
        kernel = general;
        lay_out(args, device, kernel, plan);
    }

    // What a multiprocessor holds, by registers and shared memory (a block takes 1 KB more). In a
    // small corpus fewer, or most windows would not see what the others have learnt; with few words
    // too, since many workers would change the same rows.
    const int64_t held = kernel == general ? any_warps : plain_warps;
    const int64_t resident =
        most(1, least(held / least(plan.warps, held),
                      (device.shared_bytes + 1024) / (plan.shared_bytes + 1024)));
    const int64_t all_rounds = parts_of(args.tokens, kWord2VecRound);
    const int64_t rounds = args.last_round - args.first_round;
    int64_t workers = least(device.multiprocessors * resident, rounds);
    workers = least(workers, least(all_rounds / 16, args.vocabulary / 16));
    if (!plan.in_shared) workers = least(workers, ample / (plan.warps * plan.warp_bytes));
    plan.workers = most(workers, 1);
    // Several chunks for each worker, but no more tokens drawn again at their borders than need be.
    const int64_t share = most(rounds / plan.workers, 1);
    const int64_t enough = least(parts_of(8 * int64_t(plan.reach), kWord2VecRound), share);
    plan.chunk_rounds = least(most(share / 4, enough), 64);
    plan.chunks = parts_of(rounds, plan.chunk_rounds);
    return {kernel, plan, 256 + (plan.in_shared ? 0 : plan.workers * plan.warps * plan.warp_bytes)};
}

template <class Tile, int threads>
void launch_plain(const Word2VecArgs& args, const PlainPlan& plan, Stream stream) {
    const LaunchShape shape{int(plan.workers), 1, 1, plan.warps * 32, 1, plan.shared_bytes, false};
    launch("word2vec: word2vec_plain_kernel", &word2vec_plain_kernel<Tile, threads>, shape, stream,
           args, plan);
}

void train_plain(const Word2VecArgs& args, const Device& device, Stream stream) {
    PlainChoice choice = choose_plain(args, device);
    auto* const workspace = static_cast<char*>(args.workspace);
    choice.plan.next_chunk = reinterpret_cast<uint32_t*>(workspace);
    choice.plan.memory = workspace + 256;
    fill_zero(workspace, sizeof(uint32_t), stream);
    switch (choice.kernel) {
        case PlainKernel::windows:
            return launch_plain<WindowsTile, plain_warps * 32>(args, choice.plan, stream);
        case PlainKernel::vectors:
            return launch_plain<VectorsTile, plain_warps * 32>(args, choice.plan, stream);
        case PlainKernel::any:
            return launch_plain<AnyTile, any_warps * 32>(args, choice.plan, stream);
        case PlainKernel::wide:
            return launch_plain<WideTile, wide_warps * 32>(args, choice.plan, stream);
    }
}

// ---- Batches, for results that repeat
// --------------------------------------------------------------------------

// Of the rounds of a call.
int64_t batches_in(const Word2VecArgs& args) {
    const int64_t begin = args.first_round * kWord2VecRound, end = args.last_round * kWord2VecRound;
    return parts_of(least(end, args.tokens) - begin, kWord2VecBatch);
}

struct BatchesChoice {
    BatchesPlan plan;
    int64_t examples, changes, errors, loss;  // places in the workspace
    int64_t workspace;
};

BatchesChoice choose_batches(const Word2VecArgs& args) {
    BatchesChoice choice{};
    BatchesPlan& plan = choice.plan;
    plan.reach = reach_in(args);
    plan.targets = int(targets_in(args));
    plan.softmax = is_softmax(args);
    plan.by_pairs = !args.cbow && !args.shared_negatives && args.negative > 0;
    const int64_t windows = least(kWord2VecBatch, args.tokens);
    // The last of 32 that are looked at together may be 31 too far.
    plan.most_tokens = windows + 2 * int64_t(plan.reach) + 32;
    plan.most_pairs = windows * (args.cbow ? 1 : 2 * int64_t(plan.reach));
    plan.most_sets = plan.by_pairs ? plan.most_pairs : windows;
    plan.most_examples = args.cbow ? windows : plan.most_tokens;

    Arena table, workspace;
    const int64_t entries = plan.most_sets * plan.targets;
    table.place(sizeof(BatchHead));
    plan.ids = table.place(plan.most_tokens * 4);
    plan.firsts = table.place(plan.most_tokens * 4);
    plan.windows = table.place(windows * int64_t(sizeof(BatchWindow)));
    plan.pair_windows = table.place(plan.most_pairs * 4);
    plan.codes = table.place(entries * 4);
    plan.weights = table.place(entries * 4);
    plan.target_keys = table.place(up_to_power(entries) * 8);
    plan.input_keys = table.place(up_to_power(plan.most_tokens) * 8);
    plan.batch_bytes = table.used();
    plan.group = most(1, least(least(batches_in(args), 256), ample / plan.batch_bytes));

    workspace.place(plan.group * plan.batch_bytes);
    choice.examples = workspace.place(plan.most_examples * args.stride * 4);
    choice.changes = workspace.place(plan.most_examples * args.stride * 4);
    choice.errors = workspace.place(4 * (is_softmax(args) ? plan.most_examples * args.vocabulary
                                                          : plan.most_pairs * plan.targets));
    choice.loss = workspace.place(8 * most(plan.most_pairs, plan.most_examples));
    choice.workspace = workspace.used();
    return choice;
}

void train_batches(const Word2VecArgs& args, const Device& device, Stream stream) {
    BatchesChoice choice = choose_batches(args);
    BatchesPlan& plan = choice.plan;
    auto* const workspace = static_cast<char*>(args.workspace);
    plan.tables = workspace;
    plan.examples = reinterpret_cast<float*>(workspace + choice.examples);
    plan.changes = reinterpret_cast<float*>(workspace + choice.changes);
    plan.errors = reinterpret_cast<float*>(workspace + choice.errors);
    plan.loss = reinterpret_cast<double*>(workspace + choice.loss);

    // As many warps as there may be items, but all of them at once.
    const int64_t parts = parts_of(args.stride, 128);
    const int64_t rows = plan.softmax ? args.vocabulary : plan.most_sets * plan.targets;
    const int64_t logits = plan.softmax ? plan.most_examples * parts_of(args.vocabulary, 8) : 0;
    const int64_t items = most(most(plan.most_pairs, logits), (rows + plan.most_tokens) * parts);
    const int64_t blocks = least(parts_of(items, batch_threads / 32), device.multiprocessors);
    const int64_t first = args.first_round * (kWord2VecRound / kWord2VecBatch);
    const int64_t last = first + batches_in(args);
    for (int64_t batch = first; batch < last; batch += plan.group) {
        const int64_t batches = least(plan.group, last - batch);
        const LaunchShape tables{int(batches), 1, 1, batch_threads, 1, 0, false};
        launch("word2vec: word2vec_tables_kernel", &word2vec_tables_kernel, tables, stream, args,
               plan, batch);
        const LaunchShape all{int(blocks), 1, 1, batch_threads, 1, 0, true};
        if (plan.softmax)
            launch("word2vec: word2vec_softmax_batches_kernel", &word2vec_softmax_batches_kernel,
                   all, stream, args, plan, batch, batches);
        else
            launch("word2vec: word2vec_batches_kernel", &word2vec_batches_kernel, all, stream, args,
                   plan, batch, batches);
    }
}

}  // namespace

size_t word2vec_workspace_size(const GpuPlace& place, const Word2VecArgs& args) {
    if (args.first_round >= args.last_round) return 0;
    if (args.deterministic) return size_t(choose_batches(args).workspace);
    return size_t(choose_plain(args, device_properties(place.device)).workspace);
}

void word2vec_train(const GpuPlace& place, const Word2VecArgs& args) {
    if (args.first_round >= args.last_round) return;
    const DeviceGuard guard(place.device);
    const Device device = device_properties(place.device);
    (args.deterministic ? train_batches : train_plain)(args, device, place.stream);
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
