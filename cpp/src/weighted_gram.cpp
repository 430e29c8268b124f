#include "attsvm/weighted_gram.hpp"

namespace attsvm::inline ATTSVM_PRECISION {

Matrix weighted_gram(const nuclear::Constraints& constraints, const Matrix& weights) {
    const MarginMap& map = constraints.map();
    const auto& D = constraints.differences();
    const auto& L = constraints.queries();
    if (map.query_dimension == 1) {
        Matrix rows = D;
        for (Index i = 0; i < map.samples; ++i) rows.middleCols(map.start[i], map.rows(i)) *= L(0, i);
        return transpose_times(rows, weights.col(0).asDiagonal() * rows);
    }
    Matrix gram(constraints.count(), constraints.count());
    for (Index i = 0; i < map.samples; ++i) {
        if (map.rows(i) == 0) continue;
        const Matrix pairs = L.leftCols(i + 1).array().colwise() * L.col(i).array();
        const Matrix of_pairs = times(weights, pairs);
        Matrix scaled = D.leftCols(map.start[i + 1]);
        for (Index j = 0; j <= i; ++j)
            scaled.middleCols(map.start[j], map.rows(j)).array().colwise() *= of_pairs.col(j).array();
        transpose_times(D.middleCols(map.start[i], map.rows(i)), scaled,
                        gram.block(map.start[i], 0, map.rows(i), map.start[i + 1]));
    }
    return gram;
}

}  // namespace attsvm::inline ATTSVM_PRECISION
