"""Every choice of tokens of a small problem, and the locally optimal ones among them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from attsvm import (
    AttentionData,
    att_svm,
    is_locally_optimal,
    locally_optimal_choices,
    optimal_tokens,
    prompt_svm,
)
from attsvm.datasets import unit_sphere
from attsvm.theory import every_choice, local_optimality


def ragged(seed: int, d: int = 3) -> AttentionData:
    drawn = unit_sphere(3, 4, d, rng=seed)
    return AttentionData(
        drawn.tokens, drawn.labels, queries=drawn.queries, value=drawn.value, lengths=[2, 4, 3]
    )


@pytest.mark.parametrize(("parameter", "svm"), [("W", att_svm), ("p", prompt_svm)])
@pytest.mark.parametrize("at_once", [1, 100, 2**22])
def test_choices_are_those_solved_one_by_one(parameter, svm, at_once, monkeypatch):
    monkeypatch.setattr(local_optimality, "_NUMBERS_AT_ONCE", at_once)
    data = ragged(0)
    found = every_choice(data, parameter=parameter)
    expected = list(itertools.product(range(2), range(4), range(3)))
    assert found.selected.tolist() == [list(choice) for choice in expected]
    for k, selected in enumerate(expected):
        solution = svm(data, selected)
        assert found.solution.feasible[k] == solution.feasible
        assert found.locally_optimal[k] == is_locally_optimal(data, selected, solution)
        if solution.feasible:
            assert found.solution.norm[k] == pytest.approx(solution.norm, rel=1e-9)
            assert found.solution.margins[k] == pytest.approx(solution.margins, rel=1e-6)
    assert found.solution.feasible.sum() > 0
    np.testing.assert_array_equal(
        locally_optimal_choices(data, parameter=parameter), found.selected[found.locally_optimal]
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_optimal_tokens_are_among_them_where_they_can_be_selected(seed):
    data = ragged(seed, d=6)
    best = optimal_tokens(data).tolist()
    assert att_svm(data, best).feasible
    assert best in locally_optimal_choices(data).tolist()


@pytest.mark.parametrize("norm", ["max", "nuc", 1.5])
def test_choices_in_a_norm_are_those_of_its_svms(norm):
    data = ragged(1)
    found = every_choice(data, norm=norm)
    frobenius = every_choice(data)
    assert np.array_equal(found.solution.feasible, frobenius.solution.feasible)
    for k, selected in enumerate(found.selected):
        assert found.locally_optimal[k] == is_locally_optimal(data, selected, norm=norm)


def test_too_many_choices_are_refused_before_any_work():
    data = unit_sphere(20, 10, 3, rng=0)
    message = rf"^limit: expected at least the number of choices {10**20}, got 10000$"
    with pytest.raises(ValueError, match=message):
        locally_optimal_choices(data)
    with pytest.raises(ValueError, match=r"^limit: expected at least the number of choices 24"):
        every_choice(ragged(0), limit=23)
    assert len(every_choice(ragged(0), limit=24).selected) == 24


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"parameter": "KQ"},
            ValueError,
            r"^parameter: expected one of 'W', 'p', 'diag.*', got 'KQ'",
        ),
        ({"norm": "l3"}, ValueError, r"^norm: expected one of 'fro', .*, got 'l3'"),
        ({"tolerance": 0.0}, ValueError, r"^tolerance: expected a positive number"),
        ({"limit": 0}, ValueError, r"^limit: expected a positive integer"),
        ({"limit": 10.5}, TypeError, r"^limit: expected a positive integer"),
    ],
)
def test_unknown_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        locally_optimal_choices(ragged(0), **options)


def test_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"^data: expected one problem, got a batch of 2$"):
        locally_optimal_choices(unit_sphere(2, 3, 4, batch=2, rng=0))
