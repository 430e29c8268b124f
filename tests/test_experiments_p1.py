"""Experiments of "Max-Margin Token Selection in Attention Mechanism" (paper 1), E1 to E5, E9, E20.

In the toys the first two coordinates of a token are its key and the third is its score, so they are
trained with a head given by its token scores.
"""

from __future__ import annotations

import numpy as np
import pytest

import attsvm
from attsvm import AttentionData
from attsvm.heads import LinearScores

STARTS = np.array([1.0, 0.5, 0.0, -0.5, -1.0, -1.5])


def repeated(array, times):
    return np.broadcast_to(array, (times, *np.shape(array)))


def cosines(batch, direction):
    """Cosine of every row of `batch` with one direction."""
    return attsvm.cosine(batch, repeated(direction, len(batch)), axis=-1)


def test_e1_gd_on_w_follows_gd_on_p():
    """W(t) = p(t) u' / |u|^2 for every t when W starts there and its step is eta / |u|^2."""
    rng = np.random.default_rng(1)
    n, T, d, eta = 5, 6, 7, 0.05
    tokens = rng.standard_normal((n, T, d))
    labels = rng.choice([-1.0, 1.0], n)
    value, u, p0 = rng.standard_normal((3, d))
    square = u @ u
    data_p = AttentionData(tokens, labels, value=value)
    data_w = AttentionData(tokens, labels, value=value, queries=repeated(u, n))
    for steps in (1, 10, 100, 1000, 5000):
        p = attsvm.train(data_p, parameter="p", rule="gd", lr=eta, steps=steps, init=p0).p
        start = np.outer(p0, u) / square
        run = attsvm.train(
            data_w, parameter="W", rule="gd", lr=eta / square, steps=steps, init=start
        )
        expected = np.outer(p, u) / square
        assert np.abs(run.W - expected).max() < 1e-10 * np.abs(expected).max()


def single_input(third_score):
    """One input of three tokens, six starts (0, c): the batch, its scores and its starts."""
    tokens = repeated([[[-0.1, 1.0], [1.0, 0.0], [0.0, 0.0]]], STARTS.size)
    scores = repeated([[1.0, 0.9, third_score]], STARTS.size)
    data = AttentionData(tokens, np.ones((STARTS.size, 1)))
    return data, LinearScores(scores), np.stack([np.zeros_like(STARTS), STARTS], axis=1)


@pytest.mark.parametrize(
    ("selected", "expected", "half_square"),
    [(0, [-0.09901, 0.99010], 0.49505), (1, [1.0, 0.0], 0.5)],
)
def test_prompt_svm_of_the_single_input(selected, expected, half_square):
    data, _, _ = single_input(0.9)
    solution = attsvm.prompt_svm(data.problem(0), np.array([selected]))
    assert solution.status == "optimal"
    assert solution.p == pytest.approx(expected, abs=1e-5)
    assert solution.p @ solution.p / 2 == pytest.approx(half_square, abs=1e-5)


def test_e2_single_input_reaches_the_optimal_token_from_every_start():
    data, head, init = single_input(0.9)
    run = attsvm.train(data, parameter="p", head=head, init=init, steps=199)
    assert (run.selected[:, 0] == 0).all()
    best = attsvm.prompt_svm(data.problem(0), np.array([0])).p
    assert (cosines(run.p, best) >= 0.99).all()


def test_e3_single_input_reaches_the_locally_optimal_token_from_the_starts_near_it():
    data, head, init = single_input(0.0)
    run = attsvm.train(data, parameter="p", head=head, init=init, steps=199)
    assert run.selected[:, 0].tolist() == [0, 0, 0, 0, 1, 1]
    best = attsvm.prompt_svm(data.problem(0), np.array([0])).p
    other = attsvm.prompt_svm(data.problem(0), np.array([1])).p
    to_best, to_other = cosines(run.p[:4], best), cosines(run.p[4:], other)
    assert (to_best >= 0.999).all()
    assert (to_other >= 0.998).all()
    assert to_best == pytest.approx([0.9999, 0.9999, 1.0, 0.9993], abs=1e-4)
    assert to_other == pytest.approx([0.9996, 0.9990], abs=1e-4)


@pytest.fixture(scope="module")
def multiple_inputs(toys):
    """Three inputs of seven tokens, six starts (c, 0): the batch, its scores and its starts."""
    tokens = np.array(toys["multi_input_X"])
    data = AttentionData(
        repeated(tokens[..., :2], STARTS.size), np.ones((STARTS.size, len(tokens)))
    )
    head = LinearScores(repeated(tokens[..., 2], STARTS.size))
    return data, head, np.stack([STARTS, np.zeros_like(STARTS)], axis=1)


FROM_ZERO = 2
"""Index of the start at the origin."""


def test_e4_prompt_svm_of_the_multiple_inputs(multiple_inputs):
    data, _, _ = multiple_inputs
    solution = attsvm.prompt_svm(data.problem(0), np.zeros(3, dtype=np.int64))
    assert solution.p == pytest.approx([0.84463, 0.17112], abs=1e-5)
    assert solution.p @ solution.p / 2 == pytest.approx(0.37134, abs=1e-5)


