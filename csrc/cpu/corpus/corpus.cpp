// Words of a text: told apart, counted and numbered by several threads.
#include "cpu/corpus/corpus.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <new>
#include <random>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "cpu/base/entry.h"

namespace seqfast::cpu {
namespace {

// A word's slot is sent for when the word is met; so many words later it is looked at.
constexpr int kBatch = 128;
// Text is looked at in steps of 64 bytes, which may begin at its last byte.
constexpr size_t kPadding = 64;
constexpr size_t kInline = 16;
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

enum Class : uint8_t { kOther, kSpace, kNewline };

struct Classes {
    Class of[256] = {};
    constexpr Classes() {
        for (const int c : {9, 11, 12, 13, 28, 29, 30, 31, 32}) of[c] = kSpace;
        of['\n'] = kNewline;
    }
};
constexpr Classes kClasses;

inline Class class_of(char c) { return kClasses.of[static_cast<uint8_t>(c)]; }

// The first byte of a text is the lowest of the number.
inline uint64_t load(const char* from) {
    uint64_t word;
    std::memcpy(&word, from, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

inline void store(char* to, uint64_t word) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    std::memcpy(to, &word, sizeof word);
}

// A bit for each of 64 bytes that needs a look: white space, control characters, what is no ASCII.
inline uint64_t stops64(const char* text) {
    constexpr uint64_t kLow = 0x7F7F7F7F7F7F7F7F, kAbove = 0x5F5F5F5F5F5F5F5F;
    constexpr uint64_t kGather = 0x0102040810204080;  // the lowest bit of each byte, to the top
    uint64_t stops = 0;
    for (int i = 0; i < 64; i += 8) {
        const uint64_t word = load(text + i);
        const uint64_t tops = (~((word & kLow) + kAbove) | word) & ~kLow;
        stops |= ((tops >> 7) * kGather >> 56) << i;
    }
    return stops;
}

// What is left of 16 bytes of which the first `size` are a word.
struct Fronts {
    uint64_t low[17] = {}, high[17] = {};
    constexpr Fronts() {
        for (int size = 1; size <= 16; ++size) {
            low[size] = size < 8 ? (uint64_t{1} << (8 * size)) - 1 : ~uint64_t{0};
            high[size] = size < 9    ? 0
                         : size < 16 ? (uint64_t{1} << (8 * size - 64)) - 1
                                     : ~uint64_t{0};
        }
    }
};
constexpr Fronts kFronts;

struct Key {
    uint64_t low, high;
};

// A word of 1 to 16 bytes without zeros, filled up with zeros.
inline Key key_of(const char* text, size_t size) {
    char padded[kInline] = {};
    std::memcpy(padded, text, size);
    return {load(padded), load(padded + 8)};
}

// Drawn anew for each reader, so that no text can be made to collide.
struct Secret {
    uint64_t low, high;
    Secret() {
        std::random_device device;
        const auto odd = [&] { return (uint64_t{device()} << 32) | device() | 1; };
        low = odd();
        high = odd();
    }
    uint64_t hash(Key key) const {
        const uint64_t second = key.high * high;
        const uint64_t mixed = (key.low ^ (second >> 32) ^ (second << 32)) * low;
        return (mixed ^ (mixed >> 32)) * high;
    }
    uint64_t hash(std::string_view text) const {
        uint64_t state = text.size() * low;
        const auto take = [&](uint64_t word) {
            state = (state ^ word) * high;
            state ^= state >> 32;
        };
        size_t at = 0;
        for (; at + 8 <= text.size(); at += 8) take(load(text.data() + at));
        char rest[8] = {};
        std::memcpy(rest, text.data() + at, text.size() - at);
        take(load(rest));
        return state * low;
    }
};

// Length of the character that begins at `at`, which is no ASCII; 0 where there is none, and then
// `bad` is how many bytes CPython's "replace" makes one U+FFFD of.
inline int character(const char* at, int* bad) {
    const auto byte = [&](int i) { return static_cast<uint8_t>(at[i]); };
    const auto follows = [&](int i, int least = 0x80, int most = 0xBF) {
        return byte(i) >= least && byte(i) <= most;
    };
    const int lead = byte(0);
    *bad = 1;
    if (lead < 0xC2 || lead > 0xF4) return 0;
    if (lead < 0xE0) return follows(1) ? 2 : 0;
    if (lead < 0xF0) {
        if (!follows(1, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF)) return 0;
        *bad = 2;
        return follows(2) ? 3 : 0;
    }
    if (!follows(1, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF)) return 0;
    *bad = 2;
    if (!follows(2)) return 0;
    *bad = 3;
    return follows(3) ? 4 : 0;
}

// What str.split() splits at beyond ASCII.
inline bool is_wide_space(const char* at, int length) {
    const auto is = [&](const char* character) { return std::memcmp(at, character, length) == 0; };
    if (length == 2) return is("\xC2\x85") || is("\xC2\xA0");
    if (length != 3) return false;
    if (is("\xE1\x9A\x80") || is("\xE2\x81\x9F") || is("\xE3\x80\x80")) return true;
    if (at[0] != '\xE2' || at[1] != '\x80') return false;
    const uint8_t last = static_cast<uint8_t>(at[2]);
    return last <= 0x8A || last == 0xA8 || last == 0xA9 || last == 0xAF;
}

// An array of zeros, aligned so that no slot of 32 bytes straddles cache lines.
template <class Slot>
class Slots {
  public:
    explicit Slots(size_t size) : pages_(size * sizeof(Slot)), size_(size) {}
    size_t size() const { return size_; }
    Slot& operator[](size_t place) { return pages_.as<Slot>()[place]; }
    const Slot& operator[](size_t place) const { return pages_.as<Slot>()[place]; }
    // For a table that is half full.
    size_t grown() const { return size_ * (size_ < (1 << 18) ? 4 : 2); }

  private:
    Pages pages_;
    size_t size_;
};

}  // namespace

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

// Open addressing, at most half full. Short words lie in their slots; the others are found by their
// hash and compared with the text.
class WordReader::Table {
  public:
    explicit Table(const Secret& secret) : secret_(secret), short_(1 << 12), long_(1 << 8) {
        fit();
    }

