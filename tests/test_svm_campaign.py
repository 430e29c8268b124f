"""Random SVMs that float64 finds hard, against exact arithmetic.

2,500 of each family, 10,000 of each kind and norm, in twenty minutes on two cores:

    ATTSVM_SVMS=2500 pytest -m slow -n 2 tests/test_svm_campaign.py
"""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np
import pytest
from exact_margins import Exact, exact_rows, proves_infeasible, smallest

import attsvm
from attsvm import AttentionData, SolverError, _core
from attsvm.sklearn import HardMarginSVC
from attsvm.svm.solvers import OPTIMALITY_TOLERANCE, frobenius
from attsvm.svm.svm_problem import attention_problem

COUNT = int(os.environ.get("ATTSVM_SVMS", "40"))
NORMS = ("fro", "max", "l1", "spec", "nuc", 1.5, 3.0, 100.0)
KINDS = ("att", "prompt", "relaxed", "general", "graph")


def scaled(rng, n, T, d):
    """Tokens and queries from 1e-12 to 1e12."""
    tokens, queries, selected = gaussian(rng, n, T, d)
    return tokens * 10.0 ** rng.uniform(-12, 12), queries * 10.0 ** rng.uniform(-12, 12), selected


def spread(rng, n, T, d):
    """Inputs of sizes from 1e-6 to 1e6."""
    tokens, queries, selected = gaussian(rng, n, T, d)
    return tokens * 10.0 ** rng.integers(-6, 7, (n, 1, 1)), queries, selected


def near_duplicates(rng, n, T, d):
    """Two inputs of those that agree to 5 to 14 digits."""
    tokens, queries, selected = spread(rng, n, T, d)
    difference = 10.0 ** -rng.integers(5, 15)
    tokens[-1] = tokens[0] * (1 + difference * rng.standard_normal((T, d)))
    queries[-1] = queries[0] * (1 + difference * rng.standard_normal(d))
    selected[-1] = selected[0]
    return tokens, queries, selected


def nearly_infeasible(rng, n, T, d):
    """Opposite differences of tokens but for 1e-6 to 0.1, to either side."""
    tokens, queries, selected = gaussian(rng, n, T, d)
    height = 10.0 ** rng.uniform(-6, -1) * rng.choice([-1, 1], p=[0.3, 0.7])
    alpha, other = selected[0], (selected[0] + 1) % T
    queries[-1], selected[-1] = queries[0], alpha
    difference = tokens[0, alpha] - tokens[0, other]
    tokens[-1, other] = tokens[-1, alpha] + difference - height * rng.standard_normal(d)
    return tokens, queries, selected


def gaussian(rng, n, T, d):
    return rng.standard_normal((n, T, d)), rng.standard_normal((n, d)), rng.integers(0, T, n)


FAMILIES = (scaled, spread, near_duplicates, nearly_infeasible)


class TokenProblem:
    """Tokens to be selected: rows, right-hand sides, equalities, and where they are in (n, T)."""

    def __init__(self, kind, family, rng):
        n, T, d = (int(rng.integers(2, high)) for high in (6, 5, 6 if kind != "att" else 5))
        tokens, queries, self.selected = family(rng, n, T, d)
        self.kind, self.with_queries = kind, kind in ("att", "general")
        self.data = AttentionData(tokens, np.ones(n), queries=queries)
        self.place = np.arange(T) != self.selected[:, np.newaxis]
        self.required = rng.random(n) < 0.5
        # Inputs of two tokens keep one, and near duplicates are in the same sets.
        in_set = (rng.random(n) < 0.3) & (T > 2)
        in_set[-1] = in_set[0]
        self.weights = np.zeros((n, T))
        self.weights[np.arange(n), self.selected] = 0.6
        self.weights[np.arange(n), (self.selected - 1) % T] = np.where(in_set, 0.4, 0.0)
        self.weights /= self.weights.sum(axis=1, keepdims=True)
        self.rows = exact_rows(tokens, queries if self.with_queries else None, self.selected)
        rhs, equality = np.ones((n, T)), np.zeros((n, T), dtype=bool)
        if kind == "relaxed":
            rhs *= self.required[:, np.newaxis]
        if kind == "general":
            equality = self.weights > 0
            rhs[equality] = 0.0
        self.rhs, self.equality = rhs[self.place], equality[self.place]

    def solution(self, norm):
        if self.kind == "att":
            return attsvm.att_svm(self.data, self.selected, norm=norm)
        if self.kind == "general":
            return attsvm.general_svm(self.data, self.weights, norm=norm)
        required = self.required if self.kind == "relaxed" else None
        return attsvm.prompt_svm(self.data, self.selected, required=required, norm=norm)


