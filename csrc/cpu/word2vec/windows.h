// Windows one after the other, each from the parameters its predecessor left: one thread's share,
// and with other threads at work on the same rows, Hogwild (F. Niu et al. 2011).
#pragma once

#include "cpu/word2vec/draw.h"
#include "cpu/word2vec/softmax.h"
#include "cpu/word2vec/tile.h"

namespace seqfast::cpu::SEQFAST_ISA {

inline bool full_softmax(const Word2VecArgs& args) {
    return args.negative == 0 && !args.hierarchical;
}

inline int64_t most_targets(const Word2VecArgs& args) {
    return (args.negative > 0 ? 1 + int64_t{args.negative} : 0) +
           (args.hierarchical ? args.longest_path : 0);
}

// Finds words that a side of a tile has already, so that no row is in it twice. A sparse set
// (P. Briggs, L. Torczon 1993): what is noted of a word is true if the word is there.
class Places {
  public:
    void take(Arena& arena, int64_t most_rows, int64_t vocabulary) {
        vocabulary_ = vocabulary;
        ids_ = arena.take<int32_t>(most_rows);
        noted_ = arena.take<int32_t>(vocabulary);
    }
    void begin() {
        __builtin_memset(noted_, 0, static_cast<size_t>(vocabulary_) * sizeof(int32_t));
    }
    // Whether the word is among the rows from `first` on; then its row counts once more there, else
    // its row must be the next. All rows from `first` on have to have gone through this.
    bool repeats(int32_t id, TileSideWriter& side, int64_t first) {
        const int64_t count = side.count();
        if (count - first <= 16) {
            for (int64_t place = first; place < count; ++place) {
                if (ids_[place] == id) {
                    side.repeat(place);
                    return true;
                }
            }
        } else {
            const int32_t place = noted_[id];
            if (place >= first && place < count && ids_[place] == id) {
                side.repeat(place);
                return true;
            }
        }
        noted_[id] = static_cast<int32_t>(count);
        ids_[count] = id;
        return false;
    }

  private:
    int64_t vocabulary_ = 0;
    int32_t* ids_ = nullptr;
    int32_t* noted_ = nullptr;
};

// Which side of a tile goes to lanes.
SEQFAST_INLINE bool targets_in_lanes(int64_t contexts, int64_t targets) {
    if (targets <= kTileLanes) return true;
    if (contexts <= kTileLanes && contexts > 2) return false;
    return targets >= contexts;
}

// Of any tile with at most so many contexts and targets.
inline int64_t most_dots(int64_t contexts, int64_t targets) {
    return larger(tile_size(contexts, targets), tile_size(targets, contexts));
}

class WindowTrainer {
  public:
    WindowTrainer(const Word2VecArgs& args, Arena& arena, int64_t span_rounds, int64_t reach)
        : args_(args), softmax_(args) {
        const int64_t contexts = larger(most_contexts(args, reach), 1);
        kept_.take(arena, args, span_rounds * kWord2VecRound, reach);
        const int64_t at_once = 8192 / larger(args.negative, 8);
        examples_.take(arena, args, larger(at_once, 1));
        if (full_softmax(args)) {
            softmax_.take_shared(arena, contexts);
            softmax_.take_own(arena, contexts);
            alone_.reset(1);
            return;
        }
        const int64_t targets = most_targets(args);
        const int64_t rows = args.cbow ? 1 : Examples::by_pairs(args) ? 1 : contexts;
        contexts_ = TileSide::take(arena, larger(rows, 1));
        targets_ = TileSide::take(arena, targets);
        dots_ = arena.take<float>(most_dots(rows, targets));
        copies_ = arena.take<float>(smaller(rows, targets) * args.stride);
        hidden_ = arena.take<float>(args.stride);
        error_ = arena.take<float>(args.stride);
        nowhere_ = arena.take<float>(args.stride);
        places_.take(arena, larger(rows, 1 + args.negative), args.vocabulary);
    }

    void begin() {
        if (!nowhere_) return;
        __builtin_memset(nowhere_, 0, static_cast<size_t>(args_.stride) * sizeof(float));
        places_.begin();
    }

