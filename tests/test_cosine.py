"""Directions: cosine, its gap to 1, and the distance of two directions."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attsvm.theory import cosine, cosine_gap, directional_distance

FUNCTIONS = (cosine, cosine_gap, directional_distance)
EPS = np.finfo(np.float64).eps

numbers = st.floats(allow_nan=False, allow_infinity=False)
ordinary = st.floats(-1e3, 1e3)


def vectors(elements: st.SearchStrategy[float] = numbers) -> st.SearchStrategy[np.ndarray]:
    some = hnp.arrays(np.float64, st.integers(1, 6), elements=elements)
    return some.filter(lambda vector: vector.any())


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    first = draw(vectors())
    same = hnp.arrays(np.float64, first.shape, elements=numbers)
    return first, draw(same.filter(lambda vector: vector.any()))


def exact_gap(A: np.ndarray, B: np.ndarray) -> mpmath.mpf:
    with mpmath.workdps(800):
        a, b = ([mpmath.mpf(float(x)) for x in vector.ravel()] for vector in (A, B))
        dot = mpmath.fdot(a, b)
        return 1 - dot / mpmath.sqrt(mpmath.fdot(a, a) * mpmath.fdot(b, b))


@given(pair=pairs())
def test_gap_and_cosine_are_those_of_exact_arithmetic_at_any_scale(pair):
    """The unit vectors are rounded, so an angle is off by a few roundings of 1, and the gap so."""
    gap = exact_gap(*pair)
    off = 8 * EPS
    assert abs(cosine_gap(*pair) - gap) <= off * mpmath.sqrt(2 * gap) + off**2
    assert abs(cosine(*pair) - (1 - gap)) <= off
    assert abs(directional_distance(*pair) - mpmath.sqrt(2 * gap)) <= off


@pytest.mark.parametrize("angle", [1e-1, 1e-4, 1e-8, 1e-12, 1e-15])
def test_the_gap_of_a_small_angle_is_half_its_square(angle):
    """1 - cos θ = 2 sin²(θ/2), where 1 - cosine itself is 0 for θ below 1e-8."""
    gap = cosine_gap([1.0, 0.0], [1.0, math.tan(angle)])
    assert gap == pytest.approx(2 * math.sin(angle / 2) ** 2, rel=1e-13)
    assert directional_distance([1.0, 0.0], [1.0, math.tan(angle)]) == pytest.approx(
        2 * math.sin(angle / 2), rel=1e-13
    )


@given(pair=pairs())
def test_the_three_say_the_same_within_their_ranges(pair):
    cos, gap, distance = (function(*pair) for function in FUNCTIONS)
    assert all(type(result) is float for result in (cos, gap, distance))
    assert -1 <= cos <= 1
    assert 0 <= gap <= 2
    assert 0 <= distance <= 2 + 2 * EPS
    assert cos == pytest.approx(1 - gap, abs=2 * EPS)
    assert distance**2 == pytest.approx(2 * gap, rel=1e-14, abs=4 * EPS)


@given(pair=pairs())
def test_they_are_symmetric(pair):
    for function in FUNCTIONS:
        assert function(*pair) == function(*pair[::-1])


@given(vector=vectors(ordinary), power=st.integers(-900, 900))
def test_multiples_of_a_direction_are_the_same_direction(vector, power):
    scaled = np.ldexp(vector, power)
    assume((np.ldexp(scaled, -power) == vector).all())
    assert cosine(vector, scaled) == 1
    assert cosine_gap(vector, scaled) == 0
    assert directional_distance(vector, scaled) == 0
    assert cosine(vector, -scaled) == -1
    assert cosine_gap(vector, -scaled) == 2
    assert directional_distance(vector, -scaled) == pytest.approx(2, rel=1e-15)


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-200, 1.0, 1e200, 1e308])
def test_norms_neither_overflow_nor_underflow(scale):
    assert cosine([scale, 0.0], [scale, scale]) == pytest.approx(math.sqrt(0.5), rel=1e-15)
    assert cosine([scale, scale], [1.0, -1.0]) == pytest.approx(0, abs=EPS)


def test_matrices_are_measured_in_the_frobenius_inner_product():
    A, B = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [-1.0, 2.0]])
    expected = np.trace(A.T @ B) / (np.linalg.norm(A) * np.linalg.norm(B))
    assert cosine(A, B) == pytest.approx(expected, rel=1e-15)
    assert cosine(A, B) == cosine(A.ravel(), B.ravel())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_axis_makes_a_batch_of_directions(function):
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((2, 4, 3, 3))
    matrices = function(A, B, axis=(-2, -1))
    rows = function(A, B, axis=-1)
    columns = function(A, B, axis=1)
    assert matrices.shape == (4,)
    assert rows.shape == columns.shape == (4, 3)
    for b in range(4):
        assert matrices[b] == pytest.approx(function(A[b], B[b]), rel=1e-14)
        for k in range(3):
            assert rows[b, k] == pytest.approx(function(A[b, k], B[b, k]), rel=1e-14)
            assert columns[b, k] == pytest.approx(function(A[b, :, k], B[b, :, k]), rel=1e-14)


def test_float32_and_integers_are_measured_in_float64():
    A, B = np.array([1, 2, 2], dtype=np.float32), [2, 1, 2]
    assert cosine(A, B) == pytest.approx(8 / 9, rel=1e-15)


def test_an_object_that_is_no_array_is_named_by_its_type():
    with pytest.raises(TypeError, match=r"^B: expected an array, got Fraction$"):
        cosine([1.0], Fraction(1, 3))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_zero_points_nowhere(function):
    with pytest.raises(ValueError, match=r"^A: expected a direction, got zero$"):
        function(np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match=r"^B: expected a direction, got zero at \[1\]$"):
        function(np.ones((2, 3)), [[1, 0, 0], [0, 0, 0]], axis=-1)
    with pytest.raises(ValueError, match=r"^B: expected shape of A = \(3,\), got \(2,\)$"):
        function(np.ones(3), np.ones(2))