class GraphProblem:
    """Next tokens: a label above the other tokens of its context, or level with them."""

    with_queries = True

    def __init__(self, kind, family, rng):
        K, d, n, T = (int(rng.integers(low, 6)) for low in (4, 3, 2, 2))
        contexts = rng.integers(0, K, (n, T))
        labels = contexts[np.arange(n), rng.integers(0, T, n)]
        self.data = attsvm.NextTokenData(family(rng, K, 2, d)[0][:, 0], contexts, labels)
        E, rows, equality = Exact(self.data.embeddings), [], []
        self.place = contexts != labels[:, np.newaxis]
        for i, t in np.argwhere(self.place):
            above = labels[i]
            difference = (E[above] - E[contexts[i, t]]).integers
            rows.append(np.outer(difference, E.integers[contexts[i, -1]]).ravel())
            reaches = np.eye(K, dtype=bool)
            for other in np.flatnonzero(contexts[:, -1] == contexts[i, -1]):
                reaches[labels[other], contexts[other]] = True
            for via in range(K):
                reaches |= reaches[:, [via]] & reaches[[via]]
            equality.append(reaches[contexts[i, t], above])
        self.rows = Exact(np.array(rows, dtype=object).reshape(-1, d * d), 2 * E.exponent)
        self.equality = np.array(equality, dtype=bool)
        self.rhs = np.where(self.equality, 0.0, 1.0)

    def solution(self, norm):
        return attsvm.graph_svm(self.data, norm=norm)


class Classes:
    """Samples of two classes, near duplicates in the same: rows y_i (x_i, 1), or y_i x_i."""

    def __init__(self, family, seed, fit_intercept):
        rng = np.random.default_rng([len(KINDS), FAMILIES.index(family), seed])
        n, T, d = (int(rng.integers(2, high)) for high in (6, 4, 6))
        tokens, _, selected = family(rng, n, T, d)
        self.X = tokens.reshape(n * T, d)
        self.y = np.where(np.arange(T) == selected[:, np.newaxis], 1.0, -1.0).ravel()
        ones = np.ones((n * T, int(fit_intercept)))
        self.rows = Exact(self.y[:, np.newaxis] * np.hstack([self.X, ones]))
        self.fit_intercept = fit_intercept

    def are_separated_rightly(self):
        """Whether a hyperplane has its margins, or a certificate proves that none has."""
        model = HardMarginSVC(fit_intercept=self.fit_intercept).fit(self.X, self.y)
        if not model.separable_:
            rhs, equality = np.ones(self.y.size), np.zeros(self.y.size, dtype=bool)
            return proves_infeasible(self.rows, rhs, equality, model.certificate_)
        w = np.append(model.coef_[0], model.intercept_ if self.fit_intercept else [])
        return min(float(x) for x in (self.rows @ Exact(w)).fractions()) >= 1 - 1e-9


def drawn(kind, family, seed):
    rng = np.random.default_rng([KINDS.index(kind), FAMILIES.index(family), seed])
    return (GraphProblem if kind == "graph" else TokenProblem)(kind, family, rng)


def is_right(problem, solution):
    """Whether a W has its margins, or some multipliers prove that none has, without rounding.

    An extended one is left' right; the others have their margins in float64.
    """
    if solution.status == "infeasible":
        multipliers = solution.certificate[problem.place]
        return proves_infeasible(problem.rows, problem.rhs, problem.equality, multipliers)
    if solution.solver == "extended":
        product = Exact(solution.left.T) @ Exact(solution.right)
        W = Exact(product.integers.ravel(), product.exponent)
    else:
        W = Exact((solution.W if problem.with_queries else solution.p).ravel())
    values = np.array([float(x) for x in (problem.rows @ W).fractions()])
    missing = problem.rhs - values
    size = np.array([np.linalg.norm([float(x) for x in row.fractions()]) for row in problem.rows])
    zero = problem.rhs == 0
    missing[zero] /= np.maximum(1, size * np.linalg.norm([float(x) for x in W.fractions()]))[zero]
    inequality, equality = missing[~problem.equality], np.abs(missing[problem.equality])
    return max(inequality, default=0) <= 1e-9 and max(equality, default=0) <= 1e-9 + solution.kkt


