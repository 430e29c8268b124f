"""Figures of paper 2: on the published problems, and what their tables do not show."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attsvm import general_svm, train
from attsvm.heads import ReLU
from attsvm.studies.figures import lambda_head, multi_token
from attsvm.studies.figures import local_convergence as local_figure
from attsvm.studies.figures import rank as rank_figure

D = 5


@pytest.fixture(scope="module")
def results(local_convergence):
    return local_figure.train_and_solve(local_convergence)


@pytest.fixture(scope="module")
def drawn():
    return multi_token.draw_problems(D, 300, np.random.default_rng(1))


class TestLocalConvergence:
    """E12 and E13 on the 50 problems of the paper that are at hand."""

    @pytest.mark.parametrize(
        ("parameter", "norm", "expected", "tolerance"),
        [
            ("W", "fro", 0.989, 0.01),
            ("W", "nuc", 0.858, 0.02),
            ("KQ", "nuc", 0.9956, 0.01),
            ("KQ", "fro", 0.851, 0.02),
        ],
    )
    def test_mean_cosine_at_step_1000(self, results, parameter, norm, expected, tolerance):
        history = results[parameter].run.history
        at = list(history["step"]).index(1000)
        assert history[f"cosine:{norm}"][:, at].mean() == pytest.approx(expected, abs=tolerance)

    def test_every_number_of_the_figure(self, local_convergence, results):
        outside = [c for c in local_figure.compare(local_convergence, results) if not c.passed]
        assert not outside

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
        fro = np.full((len(rank_figure.DIMENSIONS), 20), np.nan)
        fro[1, :15] = 2.0
        found = rank_figure.comparisons(5, 5, {"fro": fro, "nuc": np.minimum(fro, 1.5)})
        by_name = {check.name: check.obtained for check in found}
        assert by_name["n=5, T=5, d=2: mean rank, Frobenius"] == 2.0
        assert by_name["n=5, T=5, d=2: mean rank, Frobenius, infeasible as 1"] == 1.75
        assert not any("d=3: mean rank, nuclear" in name for name in by_name)


class TestMultiToken:
    def test_problems_have_a_negative_label_and_unit_norms(self, drawn):
        assert (drawn.data.labels < 0).any(axis=1).all()
        assert np.linalg.norm(drawn.hidden, axis=(1, 2)) == pytest.approx(1.0)
        assert np.linalg.norm(drawn.data.tokens, axis=-1) == pytest.approx(1.0)
        assert np.abs(drawn.start).max() <= 1 / np.sqrt(D)

    def test_exact_descent_in_pieces_is_one_run(self, drawn):
        few = drawn.subset(np.arange(len(drawn)) < 20)
        *_, (W, attention) = multi_token.descend(few, standstill=0.0)
        run = train(few.data, head=ReLU(few.hidden), init=few.start, steps=multi_token.STEPS)
        # What rounds differently grows where steps circle a limit; most runs settle.
        same = np.isclose(W, run.W, rtol=1e-6, atol=1e-6).all(axis=(1, 2))
        assert same.mean() >= 0.5
        assert attention[same] == pytest.approx(run.attention[same], abs=1e-5)

    def test_runs_stand_still_below_the_least_gradient(self, drawn):
        few = drawn.subset(np.arange(len(drawn)) < 60)
        path = [W for W, _ in multi_token.descend(few, standstill=multi_token.STANDSTILL)]
        moved = np.array([(after != before).any(axis=(1, 2)) for before, after in pairwise(path)])
        assert not (moved[1:] & ~moved[:-1]).any()
        assert 0 < moved[-1].mean() < 1
        run = train(few.data, head=ReLU(few.hidden), init=path[-1], steps=0)
        stands = ~moved[-1]
        assert (run.history["grad_norm"][stands, 0] < multi_token.STANDSTILL).all()

    def test_accepted_runs_are_those_of_the_rules(self, drawn):
        *_, (_, attention) = multi_token.descend(drawn, standstill=multi_token.STANDSTILL)
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
