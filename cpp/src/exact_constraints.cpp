// Compiled without contraction of products and sums (CMakeLists.txt), on which the error terms rely.
#include "attsvm/exact_constraints.hpp"

#include <cmath>
#include <limits>
#include <string_view>
#include <unordered_map>

#include "attsvm/four_doubles.hpp"

namespace attsvm {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// (high, low) += (a, a_low) b
ATTSVM_INLINE void add_product(double& high, double& low, double a, double a_low, double b) {
    const double product = a * b;
    const double total = high + product;
    low += sum_error(high, product, total) + (product_error(a, b, product) + a_low * b);
    high = total;
}

// a'b in twice the precision, for a with low parts `a_low` (null: none).
struct Sum {
    double high, low;
    double rounded() const { return high + low; }
};
template <class A>
Sum dot(Index count, A a, const double* b, const double* b_low) {
    constexpr Index strands = 8;
    double high[strands] = {}, low[strands] = {};
    Index j = 0;
    const auto step = [&](Index k, Index at) {
        double a_low = 0.0;
        const double a_high = a(at, a_low);
        add_product(high[k], low[k], a_high, a_low, b[at]);
        if (b_low != nullptr) low[k] += a_high * b_low[at];
    };
    for (; j + strands <= count; j += strands)
        for (Index k = 0; k < strands; ++k) step(k, j + k);
    for (Index k = 0; j < count; ++j, ++k) step(k, j);
    for (Index k = 1; k < strands; ++k) {
        const double total = high[0] + high[k];
        low[0] += sum_error(high[0], high[k], total) + low[k];
        high[0] = total;
    }
    return {high[0], low[0]};
}
auto without_low(const double* values) {
    return [values](Index j, double&) { return values[j]; };
}

// (high, low) += b (x, x_low) for arrays
void add_multiple(Index count, double b, const double* x, const double* x_low, double* high, double* low) {
    for (Index j = 0; j < count; ++j) add_product(high[j], low[j], x[j], x_low[j], b);
}
void add_multiple(Index count, double b, const double* x, double* high, double* low) {
    for (Index j = 0; j < count; ++j) add_product(high[j], low[j], x[j], 0.0, b);
}

// The difference of two tokens without rounding, as the sum of two numbers, times a power of two.
template <class Token>
struct ExactDifference {
    const Token *top, *token;
    double unit;

    double operator()(Index j, double& low) const {
        const auto x = static_cast<double>(token[j]);
        if (top == nullptr) return x * unit;
        const double a = static_cast<double>(top[j]), total = a - x;
        low = sum_error(a, -x, total) * unit;
        return total * unit;
    }
};

int exponent_of(double x) { return x > 0 ? std::ilogb(x) : 0; }

double largest(const double* x, Index count) {
    double most = 0.0;
    for (Index k = 0; k < count; ++k) most = std::max(most, std::abs(x[k]));
    return most;
}

}  // namespace

