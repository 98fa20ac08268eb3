// Words of a text: told apart, counted and numbered by several threads.
#include "cpu/corpus/corpus.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <limits>
#include <stdexcept>
#include <thread>

#include "cpu/corpus/words.h"

namespace seqfast::cpu {
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
