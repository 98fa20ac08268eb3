// Threads of a block as fibres: a context switch without system calls, and the stacks they run on.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define SEQFAST_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SEQFAST_ADDRESS_SANITIZER 1
#endif
#endif
#ifndef SEQFAST_ADDRESS_SANITIZER
#define SEQFAST_ADDRESS_SANITIZER 0
#endif

#if SEQFAST_ADDRESS_SANITIZER
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
void __asan_unpoison_memory_region(const volatile void* address, size_t size);
}
#endif

// Saves what the calling convention keeps on the running stack, leaves its pointer in *saved, and
// goes on where `next` was saved.
extern "C" void seqfast_host_executor_switch(void** saved, void* next);

namespace seqfast::host_executor {

// A fibre's stack; grows down from `top` towards `bottom`.
struct Stack {
    char* bottom;
    char* top;
    bool guarded;  // an access below `bottom` is a fault; else a canary stands there
};

// Stacks are made in chunks and kept for the next launch.
class StackPool {
  public:
    StackPool() = default;
    StackPool(const StackPool&) = delete;
    StackPool& operator=(const StackPool&) = delete;
    ~StackPool() {
        for (char* chunk : chunks_) munmap(chunk, chunk_bytes());
    }

    Stack take() {
        if (free_.empty()) grow();
        const Stack stack = free_.back();
        free_.pop_back();
        return stack;
    }
    void give_back(const Stack& stack) { free_.push_back(stack); }

    // When all have been given back: keeps as much as usual launches need.
    void trim() {
        if (chunks_.size() <= kept_chunks) return;
        for (size_t i = kept_chunks; i < chunks_.size(); ++i) munmap(chunks_[i], chunk_bytes());
        chunks_.resize(kept_chunks);
        free_.clear();
        for (size_t i = 0; i < kept_chunks; ++i) add_stacks(i, i < guarded_chunks);
    }

    // False after an overflow of a stack without a guard page.
    static bool intact(const Stack& stack) {
        uint64_t canary;
        if (stack.guarded) return true;
        std::memcpy(&canary, stack.bottom, sizeof canary);
        return canary == canary_value;
    }

  private:
    // Every guard page costs the kernel two mappings, of which a process may have about 65,000.
    static constexpr size_t guarded_chunks = 256, kept_chunks = 256, stacks_per_chunk = 32;
    static constexpr size_t usable = SEQFAST_ADDRESS_SANITIZER ? 256 << 10 : 64 << 10;
    static constexpr uint64_t canary_value = 0x5EAFA57C0FFEE123u;

    static size_t page() { return size_t(sysconf(_SC_PAGESIZE)); }
    static size_t stride() { return usable + page(); }
    static size_t chunk_bytes() { return stride() * stacks_per_chunk; }

    void grow() {
        void* memory = mmap(nullptr, chunk_bytes(), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        chunks_.push_back(static_cast<char*>(memory));
        const bool guarded = chunks_.size() <= guarded_chunks;
        for (size_t i = 0; guarded && i < stacks_per_chunk; ++i)
            if (mprotect(chunks_.back() + i * stride(), page(), PROT_NONE)) throw std::bad_alloc();
        add_stacks(chunks_.size() - 1, guarded);
    }

    void add_stacks(size_t chunk, bool guarded) {
        for (size_t i = stacks_per_chunk; i-- > 0;) {
            char* const bottom = chunks_[chunk] + i * stride() + page();
            if (!guarded) std::memcpy(bottom, &canary_value, sizeof canary_value);
            // Tops at the same place of a page would all share a few lines of the cache.
            const size_t colour = (chunk * stacks_per_chunk + i) * 576 % 3456;
            free_.push_back({bottom, bottom + usable - colour, guarded});
        }
    }

    std::vector<char*> chunks_;
    std::vector<Stack> free_;
};

// What has to be on a new stack for a switch to it to call `entry`, which never returns.
inline void* prepare_stack(const Stack& stack, void (*entry)()) {
    auto* top =
        reinterpret_cast<uint64_t*>(reinterpret_cast<uintptr_t>(stack.top) & ~uintptr_t(63));
#if defined(__x86_64__)
    // As if called: the stack pointer at `entry` is 8 past a multiple of 16, its caller nowhere.
    top -= 2;
    top[0] = reinterpret_cast<uint64_t>(entry);
    top[1] = 0;
    top -= 6;
    std::memset(top, 0, 6 * sizeof *top);
#else
    top -= 20;
    std::memset(top, 0, 20 * sizeof *top);
    top[11] = reinterpret_cast<uint64_t>(entry);
#endif
    return top;
}

}  // namespace seqfast::host_executor
