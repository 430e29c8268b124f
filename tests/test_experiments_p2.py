"""Experiments of "Transformers as Support Vector Machines" (paper 2).

Numbers of its figures are compared by `test_reproduce`. Here: the same on the published problems,
the parts the figures are computed with, and the experiments E16 to E19, E23 and B4 where no figure
shows them: random unit tokens, queries and value; normalised steps of 0.1 on W from zero.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import attsvm
from attsvm import AttentionData, datasets, general_svm, train
from attsvm.functional import loss_and_grad
from attsvm.heads import ReLU
from attsvm.studies import OUTCOMES, Study
from attsvm.studies.compute import measure_cell
from attsvm.studies.figures import lambda_head, multi_token
from attsvm.studies.figures import local_convergence as local_figure
from attsvm.studies.figures import rank as rank_figure
from attsvm.studies.reproduce.figure import Settings, Task
from attsvm.theory import every_choice


@cache
def outcomes(n, T, d, *, problems=300, attention="cross"):
    """Record of the overparam study: what became of each problem of one size."""
    changes = {"n": n, "T": T, "d": d, "problems": problems, "attention": attention}
    study = Study.load("overparam", {**changes, "steps": 2000 if d >= 30 else 3000})
    record = measure_cell(study, study.cells[0], range(problems))
    return record | {
        "global": record["outcome"] == OUTCOMES.index("global"),
        "local": record["outcome"] != OUTCOMES.index("neither"),
    }


def percent(flags):
    return 100 * np.mean(flags)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["cross", "self"])
def test_e16_global_convergence_grows_with_the_dimension_for_both_kinds_of_attention(attention):
    shares = [percent(outcomes(5, 5, d, attention=attention)["global"]) for d in (2, 4, 8, 15, 50)]
    assert shares == sorted(shares)
    assert shares[0] < 40
    assert shares[-1] >= 98


@pytest.mark.slow
@pytest.mark.parametrize("vary", ["n", "T"])
def test_e16_global_convergence_falls_with_inputs_and_with_tokens(vary, computed):
    """By more than 30 points; what is not global stays local."""
    rows = computed("over-parameterisation", quick=False).data[vary]
    shares = [row.estimates["global_percent"].value for row in rows.values()]
    assert shares[0] - shares[-1] > 30
    assert all(row.estimates["local_percent"].value >= 98 for row in rows.values())


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


@pytest.mark.parametrize(("d", "share"), [(5, 8.0), (10, 19.0), (20, 31.5), (50, 53.0)])
def test_e19_share_of_problems_whose_first_step_separates(d, share):
    data = datasets.unit_sphere(5, 5, d, batch=500, rng=19)
    assert percent(attsvm.first_step_separates(data)) == pytest.approx(share, abs=7)


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
    assert is_global[attsvm.first_step_separates(data)].mean() >= 0.97


def stays(n, T, d, problems, sizes, steps):
    """E18: of all choices α of tokens, which ones a run from s W^mm(α) ends at, and how near.

    Returns whether each feasible choice is locally optimal, and for every size s whether it is
    selected after all steps and the cosine with W^mm(α) then.
    """
    drawn = datasets.unit_sphere(n, T, d, batch=problems, rng=18)
    every = [every_choice(problem) for problem in drawn.problems()]
    feasible = np.concatenate([choices.solution.feasible for choices in every])
    of = np.repeat(np.arange(problems), [len(choices.selected) for choices in every])[feasible]
    selected = np.concatenate([choices.selected for choices in every])[feasible]
    W_mm = np.concatenate([choices.solution.W for choices in every])[feasible]
    locally_optimal = np.concatenate([choices.locally_optimal for choices in every])[feasible]
    data = AttentionData(
        drawn.tokens[of], drawn.labels[of], queries=drawn.queries[of], value=drawn.value[of]
    )
    ends = []
    for s in sizes:
        run = attsvm.train(data, init=s * W_mm, steps=steps, reference=W_mm, record_every=steps)
        stay = (run.selected == selected).all(axis=-1)
        ends.append((stay, run.history["cosine"][:, -1]))
    return locally_optimal, ends


def assert_only_locally_optimal_choices_are_limits(n, T, d, problems, sizes, steps):
    locally_optimal, ends = stays(n, T, d, problems, sizes, steps)
    assert locally_optimal.sum() >= problems  # the global one, and others
    assert (~locally_optimal).sum() >= 3 * problems
    shares = []
    for stay, cosine in ends:
        assert not stay[~locally_optimal].any()
        assert (cosine[stay] > 0.999).all()
        shares.append(stay[locally_optimal].mean())
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]
    assert shares[-1] >= 0.95


def test_e18_only_locally_optimal_choices_are_limits():
    assert_only_locally_optimal_choices_are_limits(2, 3, 4, 30, (1, 10, 100), 3000)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "T", "d"), [(2, 3, 4), (2, 4, 5), (3, 3, 5)])
def test_e18_only_locally_optimal_choices_are_limits_of_more_and_longer_runs(n, T, d):
    assert_only_locally_optimal_choices_are_limits(n, T, d, 60, (0.3, 1, 3, 10, 30, 100), 10_000)


def test_e23_the_gap_of_the_cosine_falls_fourfold_when_the_norm_doubles(local_convergence):
    """1 - cosine ~ c / |W|², and the medians 0.0050, 0.00135, 0.00035 at 95, 193, 390."""
    run = attsvm.train(local_convergence, steps=8000)
    solution = attsvm.att_svm(local_convergence, run.selected)
    run = attsvm.train(local_convergence, steps=8000, reference=solution, record_every=20)
    norms = np.array([50.0, 100.0, 200.0, 400.0])
    gaps = np.array(
        [
            np.exp(np.interp(np.log(norms), np.log(norm[1:]), np.log(gap[1:])))
            for norm, gap in zip(run.history["norm"], run.history["cosine_gap"], strict=True)
        ]
    )
    assert (run.history["norm"][:, -1] >= norms[-1]).all()
    medians = np.median(gaps, axis=0)
    ratios = medians[:-1] / medians[1:]
    assert ((ratios >= 3) & (ratios <= 5)).all()
    at = np.searchsorted(run.history["step"], [1000, 2000, 4000])
    assert np.median(run.history["norm"][:, at], axis=0) == pytest.approx([95, 193, 390], rel=0.03)
    got = np.median(run.history["cosine_gap"][:, at], axis=0)
    assert got == pytest.approx([0.0050, 0.00135, 0.00035], rel=0.1)


@pytest.mark.parametrize("loss", ["logistic", "exponential", "correlation"])
def test_b4_descent_follows_the_svm_everywhere_when_all_tokens_are_support_vectors(loss):
    """<∇L(W), W^mm> < 0 at every W: no stationary point is finite."""
    drawn = datasets.unit_sphere(3, 4, 60, batch=300, rng=4)
    best = attsvm.optimal_tokens(drawn)
    solution = attsvm.att_svm(drawn, best)
    all_support = attsvm.support_tokens(drawn, solution).sum(axis=(1, 2)) == 3 * 3
    assert all_support.sum() >= 100
    rng = np.random.default_rng(4)
    for size in (0.0, 0.1, 1.0, 3.0, 10.0, 100.0):
        W = size * rng.standard_normal(solution.W.shape)
        _, gradients = loss_and_grad(drawn, {"W": W}, loss=loss)
        along = np.sum(gradients["W"] * solution.W, axis=(1, 2))[all_support]
        if size <= 3:
            assert (along < 0).all()
        else:  # tokens that are not the best trade weight, which is 0 along W^mm but for rounding
            steep = np.linalg.norm(gradients["W"], axis=(1, 2)) * solution.norm
            assert (along < 1e-13 * steep[all_support]).all()
            assert (along < 0).mean() > 0.5
    # Without that, the sign is not one.
    few = datasets.unit_sphere(5, 5, 6, batch=100, rng=4)
    W_mm = attsvm.att_svm(few, attsvm.optimal_tokens(few)).W
    W = rng.standard_normal(W_mm.shape) * 10
    _, gradients = loss_and_grad(few, {"W": W}, loss=loss)
    assert (np.sum(gradients["W"] * W_mm, axis=(1, 2)) > 0).any()


D = 5


@pytest.fixture(scope="module")
def results(local_convergence):
    return local_figure.train_and_solve(Task(local_figure.FIGURE, Settings()), local_convergence)


@pytest.fixture(scope="module")
def drawn():
    return multi_token.draw_problems(D, 300, np.random.default_rng(1))


class TestLocalConvergence:
    """E12 and E13 on the 50 problems of the paper that are at hand."""

    def test_every_number_of_the_figure(self, local_convergence, results):
        task = Task(local_figure.FIGURE, Settings())
        local_figure.compare(task, local_convergence, results)
        assert len(task.checks) == len(local_figure.FIGURE.sources)
        assert not [check for check in task.checks if not check.passed]

    def test_each_parameter_ends_nearer_to_the_svm_of_its_own_norm(self, results):
        for parameter, own, other in (("W", "fro", "nuc"), ("KQ", "nuc", "fro")):
            history = results[parameter].run.history
            nearer = history[f"cosine:{own}"][:, -1] > history[f"cosine:{other}"][:, -1]
            assert nearer.all()

    def test_certified_cosine_is_a_lower_bound(self, results):
        history = results["W"].run.history
        certified = history["certified_cosine"][history["settled"]]
        assert (certified <= history["cosine:fro"][history["settled"]] + 1e-12).all()
        assert np.median(history["certified_cosine"][:, -1]) > 0.9


class TestRank:
    def test_means_leave_infeasible_problems_out(self):
        fro = np.full((len(rank_figure.FIGURE.settings["dimensions"]), 20), np.nan)
        fro[1, :15] = 2.0
        task = Task(rank_figure.FIGURE, Settings())
        rank_figure.compare(task, 5, 5, {"fro": fro, "nuc": np.minimum(fro, 1.5)})
        by_name = {check.name: check.obtained for check in task.checks}
        assert by_name["n=5, T=5, d=2: mean rank, Frobenius"] == 2.0
        assert by_name["n=5, T=5, d=2: mean rank, Frobenius, infeasible as 1"] == 1.75
        assert not any("d=3: mean rank, nuclear" in name for name in by_name)


class TestMultiToken:
    TASK = Task(multi_token.FIGURE, Settings())
    STANDSTILL, STEPS = (multi_token.FIGURE.settings[key] for key in ("standstill", "steps"))

    def test_problems_have_a_negative_label_and_unit_norms(self, drawn):
        assert (drawn.data.labels < 0).any(axis=1).all()
        assert np.linalg.norm(drawn.hidden, axis=(1, 2)) == pytest.approx(1.0)
        assert np.linalg.norm(drawn.data.tokens, axis=-1) == pytest.approx(1.0)
        assert np.abs(drawn.start).max() <= 1 / np.sqrt(D)

    def test_exact_descent_in_pieces_is_one_run(self, drawn):
        few = drawn.subset(np.arange(len(drawn)) < 20)
        *_, (W, attention) = multi_token.descend(self.TASK, few, standstill=0.0)
        run = train(few.data, head=ReLU(few.hidden), init=few.start, steps=self.STEPS)
        # What rounds differently grows where steps circle a limit; most runs settle.
        same = np.isclose(W, run.W, rtol=1e-6, atol=1e-6).all(axis=(1, 2))
        assert same.mean() >= 0.5
        assert attention[same] == pytest.approx(run.attention[same], abs=1e-5)

    def test_runs_stand_still_below_the_least_gradient(self, drawn):
        few = drawn.subset(np.arange(len(drawn)) < 60)
        path = [W for W, _ in multi_token.descend(self.TASK, few)]
        moved = np.array([(after != before).any(axis=(1, 2)) for before, after in pairwise(path)])
        assert not (moved[1:] & ~moved[:-1]).any()
        assert 0 < moved[-1].mean() < 1
        run = train(few.data, head=ReLU(few.hidden), init=path[-1], steps=0)
        stands = ~moved[-1]
        assert (run.history["grad_norm"][stands, 0] < self.STANDSTILL).all()

    def test_accepted_runs_are_those_of_the_rules(self, drawn):
        *_, (_, attention) = multi_token.descend(self.TASK, drawn)
        accepted = multi_token.accepted_runs(drawn, attention)
        assert 0 < accepted.sum() < len(drawn)
        weights = attention[accepted]
        assert (((weights > 1e-3) | (weights <= 1e-6)).all(axis=(1, 2))).all()
        assert ((weights <= 1e-6).any(axis=(1, 2))).all()
        assert np.all(general_svm(drawn.data.subset(accepted), weights).feasible)


@given(
    scores=arrays(np.float64, st.integers(1, 6), elements=st.floats(-5, 5)),
    other=st.integers(0, 2**32 - 1),
)
def test_sparsemax_is_the_nearest_point_of_the_simplex(scores, other):
    """<scores - nearest, point - nearest> <= 0 for every point of a convex set."""
    nearest = lambda_head.sparsemax(scores)
    assert (nearest >= 0).all()
    assert nearest.sum() == pytest.approx(1.0)
    vertices = np.eye(len(scores))
    inside = np.random.default_rng(other).dirichlet(np.ones(len(scores)))
    for point in (*vertices, inside):
        assert (scores - nearest) @ (point - nearest) <= 1e-12
