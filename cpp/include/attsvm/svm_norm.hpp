// The norms of W that an SVM makes small, and their duals.
#pragma once

#include <string_view>

#include "attsvm/dense.hpp"

namespace attsvm::inline ATTSVM_PRECISION {

// N(W), and N*(G) = max <G, W> over N(W) <= 1.
struct SvmNorm {
    enum class Kind { max, sum, power, spectral, nuclear };

    Kind kind;
    Real p = 0.0;  // of (Σ |W_jc|^p)^(1/p), 1 < p < ∞

    // "max", "l1", "lp", "spec" or "nuc"
    static SvmNorm named(std::string_view name, Real p);

    // Whether it depends on entries, so that coordinates must stay those of the caller.
    bool is_of_entries() const { return kind == Kind::max || kind == Kind::sum || kind == Kind::power; }
    SvmNorm dual() const;
    Real operator()(const Matrix& W) const;
};

}  // namespace attsvm::inline ATTSVM_PRECISION
