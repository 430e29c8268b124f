// Nuclear-norm SVMs are certified by either method, with equalities and right-hand sides other than 1 too.
#include "attsvm/nuclear_svm.hpp"

#include <random>

#include "attsvm/dense.hpp"
#include "check.hpp"
#include "random_problem.hpp"

using attsvm::Buffer;
using attsvm::Index;
using attsvm::NuclearMethod;
using attsvm::SvmStatus;

namespace {

using attsvm::Matrix;

// Every singular value of M twice, and zeros: the absolute eigenvalues of [0 M; M' 0].
attsvm::Vector paired_singular_values(const Matrix& M) {
    const Index order = M.rows() + M.cols();
    Matrix both = Matrix::Zero(order, order);
    both.bottomLeftCorner(M.cols(), M.rows()) = M.transpose();
    return attsvm::eigenvalues(both).cwiseAbs();
}

struct OwnedSvm {
    Index n, T, d, e;
    Buffer<double> X, Z, rhs, dual, margins, left, right;
    Buffer<std::int64_t> selected, length;
    Buffer<bool> equality;
    double norm = 0.0, gap = 0.0, kkt = 0.0;
    std::int8_t status = -1, unique = -1;
    std::int64_t iterations = 0;

    OwnedSvm(Index n_, Index T_, Index d_, Index e_, unsigned seed)
        : n(n_),
          T(T_),
          d(d_),
          e(e_),
          X(n * T * d),
          Z(n * e),
          rhs(n * T),
          dual(n * T),
          margins(n * T),
          left(n * d),
          right(n * e),
          selected(n),
          length(n),
          equality(n * T) {
        std::mt19937_64 bits(seed);
        attsvm_test::fill_normal(X, bits);
        attsvm_test::fill_normal(Z, bits);
        std::uniform_int_distribution<std::int64_t> token(0, T - 1);
        for (Index i = 0; i < n; ++i) selected[i] = token(bits);
        std::fill(rhs.data(), rhs.data() + rhs.size(), 1.0);
        std::fill(length.data(), length.data() + n, T);
    }

    SvmStatus solve(NuclearMethod method) {
        attsvm::Progress progress(nullptr, 1.0);
        const attsvm::SvmBatch<double> batch{
            1, {n, T, d, e, X.data(), Z.data(), selected.data(), length.data(), rhs.data(), equality.data()}};
        attsvm::solve_nuclear(batch, method, {1e-9, 1e-9}, 1, progress,
                              {dual.data(), margins.data(), n, left.data(), right.data(), &norm, &gap, &kkt, &status,
                               &unique, &iterations});
        return static_cast<SvmStatus>(status);
    }

    // Optimal by weak duality alone: b'λ <= |W|_* for every λ with |A*(λ)|_op <= 1.
    void check_optimal() const {
        using Rows = Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
        const Matrix W = Rows(left.data(), n, d).transpose() * Rows(right.data(), n, e);
        Matrix G = Matrix::Zero(d, e);
        double gain = 0.0;
        for (Index i = 0; i < n; ++i)
            for (Index t = 0; t < length[i]; ++t) {
                if (t == selected[i]) continue;
                const Index at = i * T + t;
                const Rows tokens(X.data() + i * T * d, T, d);
                const Matrix row = (tokens.row(selected[i]) - tokens.row(t)).transpose() * Rows(Z.data() + i * e, 1, e);
                const double value = row.cwiseProduct(W).sum();
                CHECK(equality[at] ? std::abs(value - rhs[at]) < 1e-9 : value > rhs[at] - 1e-9);
                CHECK(std::abs(value - margins[at]) < 1e-10 * (1.0 + norm));
                CHECK(equality[at] || dual[at] >= 0.0);
                G += dual[at] * row;
                gain += rhs[at] * dual[at];
            }
        CHECK(std::abs(0.5 * paired_singular_values(W).sum() - norm) < 1e-11 * norm);
        CHECK(paired_singular_values(G).maxCoeff() < 1.0 + 1e-11);
        CHECK(std::abs(norm - gain) < 1e-8 * norm);
    }
};

void either_method_is_certified(Index n, Index T, Index d, Index e) {
    for (const NuclearMethod method :
         {NuclearMethod::automatic, NuclearMethod::interior_point, NuclearMethod::thresholding})
        for (unsigned seed = 0; seed < 6; ++seed) {
            OwnedSvm svm(n, T, d, e, seed);
            const bool optimal = svm.solve(method) == SvmStatus::optimal;
            CHECK(optimal);
            if (optimal) svm.check_optimal();
        }
}

void equalities_and_other_right_hand_sides_are_met() {
    Index solved = 0;
    for (unsigned seed = 0; seed < 20; ++seed) {
        OwnedSvm svm(4, 5, 8, 6, seed);
        std::mt19937_64 bits(seed);
        std::uniform_real_distribution<double> between(0.0, 2.0);
        for (Index r = 0; r < svm.rhs.size(); ++r) {
            svm.rhs[r] = std::max(between(bits) - 0.5, 0.0);
            svm.equality[r] = between(bits) < 0.3;
        }
        const SvmStatus status = svm.solve(NuclearMethod::automatic);
        CHECK(status != SvmStatus::unresolved);
        if (status != SvmStatus::optimal) continue;
        svm.check_optimal();
        ++solved;
    }
    CHECK(solved >= 10);
}

void opposite_constraints_are_infeasible() {
    OwnedSvm svm(2, 2, 3, 3, 1);
    std::copy(svm.X.data(), svm.X.data() + 6, svm.X.data() + 6);
    std::copy(svm.Z.data(), svm.Z.data() + 3, svm.Z.data() + 3);
    svm.selected[0] = 0;
    svm.selected[1] = 1;
    CHECK(svm.solve(NuclearMethod::automatic) == SvmStatus::infeasible);
    CHECK(svm.kkt < 1e-14);
}

}  // namespace

int main() {
    either_method_is_certified(1, 2, 1, 1);
    either_method_is_certified(6, 8, 10, 10);
    either_method_is_certified(5, 3, 40, 2);
    either_method_is_certified(12, 8, 20, 30);
    equalities_and_other_right_hand_sides_are_met();
    opposite_constraints_are_infeasible();
    return attsvm_test::report();
}
