// A block of parameters: a trained matrix, its gradient, and its steps.
#pragma once

#include "attsvm/step_rules.hpp"

namespace attsvm {

// Frobenius norm of a matrix with a row for each element of `row_square`, from square(row, j), the sum of its squares.
template <class Real, class Square>
Real matrix_norm(const Team& team, const Real* M, Index columns, Buffer<Real>& row_square, Square square_of) {
    const Index rows = row_square.size();
    team.for_work(rows * columns).for_ranges(rows, [&](Index j, Index last, int) {
        for (; j < last; ++j) row_square[j] = square_of(M + j * columns, j);
    });
    const Real square = sum<Real>(rows, [&](Index j) { return row_square[j]; });
    return norm_of_square(square, M, rows * columns);
}
template <class Real>
Real matrix_norm(const Team& team, const Real* M, Index columns, Buffer<Real>& row_square) {
    return matrix_norm(team, M, columns, row_square,
                       [columns](const Real* row, Index) { return sum_of_squares(row, columns); });
}

template <class Real>
struct Block {
    Real* value;
    Index rows, columns;
    bool transposed;  // whether the caller's matrix is the transpose of this one
    Buffer<Real> gradient, row_square;
    Buffer<Real> row_least;  // the least size of an entry of the gradient, where steps depend on the sign of each
    Real gradient_norm{0.0};
    Real value_bound{-1.0};  // at least |value|; -1 where it is not known
    Terms<Real> terms{};     // of the gradient, where they are known

    Block(Real* at, Index r, Index c, bool is_transposed = false)
        : value(at), rows(r), columns(c), transposed(is_transposed), gradient(r * c), row_square(r) {}
    Index size() const { return rows * columns; }

    void measure_gradient(const Team& team) {
        if (row_least.size() == 0) {
            gradient_norm = matrix_norm(team, gradient.data(), columns, row_square);
            return;
        }
        gradient_norm = matrix_norm(team, gradient.data(), columns, row_square, [this](const Real* row, Index j) {
            Real least(std::numeric_limits<double>::infinity());
            const Real square = sum<Real>(columns, [&](Index k) {
                least = smaller(magnitude(row[k]), least);
                return row[k] * row[k];
            });
            row_least[j] = least;
            return square;
        });
    }
    Real least_entry() const {
        Real least(std::numeric_limits<double>::infinity());
        for (Index j = 0; j < rows; ++j) least = smaller(row_least[j], least);
        return least;
    }

    // The `count`-th step, from 1, by the gradient in units of exp(log_unit), which is overwritten. It is taken
    // scale(log_unit, steepest) times, with the unit of what it is averaged to; every block has a length of its own.
    // Where the gradient is zero a block without momentum and weight decay is stationary: it stays.
    template <class Scale>
    void step(const Team& team, const StepRule& rule, int update, const BlockRate& of_block, std::int64_t count,
              Real log_unit, Scale scale) {
        const Real nothing(-std::numeric_limits<double>::infinity());
        const Real unit = select(gradient_norm != Real(0.0), log_unit, nothing);
        BlockStep<Real> at{};
        at.rate = Real(of_block.at(count));
        if (update == Updates::index_of<AdamUpdate>()) {
            prepare_adam(rule, unit, count, at);
        } else {
            if (rule.average != 0.0) log_unit = average(team, rule, of_block.geometry, unit);
            const Steepest<Real> steepest = direct(team, of_block.geometry, rule);
            // A norm that has overflown makes NaN of the step.
            at.scale = scale(log_unit, steepest) * (gradient_norm / or_one(gradient_norm));
            at.scale = select(gradient_norm != Real(0.0), at.scale, Real(0.0));
            const Real length = steepest.length;
            const Real far = select(length > Real(1e150), length, select(Real(1e-150) > length, length, Real(1.0)));
            if (any<Real>(far != Real(1.0))) at.scale = at.scale * divide_gradient(far);
            at.factor = at.rate * at.scale;
            at.beta = Real(rule.momentum);
        }
        const Real bound = value_bound + at.factor * gradient_norm;
        const double kept = 1.0 - of_block.at(count) * rule.weight_decay;
        Geometries::visit(of_block.geometry.kind, [&]<class Norm>(Norm) {
            if constexpr (Norm::has_mirror)
                if (rule.mirrors()) return move<Norm, true>(team, update, at, kept, of_block.geometry.p);
            move<Norm, false>(team, update, at, kept, of_block.geometry.p);
        });
        const bool bounded = update == Updates::index_of<PlainUpdate>() && rule.moves_along_gradients() &&
                             !any<Real>(value_bound < Real(0.0));
        value_bound = bounded ? bound : Real(-1.0);
    }

   private:
    // By a length so large or small that its product with the rate may leave float64 where the step does not.
    Real divide_gradient(Real length) {
        for (Index k = 0; k < size(); ++k) gradient[k] = gradient[k] / length;
        gradient_norm = gradient_norm / length;
        return length;
    }

