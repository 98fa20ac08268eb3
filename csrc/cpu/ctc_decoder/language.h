// The language beside a CTC search, as an automaton over tokens: n-grams, words and hotwords.
#pragma once

#include "core/ctc_decoder.h"

#include "cpu/base/selection.h"

namespace seqfast::cpu::SEQFAST_ISA {

// The child by that label; -1 where there is none.
SEQFAST_INLINE int32_t child_of(const CtcTree& tree, int32_t node, int32_t label) {
    const int64_t begin = tree.starts[node], end = tree.starts[node + 1];
    const int64_t at =
        begin + count_while(end - begin, [&](int64_t i) { return tree.labels[begin + i] < label; });
    return at < end && tree.labels[at] == label ? static_cast<int32_t>(at + 1) : -1;
}

class Language {
  public:
    Language(const CtcLanguage& from, int64_t row)
        : in_(from),
          hot_root_(from.hot_roots ? from.hot_roots[row] : -1),
          by_tokens_(from.token_words != nullptr),
          by_words_(from.ngram.tree.starts && !from.token_words) {}

    CtcContext begin() const {
        CtcContext first{};
        first.end_gain = __builtin_nan("");
        first.state = static_cast<int32_t>(in_.ngram.start);
        first.word = word_root();
        first.hot = hot_root_;
        first.letters = letters_inside(first.word, first.hot);
        return first;
    }

    // Of the prefix with one token more; -inf where that must not be.
    SEQFAST_INLINE double score(CtcContext& from, int64_t token) const {
        Step to;
        return step(from, token, to) ? to.settled + to.part : -__builtin_inf();
    }

    // The prefix with one token more, which may be.
    void extend(CtcContext& from, int64_t token, CtcContext& to) const {
        Step made;
        step(from, token, made);
        to.settled = made.settled;
        to.part = made.part;
        to.end_gain = __builtin_nan("");
        to.text = made.ends ? mixed(from.text, 0) : from.text;
        if (token != in_.boundary) {
            for (int32_t i = in_.letter_starts[token]; i < in_.letter_starts[token + 1]; ++i)
                to.text = mixed(to.text, in_.letters[i] + 1);
        }
        to.letters = letters_inside(made.word, made.hot);
        to.state = made.state;
        to.end_state = 0;
        to.word = made.word;
        to.hot = made.hot;
        to.length = made.length;
        to.depth = from.depth + 1;
    }

    // After the last frame: the score of all words, with the end of the sentence; -inf where a word
    // must not end here. `text` becomes the hash of the whole.
    double finish(CtcContext& from, uint64_t& text) const {
        double score = from.settled;
        int32_t state = from.state, unused;
        text = from.text;
        if (from.length > 0) {
            if (!can_end(from)) return -__builtin_inf();
            score += from.end_gain;
            state = from.end_state;
            text = mixed(text, 0);
        }
        if (in_.ngram.tree.starts && in_.ngram.end >= 0)
            score += weighted(ngram(state, static_cast<int32_t>(in_.ngram.end), unused));
        return score;
    }

    // No token gains more, where it goes on with the word and where it ends it.
    double most_inside(const CtcContext& from) const {
        return most_of_part(from.word, from.hot) - from.part + (by_tokens_ ? in_.beta : 0.0);
    }
    double most_at_end(const CtcContext& from) const {
        if (from.length == 0) return most_inside(from);
        const double part = most_of_part(word_root(), hot_root_) - from.part;
        double gain = from.end_gain;
        if (!(gain == gain)) {
            gain = from.hot >= 0 ? in_.best_word : 0.0;
            if (by_words_) gain += in_.beta + unknown_of(from);
        }
        return gain + part + (by_tokens_ ? in_.beta : 0.0);
    }

    double most_outside(const CtcContext& from) const {
        if (in_.lexicon) return -__builtin_inf();
        if (in_.unknown_part > 0) return __builtin_inf();
        return in_.unknown_part - from.part + (by_tokens_ ? in_.beta : 0.0);
    }
    SEQFAST_INLINE uint64_t first_letter(int64_t token) const {
        const int32_t at = in_.letter_starts[token];
        return at == in_.letter_starts[token + 1] ? ~uint64_t{0} : bit_of(in_.letters[at]);
    }

  private:
    // What a token makes of a prefix.
    struct Step {
        double settled, part;
        int32_t state, word, hot, length;
        bool ends;  // a word before it
    };
    SEQFAST_INLINE bool step(CtcContext& from, int64_t token, Step& to) const {
        to = {from.settled, 0, from.state, from.word, from.hot, from.length, false};
        const bool at_boundary = token == in_.boundary;
        if ((at_boundary || (in_.begins && in_.begins[token])) && from.length > 0) {
            if (!can_end(from)) return false;
            to = {from.settled + from.end_gain, 0, from.end_state, word_root(), hot_root_, 0, true};
        }
        if (by_tokens_)
            to.settled += weighted(ngram(to.state, in_.token_words[token], to.state)) + in_.beta;
        if (at_boundary) return true;
        for (int32_t i = in_.letter_starts[token]; i < in_.letter_starts[token + 1]; ++i) {
            const int32_t letter = in_.letters[i];
            if (to.word >= 0) to.word = child_of(in_.words, to.word, letter);
            if (to.hot >= 0) to.hot = child_of(in_.hotwords, to.hot, letter);
            ++to.length;
        }
        if (in_.lexicon && !has(to.word, kCtcWordPart)) return false;
        to.part = part_of(to);
        return true;
    }

