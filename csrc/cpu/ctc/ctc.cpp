// CTC decoding by the kernels of one instruction set: best alignments, and prefix beam search.
#include "core/ctc.h"

#include "cpu/base/team.h"
#include "cpu/ctc/beam.h"
#include "cpu/ctc/frame.h"
#include "cpu/ctc/log_add.h"
#include "cpu/ctc/table.h"

namespace seqfast::cpu::SEQFAST_ISA {
namespace {

using namespace ctc_search;

struct Scratch {
    int64_t frame, largest, tokens, candidates, arriving, size;
};

int64_t most_candidates(int64_t beam_size) { return 4 * beam_size + 64; }

// What a thread needs beside a row's memory.
Scratch scratch_of(const CtcBeamArgs& args) {
    const int64_t vocab = args.input.vocab, real = sizeof(double), ranked = sizeof(Ranked);
    Scratch at{};
    at.largest = at.frame + ctc_align(vocab * real);
    at.tokens = at.largest + ctc_align(blocks_of(vocab) * real);
    at.candidates = at.tokens + ctc_align((vocab + blocks_of(vocab)) * ranked);
    at.arriving = at.candidates + ctc_align(most_candidates(args.beam_size) * ranked);
    at.size = at.arriving + ctc_align(ctc_padded(args.beam_size) * real);
    return at;
}

// A row's memory: the heads of lists of nodes with the same hash stand at its end.
int64_t row_size_of(const CtcBeamArgs& args) {
    const int64_t heads = ctc_table_size(args.input.frames, args.beam_size);
    return ctc_layout(args).size + ctc_align(heads * int64_t(sizeof(int32_t)));
}

// Rows that are in memory at once: with a language model all, as it is asked between frames.
int64_t rows_kept(const CtcBeamArgs& args) { return args.lm ? args.input.batch : args.threads; }

// The search of one row.
class Search {
  public:
    Search(const CtcBeamArgs& args, int64_t row, char* memory, char* scratch)
        : Search(args, row, memory, scratch, ctc_layout(args), scratch_of(args)) {}

    void run() {
        if (args_.frame_begin == 0) begin();
        for (int64_t t = args_.frame_begin; t < args_.frame_end && t < length_; ++t) {
            if (!frame_.read(args_.input, row_, t)) {
                args_.refused[row_] = t;
                state_.count = 0;
                break;
            }
            if (state_.count > 0) step(static_cast<int32_t>(t));
        }
        if (args_.source && (args_.frame_begin >= length_ || state_.count == 0)) stand_still();
        if (args_.frame_end == args_.input.frames) write_results();
    }

  private:
    Search(const CtcBeamArgs& args, int64_t row, char* memory, char* scratch, CtcLayout at,
           Scratch in)
        : args_(args),
          row_(row),
          beam_size_(args.beam_size),
          length_(ctc_length(args.input, row)),
          state_(*reinterpret_cast<CtcState*>(memory + at.state)),
          nodes_(reinterpret_cast<CtcNode*>(memory + at.nodes)),
          links_(reinterpret_cast<CtcLink*>(memory + at.links)),
          prefixes_(nodes_, reinterpret_cast<int32_t*>(memory + at.size),
                    ctc_table_size(length_, args.beam_size)),
          beams_(memory + at.beams),
          stays_(ctc_beams_at(memory + at.stays, args.beam_size)),
          frame_(reinterpret_cast<double*>(scratch + in.frame),
                 reinterpret_cast<double*>(scratch + in.largest), args.input.vocab),
          tokens_(reinterpret_cast<Ranked*>(scratch + in.tokens)),
          cut_(frame_, tokens_, args.input.vocab, args.top_n, args.min_log_prob),
          candidates_(reinterpret_cast<Ranked*>(scratch + in.candidates),
                      most_candidates(args.beam_size), args.beam_size),
          arriving_(reinterpret_cast<double*>(scratch + in.arriving)) {}

    CtcBeams beam(int64_t half) const {
        return ctc_beams_at(beams_ + half * ctc_beams_bytes(beam_size_), beam_size_);
    }

    // With the empty prefix alone.
    void begin() {
        args_.refused[row_] = -1;
        prefixes_.clear_lists();
        // Vectors reach behind the last prefix.
        __builtin_memset(beams_, 0, static_cast<size_t>(2 * ctc_beams_bytes(beam_size_)));
        __builtin_memset(arriving_, 0, static_cast<size_t>(ctc_padded(beam_size_)) * 8);
        nodes_[0] = {-1, -1, 0, 0};
        state_ = {1, 1, 1, 0};
        const CtcBeams now = beam(0);
        now.token[0] = now.best_token[0] = -kInfinity;
    }

    void step(int32_t t) {
        now_ = beam(state_.half);
        cut_.update();
        stay();
        offer_stays();
        rank_tokens();
        offer_extensions();
        choose(t);
    }