    const Secret& secret() const { return secret_; }
    int32_t size() const { return static_cast<int32_t>(ends_.size()); }
    std::string_view text(int32_t number) const {
        const size_t begin = number == 0 ? 0 : ends_[number - 1];
        return {text_.data() + begin, ends_[number] - begin};
    }

    static bool is_short(std::string_view word) {
        return !word.empty() && word.size() <= kInline && !std::memchr(word.data(), 0, word.size());
    }

    int32_t number(std::string_view word, uint64_t times) {
        if (!is_short(word)) return number_long(word, times);
        make_room(1);
        const Key key = key_of(word.data(), word.size());
        return number_short(key, secret_.hash(key), times);
    }

    // The hash of a key that will soon be looked for; its slot is on its way to the cache.
    uint64_t expect(Key key) const {
        const uint64_t hash = secret_.hash(key);
        __builtin_prefetch(&short_[hash >> shift_]);
        return hash;
    }

    // Numbers `count` keys, each of which comes once more.
    void number(const Key* keys, const uint64_t* hashes, size_t count, int32_t* numbers) {
        make_room(count);
        for (size_t i = 0; i < count; ++i) numbers[i] = number_short(keys[i], hashes[i], 1);
    }

    // The same of a table that stays as it is; -1: not in it.
    void find(const Key* keys, const uint64_t* hashes, size_t count, int32_t* numbers) const {
        for (size_t i = 0; i < count; ++i) {
            size_t at = hashes[i] >> shift_;
            while (short_[at].key.low != 0 && !same(short_[at].key, keys[i])) at = next(at);
            numbers[i] = short_[at].key.low != 0 ? short_[at].number : -1;
        }
    }

    int32_t find_long(std::string_view word) const {
        const LongSlot& slot = long_[long_place(word, secret_.hash(word))];
        return slot.used ? slot.number : -1;
    }

    int32_t number_long(std::string_view word, uint64_t times) {
        if (2 * (long_used_ + 1) > long_.size()) grow_long();
        const uint64_t hash = secret_.hash(word);
        LongSlot& slot = long_[long_place(word, hash)];
        if (!slot.used) {
            slot = {hash, 0, add(word), 1};
            ++long_used_;
        }
        slot.times += times;
        return slot.number;
    }

    void counts(int64_t* counts) const {
        for (size_t i = 0; i < short_.size(); ++i) {
            if (short_[i].key.low) counts[short_[i].number] = static_cast<int64_t>(short_[i].times);
        }
        for (size_t i = 0; i < long_.size(); ++i) {
            if (long_[i].used) counts[long_[i].number] = static_cast<int64_t>(long_[i].times);
        }
    }

