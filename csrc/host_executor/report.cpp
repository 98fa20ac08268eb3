// Words for what went wrong: text, names, and who waits where.
#include "host_executor/report.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <map>

#include "host_executor/state.h"

namespace seqfast::host_executor {
namespace {

std::string format_list(const char* format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    const int size = std::vsnprintf(nullptr, 0, format, arguments);
    std::string text(size_t(size), '\0');
    std::vsnprintf(text.data(), size_t(size) + 1, format, again);
    va_end(again);
    return text;
}

// "0-3, 7" for rising numbers.
std::string ranges(const std::vector<int64_t>& numbers) {
    std::string result;
    for (size_t i = 0; i < numbers.size();) {
        size_t j = i;
        while (j + 1 < numbers.size() && numbers[j + 1] == numbers[j] + 1) ++j;
        if (!result.empty()) result += ", ";
        result += std::to_string(numbers[i]);
        if (j > i) result += "-" + std::to_string(numbers[j]);
        i = j + 1;
    }
    return result;
}

std::string wait_text(const Block& block, const Fibre& fibre) {
    const std::string at = text(" at %s:%d", fibre.site.file, fibre.site.line);
    switch (fibre.wait) {
        case Wait::none:
            return "can run";
        case Wait::collective:
            return std::string("in ") + name_of(fibre.warp->kind) + at;
        case Wait::block_sync:
            return "in block_sync" + at;
        case Wait::named_barrier: {
            const Barrier& barrier = block.barriers[fibre.detail];
            return text("in named_barrier_sync(%d, %d), where %d threads have arrived,",
                        fibre.detail, barrier.expected, barrier.arrived) +
                   at;
        }
        case Wait::cluster_wait:
            return "in cluster_wait" + at;
        case Wait::grid_sync:
            return "in grid_sync" + at;
        case Wait::mbarrier: {
            const MbarrierState& state = block.mbarriers[size_t(fibre.detail)];
            return text(
                       "in mbarrier_wait of shared memory + %lld, parity %d, which lacks %d "
                       "arrivals and %lld bytes,",
                       (long long)(reinterpret_cast<char*>(state.address) - block.view.shared),
                       state.parity, state.pending, (long long)state.bytes) +
                   at;
        }
        case Wait::poll:
            return fibre.site.line ? "in poll_pause" + at : "in a loop without poll_pause";
        case Wait::ended:
            return "have ended";
    }
    return "";
}

}  // namespace

std::string text(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::string result = format_list(format, arguments);
    va_end(arguments);
    return result;
}

const char* name_of(Collective kind) {
    static const char* const names[] = {"warp_sync",    "warp_index", "shuffle",  "shuffle_xor",
                                        "shuffle_down", "ballot",     "warp_all", "warp_any",
                                        "mma_bf16",     "mma_fp16",   "mma_tf32", "mma_f64",
                                        "ldmatrix_x4"};
    return names[int(kind)];
}

std::string name_of(const Block& block) {
    return text("block (%d, %d, %d)", block.view.x, block.view.y, block.view.z);
}

// Formats here and leaves no text behind on the stack, which nobody will unwind.
void fail(const char* name, Site site, bool with_report, const char* format, ...) {
    const BlockView& view = *current->block;
    std::string& message = executor->failure.message;
    message =
        text("%s by thread %d of block (%d, %d, %d)", name, current->index, view.x, view.y, view.z);
    if (site.line) message += text(" at %s:%d", site.file, site.line);
    va_list arguments;
    va_start(arguments, format);
    message += ": " + format_list(format, arguments);
    va_end(arguments);
    executor->failure.happened = true;
    executor->failure.with_report = with_report;
    executor->scheduler.leave(running());
}

std::string who_waits(const std::vector<Block*>& all_blocks) {
    std::map<std::string, std::vector<std::string>> blocks_of;
    for (const Block* block : all_blocks) {
        std::map<std::string, std::vector<int64_t>> threads_of;
        for (const Fibre& fibre : block->fibres)
            threads_of[wait_text(*block, fibre)].push_back(fibre.index);
        std::string lines;
        for (const auto& [wait, threads] : threads_of)
            lines += "\n    threads " + ranges(threads) + ": " + wait;
        blocks_of[lines].push_back(
            text("(%d, %d, %d)", block->view.x, block->view.y, block->view.z));
    }
    std::string result;
    int left = 16;
    for (auto& [lines, blocks] : blocks_of) {
        if (left-- == 0) {
            result += "\n  and other blocks in other places";
            break;
        }
        std::sort(blocks.begin(), blocks.end());
        result += blocks.size() == 1 ? "\n  block " : "\n  blocks ";
        for (size_t i = 0; i < blocks.size() && i < 8; ++i) result += (i ? ", " : "") + blocks[i];
        if (blocks.size() > 8) result += text(" and %zu more", blocks.size() - 8);
        result += ":" + lines;
    }
    return result;
}

// ---- Errors in the use of a primitive ----

void check_aligned(const void* address, size_t alignment, const char* name, Site site) {
    if (reinterpret_cast<uintptr_t>(address) % alignment == 0) return;
    fail(name, site, false, "the address must be a multiple of %zu, got %p", alignment, address);
}

void check_shared(const void* address, size_t bytes, size_t alignment, const char* name,
                  Site site) {
    const BlockView& view = *current->block;
    const int64_t offset = static_cast<const char*>(address) - view.shared;
    if (offset < 0 || offset + int64_t(bytes) > view.shared_bytes)
        fail(name, site, false,
             "%zu bytes at offset %lld are outside the block's shared memory of "
             "%lld bytes",
             bytes, (long long)offset, (long long)view.shared_bytes);
    check_aligned(address, alignment, name, site);
}

void require_architecture(int wanted, const char* name, Site site) {
    if (executor->call.device.architecture >= wanted) return;
    fail(name, site, false, "needs sm_%d, and the device is sm_%d", wanted,
         executor->call.device.architecture);
}

}  // namespace seqfast::host_executor