@pytest.mark.parametrize(
    ("kind", "family", "seed", "norm"),
    [
        ("graph", nearly_infeasible, 6, 1.5),
        ("prompt", near_duplicates, 30, 1.5),
        ("att", near_duplicates, 82, 3.0),
        ("general", near_duplicates, 128, "nuc"),
    ],
)
def test_dependent_constraints_are_exchanged_for_each_other(kind, family, seed, norm):
    """All violated ones for all of negative multipliers would go in a circle."""
    problem = drawn(kind, family, seed)
    assert is_right(problem, problem.solution(norm))


@pytest.mark.parametrize("seed", [94, 211, 230, 262, 280, 675])
def test_equalities_that_nearly_agree_are_solved_to_the_last_digits(seed):
    """Their multipliers are up to 1e12 times as large as W, and cancel."""
    problem = drawn("general", near_duplicates, seed)
    solution = problem.solution("fro")
    assert is_right(problem, solution)
    dual = smallest(problem.rows, problem.rhs, problem.equality)
    expected = np.array([float(x) for x in dual @ problem.rows.integers])
    expected *= 2.0**problem.rows.exponent
    assert np.linalg.norm(solution.W.ravel() - expected) <= 1e-12 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("kind", "family", "seed", "norm"),
    [
        ("general", near_duplicates, 274, "max"),
        ("general", near_duplicates, 48, "l1"),
        ("general", near_duplicates, 262, "spec"),
        ("general", near_duplicates, 62, "nuc"),
        ("general", near_duplicates, 154, 1.5),
        ("general", near_duplicates, 280, 3.0),
        ("general", near_duplicates, 43, "l1"),
        ("general", near_duplicates, 1525, 1.5),
        ("general", near_duplicates, 459, 3.0),
        ("relaxed", nearly_infeasible, 206, "max"),
        ("relaxed", nearly_infeasible, 203, "l1"),
        ("relaxed", nearly_infeasible, 549, 1.5),
    ],
)
def test_constraints_that_nearly_agree_or_contradict_are_solved_in_every_norm(
    kind, family, seed, norm
):
    problem = drawn(kind, family, seed)
    solution = problem.solution(norm)
    assert solution.status == "optimal"
    assert is_right(problem, solution)
    assert solution.gap <= (1e-8 if norm == "nuc" else 1e-9)


@pytest.mark.parametrize("norm", ["max", "l1", "spec", "nuc", 1.01, 50.0, 1e6])
def test_inputs_whose_sizes_have_nothing_in_common_are_solved(norm):
    """From 1e-140 to 1e140; beside the smallest, the others require no margin at all."""
    rng = np.random.default_rng(1)
    tokens = rng.standard_normal((8, 5, 6)) * 10.0 ** rng.integers(-140, 141, (8, 1, 1))
    queries, W = rng.standard_normal((8, 6)), rng.standard_normal((6, 6))
    selected = np.argmax(np.einsum("ntj,jc,nc->nt", tokens, W, queries), axis=1)
    data = AttentionData(tokens, np.ones(8), queries=queries)
    solution = attsvm.att_svm(data, selected, norm=norm)
    product = Exact(solution.left.T) @ Exact(solution.right)
    W = Exact(product.integers.ravel(), product.exponent)
    margins = (exact_rows(tokens, queries, selected) @ W).fractions()
    assert min(float(x) for x in margins) >= 1 - 1e-9
    assert solution.gap <= (1e-8 if norm == "nuc" else 1e-9)


