#include "attsvm/thin_svd.hpp"

#include <cmath>
#include <functional>
#include <stdexcept>
#include <vector>

#include "attsvm/dense.hpp"
#include "attsvm/elementary.hpp"
#include "attsvm/products.hpp"

namespace attsvm {

namespace {

using Register = NativePack<double>;
constexpr Index width = native_lanes<double>;

constexpr double negligible = 1e-60;        // beside the largest singular value
constexpr Index least_preconditioned = 10;  // vectors: fewer are rotated sooner than eigenvectors are found

double dot(const double* x, const double* y, Index count) {
    constexpr Index strands = 4;
    Register total[strands] = {0.0, 0.0, 0.0, 0.0};
    Index k = 0;
    for (; k + strands * width <= count; k += strands * width)
        for (Index j = 0; j < strands; ++j) total[j] += load(x + k + j * width) * load(y + k + j * width);
    for (; k + width <= count; k += width) total[0] += load(x + k) * load(y + k);
    if (k < count) total[1] += load_some(x + k, count - k) * load_some(y + k, count - k);
    return sum_lanes((total[0] + total[1]) + (total[2] + total[3]));
}

// A register's width, or as many elements as there are.
template <class Count>
Register load_part(const double* x, Count count) {
    if constexpr (std::is_same_v<Count, Index>)
        return load_some(x, count);
    else
        return load(x);
}
template <class Count>
void store_part(double* x, Register value, Count count) {
    if constexpr (std::is_same_v<Count, Index>)
        store_some(x, value, count);
    else
        store(x, value);
}

double length_of(const double* x, Index count) { return norm_of_square(dot(x, x, count), x, count); }

// x, y <- c x - s y, s x + c y
void rotate_pair(double* x, double* y, Index count, double cosine, double sine) {
    const Register c(cosine), s(sine);
    Index k = 0;
    for (; k + width <= count; k += width) {
        const Register a = load(x + k), b = load(y + k);
        store(x + k, c * a - s * b);
        store(y + k, s * a + c * b);
    }
    if (k == count) return;
    const Register a = load_some(x + k, count - k), b = load_some(y + k, count - k);
    store_some(x + k, c * a - s * b, count - k);
    store_some(y + k, s * a + c * b, count - k);
}

double longest(const double* rows, Index count, Index length) {
    double most = 0.0;
    for (Index i = 0; i < count; ++i) most = larger(length_of(rows + i * length, length), most);
    return most;
}

// Q R of a matrix given by its columns, which are exchanged so that the longest rest comes next.
class PivotedQr {
   public:
    // columns (count, length) are overwritten.
    PivotedQr(Index count, Index length, double* columns)
        : length_(length), steps_(std::min(count, length)), column_(columns), order(count), reflector_(steps_) {
        for (Index i = 0; i < count; ++i) order[i] = i;
        Buffer<double> rest(count);
        for (Index i = 0; i < count; ++i) rest[i] = length_of(columns + i * length, length);
        for (Index s = 0; s < steps_; ++s) {
            const Index next = std::max_element(rest.data() + s, rest.data() + count) - rest.data();
            std::swap(rest[s], rest[next]);
            std::swap(order[s], order[next]);
            if (next != s) std::swap_ranges(at(s), at(s) + length, at(next));
            make_reflector(s, rest[s]);
            for_groups(count - s - 1, [&]<int many>(std::integral_constant<int, many>, Index i) {
                i += s + 1;
                reflect<many>(s, at(i), length);
                for (Index j = i; j < i + many; ++j) rest[j] = length_of(at(j) + s + 1, length - s - 1);
            });
        }
    }

    Index steps() const { return steps_; }
    // Entry of R in this row and in the column that was `order[i]`.
    double R(Index row, Index i) const {
        if (row == i) return diagonal_of(i);
        return row < i ? column_[i * length_ + row] : 0.0;
    }
    // Q x in place of each of `count` vectors x.
    void apply(Index count, double* x, Index stride) const {
        for_groups(count, [&]<int many>(std::integral_constant<int, many>, Index i) {
            for (Index r = steps_; r-- > 0;) reflect<many>(r, x + i * stride, stride);
        });
    }

