// Batches of many windows: all gradients from the parameters as they were before, all changes in
// the order of the windows, so that results are the same bits for any number of threads.
#pragma once

#include "cpu/base/team.h"
#include "cpu/word2vec/draw.h"
#include "cpu/word2vec/softmax.h"
#include "cpu/word2vec/tile.h"
#include "cpu/word2vec/windows.h"

namespace seqfast::cpu::SEQFAST_ISA {

// Finds the rows of a batch that are used more than once: they are read from copies. A hash table
// no larger than the batch needs, so that it stays in the cache.
class RowUses {
  public:
    void take(Arena& arena, int64_t most_uses, int64_t most_copies) {
        int64_t places = int64_t{1} << kLeastBits;
        while (places < 2 * most_uses) places *= 2;
        keys_ = arena.take<int64_t>(places);
        copies_ = arena.take<uint32_t>(places);
        rows_ = arena.take<const float*>(most_copies);
    }

    void begin_round() { end_ = 0; }
    void begin_batch(int64_t most_uses) {
        bits_ = kLeastBits;
        while (int64_t{1} << bits_ < 2 * most_uses) ++bits_;
        __builtin_memset(keys_, 0xff, sizeof(int64_t) << bits_);
        begin_ = end_;
    }
    // Returns where the use is noted.
    SEQFAST_INLINE int64_t use(int64_t key, const float* row) {
        uint64_t place = static_cast<uint64_t>(key) * 0x9E3779B97F4A7C15ull >> (64 - bits_);
        while (keys_[place] != key) {
            if (keys_[place] < 0) {
                keys_[place] = key;
                copies_[place] = 0;
                return static_cast<int64_t>(place);
            }
            place = (place + 1) & ((uint64_t{1} << bits_) - 1);
        }
        use_again(static_cast<int64_t>(place), row);
        return static_cast<int64_t>(place);
    }
    SEQFAST_INLINE void use_again(int64_t place, const float* row) {
        if (copies_[place] > 0) return;
        rows_[end_++] = row;
        copies_[place] = static_cast<uint32_t>(end_ - begin_);
    }
    // Which of the batch's copies it is; -1: it is used once only.
    SEQFAST_INLINE int64_t copy_at(int64_t place) const { return int64_t{copies_[place]} - 1; }
    // Of the round's batches so far.
    int64_t end() const { return end_; }
    const float* const* rows() const { return rows_; }

  private:
    static constexpr int kLeastBits = 9;

    int64_t begin_ = 0, end_ = 0;  // of the batch's copies
    int bits_ = kLeastBits;
    int64_t* keys_ = nullptr;
    uint32_t* copies_ = nullptr;
    const float** rows_ = nullptr;
};

struct PlannedTile {
    TileSide targets, contexts;
};

struct PlannedBatch {
    Range tiles;
    Range copies;
};

// What is to be done in a round, found without looking at any parameter.
class RoundPlan {
  public:
    static constexpr int kBatches = kWord2VecRound / kWord2VecBatch;

    // copies [most_copies, stride] is where they will be made, nowhere [stride] takes the changes
    // of rows that are locked.
    void take(Arena& arena, const Word2VecArgs& args, int64_t reach, float* copies,
              float* nowhere) {
        args_ = &args;
        made_ = copies;
        nowhere_ = nowhere;
        const int64_t contexts = larger(most_contexts(args, reach), 1);
        const bool pairs = Examples::by_pairs(args);
        kept_.take(arena, args, kWord2VecRound, reach);
        const int64_t most_examples = pairs ? kWord2VecRound * contexts : kWord2VecRound;
        examples_.take(arena, args, most_examples);
        if (full_softmax(args)) return;
        const int64_t context_rows = pairs ? 1 : contexts;
        const int64_t most_rows = most_examples * (context_rows + most_targets(args));
        tiles_ = arena.take<PlannedTile>(most_examples);
        from_ = arena.take<const float*>(most_rows);
        to_ = arena.take<float*>(most_rows);
        factors_ = arena.take<float>(most_rows);
        noted_ = arena.take<int64_t>(most_rows);
        places_.take(arena, larger(context_rows, 1 + args.negative), args.vocabulary);
        uses_.take(arena, most_rows / kBatches, kBatches * most_copies(args, reach));
    }
    // Rows that a batch can use more than once.
    static int64_t most_copies(const Word2VecArgs& args, int64_t reach) {
        const int64_t sets = Examples::by_pairs(args) ? larger(most_contexts(args, reach), 1) : 1;
        const int64_t uses = kWord2VecBatch * sets * most_targets(args);
        const int64_t targets = args.vocabulary * ((args.negative > 0) + args.hierarchical);
        return smaller(args.vocabulary, kWord2VecBatch + 2 * reach) + smaller(uses, targets);
    }