@pytest.mark.parametrize(
    ("norm", "order", "dual_order"),
    [("max", np.inf, 1.0), ("l1", 1.0, np.inf), (50.0, 50.0, 50 / 49), (1e6, 1e6, 1 / (1 - 1e-6))],
)
@pytest.mark.parametrize("height", [1e-4, 1e-5, 1e-6])
def test_many_constraints_that_nearly_contradict_each_other_are_solved(
    height, norm, order, dual_order
):
    """Far more of them than there are coordinates; the multipliers prove the norm."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((500, 8))
    rows[:, 0] = height * rng.uniform(1, 2, 500)
    data = AttentionData(np.stack([rows, np.zeros_like(rows)], 1), np.ones(500))
    solution = attsvm.prompt_svm(data, np.zeros(500, int), norm=norm)
    margins = [float(x) for x in (Exact(rows) @ Exact(solution.p)).fractions()]
    sums = [float(x) for x in (Exact(rows.T) @ Exact(solution.dual[:, 1])).fractions()]
    largest = np.max(np.abs(solution.p))
    size = largest * np.linalg.norm(solution.p / largest, order)
    assert solution.dual.min() >= 0
    assert min(margins) >= 1 - 1e-9
    assert size <= (1 + 1e-9) * solution.dual.sum() / np.linalg.norm(sums, dual_order)


@pytest.mark.parametrize(
    ("kind", "seed", "norm"),
    [
        ("graph", 984, "fro"),
        ("graph", 48, "max"),
        ("graph", 3, "l1"),
        ("graph", 157, "spec"),
        ("graph", 41, "nuc"),
        ("graph", 380, 3.0),
        ("graph", 1121, 3.0),
        ("graph", 2077, 3.0),
        ("graph", 977, 1.5),
        ("graph", 1198, 1.5),
        ("graph", 2222, 1.5),
        ("general", 526, "max"),
        ("general", 1528, "spec"),
        ("general", 1949, "l1"),
        ("general", 2446, 1.5),
        ("general", 2492, 1.5),
    ],
)
def test_what_twice_the_digits_of_float64_do_not_solve_is_solved_to_1e_9(kind, seed, norm):
    """Each was a `SolverError`, had a gap of 4e-7, or no W in two numbers of float64."""
    problem = drawn(kind, near_duplicates, seed)
    solution = problem.solution(norm)
    assert is_right(problem, solution)
    assert max(solution.gap, solution.kkt) <= 1e-9


@pytest.mark.parametrize(
    ("kind", "seed", "norm", "missed"),
    [
        ("graph", 10, "fro", 0.2),
        ("graph", 97, "fro", 2e-3),
        ("graph", 157, "fro", 5e-5),
        ("general", 56, "max", 1e-8),
        ("general", 459, "l1", 1e-8),
    ],
)
def test_what_float64_cannot_hold_is_extended(kind, seed, norm, missed):
    """W in float64 misses a margin by more than `missed`; with what rounding takes, by nothing."""
    problem = drawn(kind, near_duplicates, seed)
    solution = problem.solution(norm)
    assert solution.solver == "extended"
    assert is_right(problem, solution)
    assert max(solution.gap, solution.kkt) <= 1e-9
    d = solution.W.shape[1]
    assert np.array_equal(solution.left[:d].T, solution.W)
    assert np.array_equal(solution.right[: 4 * d], np.vstack([np.eye(d)] * 4))
    margins = np.array((problem.rows @ Exact(solution.W.ravel())).fractions(), dtype=float)
    assert np.max((problem.rhs - margins)[~problem.equality]) > missed
    if norm == "fro":
        dual = smallest(problem.rows, problem.rhs, problem.equality)
        unit = Fraction(2) ** problem.rows.exponent
        expected = [float(x * unit) for x in dual @ problem.rows.integers]
        np.testing.assert_allclose(solution.W.ravel(), expected, rtol=1e-12)


def test_an_extended_solution_takes_one_step_from_what_float64_found():
    """Two inputs that agree to 13 digits have other tokens selected: 20 steps from nothing."""
    rng = np.random.default_rng(1)
    tokens, queries, selected = gaussian(rng, 10, 6, 6)
    tokens[-1] = tokens[0] * (1 + 1e-13 * rng.standard_normal((6, 6)))
    queries[-1], selected[-1] = queries[0], (selected[0] + 1) % 6
    data = AttentionData(tokens, np.ones(10), queries=queries)
    problem = attention_problem(data, selected[np.newaxis])
    warm, (name,) = frobenius(problem, None)
    cold = _core.smallest_frobenius(
        svms=problem.core(),
        start=None,
        active_set=False,
        extended=True,
        optimality=OPTIMALITY_TOLERANCE,
        infeasibility=1e-9,
        threads=1,
        report=None,
    )
    assert name == "extended"
    assert (warm["iterations"][0], cold["iterations"][0]) == (1, 20)
    assert np.array_equal(warm["left"][0, :6], cold["left"][0, :6])


def test_an_extended_prompt_has_four_rows_alone_and_in_a_batch():
    rng = np.random.default_rng(0)
    a, r = rng.standard_normal((2, 3))
    usual = rng.standard_normal((1, 3, 3))
    opposite = np.array([[np.zeros(3), -a, a - 1e-13 * r]])
    data = AttentionData(np.stack([usual, opposite]), np.ones((2, 1)))
    both = attsvm.prompt_svm(data, [[0], [0]])
    one = attsvm.prompt_svm(AttentionData(opposite, [1.0]), [0])
    assert both.solver.tolist() == ["native", "extended"]
    assert one.solver == "extended"
    assert both.left.shape == (2, 4, 3)
    assert not both.left[0, 1].any()
    assert np.array_equal(both.left[1], one.left)
    assert np.array_equal(one.p, one.left[0])
    rows = exact_rows(opposite, None, [0])
    parts = [Exact(part) for part in one.left]
    exact = [sum(x) for x in zip(*((rows @ p).fractions() for p in parts), strict=True)]
    assert [float(x) for x in exact] == pytest.approx([1, 1], abs=1e-9)
    rounded = (rows @ parts[0]).fractions()
    assert max(abs(float(x) - 1) for x in rounded) > 1e-6


def solved_graph(family, seed):
    """Whether there is an answer, which is right."""
    problem = drawn("graph", family, seed)
    try:
        solution = problem.solution("fro")
    except SolverError:
        return False
    assert is_right(problem, solution)
    return True


@pytest.mark.parametrize("family", [spread, near_duplicates])
def test_answers_for_graphs_are_right_on_every_edge(family):
    """Spread 98: an edge implied by an equality missed its margin; near duplicates 5: infeasible"""
    assert all(solved_graph(family, seed) for seed in range(150))


@pytest.mark.parametrize("seed", [353, 380, 424, 875, 1073, 1121])
def test_ends_of_a_path_that_nearly_agree_are_solved(seed):
    """W is 1e17 times as large as constraints ask for, or multipliers 1e31 times as large as W."""
    assert solved_graph(near_duplicates, seed)


def test_margins_of_graphs_are_those_of_exact_arithmetic():
    problem = drawn("graph", spread, 98)
    solution = problem.solution("fro")
    exact = (problem.rows @ Exact(solution.W.ravel())).fractions()
    margins = solution.margins[problem.place]
    assert [float(x) for x in exact] == pytest.approx(margins, rel=1e-15, abs=1e-20)


quiet = pytest.mark.filterwarnings("ignore::attsvm.sklearn.NotSeparableWarning")


@quiet
@pytest.mark.parametrize("seed", [16, 19, 67, 80, 536])
def test_classes_of_samples_of_very_different_sizes_are_separated(seed):
    """Margins were computed with the rounding of w'x, and a column for b outweighed samples."""
    assert Classes(spread, seed, True).are_separated_rightly()


