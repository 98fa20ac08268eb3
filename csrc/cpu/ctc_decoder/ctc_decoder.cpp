// Prefix beam search with a language beside it, by the kernels of one instruction set.
#include "core/ctc_decoder.h"

#include "cpu/base/team.h"
#include "cpu/ctc/beam.h"
#include "cpu/ctc/frame.h"
#include "cpu/ctc/log_add.h"
#include "cpu/ctc_decoder/language.h"
#include "cpu/ctc_decoder/table.h"

namespace seqfast::cpu::SEQFAST_ISA {
namespace {

using namespace ctc_search;

// Transcripts that are the same text stand side by side, the better places first.
struct TextKey {
    uint64_t text;
    int64_t place;
};
SEQFAST_INLINE bool operator>(const TextKey& a, const TextKey& b) {
    return (a.text > b.text) | ((a.text == b.text) & (a.place < b.place));
}

// A candidate's place: of a prefix that stays, or that of its parent and the token's rank.
constexpr int kRankBits = 32;

struct Scratch {
    int64_t frame, largest, tokens, candidates, arriving, stays, stay_runs, from, map, texts;
    int64_t language, children, size;
};

// Few more than are kept: the sooner the worst are dropped, the fewer are looked at.
int64_t most_candidates(int64_t beam_size) { return beam_size + beam_size / 2 + 16; }

Scratch scratch_of(const CtcDecodeArgs& args) {
    const int64_t vocab = args.input.vocab, beam = args.beam_size;
    const int64_t real = sizeof(double), ranked = sizeof(Ranked), padded = ctc_padded(beam);
    Scratch at{};
    at.largest = at.frame + ctc_align(vocab * real);
    at.tokens = at.largest + ctc_align(blocks_of(vocab) * real);
    at.candidates = at.tokens + ctc_align((vocab + blocks_of(vocab)) * ranked);
    at.arriving = at.candidates + ctc_align(most_candidates(beam) * ranked);
    at.stays = at.arriving + ctc_align(padded * real);
    at.stay_runs = at.stays + ctc_align(ctc_beams_bytes(beam));
    at.from = at.stay_runs + ctc_align(ctc_runs_bytes(beam));
    at.map = at.from + ctc_align(padded * int64_t(sizeof(CtcRun)));
    at.texts = at.map + ctc_align(args.capacity * int64_t(sizeof(int32_t)));
    at.language = at.texts + ctc_align(beam * int64_t(sizeof(TextKey)));
    at.children = at.language + ctc_align(beam * real);
    at.size = at.children + ctc_align(beam * int64_t(sizeof(uint64_t)));
    return at;
}

// The search of one row.
class Search {
  public:
    Search(const CtcDecodeArgs& args, int64_t row, char* scratch)
        : Search(args, row,
                 args.memory + row * ctc_decode_layout(args.capacity, args.beam_size).size, scratch,
                 ctc_decode_layout(args.capacity, args.beam_size), scratch_of(args)) {}

    // With the empty prefix alone.
    void begin() {
        // Vectors reach behind the last prefix.
        __builtin_memset(beams_, 0, static_cast<size_t>(2 * ctc_beams_bytes(beam_size_)));
        __builtin_memset(beam_runs_, 0, static_cast<size_t>(2 * ctc_runs_bytes(beam_size_)));
        // At the start as after the end of a word: another end is the same.
        nodes_[0] = {-1, static_cast<int32_t>(args_.language.boundary), 0, 0};
        contexts_[0] = language_.begin();
        links_[0] = {0, 0};
        runs_[0] = {0, 0};
        state_ = {1, 1, 1, 0, 0};
        const CtcBeams now = beam(0);
        now.token[0] = now.best_token[0] = -kInfinity;
        now.lm[0] = 0;
        fill_heads();
    }

    // On through the chunk, as far as this call goes or there is room.
    void run() {
        __builtin_memset(arriving_, 0, static_cast<size_t>(ctc_padded(beam_size_)) * 8);
        __builtin_memset(stays_.blank, 0, static_cast<size_t>(ctc_beams_bytes(beam_size_)));
        int64_t& t = args_.progress[row_];
        const int64_t length = ctc_length(args_.input, row_);
        for (; t < smaller_end(length); ++t) {
            if (!make_room()) return;
            frame_.read(args_.input, row_, t);
            if (state_.count > 0) step(static_cast<int32_t>(state_.frames));
            ++state_.frames;
        }
    }