    void train(int64_t first_round, int64_t last_round) {
        const int64_t last_token = smaller(last_round * kWord2VecRound, args_.tokens);
        kept_.find(first_round * kWord2VecRound, last_token);
        for (int64_t r = first_round; r < last_round; ++r) {
            const int64_t at = r - args_.first_round;
            args_.kept[at] = args_.examples[at] = 0;
            args_.loss[at] = 0;
        }
        for (int64_t w = 0; w < kept_.count(); ++w) {
            ++args_.kept[kept_.round(kept_.windows()[w]) - args_.first_round];
        }
        if (!args_.cbow && args_.shared_negatives) kept_.find_earlier();
        round_ = -1;
        loss_.clear();
        for (examples_.restart(); examples_.next(kept_);) {
            for (int64_t i = 0; i < smaller(kAhead, examples_.count()); ++i) fetch(examples_[i]);
            for (int64_t i = 0; i < examples_.count(); ++i) {
                if (i + kAhead < examples_.count()) fetch(examples_[i + kAhead]);
                const Example& example = examples_[i];
                const int64_t round = kept_.round(kept_.windows()[example.window]);
                if (round != round_) begin_round(round);
                train(example);
            }
        }
        end_round();
    }

  private:
    static constexpr int64_t kAhead = 4;

    void begin_round(int64_t round) {
        end_round();
        round_ = round;
        rate_ = learning_rate(args_, round);
        sum_ = 0;
        done_ = 0;
    }
    void end_round() {
        if (round_ < 0) return;
        const int64_t at = round_ - args_.first_round;
        args_.loss[at] = sum_ + loss_.sum();
        args_.examples[at] = done_;
        loss_.clear();
    }

    SEQFAST_INLINE float* input_row(int32_t id) const { return args_.input + id * args_.stride; }
    SEQFAST_INLINE float* output_row(int32_t id) const { return args_.output + id * args_.stride; }
    SEQFAST_INLINE float* node_row(int32_t id) const { return args_.nodes + id * args_.stride; }

    SEQFAST_INLINE void fetch_row(const float* row) const {
        for (int64_t c = 0; c < args_.size; c += kTileLine) __builtin_prefetch(row + c, 1, 3);
    }
    // What an example some way ahead will need.
    SEQFAST_INLINE void fetch(const Example& example) const {
        if (full_softmax(args_)) return;
        const Window& window = kept_.windows()[example.window];
        const int32_t centre = kept_.ids()[window.centre];
        if (example.pair <= 0) {
            const int64_t newest = smaller(window.centre + args_.window, kept_.kept_end() - 1);
            fetch_row(input_row(kept_.ids()[newest]));
            if (args_.negative > 0) fetch_row(output_row(centre));
        }
        const int32_t* negatives = examples_.negatives(example);
        for (int32_t k = 0; k < example.negatives; ++k) fetch_row(output_row(negatives[k]));
        if (args_.hierarchical && example.pair <= 0) {
            for (int64_t k = args_.path_offsets[centre]; k < args_.path_offsets[centre + 1]; ++k) {
                fetch_row(node_row(args_.path_nodes[k]));
            }
        }
    }

    SEQFAST_INLINE float* input_target(int32_t id) const {
        return args_.locked && args_.locked[id] ? nowhere_ : input_row(id);
    }

    void train(const Example& example) {
        const Window& window = kept_.windows()[example.window];
        if (full_softmax(args_)) {
            const int32_t* ids = kept_.ids();
            softmax_.begin();
            softmax_.add(ids, window, example.pair);
            softmax_.train(rate_, 1, 0, alone_);
            sum_ += softmax_.loss();
            done_ += softmax_.count();
            return;
        }
        add_targets(example, kept_.ids()[window.centre]);
        if (args_.cbow) {
            train_cbow(window);
            ++done_;
        } else if (example.pair >= 0) {
            const int32_t id = kept_.ids()[context_of_pair(window, example.pair)];
            TileSideWriter(contexts_).add(input_row(id), input_target(id), false);
            train_tile_of_window();
            ++done_;
        } else {
            add_contexts(window);
            train_tile_of_window();
            done_ += window.contexts();
        }
    }

