// The k largest of each row by the kernels of one instruction set.
#include "core/top_k.h"

#include "cpu/base/selection.h"
#include "cpu/base/team.h"
#include "cpu/top_k/table.h"

namespace seqfast::cpu::SEQFAST_ISA {
namespace {

class TopK {
  public:
    TopK(const TopKArgs& args)
        : args_(args),
          parts_(top_k_parts(args.rows, args.threads)),
          selected_(top_k_selected(args.columns, args.k, args.excluded)),
          buffer_(top_k_buffer(args.columns, selected_)) {}

    void run() {
        // Threads that the runtime does not grant leave their work to this one.
        if (parts_ > 1) {
            if (!run_team(args_.threads, [&](int thread) { scan_parts(thread, args_.threads); })) {
                scan_parts(0, 1);
            }
            for (int64_t row = 0; row < args_.rows; ++row) merge(row);
        } else if (!run_team(args_.threads, [&](int thread) { rows(thread, args_.threads); })) {
            rows(0, 1);
        }
    }

  private:
    void rows(int thread, int threads) {
        for (int64_t row = thread; row < args_.rows; row += threads) {
            uint64_t* keys = args_.workspace + thread * buffer_;
            Selection selection(keys, selected_);
            selection.scan(row_at(row), 0, args_.columns);
            selection.finish();
            write(row, keys, selection.count());
        }
    }

    // Each part's keys stay at the front of its buffer, 0 behind the last.
    void scan_parts(int thread, int threads) {
        for (int64_t unit = thread; unit < args_.rows * parts_; unit += threads) {
            const int64_t part = unit % parts_;
            uint64_t* keys = args_.workspace + unit * buffer_;
            Selection selection(keys, selected_);
            selection.scan(row_at(unit / parts_), part * args_.columns / parts_,
                           (part + 1) * args_.columns / parts_);
            selection.finish();
            if (selection.count() < selected_) keys[selection.count()] = 0;
        }
    }

    void merge(int64_t row) {
        uint64_t* keys = args_.workspace + row * parts_ * buffer_;
        int64_t count = count_at(keys);
        for (int64_t part = 1; part < parts_; ++part) {
            const uint64_t* more = keys + part * buffer_;
            const int64_t added = count_at(more);
            for (int64_t i = 0; i < added; ++i) keys[count + i] = more[i];
            count += added;
            if (count > selected_) {
                select_keys(keys, count, selected_);
                count = selected_;
            }
        }
        write(row, keys, count);
    }

    int64_t count_at(const uint64_t* keys) const {
        int64_t count = 0;
        while (count < selected_ && keys[count]) ++count;
        return count;
    }

    void write(int64_t row, uint64_t* keys, int64_t count) {
        const float* scores = row_at(row);
        sort_keys(keys, count);
        for (int64_t i = 0; i < args_.excluded; ++i) {
            const int64_t column = args_.exclude[row * args_.excluded + i];
            if (column < 0 || column >= args_.columns) continue;
            const uint64_t key =
                top_k_key(bit_cast<uint32_t>(scores[column]), static_cast<uint32_t>(column));
            const int64_t place = find_key(keys, count, key);
            if (place < count) keys[place] &= ~kTopKLive;
        }
        float* values = args_.values + row * args_.k;
        int64_t* indices = args_.indices + row * args_.k;
        int64_t written = 0;
        for (int64_t i = 0; i < count && written < args_.k; ++i) {
            if (!(keys[i] & kTopKLive)) continue;
            indices[written] = column_of(keys[i]);
            values[written] = scores[indices[written]];
            ++written;
        }
        for (; written < args_.k; ++written) {
            values[written] = bit_cast<float>(0xFF800000u);
            indices[written] = -1;
        }
    }

    const float* row_at(int64_t row) const { return args_.scores + row * args_.row_stride; }

    const TopKArgs& args_;
    const int64_t parts_, selected_, buffer_;
};

void run(const TopKArgs& args) { TopK(args).run(); }

}  // namespace

extern const TopKKernels top_k = {&run};

}  // namespace seqfast::cpu::SEQFAST_ISA
