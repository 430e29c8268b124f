"""Minimisation over products of balls beside closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from attsvm.descent.ball import Evaluated, minimise


def quadratic(A, b):
    def evaluate(x):
        value = 0.5 * x @ A @ x + b @ x
        return Evaluated(value, A @ x + b, lambda change: A @ change, abs(value))

    return evaluate


@pytest.mark.parametrize("seed", range(10))
def test_indefinite_quadratic_on_a_ball(seed):
    """(A + μ) x = -b with |x| = R and A + μ positive definite is the global minimiser."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((7, 7))
    A += A.T
    b = rng.standard_normal(7)
    values, vectors = np.linalg.eigh(A)
    c = vectors.T @ b
    mu = brentq(
        lambda mu: np.linalg.norm(c / (values + mu)) - 2.0, -values[0] + 1e-9, 1e3, xtol=1e-14
    )
    found = [
        minimise(quadratic(A, b), start, [7], [2.0], tol=1e-11, max_iter=200)
        for start in rng.standard_normal((6, 7))
    ]
    assert all(one.residual <= 1e-11 for one in found)
    best = min(found, key=lambda one: one.at.value)
    assert best.point == pytest.approx(-vectors @ (c / (values + mu)), abs=1e-8)
    assert best.multiplier[0] == pytest.approx(mu)
    assert not best.interior[0]


@pytest.mark.parametrize("inside", [False, True])
def test_convex_quadratic_with_its_minimiser_inside(inside):
    A, b = np.diag([1.0, 4.0, 9.0]), np.array([0.1, -0.8, 0.9])
    start = np.array([1.0, 1.0, 1.0])
    found = minimise(quadratic(A, b), start, [3], [5.0], tol=1e-11, max_iter=100, inside=inside)
    assert found.point == pytest.approx(np.array([-0.1, 0.2, -0.1]), abs=1e-10)
    assert found.interior.tolist() == [True]
    assert found.multiplier.tolist() == [0.0]
    assert found.residual <= 1e-11


def test_one_block_inside_and_one_on_its_boundary():
    """Separable: the first block has its minimiser inside, the second does not."""
    A = np.diag([2.0, 2.0, 1.0, 1.0])
    b = np.array([-2.0, 1.0, -30.0, 40.0])
    found = minimise(
        quadratic(A, b), np.array([1.0, 2.0, 3.0, 1.0]), [2, 2], [3.0, 5.0], tol=1e-11, max_iter=100
    )
    assert found.point == pytest.approx(np.array([1.0, -0.5, 3.0, -4.0]), abs=1e-9)
    assert found.interior.tolist() == [True, False]
    assert found.multiplier == pytest.approx([0.0, 9.0])


def test_linear_function_of_blocks_of_very_different_weight():
    """The second block has a gradient a factor of 1e-30 smaller, and is brought to its end too."""
    b = np.array([3.0, -4.0, 5e-30, 12e-30])
    found = minimise(
        quadratic(np.zeros((4, 4)), b), np.ones(4), [2, 2], [1.0, 2.0], tol=1e-11, max_iter=100
    )
    assert found.residual <= 1e-11
    assert found.point == pytest.approx(np.array([-0.6, 0.8, -10 / 13, -24 / 13]))
