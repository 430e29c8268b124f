// Every solution has the norm of W and meets the constraints of positive multipliers with equality, and G = A*(λ), of
// dual norm 1, has the same inner product with each. From W, the others lie in directions d of a cone
//
//     E d = 0  (constraints of positive multipliers),   T d >= 0  (the other active ones)
//
// in the coordinates that G leaves to them:
//
//     max       entries where G is 0; of those at the bound, inwards
//     l1        entries where |G| is largest; where W is 0, with the sign of G
//     spectral  entries between the complements of the singular spaces of G
//     nuclear   U d V', d symmetric, of the singular vectors U and V of G of the value 1
//
// The solution is unique where d = 0 is alone in the cone. Whether something is 0 or not is only known up to rounding:
// a cone that has all that might belong to it proves that, and one that has only what does the opposite.
#include "attsvm/uniqueness.hpp"

namespace attsvm::inline ATTSVM_PRECISION {
namespace {

using nuclear::Candidate;
using nuclear::Constraints;

constexpr double zero = in_precision(1e-13), clearly = 1e-7;  // at most 0 up to rounding, and what is not

// A linear space that grows, by an orthonormal basis.
class Span {
   public:
    // `accuracy` is that of the vectors, in units of what rounding leaves.
    Span(Index order, Real accuracy) : basis_(order, order), least_(accuracy) {}

    Index dimension() const { return dimension_; }
    // What rounding may leave outside of a vector of the space that has at most norm 1, where that is next to nothing.
    Real rounding() const {
        constexpr double most = 1e-9;
        const Real root = numext::sqrt(Real(static_cast<double>(basis_.rows())));
        return std::min<Real>(16.0 * std::numeric_limits<Real>::epsilon() * root / least_, most);
    }
    // The parts of columns that are orthogonal to the space
    Matrix outside(Matrix columns) const {
        const auto basis = basis_.leftCols(dimension_);
        for (int round = 0; round < 2 && dimension_ > 0; ++round)
            columns -= times(basis, transpose_times(basis, columns));
        return columns;
    }
    // Takes in columns, the farthest first. False where rounding decides whether one of them belongs to the space.
    bool take(Matrix columns) {
        columns = outside(std::move(columns));
        while (dimension_ < basis_.rows() && columns.cols() > 0) {
            Index farthest = 0;
            const Real distance = numext::sqrt(columns.colwise().squaredNorm().maxCoeff(&farthest));
            if (distance <= rounding()) return true;
            if (!(distance > clearly)) return false;
            const Vector unit = outside(columns.col(farthest) / distance).col(0).normalized();
            basis_.col(dimension_++) = unit;
            least_ = std::min<Real>(least_, distance);
            columns -= unit * apply_transpose(columns, unit).transpose();
        }
        return true;
    }

