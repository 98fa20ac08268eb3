// Dropout of whole arrays on the CPU: entries that the bindings call.
#pragma once

#include "core/dtype.h"
#include "core/random.h"

namespace seqfast::cpu {

void dropout(DType dtype, const DropoutArgs& args, int threads);

}  // namespace seqfast::cpu