    void begin() {
        if (!full_softmax(*args_)) places_.begin();
    }

    const KeptTokens& kept() const { return kept_; }
    const Examples& examples() const { return examples_; }
    int64_t round() const { return round_; }
    int64_t pairs() const { return pairs_; }  // or windows of CBOW
    const PlannedTile& tile(int64_t i) const { return tiles_[i]; }
    const PlannedBatch& batch(int b) const { return batches_[b]; }
    const float* copied_row(int64_t i) const { return uses_.rows()[i]; }

    void plan(int64_t round) {
        round_ = round;
        const int64_t first = round * kWord2VecRound;
        kept_.find(first, smaller(first + kWord2VecRound, args_->tokens));
        if (!args_->cbow && args_->shared_negatives) kept_.find_earlier();
        examples_.restart();
        examples_.next(kept_);
        pairs_ = 0;
        rows_ = 0;
        uses_.begin_round();
        int64_t done = 0;
        for (int b = 0; b < kBatches; ++b) {
            PlannedBatch& batch = batches_[b];
            batch.tiles.begin = done;
            for (; done < examples_.count(); ++done) {
                const Window& window = kept_.windows()[examples_[done].window];
                if (window.offset >= (b + 1) * kWord2VecBatch) break;
            }
            batch.tiles.end = done;
            batch.copies.begin = uses_.end();
            if (!full_softmax(*args_)) plan(batch.tiles);
            batch.copies.end = uses_.end();
        }
    }

  private:
    void plan(Range tiles) {
        int64_t uses = 0;
        for (int64_t i = tiles.begin; i < tiles.end; ++i) uses += uses_of(examples_[i]);
        uses_.begin_batch(uses);
        for (int64_t i = tiles.begin; i < tiles.end; ++i) {
            PlannedTile& tile = tiles_[i];
            add_targets(tile.targets, examples_[i]);
            add_contexts(tile.contexts, examples_[i]);
            if (args_->cbow) continue;
            // Read again when the first block of lanes has changed them.
            const bool ordered = targets_in_lanes(tile.contexts.count, tile.targets.count);
            const TileSide& lanes = ordered ? tile.targets : tile.contexts;
            const TileSide& others = ordered ? tile.contexts : tile.targets;
            if (tile_blocks(lanes.count) == 1) continue;
            const int64_t* noted = noted_ + (others.from - from_);
            for (int64_t r = 0; r < others.count; ++r) uses_.use_again(noted[r], others.from[r]);
        }
        for (int64_t i = tiles.begin; i < tiles.end; ++i) {
            read_copies(tiles_[i].targets);
            read_copies(tiles_[i].contexts);
        }
    }

    void read_copies(TileSide& side) {
        const int64_t* noted = noted_ + (side.from - from_);
        for (int64_t r = 0; r < side.count; ++r) {
            const int64_t copy = uses_.copy_at(noted[r]);
            if (copy >= 0) side.from[r] = made_ + copy * args_->stride;
        }
    }

    int64_t uses_of(const Example& example) const {
        const Window& window = kept_.windows()[example.window];
        int64_t uses = example.pair < 0 ? window.contexts() : 1;
        if (args_->negative > 0) uses += 1 + example.negatives;
        if (args_->hierarchical) {
            const int32_t centre = kept_.ids()[window.centre];
            uses += args_->path_offsets[centre + 1] - args_->path_offsets[centre];
        }
        return uses;
    }

    void place(TileSide& side) {
        side.from = from_ + rows_;
        side.to = to_ + rows_;
        side.factor = factors_ + rows_;
    }

    void add_targets(TileSide& side, const Example& example) {
        const Word2VecArgs& args = *args_;
        place(side);
        TileSideWriter targets(side);
        const int32_t centre = kept_.ids()[kept_.windows()[example.window].centre];
        const auto add_output = [&](int32_t id, bool negative) {
            float* row = args.output + id * args.stride;
            targets.add(row, row, negative);
            noted_[rows_++] = uses_.use(args.vocabulary + id, row);
        };
        if (args.negative > 0) {
            add_output(centre, false);
            const int32_t* negatives = examples_.negatives(example);
            for (int32_t k = 0; k < example.negatives; ++k) {
                if (example.repeats && places_.repeats(negatives[k], targets, 1)) continue;
                add_output(negatives[k], true);
            }
        }
        if (args.hierarchical) {
            for (int64_t k = args.path_offsets[centre]; k < args.path_offsets[centre + 1]; ++k) {
                const int32_t node = args.path_nodes[k];
                float* row = args.nodes + node * args.stride;
                targets.add(row, row, args.path_codes[k] != 0);
                noted_[rows_++] = uses_.use(2 * args.vocabulary + node, row);
            }
        }
    }

