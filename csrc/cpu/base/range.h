// Ranges of integers, and how work is shared out in them.
#pragma once

#include <cstdint>

#include "core/config.h"

namespace seqfast::cpu::SEQFAST_ISA {

struct Range {
    int64_t begin, end;
    int64_t size() const { return end - begin; }
};
// Part `index` of `total` things cut into `parts` whose sizes differ by at most one.
SEQFAST_INLINE Range part_of(int64_t total, int64_t parts, int64_t index) {
    const int64_t size = total / parts, larger = total % parts;
    const int64_t begin = index * size + (index < larger ? index : larger);
    return {begin, begin + size + (index < larger ? 1 : 0)};
}
SEQFAST_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
SEQFAST_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
SEQFAST_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

}  // namespace seqfast::cpu::SEQFAST_ISA
