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
constexpr Index most_terms = 512;
static_assert(most_terms * slices <= Index{1} << (53 - 2 * bits));

using Entries = Eigen::Ref<const FourDoublesMatrix>;

// Least e with |x| < 2^e, and 0 of what has none
int exponent(double x) { return x != 0.0 && std::isfinite(x) ? std::ilogb(x) + 1 : 0; }
int exponent_of_largest(const Eigen::Ref<const Eigen::ArrayXd>& x) { return exponent(x.abs().maxCoeff()); }

// A_ik 2^(shift_k - exponent_i) is Σ_s 2^(-bits (s + 1)) digits(i, k of slice s), each an integer of at most 2^bits.
struct Slices {
    Matrix digits;
    std::vector<int> exponent;

    Slices(const Entries& A, const std::vector<int>& shift, bool last_first)
        : digits(A.rows(), slices * A.cols()), exponent(static_cast<std::size_t>(A.rows())) {
        Eigen::ArrayXd rest[4];
        for (Eigen::ArrayXd& part : rest) part.resize(A.cols());
        for (Index i = 0; i < A.rows(); ++i) {
            for (Index k = 0; k < A.cols(); ++k)
                rest[0][k] = std::ldexp(A(i, k).part[0], shift[static_cast<std::size_t>(k)]);
            const int of_row = exponent_of_largest(rest[0]);
            exponent[static_cast<std::size_t>(i)] = of_row;
            for (Index k = 0; k < A.cols(); ++k)
                for (int p = 0; p < 4; ++p)
                    rest[p][k] = std::ldexp(A(i, k).part[p], shift[static_cast<std::size_t>(k)] - of_row);
            for (int s = 0; s < slices; ++s) {
                auto slice = digits.row(i).segment((last_first ? slices - 1 - s : s) * A.cols(), A.cols()).array();
                slice.setZero();
                for (Eigen::ArrayXd& part : rest) {
                    part *= 0x1p20;
                    const Eigen::ArrayXd whole = part.rint();
                    slice += whole.transpose();
                    part -= whole;
                }
            }
        }
    }
};
static_assert(bits == 20);

}  // namespace

void add_sliced_product(Eigen::Ref<FourDoublesMatrix> C, const FourDoubles& multiple, const Entries& A,
                        const Entries& B, bool symmetric) {
    constexpr Index most_columns = 64;
    double unit[slices];
    for (int s = 0; s < slices; ++s) unit[s] = std::ldexp(1.0, -bits * (s + 2));
    for (Index first_term = 0; first_term < A.cols(); first_term += most_terms) {
        const Index terms = std::min(most_terms, A.cols() - first_term);
        const auto of_A = A.middleCols(first_term, terms), of_B = B.middleCols(first_term, terms);
        std::vector<int> shift(static_cast<std::size_t>(terms)), back = shift;
        for (Index k = 0; k < terms; ++k) {
            const auto largest = [k](const auto& M) {
                return exponent_of_largest(M.col(k).unaryExpr([](const FourDoubles& x) { return x.part[0]; }).array());
            };
            const int by = (largest(of_B) - largest(of_A)) / 2;
            shift[static_cast<std::size_t>(k)] = by;
            back[static_cast<std::size_t>(k)] = -by;
        }
        const Slices left(of_A, shift, false), right(of_B, back, true);
        for (Index j = 0; j < B.rows(); j += most_columns) {
            const Index columns = std::min(most_columns, B.rows() - j), top = symmetric ? j : 0, rows = A.rows() - top;
            std::vector<Matrix> sums;  // of the products of slices s and t, for each s + t
            for (int s = 0; s < slices; ++s)
                sums.push_back(
                    times_transpose(left.digits.block(top, 0, rows, (s + 1) * terms),
                                    right.digits.block(j, (slices - 1 - s) * terms, columns, (s + 1) * terms)));
            for (Index c = 0; c < columns; ++c)
                for (Index r = symmetric ? c : 0; r < rows; ++r) {
                    double of_slices[slices];
                    for (int s = 0; s < slices; ++s) of_slices[s] = unit[s] * sums[static_cast<std::size_t>(s)](r, c);
                    FourDoubles entry = multiple * FourDoubles::sum(of_slices);
                    const int scale = left.exponent[static_cast<std::size_t>(top + r)] +
                                      right.exponent[static_cast<std::size_t>(j + c)];
                    for (double& part : entry.part) part = std::ldexp(part, scale);
                    C(top + r, j + c) += entry;
                }
        }
    }
}

}  // namespace attsvm
