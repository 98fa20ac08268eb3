// Words of a text: told apart, counted and numbered by first occurrence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/corpus/pages.h"

namespace seqfast::cpu {

// What seqfast/ops/corpus.py documents as WordReader; one thread calls it at a time.
class WordReader {
  public:
    // known: UTF-8, different from each other. max_types 0: no limit. A thread gets at least
    // part_bytes of a block.
    WordReader(const std::vector<std::string>& known, bool frozen, int64_t max_types, int threads,
               size_t part_bytes);
    ~WordReader();

    // Room for `size` bytes behind the beginning of a word that is still unread.
    char* space(size_t size);
    void feed(size_t size);
    void end();

    bool full() const { return full_; }
    size_t unread() const { return filled_ - position_; }
    int64_t raw_words() const { return raw_words_; }
    int64_t raw_sentences() const { return raw_sentences_; }
    int64_t invalid_bytes() const { return invalid_bytes_; }
    int64_t pending() const { return ids_.size(); }

    // These three end the reading, unless there is a max_types.
    int64_t types();
    void counts(int64_t* counts);
    std::string_view word(int64_t number);

    void prune(const bool* keep);
    IdArray take();
    int64_t renumber(int32_t* ids, int64_t size, const int32_t* numbers);
    // The ends of sentences, the first of them 0.
    std::vector<int64_t> offsets() const;

  private:
    class Table;
    struct Worker;
    // Which worker gave the ids up to which place in the text.
    struct Chunk {
        int worker;
        int64_t end;
        int32_t first_new, last_new;
    };

    void check() const;
    void read();
    void read_parts();
    void read_up_to_limit();
    void append(const Worker& worker);
    void merge();
    size_t first_end_behind(int64_t place) const;
    int64_t renumber_part(int32_t* ids, int64_t from, int64_t to, size_t end, size_t last_end,
                          const std::vector<std::vector<int32_t>>& last);

    const bool frozen_;
    const int64_t max_types_;
    const int64_t known_;
    const size_t part_bytes_;
    std::vector<std::unique_ptr<Worker>> workers_;
    bool full_ = false, merged_ = false, line_open_ = false, broken_ = false;

    std::vector<char> buffer_;
    // Read up to position_; whole words up to readable_; bytes up to filled_.
    size_t position_ = 0, readable_ = 0, filled_ = 0;

    IdArray ids_;
    int64_t taken_ = 0, renumbered_ = 0, left_ = 0;
    std::vector<Chunk> chunks_;
    std::vector<int64_t> ends_{0};
    int64_t raw_words_ = 0, raw_sentences_ = 0, invalid_bytes_ = 0;

    // After the merge: [worker][its number] is a number of the first worker, numbers_ of that the
    // number by first occurrence.
    std::vector<std::vector<int32_t>> places_;
    std::vector<int32_t> numbers_, place_of_number_;
};

// 64 bits by which an array is known again: four lanes, see seqfast/reference/corpus.py.
uint64_t fingerprint(const void* data, size_t bytes);

}  // namespace seqfast::cpu
