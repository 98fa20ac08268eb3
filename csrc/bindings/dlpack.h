// What of DLPack 1.3 is needed to read a library's tensors and to have it make some, without its
// headers: the C exchange API (https://dmlc.github.io/dlpack/latest/c_api.html).
#pragma once

#include <cstdint>

namespace seqfast::bindings::dlpack {

struct Version {
    uint32_t major, minor;
};
struct Device {
    int32_t type;  // kCpu, or another
    int32_t id;
};
constexpr int32_t kCpu = 1;

struct DataType {
    uint8_t code, bits;
    uint16_t lanes;
};
constexpr uint8_t kFloat = 2, kBfloat = 4;  // codes

struct Tensor {
    void* data;
    Device device;
    int32_t dimensions;
    DataType dtype;
    int64_t* shape;
    int64_t* strides;  // in elements
    uint64_t byte_offset;
};

struct ManagedTensor {
    Version version;
    void* context;
    void (*deleter)(ManagedTensor*);
    uint64_t flags;
    Tensor tensor;
};

// All return 0, or -1 with an error of Python set (allocate: with one told to `set_error`).
struct ExchangeApi {
    Version version;
    void* previous;
    int (*allocate)(Tensor* prototype, ManagedTensor** out, void* context,
                    void (*set_error)(void* context, const char* kind, const char* message));
    int (*own)(void* object, ManagedTensor** out);
    int (*to_object)(ManagedTensor* tensor, void** out);  // takes the tensor over
    int (*look)(void* object, Tensor* out);               // what it points at is the object's
    int (*current_stream)(int32_t device_type, int32_t device_id, void** out);
};
constexpr const char* kApiName = "dlpack_exchange_api";  // of the capsule
constexpr uint32_t kMajor = 1;

}  // namespace seqfast::bindings::dlpack
