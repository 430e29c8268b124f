// A test is a program that says what failed and returns how many checks did.
#pragma once

#include <cmath>
#include <cstdio>

namespace attsvm_test {

inline int failures = 0;
inline int checks = 0;

inline void check(bool holds, const char* statement, const char* file, int line) {
    ++checks;
    if (holds) return;
    ++failures;
    std::printf("%s:%d: does not hold: %s\n", file, line, statement);
}

inline int report() {
    std::printf("%d checks, %d failed\n", checks, failures);
    return checks == 0 || failures != 0 ? 1 : 0;
}

}  // namespace attsvm_test

#define CHECK(statement) attsvm_test::check((statement), #statement, __FILE__, __LINE__)