template <class Token>
ExactConstraints<Token>::ExactConstraints(const Team& team, Progress& progress, bool calling_thread,
                                          const SvmProblem<Token>& svm, const UnitConstraints& constraints)
    : team_(team),
      progress_(progress),
      calling_thread_(calling_thread),
      svm_(svm),
      constraints_(constraints),
      problem_(constraints.problem()),
      scale_exponent_(exponent_of(constraints.scale())),
      row_exponent_(problem_.size()),
      query_exponent_(svm.samples),
      constraint_sample_(problem_.size()),
      group_(svm.samples) {
    const Index n = svm.samples, e = svm.query_dimension;
    std::unordered_map<std::string_view, Index> known;
    for (Index i = 0; i < n; ++i) {
        const double norm = constraints.query_norm(i);
        query_exponent_[i] = exponent_of(norm);
        const std::string_view bytes(reinterpret_cast<const char*>(svm.query(i)),
                                     static_cast<std::size_t>(e) * sizeof(double));
        const auto [at, is_new] = known.try_emplace(bytes, queries());
        if (is_new) query_of_.push_back(i);
        group_[i] = at->second;
        for (Index r = problem_.map.start[i]; r < problem_.map.start[i + 1]; ++r) {
            constraint_sample_[r] = i;
            row_exponent_[r] = exponent_of(constraints.row_norm(r) / norm);
        }
    }
    Z_ = Buffer<double>(queries() * e);
    for (Index g = 0; g < queries(); ++g) {
        const Index i = query_of_[static_cast<std::size_t>(g)];
        for (Index c = 0; c < e; ++c) Z_[g * e + c] = std::ldexp(svm.query(i)[c], -query_exponent_[i]);
    }
    high_ = Buffer<double>(queries() * svm.dimension);
    low_ = Buffer<double>(queries() * svm.dimension);

    const Index d = svm.dimension;
    token_weight_ = Buffer<double>(d);
    query_weight_ = Buffer<double>(e);
    for (Index r = 0; r < problem_.size(); ++r)
        for (Index j = 0; j < d; ++j) token_weight_[j] = std::max(token_weight_[j], std::abs(problem_.map.row(r)[j]));
    for (Index g = 0; g < queries(); ++g) {
        const double size = attsvm::norm(Z_.data() + g * e, e);
        for (Index c = 0; c < e && size > 0; ++c)
            query_weight_[c] = std::max(query_weight_[c], std::abs(Z_[g * e + c]) / size);
    }
    for (Buffer<double>* const weights : {&token_weight_, &query_weight_})
        for (Index k = 0; k < weights->size(); ++k) {
            double& weight = (*weights)[k];  // where all are zero, so are the sums
            if (weight > 0) weight = 1.0 / std::min(1.0, weight * std::sqrt(static_cast<double>(weights->size())));
        }
}

template <class Token>
void ExactConstraints<Token>::row(Index r, FourDoubles* entries) const {
    const Index i = constraint_sample_[r], d = svm_.dimension, e = svm_.query_dimension;
    const ExactDifference<Token> difference{svm_.selected_token(i), token(r), std::ldexp(1.0, -row_exponent_[r])};
    for (Index j = 0; j < d; ++j) {
        double low = 0.0;
        const double high = difference(j, low);
        for (Index c = 0; c < e; ++c) entries[c * d + j] = (FourDoubles(high) + low) * Z_[group_[i] * e + c];
    }
}

template <class Token>
void ExactConstraints<Token>::factors(double* differences, double* lacking, double* queries) const {
    const Index d = svm_.dimension, e = svm_.query_dimension;
    for (Index i = 0; i < svm_.samples; ++i) std::copy_n(Z_.data() + group_[i] * e, e, queries + i * e);
    for (Index r = 0; r < problem_.size(); ++r) {
        const Index i = constraint_sample_[r];
        const ExactDifference<Token> difference{svm_.selected_token(i), token(r), std::ldexp(1.0, -row_exponent_[r])};
        for (Index j = 0; j < d; ++j) differences[r * d + j] = difference(j, lacking[r * d + j]);
    }
}

