// Which tokens of a corpus are kept, which words are in each window and which are drawn against it:
// all by counter, so that any thread finds the same.
#pragma once

#include "core/random.h"
#include "core/word2vec.h"
#include "cpu/base/arena.h"
#include "cpu/base/range.h"
#include "cpu/base/simd.h"

namespace seqfast::cpu::SEQFAST_ISA {

// Words of up to `capacity` counters (position, epoch, stream), a vector of counters at a time.
class CounterWords {
  public:
    void take(Arena& arena, int64_t capacity) {
        capacity_ = ceil_div(capacity, kWordLanes) * kWordLanes;
        for (auto& part : counter_) part = arena.take<uint32_t>(capacity_);
        for (auto& word : words_) word = arena.take<uint32_t>(capacity_);
    }
    SEQFAST_INLINE void clear() { count_ = 0; }
    SEQFAST_INLINE int64_t count() const { return count_; }
    SEQFAST_INLINE bool fits(int64_t more) const { return count_ + more <= capacity_; }
    SEQFAST_INLINE void add(int64_t position, uint32_t stream) {
        counter_[0][count_] = static_cast<uint32_t>(position);
        counter_[1][count_] = static_cast<uint32_t>(static_cast<uint64_t>(position) >> 32);
        counter_[2][count_] = stream;
        ++count_;
    }
    void draw(int64_t seed, int64_t epoch) {
        const uint64_t key = static_cast<uint64_t>(seed);
        for (int64_t i = 0; i < count_; i += kWordLanes) {
            Words counter[4] = {words_at(counter_[0] + i), words_at(counter_[1] + i),
                                Words{} + static_cast<uint32_t>(epoch), words_at(counter_[2] + i)};
            philox<VectorWords>(counter, static_cast<uint32_t>(key),
                                static_cast<uint32_t>(key >> 32));
            for (int w = 0; w < 4; ++w) {
                __builtin_memcpy(words_[w] + i, &counter[w], sizeof(Words));
            }
        }
    }
    SEQFAST_INLINE uint32_t word(int64_t counter, uint32_t w) const { return words_[w][counter]; }

  private:
    static SEQFAST_INLINE Words words_at(const uint32_t* from) {
        Words words;
        __builtin_memcpy(&words, from, sizeof(words));
        return words;
    }

    int64_t capacity_ = 0, count_ = 0;
    uint32_t* counter_[3];
    uint32_t* words_[4];
};

// A centre and its contexts among the kept tokens of a span: [begin, end) but for the centre.
struct Window {
    int32_t centre, begin, end;
    int32_t offset;  // of the centre from the first token of the span
    SEQFAST_INLINE int32_t contexts() const { return end - begin - 1; }
};

// Among the kept tokens, context number `pair` of a window.
SEQFAST_INLINE int32_t context_of_pair(const Window& window, int32_t pair) {
    const int32_t k = window.begin + pair;
    return k < window.centre ? k : k + 1;
}

// The most tokens on one side of a window, given the longest sentence.
inline int64_t longest_reach(const Word2VecArgs& args) {
    int64_t longest = args.tokens;
    if (args.offsets) {
        longest = 0;
        for (int64_t s = 0; s < args.sentences; ++s) {
            longest = larger(longest, args.offsets[s + 1] - args.offsets[s]);
        }
    }
    return larger(smaller(args.window, longest - 1), 0);
}
inline int64_t most_contexts(const Word2VecArgs& args, int64_t reach) {
    return smaller(2 * reach, larger(args.tokens - 1, 0));
}

// What is kept of the tokens [first, last), with what their windows see on both sides of it.
class KeptTokens {
  public:
    void take(Arena& arena, const Word2VecArgs& args, int64_t most_tokens, int64_t reach) {
        args_ = &args;
        reach_ = reach;
        // Tokens are written before it is known whether they stay.
        ids_ = arena.take<int32_t>(most_tokens + 2 * reach + 1);
        earlier_ = arena.take<int32_t>(most_tokens + 2 * reach + 1);
        windows_ = arena.take<Window>(most_tokens + 1);
        counters_.take(arena, 256);
    }

    const int32_t* ids() const { return ids_; }
    const Window* windows() const { return windows_; }
    int64_t count() const { return count_; }  // of windows
    int64_t kept_end() const { return kept_end_; }
    int64_t position(const Window& window) const { return first_ + window.offset; }
    int64_t round(const Window& window) const { return position(window) / kWord2VecRound; }

    // Whether a word may occur twice among the contexts.
    SEQFAST_INLINE bool repeats(const Window& window) const {
        int32_t latest = -1;
        for (int32_t k = window.begin; k < window.end; ++k) {
            latest = earlier_[k] > latest ? earlier_[k] : latest;
        }
        return latest >= window.begin;
    }

