// CTC alignment of given tokens: arguments, and the steps between its states.
#pragma once

#include <cstdint>

#include "core/config.h"
#include "core/ctc.h"

namespace seqfast {

// What is wrong with a row: a frame with what is no log-probability, or one of these.
constexpr int64_t kCtcRowFine = -1;
constexpr int64_t kCtcRowTooShort = -2;  // for its tokens, and a blank between equal ones
constexpr int64_t kCtcBadToken = -3;     // less the token's place: the blank, or none of them

struct CtcAlignArgs {
    CtcInput input;
    int64_t longest;
    // Of so many frames all states are kept at a time, and every so many frames' once.
    int64_t block;
    const int64_t* targets;         // [batch, longest]
    const int64_t* target_lengths;  // [batch]; null: all of them
    int64_t* paths;                 // [batch, frames]; -1 behind the last frame
    int64_t* spans;        // [batch, longest, 2], first and last frame; -1 behind the last token
    double* token_scores;  // [batch, longest]; 0 behind the last token
    double* scores;        // [batch]; -inf where no alignment is possible
    int64_t* refused;      // [batch]; where it is not kCtcRowFine, all scores are NaN
    char* workspace;       // aligned to 64
    int threads;           // on the CPU
};
template <class F>
void visit(CtcAlignArgs& args, F&& f) {
    f("input", args.input);
    f("longest", args.longest);
    f("block", args.block);
    f("targets", args.targets);
    f("target_lengths", args.target_lengths);
    f("paths", args.paths);
    f("spans", args.spans);
    f("token_scores", args.token_scores);
    f("scores", args.scores);
    f("refused", args.refused);
    f("threads", args.threads);
}

SEQFAST_INLINE int64_t ctc_target_length(const CtcAlignArgs& args, int64_t row) {
    if (!args.target_lengths) return args.longest;
    const int64_t length = args.target_lengths[row];
    return length < 0 ? 0 : length < args.longest ? length : args.longest;
}

// Where an alignment is: at a token, or at the blank before it.
struct CtcPlace {
    int64_t position;
    bool at_token;
};

// The log-probabilities of the best ways to all places in a frame; position `tokens` has no token.
struct CtcWays {
    double* token;  // from position -1 on, which is -inf
    double* blank;
};

// -inf where a blank has to come between a token and its repetition.
SEQFAST_INLINE double ctc_skip(const int64_t* targets, int64_t position) {
    return position > 0 && targets[position] != targets[position - 1] ? 0.0 : -__builtin_inf();
}

// Where the best way to a place in one frame was in the frame before. Of equal ones: the place
// itself, then the nearer one.
SEQFAST_INLINE CtcPlace ctc_came_from(const CtcWays& before, const int64_t* targets,
                                      CtcPlace place) {
    const int64_t i = place.position;
    double best = place.at_token ? before.token[i] : before.blank[i];
    CtcPlace from = place;
    if (place.at_token && before.blank[i] > best) {
        best = before.blank[i];
        from = {i, false};
    }
    const bool may_skip = i > 0 && (!place.at_token || targets[i] != targets[i - 1]);
    return may_skip && before.token[i - 1] > best ? CtcPlace{i - 1, true} : from;
}

// The last place: the blank behind the last token, or that token.
SEQFAST_INLINE CtcPlace ctc_last_place(const CtcWays& last, int64_t tokens) {
    const bool token_wins = tokens > 0 && last.token[tokens - 1] > last.blank[tokens];
    return token_wins ? CtcPlace{tokens - 1, true} : CtcPlace{tokens, false};
}

// Why a row's tokens cannot be aligned, whatever its numbers are.
SEQFAST_INLINE int64_t ctc_target_refusal(const CtcInput& input, const int64_t* targets,
                                          int64_t tokens, int64_t frames) {
    int64_t needed = tokens;
    for (int64_t i = 0; i < tokens; ++i) {
        if (targets[i] < 0 || targets[i] >= input.vocab || targets[i] == input.blank)
            return kCtcBadToken - i;
        needed += i > 0 && targets[i] == targets[i - 1];
    }
    return needed > frames ? kCtcRowTooShort : kCtcRowFine;
}

// The first position from which the end can still be reached, so many frames before it.
SEQFAST_INLINE int64_t ctc_first_position(int64_t end, int64_t frames_left) {
    return end > frames_left ? end - frames_left : 0;
}

}  // namespace seqfast