   private:
    struct Reflector {
        double diagonal = 0.0, scale = 0.0;  // I - scale h h'
    };
    double* at(Index i) { return column_ + i * length_; }
    double diagonal_of(Index i) const { return reflector_[i].diagonal; }
    // h is left below and on the diagonal.
    void make_reflector(Index s, double rest) {
        if (!(rest > 0.0)) return;
        double* const h = at(s) + s;
        const double diagonal = h[0] > 0.0 ? -rest : rest;
        const double head = h[0] - diagonal;
        h[0] = 1.0;
        for (Index k = 1; k < length_ - s; ++k) h[k] /= head;
        reflector_[s] = {diagonal, -head / diagonal};
    }
    // action(constant, first) of vectors that share each read of a reflector
    template <class Action>
    static void for_groups(Index count, Action action) {
        constexpr int most = 4;
        Index i = 0;
        for (; i + most <= count; i += most) action(std::integral_constant<int, most>{}, i);
        for (; i < count; ++i) action(std::integral_constant<int, 1>{}, i);
    }
    // Of `many` vectors x, from where the columns of the matrix lie on a register's width.
    template <int many>
    void reflect(Index s, double* x, Index stride) const {
        const double* const h = column_ + s * length_;
        const Index aligned = length_ < 4 * width ? s : std::min((s + width - 1) / width * width, length_);
        const auto each = [&](auto action) {
            if (s < aligned) action(s, aligned - s);
            Index k = aligned;
            for (; k + width <= length_; k += width) action(k, std::integral_constant<Index, width>{});
            if (k < length_) action(k, length_ - k);
        };
        Register share[many];
        for (int j = 0; j < many; ++j) share[j] = 0.0;
        each([&](Index k, auto count) {
            const Register of_h = load_part(h + k, count);
            for (int j = 0; j < many; ++j) share[j] += of_h * load_part(x + j * stride + k, count);
        });
        for (int j = 0; j < many; ++j) share[j] = reflector_[s].scale * sum_lanes(share[j]);
        each([&](Index k, auto count) {
            const Register of_h = load_part(h + k, count);
            for (int j = 0; j < many; ++j) {
                double* const to = x + j * stride + k;
                store_part(to, load_part(to, count) - share[j] * of_h, count);
            }
        });
    }

    Index length_, steps_;
    double* column_;

   public:
    Buffer<Index> order;

   private:
    Buffer<Reflector> reflector_;
};

// Rows [x | y], rotated until all x are orthogonal.
class JacobiRotations {
   public:
    JacobiRotations(Index rows, Index length, Index stride, double* data)
        : rows_(rows), length_(length), stride_(stride), data_(data), square_(rows) {}

    void run() {
        constexpr int most_sweeps = 60;
        for (int sweep = 0; sweep < most_sweeps; ++sweep)
            if (!rotates_in_sweep()) return;
        throw std::runtime_error("singular values: rotations did not converge");
    }

   private:
    double* row(Index p) { return data_ + p * stride_; }
    void measure(Index p) { square_[p] = dot(row(p), row(p), length_); }

    bool rotates_in_sweep() {
        const double tolerance = 0x1p-104 * static_cast<double>(length_);  // of the square of a cosine
        bool rotated = false;
        for (Index p = 0; p < rows_; ++p) measure(p);
        for (Index p = 0; p + 1 < rows_; ++p) {
            // The longest first: convergence is faster.
            const Index longest = std::max_element(square_.data() + p, square_.data() + rows_) - square_.data();
            if (longest != p) {
                std::swap_ranges(row(p), row(p) + stride_, row(longest));
                std::swap(square_[p], square_[longest]);
            }
            for (Index q = p + 1; q < rows_; ++q) {
                const double product = dot(row(p), row(q), length_);
                if (!(product * product > tolerance * square_[p] * square_[q])) continue;
                rotate(p, q, product);
                rotated = true;
            }
        }
        return rotated;
    }
    void rotate(Index p, Index q, double product) {
        const double zeta = (square_[q] - square_[p]) / (2.0 * product);
        const double tangent = (zeta < 0.0 ? -1.0 : 1.0) / (std::abs(zeta) + std::sqrt(1.0 + zeta * zeta));
        const double cosine = 1.0 / std::sqrt(1.0 + tangent * tangent), sine = cosine * tangent;
        rotate_pair(row(p), row(q), stride_, cosine, sine);
        change_square(p, -tangent * product);
        change_square(q, tangent * product);
    }
    // Computed anew where a difference would lose digits.
    void change_square(Index p, double change) {
        const double before = square_[p];
        square_[p] += change;
        if (!(square_[p] > 0.5 * before)) measure(p);
    }

