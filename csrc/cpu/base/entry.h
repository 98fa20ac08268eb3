// What the entries of all operations do before they call a kernel: threads, memory, the table of
// the active instruction set.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "cpu/base/dispatch.h"
#include "cpu/base/each_isa.h"
#include "cpu/base/flush.h"

namespace seqfast::cpu {

// The only way to an operation's kernels: until the call returns, subnormal numbers are zeros.
template <class Table>
class Kernels {
  public:
    // Of SEQFAST_TABLES(an operation's table).
    template <size_t count>
    explicit Kernels(const Table* const (&tables)[count]) : table_(tables[active_isa_index()]) {
        callers_float_state = flush_.before();
    }
    const Table* operator->() const { return table_; }

  private:
    const Table* const table_;
    const SubnormalsAsZeros flush_;
};

// OpenMP's own number of threads; 1 without OpenMP.
int max_threads();

// OpenMP's threads do not survive fork: a child of a process that used them would wait forever.
void watch_for_forks();
int usable_threads(int threads);

// A row is worth a thread, and no more.
inline int row_threads(int threads, int64_t rows) {
    return static_cast<int>(std::min<int64_t>(usable_threads(threads), std::max<int64_t>(rows, 1)));
}

// A thread is worth waking for some microseconds of work, `each` of it.
inline int worthwhile_threads(int threads, int64_t work, int64_t each = 32768) {
    return static_cast<int>(std::min<int64_t>(usable_threads(threads), 1 + work / each));
}

// A workspace is asked for with so much more than kernels need, so that it can be aligned.
constexpr size_t kAlignment = 64;
inline char* aligned(void* workspace) {
    const uintptr_t start = reinterpret_cast<uintptr_t>(workspace);
    return reinterpret_cast<char*>((start + kAlignment - 1) / kAlignment * kAlignment);
}

inline size_t element_size(DType dtype) {
    return dtype == DType::float64 ? 8 : dtype == DType::float32 ? 4 : 2;
}

// Asks for huge pages below an array that nobody has touched yet.
void use_huge_pages(void* array, size_t bytes);

}  // namespace seqfast::cpu
