// Characters of a text: white space, UTF-8, and short words as numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "core/config.h"

namespace seqfast::cpu {

// A word's slot is sent for when the word is met; so many words later it is looked at.
inline constexpr int kBatch = 128;
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

}  // namespace seqfast::cpu
