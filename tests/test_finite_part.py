"""W^fin, and a trained W as W^fin + R W^mm."""

from __future__ import annotations

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import plain_svm
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm import (
    AttentionData,
    SolverError,
    att_svm,
    cosine,
    decompose,
    finite_part,
    general_svm,
    graph_svm,
    selected_sets,
    train,
)
from attsvm.datasets import next_token, unit_sphere

SEEDS = st.integers(0, 2**32 - 1)


def toy() -> AttentionData:
    return AttentionData([[[1.0, 1.0], [1.0, -1.0], [0.0, 0.0]]], [1], queries=[[1.0, 0.0]])


def softmax_of(W: np.ndarray, data: AttentionData) -> np.ndarray:
    """Softmax weights of X W z, by the plain formula."""
    logits = np.einsum("...ntd,...de,...ne->...nt", data.tokens, W, data.queries)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def drawn(rng: np.random.Generator, *, n=3, T=4, d=6, size=20.0, batch=None):
    """Data and a random W of this size."""
    data = unit_sphere(n, T, d, batch=batch, rng=rng)
    return data, size * rng.standard_normal((*data.tokens.shape[:-3], d, d)) / np.sqrt(d)


def log_ratios(W, data, weights, sets):
    """Largest difference of (x_it - x_iτ)' W z_i and ln(s_it / s_iτ) in the selected sets."""
    logits = np.einsum("ntd,de,ne->nt", data.tokens, W, data.queries)
    worst = 0.0
    for row, s, chosen in zip(logits, weights, sets, strict=True):
        off = row[chosen] - np.log(s[chosen])
        worst = max(worst, float(np.ptp(off)))
    return worst


def test_the_ratio_of_two_weights_by_hand():
    """(0, 2) W (1, 0)' = ln 3."""
    expected = [[0.0, 0.0], [np.log(3) / 2, 0.0]]
    assert finite_part(toy(), [[0.75, 0.25, 0.0]]) == pytest.approx(np.array(expected), abs=1e-15)


def test_it_is_zero_where_one_token_is_selected_or_all_ratios_are_one():
    assert not finite_part(toy(), [[1.0, 0.0, 0.0]]).any()
    assert finite_part(toy(), [[0.5, 0.5, 0.0]]) == pytest.approx(np.zeros((2, 2)), abs=1e-15)


@given(seed=SEEDS)
def test_it_has_the_ratios_of_the_weights(seed):
    data, W = drawn(np.random.default_rng(seed))
    weights = softmax_of(W, data)
    sets = selected_sets(weights)
    assert log_ratios(finite_part(data, weights), data, weights, sets) <= 1e-11


@given(seed=SEEDS)
def test_it_is_orthogonal_to_the_svm_of_the_same_sets(seed):
    data, W = drawn(np.random.default_rng(seed))
    weights = softmax_of(W, data)
    solution = general_svm(data, weights)
    if solution.feasible:
        inner = np.sum(finite_part(data, weights) * solution.W)
        assert abs(inner) <= 1e-10


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_smallest(seed):
    data, W = drawn(np.random.default_rng(seed), size=5.0)
    weights = softmax_of(W, data)
    rows, rhs = [], []
    for X, z, s, chosen in zip(
        data.tokens, data.queries, weights, selected_sets(weights), strict=True
    ):
        inside = np.flatnonzero(chosen)
        for t, tau in itertools.pairwise(inside):
            rows.append(np.kron(X[t] - X[tau], z))
            rhs.append(np.log(s[t] / s[tau]))
    assert rows
    expected = plain_svm.smallest(np.array(rows), np.array(rhs), np.ones(len(rhs), dtype=bool))
    assert finite_part(data, weights) == pytest.approx(expected.reshape(6, 6), abs=1e-8)


@given(seed=SEEDS, size=st.sampled_from([0.1, 3.0, 1000.0]))
def test_more_equations_than_coordinates_are_solved_when_they_come_from_a_w(seed, size):
    """Eight inputs of twelve tokens in two dimensions: equal logits up to rounding only."""
    rng = np.random.default_rng(seed)
    data = unit_sphere(8, 12, 2, rng=rng)
    W = size * rng.standard_normal((2, 2))
    weights = softmax_of(W, data)
    part = finite_part(data, weights)
    assert log_ratios(part, data, weights, selected_sets(weights)) <= 1e-10
    if selected_sets(weights).all():
        assert part == pytest.approx(W, rel=1e-9, abs=1e-12)