    // Those that can get a prefix into the new beam, the most probable first.
    void rank_tokens() {
        double limit =
            candidates_.limit() > candidates_.floor() ? candidates_.limit() : candidates_.floor();
        if (args_.lm) {
            limit = -kInfinity;
        } else {
            // What rounding might hide is looked at again when it is added.
            const double best = now_.total[0];
            limit =
                limit - best - 1e-12 * ((best < 0 ? -best : best) + (limit < 0 ? -limit : limit));
        }
        // From an infinite limit comes NaN or -inf: all.
        if (!(limit > -kInfinity)) limit = -kInfinity;
        token_count_ = 0;
        const int64_t blank = args_.input.blank;
        frame_.for_each_above<false>(limit, [&](int64_t token) {
            tokens_[token_count_] = {frame_[token], token};
            token_count_ += (token != blank) & cut_.counts(token);
        });
        const int64_t most = ctc_extensions(beam_size_, 0);
        if (!args_.lm && token_count_ > most) {
            select_keys(tokens_, token_count_, most);
            token_count_ = most;
        }
        sort_keys(tokens_, token_count_);
    }

    // ---- candidates ----

    void stay() {
        const double blank = cut_.log_prob(args_.input.blank);
        for (int64_t k = 0; k < state_.count; ++k) {
            const int32_t last = nodes_[now_.node[k]].token;
            const double again = last < 0 ? -kInfinity : cut_.log_prob(last);
            arriving_[k] = ctc_stay(now_, nodes_, k, blank, again, stays_);
        }
        for (int64_t k = 0; k < state_.count; k += kLanesOf) {
            const V token = log_add<double>(load(stays_.token + k), load(arriving_ + k));
            store(stays_.token + k, token);
            store(stays_.total + k, log_add<double>(load(stays_.blank + k), token));
        }
    }

    void offer_stays() {
        candidates_.begin(state_.count, args_.beam_threshold,
                          [&](int64_t k) { return stays_.total[k] + now_.lm[k]; });
    }

    void offer_extensions() {
        for (int64_t k = 0; k < state_.count; ++k) {
            const int32_t node = now_.node[k], last = nodes_[node].token;
            const double* lm = args_.lm;
            int64_t tokens = token_count_;
            if (lm) {
                lm += (row_ * beam_size_ + k) * args_.input.vocab;
            } else if (tokens > ctc_extensions(beam_size_, k)) {
                tokens = ctc_extensions(beam_size_, k);
            }
            for (int64_t rank = 0; rank < tokens; ++rank) {
                const int64_t token = tokens_[rank].place;
                double score = now_.total[k] + tokens_[rank].score;
                if (!lm && (score <= candidates_.limit() || score < candidates_.floor())) break;
                if (token == last) score = now_.blank[k] + tokens_[rank].score;
                score += lm ? now_.lm[k] + lm[token] : 0.0;
                if (!candidates_.takes(score)) continue;
                offer(node, static_cast<int32_t>(token),
                      {score, beam_size_ + k * token_count_ + rank});
            }
        }
    }

    void offer(int32_t node, int32_t token, Ranked candidate) {
        const int32_t child = prefixes_.find(node, token);
        if (child == 0 || nodes_[child].slot < 0) candidates_.add(candidate);  // else it stays
    }

    // ---- the new beam ----

    void choose(int32_t t) {
        candidates_.choose(args_.beam_threshold);
        for (int64_t k = 0; k < state_.count; ++k) nodes_[now_.node[k]].slot = -1;
        const CtcBeams next = beam(1 - state_.half);
        for (int64_t k = 0; k < candidates_.count(); ++k) {
            const int64_t place = candidates_[k].place;
            int64_t from = place, rank = -1;
            if (place < beam_size_) {
                keep(next, k, place, t);
            } else {
                from = (place - beam_size_) / token_count_;
                rank = (place - beam_size_) % token_count_;
                extend(next, k, from, tokens_[rank], t);
            }
            if (args_.source) report(k, from, rank < 0 ? -1 : tokens_[rank].place);
        }
        for (int64_t k = 0; k < candidates_.count(); ++k) {
            nodes_[next.node[k]].slot = static_cast<int32_t>(k);
        }
        if (args_.source) {
            for (int64_t k = candidates_.count(); k < beam_size_; ++k) report(k, 0, -1);
        }
        state_.count = candidates_.count();
        state_.half = 1 - state_.half;
    }

    void keep(const CtcBeams& next, int64_t k, int64_t from, int32_t t) {
        ctc_keep(now_, stays_, from, next, k);
        const int32_t link = stays_.link_token[from];
        next.link_token[k] = link < 0 ? new_link(~link, t) : link;
    }

