#include "attsvm/descent.hpp"

namespace attsvm {

template class Descent<double, double>;
template class Descent<float, double>;

}  // namespace attsvm
