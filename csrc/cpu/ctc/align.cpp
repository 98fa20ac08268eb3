// CTC alignment by the kernels of one instruction set. A first pass keeps the states of every
// `block`-th frame; the way back computes what lies between again, where it can have come from.
#include "core/ctc_align.h"

#include "cpu/base/arena.h"
#include "cpu/base/range.h"
#include "cpu/base/simd.h"
#include "cpu/base/storage.h"
#include "cpu/base/team.h"
#include "cpu/ctc/align_table.h"

namespace seqfast::cpu::SEQFAST_ISA {
namespace {

using V = Vector<double>;
constexpr int kWide = kLanes<double>;
constexpr double kNone = -__builtin_inf();

int64_t whole_vectors(int64_t count) { return ceil_div(count, kWide) * kWide; }
int64_t round_down(int64_t count) { return count / kWide * kWide; }

// Ways to the positions of some frames, a row for each; positions from `begin` on.
struct Rows {
    double* memory;
    int64_t width, begin;

    // The token before the first position has a vector to itself.
    static int64_t size_of(int64_t width) { return 2 * width + kWide; }
    CtcWays operator[](int64_t row) const {
        double* token = memory + row * size_of(width) + kWide - begin;
        return {token, token + width};
    }
};

// A thread's memory.
struct Scratch {
    int32_t* table_row;  // [vocab], of each token that is among the targets
    int64_t* tokens;     // [longest + 2], of each row of the table
    double* table;       // [longest + 2, kWide] log-probabilities of some frames; the last is -inf
    int32_t* rows;       // [width], of the table, for each position
    double* skips;       // [width]
    double* emissions;   // [kWide, width]
    Rows kept, between;  // every block's first states; a block's
};

int64_t blocks_of(const CtcAlignArgs& args) { return ceil_div(args.input.frames, args.block); }

Scratch scratch_of(const CtcAlignArgs& args, Arena& arena) {
    const int64_t width = whole_vectors(args.longest + 1), tokens = args.longest + 2;
    const int64_t between = smaller(width, whole_vectors(args.block) + 2 * kWide);
    const int64_t blocks = larger(blocks_of(args), 1);
    Scratch at{};
    at.table_row = arena.take<int32_t>(args.input.vocab);
    at.tokens = arena.take<int64_t>(tokens);
    at.table = arena.take<double>(tokens * kWide);
    at.rows = arena.take<int32_t>(width);
    at.skips = arena.take<double>(width);
    at.emissions = arena.take<double>(kWide * width);
    // One more, which moves on.
    at.kept = {arena.take<double>((blocks + 1) * Rows::size_of(width)), width, 0};
    at.between = {arena.take<double>(args.block * Rows::size_of(between)), between, 0};
    return at;
}

template <class Storage>
class Alignment {
  public:
    Alignment(const CtcAlignArgs& args, int64_t row, const Scratch& at)
        : args_(args),
          at_(at),
          row_(row),
          frames_(ctc_length(args.input, row)),
          tokens_(ctc_target_length(args, row)),
          targets_(args.targets + row * args.longest),
          log_probs_(static_cast<const Storage*>(args.input.log_probs) +
                     row * args.input.row_stride) {}

    void run() {
        args_.refused[row_] = ctc_target_refusal(args_.input, targets_, tokens_, frames_);
        if (args_.refused[row_] == kCtcRowFine) {
            prepare();
            if (!begin_and_walk()) args_.refused[row_] = bad_frame_;
        }
        if (args_.refused[row_] != kCtcRowFine) {
            write_nothing(__builtin_nan(""));
        } else if (!(args_.scores[row_] > kNone)) {
            write_nothing(kNone);
        } else {
            write_token_scores();
        }
    }

  private:
    int64_t positions() const { return tokens_ + 1; }
    const Storage* frame(int64_t t) const { return log_probs_ + t * args_.input.frame_stride; }

    // Each token that is there once gets a row of the table; the blank has the first one.
    void prepare() {
        for (int64_t i = 0; i < tokens_; ++i) at_.table_row[targets_[i]] = 0;
        at_.tokens[0] = args_.input.blank;
        different_ = 1;
        const int64_t width = whole_vectors(positions());
        for (int64_t i = 0; i < tokens_; ++i) {
            int32_t& row = at_.table_row[targets_[i]];
            if (row == 0) {
                at_.tokens[different_] = targets_[i];
                row = static_cast<int32_t>(different_++);
            }
            at_.rows[i] = row;
            at_.skips[i] = ctc_skip(targets_, i);
        }
        for (int64_t i = tokens_; i < width; ++i) {
            at_.rows[i] = static_cast<int32_t>(different_);
            at_.skips[i] = kNone;
        }
        store(at_.table + different_ * kWide, broadcast(kNone));
    }

