// Runs planted bugs by name, each in its own seeds: NAME, "bug" or "correct", first seed, end.
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>

#include "host_executor/executor.h"
#include "planted_bugs.h"

int main(int count, char** words) {
    using namespace seqfast;
    if (count != 5) {
        for (const std::string& name : cuda_host::planted_bugs()) std::cout << name << "\n";
        return 0;
    }
    for (int seed = std::atoi(words[3]); seed < std::atoi(words[4]); ++seed) {
        host_executor::set_seed(uint64_t(seed));
        std::cout << seed << ": ";
        try {
            std::cout << cuda_host::run_planted_bug(words[1], std::strcmp(words[2], "bug") != 0)
                      << " wrong" << std::endl;
        } catch (const std::exception& error) {
            std::cout << "error " << error.what() << std::endl;
        }
    }
    return 0;
}