    void move_to(const CtcDecodeArgs& larger) const {
        const CtcDecodeLayout to = ctc_decode_layout(larger.capacity, beam_size_);
        char* memory = larger.memory + row_ * to.size;
        const auto copy = [](void* into, const void* from, int64_t bytes) {
            __builtin_memcpy(into, from, static_cast<size_t>(bytes));
        };
        copy(memory, &state_, sizeof(CtcDecodeState));
        copy(memory + to.nodes, nodes_, state_.nodes * int64_t(sizeof(CtcNode)));
        copy(memory + to.contexts, contexts_, state_.nodes * int64_t(sizeof(CtcContext)));
        copy(memory + to.links, links_, state_.links * int64_t(sizeof(CtcLink)));
        copy(memory + to.runs, runs_, state_.links * int64_t(sizeof(CtcRun)));
        copy(memory + to.beams, beams_, 2 * ctc_beams_bytes(beam_size_));
        copy(memory + to.beam_runs, beam_runs_, 2 * ctc_runs_bytes(beam_size_));
    }

    void fill_heads() {
        prefixes_.clear_lists();
        for (int64_t node = 1; node < state_.nodes; ++node)
            prefixes_.list(static_cast<int32_t>(node));
    }

    // ---- results ----

    void rank() {
        const CtcBeams last = beam(state_.half);
        const CtcRuns runs = beam_runs(state_.half);
        int64_t found = 0;
        for (int64_t k = 0; k < state_.count; ++k) {
            CtcContext& context = contexts_[last.node[k]];
            uint64_t text = context.text;
            double language = last.lm[k];
            if (args_.finish) {
                language = language_.finish(context, text) + runs.table[k];
                if (args_.final) language += args_.final[row_ * beam_size_ + k];
            }
            scores_[k] = language;
            if (last.total[k] + language > -kInfinity) texts_[found++] = {text, k};
        }
        sort_keys(texts_, found);
        int64_t count = 0;
        for (int64_t i = 0; i < found;) {
            int64_t leader = texts_[i].place;
            double sum = last.total[leader] + scores_[leader], best = sum;
            int64_t same = i + 1;
            for (; same < found && texts_[same].text == texts_[i].text; ++same) {
                const int64_t k = texts_[same].place;
                const double score = last.total[k] + scores_[k];
                sum = log_add<double>(broadcast(sum), broadcast(score))[0];
                if (score > best) {
                    best = score;
                    leader = k;
                }
            }
            ranked_[count++] = {sum, leader};
            i = same;
        }
        sort_keys(ranked_, count);
        for (int64_t n = 0; n < args_.n_best; ++n) {
            const int64_t at = row_ * args_.n_best + n, place = ranked_[n].place;
            const bool there = n < count;
            args_.places[at] = there ? place : -1;
            args_.scores[at] = there ? ranked_[n].score : -kInfinity;
            args_.language_scores[at] = there ? scores_[place] : 0;
            args_.counts[at] = there ? contexts_[last.node[place]].depth : 0;
        }
    }

    void walk() const {
        const CtcBeams last = beam(state_.half);
        const CtcRuns runs = beam_runs(state_.half);
        for (int64_t n = 0; n < args_.n_best; ++n) {
            const int64_t at = row_ * args_.n_best + n, k = args_.places[at];
            const int64_t count = args_.counts[at];
            int64_t* tokens = args_.tokens + at * args_.room;
            int64_t* firsts = args_.firsts + at * args_.room;
            int64_t* lasts = args_.lasts + at * args_.room;
            double* confidences = args_.confidences + at * args_.room;
            for (int64_t i = count; i < args_.room; ++i) {
                tokens[i] = firsts[i] = lasts[i] = -1;
                confidences[i] = 0;
            }
            if (k < 0) continue;
            const bool token_wins = last.best_token[k] > last.best_blank[k];
            int32_t node = last.node[k];
            int32_t link = (token_wins ? last.link_token : last.link_blank)[k];
            CtcRun run = run_of(last, runs, k, token_wins);
            for (int64_t i = count - 1; i >= 0; --i) {
                tokens[i] = nodes_[node].token;
                firsts[i] = links_[link].frame;
                lasts[i] = run.last;
                confidences[i] = run.mean;
                run = runs_[link];
                node = nodes_[node].parent;
                link = links_[link].previous;
            }
        }
    }

