// The k largest of each row on a GPU: a block selects from its part of a row, and a second kernel
// from what the parts of a row have selected.
#include "cuda/top_k/top_k.h"

#include "cuda/base/selection.cuh"
#include "cuda/base/sizes.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

constexpr int kPerThread = 16;  // scores that a thread has on their way at once
constexpr int kTile = kSelectionThreads * kPerThread;

struct TopKParams {
    TopKArgs args;
    int selected;
    bool aligned;  // all rows to 16 bytes
};

// Which column of a tile a thread's i-th score is; batches follow each other.
SEQFAST_DEVICE int tile_column(bool aligned, int i) {
    return aligned ? i / 4 * (4 * kSelectionThreads) + 4 * thread_index() + i % 4
                   : i * kSelectionThreads + thread_index();
}

// The scores of a tile, NaN behind the end.
SEQFAST_DEVICE void load_tile(const TopKParams& p, const float* row, int64_t begin, int64_t end,
                              float (&scores)[kPerThread]) {
    const float nan = float_of(0x7FFFFFFFu);
    SEQFAST_UNROLL
    for (int i = 0; i < kPerThread; i += 4) {
        const int64_t column = begin + tile_column(p.aligned, i);
        if (p.aligned && column + 4 <= end) {
            const F32x4 four = *reinterpret_cast<const F32x4*>(row + column);
            scores[i] = four.x;
            scores[i + 1] = four.y;
            scores[i + 2] = four.z;
            scores[i + 3] = four.w;
        } else {
            SEQFAST_UNROLL
            for (int j = i; j < i + 4; ++j) {
                const int64_t at = begin + tile_column(p.aligned, j);
                scores[j] = at < end ? row[at] : nan;
            }
        }
    }
}

// The keys of the row that are not excluded, the k largest of them, to the results.
SEQFAST_DEVICE void write_row(const TopKParams& p, Selection& selection, int64_t row) {
    const TopKArgs& args = p.args;
    const float* scores = args.scores + row * args.row_stride;
    const int count = selection.count();
    for (int64_t i = thread_index(); i < args.excluded; i += kSelectionThreads) {
        const int64_t column = args.exclude[row * args.excluded + i];
        if (column < 0 || column >= args.columns) continue;
        const uint64_t key = top_k_key(bits_of(scores[column]), uint32_t(column));
        const int place = int(find_key(selection.keys(), count, key));
        if (place < count) selection.keys()[place] = key & ~kTopKLive;
    }
    block_sync();
    // One warp: it has but k places to count.
    if (warp_index() == 0) {
        int64_t written = 0;
        for (int begin = 0; begin < count && written < args.k; begin += 32) {
            const int i = begin + lane_index();
            const uint64_t key = i < count ? selection.key(i) : 0;
            const bool counts = (key & kTopKLive) != 0;
            const uint32_t lanes = ballot(counts);
            const int64_t place = written + count_bits(lanes & lanes_before());
            if (counts && place < args.k) {
                args.values[row * args.k + place] = scores[column_of(key)];
                args.indices[row * args.k + place] = column_of(key);
            }
            written += count_bits(lanes);
        }
        for (int64_t place = written + lane_index(); place < args.k; place += 32) {
            args.values[row * args.k + place] = float_of(0xFF800000u);
            args.indices[row * args.k + place] = -1;
        }
    }
    block_sync();
}

SEQFAST_KERNEL(kSelectionThreads, 3)
top_k_scan_kernel(SEQFAST_GRID_CONSTANT TopKParams p) {
    const TopKArgs& args = p.args;
    auto& memory = *reinterpret_cast<SelectionMemory*>(dynamic_shared());
    const int64_t tiles = (args.columns + kTile - 1) / kTile;
    for (int64_t unit = block_x(); unit < args.rows * args.parts; unit += grid_x()) {
        const int64_t row = unit / args.parts, part = unit % args.parts;
        const float* from = args.scores + row * args.row_stride;
        const int64_t begin = part * tiles / args.parts * kTile;
        const int64_t part_end = (part + 1) * tiles / args.parts * kTile;
        const int64_t end = part_end < args.columns ? part_end : args.columns;
        Selection selection(memory, p.selected);
        float limit = float_of(0xFF800000u);
        for (int64_t tile = begin; tile < end; tile += kTile) {
            float scores[kPerThread];
            load_tile(p, from, tile, end, scores);
            if (tile == begin)
                limit = first_limit(p.selected, selection, scores, [](int i) {
                    // It only tells equal ones apart.
                    return uint32_t(i * kSelectionThreads + thread_index());
                });
            const auto column_of = [&](int i) {
                return uint32_t(tile + tile_column(p.aligned, i));
            };
            offer_tile(p.selected, selection, scores, column_of, limit);
        }
        selection.compact();
        if (args.parts == 1) {
            write_row(p, selection, row);
        } else {
            uint64_t* to = args.workspace + unit * p.selected;
            for (int i = thread_index(); i < p.selected; i += kSelectionThreads)
                to[i] = i < selection.count() ? selection.key(i) : 0;
        }
        block_sync();
    }
}

SEQFAST_KERNEL(kSelectionThreads, 3)
top_k_merge_kernel(SEQFAST_GRID_CONSTANT TopKParams p) {
    const TopKArgs& args = p.args;
    auto& memory = *reinterpret_cast<SelectionMemory*>(dynamic_shared());
    const int64_t keys = int64_t(args.parts) * p.selected;
    for (int64_t row = block_x(); row < args.rows; row += grid_x()) {
        const uint64_t* from = args.workspace + row * keys;
        Selection selection(memory, p.selected);
        uint64_t limit = 0;
        for (int64_t begin = 0; begin < keys; begin += kSelectionBatch) {
            for (int i = 0; i < kSelectionBatch; i += kSelectionThreads) {
                const int64_t at = begin + i + thread_index();
                const uint64_t key = at < keys ? from[at] : 0;
                selection.offer(key, key > limit);
            }
            if (selection.compact_if_full()) limit = selection.key(p.selected - 1);
        }
        selection.compact();
        write_row(p, selection, row);
    }
}

LaunchShape shape_for(int64_t blocks) {
    return shape_of_blocks(blocks, kSelectionThreads, sizeof(SelectionMemory));
}

}  // namespace

void top_k(const GpuPlace& place, const TopKArgs& args) {
    const DeviceGuard guard(place.device);
    const int64_t selected = top_k_selected(args.columns, args.k, args.excluded);
    if (selected > kSelectionMost)
        throw std::invalid_argument("top_k: a block selects at most 1024 of a row");
    TopKParams p{args, int(selected), false};
    p.aligned = reinterpret_cast<uintptr_t>(args.scores) % 16 == 0 && args.row_stride % 4 == 0;
    launch("top_k_scan_kernel", top_k_scan_kernel, shape_for(args.rows * args.parts), place.stream,
           p);
    if (args.parts > 1)
        launch("top_k_merge_kernel", top_k_merge_kernel, shape_for(args.rows), place.stream, p);
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
