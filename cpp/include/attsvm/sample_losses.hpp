// Margins and losses of the samples, and the mean loss.
#pragma once

#include <span>

#include "attsvm/buffer.hpp"
#include "attsvm/losses.hpp"
#include "attsvm/token_softmax.hpp"

namespace attsvm {

// The infimum of the loss: that of every sample attending to its best token alone, 0, or not known.
enum class Infimum { of_best_tokens, zero, unknown };

template <class Real>
class SampleLosses {
   public:
    SampleLosses(Index samples, Loss loss, Infimum infimum)
        : loss_(loss),
          infimum_(infimum),
          best_(samples),
          sample_(samples),
          log_scale_(padded_to_columns<Real>(samples)),
          margin_(padded_to_columns<Real>(samples)) {}

    // Counts these samples alone from now on, which stay in the caller's memory; all of them where none are named.
    void choose(std::span<const Index> samples) { chosen_ = samples; }
    Index rows() const { return chosen_.empty() ? sample_.size() : static_cast<Index>(chosen_.size()); }
    Index sample(Index row) const { return chosen_.empty() ? row : chosen_[static_cast<std::size_t>(row)]; }

    TokenGradient<Real>& operator[](Index row) { return sample_[row]; }
    // The largest size of a token score that the loss can bear
    double most_score() const {
        return loss_.visit([]<class Kind>(Kind) { return Kind::largest_score; });
    }
    // The largest token score of a sample.
    Real& best(Index sample) { return best_[sample]; }

    // Factors that take dm_i/da_i, in its own unit, to the gradient of the mean loss in units of exp(log_unit), the
    // largest unit of any sample: l'(m_i) exp(log_scale - log_unit) / n. Where no sample moves, log_unit is -inf and
    // they are 0.
    void weights(Real* weight, Real& log_unit) {
        const bool bounded = infimum_ == Infimum::of_best_tokens && !of_log_margin();  // slopes do not underflow
        for (Index row = 0; row < rows(); ++row) {
            margin_[row] = sample_[row].margin;
            log_scale_[row] = sample_[row].log_scale;
            if (!bounded) log_scale_[row] += log_slope(sample_[row]);
        }
        in_largest_unit(weight, log_unit);
        for (Index row = 0; row < rows(); row += column_lanes<Real>) {
            const Column<Real> slope = bounded ? slope_at(load_column(&margin_[row])) : Column<Real>(-1.0);
            store_column(weight + row, slope * load_column(weight + row));
        }
    }
    // Factors that take the mixtures to the gradient of the mean loss in v, of a linear head v'o: y_i l'(m_i) / n.
    void mixture_weights(const Real* label, Real* weight, Real& log_unit) {
        for (Index row = 0; row < rows(); ++row) log_scale_[row] = log_slope(sample_[row]);
        in_largest_unit(weight, log_unit);
        for (Index row = 0; row < rows(); ++row) weight[row] = -(label[sample(row)] * weight[row]);
    }

    // The loss, averaged over samples.
    Real loss_mean() const {
        return sum<Real>(rows(), [&](Index row) { return loss_at(sample_[row]); }) / count();
    }
    Real top_weight_mean() const {
        return sum<Real>(rows(), [&](Index row) { return sample_[row].top_weight; }) / count();
    }

    // Loss less its infimum, in units of exp(log_unit); NaN where that is not known.
    Real loss_gap(Real log_unit) const {
        const Real unit = exp(log_unit);
        if (infimum_ == Infimum::zero) return loss_mean() / unit;
        if (infimum_ == Infimum::unknown) return Real(std::numeric_limits<double>::quiet_NaN());
        return sum<Real>(rows(), [&](Index row) { return excess(row, log_unit, unit); }) / count();
    }

   private:
    Real count() const { return Real(static_cast<double>(rows())); }

    // log m of a fixed head whose scores are not negative, also where m has underflown or 1 - m is below rounding.
    static Real log_margin(const TokenGradient<Real>& at) {
        const auto top_is_right = at.top_score > Real(0.0);
        const Real top = select(top_is_right, at.top_score, Real(1.0));
        const Real shift = select(at.mean_shift > Real(0.0), at.mean_shift, Real(1.0));
        return select(top_is_right, log(top) + log1p(exp(at.log_scale) * at.mean_shift / top),
                      at.log_scale + log(shift));
    }
    // Whether the loss is -log of the margin, which may underflow; its logarithm does not.
    bool of_log_margin() const {
        return loss_.visit([]<class Kind>(Kind) { return Kind::margins == MarginKind::attention; });
    }
    Real loss_at(const TokenGradient<Real>& at) const {
        return loss_.visit([&]<class Kind>(Kind) {
            if constexpr (Kind::margins == MarginKind::attention)
                return -log_margin(at);
            else
                return Kind::value(at.margin);
        });
    }
    Real log_slope(const TokenGradient<Real>& at) const {
        return loss_.visit([&]<class Kind>(Kind) {
            if constexpr (Kind::margins == MarginKind::attention)
                return -log_margin(at);
            else
                return Kind::log_slope(at.margin);
        });
    }
    Column<Real> slope_at(Column<Real> margin) const {
        return loss_.visit([&]<class Kind>(Kind) { return Kind::slope(margin); });
    }

    // exp(log_scale_ - log_unit) / n of every row, and log_unit, the largest of log_scale_.
    void in_largest_unit(Real* weight, Real& log_unit) {
        const Real nothing(-std::numeric_limits<double>::infinity());
        log_unit = nothing;
        for (Index row = 0; row < rows(); ++row) log_unit = larger(log_scale_[row], log_unit);
        const Column<Real> subtracted(select(log_unit > nothing, log_unit, Real(0.0))), share(Real(1.0) / count());
        for (Index row = 0; row < rows(); row += column_lanes<Real>)
            store_column(weight + row, exp(load_column(&log_scale_[row]) - subtracted) * share);
    }

    Real excess(Index row, Real log_unit, Real unit) const {
        const TokenGradient<Real>& at = sample_[row];
        const Real best = best_[sample(row)];
        const Real missed = best - at.top_score;
        const Real shortfall = select(missed > Real(0.0), (missed - exp(at.log_scale) * at.mean_shift) * exp(-log_unit),
                                      -at.mean_shift * exp(at.log_scale - log_unit));
        const Real near = loss_.visit([&]<class Kind>(Kind) { return Kind::scaled_excess(best, shortfall, unit); });
        if (!of_log_margin()) return near;
        // Where the top token is wrong the margin may be anything above 0; its logarithm is known.
        return select(missed > Real(0.0), (log(best) - log_margin(at)) / unit, near);
    }

    Loss loss_;
    Infimum infimum_;
    std::span<const Index> chosen_;
    Buffer<Real> best_;
    Buffer<TokenGradient<Real>> sample_;
    Buffer<Real> log_scale_, margin_;
};

}  // namespace attsvm
