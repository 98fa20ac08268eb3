// The k largest of each row on the CPU: entries that the bindings call.
#pragma once

#include "core/top_k.h"

namespace seqfast::cpu {

void top_k(TopKArgs args);

}  // namespace seqfast::cpu
