// CTC prefix beam search: a block has a row and walks its frames; what it keeps of its prefixes
// lies in global memory, what competes for the next beam in shared memory.
#include "cuda/ctc/ctc.h"

#include "cuda/base/search.cuh"
#include "cuda/base/selection.cuh"
#include "cuda/base/sizes.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

constexpr int kThreads = kSelectionThreads;
constexpr int kWarps = kThreads / 32;

// A candidate's score, and its place: what comes later loses.
using CandidateKeys = Keys<double>;

// Prefixes by their hash: whoever counts first has the place, later ones look further.
struct TablePlace {
    uint32_t claims;
    int32_t node;
};

struct BlockMemory {
    SelectionMemoryOf<WideKey> selection;
    double least[kWarps];
};

struct CtcParams {
    CtcBeamArgs args;
    CtcLayout at;
    int64_t table_size;  // of a row
    char* rows;          // [batch] each at.size bytes, then its int32 [beam_size + 1] of cells
    int64_t row_size;
    TablePlace* tables;  // [batch, table_size]
};

constexpr double kNone = -__builtin_inf();

// log(e^a + e^b), the CPU's in cpu/ctc/log_add.h.
SEQFAST_DEVICE double log_add(double a, double b) {
    const double high = a > b ? a : b, low = a > b ? b : a;
    if (!(high > kNone)) return high;
    const double y = fast_exp(low - high), s = y / (2 + y), square = s * s;
    constexpr int terms = 17;
    double series = 1.0 / (2 * terms - 1);
    SEQFAST_UNROLL
    for (int term = terms - 2; term >= 0; --term) series = series * square + 1.0 / (2 * term + 1);
    return high + 2 * s * series;
}

template <class Storage>
class Search {
  public:
    SEQFAST_DEVICE Search(const CtcParams& p, BlockMemory& memory, int64_t row)
        : args_(p.args),
          memory_(memory),
          selection_(memory.selection, int(p.args.beam_size)),
          row_(row),
          beam_size_(p.args.beam_size),
          length_(ctc_length(p.args.input, row)),
          row_memory_(p.rows + row * p.row_size),
          state_(*reinterpret_cast<CtcState*>(row_memory_ + p.at.state)),
          nodes_(reinterpret_cast<CtcNode*>(row_memory_ + p.at.nodes)),
          links_(reinterpret_cast<CtcLink*>(row_memory_ + p.at.links)),
          beams_(row_memory_ + p.at.beams),
          stays_(ctc_beams_at(row_memory_ + p.at.stays, p.args.beam_size)),
          cells_(reinterpret_cast<int32_t*>(row_memory_ + p.at.size)),
          table_(p.tables + row * p.table_size),
          table_size_(p.table_size) {}

    SEQFAST_DEVICE void run() {
        if (args_.frame_begin == 0) begin();
        block_sync();
        count_ = args_.refused[row_] < 0 ? int(state_.count) : 0;
        int64_t half = state_.half;
        bool moved = false;
        for (int64_t t = args_.frame_begin; t < args_.frame_end && t < length_; ++t) {
            if (count_ == 0) break;
            now_ = beam(half);
            next_ = beam(1 - half);
            step(t);
            half = 1 - half;
            moved = true;
        }
        if (args_.source && !moved) {
            for (int k = thread_index(); k < beam_size_; k += kThreads) report(k, k, -1);
        }
        if (args_.frame_end == args_.input.frames) write_results(beam(half));
        block_sync();
        if (thread_index() == 0) {
            state_.count = count_;
            state_.half = half;
        }
    }

  private:
    SEQFAST_DEVICE CtcBeams beam(int64_t half) const {
        return ctc_beams_at(beams_ + half * ctc_beams_bytes(beam_size_), beam_size_);
    }

