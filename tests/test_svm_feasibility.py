"""Whether there is a solution: against a linear program, and as the theory says."""

from __future__ import annotations

from functools import partial

import numpy as np
import plain_svm
import pytest

import attsvm
from attsvm import AttentionData, att_svm, label_svm, prompt_svm
from attsvm.datasets import unit_sphere


def random_problem(rng, d):
    """Small and of any kind: random or on a lattice, self- or cross-attention."""
    n, T = rng.integers(1, 7), rng.integers(2, 7)
    if rng.random() < 0.3:
        tokens = rng.integers(-2, 3, (n, T, d)).astype(float)
        queries = rng.integers(-2, 3, (n, d)).astype(float)
    else:
        tokens, queries = rng.standard_normal((n, T, d)), rng.standard_normal((n, d))
    if rng.random() < 0.4:
        queries = tokens[:, 0].copy()
    return AttentionData(tokens, rng.choice([-1.0, 1.0], n), queries=queries)


def problems(rng, data):
    """(SVM by a solver, rows, right-hand sides) of every machine on `data`."""
    selected, required = rng.integers(0, data.T, data.n), rng.random(data.n) < 0.5
    with_queries = plain_svm.attention_rows(data.tokens, data.queries, selected)
    without = plain_svm.attention_rows(data.tokens, None, selected)
    ones = np.ones(len(without))
    some = plain_svm.required_margins(data.tokens, required)
    own = data.labels[:, np.newaxis] * data.tokens[np.arange(data.n), selected]
    yield partial(att_svm, data, selected), with_queries, ones
    yield partial(prompt_svm, data, selected), without, ones
    yield partial(prompt_svm, data, selected, required=required), without, some
    yield partial(label_svm, data, selected), own, np.ones(data.n)


def assert_status_agrees_with_a_linear_program(d, solvers, count):
    rng = np.random.default_rng([d, count])
    counts = {"optimal": 0, "infeasible": 0}
    for _ in range(count):
        for solve, rows, rhs in problems(rng, random_problem(rng, d)):
            status = "optimal" if plain_svm.feasible(rows, rhs) else "infeasible"
            assert [solve(solver=solver).status for solver in solvers] == [status] * len(solvers)
            counts[status] += 1
    assert min(counts.values()) >= count // 4


@pytest.mark.parametrize("d", [1, 2, 3, 4, 6])
def test_status_agrees_with_a_linear_program(d):
    assert_status_agrees_with_a_linear_program(d, ["native", "osqp", "active-set"], 40)


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2, 3, 4, 6])
def test_status_agrees_with_a_linear_program_on_many_problems(d):
    assert_status_agrees_with_a_linear_program(d, ["auto"], 400)


def feasible_percent(n, T, d):
    """Percentage of feasible problems for the optimal tokens, over 100 of them."""
    data = unit_sphere(n, T, d, batch=100, rng=14)
    return att_svm(data, attsvm.optimal_tokens(data)).feasible.sum()


@pytest.mark.parametrize(
    ("n", "T", "d", "percent"),
    [
        (5, 5, 2, 34),
        (5, 5, 3, 91),
        (10, 5, 3, 12),
        (10, 5, 4, 88),
        (15, 5, 4, 15),
        (15, 5, 5, 96),
    ],
)
def test_e14_share_of_feasible_problems(n, T, d, percent):
    assert feasible_percent(n, T, d) == pytest.approx(percent, abs=10)


@pytest.mark.parametrize(
    ("n", "T", "d"),
    [(5, 5, 4), (5, 5, 5), (10, 5, 5), (5, 10, 5), (5, 15, 5), (10, 5, 10), (5, 10, 10)],
)
def test_e14_problems_that_are_always_feasible(n, T, d):
    assert feasible_percent(n, T, d) == 100


@pytest.mark.parametrize("attention", ["cross", "self"])
@pytest.mark.parametrize(("n", "T", "d"), [(1, 3, 2), (3, 4, 3), (5, 3, 5), (4, 7, 6), (7, 4, 7)])
def test_any_choice_of_tokens_is_feasible_when_d_is_at_least_n_and_t_minus_one(n, T, d, attention):
    """d >= max(T - 1, n), for almost all data."""
    data = unit_sphere(n, T, d, batch=30, attention=attention, rng=1)
    selected = np.random.default_rng(2).integers(0, T, (30, n))
    assert att_svm(data, selected).feasible.all()


