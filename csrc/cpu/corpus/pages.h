// Memory for tables and ids that grows by pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace seqfast::cpu {

// Zeros in huge pages, which grow without being copied where the system can move pages.
class Pages {
  public:
    explicit Pages(size_t bytes = 0) { grow(bytes); }
    Pages(Pages&& other) noexcept { *this = std::move(other); }
    Pages& operator=(Pages&& other) noexcept;
    ~Pages();
    void grow(size_t bytes);
    size_t size() const { return size_; }
    template <class T>
    T* as() const {
        return static_cast<T*>(data_);
    }

  private:
    void* data_ = nullptr;
    size_t size_ = 0;
};

// Numbers of words, in the order of the text.
class IdArray {
  public:
    int64_t size() const { return size_; }
    int32_t* data() const { return pages_.as<int32_t>(); }
    void reserve(int64_t size);
    void resize(int64_t size);

  private:
    Pages pages_;
    int64_t size_ = 0;
};

}  // namespace seqfast::cpu