template <class Token>
void ExactConstraints<Token>::margins(const double* left, const double* right, Index factors, bool in_parts,
                                      double* values) {
    const Index n = svm_.samples, d = svm_.dimension, e = svm_.query_dimension;
    W_left_ = Buffer<double>();
    subtract(left, right, factors);
    const auto for_rows = [&](Index g, auto value) {  // of query g
        for (Index i = 0; i < n; ++i)
            for (Index r = problem_.map.start[i]; group_[i] == g && r < problem_.map.start[i + 1]; ++r)
                values[r] =
                    value(ExactDifference<Token>{svm_.selected_token(i), token(r), std::ldexp(1.0, -row_exponent_[r])});
    };
    if (in_parts) {
        Buffer<FourDoubles> y(d);
        for (Index g = 0; g < queries(); ++g) {
            std::fill(y.data(), y.data() + d, 0.0);
            for (Index k = 0; k < factors; ++k) {
                FourDoubles share = 0.0;
                for (Index c = 0; c < e; ++c) share += FourDoubles(W_right_[k * e + c]) * Z_[g * e + c];
                for (Index j = 0; j < d; ++j) y[j] += share * W_left_[k * d + j];
            }
            for_rows(g, [&](const ExactDifference<Token>& row) {
                FourDoubles total = 0.0;
                for (Index j = 0; j < d; ++j) {
                    double low = 0.0;
                    const double high = row(j, low);
                    total += (FourDoubles(high) + low) * y[j];
                }
                return static_cast<double>(total);
            });
        }
        W_left_ = Buffer<double>();
        return;
    }
    team_.for_ranges(queries(), [&](Index g, Index last, int thread) {
        Buffer<double> y(d), y_low(d);
        for (; g < last; ++g) {
            if (calling_thread_ && thread == 0) progress_.ask();
            std::fill(y.data(), y.data() + d, 0.0);
            std::fill(y_low.data(), y_low.data() + d, 0.0);
            for (Index k = 0; k < factors; ++k) {
                const Sum share = dot(e, without_low(W_right_.data() + k * e), Z_.data() + g * e, nullptr);
                if (share.high == 0 && share.low == 0) continue;
                const double* const row = W_left_.data() + k * d;
                add_multiple(d, share.high, row, y.data(), y_low.data());
                for (Index j = 0; j < d; ++j) y_low[j] += share.low * row[j];
            }
            for_rows(g,
                     [&](const ExactDifference<Token>& row) { return dot(d, row, y.data(), y_low.data()).rounded(); });
        }
    });
    W_left_ = Buffer<double>();
}

template <class Token>
void ExactConstraints<Token>::set_multipliers(const PartsOfMultipliers& parts, int unit) {
    W_left_ = Buffer<double>();
    V_ = Buffer<double>();
    const Index n = svm_.samples, d = svm_.dimension;
    std::fill(high_.data(), high_.data() + high_.size(), 0.0);
    std::fill(low_.data(), low_.data() + low_.size(), 0.0);
    weight_ = 0.0;
    Buffer<double> x(d), x_low(d);
    Buffer<FourDoubles> sums(parts[2] == nullptr ? 0 : high_.size());
    for (Index i = 0; i < n; ++i)
        for (Index r = problem_.map.start[i]; r < problem_.map.start[i + 1]; ++r) {
            if (parts[0][r] == 0) continue;
            double multiplier[parts_of_extended];
            for (std::size_t k = 0; k < parts.size(); ++k)
                multiplier[k] = parts[k] == nullptr ? 0.0 : std::ldexp(parts[k][r], exponent(r) - unit);
            const ExactDifference<Token> row{svm_.selected_token(i), token(r), std::ldexp(1.0, -row_exponent_[r])};
            for (Index j = 0; j < d; ++j) {
                double small = 0.0;
                x[j] = row(j, small);
                x_low[j] = small;
            }
            weight_ += std::ldexp(std::abs(multiplier[0]) * constraints_.row_norm(r), -exponent(r));
            if (sums.size() > 0) {
                const FourDoubles whole = FourDoubles::sum(multiplier);
                for (Index j = 0; j < d; ++j) sums[group_[i] * d + j] += whole * (FourDoubles(x[j]) + x_low[j]);
                continue;
            }
            double* const P = high_.data() + group_[i] * d;
            double* const P_low = low_.data() + group_[i] * d;
            add_multiple(d, multiplier[0], x.data(), x_low.data(), P, P_low);
            if (multiplier[1] != 0) add_multiple(d, multiplier[1], x.data(), P, P_low);
        }
    for (Index k = 0; k < sums.size(); ++k) high_[k] = sums[k].part[0], low_[k] = sums[k].part[1];
    for (Index k = 0; k < high_.size(); ++k) {
        const double total = high_[k] + low_[k];
        low_[k] -= total - high_[k];
        high_[k] = total;
    }
}

template <class Token>
void ExactConstraints<Token>::subtract(const double* left, const double* right, Index factors) {
    const Index d = svm_.dimension, e = svm_.query_dimension;
    W_left_ = Buffer<double>(factors * d);
    W_right_ = Buffer<double>(factors * e);
    for (Index k = 0; k < factors; ++k) {
        const int shift = exponent_of(largest(right + k * e, e));
        for (Index j = 0; j < d; ++j) W_left_[k * d + j] = std::ldexp(left[k * d + j], shift - scale_exponent_);
        for (Index c = 0; c < e; ++c) W_right_[k * e + c] = std::ldexp(right[k * e + c], -shift);
    }
}