    // False where a frame has what is no log-probability.
    bool begin_and_walk() {
        begin(at_.kept[0]);
        const int64_t blocks = ceil_div(frames_, args_.block);
        CtcPlace place{0, false};
        if (blocks > 1) {
            if (!first_pass()) return false;
            place = end_at(at_.kept[blocks]);
        } else if (blocks == 1) {
            // All states fit: the way back needs no second look at them.
            if (!block_pass(0, tokens_, tokens_ - 1)) return false;
            place = end_at(at_.between[frames_ - 1]);
        } else {
            args_.scores[row_] = 0;
        }
        if (!(args_.scores[row_] > kNone)) return true;
        for (int64_t t = frames_; t < args_.input.frames; ++t) path()[t] = -1;
        for (int64_t i = 2 * tokens_; i < 2 * args_.longest; ++i) spans()[i] = -1;
        for (int64_t block = blocks - 1; block >= 0; --block) {
            if (blocks > 1) block_pass(block, place.position, place.position);
            place = walk_back(block, place);
        }
        return true;
    }

    // Before the first frame: at the first blank.
    void begin(const CtcWays& ways) {
        const int64_t width = whole_vectors(positions());
        for (int64_t i = -kWide; i < width; i += kWide) {
            store(ways.token + i, broadcast(kNone));
            if (i >= 0) store(ways.blank + i, broadcast(kNone));
        }
        ways.blank[0] = 0;
    }

    CtcPlace end_at(const CtcWays& last) {
        const CtcPlace place = ctc_last_place(last, tokens_);
        args_.scores[row_] = (place.at_token ? last.token : last.blank)[place.position];
        return place;
    }

    // ---- passes ----

    // Over all frames, in the last of the kept rows; each block's beginning is copied.
    bool first_pass() {
        const int64_t blocks = ceil_div(frames_, args_.block);
        const CtcWays now = at_.kept[blocks];
        begin(now);
        for (int64_t t = 0; t < frames_; t += kWide) {
            const int64_t count = smaller(kWide, frames_ - t);
            if (!read(t, count)) return false;
            const auto first = [&](int64_t at) {
                return round_down(ctc_first_position(tokens_ - 1, frames_ - 1 - at));
            };
            const auto end = [&](int64_t at) {
                return whole_vectors(smaller(positions(), at + 1));
            };
            emit(first(t), end(t + count - 1));
            for (int64_t k = 0; k < count; ++k) {
                if ((t + k) % args_.block == 0 && t + k > 0) keep(now, (t + k) / args_.block);
                step(now, now, k, first(t + k), end(t + k));
            }
        }
        return true;
    }

    void keep(const CtcWays& now, int64_t block) {
        const CtcWays to = at_.kept[block];
        for (int64_t i = -kWide; i < whole_vectors(positions()); i += kWide) {
            store(to.token + i, load(now.token + i));
            if (i >= 0) store(to.blank + i, load(now.blank + i));
        }
    }

    // A block's states up to `top`, those that can still come to `end` when it is over.
    bool block_pass(int64_t block, int64_t top, int64_t end) {
        const int64_t from = block * args_.block;
        const int64_t to = smaller(from + args_.block, frames_);
        const auto first = [&](int64_t at) {
            return round_down(ctc_first_position(end, to - 1 - at));
        };
        at_.between.begin = larger(first(from), 0);
        const int64_t limit = whole_vectors(top + 1);
        CtcWays before = at_.kept[block];
        for (int64_t t = from; t < to; t += kWide) {
            const int64_t count = smaller(kWide, to - t);
            if (!read(t, count)) return false;
            emit(first(t), limit);
            for (int64_t k = 0; k < count; ++k) {
                const CtcWays now = at_.between[t + k - from];
                store(now.token + at_.between.begin - kWide, broadcast(kNone));
                step(before, now, k, first(t + k), limit);
                before = now;
            }
        }
        return true;
    }

    CtcPlace walk_back(int64_t block, CtcPlace place) {
        const int64_t from = block * args_.block;
        const int64_t to = smaller(from + args_.block, frames_);
        for (int64_t t = to - 1; t >= from; --t) {
            path()[t] = place.at_token ? targets_[place.position] : args_.input.blank;
            if (place.at_token) {
                int64_t* span = spans() + 2 * place.position;
                if (place.position != last_position_) span[1] = t;
                span[0] = t;
                last_position_ = place.position;
            }
            const CtcWays before = t > from ? at_.between[t - 1 - from] : at_.kept[block];
            place = ctc_came_from(before, targets_, place);
        }
        return place;
    }