    // Adds the words of another reader's table; places[its number] is the number they have here.
    void join(const Table& other, int32_t* places) {
        for (size_t i = 0; i < other.short_.size(); ++i) {
            const ShortSlot& slot = other.short_[i];
            if (!slot.key.low) continue;
            make_room(1);
            places[slot.number] = number_short(slot.key, secret_.hash(slot.key), slot.times);
        }
        for (size_t i = 0; i < other.long_.size(); ++i) {
            const LongSlot& slot = other.long_[i];
            if (slot.used) {
                places[slot.number] = number_long(other.text(slot.number), slot.times);
            }
        }
    }

  private:
    struct ShortSlot {
        Key key;  // low 0: empty
        uint64_t times;
        int32_t number;
    };
    struct LongSlot {
        uint64_t hash, times;
        int32_t number;
        uint32_t used;
    };

    static bool same(Key a, Key b) { return ((a.low ^ b.low) | (a.high ^ b.high)) == 0; }
    size_t next(size_t at) const { return (at + 1) & (short_.size() - 1); }

    size_t long_place(std::string_view word, uint64_t hash) const {
        const size_t mask = long_.size() - 1;
        size_t at = hash & mask;
        while (long_[at].used && (long_[at].hash != hash || text(long_[at].number) != word)) {
            at = (at + 1) & mask;
        }
        return at;
    }

    int32_t number_short(Key key, uint64_t hash, uint64_t times) {
        size_t at = hash >> shift_;
        while (!same(short_[at].key, key)) {
            if (short_[at].key.low == 0) {
                char text[kInline];
                store(text, key.low);
                store(text + 8, key.high);
                const size_t zeros = static_cast<size_t>(key.high ? __builtin_clzll(key.high)
                                                                  : 64 + __builtin_clzll(key.low));
                short_[at] = {key, 0, add({text, kInline - zeros / 8})};
                ++short_used_;
                break;
            }
            at = next(at);
        }
        short_[at].times += times;
        return short_[at].number;
    }

    int32_t add(std::string_view word) {
        if (ends_.size() >= static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
            throw std::length_error("corpus: more than 2**31 - 1 different words");
        }
        text_.insert(text_.end(), word.begin(), word.end());
        ends_.push_back(text_.size());
        return size() - 1;
    }

    void make_room(size_t count) {
        if (2 * (short_used_ + count) > short_.size()) grow_short();
    }

    void grow_short() {
        Slots<ShortSlot> grown(short_.grown());
        std::swap(short_, grown);
        fit();
        for (size_t i = 0; i < grown.size(); ++i) {
            if (!grown[i].key.low) continue;
            size_t at = secret_.hash(grown[i].key) >> shift_;
            while (short_[at].key.low) at = next(at);
            short_[at] = grown[i];
        }
    }

    void grow_long() {
        Slots<LongSlot> grown(long_.grown());
        std::swap(long_, grown);
        const size_t mask = long_.size() - 1;
        for (size_t i = 0; i < grown.size(); ++i) {
            if (!grown[i].used) continue;
            size_t at = grown[i].hash & mask;
            while (long_[at].used) at = (at + 1) & mask;
            long_[at] = grown[i];
        }
    }

    void fit() { shift_ = 64 - __builtin_ctzll(short_.size()); }

    Secret secret_;
    Slots<ShortSlot> short_;
    Slots<LongSlot> long_;
    size_t short_used_ = 0, long_used_ = 0;
    int shift_ = 0;
    std::vector<char> text_;
    std::vector<size_t> ends_;
};

// One thread's part of each block, and the words it has met so far.
struct WordReader::Worker {
    explicit Worker(const Secret& secret) : own(secret) {}