    // With the empty prefix alone.
    SEQFAST_DEVICE void begin() {
        if (thread_index() != 0) return;
        nodes_[0] = {-1, -1, 0, 0};
        state_ = {1, 1, 1, 0};
        const CtcBeams first = beam(0);
        first.blank[0] = first.total[0] = first.best_blank[0] = first.lm[0] = 0;
        first.token[0] = first.best_token[0] = kNone;
        first.node[0] = first.link_blank[0] = first.link_token[0] = 0;
        if (args_.lm) return;
        // The blank takes a place among the tokens, but extends nothing.
        int32_t cells = 0;
        for (int64_t k = 0; k < beam_size_; ++k) {
            cells_[k] = cells;
            const int64_t tokens = ctc_extensions(beam_size_, k) + 1;
            cells += int32_t(tokens < args_.ranks ? tokens : args_.ranks);
        }
        cells_[beam_size_] = cells;
    }

    SEQFAST_DEVICE void step(int64_t t) {
        const CtcInput& input = args_.input;
        frame_ = static_cast<const Storage*>(input.log_probs) + row_ * input.row_stride +
                 t * input.frame_stride;
        ranked_ = args_.ranked + (row_ * input.frames + t) * args_.ranks;
        limit_tokens();
        stay();
        offer();
        choose(t);
    }

    // ---- tokens ----

    SEQFAST_DEVICE CtcRanked ranked(int64_t rank) const {
        const int64_t token = ranked_[rank];
        return {to_float(frame_[token]), token};
    }

    // Tokens below `cutoff_` do not count in this frame.
    SEQFAST_DEVICE void limit_tokens() {
        const CtcRanked best = ranked(0);
        cutoff_ = {args_.min_log_prob, args_.input.vocab};
        if (!(best.score >= args_.min_log_prob)) cutoff_ = best;
        if (args_.top_n >= args_.input.vocab) return;
        const CtcRanked last = ranked(args_.top_n - 1);
        if (last > cutoff_) cutoff_ = last;
    }

    SEQFAST_DEVICE double log_prob(int64_t token) const {
        const CtcRanked entry{to_float(frame_[token]), token};
        return cutoff_ > entry ? kNone : entry.score;
    }

    // ---- candidates ----

    // Prefixes that get no new token, and the limit that an extension must be above.
    SEQFAST_DEVICE void stay() {
        const double blank = log_prob(args_.input.blank);
        double least = -kNone;
        for (int k = thread_index(); k < count_; k += kThreads) {
            const int32_t last = nodes_[now_.node[k]].token;
            const double again = last < 0 ? kNone : log_prob(last);
            const double arriving = ctc_stay(now_, nodes_, k, blank, again, stays_);
            stays_.token[k] = log_add(stays_.token[k], arriving);
            stays_.total[k] = log_add(stays_.blank[k], stays_.token[k]);
            const double score = stays_.total[k] + now_.lm[k];
            least = score < least ? score : least;
        }
        for (int distance = 16; distance > 0; distance /= 2) {
            const double other = shuffle_xor(least, distance);
            least = other < least ? other : least;
        }
        if (lane_index() == 0) memory_.least[thread_index() / 32] = least;
        block_sync();
        limit_ = kNone;
        if (count_ < beam_size_) return;
        limit_ = memory_.least[0];
        for (int warp = 1; warp < kWarps; ++warp)
            limit_ = memory_.least[warp] < limit_ ? memory_.least[warp] : limit_;
    }

    SEQFAST_DEVICE void offer() {
        selection_.clear();
        for (int begin = 0; begin < count_; begin += kThreads) {
            const int k = begin + thread_index();
            const double score = k < count_ ? stays_.total[k] + now_.lm[k] : kNone;
            selection_.offer(CandidateKeys::make(score, k), score > kNone);
        }
        selection_.compact_if_full();
        const int64_t cells = args_.lm ? count_ * args_.ranks : cells_[count_];
        for (int64_t begin = 0; begin < cells; begin += kSelectionBatch) {
            for (int64_t at = begin; at < begin + kSelectionBatch && at < cells; at += kThreads) {
                WideKey key{};
                const bool offered =
                    at + thread_index() < cells && extension(at + thread_index(), key);
                selection_.offer(key, offered);
            }
            // What comes later loses against an equal score.
            if (selection_.compact_if_full()) {
                const double last = CandidateKeys::value(selection_.key(int(beam_size_) - 1));
                limit_ = last > limit_ ? last : limit_;
            }
        }
        selection_.compact();
    }

