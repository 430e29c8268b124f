#include "attsvm/svm_norm.hpp"

#include <stdexcept>
#include <string>

#include "attsvm/lp_map.hpp"

namespace attsvm::inline ATTSVM_PRECISION {

SvmNorm SvmNorm::named(std::string_view name, Real p) {
    if (name == "max") return {Kind::max};
    if (name == "l1") return {Kind::sum};
    if (name == "spec") return {Kind::spectral};
    if (name == "nuc") return {Kind::nuclear};
    if (name != "lp") throw std::invalid_argument("norm: no such norm: " + std::string(name));
    if (!(p > 1.0 && numext::isfinite(p))) throw std::invalid_argument("p: must be above 1 and finite");
    return {Kind::power, p};
}

SvmNorm SvmNorm::dual() const {
    switch (kind) {
        case Kind::max:
            return {Kind::sum};
        case Kind::sum:
            return {Kind::max};
        case Kind::power:
            return {Kind::power, p / (p - 1.0)};
        case Kind::spectral:
            return {Kind::nuclear};
        default:
            return {Kind::spectral};
    }
}

Real SvmNorm::operator()(const Matrix& W) const {
    switch (kind) {
        case Kind::max:
            return W.lpNorm<Eigen::Infinity>();
        case Kind::sum:
            return W.lpNorm<1>();
        case Kind::power: {
            const Real largest = W.lpNorm<Eigen::Infinity>();
            if (!(largest > 0.0) || !numext::isfinite(largest)) return largest;
            return largest * numext::pow(LpMap::power(LpMap::logs(W.array() / largest), p).sum(), Real(1.0 / p));
        }
        case Kind::spectral:
            return spectral_norm(W);
        default:
            return nuclear_norm(W);
    }
}

}  // namespace attsvm::inline ATTSVM_PRECISION
