// A frame's log-probabilities, and which of its tokens count: what every CTC search reads.
#pragma once

#include "core/ctc.h"

#include "cpu/base/selection.h"
#include "cpu/base/simd.h"
#include "cpu/base/storage.h"

namespace seqfast::cpu::SEQFAST_ISA {

namespace ctc_search {

using V = Vector<double>;
constexpr int kLanesOf = kLanes<double>;
constexpr double kInfinity = __builtin_inf();
// Tokens whose largest is known, so that most of them need no look of their own.
constexpr int64_t kBlock = 16;

inline int64_t blocks_of(int64_t vocab) { return (vocab + kBlock - 1) / kBlock; }

// A frame's log-probabilities in float64.
class Frame {
  public:
    Frame(double* values, double* largest, int64_t vocab)
        : values_(values), largest_(largest), vocab_(vocab) {}

    // False where one is NaN or above kCtcMost.
    bool read(const CtcInput& input, int64_t row, int64_t frame) {
        bool fine = true;
        with_storage(input.dtype, [&](auto storage) {
            using Storage = decltype(storage);
            fine = read(static_cast<const Storage*>(input.log_probs) + row * input.row_stride +
                        frame * input.frame_stride);
        });
        return fine;
    }

    double operator[](int64_t token) const { return values_[token]; }
    double block_largest(int64_t block) const { return largest_[block]; }
    int64_t blocks() const { return blocks_of(vocab_); }
    double largest() const { return largest_[block_of_largest()]; }

    // The lowest of the most probable tokens.
    int64_t most_probable() const {
        const int64_t block = block_of_largest();
        int64_t token = block * kBlock;
        while (values_[token] != largest_[block]) ++token;
        return token;
    }

    // f(token) of those above the limit, or at it where `reaching`, by rising token.
    template <bool reaching, class F>
    SEQFAST_INLINE void for_each_above(double limit, F&& f) const {
        for (int64_t block = 0; block < blocks(); ++block) {
            if (!is_above<reaching>(largest_[block], limit)) continue;
            const int64_t begin = block * kBlock;
            const int64_t end = begin + kBlock < vocab_ ? begin + kBlock : vocab_;
            for (int64_t token = begin; token < end; ++token) {
                if (is_above<reaching>(values_[token], limit)) f(token);
            }
        }
    }

  private:
    template <bool reaching>
    static SEQFAST_INLINE bool is_above(double value, double limit) {
        return reaching ? value >= limit : value > limit;
    }

    template <class Storage>
    SEQFAST_INLINE bool read(const Storage* from) {
        using Mask = typename VectorTypes<double>::Int;
        Mask fine = ~Mask{};
        int64_t token = 0;
        for (; token + kBlock <= vocab_; token += kBlock) {
            V largest = broadcast(-kInfinity);
#pragma GCC unroll 8
            for (int64_t at = token; at < token + kBlock; at += kLanesOf) {
                const V value = load<double>(from + at, kLanesOf);
                store(values_ + at, value);
                fine &= value <= broadcast(kCtcMost);
                largest = value > largest ? value : largest;
            }
            largest_[token / kBlock] = horizontal_max<double>(largest);
        }
        bool all_fine = true;
        for (int l = 0; l < kLanesOf; ++l) all_fine &= fine[l] != 0;
        if (token < vocab_) {
            double largest = -kInfinity;
            for (int64_t at = token; at < vocab_; ++at) {
                const double value = widen(from[at]);
                values_[at] = value;
                all_fine &= value <= kCtcMost;
                largest = value > largest ? value : largest;
            }
            largest_[token / kBlock] = largest;
        }
        return all_fine;
    }

    int64_t block_of_largest() const {
        int64_t best = 0;
        for (int64_t block = 1; block < blocks(); ++block) {
            if (largest_[block] > largest_[best]) best = block;
        }
        return best;
    }

    double* values_;
    double* largest_;  // [blocks]
    const int64_t vocab_;
};

using Ranked = CtcRanked;

// The tokens of a frame that count: the `top_n` most probable ones that reach a limit, and always
// the first.
class Cut {
  public:
    // `keys`: room for vocab and a block for every 16 of them.
    Cut(const Frame& frame, Ranked* keys, int64_t vocab, int64_t top_n, double least)
        : frame_(frame), keys_(keys), vocab_(vocab), top_n_(top_n), least_(least) {}

    // After each frame that was read.
    void update() {
        const double largest = frame_.largest();
        if (largest >= least_) {
            cutoff_ = {least_, vocab_};
        } else {
            cutoff_ = {largest, frame_.most_probable()};
        }
        if (top_n_ >= vocab_) return;
        int64_t count = 0;
        frame_.for_each_above<true>(
            limit_of_top_n(), [&](int64_t token) { keys_[count++] = {frame_[token], token}; });
        if (count < top_n_) return;
        select_keys(keys_, count, top_n_);
        const Ranked last = keys_[top_n_ - 1];
        if (last > cutoff_) cutoff_ = last;
    }

    SEQFAST_INLINE bool counts(int64_t token) const {
        return !(cutoff_ > Ranked{frame_[token], token});
    }
    SEQFAST_INLINE double log_prob(int64_t token) const {
        return counts(token) ? frame_[token] : -kInfinity;
    }

  private:
    // A limit that `top_n` tokens reach: the largest ones of that many blocks.
    double limit_of_top_n() {
        const int64_t blocks = frame_.blocks();
        if (blocks <= top_n_) return cutoff_.score;
        for (int64_t block = 0; block < blocks; ++block)
            keys_[block] = {frame_.block_largest(block), block};
        select_keys(keys_, blocks, top_n_);
        const double limit = keys_[top_n_ - 1].score;
        return limit > cutoff_.score ? limit : cutoff_.score;
    }

    const Frame& frame_;
    Ranked* const keys_;
    const int64_t vocab_, top_n_;
    const double least_;
    Ranked cutoff_{};
};

}  // namespace ctc_search

}  // namespace seqfast::cpu::SEQFAST_ISA
