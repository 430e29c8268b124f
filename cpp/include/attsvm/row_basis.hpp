// An orthonormal basis of the span of some rows that are longer than they are many, and their coordinates in it.
#pragma once

#include <Eigen/Core>
#include <Eigen/QR>
#include <cmath>
#include <vector>

#include "attsvm/buffer.hpp"
#include "attsvm/team.hpp"

namespace attsvm {

// rows = C B with C (count × count) lower triangular and B (count × dimension) of orthonormal rows: the orthogonal
// factorisation of the columns that the rows are, piece by piece and then of the pieces' triangles together. Rows are
// factored in units of their own, powers of two, so that no square of an entry leaves the range of numbers.
class RowBasis {
   public:
    RowBasis(const Team& team, const double* rows, Index count, Index dimension)
        : count_(count), dimension_(dimension), length_(std::max<Index>(4 * count, 1024)), coordinates_(count * count) {
        const Eigen::Map<const Eigen::MatrixXd> columns(rows, dimension, count);
        Eigen::VectorXi exponent(count);
        Eigen::VectorXd per_unit(count);
        for (Index i = 0; i < count; ++i) {
            std::frexp(columns.col(i).lpNorm<Eigen::Infinity>(), &exponent[i]);
            exponent[i] = std::max(exponent[i], -1021);  // the inverse is a number too
            per_unit[i] = std::ldexp(1.0, -exponent[i]);
        }
        pieces_.resize(static_cast<std::size_t>((dimension + length_ - 1) / length_));
        each_piece(team, [&](std::size_t k, Index first, Index size) {
            pieces_[k].compute(columns.middleRows(first, size) * per_unit.asDiagonal());
        });
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
        for (Index i = 0; i < count; ++i)
            for (Index j = 0; j <= i; ++j)
                coordinates_[i * count + j] = std::ldexp(together_.matrixQR()(j, i), exponent[i]);
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
