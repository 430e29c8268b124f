#include "attsvm/row_basis.hpp"

#include <Eigen/QR>
#include <cmath>
#include <vector>

namespace attsvm {

struct RowBasis::Factors {
    using Factor = Eigen::HouseholderQR<Eigen::MatrixXd>;
    std::vector<Factor> pieces;
    Factor together;
};

RowBasis::RowBasis(const Team& team, const double* rows, Index count, Index dimension, Progress* progress)
    : count_(count),
      dimension_(dimension),
      length_(std::max<Index>(4 * count, 1024)),
      factors_(std::make_unique<Factors>()),
      coordinates_(count * count) {
    const Eigen::Map<const Eigen::MatrixXd> columns(rows, dimension, count);
    Eigen::VectorXi exponent(count);
    Eigen::VectorXd per_unit(count);
    for (Index i = 0; i < count; ++i) {
        std::frexp(columns.col(i).lpNorm<Eigen::Infinity>(), &exponent[i]);
        exponent[i] = std::max(exponent[i], -1021);  // the inverse is a number too
        per_unit[i] = std::ldexp(1.0, -exponent[i]);
    }
    auto& [pieces, together] = *factors_;
    pieces.resize(static_cast<std::size_t>((dimension + length_ - 1) / length_));
    each_piece(team, progress, [&](std::size_t k, Index first, Index size) {
        pieces[k].compute(columns.middleRows(first, size) * per_unit.asDiagonal());
    });
    if (progress != nullptr && progress->stopped()) return;
    Index height = 0;
    for (const auto& piece : pieces) height += std::min(count, piece.rows());
    Eigen::MatrixXd triangles(height, count);
    height = 0;
    for (const auto& piece : pieces) {
        const Index kept = std::min(count, piece.rows());
        triangles.middleRows(height, kept) = piece.matrixQR().topRows(kept).triangularView<Eigen::Upper>();
        height += kept;
    }
    together.compute(triangles);
    for (Index i = 0; i < count; ++i)
        for (Index j = 0; j <= i; ++j) coordinates_[i * count + j] = std::ldexp(together.matrixQR()(j, i), exponent[i]);
}

RowBasis::RowBasis(RowBasis&&) noexcept = default;
RowBasis& RowBasis::operator=(RowBasis&&) noexcept = default;
RowBasis::~RowBasis() = default;

Buffer<double> RowBasis::vectors(const Team& team, Progress* progress) const {
    const auto& [pieces, together] = *factors_;
    Buffer<double> basis(count_ * dimension_);
    if (progress != nullptr && progress->stopped()) return basis;
    Eigen::Map<Eigen::MatrixXd> columns(basis.data(), dimension_, count_);
    Eigen::MatrixXd shares = Eigen::MatrixXd::Identity(together.rows(), count_);
    shares.applyOnTheLeft(together.householderQ());
    each_piece(team, progress, [&](std::size_t k, Index first, Index size) {
        const Index kept = std::min(count_, size);
        Eigen::MatrixXd part = Eigen::MatrixXd::Zero(size, count_);
        part.topRows(kept) = shares.middleRows(static_cast<Index>(k) * count_, kept);
        part.applyOnTheLeft(pieces[k].householderQ());
        columns.middleRows(first, size) = part;
    });
    return basis;
}

template <class Task>
void RowBasis::each_piece(const Team& team, Progress* progress, Task task) const {
    team.for_ranges(std::ssize(factors_->pieces), [&](Index k, Index last, int thread) {
        for (; k < last && (progress == nullptr || !progress->stopped()); ++k) {
            task(static_cast<std::size_t>(k), k * length_, std::min(length_, dimension_ - k * length_));
            if (progress != nullptr && thread == 0) progress->ask();
        }
    });
}

}  // namespace attsvm
