// The host's side: launches checked, numbered and counted, and the device that is played.
#include <pthread.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

#include "host_executor/state.h"

namespace seqfast::host_executor {
namespace {

struct Shared {
    std::mutex mutex;
    Device device{0, 132, 232448, 90, 16};
    uint64_t seed = 0;
    Modes modes{};
    uint64_t launch_number = 0;
    Statistics statistics{};
};

// Never destroyed: a thread may still be launching when the process ends.
Shared& shared_state() {
    static Shared* const state = [] {
        // A child of fork must not find the mutex held by a thread that it does not have.
        pthread_atfork([] { shared_state().mutex.lock(); }, [] { shared_state().mutex.unlock(); },
                       [] { shared_state().mutex.unlock(); });
        return new Shared;
    }();
    return *state;
}

constexpr int device_count = 2;
SEQFAST_HOST_THREAD_LOCAL int current_device = 0;

// Blocks of this shape that one multiprocessor holds; 0: none.
int blocks_per_multiprocessor(const LaunchShape& shape, const Device& device) {
    if (shape.threads < 1 || shape.threads > 1024 || shape.shared_bytes < 0 ||
        shape.shared_bytes > device.shared_bytes)
        return 0;
    // A kilobyte of each block's is the system's.
    const int64_t by_memory = (device.shared_bytes + 1024) / (shape.shared_bytes + 1024);
    return int(std::min<int64_t>({by_memory, 2048 / ((shape.threads + 31) / 32 * 32), 32}));
}

void check_shape(const char* name, const LaunchShape& shape, const Device& device) {
    const auto require = [&](bool valid, const std::string& what) {
        if (!valid) throw std::runtime_error(std::string(name) + ": " + what);
    };
    const auto in = [](int value, int low, int high) { return low <= value && value <= high; };
    require(
        shape.grid_x >= 1 && in(shape.grid_y, 1, 65535) && in(shape.grid_z, 1, 65535),
        text("the grid must be 1 to 2147483647 x 1 to 65535 x 1 to 65535 blocks, got %d x %d x %d",
             shape.grid_x, shape.grid_y, shape.grid_z));
    require(in(shape.threads, 1, 1024),
            text("the threads of a block must be 1 to 1024, got %d", shape.threads));
    require(shape.shared_bytes >= 0 && shape.shared_bytes <= device.shared_bytes,
            text("the shared memory of a block must be 0 to %lld bytes, got %lld",
                 (long long)device.shared_bytes, (long long)shape.shared_bytes));
    require(in(shape.cluster, 1, device.max_cluster),
            text("a cluster must be 1 to %d blocks, got %d", device.max_cluster, shape.cluster));
    require(shape.grid_x % shape.cluster == 0,
            text("a cluster of %d blocks must divide the grid's %d", shape.cluster, shape.grid_x));
    const int64_t blocks = int64_t(shape.grid_x) * shape.grid_y * shape.grid_z;
    const int64_t resident = int64_t(blocks_per_multiprocessor(shape, device)) *
                             device.multiprocessors / shape.cluster * shape.cluster;
    require(resident > 0, text("the device cannot hold a cluster of %d blocks", shape.cluster));
    require(!shape.cooperative || blocks <= resident,
            text("a cooperative grid must be 1 to %lld blocks, got %lld", (long long)resident,
                 (long long)blocks));
}

Executor& of_this_thread() {
    static thread_local std::unique_ptr<Executor> owner;
    if (!owner) owner = std::make_unique<Executor>();
    return *owner;
}

}  // namespace

void launch(const char* name, const LaunchShape& shape, void (*kernel)(const void*),
            const void* arguments) {
    if (current) throw std::runtime_error(std::string(name) + ": launched by a kernel");
    Shared& shared = shared_state();
    Device device;
    uint64_t seed, number;
    Modes modes;
    {
        const std::lock_guard<std::mutex> lock(shared.mutex);
        device = shared.device;
        check_shape(name, shape, device);
        seed = shared.seed;
        modes = shared.modes;
        number = shared.launch_number++;
        const int64_t blocks = int64_t(shape.grid_x) * shape.grid_y * shape.grid_z;
        ++shared.statistics.launches;
        shared.statistics.blocks += blocks;
        shared.statistics.threads += blocks * shape.threads;
        ++shared.statistics.kernels[name];
    }
    Executor& mine = of_this_thread();
    executor = &mine;
    const int64_t before = mine.scheduler.switches();
    const auto count = [&] {
        const std::lock_guard<std::mutex> lock(shared.mutex);
        shared.statistics.switches += mine.scheduler.switches() - before;
    };
    try {
        mine.launch({name, shape, device, kernel, arguments, seed, number, modes});
    } catch (...) {
        count();
        throw;
    }
    count();
}

int resident_clusters(const LaunchShape& shape) {
    Shared& shared = shared_state();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    if (shape.cluster < 1 || shape.cluster > shared.device.max_cluster) return 0;
    if (blocks_per_multiprocessor(shape, shared.device) < 1) return 0;
    // Who asks has kernels with all the registers of a multiprocessor.
    return shared.device.multiprocessors / shape.cluster;
}

Device device_properties(int index) {
    if (index < 0 || index >= device_count)
        throw std::runtime_error(
            text("device_properties: the device must be 0 to %d, got %d", device_count - 1, index));
    Shared& shared = shared_state();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    Device device = shared.device;
    device.index = index;
    return device;
}

int exchange_current_device(int index) {
    if (index < 0 || index >= device_count)
        throw std::runtime_error(
            text("DeviceGuard: the device must be 0 to %d, got %d", device_count - 1, index));
    return std::exchange(current_device, index);
}

void set_seed(uint64_t seed) {
    Shared& shared = shared_state();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    shared.seed = seed;
    shared.launch_number = 0;
}

void set_modes(const Modes& modes) {
    Shared& shared = shared_state();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    shared.modes = modes;
}

void set_device(int multiprocessors, int64_t shared_bytes, int architecture, int max_cluster) {
    if (multiprocessors < 1 || shared_bytes < 0 || architecture < 80 || max_cluster < 1)
        throw std::invalid_argument(
            text("host_executor_set_device: wanted at least 1 multiprocessor, 0 bytes of shared "
                 "memory, architecture 80 and clusters of 1, got %d, %lld, %d and %d",
                 multiprocessors, (long long)shared_bytes, architecture, max_cluster));
    Shared& shared = shared_state();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    shared.device = {0, multiprocessors, shared_bytes, architecture, max_cluster};
}

Statistics statistics(bool reset) {
    Shared& shared = shared_state();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    Statistics result = shared.statistics;
    if (reset) shared.statistics = {};
    return result;
}

}  // namespace seqfast::host_executor
