#include "attsvm/dense.hpp"

#include <random>
#ifdef ATTSVM_OCTUPLE_PRECISION
#include "attsvm/sliced_products.hpp"
#endif

namespace attsvm::inline ATTSVM_PRECISION {
namespace {

#ifndef ATTSVM_OCTUPLE_PRECISION
// y += multiple x
void add_multiple(Index size, Real multiple, const Real* x, Real* y) {
    for (Index k = 0; k < size; ++k) y[k] += multiple * x[k];
}
Real inner_product(Index size, const Real* x, const Real* y) {
    return Eigen::Map<const Vector>(x, size).dot(Eigen::Map<const Vector>(y, size));
}
#endif

// C += multiple A B; only the lower triangle of it where C is `symmetric`. Eigen's kernels are for float64.
template <class Left, class Right>
void add_product(Eigen::Ref<Matrix> C, Real multiple, const Left& A, const Right& B, bool symmetric = false) {
    if constexpr (std::is_same_v<Real, double>) {
        if (symmetric)
            C.template triangularView<Eigen::Lower>() += multiple * A * B;
        else
            C.noalias() += multiple * A * B;
    } else {
        constexpr Index fewest = 20;  // from which on slices take less time
        if (std::min({A.rows(), A.cols(), B.cols()}) >= fewest)
            return add_sliced_product(C, multiple, A, B.transpose(), symmetric);
        const MatrixView& columns = A;
        for (Index j = 0; j < B.cols(); ++j)
            for (Index k = 0, first = symmetric ? j : 0; k < B.rows(); ++k)
                add_multiple(A.rows() - first, multiple * B(k, j), &columns.coeffRef(first, k), &C.coeffRef(first, j));
    }
}
template <class Left, class Right>
Matrix product(const Left& A, const Right& B) {
    if constexpr (std::is_same_v<Real, double>) {
        return A * B;
    } else {
        Matrix C = Matrix::Zero(A.rows(), B.cols());
        add_product(C, 1.0, A, B);
        return C;
    }
}

// The inverse of L times B, in place
template <class Right>
void solve_lower_in_place(const Matrix& L, Right& B) {
    if constexpr (std::is_same_v<Real, double>) {
        L.triangularView<Eigen::Lower>().solveInPlace(B);
    } else {
        for (Index c = 0; c < B.cols(); ++c)
            for (Index k = 0; k < L.rows(); ++k) {
                B(k, c) /= L(k, k);
                add_multiple(L.rows() - k - 1, -B(k, c), &L(k, k) + 1, &B(k, c) + 1);
            }
    }
}
// The inverse of L' times B, in place
template <class Right>
void solve_upper_in_place(const Matrix& L, Right& B) {
    if constexpr (std::is_same_v<Real, double>) {
        L.triangularView<Eigen::Lower>().adjoint().solveInPlace(B);
    } else {
        for (Index c = 0; c < B.cols(); ++c)
            for (Index k = L.rows() - 1; k >= 0; --k) {
                B(k, c) -= inner_product(L.rows() - k - 1, &L(k, k) + 1, &B(k, c) + 1);
                B(k, c) /= L(k, k);
            }
    }
}

// Turns x into a v whose reflection I - 2 v v' / v'v takes x to (r, 0, ..., 0), and returns r; it is 0 where x is.
Real reflect(Index size, Real* x) {
    Real largest = 0.0;
    for (Index k = 0; k < size; ++k) largest = std::max<Real>(largest, numext::abs(x[k]));
    if (!(largest > 0.0)) return 0.0;
    for (Index k = 0; k < size; ++k) x[k] /= largest;
    const Real length = numext::sqrt(inner_product(size, x, x)), reflected = x[0] > 0.0 ? -length : length;
    x[0] -= reflected;
    return reflected * largest;
}
// The reflection of y
void apply_reflection(Index size, const Real* v, Real square, Real* y) {
    add_multiple(size, -2.0 * inner_product(size, v, y) / square, v, y);
}

// The triangular factor of a tall G, by Householder's reflections
Matrix triangular_factor(Matrix G) {
    for (Index k = 0; k < G.cols(); ++k) {
        Real* const v = &G(k, k);
        const Index length = G.rows() - k;
        const Real reflected = reflect(length, v), square = inner_product(length, v, v);
        for (Index j = k + 1; j < G.cols() && reflected != 0.0; ++j) apply_reflection(length, v, square, &G(k, j));
        v[0] = reflected;
    }
    return G.topRows(G.cols()).triangularView<Eigen::Upper>();
}

// Q'AQ = tridiagonal, of an A in its lower triangle: its diagonal and what is beside it. Below the diagonal, A becomes
// the v of the reflections that Q is a product of.
void tridiagonalise(Matrix& A, Vector& diagonal, Vector& beside) {
    const Index order = A.rows();
    Vector p(order);
    for (Index k = 0; k + 1 < order; ++k) {
        const Index first = k + 1, length = order - first;
        Real* const v = &A(first, k);
        beside[k] = reflect(length, v);
        diagonal[k] = A(k, k);
        if (beside[k] == 0.0) continue;
        // With p = -2 A v / v'v and w = p - v p'v / v'v, A becomes A + v w' + w v'
        const Real square = inner_product(length, v, v);
        for (Index i = 0; i < length; ++i) p[i] = 0.0;
        for (Index j = 0; j < length; ++j) {
            const Real* const column = &A(first + j, first + j);
            p[j] += v[j] * column[0] + inner_product(length - j - 1, column + 1, v + j + 1);
            add_multiple(length - j - 1, v[j], column + 1, &p[j] + 1);
        }
        for (Index i = 0; i < length; ++i) p[i] *= -2.0 / square;
        add_multiple(length, -inner_product(length, p.data(), v) / square, v, p.data());
        for (Index j = 0; j < length; ++j) {
            Real* const column = &A(first + j, first + j);
            add_multiple(length - j, p[j], v + j, column);
            add_multiple(length - j, v[j], &p[j], column);
        }
    }
    if (order > 0) diagonal[order - 1] = A(order - 1, order - 1);
}

// A, as `tridiagonalise` leaves it, becomes Q.
void accumulate_reflections(Matrix& A, const Vector& beside) {
    const Index order = A.rows();
    for (Index first = order - 1; first >= 0; --first) {
        // the columns after this one hold the product of the later reflections
        for (Index j = first; j < order; ++j) A(first, j) = A(j, first) = j == first ? 1.0 : 0.0;
        if (first == 0 || beside[first - 1] == 0.0) continue;
        const Real* const v = &A(first, first - 1);
        const Real square = inner_product(order - first, v, v);
        for (Index j = first; j < order; ++j) apply_reflection(order - first, v, square, &A(first, j));
    }
}

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// Beside a largest entry of 1; its square has all digits.
constexpr double negligible = 1e-130;

// A step of the QR algorithm with Wilkinson's shift on the rows first to last of a tridiagonal matrix; the columns of Q
// take the rotations.
void qr_step(Vector& diagonal, Vector& beside, Index first, Index last, Matrix* Q) {
    const Real half = 0.5 * (diagonal[last - 1] - diagonal[last]), e = beside[last - 1];
    const Real root = numext::sqrt(half * half + e * e);
    const Real shift = diagonal[last] - e * (e / (half > 0.0 ? half + root : half - root));
    Real x = diagonal[first] - shift, z = beside[first];
    for (Index k = first; k < last && numext::abs(z) > negligible; ++k) {
        const Real length = numext::sqrt(x * x + z * z), c = x / length, s = z / length;
        if (k > first) beside[k - 1] = length;
        const Real d = diagonal[k], f = beside[k], g = diagonal[k + 1];
        const Real left = c * d + s * f, right = c * f + s * g;
        diagonal[k] = c * left + s * right;
        diagonal[k + 1] = s * (s * d - c * f) - c * (s * f - c * g);
        beside[k] = c * right - s * left;
        x = beside[k];
        if (k + 1 < last) {
            z = s * beside[k + 1];
            beside[k + 1] *= c;
        }
        if (Q == nullptr) continue;
        Real *const p = &(*Q)(0, k), *const q = &(*Q)(0, k + 1);
        for (Index i = 0; i < Q->rows(); ++i) {
            const Real turned = c * p[i] + s * q[i];
            q[i] = c * q[i] - s * p[i];
            p[i] = turned;
        }
    }
}

// The eigenvalues of A, rising, and its eigenvectors in place of it. (Golub, Van Loan, "Matrix computations", 2013,
// algorithms 8.3.1 and 8.3.3.)
void decompose(Vector& values, Matrix& A, bool with_vectors) {
    constexpr Index most_steps = 30;  // for each value
    const Index order = A.rows();
    Real unit = 0.0;
    for (Index j = 0; j < order; ++j)
        for (Index i = j; i < order; ++i) {
            if (!numext::isfinite(A(i, j))) {
                values.setConstant(not_a_number);
                A.setConstant(not_a_number);
                return;
            }
            unit = std::max<Real>(unit, numext::abs(A(i, j)));
        }
    if (unit == 0.0) unit = 1.0;
    A /= unit;
    Vector beside(order);
    tridiagonalise(A, values, beside);
    if (with_vectors) accumulate_reflections(A, beside);
    const Real rounding = std::numeric_limits<Real>::epsilon();
    Index last = order - 1, steps = most_steps * order;
    // Where the values are rounding themselves, what stands beside them need not become small in proportion.
    const Real least = numext::sqrt(rounding);
    const auto apart = [&](Index k) {
        const Real size = numext::abs(beside[k]);
        return !(size > rounding * std::max<Real>(least, numext::abs(values[k]) + numext::abs(values[k + 1])));
    };
    while (last > 0 && steps > 0) {
        if (apart(last - 1)) {
            --last;
            continue;
        }
        Index first = last - 1;
        while (first > 0 && !apart(first - 1)) --first;
        qr_step(values, beside, first, last, with_vectors ? &A : nullptr);
        --steps;
    }
    if (last > 0) values.setConstant(not_a_number);  // not found in so many steps
    values *= unit;
    for (Index k = 0; k + 1 < order; ++k) {
        const Index next = std::min_element(values.data() + k, values.data() + order) - values.data();
        std::swap(values[k], values[next]);
        if (with_vectors && next != k) std::swap_ranges(&A(0, k), &A(0, k) + order, &A(0, next));
    }
}

}  // namespace

Matrix times(const MatrixView& A, const MatrixView& B) { return product(A, B); }
Matrix transpose_times(const MatrixView& A, const MatrixView& B) { return product(A.transpose(), B); }
Matrix times_transpose(const MatrixView& A, const MatrixView& B) { return product(A, B.transpose()); }
void transpose_times(const MatrixView& A, const MatrixView& B, Eigen::Ref<Matrix> C) {
    C.setZero();
    add_product(C, 1.0, A.transpose(), B);
}
Vector apply(const MatrixView& A, const Vector& x) { return product(A, x); }
Vector apply_transpose(const MatrixView& A, const Vector& x) {
    if constexpr (std::is_same_v<Real, double>) {
        return A.transpose() * x;
    } else {
        Vector y(A.cols());
        for (Index k = 0; k < y.size(); ++k) y[k] = inner_product(A.rows(), &A.coeffRef(0, k), x.data());
        return y;
    }
}
void add_gram(Eigen::Ref<Matrix> M, Real multiple, const MatrixView& B) {
    add_product(M, multiple, B, B.transpose(), true);
}
Matrix smaller_gram(const Matrix& G) { return G.rows() < G.cols() ? times_transpose(G, G) : transpose_times(G, G); }

Vector fixed_random(Index size) {
    std::mt19937_64 bits(0);
    Vector entries(size);
    for (Real& entry : entries) entry = static_cast<double>(bits()) * 0x1p-63 - 1.0;
    return entries.normalized();
}

SymmetricEigen eigen(const Matrix& symmetric) {
    SymmetricEigen found{Vector(symmetric.rows()), symmetric};
    decompose(found.values, found.vectors, true);
    return found;
}
Vector eigenvalues(const Matrix& symmetric) {
    Vector values(symmetric.rows());
    Matrix work = symmetric;
    decompose(values, work, false);
    return values;
}

SingularBases singular_bases(const Matrix& G) {
    if (G.rows() < G.cols()) {
        SingularBases swapped = singular_bases(G.transpose());
        std::swap(swapped.left, swapped.right);
        return swapped;
    }
    const Index rows = G.rows(), columns = G.cols();
    SingularBases found{Vector(columns), Matrix::Identity(rows, rows),
                        eigen(transpose_times(G, G)).vectors.rowwise().reverse()};
    if (!found.right.allFinite()) {
        found.values.setConstant(not_a_number);
        return found;
    }
    // Columns that are orthogonal, by falling length: Householder's reflections take them to the axes.
    Matrix turned = times(G, found.right);
    for (Index k = 0; k < columns; ++k) {
        Real* const v = &turned(k, k);
        const Index length = rows - k;
        found.values[k] = reflect(length, v);
        if (found.values[k] == 0.0) continue;
        const Real square = inner_product(length, v, v);
        for (Index j = k + 1; j < columns; ++j) apply_reflection(length, v, square, &turned(k, j));
    }
    for (Index k = columns - 1; k >= 0; --k) {
        if (found.values[k] == 0.0) continue;
        const Index length = rows - k;
        const Real square = inner_product(length, &turned(k, k), &turned(k, k));
        for (Index j = k; j < rows; ++j) apply_reflection(length, &turned(k, k), square, &found.left(k, j));
    }
    for (Index k = 0; k < columns; ++k)
        if (found.values[k] < 0.0) {
            found.values[k] = -found.values[k];
            found.left.col(k) = -found.left.col(k);
        }
    return found;
}

Real spectral_norm(const Matrix& G) {
    return numext::sqrt(std::max<Real>(eigenvalues(smaller_gram(G)).maxCoeff(), 0.0));
}

// With R the triangular factor of G, the eigenvalues of [0 R; R' 0] are the singular values of G and their negatives.
Real nuclear_norm(const Matrix& G) {
    if (!G.allFinite()) return not_a_number;
    const Index size = std::min(G.rows(), G.cols());
    Matrix both = Matrix::Zero(2 * size, 2 * size);
    both.bottomLeftCorner(size, size) = triangular_factor(G.rows() < G.cols() ? Matrix(G.transpose()) : G);
    return 0.5 * eigenvalues(both).lpNorm<1>();
}

Cholesky::Cholesky(Matrix M, const GoesOn& goes_on) : L_(std::move(M)) {
    constexpr Index panel = 32;  // columns that plain loops work on; the rest is products
    const Index order = L_.rows();
    for (Index first = 0; first < order; first += panel) {
        if (goes_on && !goes_on()) return;
        const Index end = std::min(first + panel, order), rest = order - end;
        for (Index k = first; k < end; ++k) {
            for (Index j = first; j < k; ++j) add_multiple(order - k, -L_(k, j), &L_(k, j), &L_(k, k));
            if (!(L_(k, k) > 0.0)) return;
            L_(k, k) = numext::sqrt(L_(k, k));
            for (Index i = k + 1; i < order; ++i) L_(i, k) /= L_(k, k);
        }
        if (rest > 0) add_gram(L_.bottomRightCorner(rest, rest), -1.0, L_.block(end, first, rest, end - first));
    }
    succeeded_ = true;
}
Real Cholesky::smallest_pivot() const {
    Real smallest = 1.0;
    for (Index k = 0; k < L_.rows(); ++k)
        smallest = std::min<Real>(smallest, L_(k, k) * L_(k, k) / L_.row(k).head(k + 1).squaredNorm());
    return smallest;
}
Vector Cholesky::solve(Vector b) const {
    solve_lower_in_place(L_, b);
    solve_upper_in_place(L_, b);
    return b;
}
Matrix Cholesky::solve_columns(Matrix B) const {
    solve_lower_in_place(L_, B);
    solve_upper_in_place(L_, B);
    return B;
}
Matrix Cholesky::solve_lower(Matrix B, const GoesOn& goes_on) const {
    constexpr Index block = 64;
    const Index width = goes_on ? block : std::max<Index>(B.cols(), 1);
    for (Index c = 0; c < B.cols() && (!goes_on || goes_on()); c += width) {
        auto columns = B.middleCols(c, std::min(width, B.cols() - c));
        solve_lower_in_place(L_, columns);
    }
    return B;
}

Matrix symmetric_part(const Matrix& full) { return 0.5 * (full + full.transpose()); }
Cholesky factorised(const Matrix& M, const GoesOn& goes_on) {
    const Real rounding = static_cast<double>(M.rows() + 1) * std::numeric_limits<Real>::epsilon();
    Cholesky factor;
    for (const double times : {1.0, 10.0, 1e2, 1e3, 1e4}) {
        Matrix larger = M;
        larger.diagonal() *= Real(1.0) + times * rounding;
        factor = Cholesky(std::move(larger), goes_on);
        if (factor.succeeded()) break;
    }
    return factor;
}
Real definite_step(const Matrix& along) {
    const Real least = eigenvalues(along)[0];
    if (!numext::isfinite(least)) return 0.0;
    return least < 0.0 ? -1.0 / least : std::numeric_limits<double>::infinity();
}
Real definite_step(const Cholesky& factor, const Matrix& along) {
    return definite_step(factor.solve_lower(factor.solve_lower(along).transpose()));
}

std::vector<Index> independent_rows(const Matrix& M, Real least_pivot) {
    std::vector<Index> kept;
    Matrix L(M.rows(), M.rows());  // its first rows: of those that are kept
    for (Index r = 0; r < M.rows(); ++r) {
        const Index before = std::ssize(kept);
        Vector row(before);
        for (Index k = 0; k < before; ++k)
            row[k] = (M(r, kept[static_cast<std::size_t>(k)]) - L.row(k).head(k).dot(row.head(k))) / L(k, k);
        const Real pivot = M(r, r) - row.squaredNorm();
        if (!(pivot > least_pivot * M(r, r))) continue;
        L.row(before).head(before) = row;
        L(before, before) = numext::sqrt(pivot);
        kept.push_back(r);
    }
    return kept;
}

}  // namespace attsvm::inline ATTSVM_PRECISION
