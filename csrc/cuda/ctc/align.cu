// CTC alignment: a block has a row, its threads share the positions of a frame. As on the CPU a
// first pass keeps the states of every `block`-th frame, and the way back computes the rest again.
#include "cuda/ctc/align.h"

#include "cuda/base/sizes.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr double kNone = -__builtin_inf();

struct BlockMemory {
    int64_t reduced[kWarps];
    CtcPlace place;
    double score;
};

// Doubles of the ways to so many positions, and to the token before them, which there is not.
SEQFAST_INLINE int64_t ways_size(int64_t positions) { return 2 * positions + 1; }
SEQFAST_INLINE CtcWays ways_at(double* memory, int64_t row, int64_t positions, int64_t begin) {
    double* token = memory + row * ways_size(positions) + 1 - begin;
    return {token, token + positions};
}

struct AlignParams {
    CtcAlignArgs args;
    int64_t row_size;    // of `rows`, in doubles
    int64_t between;     // positions of a block's states
    int64_t between_at;  // in a row's memory: before them stand a row for each block, and two
    double* rows;        // [batch, row_size]
};

template <class Storage>
class Alignment {
  public:
    SEQFAST_DEVICE Alignment(const AlignParams& p, BlockMemory& memory, int64_t row)
        : p_(p),
          args_(p.args),
          memory_(memory),
          row_(row),
          frames_(ctc_length(p.args.input, row)),
          tokens_(ctc_target_length(p.args, row)),
          blocks_((frames_ + p.args.block - 1) / p.args.block),
          targets_(p.args.targets + row * p.args.longest),
          log_probs_(static_cast<const Storage*>(p.args.input.log_probs) +
                     row * p.args.input.row_stride) {}

    SEQFAST_DEVICE void run() {
        const int64_t refused = refusal();
        if (thread_index() == 0) args_.refused[row_] = refused;
        write_nothing(refused == kCtcRowFine ? kNone : double_of(0, 0x7FF80000u));
        if (refused != kCtcRowFine) return;
        begin();
        if (blocks_ > 1) {
            first_pass();
        } else if (blocks_ == 1) {
            block_pass(0, tokens_, tokens_ - 1);
        }
        if (thread_index() == 0) find_end();
        block_sync();
        if (!(memory_.score > kNone)) return;
        for (int64_t block = blocks_ - 1; block >= 0; --block) {
            const int64_t position = memory_.place.position;
            if (blocks_ > 1) block_pass(block, position, position);
            if (thread_index() == 0) walk_back(block);
            block_sync();
        }
        write_token_scores();
    }

  private:
    SEQFAST_DEVICE CtcWays kept(int64_t row) const {
        return ways_at(p_.rows + row_ * p_.row_size, row, args_.longest + 1, 0);
    }
    SEQFAST_DEVICE CtcWays between(int64_t row) const {
        return ways_at(p_.rows + row_ * p_.row_size + p_.between_at, row, p_.between, begin_);
    }
    SEQFAST_DEVICE double log_prob(int64_t t, int64_t token) const {
        return to_float(log_probs_[t * args_.input.frame_stride + token]);
    }

    // Of all threads, the least number.
    SEQFAST_DEVICE int64_t least_of_all(int64_t value) const {
        for (int distance = 16; distance > 0; distance /= 2) {
            const int64_t other = shuffle_xor(value, distance);
            value = other < value ? other : value;
        }
        if (lane_index() == 0) memory_.reduced[thread_index() / 32] = value;
        block_sync();
        for (int warp = 0; warp < kWarps; ++warp)
            value = memory_.reduced[warp] < value ? memory_.reduced[warp] : value;
        block_sync();
        return value;
    }
    SEQFAST_DEVICE int64_t sum_of_all(int64_t value) const {
        for (int distance = 16; distance > 0; distance /= 2) value += shuffle_xor(value, distance);
        if (lane_index() == 0) memory_.reduced[thread_index() / 32] = value;
        block_sync();
        value = 0;
        for (int warp = 0; warp < kWarps; ++warp) value += memory_.reduced[warp];
        block_sync();
        return value;
    }

    // ---- what is wrong with the row ----

