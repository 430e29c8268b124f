"""The certified cosine: a lower bound of the cosine with an SVM that is not solved."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm import AttentionData, att_svm, certified_cosine, cosine, prompt_svm, train
from attsvm.datasets import unit_sphere
from attsvm.theory import certified_cosine_gap, cosine_gap, margins

SEEDS = st.integers(0, 2**32 - 1)


def near(solution, rng, off):
    """A matrix this far from the direction of the solution."""
    noise = rng.standard_normal(solution.W.shape)
    return solution.W / solution.norm + off * noise / np.linalg.norm(noise)


def plain_gap(W, data, selected, dual):
    """1 - cos of the smaller of the two angles, as they are written, in 40 digits."""
    with mpmath.workdps(40):
        exact = np.vectorize(mpmath.mpf, otypes=[object])
        W, X, Z, dual = exact(W), exact(data.tokens), exact(data.queries), exact(dual)
        rows = {
            (i, t): np.outer(X[i, selected[i]] - X[i, t], Z[i])
            for i in range(data.n)
            for t in range(data.lengths[i])
            if t != selected[i]
        }
        combined = sum(dual[place] * row for place, row in rows.items())
        total = sum(dual[place] for place in rows)

        def norm(A):
            return mpmath.sqrt(np.sum(A * A))

        def angle_of(A):
            """A's certified angle with the solution."""
            m = min(np.sum(row * A) for row in rows.values())
            if m <= 0:
                return mpmath.pi
            r = m * total / norm(A) / norm(combined)
            cos = np.sum(A * combined) / norm(A) / norm(combined)
            return (mpmath.acos(min(cos, 1)) + mpmath.acos(min(2 * r - cos, 1))) / 2

        theta = mpmath.acos(np.sum(W * combined) / norm(W) / norm(combined))
        angle = min(angle_of(W), theta + angle_of(combined), mpmath.pi)
        return float(1 - mpmath.cos(angle))


@given(seed=SEEDS, off=st.floats(0, 2), scale=st.floats(1e-300, 1e300))
def test_it_never_exceeds_the_cosine(seed, off, scale):
    rng = np.random.default_rng(seed)
    data = unit_sphere(3, 4, 8, rng=rng)
    selected = rng.integers(0, 4, size=3)
    solution = att_svm(data, selected)
    W = near(solution, rng, off)
    dual = rng.exponential(size=(3, 4)) * (rng.random((3, 4)) < 0.7)
    mixed = solution.dual + rng.exponential(0.1) * dual
    for multipliers in (dual, mixed, solution.dual, solution):
        bound = certified_cosine(scale * W, data, selected, multipliers)
        assert bound <= cosine(W, solution.W) + 1e-14
        if bound == -1:
            assert not margins(W, data, selected).min() > 0 or not np.any(multipliers)


@given(seed=SEEDS, off=st.floats(0, 2))
def test_no_multipliers_do_better_than_those_of_the_svm(seed, off):
    rng = np.random.default_rng(seed)
    data = unit_sphere(3, 4, 8, rng=rng)
    selected = rng.integers(0, 4, size=3)
    solution = att_svm(data, selected)
    W = near(solution, rng, off)
    best = certified_cosine(W, data, selected, solution)
    other = certified_cosine(W, data, selected, rng.exponential(size=(3, 4)))
    assert other <= best + 1e-12


@given(seed=SEEDS, off=st.sampled_from([1e-9, 1e-6, 1e-3, 0.1]))
def test_it_is_what_its_formula_says(seed, off):
    rng = np.random.default_rng(seed)
    data = unit_sphere(2, 3, 6, rng=rng)
    selected = rng.integers(0, 3, size=2)
    solution = att_svm(data, selected)
    W = near(solution, rng, off)
    for dual in (solution.dual, rng.random((2, 3))):
        expected = plain_gap(W, data, selected, dual)
        gap = certified_cosine_gap(W, data, selected, dual)
        # A slack known to the unit of rounding is an angle known to its root.
        rounding = 3e-8 * np.sqrt(2 * expected) + 1e-14
        assert gap == pytest.approx(expected, rel=1e-9, abs=rounding)
        assert certified_cosine(W, data, selected, dual) == 1 - gap


def test_at_the_svm_itself_it_is_one():
    data = unit_sphere(4, 5, 10, batch=20, rng=0)
    selected = np.zeros((20, 4), dtype=int)
    solution = att_svm(data, selected)
    gap = certified_cosine_gap(solution, data, selected, solution)
    assert gap == pytest.approx(np.zeros(20), abs=1e-13)
    assert (gap >= 0).all()


