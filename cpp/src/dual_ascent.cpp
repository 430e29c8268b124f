#include "attsvm/dual_ascent.hpp"

#include <bit>

#include "attsvm/dense.hpp"

namespace attsvm {

namespace {

// K's blocks of constraints of one sample, inverted: what stands between two samples is left out, and between the
// constraints of a sample with very many.
class SampleBlocks {
   public:
    SampleBlocks(const Team& team, const MarginMap& map) : team_(team), map_(map) {
        constexpr Index largest = 128;
        for (Index i = 0; i < map.samples; ++i)
            for (Index r = map.start[i]; r < map.start[i + 1];) {
                const Index rows = std::min(largest, map.start[i + 1] - r);
                const Index at = blocks_.empty() ? 0 : blocks_.back().at + blocks_.back().rows * blocks_.back().rows;
                blocks_.push_back({r, rows, at});
                r += rows;
            }
        if (blocks_.empty()) return;
        inverses_ = Buffer<double>(blocks_.back().at + blocks_.back().rows * blocks_.back().rows);
        each_block([&](const Block& block) { invert(block); });
    }

    // z = M r with M near the inverse of K
    void apply(const double* r, double* z) const {
        each_block([&](const Block& block) {
            rows_dot(inverses_.data() + block.at, block.rows, block.rows, r + block.first, z + block.first);
        });
    }

   private:
    struct Block {
        Index first, rows;  // constraints
        Index at;           // of the inverse in inverses_
    };

    template <class Task>
    void each_block(Task task) const {
        team_.for_ranges(std::ssize(blocks_), [&](Index k, Index last, int) {
            for (; k < last; ++k) task(blocks_[static_cast<std::size_t>(k)]);
        });
    }
    void invert(const Block& block) {
        constexpr double shift = 1e-2;  // of the unit diagonal, for blocks with dependent rows
        const Index rows = block.rows;
        const double* const D = map_.row(block.first);
        Matrix K(rows, rows);
        for (Index r = 0; r < rows; ++r) {
            rows_dot(D + r * map_.dimension, rows - r, map_.dimension, D + r * map_.dimension, &K(r, r));
            K(r, r) += shift;
        }
        Eigen::Map<Matrix>(inverses_.data() + block.at, rows, rows) =
            Cholesky(std::move(K)).solve_columns(Matrix::Identity(rows, rows));
    }

    Team team_;
    const MarginMap& map_;
    std::vector<Block> blocks_;
    Buffer<double> inverses_;
};

}  // namespace

ConjugateGradients conjugate_gradients(const Team& team, Progress& progress, bool calling_thread, const MarginMap& map,
                                       Buffer<double>& b, Buffer<double>& x, double aim, int most_steps) {
    const Index count = b.size();
    const SampleBlocks blocks(team, map);
    MarginProducts products(team, map);
    Buffer<double> z(count), p(count), q(count);
    double weight = 0.0;
    int k = 0;
    for (; norm(b.data(), count) > aim; ++k) {
        if (k == most_steps || progress.stopped()) return {k, k == most_steps};
        blocks.apply(b.data(), z.data());
        const double weight_before = weight;
        weight = sum<double>(count, [&](Index j) { return b[j] * z[j]; });
        const double turn = k == 0 ? 0.0 : weight / weight_before;
        for (Index j = 0; j < count; ++j) p[j] = z[j] + turn * p[j];
        products.adjoint(p.data());
        const double size = products.norm();
        const double step = weight / (size * size);
        if (!std::isfinite(step)) break;
        products.margins(q.data());
        for (Index j = 0; j < count; ++j) {
            x[j] += step * p[j];
            b[j] -= step * q[j];
        }
        if (calling_thread) progress.ask();
    }
    return {k, false};
}

namespace {

class DualAscent {
   public:
    DualAscent(const UnitProblem& problem, const Team& team, Progress& progress, bool calling_thread)
        : problem_(problem),
          map_(problem.map),
          team_(team),
          progress_(progress),
          calling_thread_(calling_thread),
          products_(team, problem.map),
          value_(problem.size()),
          y_(map_.dimension),
          y_before_(map_.dimension) {}

