"""The soft number of tokens that attention spreads over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm import sparsity, train
from attsvm.datasets import unit_sphere


@given(k=st.integers(1, 50), padding=st.integers(0, 5))
def test_equal_weights_count_the_tokens(k, padding):
    weights = np.concatenate([np.full(k, 1 / k), np.zeros(padding)])
    assert sparsity([weights]) == pytest.approx([k], rel=1e-14)


@given(seed=st.integers(0, 2**32 - 1), T=st.integers(1, 20), sharpness=st.floats(0, 300))
def test_it_lies_between_one_and_the_number_of_tokens(seed, T, sharpness):
    logits = sharpness * np.random.default_rng(seed).standard_normal((2, 3, T))
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    count = sparsity(weights)
    assert count.shape == (2, 3)
    assert ((count >= 1) & (count <= T)).all()
    assert count == pytest.approx(1 / np.sum(weights**2, axis=-1), rel=1e-12)


def test_it_falls_from_all_tokens_to_one_along_a_run():
    data = unit_sphere(3, 4, 6, rng=0)
    counts = [sparsity(train(data, steps=steps)) for steps in (0, 500)]
    assert counts[0] == pytest.approx(np.full(3, 4.0))
    assert counts[1] == pytest.approx(np.ones(3), abs=1e-3)


def test_what_is_no_attention_is_refused():
    with pytest.raises(ValueError, match=r"^attention: expected weights that sum to 1, got the su"):
        sparsity([[0.5, 0.1]])
    with pytest.raises(ValueError, match=r"^attention: expected weights of 0 or more"):
        sparsity([[1.5, -0.5]])
