"""Runs that certify their margin ratio in any norm, and the SVM of diagonal W."""

from __future__ import annotations

import itertools

import numpy as np
import plain_svm
import pytest
from scipy.optimize import linprog

import attsvm
from attsvm import certified_margin_ratio, diagonal_svm, margin_ratio, train

NORMS = ("fro", "max", "l1", "spec", "nuc", 3)
KEY = "certified_margin_ratio:"


@pytest.fixture(scope="module")
def data():
    return attsvm.datasets.unit_sphere(3, 4, 5, batch=9, rng=0)


def multipliers(data, run):
    """|l'(m_i)| s_it (m_i - γ_it)₊ with m_i = Σ_t s_it γ_it, the step to come."""
    gamma = attsvm.scores(data)
    margin = (run.attention * gamma).sum(axis=-1, keepdims=True)
    others = np.arange(data.T) != run.selected[..., np.newaxis]
    weights = run.log_attention - np.log1p(np.exp(margin))
    largest = np.where(others, weights, -np.inf).max(axis=(-2, -1), keepdims=True)
    return np.where(others, np.exp(weights - largest) * np.maximum(margin - gamma, 0.0), 0.0)


@pytest.mark.parametrize(
    "options",
    [
        {"rule": "ngd"},
        {"rule": "sign", "lr": 0.01},
        {"rule": "spectral", "init": "uniform", "rng": 1},
        {"rule": "sign", "parameter": "KQ", "lr": 0.05, "rng": 1, "inner": 4},
        {"parameter": "p"},
    ],
)
def test_recorded_bounds_are_those_of_the_function_and_below_the_ratio(data, options):
    run = train(data, steps=1000, certify=NORMS, record_every=500, **options)
    assert run.history["settled"][:, -1].all()
    for norm in NORMS:
        recorded = run.history[f"{KEY}{norm}"]
        assert recorded.shape == (9, 3)
        dual = multipliers(data, run)
        expected = certified_margin_ratio(data, run, run.selected, norm, dual=dual)
        np.testing.assert_allclose(recorded[:, -1], expected, rtol=1e-9)
        proved = np.isfinite(recorded[:, -1])
        ratio = margin_ratio(data, run, run.selected, norm)
        assert (recorded[proved, -1] <= ratio[proved] + 1e-9).all()
    starts_at_zero = "rng" not in options
    assert np.isneginf(run.history[f"{KEY}fro"][:, 0]).all() == starts_at_zero


def test_each_rule_certifies_itself_in_its_norm_and_not_in_others(data):
    """Of sign steps the bound in the max norm nears 1, and stays away from it in others."""
    run = train(data, rule="sign", lr=0.01, steps=5000, certify=["max", "l1"])
    own, other = (np.median(run.history[f"{KEY}{norm}"][:, -1]) for norm in ("max", "l1"))
    assert own > 0.97 > 0.8 > other


def test_norms_change_nothing_else_and_one_problem_is_that_of_a_batch(data):
    plain = train(data, steps=200, certify=True)
    assert not [key for key in plain.history if key.startswith(KEY)]
    certified = train(data, steps=200, certify="fro")
    for key, values in plain.history.items():
        np.testing.assert_array_equal(certified.history[key], values)
    alone = train(data.problem(4), steps=200, certify=["spec", 1.5])
    together = train(data, steps=200, certify=["spec", 1.5])
    for name in ("spec", "1.5"):
        np.testing.assert_allclose(
            alone.history[KEY + name], together.history[KEY + name][4], rtol=1e-9
        )


def test_starts_outside_of_the_spans_count(data):
    """Of few tokens in many dimensions W is not reduced where its norm needs all of it."""
    wide = attsvm.datasets.unit_sphere(2, 3, 40, rng=3)
    start = 0.3 * np.random.default_rng(4).standard_normal((40, 40))
    run = train(wide, steps=300, init=start, certify=["fro", "spec", "nuc"])
    for norm in ("fro", "spec", "nuc"):
        dual = multipliers(wide, run)
        expected = certified_margin_ratio(wide, run, run.selected, norm, dual=dual)
        assert run.history[KEY + norm][-1] == pytest.approx(expected, rel=1e-9)


def test_other_norms_are_refused(data):
    for bad in ("cut", "l2", 1.0, ["fro", None]):
        with pytest.raises((TypeError, ValueError), match="certify: expected"):
            train(data, steps=1, certify=bad)
    with pytest.raises(ValueError, match=r"certified_margin_ratio\(data, run, run.selected, 'cut'"):
        train(data, steps=1, certify=["max", "cut"])


def test_runs_certify_their_margin_ratio_in_the_cut_norm(data):
    """The norm of W and that of G are computed from all products of signs, by a plain program."""

    data = data.take(np.arange(2))

    def cut(run):
        return certified_margin_ratio(data, run, run.selected, "cut")

    start = 0.05 * np.random.default_rng(1).uniform(-1, 1, (2, 2, 5, 40))
    options = {"parameter": "KQ", "rule": "sign", "lr": 0.05, "steps": 2000}
    options |= {"init": {"K": start[0], "Q": start[1]}, "record_every": [200, 2000]}
    run = train(data, **options, record=cut)
    signs = np.array(list(itertools.product([-1, 1], repeat=5)))
    products = np.einsum("ai,bj->abij", signs, signs).reshape(-1, 25)
    for b in range(2):
        one, alpha = data.problem(b), run.selected[b]
        dual = _log_slopes(one, run, b)
        rows = one.tokens[np.arange(3), alpha][:, np.newaxis] - one.tokens
        G = np.einsum("it,itd,ie->de", dual, rows, one.queries)
        margins = np.einsum("itd,de,ie->it", rows, run.W[b], one.queries)
        least = np.where(np.arange(4) != alpha[:, np.newaxis], margins, np.inf).min()
        norm = linprog(np.ones(len(products)), A_eq=products.T, b_eq=run.W[b].ravel()).fun
        expected = least / norm * dual.sum() / (products @ G.ravel()).max()
        assert run.history["cut"][b, -1] == pytest.approx(expected, rel=1e-7)
        exact = margin_ratio(one, run.W[b], alpha, "cut")
        assert run.history["cut"][b, 0] < run.history["cut"][b, 1] <= exact