    // Which prefix and which of the frame's tokens a cell is.
    SEQFAST_DEVICE int prefix_of(int64_t cell) const {
        if (args_.lm) return int(cell / args_.ranks);
        return count_front(count_, [&](int k) { return cells_[k] <= cell; }) - 1;
    }

    // Whether the cell is a candidate, and its key.
    SEQFAST_DEVICE bool extension(int64_t cell, WideKey& key) const {
        const int k = prefix_of(cell);
        const int64_t rank = cell - (args_.lm ? k * args_.ranks : cells_[k]);
        const CtcRanked entry = ranked(rank);
        if (entry.place == args_.input.blank || cutoff_ > entry) return false;
        const int32_t token = int32_t(entry.place), node = now_.node[k];
        double score = ctc_emission(now_, nodes_, k, token).all + entry.score;
        if (args_.lm) score += now_.lm[k] + lm_of(k, token);
        if (!(score > limit_)) return false;
        const int32_t child = find(node, token);
        if (child != 0 && nodes_[child].slot >= 0) return false;  // it stays
        key = CandidateKeys::make(score, beam_size_ + k * args_.ranks + rank);
        return true;
    }

    SEQFAST_DEVICE double lm_of(int64_t k, int64_t token) const {
        return args_.lm[(row_ * beam_size_ + k) * args_.input.vocab + token];
    }

    // ---- the new beam ----

    SEQFAST_DEVICE void choose(int64_t t) {
        const int chosen = count_within_threshold();
        for (int k = thread_index(); k < count_; k += kThreads) nodes_[now_.node[k]].slot = -1;
        block_sync();
        const int64_t first_new = 1 + t * beam_size_;
        for (int k = thread_index(); k < chosen; k += kThreads) {
            const int64_t place = int64_t(CandidateKeys::place(selection_.key(k)));
            int64_t from = place, token = -1;
            if (place < beam_size_) {
                ctc_keep(now_, stays_, from, next_, k);
                const int32_t link = stays_.link_token[from];
                next_.link_token[k] = link < 0 ? new_link(first_new + k, ~link, t) : link;
            } else {
                from = (place - beam_size_) / args_.ranks;
                const CtcRanked entry = ranked((place - beam_size_) % args_.ranks);
                token = entry.place;
                const double lm = args_.lm ? lm_of(from, token) : 0.0;
                const int32_t link =
                    ctc_extend(now_, nodes_, from, int32_t(token), entry.score, lm, next_, k);
                next_.link_token[k] = new_link(first_new + k, link, t);
                const int32_t parent = now_.node[from];
                int32_t node = find(parent, int32_t(token));
                if (node == 0) {
                    node = int32_t(first_new + k);
                    nodes_[node] = {parent, int32_t(token), -1, 0};
                }
                next_.node[k] = node;
            }
            if (args_.source) report(k, from, token);
        }
        if (args_.source) {
            for (int k = chosen + thread_index(); k < beam_size_; k += kThreads) report(k, 0, -1);
        }
        // Nobody looks for a prefix any more.
        block_sync();
        for (int k = thread_index(); k < chosen; k += kThreads) {
            const int32_t node = next_.node[k];
            nodes_[node].slot = k;
            if (node == first_new + k) insert(node);
        }
        block_sync();
        count_ = chosen;
    }

    SEQFAST_DEVICE int count_within_threshold() const {
        const int count = selection_.count();
        if (count == 0) return 0;
        const double lowest = CandidateKeys::value(selection_.key(0)) - args_.beam_threshold;
        return count_front(
            count, [&](int k) { return !(CandidateKeys::value(selection_.key(k)) < lowest); });
    }

    SEQFAST_DEVICE int32_t new_link(int64_t number, int32_t previous, int64_t t) {
        links_[number] = {previous, int32_t(t)};
        return int32_t(number);
    }

    // The number of that prefix; 0 where nobody has seen it.
    SEQFAST_DEVICE int32_t find(int32_t parent, int32_t token) const {
        int64_t at = ctc_hash(parent, token, table_size_);
        for (; table_[at].claims != 0; at = (at + 1) & (table_size_ - 1)) {
            const int32_t node = table_[at].node;
            if (nodes_[node].parent == parent && nodes_[node].token == token) return node;
        }
        return 0;
    }
    SEQFAST_DEVICE void insert(int32_t node) {
        int64_t at = ctc_hash(nodes_[node].parent, nodes_[node].token, table_size_);
        while (atomic_add(&table_[at].claims, 1u) != 0) at = (at + 1) & (table_size_ - 1);
        table_[at].node = node;
    }

