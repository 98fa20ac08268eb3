// What the entries of all operations do before they call a kernel.
#include "cpu/base/entry.h"

#include <pthread.h>
#include <sys/mman.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include <atomic>

namespace seqfast::cpu {
namespace {

std::atomic<bool> forked{false};

}  // namespace

__thread FloatState::Bits callers_float_state;

void watch_for_forks() {
    pthread_atfork(nullptr, nullptr, [] { forked = true; });
}

int usable_threads(int threads) { return forked ? 1 : std::max(threads, 1); }

int max_threads() {
#ifdef _OPENMP
    return usable_threads(omp_get_max_threads());
#else
    return 1;
#endif
}

// Fresh memory of this size costs more in page faults than in arithmetic; ask for huge pages.
void use_huge_pages(void* array, size_t bytes) {
#ifdef MADV_HUGEPAGE
    constexpr uintptr_t kHugePage = 2 << 20;
    const uintptr_t start = reinterpret_cast<uintptr_t>(array);
    const uintptr_t begin = (start + kHugePage - 1) / kHugePage * kHugePage;
    const uintptr_t end = (start + bytes) / kHugePage * kHugePage;
    if (array && end > begin) {
        madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
    }
#else
    (void)array, (void)bytes;
#endif
}

}  // namespace seqfast::cpu
