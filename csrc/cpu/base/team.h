// Threads of one call: started once per sequence, kept in step by a barrier that spins before it
// sleeps.
#pragma once

#include <cstdint>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <sched.h>
#endif

#include "core/config.h"
#include "cpu/base/flush.h"

namespace seqfast::cpu::SEQFAST_ISA {

class Barrier {
  public:
    void reset(int size) {
        size_ = size;
        waiting_ = 0;
        round_ = 0;
        sleeping_ = 0;
    }

    void wait() {
        if (size_ == 1) return;
        const uint32_t round = __atomic_load_n(&round_, __ATOMIC_RELAXED);
        if (__atomic_add_fetch(&waiting_, 1, __ATOMIC_ACQ_REL) == size_) {
            __atomic_store_n(&waiting_, 0, __ATOMIC_RELAXED);
            __atomic_store_n(&round_, round + 1, __ATOMIC_SEQ_CST);
            wake();
            return;
        }
        for (int spins = 0; __atomic_load_n(&round_, __ATOMIC_ACQUIRE) == round; ++spins) {
            if (spins < 4000) {
                pause();
            } else {
                sleep(round);
            }
        }
    }

  private:
    static SEQFAST_INLINE void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    // A partner has lost its core: asleep we leave it ours, which yielding does not.
    void sleep(uint32_t round) {
#ifdef __linux__
        __atomic_add_fetch(&sleeping_, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &round_, FUTEX_WAIT_PRIVATE, round, nullptr, nullptr, 0);
        __atomic_sub_fetch(&sleeping_, 1, __ATOMIC_SEQ_CST);
#else
        (void)round;
        sched_yield();
#endif
    }
    void wake() {
#ifdef __linux__
        if (__atomic_load_n(&sleeping_, __ATOMIC_SEQ_CST) != 0)
            syscall(SYS_futex, &round_, FUTEX_WAKE_PRIVATE, size_, nullptr, nullptr, 0);
#endif
    }

    alignas(64) uint32_t waiting_;
    uint32_t size_;
    uint32_t sleeping_;
    alignas(64) uint32_t round_;
};

// Runs body(thread) on `threads` threads, or returns false having run nothing where the runtime
// grants fewer (a nested region, a thread limit).
template <class Body>
bool run_team(int threads, Body&& body) {
    if (threads == 1) {
        body(0);
        return true;
    }
    bool granted = false;
#ifdef _OPENMP
    const CallersFloatState outside;
#pragma omp parallel num_threads(threads)
    {
        if (omp_get_num_threads() == threads) {
            const int thread = omp_get_thread_num();
            // The others are torch's again later.
            const SubnormalsAsZeros flush;
            if (thread == 0) granted = true;
            body(thread);
        }
    }
#else
    (void)body;
#endif
    return granted;
}

// f(row, thread): each row once, to whichever thread is free.
template <class F>
void for_each_row(int64_t rows, int threads, F&& f) {
    int64_t next = 0;
    const auto work = [&](int thread) {
        for (;;) {
            const int64_t row = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
            if (row >= rows) return;
            f(row, thread);
        }
    };
    // Threads that the runtime does not grant leave their work to this one.
    if (!run_team(threads, work)) work(0);
}

}  // namespace seqfast::cpu::SEQFAST_ISA