template <class Token>
double ExactConstraints<Token>::norm_bound() const {
    const Index d = svm_.dimension, e = svm_.query_dimension;
    double total = 0.0;
    Buffer<double> row(d), query(e);
    for (Index g = 0; g < queries(); ++g) {
        for (Index j = 0; j < d; ++j) row[j] = high_[g * d + j] * token_weight_[j];
        for (Index c = 0; c < e; ++c) query[c] = Z_[g * e + c] * query_weight_[c];
        total += attsvm::norm(row.data(), d) * attsvm::norm(query.data(), e);
    }
    return total;
}

template <class Token>
bool ExactConstraints<Token>::affordable() const {
    constexpr double most_products = 2e10;
    const auto entries = static_cast<double>(svm_.dimension) * static_cast<double>(svm_.query_dimension);
    return static_cast<double>(queries()) * entries <= most_products;
}

template <class Token>
double ExactConstraints<Token>::norm(bool weighted) {
    if (!affordable()) return infinity;
    const Index d = svm_.dimension, e = svm_.query_dimension, factors = W_left_.size() / d;
    if (weighted) V_ = Buffer<double>(e * d);
    Buffer<double> squares(e);
    team_.for_ranges(e, [&](Index c, Index last, int thread) {
        Buffer<double> v(d), v_low(d);
        for (; c < last && !progress_.stopped(); ++c) {
            if (calling_thread_ && thread == 0) progress_.ask();
            std::fill(v.data(), v.data() + d, 0.0);
            std::fill(v_low.data(), v_low.data() + d, 0.0);
            for (Index g = 0; g < queries(); ++g)
                if (const double z = Z_[g * e + c]; z != 0)
                    add_multiple(d, z, high_.data() + g * d, low_.data() + g * d, v.data(), v_low.data());
            if (W_left_.size() > 0)
                for (Index k = 0; k < factors; ++k)
                    if (const double z = W_right_[k * e + c]; z != 0)
                        add_multiple(d, -z, W_left_.data() + k * d, v.data(), v_low.data());
            for (Index j = 0; j < d; ++j) v[j] += v_low[j];
            if (weighted) {
                std::copy(v.data(), v.data() + d, V_.data() + c * d);
                for (Index j = 0; j < d; ++j) v[j] *= token_weight_[j] * query_weight_[c];
            }
            const double size = attsvm::norm(v.data(), d);
            squares[c] = size * size;
        }
    });
    if (progress_.stopped()) return infinity;
    return std::sqrt(sum<double>(e, [&](Index c) { return squares[c]; }));
}

template <class Token>
void ExactConstraints<Token>::residual(bool kept, double* values) const {
    const Index d = svm_.dimension, e = svm_.query_dimension;
    team_.for_ranges(queries(), [&](Index g, Index last, int) {
        Buffer<double> y(d);
        for (; g < last; ++g) {
            const double size = attsvm::norm(Z_.data() + g * e, e);
            if (kept) rows_combine(V_.data(), e, d, Z_.data() + g * e, y.data());
            for (Index j = 0; j < d; ++j) y[j] = kept ? y[j] / size : high_[g * d + j] * size;
            for (Index i = 0; i < svm_.samples; ++i)
                if (group_[i] == g)
                    rows_dot(constraints_.problem().map.row(problem_.map.start[i]), problem_.map.rows(i), d, y.data(),
                             values + problem_.map.start[i]);
        }
    });
}

template <class Token>
double ExactConstraints<Token>::rounding() const {
    const auto terms = static_cast<double>(problem_.size() + svm_.samples + 16);
    constexpr double eps = std::numeric_limits<double>::epsilon();
    const auto entries = static_cast<double>(svm_.dimension) * static_cast<double>(svm_.query_dimension);
    return std::sqrt(entries) * terms * eps * eps * weight_;
}

template class ExactConstraints<double>;
template class ExactConstraints<float>;

}  // namespace attsvm
