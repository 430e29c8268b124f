#define ATTSVM_OCTUPLE_PRECISION
#include "test_cholesky.cpp"
