// The SVMs' answers meet the conditions of optimality, or prove that there is none, whichever method gives them.
#include "attsvm/dual_svm.hpp"

#include <array>
#include <random>
#include <vector>

#include "attsvm/certificate.hpp"
#include "attsvm/dual_active_set.hpp"
#include "attsvm/dual_ascent.hpp"
#include "attsvm/frobenius_interior_point.hpp"
#include "attsvm/norm_solver.hpp"
#include "check.hpp"
#include "random_problem.hpp"

using attsvm::Buffer;
using attsvm::Index;
using attsvm::Progress;
using attsvm::SvmProblem;
using attsvm::SvmStatus;
using attsvm::Team;

namespace {

// Machines of one shape, and what solving them gives.
struct OwnedSvms {
    Index B, n, T, d, e;
    Buffer<double> X, Z, rhs;
    Buffer<std::int64_t> selected, length;
    Buffer<bool> equality;
    Buffer<double> dual, margins, left, right, norm, gap, kkt;
    Buffer<std::int8_t> status, unique;
    Buffer<std::int64_t> iterations;

    OwnedSvms(Index B_, Index n_, Index T_, Index d_, Index e_)
        : B(B_),
          n(n_),
          T(T_),
          d(d_),
          e(e_),
          X(B * n * T * d),
          Z(B * n * e),
          rhs(B * n * T),
          selected(B * n),
          length(B * n),
          equality(B * n * T),
          dual(B * n * T),
          margins(B * n * T),
          left(B * n * d),
          right(B * n * e),
          norm(B),
          gap(B),
          kkt(B),
          status(B),
          unique(B),
          iterations(B) {
        std::fill(rhs.data(), rhs.data() + rhs.size(), 1.0);
        std::fill(length.data(), length.data() + length.size(), T);
    }

    attsvm::SvmResultView result() {
        return {dual.data(),      margins.data(), n,          left.data(),   right.data(),
                norm.data(),      gap.data(),     kkt.data(), status.data(), unique.data(),
                iterations.data()};
    }
    template <class Token>
    attsvm::SvmBatch<Token> batch(const Token* tokens) const {
        return {B, {n, T, d, e, tokens, Z.data(), selected.data(), length.data(), rhs.data(), equality.data()}};
    }
    template <class Token>
    void solve(const Token* tokens, int threads, const double* start) {
        Progress progress(nullptr, static_cast<double>(B));
        attsvm::solve_frobenius(batch(tokens), start, attsvm::FrobeniusMethod::automatic, {1e-9, 1e-9}, threads,
                                progress, result());
    }
    void solve(int threads = 1) { solve(X.data(), threads, nullptr); }

