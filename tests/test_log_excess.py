"""The log of the excess loss, its gradient and its curvature beside arithmetic of many digits."""

from __future__ import annotations

import mpmath
import numpy as np
import plain_attention
import pytest
from scipy.special import expit

from attsvm.descent.attention_maps import Sequences
from attsvm.descent.log_excess import LogExcess, LogLoss, LogLossOfMixture, MarginLoss
from attsvm.heads import Penalised, ReLU

LOSSES = ("logistic", "exponential", "correlation")


@pytest.fixture(scope="module")
def problem(local_convergence):
    """Three published inputs of up to eight tokens in ten dimensions."""
    data = local_convergence.problem(0)
    lengths = np.array([8, 5, 2])
    return data.tokens[:3], data.labels[:3], data.value, data.queries[:3], lengths


def parts(problem, loss):
    tokens, labels, value, queries, lengths = problem
    valid = np.arange(tokens.shape[1]) < lengths[:, np.newaxis]
    sequences = Sequences(tokens, queries, valid)
    excess = LogExcess(labels[:, np.newaxis] * (tokens @ value), valid, loss)
    return sequences, excess, plain_attention.Problem.of(tokens, labels, value, queries, lengths)


def exact_log_excess(plain, W, loss):
    """Value and gradient."""
    excess = plain_attention.loss_value(plain, W, loss) - plain_attention.least_loss(plain, loss)
    return mpmath.log(excess), plain_attention.gradient(plain, W, loss) / excess


def assert_near(got, exact, tolerance, beside=0):
    """Relative to the norm of the truth, and of what is subtracted to get it."""
    truth = np.asarray(exact)
    error = plain_attention.norm(plain_attention.exact(got) - truth)
    assert error <= tolerance * (plain_attention.norm(truth) + beside)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("norm", [0.5, 30.0, 400.0])
def test_log_excess_and_two_derivatives_at_any_norm(problem, loss, norm):
    """Where every input is on its best token, and where some are stuck on others."""
    sequences, excess, plain = parts(problem, loss)
    rng = np.random.default_rng(3)
    toward = np.einsum(
        "ij,ik->jk", problem[0][np.arange(3), excess.best], problem[3]
    )  # the best tokens win
    for direction in (toward, rng.standard_normal((10, 10))):
        W = norm * direction / np.linalg.norm(direction)
        change = rng.standard_normal((10, 10))
        at = sequences.of_matrix(excess)(W.ravel())
        with mpmath.workdps(500):
            exact, slope = plain_attention.exact(W), plain_attention.exact(change)
            value, gradient = exact_log_excess(plain, exact, loss)
            assert abs(at.value - value) <= 1e-13 * max(1.0, abs(float(value)), norm)
            assert_near(at.gradient.reshape(10, 10), gradient, 1e-11)
            h = mpmath.mpf(10) ** -150
            rise, fall = (exact_log_excess(plain, exact + s * h * slope, loss)[1] for s in (1, -1))
            # F'' = E''/E - g g' where F is nearly linear is small beside its two terms.
            beside = plain_attention.norm(gradient) * abs((gradient * slope).sum())
            got = at.hessian(change.ravel()).reshape(10, 10)
            assert_near(got, (rise - fall) / (2 * h), 1e-10, beside)


