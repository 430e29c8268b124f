"""Whether the first step of descent separates the selected tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm import AttentionData, classify, first_step_separates, optimal_tokens, train
from attsvm.datasets import unit_sphere

SEEDS = st.integers(0, 2**32 - 1)


def step_from_zero(data: AttentionData) -> np.ndarray:
    """-∇L(0) in closed form: weights 1 / T, c_it = -l'(mean γ_i) (γ_it - mean γ_i) / T."""
    gamma = data.labels[:, np.newaxis] * (data.tokens @ data.value)
    mean = gamma.mean(axis=1, keepdims=True)
    pull = (gamma - mean) / (1 + np.exp(mean)) / data.T
    return np.einsum("it,itd,ie->de", pull, data.tokens, data.queries) / data.n


@given(seed=SEEDS)
def test_it_is_what_its_definition_says(seed):
    rng = np.random.default_rng(seed)
    data = unit_sphere(2, 3, 6, batch=5, rng=rng)
    selected = rng.integers(0, 3, size=(5, 2))
    best, other = first_step_separates(data), first_step_separates(data, selected=selected)
    for b, problem in enumerate(data.problems()):
        step = step_from_zero(problem)
        logits = np.einsum("itd,de,ie->it", problem.tokens, step, problem.queries)
        for choice, separates in ((optimal_tokens(problem), best), (selected[b], other)):
            lead = np.take_along_axis(logits, choice[:, np.newaxis], axis=1) - logits
            expected = (lead[np.arange(3) != choice[:, np.newaxis]] > 0).all()
            assert separates[b] == expected
        assert first_step_separates(problem) is bool(best[b])


@pytest.mark.parametrize("parameter", ["W", "p"])
def test_it_says_what_one_step_selects(parameter):
    """After it, the attention of every input is largest at the token that leads."""
    data = unit_sphere(2, 4, 8, batch=200, rng=0)
    run = train(data, parameter=parameter, steps=1)
    selects_best = (run.selected == optimal_tokens(data)).all(axis=-1)
    separates = first_step_separates(data, parameter=parameter)
    np.testing.assert_array_equal(separates, selects_best)
    assert 0 < separates.sum() < 200


def test_after_a_small_first_step_descent_may_still_end_at_other_tokens():
    """The theorem asks for a large first step too."""
    data = unit_sphere(5, 5, 10, batch=3000, rng=1).problem(1768)
    assert first_step_separates(data) is True
    assert [classify(data, train(data, lr=lr)) for lr in (0.1, 10.0)] == ["local", "global"]


def test_padding_needs_no_separation():
    data = AttentionData(
        [[[1.0, 0.0], [0.0, 1.0], [9.0, 0.0]]], [1], value=[1.0, 0.0], lengths=[2], queries=[[1, 1]]
    )
    assert first_step_separates(data) is True
    alone = AttentionData([[[1.0], [2.0]]], [1], value=[1.0], lengths=[1], queries=[[1.0]])
    assert first_step_separates(alone) is True


def test_what_has_no_first_step_is_refused():
    data = unit_sphere(2, 3, 4, rng=0)
    with pytest.raises(ValueError, match=r"^parameter: expected one of 'W', 'p', got 'KQ'"):
        first_step_separates(data, parameter="KQ")
    with pytest.raises(ValueError, match=r"^selected: expected shape \(n,\) = \(2,\)"):
        first_step_separates(data, selected=[0])
    with pytest.raises(ValueError, match=r"^loss: expected one of"):
        first_step_separates(data, loss="hinge")
    with pytest.raises(ValueError, match=r"^data: expected a value"):
        first_step_separates(AttentionData(data.tokens, data.labels, queries=data.queries))
    with pytest.raises(TypeError, match=r"^data: expected AttentionData"):
        first_step_separates("data.npz")