def _log_slopes(data, run, b):
    """|l'(γ_iα)| s_it (γ_iα - γ_it)₊ of the last weights of problem b, up to their size."""
    gamma = attsvm.scores(data)
    best = np.take_along_axis(gamma, run.selected[b][:, np.newaxis], axis=1)
    logs = run.log_attention[b] - np.log1p(np.exp(best))
    others = np.arange(data.T) != run.selected[b][:, np.newaxis]
    largest = logs[others & (gamma < best)].max()
    return np.where(others, np.exp(logs - largest) * np.maximum(best - gamma, 0.0), 0.0)


def diagonal_rows(data, selected):
    return np.concatenate(
        [
            (x[a] - np.delete(x, a, axis=0)) * z
            for x, z, a in zip(data.tokens, data.queries, selected, strict=True)
        ]
    )


@pytest.mark.parametrize("norm", ["fro", "max", "l1", "spec", "nuc", "cut", 3.0])
def test_diagonal_svms_are_those_of_an_independent_solver(norm):
    data = attsvm.datasets.unit_sphere(2, 3, 8, rng=0)
    selected = attsvm.optimal_tokens(data)
    solution = diagonal_svm(data, selected, norm=norm)
    rows = diagonal_rows(data, selected)
    same = {"spec": "max", "nuc": "l1", "cut": "max"}.get(norm, norm)
    if norm == "fro":
        expected = np.linalg.norm(plain_svm.smallest(rows, np.ones(len(rows))))
    else:
        expected = plain_svm.smallest_norm(rows, 8, same)
    assert solution.norm == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(solution.W, np.diag(np.diag(solution.W)))
    assert (rows @ np.diag(solution.W)).min() == pytest.approx(1, abs=1e-9)
    assert max(solution.gap, solution.kkt) < 1e-9
    of_W = attsvm.svm.norms.as_svm_norm("norm", norm).values(solution.W)
    assert of_W == pytest.approx(solution.norm, rel=1e-9)
    assert margin_ratio(data, solution, selected, norm, solution=solution) == pytest.approx(1)


def test_runs_of_diagonal_factors_are_compared_with_their_svm():
    """From an unbalanced start to the l1 SVM among diagonal W, certified along the run."""
    batch = attsvm.datasets.unit_sphere(2, 3, 8, batch=5, rng=0)
    options = {"parameter": "diagonal KQ", "rule": attsvm.StepRule(decay=0.5), "steps": 20_000}
    run = train(
        batch, init="unbalanced", loss="exponential", certify=["l1", "max"], record_every=5000,
        **options,
    )  # fmt: skip
    solution = diagonal_svm(batch, run.selected)
    ratio = margin_ratio(batch, run, run.selected, "l1", solution=solution)
    bound = run.history[f"{KEY}l1"][:, -1]
    assert np.median(ratio) > 0.95
    assert np.median(bound) > 0.85
    assert (bound <= ratio + 1e-12).all()
    fro = diagonal_svm(batch, run.selected, norm="fro")
    cosine = attsvm.cosine(run.W, fro.W, axis=(1, 2))
    assert (run.history["certified_cosine"][:, -1] <= cosine + 1e-12).all()
    kinds = attsvm.classify(batch, run, norm="l1")
    optimal = (run.selected == attsvm.optimal_tokens(batch)).all(axis=1)
    local = attsvm.is_locally_optimal(batch, run.selected, parameter="diagonal KQ", norm="l1")
    np.testing.assert_array_equal(kinds == "global", optimal)
    np.testing.assert_array_equal(kinds == "local", local & ~optimal)


def test_choices_of_diagonal_w():
    """With one coordinate, diagonal W is all W."""
    data = attsvm.AttentionData([[[-1.0], [0.0], [1.0]]], [1], queries=[[1.0]], value=[1.0])
    for parameter in ("W", "diagonal KQ"):
        found = attsvm.locally_optimal_choices(data, parameter=parameter, norm="l1")
        np.testing.assert_array_equal(found, [[2]])


def test_infeasible_diagonals_are_proved_so():
    """<x_α - x_t, diag(w) z> >= 1 with the one and the other sign."""
    tokens = [[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]]
    data = attsvm.AttentionData(tokens, [1, 1], queries=[[1.0, 0.0], [1.0, 1.0]])
    assert diagonal_svm(data, [0, 0]).status == "infeasible"
    assert attsvm.att_svm(data, [0, 0]).feasible
    assert diagonal_svm(data.repeated(2), [[0, 0], [0, 1]]).status.tolist() == [
        "infeasible",
        "optimal",
    ]