    // Where `limit` is not 0, returns behind the first sentence that leaves more words than that.
    const char* read(const char* at, const char* end, int32_t* out, int32_t limit) {
        const Table& table = shared ? *shared : own;
        Key batch[kBatch];
        uint64_t hashes[kBatch];
        int waiting = 0;
        count = 0;
        sentences = invalid = 0;
        ends.clear();
        const int32_t first = shared ? 0 : own.size();
        new_words[0] = first;
        const auto flush = [&] {
            if (shared) {
                shared->find(batch, hashes, static_cast<size_t>(waiting), out + count);
            } else {
                own.number(batch, hashes, static_cast<size_t>(waiting), out + count);
            }
            count += waiting;
            waiting = 0;
        };
        const auto add = [&](Key key) {
            hashes[waiting] = table.expect(key);
            batch[waiting++] = key;
            if (waiting == kBatch) flush();
        };
        const auto add_text = [&](std::string_view word) {
            if (Table::is_short(word)) return add(key_of(word.data(), word.size()));
            flush();
            out[count++] = shared ? shared->find_long(word) : own.number_long(word, 1);
        };
        // Where words end is found for 64 bytes at once: a search from word to word would wait for
        // each result before it could begin the next.
        const char* scanned = at;
        uint64_t found = 0;
        for (;;) {
            while (found == 0 && scanned < end) {
                found = stops64(scanned);
                if (end - scanned < 64) found &= (uint64_t{1} << (end - scanned)) - 1;
                scanned += 64;
            }
            if (found == 0) break;
            const char* stop = scanned - 64 + __builtin_ctzll(found);
            const Class kind = class_of(*stop);
            if (kind == kOther) {
                at = scanned = careful(at, add_text);
                found = 0;
                continue;
            }
            found &= found - 1;
            const size_t size = static_cast<size_t>(stop - at);
            if (size - 1 < kInline) {
                add({load(at) & kFronts.low[size], load(at + 8) & kFronts.high[size]});
            } else if (size > 0) {
                add_text({at, size});
            }
            at = stop + 1;
            if (kind == kNewline) {
                ++sentences;
                ends.push_back(count + waiting);
                if (limit) {
                    flush();
                    if (own.size() > limit) break;
                }
            }
        }
        flush();
        new_words[1] = shared ? 0 : own.size();
        words = count;
        if (shared) leave_out(out);
        return at;
    }

    // The word at `at`, or the space beyond ASCII; returns the white space behind it.
    template <class Add>
    const char* careful(const char* at, const Add& add) {
        const char* begin = at;
        bool mended = false;
        for (;;) {
            if (static_cast<uint8_t>(*at) < 0x80) {
                if (class_of(*at) != kOther) break;
                ++at;
                continue;
            }
            int bad;
            const int length = character(at, &bad);
            if (length == 0) {
                if (!mended) text.clear();
                mended = true;
                text.append(begin, at);
                text.append(kReplacement);
                invalid += bad;
                begin = at += bad;
            } else if (is_wide_space(at, length)) {
                if (mended) {
                    add(text.append(begin, at));
                } else if (at > begin) {
                    add(std::string_view(begin, static_cast<size_t>(at - begin)));
                }
                return at + length;
            } else {
                at += length;
            }
        }
        if (mended) {
            add(text.append(begin, at));
        } else {
            add(std::string_view(begin, static_cast<size_t>(at - begin)));
        }
        return at;
    }

    // Drops the ids of words that are not in the table.
    void leave_out(int32_t* out) {
        int64_t from = 0, left = 0;
        const auto move_up_to = [&](int64_t to) {
            for (; from < to; ++from) {
                out[left] = out[from];
                left += out[from] >= 0;
            }
        };
        for (int64_t& end : ends) {
            move_up_to(end);
            end = left;
        }
        move_up_to(count);
        count = left;
    }

