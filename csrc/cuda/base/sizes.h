// Sizes on the host's side of a launch: rounding, shares, places in a workspace, shapes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "cuda/base/primitives.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t parts_of(int64_t x, int64_t of) { return (x + of - 1) / of; }
constexpr int64_t round_up(int64_t x, int64_t to) { return parts_of(x, to) * to; }
constexpr int size_of(DType dtype) {
    return dtype == DType::float64 ? 8 : dtype == DType::float32 ? 4 : 2;
}

// Calls use(number) with a number of that type.
template <class Use>
void with_type(DType dtype, Use use) {
    switch (dtype) {
        case DType::bfloat16:
            return use(BFloat16{});
        case DType::float16:
            return use(Float16{});
        case DType::float32:
            return use(float{});
        case DType::float64:
            return use(double{});
    }
}

// Deals out a workspace, or only counts what would be dealt out.
class Arena {
  public:
    explicit Arena(void* memory = nullptr, int64_t alignment = 256)
        : memory_(static_cast<char*>(memory)), alignment_(alignment) {}
    // Where the next bytes begin.
    int64_t place(int64_t bytes) {
        const int64_t begin = used_;
        used_ += round_up(bytes, alignment_);
        return begin;
    }
    template <class T = char>
    T* take(int64_t count) {
        const int64_t begin = place(count * int64_t(sizeof(T)));
        return memory_ ? reinterpret_cast<T*>(memory_ + begin) : nullptr;
    }
    int64_t used() const { return used_; }

  private:
    char* memory_;
    int64_t alignment_;
    int64_t used_ = 0;
};

// Blocks along x that know nothing of each other, and share out what is more than they are.
inline LaunchShape shape_of_blocks(int64_t blocks, int threads, int64_t shared_bytes,
                                   int64_t most_blocks = int64_t(1) << 20) {
    return {int(least(most(blocks, 1), most_blocks)), 1, 1, threads, 1, shared_bytes, false};
}

// Of 256 threads, for items that each cost little.
inline LaunchShape flat_shape(int64_t items, int per_block = 256) {
    return shape_of_blocks(parts_of(items, per_block), 256, 0, 4096);
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
