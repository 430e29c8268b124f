#include "attsvm/descent.hpp"

namespace attsvm {

template class Descent<double, double>;

}  // namespace attsvm
