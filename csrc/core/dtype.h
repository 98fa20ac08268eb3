// Number formats of arrays, by the codes that Python hands over.
#pragma once

namespace seqfast {

enum class DType : int { float32 = 0, float64 = 1, bfloat16 = 2, float16 = 3 };

}  // namespace seqfast