  private:
    Search(const CtcDecodeArgs& args, int64_t row, char* memory, char* scratch, CtcDecodeLayout at,
           Scratch in)
        : args_(args),
          row_(row),
          beam_size_(args.beam_size),
          language_(args.language, row),
          state_(*reinterpret_cast<CtcDecodeState*>(memory)),
          nodes_(reinterpret_cast<CtcNode*>(memory + at.nodes)),
          contexts_(reinterpret_cast<CtcContext*>(memory + at.contexts)),
          links_(reinterpret_cast<CtcLink*>(memory + at.links)),
          runs_(reinterpret_cast<CtcRun*>(memory + at.runs)),
          beams_(memory + at.beams),
          beam_runs_(memory + at.beam_runs),
          prefixes_(nodes_, reinterpret_cast<int32_t*>(memory + at.heads),
                    ctc_table_size(args.capacity, 1)),
          stays_(ctc_beams_at(scratch + in.stays, args.beam_size)),
          stay_runs_(ctc_runs_at(scratch + in.stay_runs, args.beam_size)),
          from_(reinterpret_cast<CtcRun*>(scratch + in.from)),
          frame_(reinterpret_cast<double*>(scratch + in.frame),
                 reinterpret_cast<double*>(scratch + in.largest), args.input.vocab),
          tokens_(reinterpret_cast<Ranked*>(scratch + in.tokens)),
          cut_(frame_, tokens_, args.input.vocab, args.top_n, args.min_log_prob),
          ranked_(reinterpret_cast<Ranked*>(scratch + in.candidates)),
          candidates_(ranked_, most_candidates(args.beam_size), args.beam_size),
          arriving_(reinterpret_cast<double*>(scratch + in.arriving)),
          map_(reinterpret_cast<int32_t*>(scratch + in.map)),
          texts_(reinterpret_cast<TextKey*>(scratch + in.texts)),
          scores_(reinterpret_cast<double*>(scratch + in.language)),
          children_(reinterpret_cast<uint64_t*>(scratch + in.children)) {}

    CtcBeams beam(int64_t half) const {
        return ctc_beams_at(beams_ + half * ctc_beams_bytes(beam_size_), beam_size_);
    }
    CtcRuns beam_runs(int64_t half) const {
        return ctc_runs_at(beam_runs_ + half * ctc_runs_bytes(beam_size_), beam_size_);
    }
    int64_t smaller_end(int64_t length) const {
        return length < args_.frame_end ? length : args_.frame_end;
    }

    void step(int32_t t) {
        now_ = beam(state_.half);
        now_runs_ = beam_runs(state_.half);
        cut_.update();
        stay(t);
        offer_stays();
        rank_tokens();
        offer_extensions();
        choose(t);
    }

    // ---- candidates ----

    // The last token of the best alignment of that kind.
    CtcRun run_of(const CtcBeams& beam, const CtcRuns& runs, int64_t k, bool of_token) const {
        const int32_t link = (of_token ? beam.link_token : beam.link_blank)[k];
        const int32_t last = (of_token ? runs.last_token : runs.last_blank)[k];
        const double sum = (of_token ? runs.sum_token : runs.sum_blank)[k];
        return {last, static_cast<float>(sum / (last - links_[link].frame + 1))};
    }
    // Of the alignment that another token goes on from.
    CtcRun run_before(int64_t k, int32_t token) const {
        const bool repeats = nodes_[now_.node[k]].token == token;
        return run_of(now_, now_runs_, k, !repeats && now_.best_token[k] > now_.best_blank[k]);
    }

    void stay(int32_t t) {
        const double blank = cut_.log_prob(args_.input.blank);
        __builtin_memset(children_, 0, static_cast<size_t>(state_.count) * sizeof(uint64_t));
        for (int64_t k = 0; k < state_.count; ++k) {
            const CtcNode node = nodes_[now_.node[k]];
            const double again = node.token < 0 ? -kInfinity : cut_.log_prob(node.token);
            const int32_t slot = node.parent < 0 ? -1 : nodes_[node.parent].slot;
            if (slot >= 0) children_[slot] |= uint64_t{1} << (node.token & 63);
            arriving_[k] = ctc_stay(now_, nodes_, k, blank, again, stays_);
            const bool token_wins = now_.best_token[k] > now_.best_blank[k];
            stay_runs_.sum_blank[k] = (token_wins ? now_runs_.sum_token : now_runs_.sum_blank)[k];
            stay_runs_.last_blank[k] =
                (token_wins ? now_runs_.last_token : now_runs_.last_blank)[k];
            stay_runs_.sum_token[k] = now_runs_.sum_token[k] + again;
            stay_runs_.last_token[k] = t;
            if (stays_.link_token[k] < 0) {
                stay_runs_.sum_token[k] = again;
                from_[k] = run_before(nodes_[node.parent].slot, node.token);
            }
            if (node.token >= 0 && node.token == args_.language.boundary) {
                stay_at_boundary(k, again, token_wins);
            }
        }
        for (int64_t k = 0; k < state_.count; k += kLanesOf) {
            const V token = log_add<double>(load(stays_.token + k), load(arriving_ + k));
            store(stays_.token + k, token);
            store(stays_.total + k, log_add<double>(load(stays_.blank + k), token));
        }
    }

