// Rows in as many coordinates as there are rows: an orthonormal basis of their span takes the place of a longer one.
#pragma once

#include <Eigen/Core>
#include <Eigen/QR>
#include <vector>

#include "attsvm/buffer.hpp"
#include "attsvm/team.hpp"

namespace attsvm {

// Lower triangular (count × count) rows with the inner products of `rows` (count × dimension), dimension > count: the
// transposed triangular factor of the columns that the rows are, from the factors of pieces of them.
inline Buffer<double> triangular_coordinates(const Team& team, const double* rows, Index count, Index dimension) {
    using Eigen::MatrixXd;
    const Index piece = std::max<Index>(4 * count, 1024);
    const auto triangle_of = [count](MatrixXd&& block) {
        const Index kept = std::min<Index>(count, block.rows());
        const Eigen::HouseholderQR<Eigen::Ref<MatrixXd>> factorised(block);
        return MatrixXd(block.topRows(kept).triangularView<Eigen::Upper>());
    };
    MatrixXd columns;
    for (Index length = dimension;;) {
        const Index pieces = (length + piece - 1) / piece;
        const Eigen::Map<const MatrixXd> given(rows, dimension, count);
        std::vector<MatrixXd> triangles(static_cast<std::size_t>(pieces));
        team.for_ranges(pieces, [&](Index k, Index last, int) {
            for (; k < last; ++k) {
                const Index first = k * piece, size = std::min(piece, length - first);
                triangles[static_cast<std::size_t>(k)] =
                    columns.size() == 0 ? triangle_of(given.middleRows(first, size))
                                        : triangle_of(columns.middleRows(first, size));
            }
        });
        length = 0;
        for (const MatrixXd& triangle : triangles) length += triangle.rows();
        MatrixXd stacked(length, count);
        length = 0;
        for (const MatrixXd& triangle : triangles) {
            stacked.middleRows(length, triangle.rows()) = triangle;
            length += triangle.rows();
        }
        columns.swap(stacked);
        if (pieces == 1) break;
    }
    Buffer<double> coordinates(count * count);
    Eigen::Map<MatrixXd>(coordinates.data(), count, count) = columns;
    return coordinates;
}

}  // namespace attsvm