    Index rows_, length_, stride_;
    double* data_;
    Buffer<double> square_;
};

Buffer<double> transposed(Index rows, Index columns, const double* M) {
    Buffer<double> out(rows * columns);
    for (Index j = 0; j < rows; ++j)
        for (Index k = 0; k < columns; ++k) out[k * rows + j] = M[j * columns + k];
    return out;
}

// Columns of L = R' turned by an orthogonal V until they are orthogonal: rows [x | y] of the columns of L V and of V.
// Products from the right keep the accuracy of rows of L whose sizes differ: columns are turned by eigenvectors of L'L,
// then by rotations as far as they are not orthogonal yet (Drmac, Veselic, "New fast and accurate Jacobi SVD
// algorithm", 2008, turn them by a QR decomposition alone).
Buffer<double> orthogonal_columns(const PivotedQr& qr) {
    // Columns of only rounding have eigenvectors of their own: beside larger ones these would be inaccurate.
    constexpr double least_size = 0x1p-40;
    const Index count = qr.steps(), stride = 2 * count;
    Buffer<double> R(count * count), x(count * count), turned(count * stride);
    for (Index j = 0; j < count; ++j)
        for (Index i = j; i < count; ++i) R[j * count + i] = qr.R(j, i);
    const Team alone;
    for (Index first = 0, end = 0; first < count; first = end) {
        const double least = least_size * std::abs(qr.R(first, first));
        while (end < count && std::abs(qr.R(end, end)) >= least) ++end;
        const Index many = end - first;
        const double* const rows = R.data() + first * count;
        Matrix gram(many, many);
        multiply(alone, many, count, many, Strided<double>{rows, count, 1}, {}, transposed(many, count, rows).data(),
                 gram.data());
        const Matrix V = eigen(gram).vectors.rowwise().reverse();
        multiply(alone, many, many, count, Strided<double>{V.data(), many, 1}, {}, rows, x.data());
        for (Index k = 0; k < many; ++k) {
            double* const row = &turned[(first + k) * stride];
            std::copy_n(&x[k * count], count, row);
            std::copy_n(V.col(k).data(), many, row + count + first);
        }
    }
    JacobiRotations(count, count, stride, turned.data()).run();
    return turned;
}

}  // namespace

ThinSvd::ThinSvd(Index rows, Index columns, const double* G) : rows_(rows), columns_(columns) {
    decompose(columns, transposed(rows, columns, G).data(), nullptr);
}

ThinSvd::ThinSvd(Index depth, Index rows, Index columns, const double* left, const double* right)
    : rows_(rows), columns_(columns) {
    if (rows <= columns) {
        decompose(depth, left, right);
        return;
    }
    std::swap(rows_, columns_);
    decompose(depth, right, left);
    std::swap(rows_, columns_);
    std::swap(left_, right_);
}

Index ThinSvd::rank() const {
    Index k = 0;
    while (k < size() && value_[k] >= 1e-12 * value_[0]) ++k;
    return k;
}

// The terms are those of the identity where `right` is null.
void ThinSvd::decompose(Index depth, const double* left, const double* right) {
    // left' D = Q R P' with D the lengths of the rows of `right`: then R P' (rows of length 1) has rows whose sizes
    // differ, and rotations of rows are accurate.
    const double left_unit = longest(left, depth, rows_);
    const double right_unit = right == nullptr ? 1.0 : longest(right, depth, columns_);
    if (left_unit == 0.0 || right_unit == 0.0) return;
    Buffer<double> scaled(depth * rows_), unit(right == nullptr ? 0 : depth * columns_);
    for (Index i = 0; i < depth; ++i) {
        const double length = right == nullptr ? 1.0 : length_of(right + i * columns_, columns_);
        for (Index j = 0; j < rows_; ++j)
            scaled[i * rows_ + j] = left[i * rows_ + j] / left_unit * (length / right_unit);
        if (right != nullptr && length > 0.0)
            for (Index k = 0; k < columns_; ++k) unit[i * columns_ + k] = right[i * columns_ + k] / length;
    }
    const PivotedQr qr(depth, rows_, scaled.data());

    Buffer<double> W(qr.steps() * columns_);
    Buffer<Index> step(qr.steps());  // of each row of W
    Index count = 0;
    double longest_row = 0.0;
    for (Index s = 0; s < qr.steps(); ++s) {
        double* const w = W.data() + count * columns_;
        std::fill(w, w + columns_, 0.0);
        for (Index i = s; i < depth; ++i) {
            const double entry = qr.R(s, i);
            if (right == nullptr)
                w[qr.order[i]] = entry;
            else
                for (Index k = 0; k < columns_; ++k) w[k] += entry * unit[qr.order[i] * columns_ + k];
        }
        const double length = length_of(w, columns_);
        longest_row = larger(length, longest_row);
        if (length > negligible * longest_row) step[count++] = s;
    }

    if (count < least_preconditioned) {
        const Index stride = columns_ + rows_;
        Buffer<double> pairs(count * stride);  // rows [w | u]
        for (Index k = 0; k < count; ++k) {
            std::copy_n(&W[k * columns_], columns_, &pairs[k * stride]);
            pairs[k * stride + columns_ + step[k]] = 1.0;
        }
        qr.apply(count, &pairs[columns_], stride);
        JacobiRotations(count, columns_, stride, pairs.data()).run();
        take(count, columns_, rows_, pairs.data(), right_, left_);
    } else {
        // W = P L Q' with L = R'
        const PivotedQr second(count, columns_, W.data());
        const Buffer<double> turned = orthogonal_columns(second);
        const Index stride = rows_ + columns_;
        Buffer<double> pairs(count * stride);
        for (Index k = 0; k < count; ++k) {
            const double* const row = &turned[k * 2 * count];
            for (Index i = 0; i < count; ++i) pairs[k * stride + step[second.order[i]]] = row[i];
            std::copy_n(row + count, count, &pairs[k * stride + rows_]);
        }
        qr.apply(count, pairs.data(), stride);
        second.apply(count, &pairs[rows_], stride);
        take(count, rows_, columns_, pairs.data(), left_, right_);
    }
    for (Index k = 0; k < size(); ++k) value_[k] *= left_unit * right_unit;
}

// From rows [x | y] with orthogonal x and orthonormal y: |x|, falling, and x / |x| and y.
void ThinSvd::take(Index count, Index of_x, Index of_y, const double* pairs, Buffer<double>& x, Buffer<double>& y) {
    const auto at = [&](Index p) { return pairs + p * (of_x + of_y); };
    std::vector<std::pair<double, Index>> order;
    order.reserve(static_cast<std::size_t>(count));
    for (Index p = 0; p < count; ++p) order.emplace_back(length_of(at(p), of_x), p);
    std::ranges::stable_sort(order, std::greater{}, &std::pair<double, Index>::first);
    while (!order.empty() && !(order.back().first > negligible * order.front().first)) order.pop_back();
    count = std::ssize(order);
    value_ = Buffer<double>(count);
    x = Buffer<double>(count * of_x);
    y = Buffer<double>(count * of_y);
    for (Index k = 0; k < count; ++k) {
        const auto [length, p] = order[static_cast<std::size_t>(k)];
        value_[k] = length;
        for (Index j = 0; j < of_x; ++j) x[k * of_x + j] = at(p)[j] / length;
        std::copy_n(at(p) + of_x, of_y, &y[k * of_y]);
    }
}

}  // namespace attsvm
