"""Gen-SVM: the smallest W that selects a set of tokens in every input, and the sets themselves."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import plain_svm
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm import AttentionData, att_svm, general_svm, selected_sets, train
from attsvm.datasets import unit_sphere

SEEDS = st.integers(0, 2**32 - 1)


def toy() -> AttentionData:
    return AttentionData([[[1.0, 1.0], [1.0, -1.0], [0.0, 0.0]]], [1], queries=[[1.0, 0.0]])


def weights_of(sets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Softmax weights with these selected sets: the rest shares 1e-4."""
    inside = np.where(sets, rng.uniform(1, 2, sets.shape), 0.0)
    outside = np.where(sets, 0.0, 1e-4 / sets.shape[-1])
    share = inside / inside.sum(axis=-1, keepdims=True)
    return share * (1 - outside.sum(axis=-1, keepdims=True)) + outside


def random_sets(data: AttentionData, rng: np.random.Generator, most: int = 2) -> np.ndarray:
    """One to `most` selected tokens in every input."""
    order = np.argsort(rng.random(data.valid.shape), axis=-1)
    return order < rng.integers(1, most, size=(*data.labels.shape, 1), endpoint=True)


def rows_of_all_pairs(data: AttentionData, sets: np.ndarray):
    """(rows, right-hand sides, equality): every margin of every selected token, as P2 has it."""
    rows, rhs = [], []
    for X, z, chosen in zip(data.tokens, data.queries, sets, strict=True):
        inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        for t in inside:
            for tau in outside:
                rows.append(np.kron(X[t] - X[tau], z))
                rhs.append(1.0)
        for t, tau in itertools.pairwise(inside):
            rows.append(np.kron(X[t] - X[tau], z))
            rhs.append(0.0)
    return np.array(rows), np.array(rhs), np.array(rhs) == 0


def test_two_tokens_of_three_by_hand():
    """Equal logits of (1, 1) and (1, -1) leave the first coordinate only, where both lead by 1."""
    solution = general_svm(toy(), [[0.7, 0.3, 0.0]])
    assert pytest.approx(np.array([[1.0, 0.0], [0.0, 0.0]]), abs=1e-15) == solution.W
    assert solution.norm == pytest.approx(1.0, rel=1e-15)
    assert solution.margins == pytest.approx(np.array([[np.inf, 0.0, 1.0]]), abs=1e-15)
    assert solution.dual == pytest.approx(np.array([[0.0, -0.5, 1.0]]), abs=1e-15)
    assert solution.support.tolist() == [[False, True, True]]


@pytest.mark.parametrize("solver", ["native", "osqp", "active-set"])
@pytest.mark.parametrize(("n", "T", "d"), [(1, 3, 2), (3, 4, 5), (4, 6, 8), (2, 12, 12)])
def test_solution_is_that_of_a_conic_solver_on_all_pairs(n, T, d, solver):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        data = unit_sphere(n, T, d, rng=rng)
        sets = random_sets(data, rng, most=3)
        rows, rhs, equality = rows_of_all_pairs(data, sets)
        solution = general_svm(data, weights_of(sets, rng), solver=solver)
        both_ways = np.concatenate([rows, -rows[equality]])
        feasible = plain_svm.feasible(both_ways, np.concatenate([rhs, rhs[equality]]))
        assert solution.feasible is feasible
        if not feasible:
            continue
        expected = plain_svm.smallest(rows, rhs, equality).reshape(d, d) if rhs.any() else 0
        assert np.linalg.norm(solution.W - expected) <= 1e-7 * (1 + solution.norm)
        assert (rows @ solution.W.ravel() >= rhs - 1e-8).all()
        assert rows[equality] @ solution.W.ravel() == pytest.approx(0, abs=1e-8)


