// Memory for tables and ids that grows by pages.
#include "cpu/corpus/pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "cpu/base/entry.h"

namespace seqfast::cpu {

Pages& Pages::operator=(Pages&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

// Sanitizers watch what comes from the C library.
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)

Pages::~Pages() {
    if (data_) munmap(data_, size_);
}

void Pages::grow(size_t bytes) {
    constexpr size_t kHugePage = 2 << 20;
    if (bytes <= size_) return;
    const size_t unit = bytes < kHugePage ? static_cast<size_t>(getpagesize()) : kHugePage;
    bytes = (bytes + unit - 1) / unit * unit;
    // Pages move whole only where old and new place are aligned alike.
    void* room = mmap(nullptr, bytes + unit, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) throw std::bad_alloc();
    const size_t before = (unit - reinterpret_cast<uintptr_t>(room) % unit) % unit;
    char* start = static_cast<char*>(room) + before;
    if (before) munmap(room, before);
    munmap(start + bytes, unit - before);
    if (data_ && mremap(data_, size_, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, start) == MAP_FAILED) {
        munmap(start, bytes);
        throw std::bad_alloc();
    }
    data_ = start;
    size_ = bytes;
    use_huge_pages(data_, size_);
}

#else

Pages::~Pages() { std::free(data_); }

void Pages::grow(size_t bytes) {
    constexpr size_t kLine = 64;
    if (bytes <= size_) return;
    bytes = (bytes + kLine - 1) / kLine * kLine;
    void* grown = std::aligned_alloc(kLine, bytes);
    if (!grown) throw std::bad_alloc();
    use_huge_pages(grown, bytes);
    if (data_) std::memcpy(grown, data_, size_);
    std::memset(static_cast<char*>(grown) + size_, 0, bytes - size_);
    std::free(data_);
    data_ = grown;
    size_ = bytes;
}

#endif

void IdArray::reserve(int64_t size) {
    constexpr int64_t kMuch = 1 << 28;
    const int64_t capacity = static_cast<int64_t>(pages_.size() / sizeof(int32_t));
    if (size <= capacity) return;
    const int64_t more = capacity < kMuch ? capacity : capacity / 4;
    pages_.grow(static_cast<size_t>(std::max(size, capacity + more)) * sizeof(int32_t));
}

void IdArray::resize(int64_t size) {
    reserve(size);
    size_ = size;
}

}  // namespace seqfast::cpu
