// Products of matrices of four times the precision, by products of float64.
#pragma once

#include <Eigen/Core>

#include "attsvm/four_doubles.hpp"

namespace attsvm {

using FourDoublesMatrix = Eigen::Matrix<FourDoubles, Eigen::Dynamic, Eigen::Dynamic>;

// C += multiple A B', only the lower triangle of it where C is `symmetric`. The error of entry (i, j) is about 2⁻²⁰⁴
// times the largest |A_ik| and |B_jk|, scaled so that these are equal for each k.
void add_sliced_product(Eigen::Ref<FourDoublesMatrix> C, const FourDoubles& multiple,
                        const Eigen::Ref<const FourDoublesMatrix>& A, const Eigen::Ref<const FourDoublesMatrix>& B,
                        bool symmetric);

}  // namespace attsvm