def test_curvature_in_the_factors(problem):
    sequences, excess, plain = parts(problem, "logistic")
    rng = np.random.default_rng(4)
    x, change = rng.standard_normal((2, 60)) * 3
    at = sequences.of_factors(excess, 3)(x)

    def gradient(x):
        K, Q = x[:30].reshape(10, 3), x[30:].reshape(10, 3)
        G = exact_log_excess(plain, K @ Q.T, "logistic")[1]
        return np.concatenate([(G @ Q).ravel(), (G.T @ K).ravel()])

    with mpmath.workdps(200):
        exact, slope = plain_attention.exact(x), plain_attention.exact(change)
        assert_near(at.gradient, gradient(exact), 1e-12)
        h = mpmath.mpf(10) ** -60
        curvature = (gradient(exact + h * slope) - gradient(exact - h * slope)) / (2 * h)
        assert_near(at.hessian(change), curvature, 1e-11)


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
@pytest.mark.parametrize(("value_norm", "norm"), [(1.0, 1.0), (500.0, 20.0), (3.0, 300.0)])
def test_log_loss_of_value_and_prompt(problem, loss, value_norm, norm):
    tokens, labels, _, _, lengths = problem
    valid = np.arange(tokens.shape[1]) < lengths[:, np.newaxis]
    sequences = Sequences(tokens, np.ones((3, 1)), valid)
    rng = np.random.default_rng(5)
    x, change = rng.standard_normal((2, 20))
    x[:10] *= value_norm / np.linalg.norm(x[:10])
    x[10:] *= norm / np.linalg.norm(x[10:])
    at = sequences.of_value_and_prompt(LogLoss(loss), labels)(x)
    function, derivative = plain_attention.LOSSES[loss]

    def value_and_gradient(x):
        plain = plain_attention.Problem(
            plain_attention.exact(tokens),
            plain_attention.exact(labels),
            x[:10],
            None,
            tuple(lengths.tolist()),
        )
        total, by_value = 0, 0
        for i, s in enumerate(plain_attention.attention(plain, x[10:])):
            mixture = plain.labels[i] * (s @ plain.tokens[i, : lengths[i]])
            total = total + function(mixture @ x[:10])
            by_value = by_value + derivative(mixture @ x[:10]) * mixture
        by_prompt = 3 * plain_attention.gradient(plain, x[10:], loss)
        return mpmath.log(total / 3), np.concatenate([by_value, by_prompt]) / total

    with mpmath.workdps(500):
        exact, slope = plain_attention.exact(x), plain_attention.exact(change)
        value, gradient = value_and_gradient(exact)
        assert at.value == pytest.approx(float(value), rel=1e-13)
        assert_near(at.gradient[:10], gradient[:10], 1e-10)
        assert_near(at.gradient[10:], gradient[10:], 1e-10)
        h = mpmath.mpf(10) ** -150
        rise, fall = (value_and_gradient(exact + s * h * slope)[1] for s in (1, -1))
        assert_near(at.hessian(change), (rise - fall) / (2 * h), 1e-9)


@pytest.mark.parametrize("kind", ["relu", "penalised"])
@pytest.mark.parametrize("norm", [1.0, 40.0, 400.0])
def test_log_loss_with_a_head_that_is_not_linear(problem, kind, norm):
    tokens, labels, value, queries, lengths = problem
    valid = np.arange(tokens.shape[1]) < lengths[:, np.newaxis]
    rng = np.random.default_rng(6)
    V, w = rng.standard_normal((10, 4)), rng.standard_normal(4)
    head = ReLU(V, w) if kind == "relu" else Penalised(value, 0.7)
    sequences = Sequences(tokens, queries, valid)
    loss = LogLossOfMixture(tokens, labels, head, "logistic")
    W, change = rng.standard_normal((2, 10, 10))
    W *= norm / np.linalg.norm(W)
    at = sequences.of_matrix(loss)(W.ravel())
    plain = plain_attention.Problem.of(tokens, labels, value, queries, lengths)
    function, derivative = plain_attention.LOSSES["logistic"]

    def prediction(o):
        """h(o) and its gradient."""
        if kind == "relu":
            active = np.array([unit > 0 for unit in o @ plain_attention.exact(V)])
            slope = plain_attention.exact(V[:, active]) @ plain_attention.exact(w[active])
            return slope @ o, slope
        penalty = mpmath.mpf(0.7)
        return plain.value @ o - penalty * (o @ o), plain.value - 2 * penalty * o

    def value_and_gradient(W):
        total, gradient = 0, 0 * W
        for i, s in enumerate(plain_attention.attention(plain, W)):
            X = plain.tokens[i, : lengths[i]]
            h, slope = prediction(s @ X)
            margin = plain.labels[i] * h
            total = total + function(margin)
            g = plain.labels[i] * (X @ slope)
            u = (derivative(margin) * s * (g - s @ g)) @ X
            gradient = gradient + np.outer(u, plain.queries[i])
        return mpmath.log(total / 3), gradient / total

    with mpmath.workdps(500):
        exact, slope = plain_attention.exact(W), plain_attention.exact(change)
        value, gradient = value_and_gradient(exact)
        assert at.value == pytest.approx(float(value), abs=1e-13)
        assert_near(at.gradient.reshape(10, 10), gradient, 1e-11)
        h = mpmath.mpf(10) ** -150
        rise, fall = (value_and_gradient(exact + s * h * slope)[1] for s in (1, -1))
        beside = plain_attention.norm(gradient) * abs((gradient * slope).sum())
        got = at.hessian(change.ravel()).reshape(10, 10)
        assert_near(got, (rise - fall) / (2 * h), 1e-10, beside)


