// GloVe by the kernels of one instruction set.
#include "core/glove.h"

#include "cpu/base/exponentials.h"
#include "cpu/glove/count.h"
#include "cpu/glove/schedule.h"
#include "cpu/glove/table.h"

namespace seqfast::cpu::SEQFAST_ISA {
namespace {

using V = Vector<float>;
constexpr int kLane = kLanes<float>;
constexpr int64_t kEntriesAtOnce = 64;  // whose logarithms and weights are computed together

// 1 / sqrt(x), off by 5e-6 of it at most: halving the exponent gives 3 %, each of two steps of
// Newton's squares that. The length of a step may well be; and every processor has the same bits.
SEQFAST_INLINE V reciprocal_root(V x) {
    using Int = typename VectorTypes<float>::Int;
    V r = (V)(0x5F375A86 - ((Int)x >> 1));
    const V half = x * -0.5f;
    r *= fused(broadcast(1.5f), half * r, r);
    return r * fused(broadcast(1.5f), half * r, r);
}

// Trains with the entries of tiles that share nothing with those of other threads.
class TileTrainer {
  public:
    explicit TileTrainer(const GloveArgs& args) : args_(args) {
        // The bias stands behind its vector: a column that is multiplied by one, with a rate of
        // one, and without a limit.
        const int64_t bias = args.size % kLane;
        for (int l = 0; l < kLane; ++l) {
            tail_mask_[l] = l < bias ? 1.0f : 0.0f;
            tail_one_[l] = l == bias ? 1.0f : 0.0f;
            tail_rate_[l] = l < bias ? static_cast<float>(args.learning_rate) : tail_one_[l];
            tail_clip_[l] = l == bias ? kInfinity<float> : static_cast<float>(args.clip);
        }
        whole_ = args.size / kLane * kLane;
    }

    double train(int64_t row_block, int64_t column_block) {
        const int64_t tile = row_block * args_.blocks + column_block;
        const int64_t end = args_.tiles[tile + 1];
        double loss = 0;
        for (int64_t first = args_.tiles[tile]; first < end; first += kEntriesAtOnce) {
            const int64_t count = smaller(kEntriesAtOnce, end - first);
            const uint64_t* entries = args_.entries + first;
            prepare(entries, count);
            for (int64_t i = 0; i < count; ++i) {
                if (first + i + kAhead < end) {
                    prefetch(row_of(entries[i + kAhead], row_block),
                             column_of(entries[i + kAhead], column_block));
                }
                loss += step(row_of(entries[i], row_block), column_of(entries[i], column_block), i);
            }
        }
        return loss;
    }

  private:
    static constexpr int64_t kAhead = 2;

    const GloveArgs& args_;
    int64_t whole_;  // columns in whole vectors without the bias
    V tail_mask_, tail_one_, tail_rate_, tail_clip_;
    alignas(64) float logs_[kEntriesAtOnce];
    alignas(64) float weights_[kEntriesAtOnce];

    SEQFAST_INLINE int64_t row_of(uint64_t entry, int64_t block) const {
        return entry_row(entry) * args_.blocks + block;
    }
    SEQFAST_INLINE int64_t column_of(uint64_t entry, int64_t block) const {
        return entry_column(entry) * args_.blocks + block;
    }

    void prepare(const uint64_t* entries, int64_t count) {
        alignas(64) float values[kEntriesAtOnce];
        for (int64_t i = 0; i < kEntriesAtOnce; ++i) {
            values[i] = i < count ? bit_cast<float>(static_cast<uint32_t>(entries[i] >> 32)) : 1.0f;
        }
        const V scale = broadcast(static_cast<float>(1 / args_.x_max));
        const V power = broadcast(static_cast<float>(args_.alpha * kLog2OfE)),
                one = broadcast(1.0f);
        for (int64_t i = 0; i < kEntriesAtOnce; i += kLane) {
            const V value = load(values + i);
            store(logs_ + i, log<float>(value));
            const V weight = exp2<float>(log<float>(value * scale) * power);
            store(weights_ + i, value * scale < one ? weight : one);
        }
    }