    SEQFAST_DEVICE int64_t refusal() const {
        int64_t bad = tokens_, repeats = 0;
        for (int64_t i = thread_index(); i < tokens_; i += kThreads) {
            const int64_t token = targets_[i];
            if (bad == tokens_ &&
                (token < 0 || token >= args_.input.vocab || token == args_.input.blank))
                bad = i;
            repeats += i > 0 && token == targets_[i - 1];
        }
        bad = least_of_all(bad);
        repeats = sum_of_all(repeats);
        if (bad < tokens_) return kCtcBadToken - bad;
        if (tokens_ + repeats > frames_) return kCtcRowTooShort;
        const int64_t frame = least_of_all(first_bad_frame());
        return frame < frames_ ? frame : kCtcRowFine;
    }

    SEQFAST_DEVICE int64_t first_bad_frame() const {
        for (int64_t t = thread_index() / 32; t < frames_; t += kWarps) {
            for (int64_t i = lane_index(); i <= tokens_; i += 32) {
                const int64_t token = i < tokens_ ? targets_[i] : args_.input.blank;
                if (!(log_prob(t, token) <= kCtcMost)) return t;
            }
        }
        return frames_;
    }

    // ---- passes ----

    // Before the first frame: at the first blank. The rows that move on have nothing yet.
    SEQFAST_DEVICE void begin() {
        for (int64_t row = 0; row < 3; ++row) {
            const CtcWays ways = kept(row == 0 ? 0 : blocks_ + row - 1);
            if (blocks_ <= 1 && row > 0) break;
            for (int64_t i = thread_index() - 1; i <= tokens_; i += kThreads) {
                ways.token[i] = kNone;
                if (i >= 0) ways.blank[i] = i == 0 && row != 2 ? 0 : kNone;
            }
        }
        block_sync();
    }

    // Over all frames, in two rows that take turns; each block's beginning is copied.
    SEQFAST_DEVICE void first_pass() {
        for (int64_t t = 0; t < frames_; ++t) {
            const CtcWays before = kept(blocks_ + t % 2), now = kept(blocks_ + (t + 1) % 2);
            if (t > 0 && t % args_.block == 0) keep(before, kept(t / args_.block));
            const int64_t top = t < tokens_ ? t : tokens_;
            step(before, now, t, ctc_first_position(tokens_ - 1, frames_ - 1 - t), top);
        }
    }

    SEQFAST_DEVICE void keep(const CtcWays& from, const CtcWays& to) const {
        for (int64_t i = thread_index() - 1; i <= tokens_; i += kThreads) {
            to.token[i] = from.token[i];
            if (i >= 0) to.blank[i] = from.blank[i];
        }
    }

    // A block's states up to `top`, those that can still come to `end` when it is over.
    SEQFAST_DEVICE void block_pass(int64_t block, int64_t top, int64_t end) {
        const int64_t from = block * args_.block, to = end_of(block);
        begin_ = ctc_first_position(end, to - 1 - from);
        CtcWays before = kept(block);
        for (int64_t t = from; t < to; ++t) {
            const CtcWays now = between(t - from);
            if (thread_index() == 0) now.token[begin_ - 1] = kNone;
            step(before, now, t, ctc_first_position(end, to - 1 - t), top);
            before = now;
        }
    }

    SEQFAST_DEVICE int64_t end_of(int64_t block) const {
        const int64_t end = (block + 1) * args_.block;
        return end < frames_ ? end : frames_;
    }

    SEQFAST_DEVICE void step(const CtcWays& before, const CtcWays& now, int64_t t, int64_t first,
                             int64_t last) const {
        const double blank = log_prob(t, args_.input.blank);
        for (int64_t i = first + thread_index(); i <= last; i += kThreads) {
            const double waited = before.blank[i], earlier = before.token[i - 1];
            now.blank[i] = (earlier > waited ? earlier : waited) + blank;
            if (i == tokens_) continue;
            const double skipped = earlier + ctc_skip(targets_, i);
            double best = before.token[i];
            best = waited > best ? waited : best;
            best = skipped > best ? skipped : best;
            now.token[i] = best + log_prob(t, targets_[i]);
        }
        block_sync();
    }

    // ---- one thread's ----