    SvmStatus status_of(Index b) const { return static_cast<SvmStatus>(status[b]); }
    bool has_constraint(Index b, Index i, Index t) const { return t < length[b * n + i] && t != selected[b * n + i]; }
    std::vector<double> difference(Index b, Index i, Index t) const {
        std::vector<double> row(static_cast<std::size_t>(d));
        const double* const sample = X.data() + (b * n + i) * T * d;
        const Index top = selected[b * n + i];
        for (Index j = 0; j < d; ++j)
            row[static_cast<std::size_t>(j)] =
                (top < 0 ? 2.0 * sample[t * d + j] : sample[top * d + j]) - sample[t * d + j];
        return row;
    }
    // left' right of one SVM, (d × e)
    std::vector<double> W(Index b) const {
        std::vector<double> product(static_cast<std::size_t>(d * e));
        for (Index i = 0; i < n; ++i)
            for (Index j = 0; j < d; ++j)
                for (Index c = 0; c < e; ++c)
                    product[static_cast<std::size_t>(j * e + c)] +=
                        left[(b * n + i) * d + j] * right[(b * n + i) * e + c];
        return product;
    }
};

void fill_random(OwnedSvms& problems, unsigned seed) {
    std::mt19937_64 bits(seed);
    attsvm_test::fill_normal(problems.X, bits);
    attsvm_test::fill_normal(problems.Z, bits);
    std::uniform_int_distribution<std::int64_t> token(0, problems.T - 1);
    for (Index i = 0; i < problems.selected.size(); ++i) problems.selected[i] = token(bits);
}

// The token with the largest product with one direction is selected: for enough coordinates there is a solution.
void select_along_a_direction(OwnedSvms& problems, unsigned seed) {
    std::mt19937_64 bits(seed);
    Buffer<double> direction(problems.d);
    attsvm_test::fill_normal(direction, bits);
    for (Index i = 0; i < problems.B * problems.n; ++i) {
        Buffer<double> score(problems.T);
        attsvm::rows_dot(problems.X.data() + i * problems.T * problems.d, problems.T, problems.d, direction.data(),
                         score.data());
        problems.selected[i] = std::max_element(score.data(), score.data() + problems.length[i]) - score.data();
    }
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
    double total = 0.0;
    for (std::size_t k = 0; k < a.size(); ++k) total += a[k] * b[k];
    return total;
}

// The optimality conditions, in the caller's numbers and by plain loops.
void check_optimal(const OwnedSvms& problems, Index b, double tolerance) {
    const std::vector<double> W = problems.W(b);
    std::vector<double> rest(W);
    double gain = 0.0;
    const double size = std::sqrt(dot(W, W));
    CHECK(std::abs(problems.norm[b] - size) <= tolerance * size);
    CHECK(problems.gap[b] <= 1e-9 && problems.kkt[b] <= 1e-9);
    for (Index i = 0; i < problems.n; ++i) {
        const double* const z = problems.Z.data() + (b * problems.n + i) * problems.e;
        for (Index t = 0; t < problems.T; ++t) {
            const Index at = (b * problems.n + i) * problems.T + t;
            if (!problems.has_constraint(b, i, t)) {
                CHECK(problems.dual[at] == 0.0);
                CHECK(std::isinf(problems.margins[at]));
                continue;
            }
            const std::vector<double> row = problems.difference(b, i, t);
            double margin = 0.0;
            for (Index j = 0; j < problems.d; ++j)
                for (Index c = 0; c < problems.e; ++c) {
                    const auto k = static_cast<std::size_t>(j * problems.e + c);
                    margin += row[static_cast<std::size_t>(j)] * W[k] * z[c];
                    rest[k] -= problems.dual[at] * row[static_cast<std::size_t>(j)] * z[c];
                }
            CHECK(std::abs(margin - problems.margins[at]) <= tolerance * (1.0 + size));
            CHECK(margin >= problems.rhs[at] - tolerance * (1.0 + size));
            if (problems.equality[at])
                CHECK(std::abs(margin - problems.rhs[at]) <= tolerance * (1.0 + size));
            else
                CHECK(problems.dual[at] >= 0.0);
            CHECK(std::abs(problems.dual[at] * (margin - problems.rhs[at])) <= tolerance * (1.0 + size * size));
            gain += problems.dual[at] * problems.rhs[at];
        }
    }
    CHECK(std::sqrt(dot(rest, rest)) <= tolerance * size);
    CHECK(std::abs(gain - size * size) <= tolerance * size * size);
}

// λ >= 0 with b'λ = 1 and A*λ = 0
void check_infeasible(const OwnedSvms& problems, Index b) {
    std::vector<double> sum(static_cast<std::size_t>(problems.d * problems.e));
    double gain = 0.0, weight = 0.0;
    CHECK(std::isinf(problems.norm[b]));
    for (Index i = 0; i < problems.n; ++i)
        for (Index t = 0; t < problems.T; ++t) {
            const Index at = (b * problems.n + i) * problems.T + t;
            if (!problems.has_constraint(b, i, t)) continue;
            CHECK(problems.equality[at] || problems.dual[at] >= 0.0);
            const std::vector<double> row = problems.difference(b, i, t);
            const double* const z = problems.Z.data() + (b * problems.n + i) * problems.e;
            for (Index j = 0; j < problems.d; ++j)
                for (Index c = 0; c < problems.e; ++c)
                    sum[static_cast<std::size_t>(j * problems.e + c)] +=
                        problems.dual[at] * row[static_cast<std::size_t>(j)] * z[c];
            gain += problems.dual[at] * problems.rhs[at];
            weight += std::abs(problems.dual[at]) * std::sqrt(dot(row, row)) * attsvm::norm(z, problems.e);
        }
    CHECK(std::abs(gain - 1.0) <= 1e-9);
    CHECK(std::sqrt(dot(sum, sum)) <= 1e-9 * weight);
}

void one_constraint_has_a_closed_form() {
    OwnedSvms svm(1, 1, 2, 3, 2);
    const double X[] = {1.0, 2.0, 0.0, 0.0, 0.0, 2.0};
    std::copy(X, X + 6, svm.X.data());
    svm.Z[0] = 3.0, svm.Z[1] = 4.0;
    svm.solve();
    CHECK(svm.status_of(0) == SvmStatus::optimal);
    const std::vector<double> W = svm.W(0);  // δ z' / (|δ|² |z|²) with δ = (1, 2, -2)
    const double delta[] = {1.0, 2.0, -2.0};
    for (std::size_t j = 0; j < 3; ++j)
        for (std::size_t c = 0; c < 2; ++c)
            CHECK(std::abs(W[j * 2 + c] - delta[j] * svm.Z[static_cast<Index>(c)] / 225.0) <= 1e-16);
    CHECK(std::abs(svm.norm[0] - 1.0 / 15.0) <= 1e-16);
    CHECK(std::abs(svm.dual[1] - 1.0 / 225.0) <= 1e-17);
}

void random_problems_are_solved_or_shown_infeasible() {
    const Index shapes[][4] = {{1, 2, 1, 1},     {6, 8, 10, 10}, {8, 5, 3, 1},  {5, 6, 7, 12},
                               {20, 10, 20, 20}, {9, 7, 2, 3},   {40, 6, 9, 9}, {30, 3, 8, 4}};
    Index solved = 0, refused = 0;
    unsigned seed = 0;
    for (const auto& shape : shapes)
        for (const bool along_a_direction : {true, false})
            for (const bool special : {false, true}) {
                OwnedSvms problems(5, shape[0], shape[1], shape[2], shape[3]);
                fill_random(problems, ++seed);
                if (special) {  // ragged, right-hand sides 0, a few equalities
                    std::mt19937_64 bits(seed);
                    std::uniform_int_distribution<std::int64_t> length(1, problems.T);
                    for (Index i = 0; i < problems.length.size(); ++i) problems.length[i] = length(bits);
                    for (Index k = 0; k < problems.rhs.size(); ++k) {
                        problems.rhs[k] = bits() % 2 == 0 ? 0.0 : 1.0;
                        problems.equality[k] = bits() % 16 == 0;
                    }
                    for (Index i = 0; i < problems.length.size(); ++i)
                        problems.selected[i] = std::min(problems.selected[i], problems.length[i] - 1);
                }
                if (along_a_direction) select_along_a_direction(problems, seed);
                problems.solve();
                for (Index b = 0; b < problems.B; ++b) {
                    CHECK(problems.status_of(b) != SvmStatus::unresolved);
                    if (problems.status_of(b) == SvmStatus::optimal) ++solved, check_optimal(problems, b, 1e-10);
                    if (problems.status_of(b) == SvmStatus::infeasible) ++refused, check_infeasible(problems, b);
                }
            }
    CHECK(solved > 60);
    CHECK(refused > 30);
}

// Copies of tokens and of whole samples give constraints that are linearly dependent and tie.
void repeated_tokens_and_samples_do_no_harm() {
    OwnedSvms problems(4, 10, 8, 12, 12);
    fill_random(problems, 7);
    const Index sample = problems.T * problems.d;
    for (Index b = 0; b < problems.B; ++b) {
        double* const X = problems.X.data() + b * problems.n * sample;
        double* const Z = problems.Z.data() + b * problems.n * problems.e;
        for (Index i = 0; i < problems.n; ++i)
            std::copy(X + i * sample, X + i * sample + 2 * problems.d, X + i * sample + 4 * problems.d);
        std::copy(X, X + sample, X + 9 * sample);
        std::copy(Z, Z + problems.e, Z + 9 * problems.e);
    }
    // Tokens 4 and 5 are the same as 0 and 1, so that what is selected is one of the others.
    for (Index i = 0; i < problems.selected.size(); ++i) problems.selected[i] = 7 - i % 10 % 2;
    for (Index b = 0; b < problems.B; ++b) problems.selected[b * 10 + 9] = problems.selected[b * 10];
    problems.solve();
    for (Index b = 0; b < problems.B; ++b) {
        CHECK(problems.status_of(b) == SvmStatus::optimal);
        check_optimal(problems, b, 1e-11);
    }
    // The same sample with another selection contradicts itself.
    for (Index b = 0; b < problems.B; ++b) problems.selected[b * 10 + 9] = problems.selected[b * 10] - 1;
    problems.solve();
    for (Index b = 0; b < problems.B; ++b) {
        CHECK(problems.status_of(b) == SvmStatus::infeasible);
        check_infeasible(problems, b);
    }
    // A copy of the selected token cannot be told from it.
    problems.selected[0] = 0;
    problems.solve();
    CHECK(problems.status_of(0) == SvmStatus::infeasible);
    CHECK(problems.dual[4] == 1.0);
    CHECK(problems.gap[0] == 0.0);
}

// Without a selected token a sample's tokens are themselves the rows; one query for all makes an SVM for a vector.
void tokens_can_be_the_rows() {
    OwnedSvms problems(6, 12, 1, 20, 1);
    fill_random(problems, 11);
    std::fill(problems.Z.data(), problems.Z.data() + problems.Z.size(), 1.0);
    std::fill(problems.selected.data(), problems.selected.data() + problems.selected.size(), -1);
    problems.solve();
    for (Index b = 0; b < problems.B; ++b) {
        CHECK(problems.status_of(b) == SvmStatus::optimal);
        check_optimal(problems, b, 1e-12);
    }
}

void nothing_to_solve_is_solved_by_zero() {
    OwnedSvms problems(2, 3, 4, 5, 5);
    fill_random(problems, 13);
    for (Index k = 0; k < problems.rhs.size(); ++k) problems.rhs[k] = k % 2 == 0 ? 0.0 : -1.0;
    problems.solve();
    for (Index b = 0; b < problems.B; ++b) {
        CHECK(problems.status_of(b) == SvmStatus::optimal);
        CHECK(problems.norm[b] == 0.0 && problems.gap[b] == 0.0 && problems.iterations[b] == 0);
    }
    std::fill(problems.length.data(), problems.length.data() + problems.length.size(), 1);
    std::fill(problems.selected.data(), problems.selected.data() + problems.selected.size(), 0);
    problems.solve();
    CHECK(problems.status_of(0) == SvmStatus::optimal && problems.norm[0] == 0.0);
}

// More coordinates than constraints, tokens and queries in several pieces of the factorisation.
void long_tokens_are_solved_in_fewer_coordinates() {
    OwnedSvms problems(2, 5, 4, 3000, 2500);
    fill_random(problems, 17);
    problems.solve();
    for (Index b = 0; b < problems.B; ++b) {
        CHECK(problems.status_of(b) == SvmStatus::optimal);
        check_optimal(problems, b, 1e-11);
    }
}

void numbers_of_any_size_are_solved(double token_size, double query_size) {
    OwnedSvms problems(2, 6, 5, 8, 8);
    fill_random(problems, 19);
    problems.solve();
    const double plain[] = {problems.norm[0], problems.norm[1]};
    for (Index k = 0; k < problems.X.size(); ++k) problems.X[k] *= token_size;
    for (Index k = 0; k < problems.Z.size(); ++k) problems.Z[k] *= query_size;
    problems.solve();
    for (Index b = 0; b < problems.B; ++b) {
        CHECK(problems.status_of(b) == SvmStatus::optimal);
        CHECK(std::abs(problems.norm[b] * token_size * query_size / plain[b] - 1.0) <= 1e-12);
    }
}

void numbers_beyond_double_are_named_so() {
    OwnedSvms problems(1, 3, 3, 4, 4);
    fill_random(problems, 23);
    for (Index k = 0; k < problems.X.size(); ++k) problems.X[k] *= 1e300;
    problems.solve();
    CHECK(problems.status_of(0) == SvmStatus::beyond_float64);
    CHECK(std::isnan(problems.norm[0]));
}

void single_precision_is_read_as_it_is() {
    OwnedSvms problems(3, 6, 8, 10, 10);
    fill_random(problems, 29);
    Buffer<float> tokens(problems.X.size());
    for (Index k = 0; k < tokens.size(); ++k) {
        tokens[k] = static_cast<float>(problems.X[k]);
        problems.X[k] = static_cast<double>(tokens[k]);
    }
    problems.solve();
    const std::vector<double> expected = problems.W(0);
    problems.solve(tokens.data(), 1, nullptr);
    CHECK(problems.W(0) == expected);
}

// Unit rows with the tokens of a random SVM, for the methods on their own.
struct Units {
    OwnedSvms svm;
    SvmProblem<double> view;
    attsvm::UnitConstraints constraints;