   private:
    Matrix basis_;
    Index dimension_ = 0;
    Real least_;  // distance of a vector that was taken in
};

// Weights μ >= 0 with the smallest |T μ|² + (1 - Σ μ)²: T μ / Σ μ is the point of the convex hull of the columns that
// is nearest to 0. (Lawson, Hanson, "Solving least squares problems", 1974, chapter 23.)
Vector weights_of_nearest(const Matrix& T) {
    constexpr double rising = in_precision(1e-13);
    const Index count = T.cols(), most_steps = 3 * (count + T.rows());
    Matrix A(T.rows() + 1, count);
    A.topRows(T.rows()) = T;
    A.bottomRows(1).setOnes();
    Vector weights = Vector::Zero(count), missing = Vector::Unit(A.rows(), T.rows());
    std::vector<Index> used;
    for (Index step = 0; step < most_steps; ++step) {
        Vector slope = apply_transpose(A, missing);
        for (const Index r : used) slope[r] = 0.0;
        Index next = 0;
        if (!(slope.maxCoeff(&next) > rising)) break;
        used.push_back(next);
        while (!used.empty()) {
            const Matrix part = A(Eigen::all, used);
            const Cholesky equations(transpose_times(part, part));
            if (!equations.succeeded()) return weights;
            Vector best = Vector::Zero(part.cols());
            for (int round = 0; round < 3; ++round)
                best += equations.solve(apply_transpose(part, Vector::Unit(A.rows(), T.rows()) - apply(part, best)));
            Real share = 1.0;
            for (Index k = 0; k < best.size(); ++k)
                if (const Real now = weights[used[static_cast<std::size_t>(k)]]; !(best[k] > 0.0))
                    share = std::min<Real>(share, now > 0.0 ? now / (now - best[k]) : Real(0.0));
            for (Index k = 0; k < best.size(); ++k) {
                Real& weight = weights[used[static_cast<std::size_t>(k)]];
                weight += share * (best[k] - weight);
                if (share < 1.0 && !(best[k] > 0.0) && !(weight > rising)) weight = 0.0;
            }
            if (share == 1.0) break;
            std::erase_if(used, [&](Index r) { return weights[r] == 0.0; });
        }
        missing = Vector::Unit(A.rows(), T.rows()) - apply(A, weights);
    }
    return weights;
}

// Whether E'd = 0 and T'd >= 0 for no other d of this dimension than 0: 1 or 0, and -1 in doubt.
//
// Of the T that E leaves, either all may rise at once, or some positive combination of them is 0 (Gordan): then those
// are constant along every d, as E is.
std::int8_t holds_for_zero_only(Index dimension, const Matrix& E, Matrix T, Real accuracy = 1.0) {
    if (E.cols() >= dimension) {  // Rump, "Verification of positive definiteness", BIT 46, 2006
        Matrix gram = smaller_gram(E);
        gram.diagonal().array() -= clearly * clearly + static_cast<double>(dimension + E.cols() + 2) *
                                                           std::numeric_limits<Real>::epsilon() * gram.trace();
        if (Cholesky(std::move(gram)).succeeded()) return 1;
    }
    Span constant(dimension, accuracy);
    if (!constant.take(E)) return -1;
    while (constant.dimension() < dimension) {
        T = constant.outside(std::move(T));
        std::vector<Index> free;
        const Vector length = T.colwise().norm();
        for (Index c = 0; c < T.cols(); ++c) {
            if (length[c] <= constant.rounding()) continue;
            if (!(length[c] > clearly)) return -1;
            free.push_back(c);
        }
        T = Matrix(T(Eigen::all, free));
        Span all = constant;
        if (!all.take(T)) return -1;
        if (all.dimension() < dimension) return 0;
        const Matrix units = T.colwise().normalized();
        const Vector weights = weights_of_nearest(units), nearest = apply(units, weights) / weights.sum();
        if (apply_transpose(units, nearest).minCoeff() > clearly) return 0;
        if (!(nearest.norm() <= zero)) return -1;
        std::vector<Index> combined;
        for (Index c = 0; c < weights.size(); ++c)
            if (weights[c] > clearly * weights.maxCoeff()) combined.push_back(c);
        if (!constant.take(T(Eigen::all, combined))) return -1;
    }
    return 1;
}

class Directions {
   public:
    Directions(const Constraints& constraints, const SvmNorm& norm, Index rows, Index columns, const Candidate& found)
        : constraints_(constraints),
          norm_(norm),
          rows_(rows),
          columns_(columns),
          W_(found.W),
          dual_(found.dual),
          G_(constraints.adjoint(found.dual)),
          excess_(constraints.values(found.W) - constraints.rhs()),
          error_((8.0 * std::numeric_limits<Real>::epsilon() + found.distance) * (1.0 + W_.norm())),
          // What is active in a vertex is so up to rounding; Newton's steps end sooner.
          of_active_(norm.is_of_entries() ? Real(64.0 * std::numeric_limits<Real>::epsilon() * (1.0 + W_.norm()))
                                          : error_) {
        if (norm.is_of_entries()) return;
        of_G_ = singular_bases(G_);
        of_W_ = singular_bases(W_);
    }