    SEQFAST_DEVICE void find_end() {
        const CtcWays last = blocks_ == 0  ? kept(0)
                             : blocks_ > 1 ? kept(blocks_ + frames_ % 2)
                                           : between(frames_ - 1);
        memory_.place = ctc_last_place(last, tokens_);
        const CtcPlace place = memory_.place;
        memory_.score = (place.at_token ? last.token : last.blank)[place.position];
        args_.scores[row_] = memory_.score;
    }

    SEQFAST_DEVICE void walk_back(int64_t block) {
        const int64_t from = block * args_.block;
        CtcPlace place = memory_.place;
        for (int64_t t = end_of(block) - 1; t >= from; --t) {
            path()[t] = place.at_token ? targets_[place.position] : args_.input.blank;
            if (place.at_token) {
                int64_t* span = spans() + 2 * place.position;
                if (span[1] < 0) span[1] = t;
                span[0] = t;
            }
            place = ctc_came_from(t > from ? between(t - 1 - from) : kept(block), targets_, place);
        }
        memory_.place = place;
    }

    // ---- results ----

    SEQFAST_DEVICE int64_t* path() const { return args_.paths + row_ * args_.input.frames; }
    SEQFAST_DEVICE int64_t* spans() const { return args_.spans + 2 * row_ * args_.longest; }
    SEQFAST_DEVICE double* token_scores() const {
        return args_.token_scores + row_ * args_.longest;
    }

    // What a row has that cannot be aligned, and before it is.
    SEQFAST_DEVICE void write_nothing(double score) const {
        if (thread_index() == 0) args_.scores[row_] = score;
        for (int64_t i = thread_index(); i < args_.longest; i += kThreads)
            token_scores()[i] = i < tokens_ ? score : 0;
        for (int64_t t = thread_index(); t < args_.input.frames; t += kThreads) path()[t] = -1;
        for (int64_t i = thread_index(); i < 2 * args_.longest; i += kThreads) spans()[i] = -1;
    }

    SEQFAST_DEVICE void write_token_scores() const {
        for (int64_t i = thread_index(); i < tokens_; i += kThreads) {
            const int64_t first = spans()[2 * i], last = spans()[2 * i + 1];
            double sum = 0;
            for (int64_t t = first; t <= last; ++t) sum += log_prob(t, targets_[i]);
            token_scores()[i] = sum / double(last - first + 1);
        }
    }

    const AlignParams& p_;
    const CtcAlignArgs& args_;
    BlockMemory& memory_;
    const int64_t row_, frames_, tokens_, blocks_;
    const int64_t* const targets_;
    const Storage* const log_probs_;
    int64_t begin_ = 0;  // the first position of a block's states
};

template <class Storage>
SEQFAST_KERNEL(kThreads, 2)
ctc_align_kernel(SEQFAST_GRID_CONSTANT AlignParams p) {
    auto& memory = *reinterpret_cast<BlockMemory*>(dynamic_shared());
    for (int64_t row = block_x(); row < p.args.input.batch; row += grid_x()) {
        Alignment<Storage>(p, memory, row).run();
        block_sync();
    }
}

AlignParams params_of(const CtcAlignArgs& args) {
    const int64_t kept = parts_of(args.input.frames, args.block) + 2;
    AlignParams p{args, 0, 0, 0, reinterpret_cast<double*>(args.workspace)};
    p.between = least(args.longest, args.block) + 1;
    p.between_at = kept * ways_size(args.longest + 1);
    p.row_size = p.between_at + args.block * ways_size(p.between);
    return p;
}

}  // namespace

size_t ctc_align_workspace_size(const GpuPlace&, const CtcAlignArgs& args) {
    return size_t(args.input.batch * params_of(args).row_size) * sizeof(double);
}

void ctc_align(const GpuPlace& place, const CtcAlignArgs& args) {
    const DeviceGuard guard(place.device);
    const LaunchShape shape = shape_of_blocks(args.input.batch, kThreads, sizeof(BlockMemory));
    const auto kernel =
        args.input.dtype == DType::float64 ? ctc_align_kernel<double> : ctc_align_kernel<float>;
    launch("ctc_align_kernel", kernel, shape, place.stream, params_of(args));
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
