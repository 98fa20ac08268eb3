// The beam of a CTC search: prefixes found by their last token, and the candidates of a frame.
#pragma once

#include "core/ctc.h"

#include "cpu/base/selection.h"

namespace seqfast::cpu::SEQFAST_ISA {

namespace ctc_search {

// Prefixes by number, in lists of those with the same hash. Number 0 is the empty one.
class Prefixes {
  public:
    // `heads`: room for the first of each list, a power of two of them.
    Prefixes(CtcNode* nodes, int32_t* heads, int64_t head_count)
        : nodes_(nodes), heads_(heads), head_count_(head_count) {}

    void clear_lists() {
        __builtin_memset(heads_, 0, static_cast<size_t>(head_count_) * sizeof(int32_t));
    }
    // The number of that prefix; 0 where nobody has seen it.
    SEQFAST_INLINE int32_t find(int32_t parent, int32_t token) const {
        int32_t node = heads_[ctc_hash(parent, token, head_count_)];
        while (node != 0 && (nodes_[node].parent != parent || nodes_[node].token != token))
            node = nodes_[node].next;
        return node;
    }
    void list(int32_t node) {
        int32_t& head = heads_[ctc_hash(nodes_[node].parent, nodes_[node].token, head_count_)];
        nodes_[node].next = head;
        head = node;
    }

  private:
    CtcNode* const nodes_;
    int32_t* const heads_;
    const int64_t head_count_;
};

// What may be in the next beam: the prefixes as they are, then their extensions.
class Candidates {
  public:
    // `keys`: room for `most`, more than a beam.
    Candidates(CtcRanked* keys, int64_t most, int64_t beam_size)
        : keys_(keys), most_(most), beam_size_(beam_size) {}

    // The `count` prefixes as they are, score(k) of each.
    template <class F>
    SEQFAST_INLINE void begin(int64_t count, double threshold, F&& score) {
        count_ = 0;
        double least = __builtin_inf(), best = -__builtin_inf();
        for (int64_t k = 0; k < count; ++k) {
            const double value = score(k);
            keys_[count_] = {value, k};
            count_ += value > -__builtin_inf();
            least = value < least ? value : least;
            best = value > best ? value : best;
        }
        // An equal candidate that comes later loses.
        limit_ = count_ == beam_size_ ? least : -__builtin_inf();
        floor_ = best - threshold;
    }

    // A candidate must be above the one and reach the other.
    double limit() const { return limit_; }
    double floor() const { return floor_; }
    SEQFAST_INLINE bool takes(double score) const { return score > limit_ && !(score < floor_); }

    SEQFAST_INLINE void add(CtcRanked candidate) {
        keys_[count_++] = candidate;
        if (count_ < most_) return;
        keep_best();
        limit_ = keys_[beam_size_ - 1].score;
    }

    // The new beam: the best ones, by falling score, of which none is further below the first.
    void choose(double threshold) {
        if (count_ > beam_size_) keep_best();
        sort_keys(keys_, count_);
        if (count_ == 0) return;
        const double lowest = keys_[0].score - threshold;
        while (keys_[count_ - 1].score < lowest) --count_;
    }

    int64_t count() const { return count_; }
    const CtcRanked& operator[](int64_t k) const { return keys_[k]; }

  private:
    void keep_best() {
        select_keys(keys_, count_, beam_size_);
        count_ = beam_size_;
    }

    CtcRanked* const keys_;
    const int64_t most_, beam_size_;
    int64_t count_ = 0;
    double limit_ = 0, floor_ = 0;
};

}  // namespace ctc_search

}  // namespace seqfast::cpu::SEQFAST_ISA