    void add_contexts(TileSide& side, const Example& example) {
        const Word2VecArgs& args = *args_;
        place(side);
        TileSideWriter contexts(side);
        const Window& window = kept_.windows()[example.window];
        const int32_t* ids = kept_.ids();
        const auto add_context = [&](int32_t id) {
            float* row = args.input + id * args.stride;
            contexts.add(row, args.locked && args.locked[id] ? nowhere_ : row, false);
            noted_[rows_++] = uses_.use(id, row);
        };
        pairs_ += args.cbow || example.pair >= 0 ? 1 : window.contexts();
        if (example.pair >= 0) {
            add_context(ids[context_of_pair(window, example.pair)]);
            return;
        }
        // CBOW adds to one row after the other; a tile changes all at once.
        const bool repeats = !args.cbow && kept_.repeats(window);
        for (int32_t k = window.begin; k < window.end; ++k) {
            if (k == window.centre) continue;
            if (repeats && places_.repeats(ids[k], contexts, 0)) continue;
            add_context(ids[k]);
        }
    }

    const Word2VecArgs* args_;
    KeptTokens kept_;
    Examples examples_;
    RowUses uses_;
    Places places_;
    PlannedBatch batches_[kBatches];
    int64_t round_ = 0, rows_ = 0, pairs_ = 0;
    PlannedTile* tiles_ = nullptr;
    const float** from_ = nullptr;
    float** to_ = nullptr;
    float* factors_ = nullptr;
    int64_t* noted_ = nullptr;  // where uses_ notes the row
    float* made_ = nullptr;
    float* nowhere_ = nullptr;
};

// A batch is too little to be shared by threads that would have to wait for each other, so one
// thread trains while another plans the next round. The full softmax is shared by all threads.
class RoundTrainer {
  public:
    RoundTrainer(const Word2VecArgs& args, Arena& arena, int threads, int64_t reach)
        : args_(args),
          softmax_(args),
          threads_(full_softmax(args) ? threads
                   : threads > 1      ? 2
                                      : 1) {
        const int64_t contexts = larger(most_contexts(args, reach), 1);
        if (full_softmax(args)) {
            most_examples_ = args.cbow ? kWord2VecBatch : kWord2VecBatch * contexts;
            softmax_.take_shared(arena, most_examples_);
            own_base_ = reinterpret_cast<uintptr_t>(arena.take<char>(0));
            for (int t = 0; t < threads_; ++t) Softmax(args).take_own(arena, most_examples_);
        } else {
            copies_ = arena.take<float>(RoundPlan::most_copies(args, reach) * args.stride);
            nowhere_ = arena.take<float>(args.stride);
            hidden_ = arena.take<float>(args.stride);
            error_ = arena.take<float>(args.stride);
            const int64_t rows = args.cbow || Examples::by_pairs(args) ? 1 : contexts;
            dots_ = arena.take<float>(most_dots(rows, most_targets(args)));
        }
        for (RoundPlan& plan : plans_) {
            arena.take<char>(128);  // the plans' threads share no line
            plan.take(arena, args, reach, copies_, nowhere_);
        }
    }

    bool run() {
        barrier_.reset(threads_);
        if (nowhere_) {
            __builtin_memset(nowhere_, 0, static_cast<size_t>(args_.stride) * sizeof(float));
        }
        for (RoundPlan& plan : plans_) plan.begin();
        return run_team(threads_, [&](int thread) {
            if (full_softmax(args_)) {
                run_softmax(thread);
            } else {
                run_windows(thread);
            }
        });
    }

  private:
    void run_windows(int thread) {
        const int64_t first = args_.first_round, last = args_.last_round;
        const bool plans = thread == threads_ - 1, trains = thread == 0;
        if (plans) plans_[first % 2].plan(first);
        for (int64_t round = first; round < last; ++round) {
            barrier_.wait();
            if (trains) train_round(plans_[round % 2]);
            if (plans && round + 1 < last) plans_[(round + 1) % 2].plan(round + 1);
        }
    }

