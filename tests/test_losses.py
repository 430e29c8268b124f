"""Every loss of the core: derivatives, logarithms and excess agree with 400-digit arithmetic."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from attsvm import _core

EXACT = {
    "logistic": lambda m: mpmath.log1p(mpmath.exp(-m)),
    "exponential": lambda m: mpmath.exp(-m),
    "correlation": lambda m: -m,
    "log": lambda m: -mpmath.log(m),
    "cross_entropy": lambda m: -m,
    "squared": lambda m: mpmath.expm1(m) ** 2,
}
MARGINS = {
    "real": np.array([-40.0, -3.0, -0.5, 0.0, 0.25, 2.0, 36.9, 37.1, 300.0]),
    "attention": np.array([1e-100, 1e-3, 0.5, 0.9, 1.0]),
    "log_probability": np.array([-600.0, -20.0, -1.0, -1e-3, -1e-9]),
}


@pytest.fixture(params=_core.losses)
def loss(request):
    return request.param, _core.losses[request.param]


def near(got, exact):
    return abs(got - exact) <= 1e-13 * max(abs(exact), mpmath.mpf(10) ** -300)


def test_value_and_derivatives(loss):
    name, core = loss
    for m in MARGINS[core.margins]:
        with mpmath.workdps(400):
            value, slope, curvature = mpmath.taylor(EXACT[name], mpmath.mpf(m), 2)
        assert near(core.value(m), value)
        assert near(core.slope(m), slope)
        assert near(core.curvature(m), 2 * curvature)
        if slope < 0:
            assert abs(core.log_slope(m) - mpmath.log(-slope)) <= 1e-13 * max(1, abs(m))


def test_logarithm_of_a_positive_loss(loss):
    name, core = loss
    if not core.positive:
        pytest.skip("may be negative")
    for m in MARGINS[core.margins]:
        with mpmath.workdps(400):
            value, slope, curvature = mpmath.taylor(EXACT[name], mpmath.mpf(m), 2)
            exact = mpmath.log(value), slope / value, 2 * curvature / value
        for got, right in zip(core.log_value(m), exact, strict=True):
            assert near(got, right)


@pytest.mark.parametrize("y", [-600.0, -40.0, -18.5, -18.4, -1.0, -1e-3])
def test_logarithm_of_the_excess(loss, y):
    name, core = loss
    if not core.has_excess:
        pytest.skip("has none")
    for b in [1.0] if core.margins == "attention" else [-3.0, 0.0, 20.0, 200.0]:
        with mpmath.workdps(800):
            exact_y, best = mpmath.mpf(y), mpmath.mpf(b)

            def log_excess(y, best=best):
                return mpmath.log(EXACT[name](best - mpmath.exp(y)) - EXACT[name](best))

            exact = [mpmath.diff(log_excess, exact_y, order, h=1e-200) for order in (0, 1, 2)]
            share = float(mpmath.log1p(-mpmath.exp(exact_y)))
        got = core.log_excess(np.array([b]), np.array([y]), np.array([share]))
        for part, right in zip(got, exact, strict=True):
            assert abs(part[0] - right) <= 1e-13 * max(abs(right), 1 if right is exact[2] else 0)
