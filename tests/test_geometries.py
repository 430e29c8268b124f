"""Norms and their steepest directions: closed forms, LAPACK, and the identity of dual norms."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attsvm import _core
from attsvm._geometries import NORMS, as_geometry, as_norm

ALL = (*NORMS, 1.05, 1.75, 3.0, 20.0)
SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 7))
ENTRIES = st.floats(-1e3, 1e3, width=16)
MATRICES = arrays(np.float64, SHAPES, elements=ENTRIES)


def norm_of(M, norm):
    """By definition, with LAPACK's singular values."""
    entries, singular = np.abs(M), np.linalg.svd(M, compute_uv=False)
    formulas = {
        "fro": np.sqrt(np.sum(entries**2)),
        "max": entries.max(),
        "l1": entries.sum(),
        "spec": singular.max(),
        "nuc": singular.sum(),
    }
    if isinstance(norm, str):
        return formulas[norm]
    largest = entries.max() or 1.0
    return largest * np.sum((entries / largest) ** norm) ** (1 / norm)


def dual_of(norm):
    duals = {"fro": "fro", "max": "l1", "l1": "max", "spec": "nuc", "nuc": "spec"}
    return duals[norm] if isinstance(norm, str) else norm / (norm - 1)


@pytest.mark.parametrize("norm", ALL)
@hypothesis.given(G=MATRICES)
def test_direction_attains_the_dual_norm(norm, G):
    """<G, D(G)> = N*(G) with N(D(G)) = 1."""
    geometry = as_geometry("norm", norm)
    D = geometry.direction(G)
    expected = norm_of(G, dual_of(norm))
    assert np.sum(G * D) == pytest.approx(expected, rel=1e-12)
    assert geometry.dual_norm(G) == pytest.approx(expected, rel=1e-12)
    assert geometry.norm(G) == pytest.approx(norm_of(G, norm), rel=1e-12)
    if G.any():
        assert norm_of(D, norm) == pytest.approx(1.0, rel=1e-12)
    else:
        assert not D.any()


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (60, 60), (1, 4)])
def test_spectral_and_nuclear_directions_are_those_of_lapack(shape):
    G = np.random.default_rng(0).standard_normal(shape)
    U, _, Vt = np.linalg.svd(G, full_matrices=False)
    np.testing.assert_allclose(as_geometry("norm", "spec").direction(G), U @ Vt, atol=1e-13)
    top = np.outer(U[:, 0], Vt[0])
    np.testing.assert_allclose(as_geometry("norm", "nuc").direction(G), top, atol=1e-13)


def test_singular_values_below_1e_12_of_the_largest_are_left_out():
    rng = np.random.default_rng(1)
    U, V = (np.linalg.qr(rng.standard_normal((6, 6)))[0] for _ in range(2))
    for small, rank in ((1e-9, 4), (1e-14, 3)):
        G = (U[:, :4] * np.array([1.0, 1.0, 0.5, small])) @ V[:, :4].T
        D = as_geometry("norm", "spec").direction(G)
        assert np.sum(D**2) == pytest.approx(rank, abs=1e-6)  # equal singular values do no harm


def test_newton_schulz_is_muons_iteration():
    for shape in ((4, 7), (7, 4)):
        G = np.random.default_rng(2).standard_normal(shape)
        geometry = as_geometry("norm", "spec")
        geometry.newton_schulz = 5
        X = G / np.linalg.norm(G)
        for _ in range(5):
            A = X @ X.T
            X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
        np.testing.assert_allclose(geometry.direction(G), X, atol=1e-12)
        singular = np.linalg.svd(X, compute_uv=False)
        assert singular.min() > 0.6
        assert singular.max() < 1.3


def test_ties_and_zeros():
    G = np.array([[0.0, -2.0, 1.0], [2.0, 0.0, -2.0]])
    np.testing.assert_array_equal(
        as_geometry("norm", "l1").direction(G), [[0.0, -1.0, 0.0], [0.0, 0.0, 0.0]]
    )
    np.testing.assert_array_equal(as_geometry("norm", "max").direction(G), np.sign(G))
    for norm in ALL:
        assert not as_geometry("norm", norm).direction(np.zeros((2, 3))).any()


def test_the_core_has_the_names():
    assert NORMS == ("fro", "max", "l1", "spec", "nuc")
    assert as_norm("norm", 2) == "fro"
    assert as_norm("norm", 3) == 3.0
    assert [as_geometry("norm", n).by_coordinate for n in (*NORMS, 3.0)] == [
        *(False, True, True),
        *(False, False, True),
    ]
    for norm, error in (
        ("op", ValueError),
        (1, ValueError),
        (np.inf, ValueError),
        (None, TypeError),
    ):
        with pytest.raises(error, match="norm: expected"):
            as_norm("norm", norm)
    with pytest.raises(ValueError, match="matrix: need two axes"):
        _core.Geometry("fro").norm(np.zeros(3))