    // ---- a frame ----

    // So many frames' log-probabilities of the tokens, side by side.
    bool read(int64_t t, int64_t count) {
        for (int64_t k = 0; k < kWide; ++k) {
            const Storage* from = frame(t + (k < count ? k : 0));
            for (int64_t row = 0; row < different_; ++row)
                at_.table[row * kWide + k] = widen(from[at_.tokens[row]]);
        }
        using Mask = typename VectorTypes<double>::Int;
        Mask fine = ~Mask{};
        for (int64_t row = 0; row < different_; ++row)
            fine &= load(at_.table + row * kWide) <= broadcast(kCtcMost);
        for (int64_t k = 0; k < count; ++k) {
            if (fine[k] == 0) {
                bad_frame_ = t + k;
                return false;
            }
        }
        return true;
    }

    // The same at each position, frame by frame.
    void emit(int64_t begin, int64_t end) {
        const int64_t width = whole_vectors(args_.longest + 1);
        for (int64_t i = begin; i < end; i += kWide) {
            V square[kWide];
#pragma GCC unroll 8
            for (int l = 0; l < kWide; ++l) square[l] = load(at_.table + at_.rows[i + l] * kWide);
            transpose<double>(square);
#pragma GCC unroll 8
            for (int k = 0; k < kWide; ++k) store(at_.emissions + k * width + i, square[k]);
        }
    }

    // From one frame to the next, downwards: both may be the same memory.
    void step(const CtcWays& before, const CtcWays& now, int64_t k, int64_t begin, int64_t end) {
        const double* emissions = at_.emissions + k * whole_vectors(args_.longest + 1);
        const V blank = broadcast(at_.table[k]);
        for (int64_t i = end - kWide; i >= begin; i -= kWide) {
            const V stay = load(before.token + i), waited = load(before.blank + i);
            const V earlier = load(before.token + i - 1), skipped = earlier + load(at_.skips + i);
            V best = waited > stay ? waited : stay;
            best = skipped > best ? skipped : best;
            store(now.token + i, best + load(emissions + i));
            store(now.blank + i, (earlier > waited ? earlier : waited) + blank);
        }
    }

    // ---- results ----

    int64_t* path() const { return args_.paths + row_ * args_.input.frames; }
    int64_t* spans() const { return args_.spans + 2 * row_ * args_.longest; }

    void write_nothing(double score) {
        args_.scores[row_] = score;
        double* scores = args_.token_scores + row_ * args_.longest;
        for (int64_t i = 0; i < args_.longest; ++i) scores[i] = i < tokens_ ? score : 0;
        for (int64_t t = 0; t < args_.input.frames; ++t) path()[t] = -1;
        for (int64_t i = 0; i < 2 * args_.longest; ++i) spans()[i] = -1;
    }

    // In the order of frames, as everywhere.
    void write_token_scores() {
        double* scores = args_.token_scores + row_ * args_.longest;
        for (int64_t i = 0; i < args_.longest; ++i) {
            double sum = 0;
            if (i < tokens_) {
                const int64_t first = spans()[2 * i], last = spans()[2 * i + 1];
                for (int64_t t = first; t <= last; ++t) sum += widen(frame(t)[targets_[i]]);
                sum /= static_cast<double>(last - first + 1);
            }
            scores[i] = sum;
        }
    }

    const CtcAlignArgs& args_;
    Scratch at_;
    const int64_t row_, frames_, tokens_;
    const int64_t* const targets_;
    const Storage* const log_probs_;
    int64_t different_ = 0, bad_frame_ = 0, last_position_ = -1;
};

size_t align_workspace(const CtcAlignArgs& args) {
    Arena arena{0};
    for (int thread = 0; thread < args.threads; ++thread) scratch_of(args, arena);
    return arena.used;
}

void align(const CtcAlignArgs& args) {
    for_each_row(args.input.batch, args.threads, [&](int64_t row, int thread) {
        Arena arena{reinterpret_cast<uintptr_t>(args.workspace)};
        Scratch scratch = scratch_of(args, arena);
        for (int skipped = 0; skipped < thread; ++skipped) scratch = scratch_of(args, arena);
        with_storage(args.input.dtype,
                     [&](auto storage) { Alignment<decltype(storage)>(args, row, scratch).run(); });
    });
}

}  // namespace

extern const CtcAlignKernels ctc_align = {&align_workspace, &align};

}  // namespace seqfast::cpu::SEQFAST_ISA