def test_ratios_that_no_w_has_are_refused_with_the_residual():
    """On the line, logits 1 and -1 at the ends are 0 in the middle: least squares misses by 1/3."""
    data = AttentionData([[[-1.0], [0.0], [1.0]]], [1], queries=[[1.0]])
    weights = np.exp([0.0, 1.0, 0.0])
    weights /= weights.sum()
    message = r"^attention: expected ratios of weights that some W has, got equations with the"
    with pytest.raises(ValueError, match=message + r" residual 1, above 1e-06$"):
        finite_part(data, [weights])
    twice = AttentionData(2 * [data.tokens], 2 * [data.labels], queries=2 * [data.queries])
    with pytest.raises(ValueError, match=r"above 1e-06, for problem 1$"):
        finite_part(twice, [[[0.0, 0.0, 1.0]], [weights]])
    repeated = AttentionData([[[1.0], [1.0]]], [1], queries=[[1.0]])
    with pytest.raises(ValueError, match=message):
        finite_part(repeated, [[0.75, 0.25]])
    assert finite_part(repeated, [[0.5, 0.5]]).tolist() == [[0.0]]


def test_logarithms_are_used_where_there_are_some():
    """exp(-744) keeps one bit of a float64, its logarithm all of them."""
    data = AttentionData([[[1.0], [0.0]]], [1], queries=[[1.0]])
    logs = np.array([[0.0, -744.0]])
    attends = SimpleNamespace(attention=np.exp(logs), log_attention=logs)
    assert finite_part(data, attends, threshold=0) == pytest.approx(744.0, rel=1e-15)
    assert finite_part(data, np.exp(logs), threshold=0) != pytest.approx(744.0, rel=1e-4)


def test_a_batch_is_its_problems():
    data, W = drawn(np.random.default_rng(0), batch=4)
    weights = softmax_of(W, data)
    together = finite_part(data, weights)
    for b, problem in enumerate(data.problems()):
        np.testing.assert_array_equal(together[b], finite_part(problem, weights[b]))


@given(seed=SEEDS, radius=st.floats(1.0, 1e6))
def test_decompose_finds_what_a_matrix_was_made_of(seed, radius):
    data, W = drawn(np.random.default_rng(seed))
    weights = softmax_of(W, data)
    solution, finite = general_svm(data, weights), finite_part(data, weights)
    if solution.feasible and solution.norm > 0:
        made = finite + radius * solution.W
        parts = decompose(made, data, attention=weights)
        assert parts.radius == pytest.approx(radius, rel=1e-9)
        assert parts.cosine_gap <= 1e-20
        assert pytest.approx(made, rel=1e-9, abs=1e-9 * radius) == parts.W


@given(seed=SEEDS)
def test_the_radius_is_that_of_least_squares(seed):
    data, W = drawn(np.random.default_rng(seed))
    parts = decompose(W, data)
    if parts.direction is not None:
        rest = W - parts.W
        assert abs(np.sum(rest * parts.direction)) <= 1e-9 * np.linalg.norm(W)
        assert parts.cosine == pytest.approx(cosine(W, parts.W), abs=1e-14)
        assert pytest.approx(parts.finite + parts.radius * parts.direction) == parts.W


def test_attention_of_the_matrix_or_of_the_run_is_the_same():
    data = unit_sphere(3, 4, 6, batch=3, rng=0)
    for parameter, steps in (("W", 60), ("KQ", 15)):
        run = train(data, parameter=parameter, steps=steps, rng=0)
        from_run, from_matrix = decompose(run, data), decompose(run.W, data)
        assert (selected_sets(run).sum(axis=-1) > 1).any()
        assert from_run.finite == pytest.approx(from_matrix.finite, abs=1e-9)
        assert from_run.radius == pytest.approx(from_matrix.radius, rel=1e-9)
        assert from_run.cosine_gap == pytest.approx(from_matrix.cosine_gap, rel=1e-6)


def test_padding_has_no_part_in_it():
    data, W = drawn(np.random.default_rng(1), n=2, T=5)
    short = AttentionData(data.tokens[:, :3], data.labels, queries=data.queries)
    padded = AttentionData(data.tokens, data.labels, queries=data.queries, lengths=[3, 3])
    one, other = decompose(W, short), decompose(W, padded)
    assert one.finite == pytest.approx(other.finite, abs=1e-12)
    assert one.radius == pytest.approx(other.radius, rel=1e-9)


def test_an_infeasible_svm_leaves_the_finite_part_alone():
    line = AttentionData([[[-1.0], [1.0], [0.0]]], [1], queries=[[1.0]])
    ends = [[0.5, 0.5, 0.0]]
    parts = decompose([[1.0]], line, attention=ends)
    assert parts.finite.tolist() == [[0.0]]
    assert parts.direction is parts.radius is parts.W is parts.cosine is None
    assert repr(parts) == "Decomposition(infeasible)"
    twice = AttentionData(2 * [line.tokens], 2 * [line.labels], queries=2 * [line.queries])
    both = decompose([[[1.0]], [[1.0]]], twice, attention=[ends, [[0.0, 1.0, 0.0]]])
    assert np.isnan(both.radius).tolist() == np.isnan(both.cosine).tolist() == [True, False]
    assert both.cosine[1] == 1.0