    bool are_known() const { return error_ < most_error; }
    // Of the cone of all that may belong to it, or of all that does
    std::int8_t are_only_zero(bool all_that_may) const {
        const double positive = all_that_may ? clearly : zero;
        const Real most = dual_.cwiseAbs().maxCoeff();
        std::vector<Index> equal, above;
        for (Index r = 0; r < constraints_.count(); ++r) {
            const Real next_to_nothing = zero * numext::abs(constraints_.rhs()[r]);
            const bool is_positive = constraints_.is_equality(r) || dual_[r] > positive * most;
            if (is_positive && (!all_that_may || excess_[r] <= next_to_nothing + of_active_))
                equal.push_back(r);
            else if (all_that_may ? excess_[r] + error_ < next_to_nothing : excess_[r] - error_ < clearly)
                above.push_back(r);
        }
        return norm_.is_of_entries() ? of_entries(equal, above, all_that_may)
                                     : of_singular_vectors(equal, above, all_that_may);
    }

   private:
    static constexpr double most_error = 1e-9;

    std::int8_t of_entries(const std::vector<Index>& equal, const std::vector<Index>& above, bool all_that_may) const {
        const double active = all_that_may ? zero : clearly, positive = all_that_may ? clearly : zero;
        const bool is_max = norm_.kind == SvmNorm::Kind::max;
        const Real force = G_.lpNorm<Eigen::Infinity>(), size = W_.lpNorm<Eigen::Infinity>();
        std::vector<Index> free, one_sided;  // one-sided are some of the free ones, by position
        for (Index k = 0; k < W_.size(); ++k) {
            const Real w = numext::abs(W_.data()[k]), g = numext::abs(G_.data()[k]);
            // The multiplier and the slack of a bound: |W| <= |W|_max, or |G| <= 1 and W = 0 where it is less
            const Real push = is_max ? g : force - g, slack = is_max ? size - w : w;
            if (push > positive * force && (!all_that_may || slack <= zero * size + of_active_)) continue;
            if (slack < active * size) one_sided.push_back(std::ssize(free));
            free.push_back(k);
        }
        const Index dimension = std::ssize(free);
        if (std::ssize(equal) + std::ssize(above) + std::ssize(one_sided) < dimension) return 0;
        Matrix T = Matrix::Zero(dimension, std::ssize(above) + std::ssize(one_sided));
        T.leftCols(std::ssize(above)) = constraints_.dense_rows(above)(free, Eigen::all);
        for (Index c = std::ssize(above); const Index k : one_sided) {
            const Index entry = free[static_cast<std::size_t>(k)];
            T(k, c++) = (is_max ? -W_.data()[entry] : G_.data()[entry]) > 0.0 ? 1.0 : -1.0;
        }
        return holds_for_zero_only(dimension, constraints_.dense_rows(equal)(free, Eigen::all), std::move(T));
    }

