"""Norms and their duals: N*(G) = max <G, W> over N(W) <= 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attsvm.svm.norms import NORMS, as_svm_norm

norms = st.one_of(st.sampled_from(sorted(NORMS)), st.floats(1.01, 50))
matrices = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).standard_normal((2, 3, 4)) * [[[1.0]], [[1e-3]]]
)


def attains(norm, G):
    """A W of norm 1 with <G, W> = N*(G)."""
    if norm.name in ("spec", "nuc"):
        U, _, V = np.linalg.svd(G)
        k = 3 if norm.name == "spec" else 1
        return U[:, :k] @ V[:k]
    if norm.name == "l1":
        return np.sign(G) * (np.abs(G) == np.abs(G).max())
    q = {"fro": 2.0, "max": 1.0}.get(norm.name) or norm.dual
    W = np.sign(G) * (np.abs(G) / np.abs(G).max()) ** (q - 1)
    return W / norm.values(W)


@settings(max_examples=60, deadline=None)
@given(norms, matrices)
def test_dual_norm_is_the_largest_inner_product(name, G):
    norm = as_svm_norm("norm", name)
    dual = as_svm_norm("norm", norm.dual)
    for one, size in zip(G, dual.values(G), strict=True):
        W = attains(norm, one)
        assert norm.values(W) == pytest.approx(1, rel=1e-12)
        assert np.sum(one * W) == pytest.approx(size, rel=1e-12)
    first, second = G
    assert np.sum(first * second) <= norm.values(first) * dual.values(second) * (1 + 1e-12)


@settings(max_examples=30, deadline=None)
@given(norms, matrices, st.floats(-100, 100))
def test_norms_are_norms(name, W, c):
    norm = as_svm_norm("norm", name)
    first, second = W
    assert norm.values(c * first) == pytest.approx(abs(c) * norm.values(first), rel=1e-12)
    assert norm.values(first + second) <= (norm.values(first) + norm.values(second)) * (1 + 1e-12)
    assert norm.values(np.zeros((3, 4))) == 0


def test_the_dual_of_the_dual_is_the_norm():
    for norm in NORMS.values():
        assert as_svm_norm("norm", as_svm_norm("norm", norm.dual).dual) is norm
    assert as_svm_norm("norm", 2) is NORMS["fro"]
    assert as_svm_norm("norm", as_svm_norm("norm", 3).dual).dual == pytest.approx(3)
