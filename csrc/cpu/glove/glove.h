// GloVe on the CPU: entries that the bindings call.
#pragma once

#include "core/glove.h"

namespace seqfast::cpu {

void text_index(const TextIndexArgs& args);
size_t cooccurrences_workspace_size(CooccurrenceArgs args);
void cooccurrences(CooccurrenceArgs args);
void glove_schedule(GloveScheduleArgs args);
// order: [blocks] the strata of an epoch.
void glove_strata(int32_t* order, int64_t blocks, int64_t seed, int64_t epoch);
void glove_train(GloveArgs args);

}  // namespace seqfast::cpu