    void extend(const CtcBeams& next, int64_t k, int64_t from, const Ranked& ranked, int32_t t) {
        const int32_t parent = now_.node[from], token = static_cast<int32_t>(ranked.place);
        const double* lm = args_.lm;
        if (lm) lm += (row_ * beam_size_ + from) * args_.input.vocab + token;
        const int32_t link =
            ctc_extend(now_, nodes_, from, token, ranked.score, lm ? *lm : 0.0, next, k);
        next.link_token[k] = new_link(link, t);
        int32_t node = prefixes_.find(parent, token);
        if (node == 0) {
            node = static_cast<int32_t>(state_.nodes++);
            nodes_[node] = {parent, token, -1, 0};
            prefixes_.list(node);
        }
        next.node[k] = node;
    }

    int32_t new_link(int32_t previous, int32_t t) {
        links_[state_.links] = {previous, t};
        return static_cast<int32_t>(state_.links++);
    }

    void report(int64_t k, int64_t source, int64_t added) {
        args_.source[row_ * beam_size_ + k] = source;
        args_.added[row_ * beam_size_ + k] = added;
    }
    void stand_still() {
        for (int64_t k = 0; k < beam_size_; ++k) report(k, k, -1);
    }

    // ---- results ----

    void write_results() {
        const CtcBeams last = beam(state_.half);
        for (int64_t place = 0; place < args_.n_best; ++place) {
            const int64_t at = row_ * args_.n_best + place;
            int64_t* tokens = args_.tokens + at * args_.input.frames;
            int64_t* timesteps = args_.timesteps + at * args_.input.frames;
            int64_t count = 0;
            args_.scores[at] = -kInfinity;
            if (place < state_.count) {
                args_.scores[at] = last.total[place] + last.lm[place];
                count = ctc_walk(last, nodes_, links_, place, tokens, timesteps);
            }
            args_.counts[at] = count;
            for (int64_t i = count; i < args_.input.frames; ++i) tokens[i] = timesteps[i] = -1;
        }
    }

    const CtcBeamArgs& args_;
    const int64_t row_, beam_size_, length_;
    CtcState& state_;
    CtcNode* const nodes_;
    CtcLink* const links_;
    Prefixes prefixes_;
    char* const beams_;
    const CtcBeams stays_;
    CtcBeams now_{};
    Frame frame_;
    Ranked* const tokens_;
    Cut cut_;
    Candidates candidates_;
    double* const arriving_;  // from the parent
    int64_t token_count_ = 0;
};

size_t beam_workspace(const CtcBeamArgs& args) {
    return static_cast<size_t>(rows_kept(args) * row_size_of(args) +
                               args.threads * scratch_of(args).size);
}

void beam_search(const CtcBeamArgs& args) {
    const int64_t row_size = row_size_of(args), scratch_size = scratch_of(args).size;
    char* scratch = args.workspace + rows_kept(args) * row_size;
    for_each_row(args.input.batch, args.threads, [&](int64_t row, int thread) {
        Search(args, row, args.workspace + (args.lm ? row : thread) * row_size,
               scratch + thread * scratch_size)
            .run();
    });
}

int64_t greedy_scratch(int64_t vocab) {
    return ctc_align((vocab + blocks_of(vocab)) * int64_t(sizeof(double)));
}

size_t greedy_workspace(const CtcGreedyArgs& args) {
    return static_cast<size_t>(args.threads * greedy_scratch(args.input.vocab));
}

void greedy_row(const CtcGreedyArgs& args, int64_t row, char* scratch) {
    const CtcInput& input = args.input;
    double* values = reinterpret_cast<double*>(scratch);
    Frame frame(values, values + input.vocab, input.vocab);
    const int64_t length = ctc_length(input, row);
    int64_t* tokens = args.tokens + row * input.frames;
    int64_t* timesteps = args.timesteps + row * input.frames;
    int64_t count = 0, previous = input.blank;
    double score = 0;
    args.refused[row] = -1;
    for (int64_t t = 0; t < length; ++t) {
        if (!frame.read(input, row, t)) {
            args.refused[row] = t;
            break;
        }
        const int64_t token = frame.most_probable();
        score += frame[token];
        if (token != input.blank && token != previous) {
            tokens[count] = token;
            timesteps[count++] = t;
        }
        previous = token;
    }
    args.counts[row] = count;
    args.scores[row] = score;
    for (int64_t i = count; i < input.frames; ++i) tokens[i] = timesteps[i] = -1;
}

void greedy(const CtcGreedyArgs& args) {
    const int64_t scratch_size = greedy_scratch(args.input.vocab);
    for_each_row(args.input.batch, args.threads, [&](int64_t row, int thread) {
        greedy_row(args, row, args.workspace + thread * scratch_size);
    });
}

}  // namespace

extern const CtcKernels ctc = {&greedy_workspace, &greedy, &beam_workspace, &beam_search};

}  // namespace seqfast::cpu::SEQFAST_ISA
