#include "attsvm/thin_svd.hpp"

#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "attsvm/elementary.hpp"

namespace attsvm {

namespace {

using Register = NativePack<double>;
constexpr Index width = native_lanes<double>;

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
            for (Index i = s + 1; i < count; ++i) {
                reflect(s, at(i));
                rest[i] = length_of(at(i) + s + 1, length - s - 1);
            }
        }
    }

    Index steps() const { return steps_; }
    // Entry of R in this row and in the column that was `order[i]`.
    double R(Index row, Index i) const {
        if (row == i) return diagonal_of(i);
        return row < i ? column_[i * length_ + row] : 0.0;
    }
    // The s-th column of Q.
    void basis(Index s, double* q) const {
        std::fill(q, q + length_, 0.0);
        q[s] = 1.0;
        for (Index r = s + 1; r-- > 0;) reflect(r, q);
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
    void reflect(Index s, double* x) const {
        const double* const h = column_ + s * length_ + s;
        double* const from = x + s;
        const double share = reflector_[s].scale * dot(h, from, length_ - s);
        for (Index k = 0; k < length_ - s; ++k) from[k] -= share * h[k];
    }

    Index length_, steps_;
    double* column_;

   public:
    Buffer<Index> order;

   private:
    Buffer<Reflector> reflector_;
};

// Rows [w | u], rotated until all w are orthogonal.
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
    PivotedQr qr(depth, rows_, scaled.data());

    const Index stride = columns_ + rows_;
    Buffer<double> work(qr.steps() * stride);
    Index count = 0;
    double longest_row = 0.0;
    for (Index s = 0; s < qr.steps(); ++s) {
        double* const w = work.data() + count * stride;
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
        if (length <= 1e-60 * longest_row) continue;
        qr.basis(s, w + columns_);
        ++count;
    }
    JacobiRotations(count, columns_, stride, work.data()).run();

    std::vector<Index> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), Index{0});
    Buffer<double> length(count);
    for (Index p = 0; p < count; ++p) length[p] = length_of(work.data() + p * stride, columns_);
    std::stable_sort(order.begin(), order.end(), [&](Index p, Index q) { return length[p] > length[q]; });
    value_ = Buffer<double>(count);
    left_ = Buffer<double>(count * rows_);
    right_ = Buffer<double>(count * columns_);
    for (Index k = 0; k < count; ++k) {
        const Index p = order[static_cast<std::size_t>(k)];
        const double* const w = work.data() + p * stride;
        value_[k] = length[p] * left_unit * right_unit;
        for (Index j = 0; j < columns_; ++j) right_[k * columns_ + j] = w[j] / length[p];
        std::copy_n(w + columns_, rows_, &left_[k * rows_]);
    }
}

}  // namespace attsvm
