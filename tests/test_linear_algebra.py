"""Norms, directions and low-rank matrices, beside 60-digit arithmetic and dense formulas."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm._linalg import LowRank, euclidean_norm, half_squared_distances

SEEDS = st.integers(0, 2**32 - 1)
EPS = np.finfo(np.float64).eps


def exact_norm(values):
    with mpmath.workdps(60):
        return float(mpmath.sqrt(mpmath.fsum(mpmath.mpf(float(x)) ** 2 for x in np.ravel(values))))


@pytest.mark.parametrize("exponent", [-1070, -600, 0, 600, 1020])
def test_norms_neither_overflow_nor_underflow(exponent):
    array = np.ldexp(np.random.default_rng(0).uniform(-1, 1, (3, 4, 5)), exponent)
    expected = [exact_norm(one) for one in array]
    assert euclidean_norm(array, (1, 2)) == pytest.approx(expected, rel=8 * EPS, abs=1e-323)
    assert euclidean_norm(array, (1, 2), keepdims=True).shape == (3, 1, 1)


def test_norms_of_ordinary_numbers_are_the_root_of_the_sum_of_squares():
    array = np.random.default_rng(1).standard_normal((6, 7))
    assert np.array_equal(euclidean_norm(array, 1), np.sqrt(np.square(array).sum(axis=1)))


def test_norms_of_zero_of_nothing_and_beyond_float64():
    assert euclidean_norm(np.zeros((2, 3)), -1).tolist() == [0, 0]
    assert euclidean_norm(np.zeros((2, 0)), -1).tolist() == [0, 0]
    assert euclidean_norm(np.full(4, 1e308)) == np.inf


@given(seed=SEEDS, apart=st.floats(1e-12, 1.0))
def test_distances_of_unit_vectors_do_not_cancel(seed, apart):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 5))
    b = a + apart * b
    with mpmath.workdps(60):
        x, y = (mpmath.matrix([mpmath.mpf(float(v)) for v in u]) for u in (a, b))
        exact = 1 - (x.T * y)[0] / mpmath.norm(x) / mpmath.norm(y)
    near, far = half_squared_distances(a, b)
    assert near == pytest.approx(float(exact), rel=1e-3, abs=1e-31)
    assert near + far == pytest.approx(2.0, rel=4 * EPS)


def low_rank(rng, lead, s, d=4, e=3):
    return LowRank(rng.standard_normal((*lead, s, d)), rng.standard_normal((*lead, s, e)))


@given(seed=SEEDS, s=st.integers(1, 6), lead=st.sampled_from([(), (2,), (2, 3)]))
def test_a_low_rank_matrix_computes_what_its_dense_form_does(seed, s, lead):
    rng = np.random.default_rng(seed)
    A, B = low_rank(rng, lead, s), low_rank(rng, lead, 2)
    z = rng.standard_normal((*lead, 7, 3))
    for one in (A, LowRank.of_dense(A.dense())):
        assert one.shape == (*lead, 4, 3)
        assert one.dense() == pytest.approx(A.dense(), rel=1e-14)
        assert one.norm() == pytest.approx(np.linalg.norm(A.dense(), axis=(-2, -1)), rel=1e-13)
        assert one.unit().norm() == pytest.approx(np.ones(lead), rel=1e-14)
        assert one.of_rows(z) == pytest.approx(z @ np.swapaxes(A.dense(), -1, -2), abs=1e-13)
        singular = np.linalg.svd(one.compact(), compute_uv=False)[..., :3]
        k = singular.shape[-1]
        expected = np.linalg.svd(A.dense(), compute_uv=False)[..., :k]
        assert singular == pytest.approx(expected, abs=1e-13)
        inner = np.sum(A.dense() * B.dense(), axis=(-2, -1))
        assert one.inner(B) == pytest.approx(inner, abs=1e-12)
        cosine = inner / A.norm() / B.norm()
        assert 1 - one.cosine_gap(B) == pytest.approx(cosine, abs=1e-13)


@given(seed=SEEDS, apart=st.floats(1e-11, 1e-3))
def test_the_cosine_gap_of_factors_does_not_cancel(seed, apart):
    rng = np.random.default_rng(seed)
    A, other = low_rank(rng, (), 2), low_rank(rng, (), 2)
    B = LowRank(
        np.concatenate([A.left, apart * other.left]), np.concatenate([A.right, other.right])
    )
    with mpmath.workdps(60):
        exact = [
            [
                mpmath.fsum(
                    mpmath.mpf(float(L[k, i])) * mpmath.mpf(float(R[k, j])) for k in range(len(L))
                )
                for i in range(4)
                for j in range(3)
            ]
            for L, R in ((A.left, A.right), (B.left, B.right))
        ]
        x, y = (mpmath.matrix(entries) for entries in exact)
        gap = 1 - (x.T * y)[0] / mpmath.norm(x) / mpmath.norm(y)
    assert A.cosine_gap(B) == pytest.approx(float(gap), rel=1e-3, abs=1e-29)


def test_the_zero_matrix_has_no_direction():
    A = LowRank(np.zeros((2, 1, 4)), np.ones((2, 1, 3)))
    assert A.norm().tolist() == [0, 0]
    assert A.unit().dense().tolist() == np.zeros((2, 4, 3)).tolist()
    assert A.cosine_gap(LowRank.of_dense(np.ones((2, 4, 3)))).tolist() == [1, 1]


@pytest.mark.parametrize("exponent", [-900, 900])
def test_units_and_gaps_of_factors_of_any_size(exponent):
    A = low_rank(np.random.default_rng(2), (), 2)
    scaled = LowRank(np.ldexp(A.left, exponent), A.right)
    assert scaled.unit().dense() == pytest.approx(A.unit().dense(), rel=1e-14)
    assert scaled.cosine_gap(A) <= 1e-30
    assert scaled.norm() == pytest.approx(np.ldexp(A.norm(), exponent), rel=1e-14)
