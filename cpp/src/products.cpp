#include "attsvm/products.hpp"

namespace attsvm {

template void multiply(const Team&, Index, Index, Index, Strided<double>, Extents, const double*, double*);
template void rows_dot(const double*, Index, Index, const double*, double*, Prefetcher&);
template void rows_dot(const float*, Index, Index, const double*, double*, Prefetcher&);
template void rows_dot(const double*, Index, Index, const double*, double*, double*, Prefetcher&);
template void rows_dot(const float*, Index, Index, const double*, double*, double*, Prefetcher&);
template void rows_dot(const double*, Index, Index, const double*, double*, const double*, double*, double*,
                       Prefetcher&);
template void rows_dot(const float*, Index, Index, const double*, double*, const double*, double*, double*,
                       Prefetcher&);
template void rows_combine(const double*, Index, Index, const double*, double*, Prefetcher&);
template void rows_combine(const float*, Index, Index, const double*, double*, Prefetcher&);

}  // namespace attsvm
