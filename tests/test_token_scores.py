"""Token scores γ_it = Y_i v'x_it, and the tokens that have the highest."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm import AttentionData, optimal_tokens, scores
from attsvm.datasets import unit_sphere

SEEDS = st.integers(0, 2**32 - 1)


def ragged(seed: int, dtype: type = np.float64) -> AttentionData:
    """A batch with padding."""
    rng = np.random.default_rng(seed)
    B, n, T, d = rng.integers(1, 5, size=4)
    drawn = unit_sphere(n, T, d, batch=B, rng=rng, dtype=dtype)
    return AttentionData(
        drawn.tokens,
        drawn.labels,
        value=drawn.value,
        lengths=rng.integers(1, T, size=(B, n), endpoint=True),
    )


def test_scores_of_the_published_toy(toys):
    """Its third coordinate is the score: 1 for token 0 of every input, 0.5 for the others."""
    data = AttentionData(toys["multi_input_X"], [1, 1, 1], value=[0, 0, 1])
    np.testing.assert_array_equal(scores(data), np.tile([1] + 6 * [0.5], (3, 1)))
    np.testing.assert_array_equal(optimal_tokens(data), [0, 0, 0], strict=True)


def test_the_global_direction_of_vis1_selects_tokens_0_and_2(toys):
    data = AttentionData(toys["vis1"]["X"], [1, 1], value=toys["vis1"]["v"])
    np.testing.assert_array_equal(optimal_tokens(data), [0, 2])


@given(seed=SEEDS, dtype=st.sampled_from([np.float64, np.float32]))
def test_scores_are_exact_products_up_to_rounding(seed, dtype):
    data = ragged(seed, dtype)
    gamma = scores(data)
    assert gamma.dtype == np.float64
    assert gamma.shape == data.valid.shape
    for b, i, t in np.ndindex(gamma.shape):
        if not data.valid[b, i, t]:
            assert gamma[b, i, t] == -np.inf
            continue
        terms = [
            Fraction(float(v)) * Fraction(float(x))
            for v, x in zip(data.value[b], data.tokens[b, i, t], strict=True)
        ]
        exact = Fraction(float(data.labels[b, i])) * sum(terms)
        size = float(sum(abs(term) for term in terms))
        assert abs(Fraction(float(gamma[b, i, t])) - exact) <= data.d * 2.0**-52 * size


@given(seed=SEEDS)
def test_every_problem_of_a_batch_is_scored_by_itself(seed):
    data = ragged(seed)
    for b, problem in enumerate(data.problems()):
        np.testing.assert_array_equal(scores(problem), scores(data)[b], strict=True)
        np.testing.assert_array_equal(optimal_tokens(problem), optimal_tokens(data)[b], strict=True)


@given(seed=SEEDS)
def test_optimal_tokens_follow_a_permutation_of_the_tokens(seed):
    rng = np.random.default_rng(seed)
    data = unit_sphere(3, 5, 4, rng=rng)
    order = rng.permutation(5)
    moved = AttentionData(data.tokens[:, order], data.labels, value=data.value)
    np.testing.assert_array_equal(scores(moved), scores(data)[:, order])
    np.testing.assert_array_equal(order[optimal_tokens(moved)], optimal_tokens(data))


@given(seed=SEEDS, power=st.integers(-200, 200))
def test_scores_scale_with_the_value_and_optimal_tokens_do_not(seed, power):
    data = ragged(seed)
    scaled = AttentionData(
        data.tokens, data.labels, value=data.value * 2.0**power, lengths=data.lengths
    )
    np.testing.assert_array_equal(scores(scaled), scores(data) * 2.0**power)
    np.testing.assert_array_equal(optimal_tokens(scaled), optimal_tokens(data))


@given(seed=SEEDS)
def test_labels_turn_scores_around(seed):
    data = ragged(seed)
    turned = AttentionData(data.tokens, -data.labels, value=data.value, lengths=data.lengths)
    np.testing.assert_array_equal(scores(turned)[data.valid], -scores(data)[data.valid])


def test_padding_is_never_optimal_and_the_first_of_equals_is():
    data = AttentionData(
        [[[-1.0], [-2.0], [5.0]], [[1.0], [3.0], [3.0]]], [1, 1], value=[1.0], lengths=[2, 3]
    )
    np.testing.assert_array_equal(scores(data), [[-1, -2, -np.inf], [1, 3, 3]])
    np.testing.assert_array_equal(optimal_tokens(data), [0, 1])


def test_scores_need_a_value():
    data = AttentionData(np.ones((1, 2, 3)), [1])
    for function in (scores, optimal_tokens):
        with pytest.raises(ValueError, match=r"^data: expected a value"):
            function(data)


def test_scores_that_overflow_are_refused():
    data = AttentionData([[[1.0, 0.0], [1e200, 0.0]]], [-1], value=[1e200, 0.0])
    with pytest.raises(ValueError, match=r"^data: expected .* finite, got .*inf at \[0, 1\]$"):
        scores(data)
    data = AttentionData([[[1e200, -1e200]]], [1], value=[1e200, 1e200])
    with pytest.raises(
        ValueError, match=r"^data: expected .* finite, got the score .* at \[0, 0\]$"
    ):
        scores(data)