@quiet
@pytest.mark.parametrize(("family", "seed"), [(spread, 954), (near_duplicates, 1878)])
def test_weights_that_rounding_leaves_short_of_a_margin_are_made_longer(family, seed):
    """The solution in parts has margins of 1; rounded to float64, of 1 - 1e-8 and 1 - 5e-8."""
    assert Classes(family, seed, False).are_separated_rightly()


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_hyperplanes_are_right_and_there_is_one(family, fit_intercept):
    unsolved, wrong = [], []
    for seed in range(COUNT):
        try:
            if not Classes(family, seed, fit_intercept).are_separated_rightly():
                wrong.append(seed)
        except SolverError:
            unsolved.append(seed)
    assert wrong == []
    assert len(unsolved) <= COUNT / 1000, str(unsolved)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_right_and_there_is_one(kind, family):
    norms = [
        norm for norm in NORMS if kind not in ("prompt", "relaxed") or norm not in ("spec", "nuc")
    ]
    unsolved, wrong = {norm: [] for norm in norms}, []
    for seed in range(COUNT):
        problem, proved = drawn(kind, family, seed), False
        for norm in norms:
            try:
                solution = problem.solution(norm)
            except SolverError:
                unsolved[norm].append(seed)
                continue
            if solution.status == "infeasible" and proved:
                continue
            if not is_right(problem, solution):
                wrong.append((norm, seed))
            proved = solution.status == "infeasible"
    assert wrong == []
    assert max(map(len, unsolved.values())) <= COUNT / 1000, str(unsolved)