    Table own;
    const Table* shared = nullptr;
    std::vector<int32_t> ids;
    std::vector<int64_t> ends;
    std::string text;
    int64_t count = 0, words = 0, sentences = 0, invalid = 0;
    int32_t new_words[2] = {0, 0};
};

namespace {

// Runs body(0) ... body(count - 1), each in a thread where the system grants one.
template <class Body>
void in_threads(int count, const Body& body) {
    std::vector<std::exception_ptr> errors(static_cast<size_t>(count));
    const auto guarded = [&](int i) {
        try {
            body(i);
        } catch (...) {
            errors[static_cast<size_t>(i)] = std::current_exception();
        }
    };
    std::vector<std::thread> threads;
    threads.reserve(static_cast<size_t>(count));
    int started = 1;
    try {
        for (; started < count; ++started) threads.emplace_back(guarded, started);
    } catch (...) {
        // The rest is done here.
    }
    guarded(0);
    for (int i = started; i < count; ++i) guarded(i);
    for (std::thread& thread : threads) thread.join();
    for (const std::exception_ptr& error : errors) {
        if (error) std::rethrow_exception(error);
    }
}

}  // namespace

WordReader::WordReader(const std::vector<std::string>& known, bool frozen, int64_t max_types,
                       int threads, size_t part_bytes)
    : frozen_(frozen),
      max_types_(max_types),
      known_(static_cast<int64_t>(known.size())),
      part_bytes_(std::max<size_t>(part_bytes, 1)) {
    const Secret secret;
    threads = max_types ? 1 : std::min(std::max(threads, 1), 64);
    for (int i = 0; i < threads; ++i) {
        workers_.push_back(std::make_unique<Worker>(secret));
        Worker& worker = *workers_.back();
        if (frozen && i > 0) {
            worker.shared = &workers_[0]->own;
        } else {
            for (const std::string& word : known) worker.own.number(word, 0);
            if (frozen) worker.shared = &worker.own;
        }
    }
}

WordReader::~WordReader() = default;

// After an error in the middle, tables and ids do not fit each other any more.
void WordReader::check() const {
    if (broken_) throw std::logic_error("corpus: the reader is of no use after an error");
}

char* WordReader::space(size_t size) {
    check();
    if (position_ > 0) {
        std::memmove(buffer_.data(), buffer_.data() + position_, filled_ - position_);
        filled_ -= position_;
        readable_ -= position_;
        position_ = 0;
    }
    const size_t needed = filled_ + size + kPadding;
    if (buffer_.size() < needed) buffer_.resize(std::max(needed, 2 * filled_ + kPadding));
    return buffer_.data() + filled_;
}

void WordReader::feed(size_t size) {
    if (merged_) throw std::logic_error("corpus: feed must come before counts, words and types");
    if (filled_ + size + kPadding > buffer_.size()) {
        throw std::length_error("corpus: feed must be given no more than there was space for");
    }
    const char* text = buffer_.data();
    const size_t before = filled_;
    filled_ += size;
    if (size) line_open_ = text[filled_ - 1] != '\n';
    // What follows the last white space may go on in the next block.
    for (size_t at = filled_; at > before; --at) {
        if (class_of(text[at - 1]) != kOther) {
            readable_ = at;
            break;
        }
    }
    read();
}

void WordReader::end() {
    if (merged_) throw std::logic_error("corpus: end must come before counts, words and types");
    if (filled_ > readable_) {
        buffer_[filled_++] = ' ';
        readable_ = filled_;
    }
    read();
    if (full_) return;
    position_ = filled_ = readable_ = 0;
    if (!line_open_) return;
    line_open_ = false;
    ++raw_sentences_;
    if (taken_ + ids_.size() > ends_.back()) ends_.push_back(taken_ + ids_.size());
    full_ = max_types_ && workers_[0]->own.size() > max_types_;
}

void WordReader::read() {
    check();
    full_ = false;
    if (position_ == readable_) return;
    broken_ = true;
    if (max_types_) {
        read_up_to_limit();
    } else {
        read_parts();
    }
    broken_ = false;
}

void WordReader::read_parts() {
    const char* begin = buffer_.data() + position_;
    const char* end = buffer_.data() + readable_;
    position_ = readable_;
    // Parts begin behind white space; where there is none for long, a part is empty.
    const size_t size = static_cast<size_t>(end - begin);
    const size_t parts = std::min(workers_.size(), size / part_bytes_ + 1);
    std::vector<const char*> borders{begin};
    for (size_t part = 1; part < parts; ++part) {
        const char* at = std::max(begin + size / parts * part, borders.back());
        while (at > begin && at < end && class_of(at[-1]) == kOther) ++at;
        borders.push_back(at);
    }
    borders.push_back(end);
    // The first part's ids are written where they belong, the others' follow.
    const int64_t base = ids_.size();
    ids_.reserve(base + (borders[1] - begin) / 2 + kBatch);
    in_threads(static_cast<int>(parts), [&](int part) {
        Worker& worker = *workers_[static_cast<size_t>(part)];
        const char* from = borders[static_cast<size_t>(part)];
        const char* to = borders[static_cast<size_t>(part) + 1];
        int32_t* out = ids_.data() + base;
        if (part > 0) {
            worker.ids.resize(static_cast<size_t>(to - from) / 2 + kBatch);
            out = worker.ids.data();
        }
        worker.read(from, to, out, 0);
    });
    int64_t total = base;
    for (size_t part = 0; part < parts; ++part) total += workers_[part]->count;
    ids_.resize(total);
    int64_t at = base;
    for (size_t part = 0; part < parts; ++part) {
        Worker& worker = *workers_[part];
        if (part > 0 && worker.count > 0) {
            std::memcpy(ids_.data() + at, worker.ids.data(), static_cast<size_t>(worker.count) * 4);
        }
        append(worker);
        for (const int64_t end_of_sentence : worker.ends) {
            const int64_t place = taken_ + at + end_of_sentence;
            if (place > ends_.back()) ends_.push_back(place);
        }
        at += worker.count;
        if (!frozen_) {
            chunks_.push_back({static_cast<int32_t>(part), taken_ + at, worker.new_words[0],
                               worker.new_words[1]});
        }
    }
}

void WordReader::read_up_to_limit() {
    Worker& worker = *workers_[0];
    const char* begin = buffer_.data() + position_;
    const char* end = buffer_.data() + readable_;
    worker.ids.resize(static_cast<size_t>(end - begin) / 2 + kBatch);
    const auto limit = std::min<int64_t>(max_types_, std::numeric_limits<int32_t>::max());
    const char* at = worker.read(begin, end, worker.ids.data(), static_cast<int32_t>(limit));
    append(worker);
    position_ = static_cast<size_t>(at - buffer_.data());
    full_ = at[-1] == '\n' && worker.own.size() > max_types_;
}

void WordReader::append(const Worker& worker) {
    raw_words_ += worker.words;
    raw_sentences_ += worker.sentences;
    invalid_bytes_ += worker.invalid;
}

// One numbering for all workers: known words first, then by block, part, and order in the part.
void WordReader::merge() {
    check();
    if (max_types_ || merged_) return;
    merged_ = true;
    if (frozen_) return;
    Table& all = workers_[0]->own;
    places_.resize(workers_.size());
    for (size_t i = 1; i < workers_.size(); ++i) {
        const Table& table = workers_[i]->own;
        places_[i].resize(static_cast<size_t>(table.size()));
        all.join(table, places_[i].data());
    }
    numbers_.assign(static_cast<size_t>(all.size()), -1);
    place_of_number_.reserve(numbers_.size());
    const auto number = [&](int32_t place) {
        if (numbers_[static_cast<size_t>(place)] >= 0) return;
        numbers_[static_cast<size_t>(place)] = static_cast<int32_t>(place_of_number_.size());
        place_of_number_.push_back(place);
    };
    for (int32_t word = 0; word < known_; ++word) number(word);
    for (const Chunk& chunk : chunks_) {
        const auto& places = places_[static_cast<size_t>(chunk.worker)];
        for (int32_t word = chunk.first_new; word < chunk.last_new; ++word) {
            number(chunk.worker == 0 ? word : places[static_cast<size_t>(word)]);
        }
    }
}

int64_t WordReader::types() {
    merge();
    return workers_[0]->own.size();
}

void WordReader::counts(int64_t* counts) {
    merge();
    const Table& table = workers_[0]->own;
    if (numbers_.empty()) {
        table.counts(counts);
        return;
    }
    std::vector<int64_t> by_place(numbers_.size());
    table.counts(by_place.data());
    for (size_t place = 0; place < numbers_.size(); ++place) {
        counts[numbers_[place]] = by_place[place];
    }
}

std::string_view WordReader::word(int64_t number) {
    const size_t place = static_cast<size_t>(number);
    return workers_[0]->own.text(numbers_.empty() ? static_cast<int32_t>(number)
                                                  : place_of_number_[place]);
}

void WordReader::prune(const bool* keep) {
    if (!max_types_) throw std::logic_error("corpus: prune needs max_types");
    Worker& worker = *workers_[0];
    const int32_t size = worker.own.size();
    std::vector<int64_t> counts(static_cast<size_t>(size));
    worker.own.counts(counts.data());
    Table left(worker.own.secret());
    for (int32_t word = 0; word < size; ++word) {
        if (keep[word]) {
            left.number(worker.own.text(word),
                        static_cast<uint64_t>(counts[static_cast<size_t>(word)]));
        }
    }
    worker.own = std::move(left);
}

IdArray WordReader::take() {
    taken_ += ids_.size();
    return std::exchange(ids_, IdArray());
}

int64_t WordReader::renumber(int32_t* ids, int64_t size, const int32_t* numbers) {
    merge();
    if (frozen_ || max_types_ || renumbered_ + size > taken_) {
        throw std::logic_error("corpus: renumber must be given what take gave, once");
    }
    // From each worker's numbers to the final ones.
    std::vector<std::vector<int32_t>> last(workers_.size());
    for (size_t i = 0; i < workers_.size(); ++i) {
        last[i].resize(static_cast<size_t>(i == 0 ? workers_[0]->own.size() : places_[i].size()));
        for (size_t word = 0; word < last[i].size(); ++word) {
            const size_t place = i == 0 ? word : static_cast<size_t>(places_[i][word]);
            last[i][word] = numbers[numbers_[place]];
        }
    }
    struct Part {
        int64_t from, to, left;
        size_t first_end, last_end;
    };
    const int64_t count = std::min(static_cast<int64_t>(workers_.size()), size / (1 << 16) + 1);
    std::vector<Part> parts;
    for (int64_t part = 0; part < count; ++part) {
        const int64_t from = size / count * part;
        const int64_t to = part + 1 < count ? size / count * (part + 1) : size;
        parts.push_back({from, to, 0, first_end_behind(renumbered_ + from),
                         first_end_behind(renumbered_ + to)});
    }
    in_threads(static_cast<int>(count), [&](int i) {
        Part& part = parts[static_cast<size_t>(i)];
        part.left = renumber_part(ids, part.from, part.to, part.first_end, part.last_end, last);
    });
    int64_t total = 0;
    for (const Part& part : parts) {
        if (part.left > 0 && total < part.from) {
            std::memmove(ids + total, ids + part.from, static_cast<size_t>(part.left) * 4);
        }
        for (size_t end = part.first_end; end < part.last_end; ++end) ends_[end] += left_ + total;
        total += part.left;
    }
    renumbered_ += size;
    left_ += total;
    return total;
}

// The ends up to `renumbered_` count what is left, which is never more.
size_t WordReader::first_end_behind(int64_t place) const {
    return static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), place) - ends_.begin());
}