    void run_softmax(int thread) {
        Arena arena{own_base_};
        Softmax softmax = softmax_;
        for (int t = 0; t <= thread; ++t) softmax.take_own(arena, most_examples_);
        for (int64_t round = args_.first_round; round < args_.last_round; ++round) {
            RoundPlan& plan = plans_[0];
            if (thread == 0) plan.plan(round);
            barrier_.wait();
            double loss = 0;
            int64_t examples = 0;
            for (int b = 0; b < RoundPlan::kBatches; ++b) {
                softmax.begin();
                const Range tiles = plan.batch(b).tiles;
                for (int64_t i = tiles.begin; i < tiles.end; ++i) {
                    const Example& example = plan.examples()[i];
                    const Window& window = plan.kept().windows()[example.window];
                    softmax.add(plan.kept().ids(), window, example.pair);
                }
                softmax.train(learning_rate(args_, round), threads_, thread, barrier_);
                if (thread == 0) loss += softmax.loss();
                examples += softmax.count();
                barrier_.wait();
            }
            if (thread == 0) report(plan, loss, examples);
        }
    }

    void report(const RoundPlan& plan, double loss, int64_t examples) const {
        const int64_t at = plan.round() - args_.first_round;
        args_.loss[at] = loss;
        args_.kept[at] = plan.kept().count();
        args_.examples[at] = examples;
    }

    SEQFAST_INLINE void fetch_rows(const TileSide& side) const {
        for (int64_t r = 0; r < side.count; ++r) {
            for (int64_t c = 0; c < args_.size; c += kTileLine) {
                __builtin_prefetch(side.to[r] + c, 1, 3);
            }
        }
    }

    void train_round(const RoundPlan& plan) const {
        constexpr int64_t kAhead = 4;
        const float rate = learning_rate(args_, plan.round());
        const int64_t tiles = plan.examples().count();
        TileLoss loss;
        loss.clear();
        for (int64_t i = 0; i < smaller(kAhead, tiles); ++i) {
            fetch_rows(plan.tile(i).targets);
            fetch_rows(plan.tile(i).contexts);
        }
        for (int b = 0; b < RoundPlan::kBatches; ++b) {
            const PlannedBatch& batch = plan.batch(b);
            copy_rows(plan, batch.copies);
            for (int64_t i = batch.tiles.begin; i < batch.tiles.end; ++i) {
                if (i + kAhead < tiles) {
                    fetch_rows(plan.tile(i + kAhead).targets);
                    fetch_rows(plan.tile(i + kAhead).contexts);
                }
                train(plan.tile(i), rate, loss);
            }
        }
        report(plan, loss.sum(), plan.pairs());
    }

    void copy_rows(const RoundPlan& plan, Range copies) const {
        float* to = copies_;
        for (int64_t i = copies.begin; i < copies.end; ++i, to += args_.stride) {
            const float* from = plan.copied_row(i);
            for (int64_t c = 0; c < args_.stride; c += kLanes<float>) {
                store(to + c, load(from + c));
            }
        }
    }

    SEQFAST_INLINE void train(const PlannedTile& tile, float rate, TileLoss& loss) const {
        if (args_.cbow) {
            train_cbow(tile, rate, loss);
        } else if (!targets_in_lanes(tile.contexts.count, tile.targets.count)) {
            train_tile(tile.contexts, tile.targets, {0, args_.stride}, rate, dots_, loss);
        } else if (tile.targets.count > 0) {
            train_tile(tile.targets, tile.contexts, {0, args_.stride}, rate, dots_, loss);
        }
    }

    void train_cbow(const PlannedTile& tile, float rate, TileLoss& loss) const {
        const TileSide& contexts = tile.contexts;
        if (tile.targets.count == 0) return;
        const float share = args_.cbow_mean ? 1.0f / static_cast<float>(contexts.count) : 1.0f;
        for (int64_t c = 0; c < args_.stride; c += kLanes<float>) {
            Vector<float> sum{};
            for (int64_t r = 0; r < contexts.count; ++r) sum += load(contexts.from[r] + c);
            store(hidden_ + c, sum * share);
            store(error_ + c, Vector<float>{});
        }
        const float* from = hidden_;
        float* to = error_;
        float factor = 1;
        TileSide hidden{&from, &to, &factor};
        hidden.count = 1;
        train_tile(tile.targets, hidden, {0, args_.stride}, rate, dots_, loss);
        const float back = args_.legacy_cbow ? 1.0f : share;
        for (int64_t r = 0; r < contexts.count; ++r) {
            float* row = contexts.to[r];
            for (int64_t c = 0; c < args_.stride; c += kLanes<float>) {
                store(row + c, load(row + c) + load(error_ + c) * back);
            }
        }
    }

    const Word2VecArgs& args_;
    Softmax softmax_;
    Barrier barrier_;
    int threads_;
    int64_t most_examples_ = 0;
    uintptr_t own_base_ = 0;
    RoundPlan plans_[2];
    float* copies_ = nullptr;
    float* nowhere_ = nullptr;
    float* hidden_ = nullptr;
    float* error_ = nullptr;
    float* dots_ = nullptr;
};

}  // namespace seqfast::cpu::SEQFAST_ISA
