// Gradient descent on attention, and its record.
//
// Tokens and queries may be given in orthonormal coordinates of their spans. What of W lies outside these spans moves
// no logit and never changes; only norms and cosines know of it, by its size.
#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <span>

#include "attsvm/dormand_prince.hpp"
#include "attsvm/parameterisation.hpp"
#include "attsvm/pass.hpp"
#include "attsvm/shuffle.hpp"

namespace attsvm {

struct Schedule {
    std::int64_t steps = 0;
    std::span<const std::int64_t> record;  // increasing, each in [0, steps]
    bool keeps_attention = false;          // for the sink of a record
};

// Where the blocks of parameters stand: the start, then the end. See `Parameterisations`.
template <class Real>
struct ParameterValues {
    ParameterKind kind;
    Index inner;
    std::span<Real* const> blocks;
    Real outside;          // norm of W outside the spans of tokens and queries
    Real* head = nullptr;  // v, where it is trained
};

// What is recorded of an iterate; `cosine_gap` is 1 - cosine with each reference. `balance_drift` is what K'K - Q'Q has
// changed by since the start, over |K|² + |Q|²; 0 where W is trained. If asked for, also the least a top
// token stands above the others (`margin`), a lower bound on the cosine with the SVM of the top tokens, these, and
// lower bounds on the margin ratios of W in norms.
template <class Real>
struct Record {
    Real loss, loss_gap, norm, log_grad_norm, max_attention, head_norm, balance_drift, margin, certified_cosine;
    std::span<const Real> cosine_gap, head_cosine_gap, top, certified_ratio;
};

// Directions to compare with: unit matrices whose part inside the spans has V's shape, and whose part outside has a
// component along the outside part of W and one across it. Unit vectors to compare a trained head with.
template <class Real>
struct References {
    Index count = 0;
    const Real* inside = nullptr;   // (count, query_dimension, dimension)
    const Real* outside = nullptr;  // (count, 2): along, across
    Index head_count = 0;
    const Real* head = nullptr;  // (head_count, dimension)
    bool certify = false;
    std::span<const Geometry> certified_norms{};  // of the bounds on margin ratios
};

// |x / length - unit|²
template <class Real>
Real distance_square(const Real* x, const Real* unit, Real length, Index size) {
    return sum<Real>(size, [&](Index k) {
        const Real apart = x[k] / length - unit[k];
        return apart * apart;
    });
}

template <class Token, class Real>
class Descent {
   public:
    Descent(const Problem<Token, Real>& problem, Loss loss, StepRule rule, const Team& team,
            const ParameterValues<Real>& parameters, References<Real> references);

    // sink(k, record) for the k-th recorded step. False where it ends before the last step: it is stopped, or the loss
    // cannot bear the token scores.
    using Sink = std::function<void(std::size_t, const Record<Real>&)>;
    bool run(const Schedule& schedule, Progress& progress, bool calling_thread, const Sink& sink);

    // The loss at the parameters, and its gradients in true size, shaped as the blocks.
    Real gradient(std::span<Real* const> blocks, Real* head);

    // The largest size of a token score of a fixed head.
    Real largest_score() const { return pass_.largest_score(); }

    // Attention at the end of a run, or where the schedule keeps it at a record: weights and their logarithms (samples,
    // tokens), and the index of the top token.
    void attention(Real* weight, Real* log_weight, Real* top);

   private:
    const Problem<Token, Real>& problem() const { return pass_.problem(); }

    bool trains_head() const { return head_.size() != 0; }

    Index query_stride() const { return parameters_.has_one_query() ? 0 : problem().dimension; }
    const Real* query(Index row) const { return Q_.data() + row * query_stride(); }

    void choose(std::span<const Index> samples) {
        pass_.choose(samples);
        parameters_.choose(samples);
    }

