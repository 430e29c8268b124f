"""Norms and their duals: N*(G) = max <G, W> over N(W) <= 1."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attsvm.svm.norms import NORMS, as_svm_norm

norms = st.one_of(st.sampled_from(sorted(NORMS)), st.floats(1.01, 50))
matrices = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).standard_normal((2, 3, 4)) * [[[1.0]], [[1e-3]]]
)


def attains(name, norm, G):
    """A W of norm 1 with <G, W> = N*(G)."""
    if norm.name in ("spec", "nuc"):
        U, _, V = np.linalg.svd(G)
        k = 3 if norm.name == "spec" else 1
        return U[:, :k] @ V[:k]
    if norm.name == "l1":
        return np.sign(G) * (np.abs(G) == np.abs(G).max())
    if norm.name == "cut":
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
        s = signs[np.abs(signs @ G).sum(axis=1).argmax()]
        return np.outer(s, np.sign(s @ G))
    p = {"fro": 2.0, "max": np.inf}.get(norm.name, name)
    q = 1 / (1 - 1 / p)
    W = np.sign(G) * (np.abs(G) / np.abs(G).max()) ** (q - 1)
    return W / norm.values(W)


def test_norms_that_nearly_agree_have_names_of_their_own():
    name, text = "l1.0000001", "l_1.0000001"
    assert [(as_svm_norm("norm", p).name, as_svm_norm("norm", p).text) for p in (3, 1.0000001)] == [
        *[("l3", "l_3"), (name, text)]
    ]


@settings(max_examples=60, deadline=None)
@given(norms, matrices)
def test_dual_norm_is_the_largest_inner_product(name, G):
    norm = as_svm_norm("norm", name)
    for one, size in zip(G, norm.dual_values(G), strict=True):
        W = attains(name, norm, one)
        assert norm.values(W) == pytest.approx(1, rel=1e-12)
        assert np.sum(one * W) == pytest.approx(size, rel=1e-12)
    first, second = G
    assert np.sum(first * second) <= norm.values(first) * norm.dual_values(second) * (1 + 1e-12)


@settings(max_examples=30, deadline=None)
@given(norms, matrices, st.floats(-100, 100))
def test_norms_are_norms(name, W, c):
    norm = as_svm_norm("norm", name)
    first, second = W
    assert norm.values(c * first) == pytest.approx(abs(c) * norm.values(first), rel=1e-12)
    assert norm.values(first + second) <= (norm.values(first) + norm.values(second)) * (1 + 1e-12)
    assert norm.values(np.zeros((3, 4))) == 0


def test_numbers_are_norms_of_entries():
    assert as_svm_norm("norm", 2) is NORMS["fro"]
    W = np.array([[3.0, -4.0], [0.0, 1.0]])
    assert as_svm_norm("norm", 3).values(W) == pytest.approx(92 ** (1 / 3))
    assert as_svm_norm("norm", 3).dual_values(W) == pytest.approx(
        as_svm_norm("norm", 1.5).values(W), rel=1e-14
    )
