#include "attsvm/descent.hpp"

namespace attsvm {

template class Descent<float, double>;

}  // namespace attsvm
