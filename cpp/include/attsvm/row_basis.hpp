// An orthonormal basis of the span of some rows that are longer than they are many, and their coordinates in it.
#pragma once

#include <Eigen/Core>
#include <Eigen/QR>
#include <vector>

#include "attsvm/buffer.hpp"
#include "attsvm/team.hpp"

namespace attsvm {

// rows = C B with C (count × count) lower triangular and B (count × dimension) of orthonormal rows: the orthogonal
// factorisation of the columns that the rows are, piece by piece and then of the pieces' triangles together.
class RowBasis {
   public:
    RowBasis(const Team& team, const double* rows, Index count, Index dimension)
        : count_(count), dimension_(dimension), length_(std::max<Index>(4 * count, 1024)), coordinates_(count * count) {
        const Eigen::Map<const Eigen::MatrixXd> columns(rows, dimension, count);
        pieces_.resize(static_cast<std::size_t>((dimension + length_ - 1) / length_));
        each_piece(
            team, [&](std::size_t k, Index first, Index size) { pieces_[k].compute(columns.middleRows(first, size)); });
        Index height = 0;
        for (const Factor& piece : pieces_) height += std::min(count, piece.rows());
        Eigen::MatrixXd triangles(height, count);
        height = 0;
        for (const Factor& piece : pieces_) {
            const Index kept = std::min(count, piece.rows());
            triangles.middleRows(height, kept) = piece.matrixQR().topRows(kept).triangularView<Eigen::Upper>();
            height += kept;
        }
        together_.compute(triangles);
        Eigen::Map<Eigen::MatrixXd>(coordinates_.data(), count, count) =
            together_.matrixQR().topRows(count).triangularView<Eigen::Upper>();
    }

    const Buffer<double>& coordinates() const { return coordinates_; }

    Buffer<double> vectors(const Team& team) const {
        Buffer<double> basis(count_ * dimension_);
        Eigen::Map<Eigen::MatrixXd> columns(basis.data(), dimension_, count_);
        Eigen::MatrixXd shares = Eigen::MatrixXd::Identity(together_.rows(), count_);
        shares.applyOnTheLeft(together_.householderQ());
        each_piece(team, [&](std::size_t k, Index first, Index size) {
            const Index kept = std::min(count_, size);
            Eigen::MatrixXd part = Eigen::MatrixXd::Zero(size, count_);
            part.topRows(kept) = shares.middleRows(static_cast<Index>(k) * count_, kept);
            part.applyOnTheLeft(pieces_[k].householderQ());
            columns.middleRows(first, size) = part;
        });
        return basis;
    }

   private:
    using Factor = Eigen::HouseholderQR<Eigen::MatrixXd>;

    template <class Task>
    void each_piece(const Team& team, Task task) const {
        team.for_ranges(std::ssize(pieces_), [&](Index k, Index last, int) {
            for (; k < last; ++k)
                task(static_cast<std::size_t>(k), k * length_, std::min(length_, dimension_ - k * length_));
        });
    }

    Index count_, dimension_, length_;
    std::vector<Factor> pieces_;
    Factor together_;
    Buffer<double> coordinates_;
};

}  // namespace attsvm