    Units(unsigned seed, Index n, Index T, Index d)
        : svm(1, n, T, d, d), view(filled(svm, seed)), constraints(Team(1), view, attsvm::QueryCoordinates::fewest) {}
    static SvmProblem<double> filled(OwnedSvms& m, unsigned seed) {
        fill_random(m, seed);
        select_along_a_direction(m, seed);
        return {m.n,
                m.T,
                m.d,
                m.e,
                m.X.data(),
                m.Z.data(),
                m.selected.data(),
                m.length.data(),
                m.rhs.data(),
                m.equality.data()};
    }
};

void both_methods_agree(Index n, Index T, Index d) {
    const Units units(31, n, T, d);
    const attsvm::UnitProblem problem = units.constraints.problem();
    Progress progress(nullptr, 1.0);
    Buffer<double> by_ascent(problem.size()), by_active_set(problem.size()), by_gram(problem.size());
    attsvm::dual_ascent(problem, Team(1), progress, true, by_ascent.data(), 1e4);
    CHECK(attsvm::dual_active_set(problem, Team(1), progress, true, nullptr, by_active_set.data()).ended);
    CHECK(attsvm::dual_active_set_by_gram(problem, Team(1), progress, true, nullptr, by_gram.data()).ended);
    double largest = 0.0;
    for (Index r = 0; r < problem.size(); ++r) largest = std::max(largest, by_active_set[r]);
    CHECK(largest > 0.0);
    for (Index r = 0; r < problem.size(); ++r) CHECK(std::abs(by_ascent[r] - by_active_set[r]) <= 1e-10 * largest);
    for (Index r = 0; r < problem.size(); ++r) CHECK(std::abs(by_gram[r] - by_active_set[r]) <= 1e-10 * largest);
}

// Every active constraint is found, whose multipliers the Gram matrix of all of them gives at once.
void an_interior_point_finds_the_active_constraints(Index n, Index T, Index d) {
    const Units units(31, n, T, d);
    const attsvm::UnitProblem problem = units.constraints.problem();
    Progress progress(nullptr, 1.0);
    Buffer<double> expected(problem.size()), guess(problem.size()), found(problem.size()), again(problem.size());
    CHECK(attsvm::dual_active_set(problem, Team(1), progress, true, nullptr, expected.data()).ended);
    CHECK(attsvm::interior_point_is_possible(problem));
    CHECK(attsvm::frobenius_interior_point(problem, Team(1), progress, true, guess.data()) < 40);
    double largest = 0.0;
    for (Index r = 0; r < problem.size(); ++r) largest = std::max(largest, expected[r]);
    for (Index r = 0; r < problem.size(); ++r) CHECK((guess[r] > 0) == (expected[r] > 0));
    for (Index r = 0; r < problem.size(); ++r) CHECK(std::abs(guess[r] - expected[r]) <= 1e-3 * largest);
    const attsvm::ActiveSetResult result =
        attsvm::dual_active_set_by_gram(problem, Team(1), progress, true, guess.data(), found.data());
    CHECK(result.ended && result.steps == 0);
    for (Index r = 0; r < problem.size(); ++r) CHECK(std::abs(found[r] - expected[r]) <= 1e-10 * largest);
    attsvm::frobenius_interior_point(problem, Team(3), progress, true, again.data());
    CHECK(std::equal(again.data(), again.data() + again.size(), guess.data()));
}

void both_methods_prove_infeasibility() {
    Units units(37, 40, 10, 5);
    const attsvm::UnitProblem problem = units.constraints.problem();
    Progress progress(nullptr, 1.0);
    Buffer<double> dual(problem.size());
    attsvm::dual_ascent(problem, Team(1), progress, true, dual.data(), 1e4);
    CHECK(attsvm::farkas_residual(Team(1), problem, dual.data()) <= 1e-11);
    CHECK(attsvm::dual_active_set(problem, Team(1), progress, true, nullptr, dual.data()).ended);
    CHECK(attsvm::farkas_residual(Team(1), problem, dual.data()) <= 1e-9);
    CHECK(attsvm::dual_active_set_by_gram(problem, Team(1), progress, true, nullptr, dual.data()).ended);
    CHECK(attsvm::farkas_residual(Team(1), problem, dual.data()) <= 1e-9);
    attsvm::frobenius_interior_point(problem, Team(1), progress, true, dual.data());
    CHECK(attsvm::farkas_residual(Team(1), problem, dual.data()) <= 1e-9);
}

void a_start_changes_the_way_and_not_the_answer() {
    OwnedSvms problems(1, 30, 10, 20, 20);
    fill_random(problems, 41);
    select_along_a_direction(problems, 41);
    problems.solve();
    const double norm = problems.norm[0];
    const std::int64_t iterations = problems.iterations[0];
    Buffer<double> start(problems.dual.size());
    for (Index k = 0; k < start.size(); ++k) start[k] = 7.0 * problems.dual[k];
    problems.solve(problems.X.data(), 1, start.data());
    CHECK(problems.iterations[0] < iterations);
    CHECK(std::abs(problems.norm[0] / norm - 1.0) <= 1e-13);
    for (Index k = 0; k < start.size(); ++k) start[k] = k % 3 == 0 ? -1.0 : 1.0;
    problems.solve(problems.X.data(), 1, start.data());
    CHECK(std::abs(problems.norm[0] / norm - 1.0) <= 1e-13);
}

void threads_change_no_bit() {
    OwnedSvms problems(9, 12, 9, 11, 11);  // shared out SVM by SVM
    fill_random(problems, 43);
    select_along_a_direction(problems, 43);
    problems.solve(1);
    const Buffer<double> expected = std::move(problems.dual);
    for (const int threads : {2, 3}) {
        problems.dual = Buffer<double>(expected.size());
        problems.solve(threads);
        CHECK(std::equal(expected.data(), expected.data() + expected.size(), problems.dual.data()));
    }

    const Units units(47, 25, 30, 24);  // one SVM shared out
    const attsvm::UnitProblem problem = units.constraints.problem();
    Progress progress(nullptr, 1.0);
    Buffer<double> ascent(problem.size()), active_set(problem.size()), by_gram(problem.size());
    attsvm::dual_ascent(problem, Team(1), progress, true, ascent.data(), 1e4);
    attsvm::dual_active_set(problem, Team(1), progress, true, nullptr, active_set.data());
    attsvm::dual_active_set_by_gram(problem, Team(1), progress, true, nullptr, by_gram.data());
    for (const int threads : {2, 3}) {
        Buffer<double> again(problem.size());
        attsvm::dual_ascent(problem, Team(threads), progress, true, again.data(), 1e4);
        CHECK(std::equal(again.data(), again.data() + again.size(), ascent.data()));
        CHECK(attsvm::dual_active_set(problem, Team(threads), progress, true, nullptr, again.data()).ended);
        CHECK(std::equal(again.data(), again.data() + again.size(), active_set.data()));
        CHECK(attsvm::dual_active_set_by_gram(problem, Team(threads), progress, true, nullptr, again.data()).ended);
        CHECK(std::equal(again.data(), again.data() + again.size(), by_gram.data()));
    }
}

void a_basis_gives_the_rows_back() {
    std::mt19937_64 bits(53);
    for (const Index count : {1, 7, 120})
        for (const Index dimension : {120, 2600}) {
            Buffer<double> rows(count * dimension);
            attsvm_test::fill_normal(rows, bits);
            if (count > 1) std::copy(rows.data(), rows.data() + dimension, rows.data() + dimension);  // dependent
            const attsvm::RowBasis one(Team(1), rows.data(), count, dimension);
            const attsvm::RowBasis many(Team(3), rows.data(), count, dimension);
            const Buffer<double>&C = one.coordinates(), &same = many.coordinates();
            CHECK(std::equal(C.data(), C.data() + C.size(), same.data()));
            const Buffer<double> B = one.vectors(Team(1));
            Buffer<double> product(count * dimension), gram(count * count);
            attsvm::multiply(Team(1), count, count, dimension, attsvm::Strided<double>{C.data(), count, 1}, {},
                             B.data(), product.data());
            for (Index k = 0; k < rows.size(); ++k) CHECK(std::abs(product[k] - rows[k]) <= 1e-12);
            for (Index r = 0; r < count; ++r) {
                attsvm::rows_dot(B.data(), count, dimension, B.data() + r * dimension, gram.data() + r * count);
                for (Index s = 0; s < count; ++s) {
                    CHECK(std::abs(gram[r * count + s] - (r == s ? 1.0 : 0.0)) <= 1e-13);
                    if (s > r) CHECK(C[r * count + s] == 0.0);
                }
            }
        }
}

void a_basis_does_not_know_how_long_the_rows_are() {
    constexpr Index count = 5, dimension = 9;
    std::mt19937_64 bits(59);
    Buffer<double> rows(count * dimension), scaled(count * dimension);
    attsvm_test::fill_normal(rows, bits);
    std::fill(rows.data() + 3 * dimension, rows.data() + 4 * dimension, 0.0);
    const int exponent[count] = {-900, 1000, 0, 0, -1040};  // the last are subnormal numbers
    for (Index k = 0; k < dimension; ++k)                   // whole numbers, so that nothing is lost among them
        rows[4 * dimension + k] = std::nearbyint(rows[4 * dimension + k] * 64.0);
    for (Index i = 0; i < count; ++i)
        for (Index k = 0; k < dimension; ++k)
            scaled[i * dimension + k] = std::ldexp(rows[i * dimension + k], exponent[i]);
    const attsvm::RowBasis plain(Team(1), rows.data(), count, dimension);
    const attsvm::RowBasis far(Team(1), scaled.data(), count, dimension);
    for (Index i = 0; i < count; ++i)
        for (Index j = 0; j < count; ++j)
            CHECK(far.coordinates()[i * count + j] == std::ldexp(plain.coordinates()[i * count + j], exponent[i]));
    const Buffer<double> B = plain.vectors(Team(1)), same = far.vectors(Team(1));
    CHECK(std::equal(B.data(), B.data() + B.size(), same.data()));
}

// The smallest w of w_1 >= 1 is (1, 0), of multiplier 1.
void the_certificate_has_closed_forms() {
    const double rhs[] = {1.0, 0.0}, unit[] = {1.0, 1.0};
    const bool equality[] = {false, false};
    const auto certificate = [&](double primal, double dual) {
        const double values[] = {primal, 0.0}, multipliers[] = {dual, 0.0};
        return attsvm::certify_optimality(
            attsvm::PrimalDualPair{2, values, rhs, multipliers, equality, unit, primal, dual, std::abs(primal - dual)});
    };
    CHECK(certificate(1.0, 1.0).gap == 0.0 && certificate(1.0, 1.0).kkt == 0.0);
    CHECK(std::abs(certificate(1.0, 0.9).gap - 0.01) <= 1e-15);  // b'λ - ½|A*λ|² = 0.9 - 0.405
    CHECK(certificate(0.9, 1.0).gap <= 1e-15);                   // w is scaled to its margin
    CHECK(std::abs(certificate(0.9, 1.0).shortfall - 0.1) <= 1e-15);
    CHECK(!certificate(0.9, 1.0).holds(1e-9) && !certificate(1.0, 0.9).holds(1e-9));
    CHECK(!certificate(-1.0, 1.0).holds(1e-9) && !certificate(1.0, 0.0).holds(1e-9));

    const double D[] = {1.0, 0.0, -1.0, 0.0, 0.0, 1.0}, L[] = {1.0}, b[] = {1.0, 0.5, 0.0};
    const bool none[] = {false, false, false};
    const Index start[] = {0, 3};
    const attsvm::UnitProblem problem{{1, 2, 1, start, D, L, {}, {}}, b, none};
    const auto residual = [&](double first, double second, double third) {
        const double dual[] = {first, second, third};
        return attsvm::farkas_residual(Team(1), problem, dual);
    };
    CHECK(residual(2.0, 2.0, 0.0) == 0.0);
    CHECK(std::abs(residual(1.0, 1.0, 1e-3) - 5e-4) <= 1e-18);
    CHECK(residual(1.0, 0.0, 0.0) == 1.0);
    CHECK(std::isinf(residual(1.0, 1.0, -1e-9)) && std::isinf(residual(0.0, 0.0, 1.0)));
}

void a_stopped_solver_claims_nothing(Index n, Index T, Index d) {
    OwnedSvms problems(1, n, T, d, d);
    fill_random(problems, 59);
    Progress progress(nullptr, 1.0);
    progress.stop();
    const SvmProblem<double> svm = problems.batch(problems.X.data())[0];
    attsvm::solve_frobenius(svm, nullptr, attsvm::FrobeniusMethod::automatic, {1e-9, 1e-9}, Team(1), progress, true,
                            problems.result());
    CHECK(problems.status_of(0) == SvmStatus::unresolved);
    CHECK(std::isnan(problems.norm[0]));
}

void small_batches_stay_on_one_thread() {
    using Kind = attsvm::SvmNorm::Kind;
    const auto plans = [](Index count, Index n, Index T, Index d) {
        const attsvm::SvmBatch<double> batch{count, {n, T, d, d, {}, {}, {}, {}, {}, {}}};
        return std::array{attsvm::thread_plan(batch, 2), attsvm::thread_plan(batch, {Kind::max}, 2),
                          attsvm::thread_plan(batch, {Kind::spectral}, 2)};
    };
    for (Index count = 1; count <= 4; ++count)
        for (const auto& plan : plans(count, 6, 8, 10)) CHECK(plan.across == 1 && plan.within == 1);
    for (const auto& plan : plans(1000, 6, 8, 10)) CHECK(plan.across == 2 && plan.within == 1);
    for (const auto& plan : plans(256, 5, 5, 3)) CHECK(plan.across == 2 && plan.within == 1);
    for (const auto& plan : plans(1, 500, 128, 256)) CHECK(plan.across == 1 && plan.within == 2);
}

}  // namespace