    // Overwrites the gradient with the running mean that the step is made of; the mean's unit. Of terms with a left
    // side that stays the mean is one of their right sides.
    Real average(const Team& team, const StepRule& rule, const Geometry& geometry, Real unit) {
        const bool of_terms = Geometries::visit(geometry.kind, []<class Norm>(Norm) { return Norm::uses_terms; }) &&
                              terms.left_stays && terms.decide(rows, columns);
        const Index count = of_terms ? terms.depth : rows;
        if (of_terms && mean_terms.size() == 0) mean_terms = Buffer<Real>(count * columns);
        running.begin(count * columns, rule.average, unit);
        const double seen = rule.average_seen;
        const Real seen_old = running.old * Real(seen / rule.average);
        const Real seen_fresh = running.fresh * Real((1.0 - seen) / (1.0 - rule.average));
        const Real* const from = of_terms ? terms.right : gradient.data();
        Real* const to = of_terms ? mean_terms.data() : gradient.data();
        team.for_work(count * columns).for_ranges(count, [&](Index j, Index last, int) {
            for (Index k = j * columns; k < last * columns; ++k) {
                const Real before = running.value[k], slope = from[k];
                to[k] = seen_old * before + seen_fresh * slope;
                running.value[k] = running.old * before + running.fresh * slope;
            }
        });
        if (of_terms) {
            terms.right = to;
            multiply(team, rows, count, columns, Strided<Real>{terms.left, 1, rows}, {}, terms.right, gradient.data());
        } else {
            terms = {};
        }
        gradient_norm = matrix_norm(team, gradient.data(), columns, row_square);
        return running.log_unit;
    }

    // Overwrites the gradient with a multiple of its steepest direction; mirror descent leaves it as it is.
    Steepest<Real> direct(const Team& team, const Geometry& geometry, const StepRule& rule) {
        const MatrixBlock<Real> G{team,       rows,          columns, gradient.data(),      row_square.data(),
                                  transposed, gradient_norm, terms,   rule.asks_dual_norm()};
        return Geometries::visit(geometry.kind, [&]<class Norm>(Norm) -> Steepest<Real> {
            if (!rule.mirrors()) return Norm::direct(G, geometry);
            const Real length = Norm::norm(G, Norm::dual_p(geometry.p));
            return {length, or_one(length)};
        });
    }

    void prepare_adam(const StepRule& rule, Real unit, std::int64_t count, BlockStep<Real>& at) {
        const auto bias = [&](double beta) { return 1.0 - std::pow(beta, static_cast<double>(count)); };
        const double root = std::sqrt(bias(rule.adam_second_beta));
        running.begin(size(), rule.adam_beta, unit);
        running_square.begin(size(), rule.adam_second_beta, unit, 2.0);
        const Real square_unit = running_square.log_unit;
        const Real apart = select(square_unit == running.log_unit, Real(0.0), running.log_unit - square_unit);
        at.mean_old = running.old;
        at.mean_fresh = running.fresh;
        at.square_old = running_square.old;
        at.square_fresh = running_square.fresh;
        at.adam_rate = at.rate * Real(root / bias(rule.adam_beta)) * exp(apart);
        at.epsilon = rule.adam_epsilon == 0.0 ? Real(0.0) : Real(rule.adam_epsilon * root) * exp(-square_unit);
        at.root_mean_square = running_square.value.data();
    }

    // Moves the block, or by mirror descent the gradient of norm^p / p there.
    template <class Norm, bool mirrors>
    void move(const Team& team, int update, BlockStep<Real> at, double kept, double p) {
        if constexpr (mirrors) {
            if (dual.size() == 0) {
                dual = Buffer<Real>(size());
                for (Index k = 0; k < size(); ++k) dual[k] = Norm::mirror(value[k], p);
            }
            if (kept != 1.0) kept = Norm::mirror(kept, p);
        }
        at.value = mirrors ? dual.data() : value;
        at.gradient = gradient.data();
        Updates::visit(update, [&]<class Update>(Update) {
            if (Update::keeps_velocity && velocity.size() == 0) velocity = Buffer<Real>(size());
            at.mean = Update::keeps_velocity ? velocity.data() : running.value.data();
            team.for_work(size()).for_ranges(rows, [&](Index j, Index last, int) {
                const Index begin = j * columns, end = last * columns;
                if (kept != 1.0)
                    for (Index k = begin; k < end; ++k) at.value[k] *= Real(kept);
                Update::template apply<Norm>(at, begin, end);
                if constexpr (mirrors)
                    for (Index k = begin; k < end; ++k) value[k] = Norm::inverse_mirror(dual[k], p);
            });
        });
    }

    // Kept from step to step; empty until they are needed.
    RunningMean<Real> running, running_square;
    Buffer<Real> velocity, dual, mean_terms;
};

}  // namespace attsvm
