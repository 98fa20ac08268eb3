// Subnormal numbers as zeros, on one thread and for as long as a kernel runs.
#pragma once

#include <cstdint>

#include "core/config.h"

namespace seqfast::cpu {

// A thread's register of how it computes: MXCSR, FPCR.
struct FloatState {
#if defined(__x86_64__)
    using Bits = uint32_t;
    static constexpr Bits kFlush = 1u << 15 | 1u << 6;  // results (FTZ), factors (DAZ)
    static SEQFAST_INLINE Bits read() {
        Bits bits;
        asm volatile("stmxcsr %0" : "=m"(bits) : : "memory");
        return bits;
    }
    static SEQFAST_INLINE void write(Bits bits) {
        asm volatile("ldmxcsr %0" : : "m"(bits) : "memory");
    }
#elif defined(__aarch64__)
    using Bits = uint64_t;
    static constexpr Bits kFlush = 1u << 24;  // FZ: results and factors
    static SEQFAST_INLINE Bits read() {
        Bits bits;
        asm volatile("mrs %0, fpcr" : "=r"(bits) : : "memory");
        return bits;
    }
    static SEQFAST_INLINE void write(Bits bits) {
        asm volatile("msr fpcr, %0" : : "r"(bits) : "memory");
    }
#else
    using Bits = uint32_t;
    static constexpr Bits kFlush = 0;
    static SEQFAST_INLINE Bits read() { return 0; }
    static SEQFAST_INLINE void write(Bits) {}
#endif
};

// A multiply-add of subnormal numbers takes a hundred times as long as others, and gradients that
// fade over many steps end there. What the thread had set is restored, on an exception too.
class SubnormalsAsZeros {
  public:
    SEQFAST_INLINE SubnormalsAsZeros() : before_(FloatState::read()) {
        FloatState::write(before_ | FloatState::kFlush);
    }
    // With the marks of what happened meanwhile, which are part of the same register.
    SEQFAST_INLINE ~SubnormalsAsZeros() { FloatState::write(before_); }
    SubnormalsAsZeros(const SubnormalsAsZeros&) = delete;
    SubnormalsAsZeros& operator=(const SubnormalsAsZeros&) = delete;

    FloatState::Bits before() const { return before_; }

  private:
    const FloatState::Bits before_;
};

// The caller's, of the thread that called a kernel. Not C++'s thread_local, which makes functions.
extern __thread FloatState::Bits callers_float_state;

// A thread that is started has the state of the one that starts it, for good: the caller's own.
class CallersFloatState {
  public:
    SEQFAST_INLINE CallersFloatState() : before_(FloatState::read()) {
        FloatState::write(callers_float_state);
    }
    SEQFAST_INLINE ~CallersFloatState() { FloatState::write(before_); }
    CallersFloatState(const CallersFloatState&) = delete;
    CallersFloatState& operator=(const CallersFloatState&) = delete;

  private:
    const FloatState::Bits before_;
};

}  // namespace seqfast::cpu