def test_the_prompt_svm_has_one_too():
    data = unit_sphere(3, 4, 10, batch=50, rng=0)
    run = train(data, parameter="p", steps=3000)
    solution = prompt_svm(data, run.selected)
    certified = certified_cosine(run, data, run.selected, solution)
    true = cosine(run.p, solution.p, axis=-1)
    assert (certified <= true + 1e-14).all()
    assert np.median(certified) >= 0.95


@pytest.mark.parametrize("steps", [2000, 20_000])
def test_published_problems_certify_themselves(local_convergence, steps):
    """With the multipliers of the SVM, the bound is the cosine: asked 3 % and 0.5 %."""
    run = train(local_convergence, steps=steps, record_every=steps)
    solution = att_svm(local_convergence, run.selected)
    certified = certified_cosine(run, local_convergence, run.selected, solution)
    true = cosine(run.W, solution.W, axis=(1, 2))
    assert (certified <= true + 1e-14).all()
    assert (true - certified).max() <= 1e-6


def test_a_run_by_its_factors_is_certified_as_its_matrix_is():
    data = unit_sphere(3, 4, 300, rng=0)
    run = train(data, steps=500)
    solution = att_svm(data, run.selected)
    by_factors = certified_cosine_gap(run, data, run.selected, solution)
    by_matrix = certified_cosine_gap(run.W, data, run.selected, solution.dual)
    assert by_factors == pytest.approx(by_matrix, rel=1e-9)
    assert cosine_gap(run.W, solution.W) <= by_factors + 1e-15


@given(seed=SEEDS)
def test_a_batch_is_its_problems(seed):
    rng = np.random.default_rng(seed)
    drawn = unit_sphere(2, 4, 6, batch=3, rng=rng)
    lengths = rng.integers(1, 4, size=(3, 2), endpoint=True)
    data = AttentionData(drawn.tokens, drawn.labels, queries=drawn.queries, lengths=lengths)
    selected = rng.integers(0, lengths)
    solution = att_svm(data, selected)
    W = solution.W + 0.05 * rng.standard_normal((3, 6, 6))
    dual = solution.dual + 0.01
    together = certified_cosine_gap(W, data, selected, dual)
    for b, problem in enumerate(data.problems()):
        alone = certified_cosine_gap(W[b], problem, selected[b], dual[b])
        assert together[b] == pytest.approx(alone, rel=1e-12, abs=1e-14)


def test_there_is_no_certificate_without_what_it_takes():
    data = unit_sphere(2, 3, 4, rng=0)
    solution = att_svm(data, [0, 1])
    at_selected = np.zeros((2, 3))
    at_selected[[0, 1], [0, 1]] = 1.0
    for W, dual in (
        (-solution.W, solution.dual),  # a negative margin
        (np.zeros((4, 4)), solution.dual),
        (solution.W, np.zeros((2, 3))),
        (solution.W, at_selected),  # no constraint there
    ):
        assert certified_cosine(W, data, [0, 1], dual) == -1
        assert certified_cosine_gap(W, data, [0, 1], dual) == 2
    single = AttentionData([[[1.0]]], [1])
    assert certified_cosine([1.0], single, [0], [[1.0]]) == -1
    line = AttentionData([[[-1.0], [0.0], [1.0]]], [1])
    assert certified_cosine([1.0], line, [1], prompt_svm(line, [1])) == -1
    both = AttentionData([line.tokens] * 2, [line.labels] * 2)
    solution = prompt_svm(both, [[2], [1]])
    assert certified_cosine(solution, both, [[2], [1]], solution) == pytest.approx([1, -1])


def test_what_are_no_multipliers_is_refused():
    data = unit_sphere(2, 3, 4, rng=0)
    W, good = np.eye(4), np.ones((2, 3))
    negative = good.copy()
    negative[1, 2] = -1e-9
    with pytest.raises(ValueError, match=r"^dual: expected multipliers of 0 or more, got -1e-09"):
        certified_cosine(W, data, [0, 0], negative)
    with pytest.raises(ValueError, match=r"^dual: expected shape \(n, T\) = \(2, 3\), got"):
        certified_cosine(W, data, [0, 0], np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"^dual: expected finite numbers"):
        certified_cosine(W, data, [0, 0], good * np.nan)
    with pytest.raises(ValueError, match=r"^dual\.dual: expected shape"):
        certified_cosine(W, data, [0, 0], att_svm(unit_sphere(3, 3, 4, rng=0), [0, 0, 0]))
