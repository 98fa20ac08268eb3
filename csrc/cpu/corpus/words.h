// The table of the words met so far, and a thread's reading of its part of a text.
#pragma once

#include <algorithm>
#include <limits>
#include <random>
#include <stdexcept>

#include "cpu/corpus/characters.h"
#include "cpu/corpus/corpus.h"

namespace seqfast::cpu {

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

}  // namespace seqfast::cpu
