#include "attsvm/descent.hpp"

namespace attsvm {

template class Descent<NativePack<double>, NativePack<double>>;

}  // namespace attsvm
