// How Python names memory: an integer, 0 for what is absent.
#pragma once

#include <cstdint>

namespace seqfast::bindings {

using Address = uintptr_t;

inline const void* in(Address address) { return reinterpret_cast<const void*>(address); }
inline void* out(Address address) { return reinterpret_cast<void*>(address); }

}  // namespace seqfast::bindings
