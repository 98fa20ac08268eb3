// Candidates of a step of beam search, and the first of a stream of them.
#pragma once

#include "core/top_k.h"
#include "cpu/base/exponentials.h"
#include "cpu/base/selection.h"

namespace seqfast::cpu::SEQFAST_ISA {

// By falling key, then rising beam, falling value, rising token; different ones never compare
// equal.
template <class Real>
struct Candidate;

template <>
struct Candidate<float> {
    uint64_t key_beam, value_token;

    Candidate() = default;
    Candidate(float key, int64_t beam, float value, int64_t token)
        : key_beam(static_cast<uint64_t>(ordered(key)) << 32 | ~static_cast<uint32_t>(beam)),
          value_token(static_cast<uint64_t>(ordered(value)) << 32 | ~static_cast<uint32_t>(token)) {
    }
    static uint32_t ordered(float x) { return ordered_bits(bit_cast<uint32_t>(x + 0.0f)); }
    float key() const {
        return bit_cast<float>(bits_of_ordered(static_cast<uint32_t>(key_beam >> 32)));
    }
    float value() const {
        return bit_cast<float>(bits_of_ordered(static_cast<uint32_t>(value_token >> 32)));
    }
    int64_t beam() const { return ~static_cast<uint32_t>(key_beam); }
    int64_t token() const { return ~static_cast<uint32_t>(value_token); }
    bool operator>(const Candidate& other) const {
        return key_beam != other.key_beam ? key_beam > other.key_beam
                                          : value_token > other.value_token;
    }
};

template <>
struct Candidate<double> {
    double key_, value_;
    uint32_t beam_, token_;

    Candidate() = default;
    Candidate(double key, int64_t beam, double value, int64_t token)
        : key_(key),
          value_(value),
          beam_(static_cast<uint32_t>(beam)),
          token_(static_cast<uint32_t>(token)) {}
    double key() const { return key_; }
    double value() const { return value_; }
    int64_t beam() const { return beam_; }
    int64_t token() const { return token_; }
    bool operator>(const Candidate& other) const {
        if (key_ != other.key_) return key_ > other.key_;
        if (beam_ != other.beam_) return beam_ < other.beam_;
        return value_ != other.value_ ? value_ > other.value_ : token_ < other.token_;
    }
};

// The `wanted` first of the candidates that it is shown.
template <class Real>
class Best {
  public:
    // Candidates are compacted once there are twice as many as are wanted.
    static int64_t buffer(int64_t wanted) { return 2 * wanted + kTopKSpare; }

    Best(Candidate<Real>* candidates, int64_t wanted) : all_(candidates), wanted_(wanted) {}

    // `wanted` candidates are known to reach it.
    void raise(Real limit) { limit_ = limit > limit_ ? limit : limit_; }
    Real limit() const { return limit_; }

    SEQFAST_INLINE void push(const Candidate<Real>& candidate) {
        if (!(candidate.key() >= limit_) || (full_ && !(candidate > worst_))) return;
        all_[count_++] = candidate;
        if (count_ == buffer(wanted_)) compact();
    }

    // In order; returns how many there are.
    int64_t finish() {
        if (count_ > wanted_) compact();
        sort_keys(all_, count_);
        return count_;
    }

  private:
    void compact() {
        select_keys(all_, count_, wanted_);
        count_ = wanted_;
        worst_ = all_[wanted_ - 1];
        full_ = true;
        raise(worst_.key());
    }

    Candidate<Real>* all_;
    int64_t wanted_, count_ = 0;
    Candidate<Real> worst_{};
    bool full_ = false;
    Real limit_ = kLowest<Real>;  // -inf is nobody's key
};

}  // namespace seqfast::cpu::SEQFAST_ISA
