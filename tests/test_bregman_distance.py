"""The Bregman distance of two directions in the potential |.|_p^p / p."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from attsvm.theory import bregman_distance, cosine_gap

EPS = np.finfo(np.float64).eps
POWERS = (1.02, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 30.0)


def exact(A, B, p):
    """1 - <∇ψ(b), a> in many digits."""
    with mpmath.workdps(80):
        a, b = ([mpmath.mpf(float(x)) for x in np.ravel(vector)] for vector in (A, B))
        p = mpmath.mpf(p)
        norms = [mpmath.fsum(abs(x) ** p for x in vector) ** (1 / p) for vector in (a, b)]
        a, b = ([x / norm for x in v] for v, norm in zip((a, b), norms, strict=True))
        return 1 - mpmath.fsum(
            mpmath.sign(y) * abs(y) ** (p - 1) * x for x, y in zip(a, b, strict=True)
        )


@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("apart", [1e-12, 1e-6, 1e-2, 0.3, 10.0])
def test_it_is_that_of_many_digits(p, apart):
    """Unit entries are rounded: a distance D is off by a few roundings of its root, times √p."""
    rng = np.random.default_rng(0)
    B = rng.standard_normal((3, 4))
    A = B + apart * rng.standard_normal((3, 4))
    D = exact(A, B, p)
    off = 8 * EPS * np.sqrt(p)
    assert abs(bregman_distance(A, B, p) - D) <= off * mpmath.sqrt(D) + off**2


@pytest.mark.parametrize("p", POWERS)
def test_zero_entries(p):
    A, B = [0.0, 0.0, 2.0, -1.0], [0.0, 1.0, 0.0, -1.0]
    assert bregman_distance(A, B, p) == pytest.approx(float(exact(A, B, p)), rel=1e-13)


@pytest.mark.parametrize("p", POWERS)
def test_bounds(p):
    """0 for one direction at any scale, 1 for disjoint entries, 2 for opposite directions."""
    W = np.random.default_rng(1).standard_normal((4, 4))
    assert bregman_distance(W, W, p) == 0
    assert bregman_distance(2.0**900 * W, 2.0**-900 * W, p) == 0
    assert bregman_distance(3 * W, W, p) <= EPS**2 * p
    assert bregman_distance(W, -W, p) == pytest.approx(2, rel=1e-14)
    assert bregman_distance([3.0, 0.0], [0.0, 1.0], p) == pytest.approx(1, rel=1e-15)


def test_at_p_2_it_is_half_the_squared_distance_of_the_unit_matrices():
    rng = np.random.default_rng(2)
    A, B = rng.standard_normal((2, 5, 3, 4))
    gaps = cosine_gap(A, B, axis=(1, 2))
    np.testing.assert_allclose(bregman_distance(A, B, 2, axis=(1, 2)), gaps, rtol=1e-14)
    near = B + 1e-9 * A
    gaps = cosine_gap(near, B, axis=(1, 2))
    np.testing.assert_allclose(bregman_distance(near, B, 2, axis=(1, 2)), gaps, rtol=1e-6)


@pytest.mark.parametrize("p", [1.0, 0.5, np.inf, np.nan, "2", None])
def test_p_is_a_finite_number_larger_than_1(p):
    with pytest.raises((TypeError, ValueError), match=r"^p: expected a number in"):
        bregman_distance([1.0], [1.0], p)