def test_unit_tokens_in_one_dimension_are_never_feasible():
    """Of three tokens that are -1 or +1, two are equal or lie on either side."""
    data = unit_sphere(4, 3, 1, batch=20, rng=0)
    assert not att_svm(data, np.zeros((20, 4), dtype=int)).feasible.any()


@pytest.mark.parametrize("solver", ["native", "osqp", "active-set"])
def test_a_copy_of_the_selected_token_in_its_input_is_infeasible(solver):
    tokens = np.random.default_rng(0).standard_normal((2, 3, 8))
    tokens[1, 2] = tokens[1, 0]
    data = AttentionData(tokens, [1, 1], queries=np.ones((2, 8)))
    solution = att_svm(data, [0, 0], solver=solver)
    assert solution.status == "infeasible"
    assert solution.gap == solution.kkt == 0.0
    assert np.argwhere(solution.certificate).tolist() == [[1, 2]]
    assert solution.certificate[1, 2] == 1.0


def test_a_copy_of_the_selected_token_in_the_padding_does_no_harm():
    tokens = np.random.default_rng(0).standard_normal((2, 3, 8))
    tokens[1, 2] = tokens[1, 0]
    data = AttentionData(tokens, [1, 1], queries=np.ones((2, 8)), lengths=[3, 2])
    assert att_svm(data, [0, 0]).status == "optimal"


def test_equal_inputs_with_different_selections_contradict_each_other():
    rng = np.random.default_rng(3)
    tokens = np.repeat(rng.standard_normal((1, 4, 9)), 2, axis=0)
    data = AttentionData(tokens, [1, 1], queries=np.repeat(rng.standard_normal((1, 9)), 2, axis=0))
    solution = att_svm(data, [0, 1])
    assert solution.status == "infeasible"
    assert np.argwhere(solution.certificate).tolist() == [[0, 1], [1, 0]]
    assert solution.certificate[[0, 1], [1, 0]] == pytest.approx([0.5, 0.5])
    assert att_svm(data, [2, 2]).status == "optimal"


@pytest.mark.parametrize("norm", ["fro", "max", "nuc", 3.0])
@pytest.mark.parametrize(
    ("attention", "certificate"),
    [([[1, 0], [1, 0]], [[0, 0.5], [0, 0.5]]), ([[0.6, 0.4], [0, 1]], [[0, -1], [1, 0]])],
)
def test_fewer_queries_than_coordinates_that_are_dependent_contradict_each_other(
    attention, certificate, norm
):
    """x'Wz of at least 1, or 0, and -x'Wz of at least 1: what cancels is of different queries."""
    tokens, query = np.array([[0.0, 1, 0], [0, 0, 0]]), np.array([0.0, 0, 1])
    data = AttentionData([tokens, tokens], [1, 1], queries=[query, -query])
    solution = attsvm.general_svm(data, attention, norm=norm)
    assert solution.status == "infeasible"
    assert solution.certificate == pytest.approx(np.array(certificate))


def test_queries_in_a_plane_contradict_each_other():
    """The three queries add up to nothing, and so do the margins of every token."""
    rng = np.random.default_rng(0)
    tokens, queries = rng.standard_normal((3, 5)), rng.integers(-3, 4, (3, 5)).astype(float)
    queries[2] = -queries[0] - queries[1]
    solution = att_svm(AttentionData([tokens] * 3, [1] * 3, queries=queries), [0, 0, 0])
    assert solution.status == "infeasible"
    products = (tokens[0] - tokens)[:, :, np.newaxis] * queries[:, np.newaxis, np.newaxis]
    assert solution.certificate.min() == 0.0
    assert solution.certificate.sum() == pytest.approx(1)
    assert np.einsum("it,itjc->jc", solution.certificate, products) == pytest.approx(0, abs=1e-14)


def test_a_selected_token_inside_the_hull_of_the_others_is_infeasible():
    """No p can single out the mean of the others; the certificate is the mean."""
    tokens = np.random.default_rng(4).standard_normal((1, 5, 10))
    tokens[0, 2] = tokens[0, [0, 1, 3, 4]].mean(axis=0)
    solution = prompt_svm(AttentionData(tokens, [1]), [2])
    assert solution.status == "infeasible"
    assert solution.certificate[0] == pytest.approx([0.25, 0.25, 0.0, 0.25, 0.25], rel=1e-12)
    assert solution.gap < 1e-14