    SEQFAST_DEVICE void report(int64_t k, int64_t source, int64_t added) {
        args_.source[row_ * beam_size_ + k] = source;
        args_.added[row_ * beam_size_ + k] = added;
    }

    // ---- results ----

    SEQFAST_DEVICE void write_results(const CtcBeams& last) {
        const int64_t frames = args_.input.frames, first = row_ * args_.n_best;
        for (int64_t i = thread_index(); i < args_.n_best * frames; i += kThreads)
            args_.tokens[first * frames + i] = args_.timesteps[first * frames + i] = -1;
        block_sync();
        const bool refused = args_.refused[row_] >= 0;
        for (int64_t k = thread_index(); k < args_.n_best; k += kThreads) {
            const int64_t at = first + k;
            const bool found = k < count_;
            args_.scores[at] = refused ? double_of(0, 0x7FF80000u) : kNone;
            args_.counts[at] = 0;
            if (!found) continue;
            args_.scores[at] = last.total[k] + last.lm[k];
            args_.counts[at] = ctc_walk(last, nodes_, links_, k, args_.tokens + at * frames,
                                        args_.timesteps + at * frames);
        }
    }

    const CtcBeamArgs& args_;
    BlockMemory& memory_;
    SelectionOf<WideKey> selection_;
    const int64_t row_, beam_size_, length_;
    char* const row_memory_;
    CtcState& state_;
    CtcNode* const nodes_;
    CtcLink* const links_;
    char* const beams_;
    const CtcBeams stays_;
    int32_t* const cells_;  // where the cells of each prefix begin
    TablePlace* const table_;
    const int64_t table_size_;
    CtcBeams now_{}, next_{};
    const Storage* frame_ = nullptr;
    const int64_t* ranked_ = nullptr;
    int count_ = 0;  // every thread knows it
    CtcRanked cutoff_{};
    double limit_ = 0;
};

template <class Storage>
SEQFAST_KERNEL(kThreads, 2)
ctc_beam_search_kernel(SEQFAST_GRID_CONSTANT CtcParams p) {
    auto& memory = *reinterpret_cast<BlockMemory*>(dynamic_shared());
    for (int64_t row = block_x(); row < p.args.input.batch; row += grid_x()) {
        Search<Storage>(p, memory, row).run();
        block_sync();
    }
}

// At most half full.
int64_t table_size_of(const CtcBeamArgs& args) {
    return 2 * ctc_table_size(args.input.frames, args.beam_size);
}
int64_t tables_bytes(const CtcBeamArgs& args) {
    return ctc_align(args.input.batch * table_size_of(args) * int64_t(sizeof(TablePlace)));
}
int64_t row_size_of(const CtcBeamArgs& args) {
    return ctc_layout(args).size + ctc_align((args.beam_size + 1) * int64_t(sizeof(int32_t)));
}

}  // namespace

size_t ctc_beam_search_workspace_size(const GpuPlace&, const CtcBeamArgs& args) {
    return size_t(tables_bytes(args) + args.input.batch * row_size_of(args));
}

void ctc_beam_search(const GpuPlace& place, const CtcBeamArgs& args) {
    const DeviceGuard guard(place.device);
    const int64_t tables = tables_bytes(args);
    const CtcParams p{args,
                      ctc_layout(args),
                      table_size_of(args),
                      args.workspace + tables,
                      row_size_of(args),
                      reinterpret_cast<TablePlace*>(args.workspace)};
    if (args.frame_begin == 0) fill_zero(args.workspace, size_t(tables), place.stream);
    const LaunchShape shape = shape_of_blocks(args.input.batch, kThreads, sizeof(BlockMemory));
    const auto kernel = args.input.dtype == DType::float64 ? ctc_beam_search_kernel<double>
                                                           : ctc_beam_search_kernel<float>;
    launch("ctc_beam_search_kernel", kernel, shape, place.stream, p);
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
