"""Experiments of "Max-Margin Token Selection in Attention Mechanism" (paper 1).

Numbers of its figures are compared by `test_reproduce`. Here: that those which are stated as
computed in many digits are what comes out in many digits, and the experiments E1 and E20, which no
figure shows.
"""

from __future__ import annotations

import mpmath
import numpy as np
import plain_loss
import pytest
from plain_attention import exact

import attsvm
from attsvm import AttentionData
from attsvm.heads import LinearScores
from attsvm.studies.figures import (
    joint_training,
    loss_comparison,
    multiple_inputs,
    single_input,
    trajectories,
)


def repeated(array, times):
    return np.broadcast_to(array, (times, *np.shape(array)))


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


def test_the_published_data_are_those_of_the_tests(toys):
    """Bit for bit: the figures hold them as short decimals of float32 numbers."""
    batch, head, _ = multiple_inputs.problem()
    drawn = np.array(toys["multi_input_X"])
    for tokens, scores in zip(batch.tokens, head.scores, strict=True):
        assert np.array_equal(tokens, drawn[..., :2])
        assert np.array_equal(scores, drawn[..., 2])
    for name in trajectories.FIGURE.settings["problems"]:
        data = trajectories.problem(name)
        for part, key in (("tokens", "X"), ("queries", "Z"), ("value", "v")):
            assert np.array_equal(getattr(data, part), np.array(toys[name][key]))


def many_digits(keys, scores, start, steps, slope, digits):
    """Final p of normalised steps of 0.1 on p, by the textbook formula in many digits."""
    with mpmath.workdps(digits):
        keys, scores = exact(np.asarray(keys)), exact(np.asarray(scores))
        p = exact(np.asarray(start))
        exp = np.frompyfunc(mpmath.exp, 1, 1)
        for _ in range(steps):
            weights = exp(keys @ p)
            weights = weights / weights.sum(axis=1, keepdims=True)
            margins = (weights * scores).sum(axis=1)
            slopes = np.array([slope(margin) for margin in margins])[:, np.newaxis]
            of_logits = slopes * weights * (scores - margins[:, np.newaxis])
            gradient = (of_logits[:, :, np.newaxis] * keys).sum(axis=(0, 1))
            p = p - gradient / mpmath.sqrt((gradient**2).sum()) / 10
        return p.astype(np.float64)


SLOPES = {
    "correlation": lambda margin: mpmath.mpf(-1),
    "logistic": lambda margin: -1 / (1 + mpmath.exp(margin)),
    "exponential": lambda margin: -mpmath.exp(-margin),
}


def stated(module, group, place=""):
    return module.FIGURE.numbers[group].value(place)


@pytest.mark.parametrize("case", ["global", "local"])
def test_single_input_in_many_digits(case):
    given = single_input.FIGURE.settings
    scores = [[*given["scores"], given["third_score"][case]]]
    directions = {0: [-10 / 101, 100 / 101], 1: [1.0, 0.0]}
    for c in given["starts"]:
        steps = given["train"]["steps"]
        p = many_digits([given["keys"]], scores, [0.0, c], steps, SLOPES["logistic"], 60)
        direction = directions[stated(single_input, f"selected {case}", c)]
        expected = stated(single_input, f"cosine {case}", c)
        assert attsvm.cosine(p, direction) == pytest.approx(expected, abs=1e-8)
        if case == "global":
            assert np.linalg.norm(p) == pytest.approx(stated(single_input, "norm", c), abs=1e-6)


@pytest.mark.parametrize("step", [50, 100, 199, pytest.param(999, marks=pytest.mark.slow)])
def test_multiple_inputs_in_many_digits(step):
    batch, head, _ = multiple_inputs.problem()
    inputs, scores = batch.problem(0), head.scores[0]
    p = many_digits(inputs.tokens, scores, [0.0, 0.0], step, SLOPES["logistic"], step // 2 + 60)
    direction = attsvm.prompt_svm(inputs, [0, 0, 0]).p
    numbers = multiple_inputs.FIGURE.numbers
    compared = 0
    if step in numbers["cosine"].at:
        expected = numbers["cosine"].value(step)
        assert attsvm.cosine(p, direction) == pytest.approx(expected, abs=1e-7)
        compared += 1
    if step in numbers["norm ngd"].at:
        assert np.linalg.norm(p) == pytest.approx(numbers["norm ngd"].value(step), abs=1e-5)
        compared += 1
    assert compared


def test_joint_training_in_many_digits():
    data, given = joint_training.problem("loose"), joint_training.FIGURE.settings
    with mpmath.workdps(120):
        begin = {name: exact(np.array(value)) for name, value in given["start"].items()}
        end = plain_loss.normalised_descent(
            data, begin, given["train"]["lr"], given["train"]["steps"], ("p", "v")
        )
        p = plain_loss.rounded(end["p"])
    expected = joint_training.FIGURE.numbers["end"].expected
    assert p == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("loss", SLOPES)
def test_losses_at_the_largest_score_in_many_digits(loss):
    batch, head = loss_comparison.problem()
    inputs, scores = batch.problem(-1), head.scores[-1]
    p = many_digits(inputs.tokens, scores, [0.0, 0.0], 999, SLOPES[loss], 200)
    expected = stated(loss_comparison, "late", loss)
    assert attsvm.cosine(p, [1.0, 0.0]) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("loss", SLOPES)
def test_limits_of_the_offsets(loss):
    """1/2 ln(C |l'(C)| / |l'(1)|)."""
    offsets = loss_comparison.FIGURE.numbers[f"offset {loss}"]
    assert len(offsets.at) >= 10
    for C in offsets.at:
        limit = mpmath.log(C * SLOPES[loss](mpmath.mpf(C)) / SLOPES[loss](mpmath.mpf(1))) / 2
        assert float(limit) == pytest.approx(offsets.value(C), abs=5.1e-4)