def test_where_every_token_is_selected_there_is_no_direction():
    parts = decompose([[0.1, 0.0], [0.2, 0.0]], toy())
    assert not parts.direction.any()
    assert parts.radius == 0
    assert pytest.approx(np.array([[0.1, 0.0], [0.2, 0.0]])) == parts.W
    nothing = decompose([[0.0, 1.0], [0.0, 0.0]], toy())  # the query does not see it
    assert nothing.cosine == 0


@pytest.mark.parametrize(
    ("W", "options", "error", "message"),
    [
        (np.zeros((2, 2)), {}, ValueError, r"^W: expected a direction, got zero$"),
        (np.ones((3, 2)), {}, ValueError, r"^W: expected shape \(d, d\) = \(2, 2\), got \(3, 2\)"),
        (np.ones(2), {}, ValueError, r"^W: expected shape \(d, d\) = .*, got \(2,\)"),
        (
            np.full((2, 2), 1e308),
            {},
            ValueError,
            r"^data: expected tokens and queries whose products with W",
        ),
        (np.ones((2, 2)), {"finite": [1.0]}, ValueError, r"^finite: expected shape \(d, d\)"),
        (np.ones((2, 2)), {"threshold": 2}, ValueError, r"^threshold: expected a number"),
        (np.ones((2, 2)), {"attention": [[1, 1, 1]]}, ValueError, r"^attention: expected weights"),
    ],
)
def test_what_cannot_be_decomposed_is_refused(W, options, error, message):
    with pytest.raises(error, match=message):
        decompose(W, toy(), **options)


def test_a_run_of_a_prompt_or_data_without_queries_is_refused():
    data = unit_sphere(2, 3, 4, rng=0)
    with pytest.raises(ValueError, match=r"^W: expected a run of W or of K and Q, got one of p$"):
        decompose(train(data, parameter="p", steps=2), data)
    bare = AttentionData(data.tokens, data.labels)
    with pytest.raises(ValueError, match=r"^queries: needed for"):
        decompose(np.eye(4), bare)
    with pytest.raises(ValueError, match=r"^queries: needed for the finite part"):
        finite_part(bare, np.full((2, 3), 1 / 3))


def test_a_solution_of_other_data_is_refused():
    data, other = (unit_sphere(4, 3, 5, batch=2, rng=seed) for seed in (0, 1))
    run = train(data, steps=200)
    for solution in (att_svm(data, run.selected), general_svm(data, run)):
        decompose(run, data, solution)
        with pytest.raises(ValueError, match=r"^solution: expected that of `data`, got one with"):
            decompose(run.W, other, solution)
    graph, others = (next_token(4, 3, 5, 8, batch=2, rng=seed) for seed in (0, 1))
    local = graph_svm(graph, attention=train(graph, loss="squared", steps=300))
    for solution in (graph_svm(graph), local):
        decompose(np.ones((2, 8, 8)), graph, solution)
        with pytest.raises(ValueError, match=r"^solution: expected that of `data`, got one with"):
            decompose(np.ones((2, 8, 8)), others, solution)


def test_infeasible_problems_of_a_batch_have_no_margins_to_compare():
    line, plane = [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    data = AttentionData([[line], [plane]], [[1], [1]], queries=[[[1.0, 0.0]], [[1.0, 0.0]]])
    solution = att_svm(data, [[1], [1]])
    assert solution.status.tolist() == ["infeasible", "optimal"]
    parts = decompose(np.ones((2, 2, 2)), data, solution)
    assert np.isnan(parts.cosine_gap).tolist() == [True, False]


def test_equations_of_many_coordinates_are_solved_by_their_multipliers(monkeypatch):
    data, W = drawn(np.random.default_rng(5), n=4, T=5, d=30)
    weights = softmax_of(W, data)
    expected = finite_part(data, weights)
    monkeypatch.setattr(sys.modules["attsvm.theory.finite_part"], "_MOST_NUMBERS", 0)
    assert finite_part(data, weights) == pytest.approx(expected, abs=1e-10)


def test_sizes_beyond_float64_are_refused():
    tiny = AttentionData([[[1e-200], [2e-200]]], [1], queries=[[1e-200]])
    with pytest.raises(SolverError, match=r"^finite_part: equations of sizes beyond what float64"):
        finite_part(tiny, [[0.75, 0.25]])
