// Prints the best instruction-set level of the machine that builds.
#include <cstdio>

#include "attsvm/isa_levels.hpp"

int main() { std::fputs(attsvm::supported_isa_levels().front().data(), stdout); }