    // Gradients of all blocks, in units of exp(log_unit_), and of the head in units of exp(head_log_unit_).
    void differentiate() {
        parameters_.directions(team_, Q_.data());
        pass_.run(team_, Q_.data(), query_stride(), U_.data(), trains_head() ? mixture_.data() : nullptr);
        pass_.losses().weights(weight_.data(), log_unit_);
        if (rule_.ridge == 0.0) {
            parameters_.differentiate(team_, weight_.data(), U_.data());
            drop_rounding(nullptr);
        } else {
            const Real log_decay(std::log(2.0 * rule_.ridge)), from = log_unit_;
            log_unit_ = larger(from, log_decay);
            const WeightDecay decay{exp(from - log_unit_), exp(log_decay - log_unit_)};
            parameters_.differentiate(team_, weight_.data(), U_.data(), &decay);
            drop_rounding(&decay);
        }
        if (trains_head()) {
            const Index n = pass_.rows(), d = problem().dimension;
            pass_.losses().mixture_weights(problem().head.arrays.label, head_weight_.data(), head_log_unit_);
            multiply(team_, 1, n, d, Strided<Real>{head_weight_.data(), n, 1}, {}, mixture_.data(),
                     head_.gradient.data());
            head_.gradient_norm = norm(head_.gradient.data(), d);
            if (!drops_rounding_) return;
            Real terms(0.0);
            for (Index row = 0; row < n; ++row) terms += magnitude(head_weight_[row]) * pass_.token_norm(row);
            const Real rounding = Parameters<Real>::rounding_unit(n, problem().tokens) * terms;
            head_.gradient_norm = select(rounding >= head_.gradient_norm, Real(0.0), head_.gradient_norm);
            if (rule_.by_coordinate())
                for (Index k = 0; k < d; ++k)
                    head_.gradient[k] = select(rounding >= magnitude(head_.gradient[k]), Real(0.0), head_.gradient[k]);
        }
    }

    // Gradients of the attention blocks that are only the rounding of their terms are taken as zero. The terms are
    // computed where a bound of them does not exclude it.
    using WeightDecay = typename Parameters<Real>::WeightDecay;
    void drop_rounding(const WeightDecay* decay) {
        if (!drops_rounding_) return;
        const Index n = pass_.rows(), depth = problem().tokens;
        for (Index row = 0; row < n; ++row) term_size_[row] = magnitude(weight_[row]) * pass_.term_bound(row);
        const Real terms = parameters_.terms_of(term_size_.data());
        if (rule_.by_coordinate()) drop_rounded_entries(terms, decay);
        if (!parameters_.drop_rounding(team_, terms, depth, decay, false)) return;
        for (Index row = 0; row < n; ++row)
            term_size_[row] = magnitude(weight_[row]) * pass_.term_size(row, query(row));
        parameters_.drop_rounding(team_, parameters_.terms_of(term_size_.data()), depth, decay, true);
    }
    // Where steps depend on the sign of an entry, also each of them.
    void drop_rounded_entries(Real terms, const WeightDecay* decay) {
        const Index n = pass_.rows(), d = problem().dimension, depth = problem().tokens;
        if (!parameters_.may_have_rounded_entries(team_, term_size_.data(), terms, depth, decay)) return;
        for (Index row = 0; row < n; ++row) {
            pass_.term_sizes(row, query(row), &entry_size_[row * d]);
            for (Index k = 0; k < d; ++k) entry_size_[row * d + k] *= magnitude(weight_[row]);
        }
        parameters_.drop_rounded_entries(team_, entry_size_.data(), depth, decay);
    }

    GradientNorms<Real> gradient_norms() const {
        return {log_unit_, parameters_.gradient_norm(), trains_head(), head_log_unit_, head_.gradient_norm};
    }

    // False: stopped on the way.
    bool take_step(std::int64_t count, Progress& progress, bool calling_thread) {
        if (rule_.flows()) {
            flow(Real(rule_.blocks[0].at(count)), [&] { return progress.advance(0.0, calling_thread); });
            return !progress.stopped();
        }
        const GradientNorms<Real> norms = gradient_norms();
        const auto step = [&](Block<Real>& block, Real log_unit, const BlockRate& rate) {
            block.step(team_, rule_, update_, rate, count, log_unit, [&](Real unit, const Steepest<Real>& at) {
                return rule_.scale(pass_.losses(), norms, unit, at);
            });
        };
        const std::span<Block<Real>> blocks = parameters_.blocks();
        for (std::size_t k = 0; k < blocks.size(); ++k) step(blocks[k], log_unit_, rule_.blocks[k]);
        if (trains_head()) step(head_, head_log_unit_, rule_.head);
        return true;
    }

