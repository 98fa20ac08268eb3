// A recurrent decoder with attention that a beam search steps: every pointer with its shape in
// brackets, every size. docs/equations.md has the equations, seqfast/reference/decoder.py the twin.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/beam_search.h"
#include "core/rnn.h"

namespace seqfast {

// Real: float or double, as dtype says; so are all arrays of numbers.
struct DecoderLayer {
    int64_t hidden_size;
    const void* weight_ih;  // [gates * hidden_size, input_size]; of the first layer the input is
                            // the embedding and, with input feeding, the attentional vector
    const void* weight_hh;  // [gates * hidden_size, hidden_size]
    const void* bias_ih;    // [gates * hidden_size] or nullptr
    const void* bias_hh;    // [gates * hidden_size] or nullptr
    const void* hidden;     // [batch, hidden_size] before the first step
    const void* cell;       // [batch, hidden_size]; nullptr where the cell has none
};
template <class F>
void visit(DecoderLayer& layer, F&& f) {
    f("hidden_size", layer.hidden_size);
    f("weight_ih", layer.weight_ih);
    f("weight_hh", layer.weight_hh);
    f("bias_ih", layer.bias_ih);
    f("bias_hh", layer.bias_hh);
    f("hidden", layer.hidden);
    f("cell", layer.cell);
}

constexpr int64_t kMostDecoderLayers = 16;

struct DecoderArgs {
    DType dtype;            // float32 or float64
    CellKind cell;          // lstm, gru or rnn
    Activation activation;  // of rnn
    bool input_feeding;
    // Bahdanau et al. 2015: the state before a step attends, and the context enters the first layer
    // behind the embedding (no input feeding then).
    bool context_first;
    int64_t batch, beams;  // sentences, and rows of each
    int64_t layers;
    int64_t words, embedding_size;
    int64_t memory_steps, memory_size;
    int64_t key_size;  // of additive attention's hidden layer, else the top layer's size
    int64_t attentional_size, vocabulary;
    int threads;

    DecoderLayer layer[kMostDecoderLayers];
    const void* embedding;     // [words, embedding_size]
    const void* keys;          // [batch, memory_steps, key_size]
    const void* values;        // [batch, memory_steps, memory_size], zero where masked
    const uint8_t* mask;       // [batch, memory_steps] nonzero: counts; or nullptr
    const void* weight_query;  // additive: [key_size, top layer's size]; nullptr: dot products
    const void* bias_query;    // additive: [key_size] or nullptr
    const void* weight_score;  // additive: [key_size]
    // [attentional_size, top layer's size + memory_size]; nullptr: there is no attention, and the
    // head takes the top layer's output (attentional_size is its size then).
    const void* weight_combine;
    const void* weight_head;  // [vocabulary, attentional_size]
    const void* bias_head;    // [vocabulary] or nullptr
    const void* fed;  // [batch, attentional_size] before the first step, with input feeding only

    void* workspace;  // kept from call to call of one search
    size_t workspace_size;

    SEQFAST_INLINE int64_t rows() const { return batch * beams; }
    SEQFAST_INLINE int64_t output_size() const { return layer[layers - 1].hidden_size; }
    // Of what the first layer gets behind the embedding.
    SEQFAST_INLINE int64_t fed_size() const {
        return context_first ? memory_size : input_feeding ? attentional_size : 0;
    }
    SEQFAST_INLINE int64_t input_size(int64_t l) const {
        if (l > 0) return layer[l - 1].hidden_size;
        return embedding_size + fed_size();
    }
};
template <class F>
void visit(DecoderArgs& args, F&& f) {
    f("dtype", args.dtype);
    f("cell", args.cell);
    f("activation", args.activation);
    f("input_feeding", args.input_feeding);
    f("context_first", args.context_first);
    f("batch", args.batch);
    f("beams", args.beams);
    f("layers", args.layers);
    f("words", args.words);
    f("embedding_size", args.embedding_size);
    f("memory_steps", args.memory_steps);
    f("memory_size", args.memory_size);
    f("key_size", args.key_size);
    f("attentional_size", args.attentional_size);
    f("vocabulary", args.vocabulary);
    f("threads", args.threads);
    f("layer", args.layer);
    f("embedding", args.embedding);
    f("keys", args.keys);
    f("values", args.values);
    f("mask", args.mask);
    f("weight_query", args.weight_query);
    f("bias_query", args.bias_query);
    f("weight_score", args.weight_score);
    f("weight_combine", args.weight_combine);
    f("weight_head", args.weight_head);
    f("bias_head", args.bias_head);
    f("fed", args.fed);
}

}  // namespace seqfast