def test_inputs_with_nothing_to_choose_take_no_part():
    """The third input has one token, the second two equal ones: the excess is the first's."""
    scores = np.array([[2.0, 1.0, 1.0], [1.0, 1.0, 0.0], [5.0, 0.0, 0.0]])
    valid = np.array([[True] * 3, [True, True, False], [True, False, False]])
    excess = LogExcess(scores, valid, "correlation")
    logits = np.where(valid, [[3.0, 1.0, 0.0], [0.0, 9.0, 0.0], [1.0, 0.0, 0.0]], -np.inf)
    away = (np.exp(-2) + np.exp(-3)) / (1 + np.exp(-2) + np.exp(-3))
    slope = excess(logits)
    assert slope.value == pytest.approx(np.log(away / 3))
    assert excess.infimum == pytest.approx(-(2 + 1 + 5) / 3)
    assert not slope.gradient[1:].any()
    # d log(1 - s) / da is -s for the best token, which the other two share as their weights.
    assert slope.gradient[0] == pytest.approx((1 - away) * np.array([-1, expit(1), expit(-1)]))
    assert not excess.constant
    assert LogExcess(scores[1:], valid[1:], "correlation").constant


def test_margin_loss_is_the_log_sum_of_exponentials_of_margins():
    logits = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, -np.inf]])
    others = np.array([[False, True, True], [True, False, False]])
    loss = MarginLoss(np.array([0, 1]), others)
    slope = loss(logits)
    shares = np.exp([-3.0, -0.5, -3.0])
    assert slope.value == pytest.approx(np.log(shares.sum()))
    shares /= shares.sum()
    expected = [[-shares[0] - shares[1], shares[0], shares[1]], [shares[2], -shares[2], 0.0]]
    assert slope.gradient == pytest.approx(np.array(expected))
    change = np.array([[0.3, -1.0, 0.2], [1.5, 0.1, 7.0]])
    h = 1e-6
    rise, fall = (loss(logits + s * h * change).gradient for s in (1, -1))
    assert slope.hessian(change) == pytest.approx((rise - fall) / (2 * h), abs=1e-8)


def exact_log_of_log_loss(logits, scores, valid):
    """log of the mean of log(best) - log(margin), by mpmath; logits are those of valid tokens."""
    total = mpmath.mpf(0)
    for a, gamma, real in zip(logits, scores, valid, strict=True):
        weights = [mpmath.exp(x) for x, kept in zip(a, real, strict=True) if kept]
        right = [mpmath.mpf(float(g)) for g, kept in zip(gamma, real, strict=True) if kept]
        margin = mpmath.fdot(weights, right) / mpmath.fsum(weights)
        total -= mpmath.log(margin / max(right))
    return mpmath.log(total / len(scores))


@pytest.mark.parametrize("size", [0.1, 3.0, 30.0, 400.0])
@pytest.mark.parametrize("zeros", [True, False])
def test_the_log_loss_and_two_derivatives_at_any_size(size, zeros):
    """Also where the attention on right tokens is e^-400, and where it is 1 - e^-400."""
    rng = np.random.default_rng(5)
    n, T = 4, 5
    valid = np.arange(T) < np.array([5, 4, 5, 2])[:, np.newaxis]
    scores = rng.integers(0, 2, (n, T)).astype(float) if zeros else rng.uniform(0.1, 3, (n, T))
    scores[:, 0] = 1.0
    excess = LogExcess(scores, valid, "log")
    best = np.where(valid, scores, 0).max(axis=1)
    assert excess.infimum == pytest.approx(-np.log(best).mean(), abs=1e-15)
    for logits in (size * rng.standard_normal((n, T)), size * scores):
        change = rng.standard_normal((n, T))
        at = excess(np.where(valid, logits, -np.inf))
        with mpmath.workdps(600):
            x = plain_attention.exact(logits)
            h = mpmath.mpf(10) ** -150
            value = exact_log_of_log_loss(x, scores, valid)
            assert abs(at.value - value) <= 1e-13 * max(1.0, abs(float(value)), size)

            def slope(x, h=h):
                found = np.zeros((n, T), dtype=object)
                for i, t in zip(*np.nonzero(valid), strict=True):
                    step = np.zeros((n, T), dtype=object)
                    step[i, t] = h
                    ends = [exact_log_of_log_loss(x + s * step, scores, valid) for s in (1, -1)]
                    found[i, t] = (ends[0] - ends[1]) / (2 * h)
                return found

            gradient = slope(x)
            assert_near(at.gradient, gradient, 1e-11)
            k = mpmath.mpf(10) ** -60
            moved = plain_attention.exact(change)
            curve = (slope(x + k * moved) - slope(x - k * moved)) / (2 * k)
            beside = plain_attention.norm(gradient) * abs((gradient * moved).sum())
            assert_near(at.hessian(change), curve, 1e-10, beside)