    int32_t word_root() const { return in_.words.starts ? 0 : -1; }

    // The letters that a part can go on with inside a tree, a bit each; the last bit is for all
    // letters from there on. Others leave all trees, and then no token gains more than
    // `most_outside`.
    uint64_t letters_inside(int32_t word, int32_t hot) const {
        if (!in_.lexicon && !by_words_) return ~uint64_t{0};
        const uint64_t letters = word < 0 ? 0 : letters_of(in_.words, word);
        return hot < 0 ? letters : letters | letters_of(in_.hotwords, hot);
    }
    static uint64_t bit_of(int32_t letter) { return uint64_t{1} << (letter < 63 ? letter : 63); }
    static uint64_t letters_of(const CtcTree& tree, int32_t node) {
        uint64_t letters = 0;
        for (int32_t child = tree.starts[node]; child < tree.starts[node + 1]; ++child)
            letters |= bit_of(tree.labels[child]);
        return letters;
    }

    bool has(int32_t word, uint8_t flag) const { return word >= 0 && (in_.flags[word] & flag); }
    double unknown_of(const CtcContext& from) const {
        return has(from.word, kCtcKnown) ? 0.0 : in_.unknown_word;
    }
    // No -inf from a weight of 0.
    double weighted(double logprob) const { return in_.alpha == 0 ? 0.0 : in_.alpha * logprob; }

    static uint64_t mixed(uint64_t hash, int64_t letter) {
        hash = (hash ^ static_cast<uint64_t>(letter)) * 0x9E3779B97F4A7C15u;
        return hash ^ hash >> 29;
    }

    double part_of(const Step& at) const {
        if (at.length == 0) return 0;
        if (at.hot >= 0) return in_.hot_parts[at.hot];
        if (!by_words_ || has(at.word, kCtcKnownPart)) return 0;
        return in_.unknown_part * (at.length > in_.part_length ? at.length / in_.part_length : 1.0);
    }

    // The most that a part can be worth with letters more, by where it stands in the trees.
    double most_of_part(int32_t word, int32_t hot) const {
        double most = 0;
        if (by_words_ && in_.unknown_part > 0) return __builtin_inf();
        // What begins no known word never will.
        if (by_words_ && !has(word, kCtcKnownPart)) most = in_.unknown_part;
        if (hot < 0) return most;
        for (int32_t child = in_.hotwords.starts[hot]; child < in_.hotwords.starts[hot + 1];
             ++child)
            most = in_.hot_parts[child + 1] > most ? in_.hot_parts[child + 1] : most;
        return in_.best_part > most ? in_.best_part : most;
    }

    // Whether the part may end as a word; its `end_gain` and `end_state` are known then.
    bool can_end(CtcContext& from) const {
        if (!(from.end_gain == from.end_gain)) ask_end(from);
        return from.end_gain != -__builtin_inf();
    }

    void ask_end(CtcContext& from) const {
        from.end_state = from.state;
        from.end_gain = 0;
        if (in_.lexicon && !has(from.word, kCtcWord)) {
            from.end_gain = -__builtin_inf();
            return;
        }
        if (by_words_) {
            const int32_t word = from.word < 0 ? -1 : in_.word_of[from.word];
            const int32_t asked = word < 0 ? static_cast<int32_t>(in_.ngram.unknown) : word;
            from.end_gain =
                weighted(ngram(from.state, asked, from.end_state)) + in_.beta + unknown_of(from);
        }
        if (from.hot >= 0) from.end_gain += in_.hot_words[from.hot];
    }

    // Natural logarithm of the word's probability, and the state after it (Katz 1987).
    double ngram(int32_t state, int32_t word, int32_t& next) const {
        const CtcNgram& model = in_.ngram;
        double total = 0;
        int32_t found = child_of(model.tree, state, word);
        while (found < 0) {
            total += model.backoffs[state];
            if (state == 0) {
                next = 0;
                return -__builtin_inf();
            }
            state = static_cast<int32_t>(model.suffixes[state]);
            found = child_of(model.tree, state, word);
        }
        next = found >= model.first_longest ? static_cast<int32_t>(model.suffixes[found]) : found;
        return total + model.logprobs[found];
    }

    const CtcLanguage& in_;
    const int32_t hot_root_;
    const bool by_tokens_, by_words_;
};

}  // namespace seqfast::cpu::SEQFAST_ISA
