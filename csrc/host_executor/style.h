// What chance decides about a launch: the order of things, and what memory is filled with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace seqfast::host_executor {

class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed) {}
    uint64_t next() {
        uint64_t x = state_ += 0x9E3779B97F4A7C15u;
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
        x = (x ^ x >> 27) * 0x94D049BB133111EBu;
        return x ^ x >> 31;
    }
    uint32_t below(uint32_t bound) { return uint32_t((next() >> 32) * bound >> 32); }
    // True in `times` of 256 cases.
    bool often(int times) { return int(below(256)) < times; }

  private:
    uint64_t state_;
};

enum class LaneOrder { rising, falling, random };
enum class WarpOrder { random, newest, in_turn };

// How one launch is scheduled; each kind of mistake shows under some of these.
struct Style {
    LaneOrder lanes;
    WarpOrder warps;
    bool stay;             // in a warp as long as one of its lanes can run
    bool last_goes_on;     // who completes a barrier runs on, the others after it
    int interrupt_mean;    // primitive calls between interruptions; 0: none
    int early;             // of 256: copies that land before their wait
    int delay;             // of 256: stores that become visible late
    int starve;            // of 256: warps that run only when no other can
    int resident_threads;  // of a launch that is not cooperative
    uint16_t poison;       // what shared memory is filled with
};

// Of the launch under way.
struct Chance {
    Random random{0};
    Style style{};
};

inline Style draw_style(uint64_t turn, Random& random) {
    Style style{};
    style.lanes = LaneOrder(turn % 3);
    style.warps = WarpOrder(turn / 2 % 3);
    style.stay = turn % 4 != 3;
    style.last_goes_on = random.often(128);
    // Interruptions cost time: in half of the launches there are none.
    static constexpr int means[] = {0, 3, 0, 24};
    style.interrupt_mean = means[turn % 4];
    style.early = random.often(96) ? 64 : 0;
    style.delay = style.interrupt_mean ? 128 : 0;
    style.starve = random.often(128) ? 48 : 0;
    static constexpr int threads[] = {1, 1024, 4096};
    style.resident_threads = threads[random.below(3)];
    static constexpr uint16_t poisons[] = {0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF,
                                           0x7FA5, 0x7FA5, 0x7FA5, 0x7F7F};
    style.poison = poisons[random.below(8)];
    return style;
}

inline void fill(void* memory, int64_t bytes, uint16_t pattern) {
    const uint64_t wide = pattern * 0x0001000100010001u;
    char* const to = static_cast<char*>(memory);
    int64_t i = 0;
    for (; i + 8 <= bytes; i += 8) std::memcpy(to + i, &wide, 8);
    std::memcpy(to + i, &wide, size_t(bytes - i));
}

// Offset of the first byte that is no longer the pattern, -1 where all are.
inline int64_t first_change(const void* memory, int64_t bytes, uint16_t pattern) {
    const uint64_t wide = pattern * 0x0001000100010001u;
    const char* const from = static_cast<const char*>(memory);
    for (int64_t i = 0; i < bytes; i += 8) {
        const int64_t size = std::min<int64_t>(8, bytes - i);
        if (std::memcmp(from + i, &wide, size_t(size)) == 0) continue;
        for (int64_t j = 0; j < size; ++j)
            if (from[i + j] != reinterpret_cast<const char*>(&wide)[j]) return i + j;
    }
    return -1;
}

}  // namespace seqfast::host_executor
