#define ATTSVM_TWICE_PRECISION
#include "test_cholesky.cpp"