    // A boundary after a boundary is the same one, with a blank between them or without.
    void stay_at_boundary(int64_t k, double again, bool token_wins) {
        stays_.token[k] = now_.total[k] + again;
        if (token_wins || !(now_.best_blank[k] + again > stays_.best_token[k])) return;
        stays_.best_token[k] = now_.best_blank[k] + again;
        stays_.link_token[k] = now_.link_blank[k];
        stay_runs_.sum_token[k] = now_runs_.sum_blank[k] + again;
    }

    void offer_stays() {
        candidates_.begin(state_.count, args_.beam_threshold,
                          [&](int64_t k) { return stays_.total[k] + now_.lm[k]; });
        most_ = -kInfinity;
        for (int64_t k = 0; k < state_.count; ++k) {
            const double most = now_.total[k] + now_.lm[k] + most_gain(contexts_[now_.node[k]]);
            most_ = most > most_ ? most : most_;
        }
    }

    double most_gain(const CtcContext& context) const {
        const double inside = language_.most_inside(context);
        if (!args_.language.begins) return inside;
        const double at_end = language_.most_at_end(context);
        return at_end > inside ? at_end : inside;
    }

    // Those that can get a prefix into the new beam, the most probable first; but the boundary.
    void rank_tokens() {
        double limit =
            candidates_.limit() > candidates_.floor() ? candidates_.limit() : candidates_.floor();
        if (args_.table) {
            limit = -kInfinity;
        } else {
            // What rounding might hide is looked at again when it is added.
            limit = limit - most_ - margin(most_, limit);
        }
        // From an infinite limit comes NaN or -inf: all.
        if (!(limit > -kInfinity)) limit = -kInfinity;
        token_count_ = 0;
        const int64_t blank = args_.input.blank, boundary = args_.language.boundary;
        frame_.for_each_above<false>(limit, [&](int64_t token) {
            tokens_[token_count_] = {frame_[token], token};
            token_count_ += (token != blank) & (token != boundary) & cut_.counts(token);
        });
        sort_keys(tokens_, token_count_);
    }

    static double margin(double a, double b) {
        return 1e-12 * ((a < 0 ? -a : a) + (b < 0 ? -b : b));
    }

    void offer_extensions() {
        const int64_t boundary = args_.language.boundary;
        const double end = boundary < 0 ? -kInfinity : cut_.log_prob(boundary);
        const uint8_t* begins = args_.language.begins;
        for (int64_t k = 0; k < state_.count; ++k) {
            const int32_t node = now_.node[k], last = nodes_[node].token;
            const CtcContext& context = contexts_[node];
            const double base = now_.total[k] + now_.lm[k];
            const double slack = args_.table ? kInfinity : margin(base, candidates_.limit());
            const double inside = base + language_.most_inside(context) + slack;
            const double at_end = base + language_.most_at_end(context) + slack;
            const double most = begins && at_end > inside ? at_end : inside;
            const double outside = base + language_.most_outside(context) + slack;
            const uint64_t letters = context.letters;
            for (int64_t rank = 0; rank < token_count_; ++rank) {
                const double log_prob = tokens_[rank].score;
                if (most + log_prob <= candidates_.limit() || most + log_prob < candidates_.floor())
                    break;
                const int64_t token = tokens_[rank].place;
                if (begins && begins[token]) {
                    if (at_end + log_prob <= candidates_.limit()) continue;
                } else if (!(language_.first_letter(token) & letters) &&
                           outside + log_prob <= candidates_.limit()) {
                    continue;
                }
                offer(k, token, (token == last ? now_.blank : now_.total)[k] + log_prob, rank);
            }
            if (context.length > 0 && end > -kInfinity && !(at_end + end <= candidates_.limit())) {
                offer(k, boundary, now_.total[k] + end, token_count_);
            }
        }
    }