    void find(int64_t first, int64_t last) {
        const Word2VecArgs& args = *args_;
        first_ = first;
        group_ = -1;
        count_ = 0;
        int64_t sentence = sentence_of(first);
        int64_t begin = find_before(first, args.offsets[sentence]);
        int64_t at = reach_;
        kept_begin_ = begin;
        for (int64_t p = first; p < last; ++sentence) {
            const int64_t end = args.offsets[sentence + 1];
            const int64_t first_window = count_;
            for (const int64_t stop = smaller(end, last); p < stop;) {
                const uint32_t* words = group_words(p);
                for (const int64_t group_end = smaller(stop, (p / 64 + 1) * 64); p < group_end;
                     ++p) {
                    const int32_t id = args.ids[p];
                    ids_[at] = id;
                    windows_[count_].centre = static_cast<int32_t>(at);
                    windows_[count_].offset = static_cast<int32_t>(p - first);
                    const bool kept = is_kept(id, words[p % 64]);
                    at += kept;
                    count_ += kept;
                }
            }
            if (end > last) at = find_after(last, end, at);
            for (int64_t w = first_window; w < count_; ++w) {
                windows_[w].begin = static_cast<int32_t>(begin);
                windows_[w].end = static_cast<int32_t>(at);
            }
            begin = at;
        }
        kept_end_ = at;
        reach_of_windows();
    }

    // For each token the last one before it of the same word, if near enough to share a window.
    void find_earlier() {
        for (int64_t k = kept_begin_; k < kept_end_; ++k) {
            const int32_t id = ids_[k];
            int32_t found = -1;
            const int64_t stop = larger(kept_begin_, k - 2 * reach_);
            for (int64_t e = stop; e < k; ++e) {
                found = ids_[e] == id ? static_cast<int32_t>(e) : found;
            }
            earlier_[k] = found;
        }
    }

  private:
    int64_t sentence_of(int64_t token) const {
        int64_t low = 0, high = args_->sentences;  // offsets[low] <= token < offsets[high]
        while (high - low > 1) {
            const int64_t middle = (low + high) / 2;
            (args_->offsets[middle] <= token ? low : high) = middle;
        }
        return low;
    }

    SEQFAST_INLINE bool is_kept(int32_t id, uint32_t word) const {
        return !args_->keep || word <= args_->keep[id];
    }

    // The words of the 64 tokens around p, in their order.
    const uint32_t* group_words(int64_t p) {
        const int64_t group = p / 64;
        if (group == group_ || !args_->keep) return group_words_;
        group_ = group;
        counters_.clear();
        const int64_t first = static_cast<int64_t>(subsample_counter(group * 64).group);
        for (int i = 0; i < 16; ++i) counters_.add(first + i, kSubsampleStream);
        counters_.draw(args_->seed, args_->epoch);
        for (int i = 0; i < 64; ++i) {
            const TokenCounter at = subsample_counter(i);
            group_words_[i] =
                counters_.word(static_cast<int64_t>(at.group), static_cast<uint32_t>(at.word));
        }
        return group_words_;
    }

    // Returns where the kept tokens before `first` begin; they end at reach_.
    int64_t find_before(int64_t first, int64_t begin) {
        int64_t at = reach_;
        for (int64_t p = first; p > begin && at > 0; --p) {
            const int32_t id = args_->ids[p - 1];
            if (is_kept(id, group_words(p - 1)[(p - 1) % 64])) ids_[--at] = id;
        }
        return at;
    }

    int64_t find_after(int64_t last, int64_t end, int64_t at) {
        for (int64_t found = 0; last < end && found < reach_; ++last) {
            const int32_t id = args_->ids[last];
            if (is_kept(id, group_words(last)[last % 64])) {
                ids_[at++] = id;
                ++found;
            }
        }
        return at;
    }

    // From whole sentences to as many tokens as each window reaches.
    void reach_of_windows() {
        for (int64_t w = 0; w < count_;) {
            const int64_t stop = smaller(count_, w + 256);
            if (args_->shrink_windows) {
                counters_.clear();
                for (int64_t i = w; i < stop; ++i) {
                    counters_.add(first_ + windows_[i].offset, kWindowStream);
                }
                counters_.draw(args_->seed, args_->epoch);
            }
            for (int64_t i = 0; w < stop; ++w, ++i) {
                const int64_t reach = args_->shrink_windows
                                          ? shrunk_window(*args_, counters_.word(i, 0))
                                          : args_->window;
                Window& of = windows_[w];
                of.begin = static_cast<int32_t>(larger(of.begin, of.centre - reach));
                of.end = static_cast<int32_t>(smaller(of.end, of.centre + reach + 1));
            }
        }
    }

