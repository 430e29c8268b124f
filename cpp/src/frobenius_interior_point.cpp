#include "attsvm/frobenius_interior_point.hpp"

#include "attsvm/newton_equations.hpp"

namespace attsvm {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr int most_iterations = 60;

class InteriorPoint {
   public:
    InteriorPoint(const UnitProblem& problem, const Team& team, Progress& progress, bool calling_thread)
        : problem_(problem),
          map_(problem.map),
          team_(team),
          progress_(progress),
          calling_thread_(calling_thread),
          products_(team, problem.map),
          rhs_(Eigen::Map<const Vector>(problem.rhs, problem.size())) {}

    Index run(double* dual) {
        constexpr double good = 1e-7, hopeless = 1e-13, shortest_step = 1e-4;
        start();
        Index iterations = 0;
        for (; iterations < most_iterations && !stopped(); ++iterations) {
            const double size = w_.norm();
            const double missing = gap();
            if (calling_thread_) progress_.note(missing, -1);
            if (missing <= good || size <= hopeless * dual_.sum()) break;
            if (!factorise() || !(move() > shortest_step)) break;
        }
        const double most = dual_.maxCoeff(), widest = slack_.maxCoeff();
        for (Index r = 0; r < count(); ++r)
            if (gamma_ <= 0)
                dual[r] = dual_[r];
            else
                dual[r] = dual_[r] / most > slack_[r] / widest ? dual_[r] / gamma_ : 0.0;
        return iterations;
    }

   private:
    struct Direction {
        Vector w, slack, dual;
        double gamma, step;  // the longest of both
    };

    Index count() const { return rhs_.size(); }
    bool stopped() {
        if (calling_thread_) progress_.ask();
        return progress_.stopped();
    }
    Vector values(const Vector& w) {
        Vector values(count());
        std::copy(w.data(), w.data() + w.size(), products_.V().data());
        products_.margins(values.data());
        return values;
    }
    Vector adjoint(const Vector& dual) {
        products_.adjoint(dual.data());
        return Eigen::Map<const Vector>(products_.V().data(), map_.coordinates());
    }

    // A point that meets everything but s λ = μ.
    void start() {
        dual_ = Vector::Constant(count(), 1.0 / rhs_.sum());
        w_ = adjoint(dual_);
        const Vector at = values(w_);
        gamma_ = 0.0;
        for (Index r = 0; r < count(); ++r)
            if (rhs_[r] > 0) gamma_ = std::min(gamma_, (at[r] - w_.norm()) / rhs_[r]);
        slack_ = (at - gamma_ * rhs_).cwiseMax(w_.norm());
    }
    // Of the W that w and the multipliers stand for
    double gap() {
        const Vector at = values(w_);
        double smallest = infinity;
        for (Index r = 0; r < count(); ++r)
            if (rhs_[r] > 0) smallest = std::min(smallest, at[r] / rhs_[r]);
        const double gain = rhs_.dot(dual_), size = adjoint(dual_).norm() * w_.norm();
        return smallest > 0 ? 1.0 - gain * gain * smallest * smallest / (size * size) : infinity;
    }

    bool factorise() {
        theta_ = dual_.cwiseQuotient(slack_);
        Matrix M = gram_of_entries(nuclear::Constraints(problem_, team_), theta_, progress_);
        if (progress_.stopped()) return false;
        M.diagonal().array() += 1.0;
        equations_ = Cholesky(std::move(M), [this] { return !stopped(); });
        if (!equations_.succeeded()) return false;
        const Vector weighted = theta_.cwiseProduct(rhs_);
        coupling_ = adjoint(weighted);
        of_gamma_ = equations_.solve(coupling_);
        curvature_ = rhs_.dot(weighted) - coupling_.dot(of_gamma_);
        return true;
    }

    // Solves for steps after which s λ + `complementarity` is 0 to first order, and everything else is met.
    Direction towards(const Vector& complementarity) {
        const Vector missing = values(w_) - gamma_ * rhs_ - slack_;
        const Vector weighted = complementarity.cwiseQuotient(slack_) + theta_.cwiseProduct(missing);
        Direction to;
        to.w = equations_.solve(adjoint(dual_) - w_ - adjoint(weighted));
        to.gamma = (1.0 - rhs_.dot(dual_) + rhs_.dot(weighted) + coupling_.dot(to.w)) / curvature_;
        to.w += to.gamma * of_gamma_;
        to.slack = values(to.w) - to.gamma * rhs_ + missing;
        to.dual = -(complementarity + dual_.cwiseProduct(to.slack)).cwiseQuotient(slack_);
        to.step = infinity;
        for (Index r = 0; r < count(); ++r) {
            if (to.slack[r] < 0) to.step = std::min(to.step, -slack_[r] / to.slack[r]);
            if (to.dual[r] < 0) to.step = std::min(to.step, -dual_[r] / to.dual[r]);
        }
        return to;
    }

    // Mehrotra's step; its length
    double move() {
        const Vector products = slack_.cwiseProduct(dual_);
        const Direction straight = towards(products);
        const double length = std::min(1.0, straight.step);
        const double left = (slack_ + length * straight.slack).dot(dual_ + length * straight.dual) / products.sum();
        const double target = left * left * left * products.mean();
        const Direction curved =
            towards(products + straight.slack.cwiseProduct(straight.dual) - Vector::Constant(count(), target));
        const double step = std::min(1.0, curved.step * (0.9 + 0.09 * std::min(1.0, curved.step)));
        if (!std::isfinite(step * curved.gamma)) return 0.0;
        w_ += step * curved.w;
        gamma_ += step * curved.gamma;
        slack_ += step * curved.slack;
        dual_ += step * curved.dual;
        return step;
    }

    const UnitProblem& problem_;
    const MarginMap& map_;
    Team team_;
    Progress& progress_;
    bool calling_thread_;
    MarginProducts products_;
    Vector rhs_;
    Vector w_, slack_, dual_, theta_, coupling_, of_gamma_;
    double gamma_ = 0.0, curvature_ = 0.0;
    Cholesky equations_;
};

}  // namespace

bool interior_point_is_possible(const UnitProblem& problem) {
    constexpr Index most_coordinates = 6000;
    return problem.map.coordinates() <= most_coordinates &&
           std::none_of(problem.equality, problem.equality + problem.size(), [](bool equality) { return equality; });
}

double interior_point_work(const MarginMap& map) {
    constexpr double usual_iterations = 25.0;
    const auto coordinates = static_cast<double>(map.coordinates());
    return usual_iterations * coordinates * coordinates * (coordinates / 6.0 + 0.25 * static_cast<double>(map.samples));
}

Index frobenius_interior_point(const UnitProblem& problem, const Team& team, Progress& progress, bool calling_thread,
                               double* dual) {
    return InteriorPoint(problem, team, progress, calling_thread).run(dual);
}

}  // namespace attsvm
