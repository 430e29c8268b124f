// A matrix is a sum of slices, each of the same few bits of all entries of a row. Products of slices, and their sums,
// have no more bits than float64: they are exact, whatever the order in which a fast product sums them (Ozaki, Ogita,
// Oishi, Rump, "Error-free transformations of matrix multiplication by using fast routines of matrix multiplication and
// its applications", Numerical Algorithms 59, 2012).
#include "attsvm/sliced_products.hpp"

#include <vector>

#include "attsvm/dense.hpp"

namespace attsvm {
namespace {

constexpr int bits = 20, slices = 11;
constexpr double base = 0x1p20;  // 2^bits
constexpr Index most_terms = 512;
static_assert(static_cast<double>(most_terms* slices) * base * base <= 0x1p53);

using Entries = Eigen::Ref<const FourDoublesMatrix>;
using Exponents = Eigen::ArrayXXi;

// Least e with |x| < 2^e, and 0 of what is not finite. Of 0 it is so low that what a column of zeros is multiplied by
// is shifted below all else.
int exponent(double x) {
    constexpr int of_zero = -4096;
    return x == 0.0 ? of_zero : std::isfinite(x) ? std::ilogb(x) + 1 : 0;
}
Exponents exponents(const Entries& A) {
    return A.unaryExpr([](const FourDoubles& x) { return exponent(x.part[0]); });
}

// A_ik 2^(shift_k - exponent_i) is Σ_s 2^(-bits (s + 1)) digits(i, k of slice s), each an integer of at most 2^bits.
struct Slices {
    Matrix digits;
    Eigen::ArrayXi exponent;

    Slices(const Entries& A, const Exponents& scaled, const Eigen::ArrayXi& shift, bool last_first)
        : digits(A.rows(), slices * A.cols()), exponent(scaled.rowwise().maxCoeff()) {
        Eigen::ArrayXd rest[4];
        for (Eigen::ArrayXd& part : rest) part.resize(A.cols());
        for (Index i = 0; i < A.rows(); ++i) {
            for (Index k = 0; k < A.cols(); ++k)
                for (int p = 0; p < 4; ++p) rest[p][k] = std::ldexp(A(i, k).part[p], shift[k] - exponent[i]);
            for (int s = 0; s < slices; ++s) {
                auto slice = digits.row(i).segment((last_first ? slices - 1 - s : s) * A.cols(), A.cols()).array();
                slice.setZero();
                for (Eigen::ArrayXd& part : rest) {
                    part *= base;
                    const Eigen::ArrayXd whole = part.rint();
                    slice += whole.transpose();
                    part -= whole;
                }
            }
        }
    }
};

}  // namespace

void add_sliced_product(Eigen::Ref<FourDoublesMatrix> C, const FourDoubles& multiple, const Entries& A,
                        const Entries& B, bool symmetric) {
    constexpr Index most_columns = 64;
    double unit[slices];
    for (int s = 0; s < slices; ++s) unit[s] = std::ldexp(1.0, -bits * (s + 2));
    for (Index first_term = 0; first_term < A.cols(); first_term += most_terms) {
        const Index terms = std::min(most_terms, A.cols() - first_term);
        const auto of_A = A.middleCols(first_term, terms), of_B = B.middleCols(first_term, terms);
        Exponents exponents_A = exponents(of_A), exponents_B = exponents(of_B);
        const Eigen::ArrayXi shift =
            (exponents_B.colwise().maxCoeff() - exponents_A.colwise().maxCoeff()).transpose() / 2;
        exponents_A.rowwise() += shift.transpose();
        exponents_B.rowwise() -= shift.transpose();
        const Slices left(of_A, exponents_A, shift, false), right(of_B, exponents_B, -shift, true);
        for (Index j = 0; j < B.rows(); j += most_columns) {
            const Index columns = std::min(most_columns, B.rows() - j), top = symmetric ? j : 0, rows = A.rows() - top;
            std::vector<Matrix> sums;  // of the products of slices s and t, for each s + t
            sums.reserve(slices);
            for (int s = 0; s < slices; ++s)
                sums.push_back(
                    times_transpose(left.digits.block(top, 0, rows, (s + 1) * terms),
                                    right.digits.block(j, (slices - 1 - s) * terms, columns, (s + 1) * terms)));
            for (Index c = 0; c < columns; ++c)
                for (Index r = symmetric ? c : 0; r < rows; ++r) {
                    double of_slices[slices];
                    for (int s = 0; s < slices; ++s) of_slices[s] = unit[s] * sums[static_cast<std::size_t>(s)](r, c);
                    FourDoubles entry = multiple * FourDoubles::sum(of_slices);
                    const int scale = left.exponent[top + r] + right.exponent[j + c];
                    for (double& part : entry.part) part = std::ldexp(part, scale);
                    C(top + r, j + c) += entry;
                }
        }
    }
}

}  // namespace attsvm
