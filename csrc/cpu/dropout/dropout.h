// Dropout of whole arrays on the CPU: entries that the bindings call.
#pragma once

#include "core/random.h"

namespace seqfast::cpu {

void dropout(DropoutArgs args);

}  // namespace seqfast::cpu
