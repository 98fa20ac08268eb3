// What this compiler's C++ library asks of a newer glibc, for older ones.
#include <sys/random.h>

#include <cstdlib>

#define SEQFAST_HIDDEN extern "C" __attribute__((visibility("hidden")))

// Since glibc 2.32; 0 says "perhaps there are threads".
SEQFAST_HIDDEN char __libc_single_threaded;
char __libc_single_threaded = 0;

// Since glibc 2.36; std::random_device draws by it.
SEQFAST_HIDDEN unsigned arc4random() {
    unsigned value = 0;
    if (getrandom(&value, sizeof value, 0) != sizeof value) std::abort();
    return value;
}