    SEQFAST_INLINE void add_contexts(const Window& window) {
        TileSideWriter contexts(contexts_);
        const int32_t* ids = kept_.ids();
        const bool repeats = kept_.repeats(window);
        for (int32_t k = window.begin; k < window.end; ++k) {
            const int32_t id = ids[k];
            if (k == window.centre) continue;
            if (__builtin_expect(repeats, 0) && places_.repeats(id, contexts, 0)) continue;
            contexts.add(input_row(id), input_target(id), false);
        }
    }

    SEQFAST_INLINE void add_targets(const Example& example, int32_t centre) {
        TileSideWriter targets(targets_);
        if (args_.negative > 0) {
            targets.add(output_row(centre), output_row(centre), false);
            const int32_t* negatives = examples_.negatives(example);
            for (int32_t k = 0; k < example.negatives; ++k) {
                const int32_t id = negatives[k];
                if (__builtin_expect(example.repeats, 0) && places_.repeats(id, targets, 1)) {
                    continue;
                }
                targets.add(output_row(id), output_row(id), true);
            }
        }
        if (args_.hierarchical) {
            for (int64_t k = args_.path_offsets[centre]; k < args_.path_offsets[centre + 1]; ++k) {
                float* row = node_row(args_.path_nodes[k]);
                targets.add(row, row, args_.path_codes[k] != 0);
            }
        }
    }

    void train_tile_of_window() {
        if (targets_in_lanes(contexts_.count, targets_.count)) {
            if (targets_.count > 0) train_sides(targets_, contexts_);
        } else {
            train_sides(contexts_, targets_);
        }
    }

    void train_sides(const TileSide& lanes, TileSide& others) {
        if (tile_blocks(lanes.count) > 1) {
            for (int64_t r = 0; r < others.count; ++r) {
                float* copy = copies_ + r * args_.stride;
                __builtin_memcpy(copy, others.from[r], static_cast<size_t>(args_.stride) * 4);
                others.from[r] = copy;
            }
        }
        train_tile(lanes, others, {0, args_.stride}, rate_, dots_, loss_);
    }

    void train_cbow(const Window& window) {
        const int32_t* ids = kept_.ids();
        const float share = args_.cbow_mean ? 1.0f / static_cast<float>(window.contexts()) : 1.0f;
        const int64_t stride = args_.stride;
        for (int64_t c = 0; c < stride; c += kLanes<float>) {
            Vector<float> sum{};
            for (int32_t k = window.begin; k < window.end; ++k) {
                if (k != window.centre) sum += load(input_row(ids[k]) + c);
            }
            store(hidden_ + c, sum * share);
            store(error_ + c, Vector<float>{});
        }
        if (targets_.count == 0) return;
        TileSideWriter(contexts_).add(hidden_, error_, false);
        train_tile(targets_, contexts_, {0, stride}, rate_, dots_, loss_);
        const float back = args_.legacy_cbow ? 1.0f : share;
        for (int32_t k = window.begin; k < window.end; ++k) {
            if (k == window.centre) continue;
            float* row = input_target(ids[k]);
            for (int64_t c = 0; c < stride; c += kLanes<float>) {
                store(row + c, load(row + c) + load(error_ + c) * back);
            }
        }
    }

    const Word2VecArgs& args_;
    KeptTokens kept_;
    Examples examples_;
    Softmax softmax_;
    Barrier alone_;
    TileSide contexts_, targets_;
    float* dots_ = nullptr;
    float* copies_ = nullptr;   // of one side's rows, where the other is read more than once
    float* hidden_ = nullptr;   // what CBOW makes of a window's contexts
    float* error_ = nullptr;    // and what it is to change by
    float* nowhere_ = nullptr;  // takes the changes of rows that are locked
    Places places_;
    TileLoss loss_;
    int64_t round_ = -1;
    float rate_ = 0;
    double sum_ = 0;
    int64_t done_ = 0;
};

}  // namespace seqfast::cpu::SEQFAST_ISA
