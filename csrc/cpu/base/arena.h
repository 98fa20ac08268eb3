// Memory of a call: arrays carved out of its workspace.
#pragma once

#include <cstddef>
#include <cstdint>

namespace seqfast::cpu::SEQFAST_ISA {

// Carves arrays out of the workspace; with base 0 it only counts.
struct Arena {
    uintptr_t base;
    size_t used = 0;

    template <class T>
    T* take(int64_t count) {
        used = (used + 63) / 64 * 64;
        T* array = reinterpret_cast<T*>(base + used);
        used += static_cast<size_t>(count) * sizeof(T);
        return array;
    }
};

}  // namespace seqfast::cpu::SEQFAST_ISA