    const Word2VecArgs* args_;
    int64_t reach_, first_, count_, kept_begin_, kept_end_;
    int64_t group_;
    uint32_t group_words_[64] = {};
    int32_t* ids_;
    int32_t* earlier_;
    Window* windows_;
    CounterWords counters_;
};

// A window, or one pair of it, and the words drawn against it.
struct Example {
    int32_t window;
    int32_t pair;   // which of the contexts, left to right; -1: all
    int64_t begin;  // of its negatives
    int32_t negatives;
    bool repeats;  // a word may be drawn twice
};

// Goes through the windows of a span and draws for some of them at a time.
class Examples {
  public:
    // The most counters that the negatives of an example touch.
    static int64_t counters_of(const Word2VecArgs& args) { return args.negative / 4 + 2; }
    static bool by_pairs(const Word2VecArgs& args) { return !args.cbow && !args.shared_negatives; }

    void take(Arena& arena, const Word2VecArgs& args, int64_t most_examples) {
        args_ = &args;
        most_ = most_examples;
        examples_ = arena.take<Example>(most_examples);
        negatives_ = arena.take<int32_t>(most_examples * args.negative + 1);
        const int64_t counters = larger(512, counters_of(args));
        counters_.take(arena, counters);
        draws_ = arena.take<AliasDraw>(4 * counters + kWordLanes * 4);
    }

    SEQFAST_INLINE int64_t count() const { return count_; }
    SEQFAST_INLINE const Example& operator[](int64_t i) const { return examples_[i]; }
    SEQFAST_INLINE const int32_t* negatives(const Example& example) const {
        return negatives_ + example.begin;
    }

    void restart() {
        window_ = 0;
        pair_ = 0;
    }

    // The next examples, or none at the end of the span.
    bool next(const KeptTokens& kept) {
        count_ = 0;
        filled_ = 0;
        while (count_ < most_) {
            const int64_t begin = count_;
            counters_.clear();
            while (count_ < most_ && counters_.fits(counters_of(*args_)) && add(kept)) {
            }
            if (count_ == begin) break;
            if (args_->negative > 0) draw_negatives(kept, begin);
        }
        return count_ > 0;
    }

  private:
    bool add(const KeptTokens& kept) {
        while (window_ < kept.count() && kept.windows()[window_].contexts() == 0) ++window_;
        if (window_ == kept.count()) return false;
        const Window& window = kept.windows()[window_];
        const bool pairs = by_pairs(*args_);
        Example& example = examples_[count_++];
        example.window = static_cast<int32_t>(window_);
        example.pair = pairs ? static_cast<int32_t>(pair_) : -1;
        example.negatives = 0;
        example.begin = 0;
        example.repeats = false;
        if (args_->negative > 0) {
            const Range words = words_of(example);
            const int64_t position = kept.position(window);
            for (int64_t c = words.begin / 4; c <= (words.end - 1) / 4; ++c) {
                counters_.add(position, kWindowStream + static_cast<uint32_t>(c));
            }
        }
        if (!pairs || ++pair_ == window.contexts()) {
            pair_ = 0;
            ++window_;
        }
        return true;
    }

    Range words_of(const Example& example) const {
        const int64_t begin = 1 + (example.pair > 0 ? example.pair : 0) * int64_t{args_->negative};
        return {begin, begin + args_->negative};
    }

    // Where in the alias table the words point; their lines are on their way when it is read.
    void find_places(int64_t first) {
        counters_.draw(args_->seed, args_->epoch);
        int64_t counter = 0, drawn = 0;
        for (int64_t i = first; i < count_; ++i) {
            const Range words = words_of(examples_[i]);
            counter -= words.begin / 4;
            for (int64_t w = words.begin; w < words.end; ++w, ++drawn) {
                const uint32_t word = counters_.word(counter + w / 4, static_cast<uint32_t>(w % 4));
                const AliasDraw draw = alias_draw(*args_, word);
                draws_[drawn] = draw;
                __builtin_prefetch(args_->alias_threshold + draw.place);
                __builtin_prefetch(args_->alias + draw.place);
            }
            counter += (words.end - 1) / 4 + 1;
        }
    }

    void draw_negatives(const KeptTokens& kept, int64_t first) {
        find_places(first);
        int64_t drawn = 0;
        for (int64_t i = first; i < count_; ++i) {
            Example& example = examples_[i];
            const Window& window = kept.windows()[example.window];
            const int32_t centre = kept.ids()[window.centre];
            const Range words = words_of(example);
            example.begin = filled_;
            uint64_t seen = 0;
            bool repeats = false;
            for (int64_t w = words.begin; w < words.end; ++w, ++drawn) {
                const int32_t id = negative_of(*args_, draws_[drawn]);
                negatives_[filled_] = id;
                filled_ += id != centre;
                const uint64_t bit = uint64_t{1} << (id & 63);
                repeats |= (seen & bit) != 0;
                seen |= bit;
            }
            example.negatives = static_cast<int32_t>(filled_ - example.begin);
            example.repeats = repeats;
        }
    }

    const Word2VecArgs* args_;
    int64_t most_, count_, filled_;
    int64_t window_, pair_;  // what comes next
    Example* examples_;
    int32_t* negatives_;
    AliasDraw* draws_;
    CounterWords counters_;
};

}  // namespace seqfast::cpu::SEQFAST_ISA