def test_e4_normalised_gd_on_multiple_inputs_converges_to_the_prompt_svm(multiple_inputs):
    """The norm is that of exact arithmetic; a run whose normalisation adds 1e-12 gives 19.75."""
    data, head, init = multiple_inputs
    best = attsvm.prompt_svm(data.problem(0), np.zeros(3, dtype=np.int64)).p

    def trained(steps):
        return attsvm.train(data, parameter="p", head=head, init=init, steps=steps)

    run = trained(199)
    assert (run.selected == 0).all()
    assert (cosines(run.p, best) >= 0.999).all()
    assert cosines(run.p, best)[FROM_ZERO] == pytest.approx(0.99955, abs=1e-4)
    for steps, probability in [(0, 0.1429), (20, 0.751), (40, 0.976), (50, 0.9931), (100, 1.0)]:
        attention = trained(steps).attention[FROM_ZERO, :, 0]
        assert attention.mean() == pytest.approx(probability, abs=2e-3)
    for steps, norm in [(50, 4.972), (100, 9.934), (199, 19.791)]:
        assert np.linalg.norm(trained(steps).p[FROM_ZERO]) == pytest.approx(norm, abs=2e-3)


def test_e4_plain_gd_on_multiple_inputs(multiple_inputs):
    data, head, init = multiple_inputs
    expected = [
        (50, 2.287, 0.8177),
        (100, 3.156, 0.9338),
        (199, 3.850, 0.9719),
        (999, 5.239, 0.9950),
    ]
    for steps, norm, probability in expected:
        run = attsvm.train(
            data, parameter="p", head=head, init=init, rule="gd", lr=1.0, steps=steps
        )
        assert np.linalg.norm(run.p[FROM_ZERO]) == pytest.approx(norm, abs=2e-3)
        assert run.attention[FROM_ZERO, :, 0].mean() == pytest.approx(probability, abs=2e-3)
    assert (run.selected == 0).all()


def test_e5_norm_of_plain_gd_grows_like_the_svm_norm_times_log_steps(multiple_inputs):
    data, head, init = multiple_inputs
    run = attsvm.train(
        data,
        parameter="p",
        head=head,
        init=init,
        rule="gd",
        lr=1.0,
        steps=999,
        record_every=[199, 999],
    )
    steps, norms = run.history["step"], run.history["norm"][FROM_ZERO]
    early, late = norms[steps == 199].item(), norms[steps == 999].item()
    slope = (late - early) / np.log(999 / 199)
    svm = attsvm.prompt_svm(data.problem(0), np.zeros(3, dtype=np.int64))
    assert slope == pytest.approx(svm.norm, rel=0.02)


HIGH_SCORES = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 100.0])
LIMIT_OFFSET = {
    "correlation": lambda C: np.log(C) / 2,
    "logistic": lambda C: (np.log(C) + np.log1p(np.e) - np.logaddexp(0, C)) / 2,
    "exponential": lambda C: (np.log(C) + 1 - C) / 2,
}


def two_inputs(loss, steps):
    """Inputs (0,0;0),(1,1;C) and (0,0;0),(1,-1;1), one problem for every C, trained from zero."""
    inputs = [[[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, -1.0]]]
    scores = np.zeros((HIGH_SCORES.size, 2, 2))
    scores[:, 0, 1] = HIGH_SCORES
    scores[:, 1, 1] = 1.0
    data = AttentionData(repeated(inputs, HIGH_SCORES.size), np.ones((HIGH_SCORES.size, 2)))
    return attsvm.train(data, parameter="p", head=LinearScores(scores), loss=loss, steps=steps)


@pytest.mark.parametrize("loss", LIMIT_OFFSET)
def test_e9_offset_from_the_svm_direction_is_the_closed_form_of_the_loss(loss):
    """p_2 tends to 1/2 ln(C |l'(C)| / |l'(1)|); only the correlation loss gets there at C = 100."""
    p = two_inputs(loss, 199).p
    reached = slice(None) if loss == "correlation" else slice(-1)
    expected = LIMIT_OFFSET[loss](HIGH_SCORES)
    assert p[reached, 1] == pytest.approx(expected[reached], abs=5e-3)


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
def test_e9_a_saturated_input_leaves_the_iterate_on_the_diagonal(loss):
    """At C = 100 the gradient of the first input is lost beside the second for 199 steps."""
    p = two_inputs(loss, 199).p[-1]
    assert p[1] == pytest.approx(-p[0], abs=1e-6)
    assert p[0] == pytest.approx(19.9 / np.sqrt(2), abs=1e-6)


@pytest.mark.parametrize("loss", LIMIT_OFFSET)
def test_e9_direction_tends_to_the_prompt_svm(loss):
    p = two_inputs(loss, 999).p
    assert (cosines(p[:-1], np.array([1.0, 0.0])) >= 0.9872).all()


@pytest.mark.parametrize("d", [5, 10])
def test_e20_one_input_with_equal_other_scores_converges_globally(d):
    """One input, unit keys, score 1 for one token and 1/2 for the others: always to its SVM.

    The published cosines .9997 and 1.0000 are means over the problems, to four digits.
    """
    problems, T = 100, 6
    rng = np.random.default_rng(d)
    keys = rng.standard_normal((problems, 1, T, d))
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    best = rng.integers(T, size=problems)
    scores = np.full((problems, 1, T), 0.5)
    scores[np.arange(problems), 0, best] = 1.0
    data = AttentionData(keys, np.ones((problems, 1)))
    svm = np.array([attsvm.prompt_svm(one, best[[b]]).p for b, one in enumerate(data.problems())])

    def mean_cosine(steps):
        run = attsvm.train(data, parameter="p", head=LinearScores(scores), steps=steps)
        assert (run.selected[:, 0] == best).all()
        return attsvm.cosine(run.p, svm, axis=-1).mean()

    assert mean_cosine(1000) >= 0.99965
    assert mean_cosine(3000) >= 0.99995