int main() {
    small_batches_stay_on_one_thread();
    one_constraint_has_a_closed_form();
    random_problems_are_solved_or_shown_infeasible();
    repeated_tokens_and_samples_do_no_harm();
    tokens_can_be_the_rows();
    nothing_to_solve_is_solved_by_zero();
    long_tokens_are_solved_in_fewer_coordinates();
    for (const double size : {1e-100, 1e-30, 1e30, 1e100}) numbers_of_any_size_are_solved(size, 1.0);
    numbers_of_any_size_are_solved(1e80, 1e60);
    numbers_beyond_double_are_named_so();
    single_precision_is_read_as_it_is();
    both_methods_agree(6, 8, 10);
    both_methods_agree(20, 10, 20);
    both_methods_agree(30, 12, 9);
    an_interior_point_finds_the_active_constraints(6, 8, 10);
    an_interior_point_finds_the_active_constraints(30, 12, 9);
    both_methods_prove_infeasibility();
    a_start_changes_the_way_and_not_the_answer();
    threads_change_no_bit();
    a_basis_gives_the_rows_back();
    a_basis_does_not_know_how_long_the_rows_are();
    the_certificate_has_closed_forms();
    a_stopped_solver_claims_nothing(6, 8, 10);
    a_stopped_solver_claims_nothing(30, 10, 20);
    return attsvm_test::report();
}
