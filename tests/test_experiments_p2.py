"""Experiments of "Transformers as Support Vector Machines" (paper 2), E16, E17 and E19.

Random unit tokens, queries and value; normalised gradient descent on W from zero with step 0.1.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import attsvm
from attsvm import datasets
from attsvm.functional import loss_and_grad
from attsvm.studies.overparam import Overparam

GLOBAL_PERCENT = {
    2: 21.7, 3: 46.3, 4: 63.7, 5: 72.3, 8: 87.0, 10: 92.3, 15: 94.0, 20: 98.0, 30: 98.7, 50: 100.0,
}  # fmt: skip
"""Share of runs that select every optimal token at n = T = 5, by d."""

FEASIBLE_PERCENT = {2: 29.0, 3: 92.7} | dict.fromkeys((4, 5, 8, 10, 15, 20, 30, 50), 100.0)
ALL_SUPPORT_PERCENT = dict.fromkeys((2, 3, 4, 5, 8, 10, 15), 0.0) | {20: 1.3, 30: 8.0, 50: 44.7}
MEAN_COSINE = {3: (0.998, 0.009), 5: (0.9995, 0.0012), 10: (0.9995, 0.0003)}
"""Mean cosine with the SVM of the selected tokens, and three standard errors of the difference of
two such means over 300 problems: their spread is that of a few runs that have yet to switch."""


@cache
def outcomes(n, T, d, *, problems=300, attention="cross"):
    """Record of the overparam study: what became of each problem of one size."""
    study = Overparam(
        n=(n,),
        T=(T,),
        d=(d,),
        problems=problems,
        steps=2000 if d >= 30 else 3000,
        attention=attention,
    )
    record = study.measure(study.cells[0], range(problems))
    return record | {
        "global": record["outcome"] == "global",
        "local": record["outcome"] != "neither",
    }


def percent(flags):
    return 100 * np.mean(flags)


def assert_reproduces_the_table(d):
    got = outcomes(5, 5, d)
    assert percent(got["global"]) == pytest.approx(GLOBAL_PERCENT[d], abs=8)
    assert percent(got["feasible"]) == pytest.approx(FEASIBLE_PERCENT[d], abs=8)
    assert percent(got["all_support"]) == pytest.approx(ALL_SUPPORT_PERCENT[d], abs=8)
    if d >= 5:
        assert percent(got["local"]) >= 98
        assert got["feasible"].all()


@pytest.mark.parametrize("d", [3, 5, 10])
def test_e16_shares_at_five_inputs_of_five_tokens(d):
    assert_reproduces_the_table(d)


@pytest.mark.slow
@pytest.mark.parametrize("d", [d for d in GLOBAL_PERCENT if d not in (3, 5, 10)])
def test_e16_shares_at_five_inputs_of_five_tokens_over_all_dimensions(d):
    assert_reproduces_the_table(d)


@pytest.mark.parametrize("d", MEAN_COSINE)
def test_e16_runs_end_in_the_direction_of_the_svm_of_their_tokens(d):
    cosine = outcomes(5, 5, d)["cosine"]
    mean, tolerance = MEAN_COSINE[d]
    assert np.nanmean(cosine) == pytest.approx(mean, abs=tolerance)
    assert np.nanmedian(cosine) >= 0.999


def test_e16_global_convergence_grows_with_the_dimension():
    shares = [percent(outcomes(5, 5, d)["global"]) for d in (3, 5, 10)]
    assert shares == sorted(shares)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["cross", "self"])
def test_e16_global_convergence_grows_with_the_dimension_for_both_kinds_of_attention(attention):
    shares = [percent(outcomes(5, 5, d, attention=attention)["global"]) for d in (2, 4, 8, 15, 50)]
    assert shares == sorted(shares)
    assert shares[0] < 40
    assert shares[-1] >= 98


@pytest.mark.slow
@pytest.mark.parametrize("vary", ["n", "T"])
def test_e16_global_convergence_falls_with_inputs_and_with_tokens(vary):
    sizes = [{"n": 5, "T": 5} | {vary: size} for size in (2, 5, 10, 15)]
    runs = [outcomes(size["n"], size["T"], 10) for size in sizes]
    shares = [percent(run["global"]) for run in runs]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] - shares[-1] > 30
    assert all(percent(run["local"]) >= 98 for run in runs)


@pytest.mark.slow
def test_e16_all_tokens_become_support_vectors_as_the_dimension_grows():
    shares = [percent(outcomes(5, 5, d)["all_support"]) for d in (10, 30, 50, 150)]
    assert shares == sorted(shares)
    assert shares[-1] >= 95


@pytest.mark.slow
def test_e17_runs_are_global_when_all_tokens_are_support_vectors():
    runs = [outcomes(n, 5, d) for n in (2, 3, 5) for d in (20, 30, 50)]
    chosen = np.concatenate([run["global"][run["all_support"]] for run in runs])
    assert chosen.size >= 200
    assert chosen.mean() >= 0.98


def test_e17_runs_are_global_when_all_tokens_are_support_vectors_of_two_inputs():
    run = outcomes(2, 4, 30, problems=100)
    assert run["all_support"].sum() >= 30
    assert run["global"][run["all_support"]].mean() >= 0.98


def first_step_separates(data):
    """Whether -(x_opt - x_it)' grad L(0) z_i > 0 for every input and token (([B,]) bool)."""
    zero = np.zeros((data.batch, data.d, data.d))
    _, gradients = loss_and_grad(data, {"W": zero})
    logits = -np.einsum("bntd,bde,bne->bnt", data.tokens, gradients["W"], data.queries)
    best = attsvm.optimal_tokens(data)[..., np.newaxis]
    lead = np.take_along_axis(logits, best, axis=-1) - logits
    return ((lead > 0) | (np.arange(data.T) == best)).all(axis=(-2, -1))


@pytest.mark.parametrize(("d", "share"), [(5, 8.0), (10, 19.0), (20, 31.5), (50, 53.0)])
def test_e19_share_of_problems_whose_first_step_separates(d, share):
    data = datasets.unit_sphere(5, 5, d, batch=500, rng=19)
    assert percent(first_step_separates(data)) == pytest.approx(share, abs=7)


@pytest.mark.parametrize(
    "d",
    [
        5,
        pytest.param(10, marks=pytest.mark.slow),
        pytest.param(20, marks=pytest.mark.slow),
        pytest.param(50, marks=pytest.mark.slow),
    ],
)
def test_e19_a_separating_first_step_leads_to_the_optimal_tokens(d):
    data = datasets.unit_sphere(5, 5, d, batch=1000, rng=19)
    run = attsvm.train(data, steps=2000)
    is_global = (run.selected == attsvm.optimal_tokens(data)).all(axis=-1)
    assert is_global[first_step_separates(data)].mean() >= 0.97
