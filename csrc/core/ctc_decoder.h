// CTC decoding into words: the language beside the search, and what a row keeps from call to call.
#pragma once

#include "core/ctc.h"

namespace seqfast {

// Nodes by number: the children of each lie together, after their parents, by rising label.
struct CtcTree {
    const int32_t* starts;  // [nodes + 1]: the children of n are starts[n] + 1 ... starts[n + 1]
    const int32_t* labels;  // [nodes - 1]: of node 1, 2, ...
};
template <class F>
void visit(CtcTree& tree, F&& f) {
    f("starts", tree.starts);
    f("labels", tree.labels);
}

// An n-gram model as seqfast.decoding.NGram has it: a state is a node.
struct CtcNgram {
    CtcTree tree;                 // by numbers of words; starts null: no model
    const double* logprobs;       // [nodes]
    const double* backoffs;       // [nodes]
    const int64_t* suffixes;      // [nodes]
    int64_t first_longest;        // node from which on no child follows
    int64_t start, unknown, end;  // the first state; words; end -1: sentences do not end
};
template <class F>
void visit(CtcNgram& ngram, F&& f) {
    f("tree", ngram.tree);
    f("logprobs", ngram.logprobs);
    f("backoffs", ngram.backoffs);
    f("suffixes", ngram.suffixes);
    f("first_longest", ngram.first_longest);
    f("start", ngram.start);
    f("unknown", ngram.unknown);
    f("end", ngram.end);
}

// What may be true of a node of the tree of words.
enum CtcWordFlag : uint8_t {
    kCtcKnown = 1,      // a word that the model knows ends here
    kCtcKnownPart = 2,  // one goes through here
    kCtcWord = 4,       // a word of the lexicon ends here
    kCtcWordPart = 8    // one goes through here
};

// What a prefix is worth beside its alignments; everything is added to its score.
struct CtcLanguage {
    // Tokens as letters, by numbers that all trees share.
    const int32_t* letter_starts;  // [vocab + 1]
    const int32_t* letters;        // of all tokens, without the mark that begins a word
    const uint8_t* begins;         // [vocab]: whether the token begins a word; null: none does
    int64_t boundary;              // the token that ends a word; -1: none
    CtcTree words;                 // by letters; starts null: none
    const int32_t* word_of;        // [nodes]: the model's number of the word that ends there, or -1
    const uint8_t* flags;          // [nodes]
    bool lexicon;                  // only its words
    CtcNgram ngram;
    const int32_t* token_words;  // [vocab]: the model's number of each token; null: it is of words
    double alpha, beta;
    double unknown_word, unknown_part;  // added for an unknown word, and while none can come of it
    double part_length;                 // longer parts by their length over this one
    // Hotwords: a root for each row, or none (-1).
    CtcTree hotwords;          // by letters
    const int32_t* hot_roots;  // [batch]; null: none at all
    const double* hot_parts;   // [nodes]: what the part of a word is worth
    const double* hot_words;   // [nodes]: and the word that ends there
    // The largest of them, or 0; of parts 0, too, where all tokens have one letter.
    double best_part, best_word;
};
template <class F>
void visit(CtcLanguage& language, F&& f) {
    f("letter_starts", language.letter_starts);
    f("letters", language.letters);
    f("begins", language.begins);
    f("boundary", language.boundary);
    f("words", language.words);
    f("word_of", language.word_of);
    f("flags", language.flags);
    f("lexicon", language.lexicon);
    f("ngram", language.ngram);
    f("token_words", language.token_words);
    f("alpha", language.alpha);
    f("beta", language.beta);
    f("unknown_word", language.unknown_word);
    f("unknown_part", language.unknown_part);
    f("part_length", language.part_length);
    f("hotwords", language.hotwords);
    f("hot_roots", language.hot_roots);
    f("hot_parts", language.hot_parts);
    f("hot_words", language.hot_words);
    f("best_part", language.best_part);
    f("best_word", language.best_word);
}

// A search that goes on from call to call: `memory` holds it.
struct CtcDecodeArgs {
    CtcInput input;  // a chunk; its lengths are given
    CtcLanguage language;
    int64_t beam_size, n_best, top_n;
    double min_log_prob, beam_threshold;
    int64_t capacity;     // prefixes that a row has room for
    int64_t frame_end;    // frames of the chunk to read in this call
    int64_t* progress;    // [batch]: frames of the chunk that have been read
    const double* table;  // [batch, beam_size, vocab]: of a callable model, weighted; null: none
    int64_t* source;  // [batch, beam_size] or null: where each prefix, or what it extends, stood
    int64_t* added;   // [batch, beam_size] or null: the token that extends it; -1 where none
    const double* final;      // [batch, beam_size]: of a callable model at the end; null: none
    bool finish;              // results of whole words and sentences
    int64_t* places;          // [batch, n_best]: in the beam; -1 where there are fewer
    int64_t* counts;          // [batch, n_best]: tokens
    double* scores;           // [batch, n_best]; -inf where there are fewer
    double* language_scores;  // [batch, n_best]
    int64_t room;             // tokens of a transcript that the following have room for
    int64_t* tokens;          // [batch, n_best, room]; -1 behind the last
    int64_t* firsts;          // [batch, n_best, room]: frames of each token, counted from the start
    int64_t* lasts;           // [batch, n_best, room]
    double* confidences;      // [batch, n_best, room]
    char* memory;             // [batch, ctc_decode_layout(...).size], aligned to 64
    char* workspace;          // aligned to 64
    int threads;
};
template <class F>
void visit(CtcDecodeArgs& args, F&& f) {
    f("input", args.input);
    f("language", args.language);
    f("beam_size", args.beam_size);
    f("n_best", args.n_best);
    f("top_n", args.top_n);
    f("min_log_prob", args.min_log_prob);
    f("beam_threshold", args.beam_threshold);
    f("capacity", args.capacity);
    f("frame_end", args.frame_end);
    f("progress", args.progress);
    f("table", args.table);
    f("source", args.source);
    f("added", args.added);
    f("final", args.final);
    f("finish", args.finish);
    f("places", args.places);
    f("counts", args.counts);
    f("scores", args.scores);
    f("language_scores", args.language_scores);
    f("room", args.room);
    f("tokens", args.tokens);
    f("firsts", args.firsts);
    f("lasts", args.lasts);
    f("confidences", args.confidences);
    f("memory", args.memory);
    f("threads", args.threads);
}

// What the language says of a prefix; it follows from its tokens alone.
struct alignas(64) CtcContext {
    double settled;            // of the words that have ended
    double part;               // of the one that has not
    double end_gain;           // if it ended here; NaN: not asked yet
    uint64_t text;             // a hash of the letters
    uint64_t letters;          // that stay inside a tree, a bit each
    int32_t state, end_state;  // of the n-gram model, before and after that word
    int32_t word, hot;         // nodes of the part; -1: in no word
    int32_t length;            // letters of the part
    int32_t depth;             // tokens of the prefix
};

// The token before a link: its last frame, and the mean of its log-probabilities.
struct CtcRun {
    int32_t last;
    float mean;
};

// Beside each prefix of a beam: the frames of its last token in both best alignments.
struct CtcRuns {
    double *sum_blank, *sum_token;  // of log-probabilities
    double* table;                  // what a callable model gave
    int32_t *last_blank, *last_token;
};
SEQFAST_INLINE int64_t ctc_runs_bytes(int64_t beam_size) {
    return ctc_padded(beam_size) * int64_t(3 * sizeof(double) + 2 * sizeof(int32_t));
}
SEQFAST_INLINE CtcRuns ctc_runs_at(char* memory, int64_t beam_size) {
    const int64_t size = ctc_padded(beam_size);
    double* numbers = reinterpret_cast<double*>(memory);
    int32_t* frames = reinterpret_cast<int32_t*>(numbers + 3 * size);
    return {numbers, numbers + size, numbers + 2 * size, frames, frames + size};
}

struct CtcDecodeState {
    int64_t count;         // prefixes in the beam
    int64_t nodes, links;  // used
    int64_t half;          // which of the two beams holds them
    int64_t frames;        // read so far
};

// Places in a row's memory, in bytes; each aligned to 64.
struct CtcDecodeLayout {
    int64_t nodes, contexts, links, runs, beams, beam_runs, heads, size;
};
SEQFAST_INLINE CtcDecodeLayout ctc_decode_layout(int64_t capacity, int64_t beam_size) {
    CtcDecodeLayout at{};
    at.nodes = ctc_align(sizeof(CtcDecodeState));
    at.contexts = at.nodes + ctc_align(capacity * int64_t(sizeof(CtcNode)));
    at.links = at.contexts + ctc_align(capacity * int64_t(sizeof(CtcContext)));
    at.runs = at.links + ctc_align(capacity * int64_t(sizeof(CtcLink)));
    at.beams = at.runs + ctc_align(capacity * int64_t(sizeof(CtcRun)));
    at.beam_runs = at.beams + 2 * ctc_beams_bytes(beam_size);
    at.heads = at.beam_runs + 2 * ctc_runs_bytes(beam_size);
    at.size = at.heads + ctc_align(ctc_table_size(capacity, 1) * int64_t(sizeof(int32_t)));
    return at;
}

}  // namespace seqfast
