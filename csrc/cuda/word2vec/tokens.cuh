// Which tokens of a corpus are kept, and what is drawn for a window: all by counter, so that
// whoever needs a token of a neighbour draws it again.
#pragma once

#include "core/random.h"
#include "core/word2vec.h"
#include "cuda/base/primitives.cuh"
#include "cuda/base/search.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

SEQFAST_DEVICE void draw_words(const Word2VecArgs& args, uint64_t place, uint32_t stream,
                               uint32_t (&words)[4]) {
    const uint64_t key = uint64_t(args.seed);
    words[0] = uint32_t(place);
    words[1] = uint32_t(place >> 32);
    words[2] = uint32_t(args.epoch);
    words[3] = stream;
    philox<ScalarWords>(words, uint32_t(key), uint32_t(key >> 32));
}
// Without an index into registers.
SEQFAST_DEVICE uint32_t pick_word(const uint32_t (&words)[4], int i) {
    return i == 0 ? words[0] : i == 1 ? words[1] : i == 2 ? words[2] : words[3];
}

SEQFAST_DEVICE bool keeps_token(const Word2VecArgs& args, int64_t token, int32_t id) {
    if (!args.keep) return true;
    const TokenCounter at = subsample_counter(token);
    uint32_t words[4];
    draw_words(args, at.group, kSubsampleStream, words);
    return pick_word(words, at.word) <= args.keep[id];
}

SEQFAST_DEVICE int reach_of(const Word2VecArgs& args, uint32_t word) {
    return args.shrink_windows ? shrunk_window(args, word) : args.window;
}
SEQFAST_DEVICE uint32_t centre_word(const Word2VecArgs& args, int64_t token, int64_t word) {
    uint32_t words[4];
    draw_words(args, uint64_t(token), kWindowStream + uint32_t(word / 4), words);
    return pick_word(words, int(word % 4));
}

// A target's row: of output, or, from -1 down, of nodes.
SEQFAST_DEVICE float* target_row(const Word2VecArgs& args, int32_t code) {
    return code >= 0 ? args.output + code * args.stride : args.nodes + ~code * args.stride;
}

// The kept tokens of whole sentences in order, up to 32 at a time; for all lanes of a warp.
class KeptTokens {
  public:
    struct State {
        int64_t at, sentence, end, last;
        bool starts;
    };
    State state;

    explicit SEQFAST_DEVICE KeptTokens(const Word2VecArgs& args, const State& from = {})
        : state(from), args_(args) {}

    // From the `reach` kept tokens before `first` in its sentence, to the end of the sentence that
    // `last` - 1 is in. How many before `first` there are.
    SEQFAST_DEVICE int begin(int64_t first, int64_t last, int reach) {
        state.last = last;
        const int64_t at =
            count_front(args_.sentences, [&](int64_t i) { return args_.offsets[i] <= first; }) - 1;
        state.sentence = at;
        state.end = args_.offsets[at + 1];
        const int64_t start = args_.offsets[at];
        state.at = first;
        int found = 0;
        while (state.at > start && found < reach) {
            const int64_t token = state.at - 32 + lane_index();
            const bool keeps = token >= start && keeps_token(args_, token, args_.ids[token]);
            const uint32_t kept = ballot(keeps);
            const int here = count_bits(kept);
            if (found + here < reach) {
                found += here;
                state.at = state.at - 32 > start ? state.at - 32 : start;
                continue;
            }
            // The one that has as many kept ones from it to the end as are wanted.
            const bool wanted = keeps && count_bits(kept >> lane_index()) == reach - found;
            state.at += count_bits(ballot(wanted) - 1) - 32;
            found = reach;
        }
        state.starts = true;
        return found;
    }

    struct Group {
        int64_t token;  // this lane's
        int32_t id;     // where it is kept
        uint32_t kept;  // lanes
        bool starts;    // the sentence's first one
    };
    // False behind the last sentence.
    SEQFAST_DEVICE bool next(Group& group) {
        while (state.at >= state.end) {
            if (state.at >= state.last || state.sentence + 1 >= args_.sentences) return false;
            ++state.sentence;
            state.end = args_.offsets[state.sentence + 1];
            state.starts = true;
        }
        group.token = state.at + lane_index();
        bool keeps = group.token < state.end;
        if (keeps) {
            group.id = args_.ids[group.token];
            keeps = keeps_token(args_, group.token, group.id);
        }
        group.kept = ballot(keeps);
        group.starts = state.starts;
        state.starts = false;
        state.at = state.at + 32 < state.end ? state.at + 32 : state.end;
        return true;
    }

  private:
    const Word2VecArgs& args_;
};

// The 32 lanes' sums of `n` values, a power of two: lane l gets that of value l / (32 / n). Lanes
// trade what the other half of them is to add up, so that few values cost few shuffles.
template <int n, int bit = 16>
SEQFAST_DEVICE float sum_over_lanes(const float (&values)[n]) {
    if constexpr (n == 1) {
        float sum = values[0];
        SEQFAST_UNROLL
        for (int mask = bit; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
        return sum;
    } else {
        const bool upper = lane_index() & bit;
        float half[n / 2];
        SEQFAST_UNROLL
        for (int i = 0; i < n / 2; ++i) {
            const float mine = upper ? values[i + n / 2] : values[i];
            const float other = upper ? values[i] : values[i + n / 2];
            half[i] = mine + shuffle_xor(other, bit);
        }
        return sum_over_lanes<n / 2, bit / 2>(half);
    }
}

SEQFAST_DEVICE double sum_over_lanes(double value) {
    SEQFAST_UNROLL
    for (int mask = 16; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
    return value;
}

SEQFAST_DEVICE float dot(F32x4 a, F32x4 b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }
SEQFAST_DEVICE void add_scaled(F32x4& to, float scale, F32x4 from) {
    to.x += scale * from.x;
    to.y += scale * from.y;
    to.z += scale * from.z;
    to.w += scale * from.w;
}

// How far a logit is from its label, and its loss in nats: label 1 where `sign` is 1, 0 where -1.
struct Logistic {
    float error, loss;
};
SEQFAST_DEVICE Logistic logistic(float sign, float logit) {
    const float right = sign * logit;
    // Of the smaller side, so that nothing overflows.
    const float power = fast_exp(right < 0 ? right : -right);
    const float wrong = (right < 0 ? 1.0f : power) / (1.0f + power);
    return {sign * wrong, (right < 0 ? -right : 0.0f) + log_plus_one(power)};
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