    // Moves all blocks together along the flow dW/ds = -G / |G|, by this arc length.
    template <class CarryOn>
    void flow(Real length, CarryOn carry_on) {
        const auto for_blocks = [this](auto action) {
            Index at = 0;
            const auto next = [&](Block<Real>& block, Real log_unit) {
                action(block, log_unit, at);
                at += block.size();
            };
            for (Block<Real>& block : parameters_.blocks()) next(block, log_unit_);
            if (trains_head()) next(head_, head_log_unit_);
            return at;
        };
        const auto put = [&](const Real* y) {
            for_blocks([y](Block<Real>& block, Real, Index at) {
                std::copy_n(y + at, block.size(), block.value);
                block.value_bound = Real(-1.0);
            });
        };
        if (!integrator_) {
            const Index size = for_blocks([](Block<Real>&, Real, Index) {});
            integrator_.emplace(size, rule_.flow_tolerance);
            point_ = Buffer<Real>(size);
        }
        for_blocks([&](Block<Real>& block, Real, Index at) { std::copy_n(block.value, block.size(), &point_[at]); });
        const auto slope_at = [&](const Real* y, Real* slope) {
            put(y);
            differentiate();
            const GradientNorms<Real> norms = gradient_norms();
            const Real log_all = trains_head() ? norms.log_of_all() : Real(0.0), zero(0.0);
            for_blocks([&](Block<Real>& block, Real log_unit, Index at) {
                const Real share = trains_head() ? exp(log_unit - log_all) : Real(1.0) / or_one(norms.norm);
                const Real factor = select(block.gradient_norm != zero, share, zero);
                for (Index k = 0; k < block.size(); ++k) slope[at + k] = -factor * block.gradient[k];
            });
        };
        integrator_->advance(length, point_.data(), slope_at, carry_on);
        put(point_.data());
    }

    Record<Real> observe() {
        Record<Real> out;
        out.loss = pass_.losses().loss_mean();
        out.loss_gap = pass_.losses().loss_gap(Real(0.0));
        const Real* const V = parameters_.matrix(team_);
        const Real parts[] = {parameters_.matrix_norm_of(team_, V), outside_};
        out.norm = any<Real>(outside_ != Real(0.0)) ? norm(parts, 2) : parts[0];
        out.log_grad_norm = gradient_norms().log_of_all();
        out.max_attention = pass_.losses().top_weight_mean();
        const auto points = out.norm != Real(0.0);
        const Real length = select(points, out.norm, Real(1.0));
        const Index size = parameters_.matrix_size();
        for (Index r = 0; r < references_.count; ++r) {
            const Real along = outside_ / length - references_.outside[2 * r];
            const Real across = references_.outside[2 * r + 1];
            const Real square =
                along * along + across * across + distance_square(V, references_.inside + r * size, length, size);
            // The zero iterate points nowhere: its cosine with any direction is taken as 0.
            cosine_gap_[r] = select(points, square * Real(0.5), Real(1.0));
        }
        out.cosine_gap = view(cosine_gap_);
        observe_head(out);
        out.balance_drift = Real(0.0);
        if (rule_.flows() && parameters_.bilinear()) {
            if (balance_.size() == 0) balance_ = parameters_.balance(team_);
            out.balance_drift = parameters_.balance_drift(team_, balance_);
        }
        if (references_.certify) certify(out, V);
        return out;
    }

    void observe_head(Record<Real>& out) {
        out.head_norm = norm(head_.value, head_.size());
        const auto points = out.head_norm != Real(0.0);
        const Real length = select(points, out.head_norm, Real(1.0));
        for (Index r = 0; r < references_.head_count; ++r) {
            const Real square = distance_square(head_.value, references_.head + r * head_.size(), length, head_.size());
            head_cosine_gap_[r] = select(points, square * Real(0.5), Real(1.0));
        }
        out.head_cosine_gap = view(head_cosine_gap_);
    }