    // Raises the dual from λ, until λ is the solution up to rounding, or proves that there is none, or about
    // `most_products` products with A and A* are spent. Which of these it was is for a certificate to say.
    void run(double* dual, double most_products) {
        scale_start(dual);
        std::vector<Index> active, active_before;
        double missing_before = std::numeric_limits<double>::infinity();
        for (bool settled = false; spent_ < most_products && !progress_.stopped();) {
            ++iterations_;
            if (!settled) {
                for (int k = 0; k < sweeps; ++k) sweep(dual);
                set(dual);
                products_.margins(value_.data());
            }
            active_before.swap(active);
            active = active_guess(dual);
            note(dual, std::ssize(active));
            const Index changed = difference(active, active_before);
            const double accuracy = wanted_accuracy(changed, std::ssize(active));
            settled = correct(dual, active, accuracy);
            if (settled) {
                products_.margins(value_.data());
                const double missing = largest_residual(dual);
                if (missing <= UnitProblem::rounding(norm_)) return;
                if (changed == 0 && accuracy == 0.0 && missing > 0.5 * missing_before) return;  // rounding, after all
                missing_before = missing;
            } else if (cut_short_ && std::has_single_bit(static_cast<std::size_t>(iterations_)) &&
                       find_contradiction(dual)) {
                return;
            }
        }
    }
    Index iterations() const { return iterations_; }

   private:
    static constexpr int sweeps = 3;

    // Of the step on the active constraints, relative: it need not be exact while the guess of them changes much.
    static double wanted_accuracy(Index changed, Index active) {
        if (20 * changed > active) return 0.1;
        return 100 * changed > active ? 1e-3 : 0.0;
    }

    // W of λ, its norm and the dual value
    void set(const double* dual) {
        products_.adjoint(dual);
        norm_ = products_.norm();
        objective_ = gain(dual) - 0.5 * norm_ * norm_;
        spent_ += 1.0;
    }
    double gain(const double* dual) const {
        return sum<double>(problem_.size(), [&](Index r) { return problem_.rhs[r] * dual[r]; });
    }
    // The best multiple of a guess.
    void scale_start(double* dual) {
        if (all_zero(dual, problem_.size())) return;
        set(dual);
        const double best = norm_ > 0 ? std::max(gain(dual), 0.0) / (norm_ * norm_) : 0.0;
        for (Index r = 0; r < problem_.size(); ++r) dual[r] *= best;
        set(dual);
    }
    // W is feasible divided by its smallest margin over what is asked; weak duality bounds every solution from below.
    void note(const double* dual, Index active) {
        if (!calling_thread_ || !(norm_ > 0)) return;
        double share = std::numeric_limits<double>::infinity();
        for (Index r = 0; r < problem_.size(); ++r)
            if (problem_.rhs[r] > 0) share = std::min(share, value_[r] / problem_.rhs[r]);
        progress_.note(1.0 - gain(dual) / (norm_ * norm_) * share, active);
    }
    // Of the conditions that λ solves the problem; value_ holds A(W).
    double largest_residual(const double* dual) const {
        double largest = 0.0;
        for (Index r = 0; r < problem_.size(); ++r) {
            const double missing = problem_.rhs[r] - value_[r];
            largest = std::max(largest, dual[r] != 0 || problem_.equality[r] ? std::abs(missing) : missing);
        }
        return largest;
    }

    // Exact ascent along every multiplier that can rise, one after the other.
    void sweep(double* dual) {
        const Index d = map_.dimension;
        constexpr int passes = 2;
        double* const y = y_.data();
        for (Index i = 0; i < map_.samples; ++i) {
            if (map_.rows(i) == 0) continue;
            const Index first = map_.start[i], last = map_.start[i + 1];
            map_.direction(products_.V().data(), i, y);
            std::copy(y, y + d, y_before_.data());
            rows_dot(map_.row(first), last - first, d, y, value_.data() + first);
            for (int pass = 0; pass < passes; ++pass)
                for (Index r = first; r < last; ++r) {
                    if (!problem_.equality[r] && !(dual[r] > 0) && value_[r] >= problem_.rhs[r]) continue;
                    const double* const row = map_.row(r);
                    value_[r] = map_.margin(r, y);
                    double raised = dual[r] + (problem_.rhs[r] - value_[r]);
                    if (!problem_.equality[r]) raised = std::max(raised, 0.0);
                    const double step = raised - dual[r];
                    dual[r] = raised;
                    for (Index j = 0; j < d; ++j) y[j] += step * row[j];
                }
            for (Index j = 0; j < d; ++j) y[j] -= y_before_[j];
            map_.add(i, y, products_.V().data());
            if (calling_thread_) progress_.ask();
        }
        spent_ += 1.0;
    }

    // Equalities, and the constraints whose multiplier outweighs their slack.
    std::vector<Index> active_guess(const double* dual) const {
        std::vector<Index> active;
        for (Index r = 0; r < problem_.size(); ++r)
            if (problem_.equality[r] || dual[r] > value_[r] - problem_.rhs[r]) active.push_back(r);
        return active;
    }
    // How many numbers two increasing sequences do not share.
    static Index difference(const std::vector<Index>& a, const std::vector<Index>& b) {
        Index shared = 0;
        for (auto i = a.begin(), j = b.begin(); i != a.end() && j != b.end();) {
            shared += *i == *j;
            const bool both = *i == *j, left = *i < *j;
            i += both || left;
            j += both || !left;
        }
        return std::ssize(a) + std::ssize(b) - 2 * shared;
    }