    SEQFAST_INLINE void prefetch(int64_t row, int64_t column) const {
        for (int64_t c = 0; c <= args_.size; c += 16) {
            __builtin_prefetch(args_.words + row * args_.stride + c, 1);
            __builtin_prefetch(args_.contexts + column * args_.stride + c, 1);
            __builtin_prefetch(args_.word_squares + row * args_.stride + c, 1);
            __builtin_prefetch(args_.context_squares + column * args_.stride + c, 1);
        }
    }

    // AdaGrad: the step of a gradient g, and g^2 is added to its square.
    static SEQFAST_INLINE void update(float* values, float* squares, V value, V gradient) {
        const V square = load(squares);
        store(values, value - gradient * reciprocal_root(square));
        store(squares, fused(square, gradient, gradient));
    }
    static SEQFAST_INLINE V clipped(V x, V limit) {
        x = x > limit ? limit : x;
        return x < -limit ? -limit : x;
    }

    double step(int64_t row, int64_t column, int64_t i) {
        float* word = args_.words + row * args_.stride;
        float* context = args_.contexts + column * args_.stride;
        float* word_squares = args_.word_squares + row * args_.stride;
        float* context_squares = args_.context_squares + column * args_.stride;
        V sums[2] = {};
        int64_t c = 0;
        for (; c + 2 * kLane <= whole_; c += 2 * kLane) {
            sums[0] = fused(sums[0], load(word + c), load(context + c));
            sums[1] = fused(sums[1], load(word + c + kLane), load(context + c + kLane));
        }
        if (c < whole_) sums[0] = fused(sums[0], load(word + c), load(context + c));
        const V word_tail = load(word + whole_), context_tail = load(context + whole_);
        sums[1] = fused(sums[1], word_tail * tail_mask_, context_tail);
        sums[0] = fused(sums[0], word_tail + context_tail, tail_one_);
        const float error = horizontal_sum<float>(sums[0] + sums[1]) - logs_[i];
        const float weighted = weights_[i] * error;

        const V factor = broadcast(weighted),
                rate = broadcast(static_cast<float>(args_.learning_rate));
        const V limit = broadcast(static_cast<float>(args_.clip));
        const bool moves_word = !args_.locked || !args_.locked[row];
        const bool moves_context = !args_.locked || !args_.locked[column];
        for (c = 0; c < whole_; c += kLane) {
            const V a = load(word + c), b = load(context + c);
            if (moves_word)
                update(word + c, word_squares + c, a, clipped(factor * b, limit) * rate);
            if (moves_context) {
                update(context + c, context_squares + c, b, clipped(factor * a, limit) * rate);
            }
        }
        const V mask = tail_mask_, one = tail_one_;
        if (moves_word) {
            update(word + c, word_squares + c, word_tail,
                   clipped(factor * fused(one, context_tail, mask), tail_clip_) * tail_rate_);
        }
        if (moves_context) {
            update(context + c, context_squares + c, context_tail,
                   clipped(factor * fused(one, word_tail, mask), tail_clip_) * tail_rate_);
        }
        return 0.5 * static_cast<double>(weighted) * static_cast<double>(error);
    }
};

bool train_strata(const GloveArgs& args, int threads) {
    alignas(64) Barrier barrier;
    barrier.reset(threads);
    int64_t next = 0;
    return run_team(threads, [&](int) {
        TileTrainer trainer(args);
        for (int64_t round = 0; round < args.rounds; ++round) {
            for (;;) {
                const int64_t block = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
                if (block >= args.blocks) break;
                args.loss[round * args.blocks + block] =
                    trainer.train(block, (block + args.strata[round]) % args.blocks);
            }
            // Between two barriers nobody draws a number.
            barrier.wait();
            __atomic_store_n(&next, int64_t(0), __ATOMIC_RELAXED);
            barrier.wait();
        }
    });
}

void train(const GloveArgs& args) {
    const int threads = static_cast<int>(smaller(args.threads, args.blocks));
    if (!train_strata(args, threads)) train_strata(args, 1);
}

void schedule(const GloveScheduleArgs& args) {
    if (!make_schedule(args, args.threads)) make_schedule(args, 1);
}

void count(const CooccurrenceArgs& args) {
    if (!count_rows(args, args.threads)) count_rows(args, 1);
}

}  // namespace

extern const GloveKernels glove = {&count_workspace, &count, &schedule, &train};

}  // namespace seqfast::cpu::SEQFAST_ISA