def test_an_infeasible_choice_has_a_certificate():
    """Equal logits of the ends of a line are those of its middle too."""
    data = AttentionData([[[-1.0], [1.0], [0.0]]], [1], queries=[[1.0]])
    solution = general_svm(data, [[0.5, 0.5, 0.0]])
    assert solution.status == "infeasible"
    assert solution.W is None
    assert solution.certificate[0, 2] > 0
    differences = data.tokens[0, 0, 0] - data.tokens[0, :, 0]
    assert solution.certificate[0] @ differences == pytest.approx(0, abs=1e-12)


@given(seed=SEEDS)
def test_one_token_in_every_set_is_the_att_svm(seed):
    rng = np.random.default_rng(seed)
    data = unit_sphere(2, 4, 5, rng=rng)
    sets = random_sets(data, rng, most=1)
    general = general_svm(data, weights_of(sets, rng))
    single = att_svm(data, sets.argmax(axis=-1))
    np.testing.assert_array_equal(general.W, single.W)
    np.testing.assert_array_equal(general.dual, single.dual)


@given(seed=SEEDS)
def test_only_the_sets_matter_not_the_weights_in_them(seed):
    rng = np.random.default_rng(seed)
    data = unit_sphere(2, 4, 6, rng=rng)
    sets = random_sets(data, rng)
    first, second = (general_svm(data, weights_of(sets, rng)) for _ in range(2))
    assert np.linalg.norm(first.W - second.W) <= 1e-8 * first.norm


@given(seed=SEEDS)
def test_multipliers_make_the_solution(seed):
    rng = np.random.default_rng(seed)
    data = unit_sphere(3, 4, 8, rng=rng)
    sets = random_sets(data, rng)
    weights = weights_of(sets, rng)
    solution = general_svm(data, weights)
    alpha = weights.argmax(axis=-1)
    differences = data.tokens[np.arange(3), alpha][:, np.newaxis] - data.tokens
    W = np.einsum("it,itd,ie->de", solution.dual, differences, data.queries)
    assert np.linalg.norm(W - solution.W) <= 1e-8 * solution.norm
    inside = sets & (np.arange(4) != alpha[:, np.newaxis])
    assert (solution.dual[~inside] >= 0).all()
    assert solution.support[inside].all()


def test_nothing_masked_gives_zero():
    solution = general_svm(toy(), [[0.5, 0.3, 0.2]])
    assert solution.status == "optimal"
    assert not solution.W.any()
    assert solution.norm == 0


def test_a_batch_is_its_problems_and_padding_is_not_there():
    rng = np.random.default_rng(3)
    drawn = unit_sphere(3, 5, 6, batch=4, rng=rng)
    lengths = rng.integers(2, 5, size=(4, 3), endpoint=True)
    data = AttentionData(drawn.tokens, drawn.labels, queries=drawn.queries, lengths=lengths)
    weights = np.where(data.valid, rng.random(data.valid.shape) < 0.6, 0) + 1e-6 * data.valid
    weights /= weights.sum(axis=-1, keepdims=True)
    solution = general_svm(data, weights)
    for b, problem in enumerate(data.problems()):
        one = general_svm(problem, weights[b])
        assert one.status == solution.status[b]
        if one.feasible:
            assert solution.W[b] == pytest.approx(one.W, abs=1e-8 * one.norm)
            assert np.isposinf(solution.margins[b][~problem.valid]).all()
    beyond = weights + np.where(data.valid, 0.0, 7.0)
    np.testing.assert_array_equal(general_svm(data, beyond).W, solution.W)


def test_a_run_gives_its_weights():
    data = unit_sphere(3, 4, 6, batch=5, rng=0)
    run = train(data, steps=30)
    from_run, from_array = general_svm(data, run), general_svm(data, run.attention)
    np.testing.assert_array_equal(from_run.W, from_array.W)
    np.testing.assert_array_equal(selected_sets(run), run.attention > 1e-3)


def test_selected_sets_are_the_weights_above_the_threshold():
    weights = np.array([[0.9, 0.1 - 1e-3, 1e-3, 0.0], [0.25, 0.25, 0.25, 0.25]])
    assert selected_sets(weights).tolist() == [[True, True, False, False], [True] * 4]
    assert selected_sets(weights, threshold=0.2).tolist() == [[True, *3 * [False]], [True] * 4]
    assert selected_sets(weights, threshold=0).tolist() == [[True] * 3 + [False], [True] * 4]