    // In singular vectors of G, and where some of W have the same value by chance, of all that may or do belong to
    // them.
    std::int8_t of_singular_vectors(const std::vector<Index>& equal, const std::vector<Index>& above,
                                    bool all_that_may) const {
        const bool is_spectral = norm_.kind == SvmNorm::Kind::spectral;
        // How many values are positive, or the largest, and how far these singular vectors are from the others
        const auto positive = [](const Vector& values) -> std::pair<Index, Real> {
            const Index count = (values.array() > clearly * values[0]).count();
            return {count, numext::abs2(values[count - 1] / values[0])};
        };
        const auto largest = [](const Vector& values) -> std::pair<Index, Real> {
            const Index count = (values.array() > (1.0 - clearly) * values[0]).count();
            return {count, count < values.size() ? Real(1.0 - values[count] / values[0]) : Real(1.0)};
        };
        const auto [r_of_G, apart_in_G] = is_spectral ? positive(of_G_.values) : largest(of_G_.values);
        const auto [r_of_W, apart_in_W] = is_spectral ? largest(of_W_.values) : positive(of_W_.values);
        const bool by_G = r_of_G == r_of_W ? apart_in_G > apart_in_W : all_that_may;
        const Index r = by_G ? r_of_G : r_of_W, k = constraints_.left(), l = constraints_.right();
        const SingularBases& bases = by_G ? of_G_ : of_W_;
        const Index dimension = is_spectral ? (rows_ - r) * (columns_ - r) : r * (r + 1) / 2;
        if (is_spectral && dimension > (k - r) * (l - r)) return 0;
        const Index tied_by_chance = std::max(r_of_G, r_of_W) - std::min(r_of_G, r_of_W);
        if (std::ssize(equal) + std::ssize(above) + tied_by_chance < dimension) return 0;
        const Matrix left = is_spectral ? bases.left.rightCols(k - r) : bases.left.leftCols(r),
                     right = is_spectral ? bases.right.rightCols(l - r) : bases.right.leftCols(r);
        const auto coordinates = [&](const Matrix& d) {
            if (is_spectral) return Vector(d.reshaped());
            Vector pairs(dimension);
            for (Index p = 0, at = 0; p < r; ++p)
                for (Index q = 0; q <= p; ++q)
                    pairs[at++] = p == q ? d(p, p) : (d(p, q) + d(q, p)) / numext::sqrt(Real(2.0));
            return pairs;
        };
        const std::vector<Index> sample = constraints_.map().sample_of_rows();
        const auto rows_of = [&](const std::vector<Index>& chosen) {
            const Matrix D = transpose_times(left, Matrix(constraints_.differences()(Eigen::all, chosen))),
                         Z = transpose_times(right, constraints_.queries());
            Matrix rows(dimension, std::ssize(chosen));
            for (Index c = 0; c < rows.cols(); ++c) {
                const Index i = sample[static_cast<std::size_t>(chosen[static_cast<std::size_t>(c)])];
                rows.col(c) = coordinates(D.col(c) * Z.col(i).transpose());
            }
            return rows;
        };
        // Where the ball bends at W, it is met along u v' by less in the spectral norm, and z z' by more in the nuclear
        Matrix T = rows_of(above);
        const Matrix here = transpose_times(left, times(W_, right));
        const auto append = [&](const Matrix& d) {
            T.conservativeResize(dimension, T.cols() + 1);
            T.rightCols(1) = coordinates(d);
        };
        if (r_of_G < r_of_W && is_spectral) {
            const SingularBases tied = singular_bases(here);
            for (Index c = 0; c < tied.values.size() && tied.values[c] > (1.0 - zero) * of_W_.values[0]; ++c)
                append(-tied.left.col(c) * tied.right.col(c).transpose());
        } else if (r_of_G > r_of_W && !is_spectral) {
            const SymmetricEigen tied = eigen(symmetric_part(here));
            for (Index c = 0; c < tied.values.size() && tied.values[c] < zero * of_W_.values[0]; ++c)
                append(tied.vectors.col(c) * tied.vectors.col(c).transpose());
        }
        return holds_for_zero_only(dimension, rows_of(equal), std::move(T), by_G ? apart_in_G : apart_in_W);
    }

    const Constraints& constraints_;
    const SvmNorm& norm_;
    Index rows_, columns_;
    const Matrix& W_;
    const Vector& dual_;
    Matrix G_;
    Vector excess_;
    Real error_, of_active_;     // of the excess, of all and of those with positive multipliers
    SingularBases of_G_, of_W_;  // where the norm is not one of entries
};

}  // namespace

std::int8_t uniqueness(const Constraints& constraints, const SvmNorm& norm, Index rows, Index columns,
                       const Candidate& found) {
    if (norm.kind == SvmNorm::Kind::power) return 1;
    if (!(found.distance <= nuclear::last_digits)) return -1;
    const Directions directions(constraints, norm, rows, columns, found);
    if (!directions.are_known()) return -1;
    if (directions.are_only_zero(true) == 1) return 1;
    return directions.are_only_zero(false) == 0 ? 0 : -1;
}

}  // namespace attsvm::inline ATTSVM_PRECISION