    // W divided by its margin m is feasible for the SVM of the top tokens, whose solution W* is the feasible matrix
    // nearest zero: <W/m - W*, W*> >= 0, that is |W*| <= |W|/m cos(W, W*). Any multipliers λ >= 0, here those of the
    // step to come, give W_λ = Σ λ_it (x_top - x_it) z_i' with <W_λ, W*> >= Σλ. Together, with α the angle from W to
    // W* and θ that to W_λ: cos α cos(α - θ) >= r = m Σλ / (|W| |W_λ|), so that α <= (θ + arccos(2r - cos θ)) / 2.
    void certify(Record<Real>& out, const Real* V) {
        const Index n = problem().samples, size = parameters_.matrix_size();
        Real multipliers(0.0), margin(std::numeric_limits<double>::infinity());
        for (Index i = 0; i < n; ++i) {
            const Index at = i * problem().dimension;
            const auto of_sample = pass_.margin_certificate(i, query(i), weight_[i], &certificate_rows_[at]);
            margin = smaller(of_sample.margin, margin);
            multipliers += of_sample.multipliers;
            top_[i] = of_sample.top;
        }
        parameters_.outer(team_, certificate_rows_.data(), certificate_.data());
        const Real dual = norm(certificate_.data(), size);
        const Real inner = sum<Real>(size, [&](Index k) { return V[k] * certificate_[k]; });
        for (int k = 0; k < NumberTraits<Real>::lanes; ++k)
            set_lane(out.certified_cosine, k,
                     smallest_cosine(lane(inner, k), lane(margin, k), lane(multipliers, k), lane(out.norm, k),
                                     lane(dual, k)));
        out.margin = margin;
        out.top = view(top_);
        for (Index r = 0; r < certified_ratio_.size(); ++r) {
            const Geometry& geometry = references_.certified_norms[static_cast<std::size_t>(r)];
            Geometries::visit(geometry.kind, [&]<class Norm>(Norm) {
                const Real of_W = Norm::norm(measured(V, out.norm), geometry.p);
                const Real of_dual = Norm::direct(measured(certificate_.data(), dual), geometry).dual_norm;
                for (int k = 0; k < NumberTraits<Real>::lanes; ++k)
                    set_lane(certified_ratio_[r], k,
                             smallest_ratio(lane(margin, k), lane(multipliers, k), lane(of_W, k), lane(of_dual, k)));
            });
        }
        out.certified_ratio = view(certified_ratio_);
    }
    // A copy of W' or of another matrix of its shape
    MatrixBlock<Real> measured(const Real* matrix, Real euclidean) {
        std::copy_n(matrix, measured_.size(), measured_.data());
        return {team_, of_row_.size(), problem().dimension, measured_.data(), of_row_.data(), true, euclidean};
    }
    // Weak duality: a W of norm 1 has no margin above N*(W_λ) / Σλ. -inf where there is no bound.
    static double smallest_ratio(double margin, double multipliers, double norm, double dual) {
        if (!(margin > 0 && multipliers > 0 && norm > 0 && dual > 0)) return -std::numeric_limits<double>::infinity();
        return margin / norm * (multipliers / dual);
    }
    // -1, which is no bound, where W does not separate or no token moves.
    static double smallest_cosine(double inner, double margin, double multipliers, double norm, double dual) {
        if (!(margin > 0 && multipliers > 0 && norm > 0 && dual > 0)) return -1.0;
        const auto angle = [](double cosine) { return std::acos(std::clamp(cosine, -1.0, 1.0)); };
        const double cosine = inner / norm / dual, ratio = margin / norm * (multipliers / dual);
        return std::cos(0.5 * (angle(cosine) + angle(2.0 * ratio - cosine)));
    }

    static std::span<const Real> view(const Buffer<Real>& of) {
        return {of.data(), static_cast<std::size_t>(of.size())};
    }