    // Moves the multipliers of the active constraints to where these hold with equality, those of others to zero, as
    // far as the dual rises; value_ holds A(W). True if all of the way, with none kept from falling below zero.
    bool correct(double* dual, const std::vector<Index>& active, double accuracy) {
        const PartOfConstraints part(map_, active);
        const Index count = part.count();
        Buffer<double> residual(count), correction(count), moved(count);
        for (Index k = 0; k < count; ++k) residual[k] = problem_.rhs[part[k]] - value_[part[k]];
        solve(part.map(), residual, correction, accuracy, accuracy > 0 ? 10 : 1000);
        MarginProducts products(team_, part.map());
        constexpr int most_halvings = 10;
        for (int halvings = 0; halvings < most_halvings; ++halvings) {
            const double step = std::ldexp(1.0, -halvings);
            bool clipped = false;
            double gained = 0.0;
            for (Index k = 0; k < count; ++k) {
                moved[k] = dual[part[k]] + step * correction[k];
                if (!problem_.equality[part[k]] && moved[k] < 0) moved[k] = 0.0, clipped = true;
                gained += problem_.rhs[part[k]] * moved[k];
            }
            products.adjoint(moved.data());
            const double size = products.norm();
            const double objective = gained - 0.5 * size * size;
            const bool whole = halvings == 0 && !clipped;
            const double rounding = whole ? 1e-10 * std::abs(objective) : 0.0;  // the last steps gain less
            if (!(objective > objective_ - rounding)) continue;
            std::swap(products.V(), products_.V());
            norm_ = size;
            objective_ = objective;
            std::fill(dual, dual + problem_.size(), 0.0);
            for (Index k = 0; k < count; ++k) dual[part[k]] = moved[k];
            return whole;
        }
        return false;
    }

    // K x = b on the constraints of `map`, to an accuracy relative to b.
    void solve(const MarginMap& map, Buffer<double>& b, Buffer<double>& x, double accuracy, int most_steps) {
        const double aim = std::max(accuracy * norm(b.data(), b.size()), 0.1 * UnitProblem::rounding(norm_));
        const ConjugateGradients result =
            conjugate_gradients(team_, progress_, calling_thread_, map, b, x, aim, most_steps);
        cut_short_ = result.cut_short;
        spent_ += result.steps * static_cast<double>(b.size()) / static_cast<double>(problem_.size());
    }

    // Alternating projections between λ >= 0 and A*λ = 0, on the support of λ. Where no W meets the constraints, λ has
    // grown in the direction of a proof of it, near which they meet; else they soon take most of λ away.
    bool find_contradiction(double* dual) {
        constexpr int most_turns = 10;
        constexpr double proven = 1e-13, lost = 0.7;
        Buffer<double> projected(problem_.size()), margins(problem_.size());
        std::copy(dual, dual + problem_.size(), projected.data());
        MarginProducts products(team_, map_);
        double first_weight = 0.0;
        for (int turn = 0; turn < most_turns && !progress_.stopped(); ++turn) {
            std::vector<Index> support;
            double weight = 0.0;
            for (Index r = 0; r < problem_.size(); ++r)
                if (projected[r] != 0) support.push_back(r), weight += std::abs(projected[r]);
            if (turn == 0) first_weight = weight;
            if (weight < lost * first_weight) return false;
            products.adjoint(projected.data());
            if (products.norm() <= proven * weight) {
                std::copy(projected.data(), projected.data() + projected.size(), dual);
                return true;
            }
            products.margins(margins.data());
            const PartOfConstraints part(map_, support);
            Buffer<double> values(part.count()), correction(part.count());
            for (Index k = 0; k < part.count(); ++k) values[k] = margins[part[k]];
            solve(part.map(), values, correction, proven, 200);
            for (Index k = 0; k < part.count(); ++k) {
                double& moved = projected[part[k]];
                moved -= correction[k];
                if (!problem_.equality[part[k]]) moved = std::max(moved, 0.0);
            }
        }
        return false;
    }

    const UnitProblem& problem_;
    const MarginMap& map_;
    Team team_;
    Progress& progress_;
    bool calling_thread_;
    MarginProducts products_;
    Buffer<double> value_, y_, y_before_;
    double norm_ = 0.0, objective_ = 0.0;
    double spent_ = 0.0;      // products with A and A*, or as much work
    bool cut_short_ = false;  // whether the last solve was
    Index iterations_ = 0;
};

}  // namespace

Index dual_ascent(const UnitProblem& problem, const Team& team, Progress& progress, bool calling_thread, double* dual,
                  double most_products) {
    DualAscent method(problem, team, progress, calling_thread);
    method.run(dual, most_products);
    return method.iterations();
}

}  // namespace attsvm