    // The prefix at that place with a token more; `acoustic` is its log-probability.
    void offer(int64_t k, int64_t token, double acoustic, int64_t rank) {
        const int32_t node = now_.node[k];
        if (children_[k] >> (token & 63) & 1) {
            const int32_t child = prefixes_.find(node, static_cast<int32_t>(token));
            if (child != 0 && nodes_[child].slot >= 0) return;  // it stays
        }
        double language = language_.score(contexts_[node], token);
        if (args_.table) language += now_runs_.table[k] + table_of(k)[token];
        const double score = acoustic + language;
        if (candidates_.takes(score)) candidates_.add({score, (k + 1) << kRankBits | rank});
    }

    const double* table_of(int64_t k) const {
        return args_.table + (row_ * beam_size_ + k) * args_.input.vocab;
    }

    // ---- the new beam ----

    void choose(int32_t t) {
        candidates_.choose(args_.beam_threshold);
        for (int64_t k = 0; k < state_.count; ++k) nodes_[now_.node[k]].slot = -1;
        const CtcBeams next = beam(1 - state_.half);
        const CtcRuns next_runs = beam_runs(1 - state_.half);
        for (int64_t k = 0; k < candidates_.count(); ++k) {
            const int64_t place = candidates_[k].place;
            int64_t from = place, token = -1;
            if (place < beam_size_) {
                keep(next, next_runs, k, place, t);
            } else {
                from = (place >> kRankBits) - 1;
                const int64_t rank = place & ((int64_t{1} << kRankBits) - 1);
                token = rank < token_count_ ? tokens_[rank].place : args_.language.boundary;
                extend(next, next_runs, k, from, static_cast<int32_t>(token), t);
            }
            if (args_.source) report(k, from, token);
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

    void keep(const CtcBeams& next, const CtcRuns& runs, int64_t k, int64_t from, int32_t t) {
        ctc_keep(now_, stays_, from, next, k);
        const int32_t link = stays_.link_token[from];
        next.link_token[k] = link < 0 ? new_link(~link, t, from_[from]) : link;
        runs.sum_blank[k] = stay_runs_.sum_blank[from];
        runs.sum_token[k] = stay_runs_.sum_token[from];
        runs.last_blank[k] = stay_runs_.last_blank[from];
        runs.last_token[k] = stay_runs_.last_token[from];
        runs.table[k] = now_runs_.table[from];
    }

    void extend(const CtcBeams& next, const CtcRuns& runs, int64_t k, int64_t from, int32_t token,
                int32_t t) {
        const int32_t parent = now_.node[from];
        const double log_prob = frame_[token];
        const CtcRun before = run_before(from, token);
        const int32_t link = ctc_extend(now_, nodes_, from, token, log_prob, 0.0, next, k);
        next.link_token[k] = new_link(link, t, before);
        runs.sum_token[k] = log_prob;
        runs.last_token[k] = t;
        runs.sum_blank[k] = 0;
        runs.last_blank[k] = t;
        runs.table[k] = now_runs_.table[from] + (args_.table ? table_of(from)[token] : 0.0);
        int32_t node = prefixes_.find(parent, token);
        if (node == 0) {
            node = static_cast<int32_t>(state_.nodes++);
            nodes_[node] = {parent, token, -1, 0};
            language_.extend(contexts_[parent], token, contexts_[node]);
            prefixes_.list(node);
        }
        next.node[k] = node;
        next.lm[k] = contexts_[node].settled + contexts_[node].part + runs.table[k];
    }

    int32_t new_link(int32_t previous, int32_t t, CtcRun before) {
        links_[state_.links] = {previous, t};
        runs_[state_.links] = before;
        return static_cast<int32_t>(state_.links++);
    }

    void report(int64_t k, int64_t source, int64_t added) {
        args_.source[row_ * beam_size_ + k] = source;
        args_.added[row_ * beam_size_ + k] = added;
    }

    // ---- room ----

    // For what a frame can add; false where the beam's own past is half of the room.
    bool make_room() {
        const int64_t most = state_.nodes > state_.links ? state_.nodes : state_.links;
        if (most + beam_size_ <= args_.capacity) return true;
        now_ = beam(state_.half);
        drop_nodes();
        drop_links();
        fill_heads();
        return 2 * state_.nodes <= args_.capacity && 2 * state_.links <= args_.capacity &&
               4 * beam_size_ <= args_.capacity;
    }

    // Prefixes that no prefix of the beam goes through; the others keep their order.
    void drop_nodes() {
        __builtin_memset(map_, 0, static_cast<size_t>(state_.nodes) * sizeof(int32_t));
        for (int64_t k = 0; k < state_.count; ++k) {
            for (int32_t node = now_.node[k]; node != 0 && map_[node] == 0;
                 node = nodes_[node].parent)
                map_[node] = 1;
        }
        int32_t kept = 1;
        for (int64_t node = 1; node < state_.nodes; ++node) {
            if (map_[node] == 0) continue;
            map_[node] = kept;
            nodes_[kept] = nodes_[node];
            nodes_[kept].parent = map_[nodes_[node].parent];
            contexts_[kept++] = contexts_[node];
        }
        state_.nodes = kept;
        for (int64_t k = 0; k < state_.count; ++k) now_.node[k] = map_[now_.node[k]];
    }

    void drop_links() {
        __builtin_memset(map_, 0, static_cast<size_t>(state_.links) * sizeof(int32_t));
        for (int64_t k = 0; k < state_.count; ++k) {
            for (int32_t first : {now_.link_blank[k], now_.link_token[k]}) {
                for (int32_t link = first; link != 0 && map_[link] == 0;
                     link = links_[link].previous)
                    map_[link] = 1;
            }
        }
        int32_t kept = 1;
        for (int64_t link = 1; link < state_.links; ++link) {
            if (map_[link] == 0) continue;
            map_[link] = kept;
            runs_[kept] = runs_[link];
            links_[kept++] = {map_[links_[link].previous], links_[link].frame};
        }
        state_.links = kept;
        for (int64_t k = 0; k < state_.count; ++k) {
            now_.link_blank[k] = map_[now_.link_blank[k]];
            now_.link_token[k] = map_[now_.link_token[k]];
        }
    }

    const CtcDecodeArgs& args_;
    const int64_t row_, beam_size_;
    const Language language_;
    CtcDecodeState& state_;
    CtcNode* const nodes_;
    CtcContext* const contexts_;
    CtcLink* const links_;
    CtcRun* const runs_;
    char *const beams_, *const beam_runs_;
    Prefixes prefixes_;
    const CtcBeams stays_;
    const CtcRuns stay_runs_;
    CtcRun* const from_;  // of the parent's token, where the best alignment comes from there
    CtcBeams now_{};
    CtcRuns now_runs_{};
    Frame frame_;
    Ranked* const tokens_;
    Cut cut_;
    Ranked* const ranked_;
    Candidates candidates_;   // in the same memory
    double* const arriving_;  // from the parent
    int32_t* const map_;      // new numbers of what is kept
    TextKey* const texts_;
    double* const scores_;
    uint64_t* const children_;  // of each prefix the tokens of those in the beam, a bit for each 64
    int64_t token_count_ = 0;
    double most_ = 0;  // no extension is worth more before its token
};

size_t workspace(const CtcDecodeArgs& args) {
    return static_cast<size_t>(args.threads * scratch_of(args).size);
}

template <class F>
void for_each_search(const CtcDecodeArgs& args, F&& f) {
    const int64_t size = scratch_of(args).size;
    for_each_row(args.input.batch, args.threads, [&](int64_t row, int thread) {
        Search search(args, row, args.workspace + thread * size);
        f(search);
    });
}

void begin(const CtcDecodeArgs& args) {
    for_each_search(args, [](Search& search) { search.begin(); });
}
void frames(const CtcDecodeArgs& args) {
    for_each_search(args, [](Search& search) { search.run(); });
}
void rank(const CtcDecodeArgs& args) {
    for_each_search(args, [](Search& search) { search.rank(); });
}
void walk(const CtcDecodeArgs& args) {
    for_each_search(args, [](Search& search) { search.walk(); });
}
void grow(const CtcDecodeArgs& args, const CtcDecodeArgs& larger) {
    for_each_search(args, [&](Search& search) { search.move_to(larger); });
    for_each_search(larger, [](Search& search) { search.fill_heads(); });
}

}  // namespace

extern const CtcDecodeKernels ctc_decoder = {&workspace, &begin, &frames, &rank, &walk, &grow};

}  // namespace seqfast::cpu::SEQFAST_ISA