    Pass<Token, Real> pass_;
    Parameters<Real> parameters_;
    Block<Real> head_;
    StepRule rule_;
    int update_;
    Team team_;
    Real outside_;
    References<Real> references_;
    Shuffle order_;
    Buffer<Real> Q_, U_, mixture_, weight_, head_weight_, term_size_, entry_size_, cosine_gap_, head_cosine_gap_, top_,
        certificate_rows_, certificate_, certified_ratio_, measured_, of_row_;
    Buffer<Real> point_, balance_;
    std::optional<DormandPrince<Real>> integrator_;
    Real log_unit_{0.0}, head_log_unit_{0.0};
    bool drops_rounding_ = false;
};

// Not inline: the explicit instantiations below are the only ones.
template <class Token, class Real>
Descent<Token, Real>::Descent(const Problem<Token, Real>& problem, Loss loss, StepRule rule, const Team& team,
                              const ParameterValues<Real>& parameters, References<Real> references)
    : pass_(problem, loss, team.threads()),
      parameters_(parameters.kind, {problem.samples, problem.query_dimension, problem.dimension, parameters.inner},
                  problem.Z, parameters.blocks, rule.by_coordinate()),
      head_(parameters.head, parameters.head == nullptr ? 0 : 1, problem.dimension),
      rule_(rule),
      update_(rule.update()),
      team_(team),
      outside_(parameters.outside),
      references_(references),
      order_(rule.batch == 0 ? 0 : problem.samples, rule.batch, rule.seed),
      Q_(Buffer<Real>::not_filled(problem.samples * problem.dimension)),
      U_(Buffer<Real>::not_filled(problem.samples * problem.dimension)),
      mixture_(head_.size() == 0 ? 0 : problem.samples * problem.dimension),
      weight_(padded_to_columns<Real>(problem.samples)),
      head_weight_(head_.size() == 0 ? 0 : weight_.size()),
      term_size_(problem.samples),
      entry_size_(rule.by_coordinate() ? problem.samples * problem.dimension : 0),
      cosine_gap_(references.count),
      head_cosine_gap_(references.head_count),
      top_(references.certify ? problem.samples : 0),
      certificate_rows_(top_.size() * problem.dimension),
      certificate_(references.certify ? parameters_.matrix_size() : 0),
      certified_ratio_(std::ssize(references.certified_norms)),
      measured_(certified_ratio_.size() == 0 ? 0 : certificate_.size()),
      of_row_(certified_ratio_.size() == 0 ? 0 : problem.query_dimension) {}

template <class Token, class Real>
bool Descent<Token, Real>::run(const Schedule& schedule, Progress& progress, bool calling_thread, const Sink& sink) {
    drops_rounding_ = true;
    const Index work = parameters_.matrix_size() + problem().samples * problem().tokens * problem().dimension;
    constexpr int lanes = NumberTraits<Real>::lanes;
    const std::int64_t stride = std::max<std::int64_t>(1, 50000 / work);
    std::size_t recorded = 0;
    for (std::int64_t step = 0;; ++step) {
        const bool records = recorded < schedule.record.size() && schedule.record[recorded] == step;
        if (step == schedule.steps || (records && schedule.keeps_attention)) pass_.keep_logits();
        if (records || rule_.batch == 0 || step == schedule.steps) {
            choose({});
            differentiate();
            if (step == 0 && any<Real>(pass_.largest_score() > Real(pass_.losses().most_score()))) return false;
        }
        if (records) sink(recorded++, observe());
        if (step == schedule.steps) return true;
        if (rule_.batch != 0) {
            choose(order_.next());
            differentiate();
        }
        if (!take_step(step + 1, progress, calling_thread)) return false;
        if ((step + 1) % stride == 0 && !progress.advance(static_cast<double>(stride * lanes), calling_thread))
            return false;
    }
}

template <class Token, class Real>
Real Descent<Token, Real>::gradient(std::span<Real* const> blocks, Real* head) {
    differentiate();
    const auto put = [](const Block<Real>& block, Real unit, Real* to) {
        for (Index k = 0; k < block.size(); ++k) to[k] = block.gradient[k] * unit;
    };
    for (std::size_t k = 0; k < blocks.size(); ++k) put(parameters_.blocks()[k], exp(log_unit_), blocks[k]);
    put(head_, exp(head_log_unit_), head);
    return pass_.losses().loss_mean();
}

template <class Token, class Real>
void Descent<Token, Real>::attention(Real* weight, Real* log_weight, Real* top) {
    const Index T = problem().tokens;
    team_.for_work(problem().samples * T).for_ranges(problem().samples, [&](Index i, Index last, int) {
        for (; i < last; ++i) pass_.attention(i, weight + i * T, log_weight + i * T, top[i]);
    });
}

// Compiled once, in cpp/src.
extern template class Descent<double, double>;
extern template class Descent<float, double>;
extern template class Descent<NativePack<double>, NativePack<double>>;

}  // namespace attsvm