GOOD = [[0.7, 0.3, 0.0]]


@pytest.mark.parametrize(
    ("attention", "options", "error", "message"),
    [
        ([[0.5, 0.3, 0.0]], {}, ValueError, r"^attention: expected weights that sum to 1, got the"),
        (
            [[1.5, -0.5, 0.0]],
            {},
            ValueError,
            r"^attention: expected weights of 0 or more, got -0",
        ),
        ([[0.5, 0.5]], {}, ValueError, r"^attention: expected shape \(n, T\) = \(1, 3\), got"),
        ([0.5, 0.5, 0.0], {}, ValueError, r"^attention: expected shape \(n, T\) = .*, got \(3,\)"),
        ([[np.nan, 0.5, 0.5]], {}, ValueError, r"^attention: expected finite numbers, got nan"),
        ([["a", "b", "c"]], {}, TypeError, r"^attention: expected float64, float32 or integers"),
        (GOOD, {"threshold": 1.0}, ValueError, r"^threshold: expected a number of 0 or more and"),
        (GOOD, {"threshold": -0.1}, ValueError, r"^threshold: expected a number of 0 or more and"),
        (GOOD, {"threshold": 0.8}, ValueError, r"^threshold: expected a weight above it in every"),
        (GOOD, {"threshold": "low"}, TypeError, r"^threshold: expected a finite number, got 'low'"),
        (
            GOOD,
            {"norm": "l3"},
            ValueError,
            r"^norm: .*, got 'l3'; did you mean 3\?$",
        ),
        (GOOD, {"solver": "x"}, ValueError, r"^solver: expected one of"),
    ],
)
def test_what_is_no_attention_is_refused(attention, options, error, message):
    with pytest.raises(error, match=message):
        general_svm(toy(), attention, **options)


def test_data_that_has_no_queries_is_refused():
    with pytest.raises(ValueError, match=r"^queries: needed for the attention SVM"):
        general_svm(AttentionData(toy().tokens, [1]), GOOD)
    with pytest.raises(TypeError, match=r"^data: expected AttentionData, got str"):
        general_svm("toy.npz", GOOD)
    lopsided = SimpleNamespace(attention=np.array(GOOD), log_attention=np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"^attention\.log_attention: expected shape \(n, T\)"):
        general_svm(toy(), lopsided)


def test_the_nuclear_norm_is_certified_by_weak_duality():
    """Feasible W and multipliers of operator norm 1 with one value: both are optimal."""
    data = unit_sphere(4, 5, 7, batch=20, rng=1)
    attention = np.zeros((20, 4, 5))
    attention[..., :2] = 0.5
    solution = general_svm(data, attention, norm="nuc")
    logits = np.einsum("bntd,bde,bne->bnt", data.tokens, solution.W, data.queries)
    assert np.abs(logits[..., 0] - logits[..., 1]).max() < 1e-9
    assert (logits[..., :1] - logits[..., 2:]).min() > 1 - 1e-9
    nuclear = np.linalg.svd(solution.W, compute_uv=False).sum(axis=1)
    np.testing.assert_allclose(nuclear, solution.norm, rtol=1e-9)
    dual = solution.dual
    assert dual[..., 2:].min() >= 0
    rows = data.tokens[:, :, :1] - data.tokens
    adjoint = np.einsum("bnt,bntd,bne->bde", dual, rows, data.queries)
    assert np.linalg.norm(adjoint, 2, axis=(1, 2)).max() < 1 + 1e-9
    np.testing.assert_allclose(dual[..., 2:].sum(axis=(1, 2)), nuclear, rtol=1e-8)
    frobenius = general_svm(data, attention)
    assert (nuclear <= np.linalg.svd(frobenius.W, compute_uv=False).sum(axis=1) + 1e-9).all()