// Renumbers ids[from .. to), what is left at its front; ends there count from `from` afterwards.
int64_t WordReader::renumber_part(int32_t* ids, int64_t from, int64_t to, size_t end,
                                  size_t last_end, const std::vector<std::vector<int32_t>>& last) {
    auto chunk = std::upper_bound(
        chunks_.begin(), chunks_.end(), renumbered_ + from,
        [](int64_t place, const Chunk& candidate) { return place < candidate.end; });
    int64_t at = from, left = from;
    while (at < to) {
        while (chunk->end <= renumbered_ + at) ++chunk;
        int64_t next = std::min(to, chunk->end - renumbered_);
        const bool ends = end < last_end && ends_[end] - renumbered_ <= next;
        if (ends) next = ends_[end] - renumbered_;
        const std::vector<int32_t>& numbers = last[static_cast<size_t>(chunk->worker)];
        for (; at < next; ++at) {
            const auto id = static_cast<uint32_t>(ids[at]);
            if (id >= numbers.size()) throw std::out_of_range("corpus: ids must be what take gave");
            ids[left] = numbers[id];
            left += ids[left] >= 0;
        }
        if (ends) ends_[end++] = left - from;
    }
    return left - from;
}

std::vector<int64_t> WordReader::offsets() const {
    std::vector<int64_t> offsets = ends_;
    offsets.erase(std::unique(offsets.begin(), offsets.end()), offsets.end());
    return offsets;
}

uint64_t fingerprint(const void* data, size_t bytes) {
    constexpr uint64_t kPrime = 0x9E3779B97F4A7C15;
    const auto mix = [](uint64_t state, uint64_t word) {
        state = (state ^ word) * kPrime;
        return state ^ (state >> 32);
    };
    const char* at = static_cast<const char*>(data);
    uint64_t lanes[4] = {kPrime, 2 * kPrime, 3 * kPrime, 4 * kPrime};
    const auto take = [&](const char* from) {
        for (int lane = 0; lane < 4; ++lane) lanes[lane] = mix(lanes[lane], load(from + 8 * lane));
    };
    size_t left = bytes;
    for (; left >= 32; left -= 32, at += 32) take(at);
    if (left > 0) {
        char rest[32] = {};
        std::memcpy(rest, at, left);
        take(rest);
    }
    uint64_t result = bytes;
    for (const uint64_t lane : lanes) result = mix(result, lane);
    return result;
}

}  // namespace seqfast::cpu
