// Every argument struct that Python hands over, by its name.
#pragma once

#include "core/beam_search.h"
#include "core/corpus.h"
#include "core/ctc.h"
#include "core/ctc_align.h"
#include "core/ctc_decoder.h"
#include "core/decoder.h"
#include "core/glove.h"
#include "core/gpu.h"
#include "core/random.h"
#include "core/rnn.h"
#include "core/top_k.h"
#include "core/word2vec.h"

#define SEQFAST_STRUCTS(X)       \
    X(BeamBacktrackArgs)         \
    X(BeamLogits)                \
    X(BeamOptions)               \
    X(BeamStepArgs)              \
    X(CooccurrenceArgs)          \
    X(CtcAlignArgs)              \
    X(CtcBeamArgs)               \
    X(CtcDecodeArgs)             \
    X(CtcGreedyArgs)             \
    X(CtcInput)                  \
    X(CtcLanguage)               \
    X(CtcNgram)                  \
    X(CtcTree)                   \
    X(DecoderArgs)               \
    X(DecoderLayer)              \
    X(DropoutArgs)               \
    X(FirstVectorsArgs)          \
    X(GloveArgs)                 \
    X(GloveScheduleArgs)         \
    X(GpuCall)                   \
    X(GpuPlace)                  \
    X(RnnBackwardArgs)           \
    X(RnnForwardArgs)            \
    X(RnnOptions)                \
    X(RnnPackArgs)               \
    X(RnnRecurrenceBackwardArgs) \
    X(RnnRecurrenceForwardArgs)  \
    X(RnnScales)                 \
    X(RnnSizes)                  \
    X(RnnWeightGradients)        \
    X(RnnWeights)                \
    X(SequenceView)              \
    X(TextIndexArgs)             \
    X(TopKArgs)                  \
    X(Word2VecArgs)              \
    X(WordReaderArgs)            \
    X(ZeroPaddingArgs)

namespace seqfast::bindings {

template <class T>
struct StructName;

#define SEQFAST_NAME_STRUCT(type)                   \
    template <>                                     \
    struct StructName<type> {                       \
        static constexpr const char* value = #type; \
    };
SEQFAST_STRUCTS(SEQFAST_NAME_STRUCT)
#undef SEQFAST_NAME_STRUCT

}  // namespace seqfast::bindings
