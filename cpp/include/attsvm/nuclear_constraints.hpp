// Constraints of a nuclear-norm SVM as matrices, and how far a point is from proof.
#pragma once

#include <limits>
#include <optional>
#include <vector>

#include "attsvm/dense.hpp"
#include "attsvm/svm_problem.hpp"

namespace attsvm::inline ATTSVM_PRECISION::nuclear {

// What is given in float64, as it is or copied to other numbers.
template <class Dense>
using Numbers = std::conditional_t<std::is_same_v<Real, double>, Eigen::Map<const Dense>, Dense>;

// A_r(W) = D_r' W l_i >= b_r, or = b_r, for a W of shape (k, l).
//
// Symmetric matrices of order k + l hold a block of each kind: [(k, k), (k, l); (l, k), (l, l)]. With u_r = (D_r, 0)
// and v_r = (0, l_i), A_r(W) is u_r' X v_r for any such X with W in its corner, and A*(λ) is the corner of Σ λ_r K_r,
// K_r = u_r v_r' + v_r u_r'.
class Constraints {
   public:
    // `lacking` (constraints, dimension), or null, is what rounding took from the differences of the problem.
    Constraints(const UnitProblem& problem, const Team& team, const double* lacking = nullptr);

    Index count() const { return problem_.size(); }
    Index left() const { return map().dimension; }
    Index right() const { return map().query_dimension; }
    Index order() const { return left() + right(); }
    bool is_equality(Index r) const { return problem_.equality[r]; }
    const Numbers<Vector>& rhs() const { return rhs_; }
    const UnitProblem& problem() const { return problem_; }
    const MarginMap& map() const { return problem_.map; }
    const Team& team() const { return team_; }
    const double* lacking() const { return lacking_; }
    // In columns: the D_r, and the l_i
    const Numbers<Matrix>& differences() const { return D_; }
    const Numbers<Matrix>& queries() const { return L_; }

    // A(W)
    Vector values(const Matrix& W) const;
    // A*(λ), and the same as the corner of a symmetric matrix with 0 on the diagonal
    Matrix adjoint(const Vector& dual) const;
    Matrix symmetric_adjoint(const Vector& dual) const;
    // The rows of A on the entries of W, as columns: all, or those of some constraints
    Matrix dense_rows() const;
    Matrix dense_rows(const std::vector<Index>& chosen) const;
    // The lower triangle of the matrix of λ -> A(corner of X K Y + Y K X), K = Σ λ_r K_r, for symmetric X and Y.
    Matrix coupling(const Matrix& X, const Matrix& Y) const;

   private:
    UnitProblem problem_;
    Team team_;
    const double* lacking_;
    Numbers<Vector> rhs_;
    Numbers<Matrix> D_, L_;
};

// Some of the constraints, in their order. Moves keep the memory that its views point to; it cannot be copied.
class ChosenConstraints {
   public:
    ChosenConstraints(const Constraints& all, std::vector<Index> chosen);

    Constraints constraints() const {
        return {{part_.map(), rhs_.data(), equality_.data()}, team_, lacking_.size() > 0 ? lacking_.data() : nullptr};
    }
    Index count() const { return part_.count(); }
    // The constraint that stands at position k.
    Index operator[](Index k) const { return part_[k]; }
    // λ of all constraints: that of the chosen ones, put back into its bounds, and 0.
    Vector of_all(const Constraints& all, const Vector& dual) const;
    // Whether the multiplier of each chosen inequality exceeds this share of the largest one.
    bool each_exceeds(double share, const Vector& dual) const;
    // Whether the values of all the other constraints exceed a bound.
    bool others_exceed(double bound, const Vector& values) const;
    // The constraints that a solution with these multipliers and values of all points to: without those of negative
    // multipliers, and with those that it misses. Nothing where they are the same, or none.
    std::optional<std::vector<Index>> revised(const Constraints& all, const Vector& dual, const Vector& values) const;

   private:
    std::vector<Index> chosen_;
    PartOfConstraints part_;
    Buffer<double> rhs_, lacking_;
    Buffer<bool> equality_;
    Team team_;
};

// The constraints in clusters whose unit rows nearly agree; an equality is alone.
std::vector<std::vector<Index>> clusters(const Constraints& constraints);

// Relative duality gap of a W with these values and norm and a λ with |A*(λ)|_op <= 1. A missed constraint raises the
// primal value by |λ_r| times the miss.
Real duality_gap(const Constraints& constraints, const Vector& values, Real norm, const Vector& dual);

// The distance of a candidate that needs no better one.
inline constexpr double last_digits = 1e-12;

// W, scaled to be feasible, and multipliers; and how far they are from proving each other optimal: their gap, or what W
// misses.
struct Candidate {
    Matrix W;
    Vector dual;
    Real distance = std::numeric_limits<double>::infinity();
    Index steps = 0;  // of the method that found it

    Candidate() = default;
    Candidate(const Constraints& constraints, Matrix W, Real norm, Vector dual);
    // Becomes the other one where that is nearer.
    void replace_by(Candidate&& other);
};

// Solves a face, and then those that its solution points to. `best` becomes the nearest candidate of them; the last is
// one that is `good`. A face has
//     bool newton()                        steps until its equations hold to rounding; false where they lead nowhere
//     Candidate candidate() const          W and λ as they stand, with λ put back into its bounds
//     std::optional<Face> revised() const  the face that the solution points to: without the constraints whose
//                                          multipliers are negative, and with those that it misses; nothing if the same
template <class Face>
void solve_faces(Face face, Real good, Candidate& best) {
    constexpr int most_faces = 6;
    for (int k = 0; k < most_faces && face.newton(); ++k) {
        best.replace_by(face.candidate());
        std::optional<Face> next = best.distance <= good ? std::nullopt : face.revised();
        if (!next) return;
        face = std::move(*next);
    }
}

}  // namespace attsvm::inline ATTSVM_PRECISION::nuclear
