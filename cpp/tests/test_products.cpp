// The core's products against Eigen's, in every shape that leaves a rest, and on any number of threads.
#include <Eigen/Core>
#include <array>
#include <random>

#include "check.hpp"
#include "random_problem.hpp"

using attsvm::Buffer;
using attsvm::Index;
using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

namespace {

Eigen::Map<const RowMajor> as_matrix(const Buffer<double>& values, Index rows, Index columns) {
    return {values.data(), rows, columns};
}

void products_agree_with_eigen() {
    std::mt19937_64 bits(3);
    for (const Index rows : {1, 2, 5, 6, 13})
        for (const Index depth : {1, 3, 40, 600})
            for (const Index columns : {1, 7, 8, 33, 100}) {
                Buffer<double> A(rows * depth), B(depth * columns), C(rows * columns), transposed(rows * columns);
                attsvm_test::fill_normal(A, bits);
                attsvm_test::fill_normal(B, bits);
                attsvm::multiply(attsvm::Team(1), rows, depth, columns, attsvm::Strided<double>{A.data(), depth, 1}, {},
                                 B.data(), C.data());
                const RowMajor expected = as_matrix(A, rows, depth).lazyProduct(as_matrix(B, depth, columns));
                CHECK((as_matrix(C, rows, columns) - expected).norm() <= 1e-14 * (1.0 + expected.norm()));
                // The same memory read as A', depth and rows exchanged.
                attsvm::multiply(attsvm::Team(3), rows, depth, columns, attsvm::Strided<double>{A.data(), 1, rows}, {},
                                 B.data(), transposed.data());
                const RowMajor other = as_matrix(A, depth, rows).transpose().lazyProduct(as_matrix(B, depth, columns));
                CHECK((as_matrix(transposed, rows, columns) - other).norm() <= 1e-14 * (1.0 + other.norm()));
            }
}

void rows_agree_with_eigen() {
    std::mt19937_64 bits(4);
    for (const Index rows : {1, 4, 7, 21})
        for (const Index d : {1, 8, 19, 40, 57, 63, 64, 65, 130}) {
            Buffer<double> X(rows * d), q(d), c(rows), a(rows), u(d);
            for (Buffer<double>* part : {&X, &q, &c}) attsvm_test::fill_normal(*part, bits);
            attsvm::rows_dot(X.data(), rows, d, q.data(), a.data());
            attsvm::rows_combine(X.data(), rows, d, c.data(), u.data());
            const Eigen::VectorXd dots = as_matrix(X, rows, d).lazyProduct(as_matrix(q, d, 1));
            const Eigen::VectorXd mixture = as_matrix(X, rows, d).transpose().lazyProduct(as_matrix(c, rows, 1));
            CHECK((as_matrix(a, rows, 1) - dots).norm() <= 1e-14 * (1.0 + dots.norm()));
            CHECK((as_matrix(u, d, 1) - mixture).norm() <= 1e-14 * (1.0 + mixture.norm()));
        }
}

// Groups of rows are summed as single rows are, those of a sample alone as those of many.
template <class Token>
void a_row_has_the_same_bits_among_any_others() {
    std::mt19937_64 bits(7);
    constexpr Index most = 21;
    for (Index d = 1; d <= 20; ++d) {
        Buffer<double> numbers(most * d), q(d), v(d);
        for (Buffer<double>* part : {&numbers, &q, &v}) attsvm_test::fill_normal(*part, bits);
        Buffer<Token> X(most * d);
        std::copy(numbers.data(), numbers.data() + numbers.size(), X.data());
        const auto of_rows = [&](Index first, Index count) {
            Buffer<double> dots(count), again(count), others(count), squares(count), squares_again(count);
            attsvm::rows_dot(X.data() + first * d, count, d, q.data(), dots.data());
            attsvm::Prefetcher none;
            attsvm::rows_dot(X.data() + first * d, count, d, q.data(), again.data(), squares_again.data(), none);
            CHECK(std::equal(dots.data(), dots.data() + count, again.data()));
            attsvm::rows_dot(X.data() + first * d, count, d, q.data(), again.data(), v.data(), others.data(),
                             squares.data(), none);
            CHECK(std::equal(dots.data(), dots.data() + count, again.data()));
            CHECK(std::equal(squares.data(), squares.data() + count, squares_again.data()));
            return std::array{std::move(dots), std::move(others), std::move(squares)};
        };
        for (const Index rows : {2, 3, 4, 7, 8, 15, 21}) {
            const auto together = of_rows(0, rows);
            for (Index t = 0; t < rows; ++t) {
                const auto alone = of_rows(t, 1);
                for (std::size_t k = 0; k < alone.size(); ++k) CHECK(alone[k][0] == together[k][t]);
            }
        }
    }
}

// Every lane of a product of packs is the product of its numbers.
void lanes_agree_with_eigen() {
    using Real = attsvm::NativePack<double>;
    constexpr int lane = attsvm::native_lanes<double> - 1;
    std::mt19937_64 bits(6);
    for (const Index rows : {1, 3, 4, 6, 7, 10, 17})
        for (const Index columns : {1, 5, 6, 10, 11, 23}) {
            const Index depth = 6;
            Buffer<double> A(rows * depth), B(depth * columns);
            Buffer<Real> packed_A(A.size()), packed_B(B.size()), C(rows * columns), dots(rows), mixture(columns);
            attsvm_test::fill_normal(A, bits);
            attsvm_test::fill_normal(B, bits);
            attsvm_test::put_in_lane(packed_A, A, lane);
            attsvm_test::put_in_lane(packed_B, B, lane);
            const auto agrees = [&](const Buffer<Real>& got, const auto& right) {
                Buffer<double> numbers(got.size());
                for (Index k = 0; k < got.size(); ++k) numbers[k] = attsvm::lane(got[k], lane);
                return (as_matrix(numbers, right.rows(), right.cols()) - right).norm() <= 1e-14 * (1.0 + right.norm());
            };
            attsvm::multiply(attsvm::Team(1), rows, depth, columns, attsvm::Strided<Real>{packed_A.data(), depth, 1},
                             {}, packed_B.data(), C.data());
            const RowMajor left = as_matrix(A, rows, depth), right = as_matrix(B, depth, columns);
            CHECK(agrees(C, RowMajor(left.lazyProduct(right))));
            attsvm::rows_dot(packed_A.data(), rows, depth, packed_B.data(), dots.data());
            const Eigen::Map<const Eigen::VectorXd> q(B.data(), depth);
            CHECK(agrees(dots, RowMajor(left.lazyProduct(q))));
            attsvm::rows_combine(packed_B.data(), depth, columns, packed_A.data(), mixture.data());
            CHECK(agrees(mixture, RowMajor(left.row(0).lazyProduct(right))));
        }
}

// Of one band of columns and of several, with blocks that do not divide the rows; all are large enough to be shared.
void threads_change_no_bit() {
    std::mt19937_64 bits(5);
    struct Shape {
        Index rows, depth, columns;
    };
    for (const auto [rows, depth, columns] :
         {Shape{50, 37, 213}, Shape{100, 64, 64}, Shape{130, 130, 20}, Shape{50, 600, 70}}) {
        const Index work = rows * depth * columns / attsvm::product_uses;
        CHECK(attsvm::worth_sharing(static_cast<double>(work)));
        Buffer<double> A(rows * depth), B(depth * columns), one(rows * columns), many(rows * columns);
        attsvm_test::fill_normal(A, bits);
        attsvm_test::fill_normal(B, bits);
        for (const int threads : {2, 3, 7}) {
            for (Buffer<double>* C : {&one, &many})
                attsvm::multiply(attsvm::Team(C == &one ? 1 : threads), rows, depth, columns,
                                 attsvm::Strided<double>{A.data(), depth, 1}, {}, B.data(), C->data());
            CHECK(std::equal(one.data(), one.data() + one.size(), many.data()));
        }
    }
}

}  // namespace

int main() {
    products_agree_with_eigen();
    rows_agree_with_eigen();
    a_row_has_the_same_bits_among_any_others<double>();
    a_row_has_the_same_bits_among_any_others<float>();
    lanes_agree_with_eigen();
    threads_change_no_bit();
    return attsvm_test::report();
}
