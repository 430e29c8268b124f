"""The margin ratio: 1 at solutions, invariant, and bounded from below without an SVM."""

from __future__ import annotations

import numpy as np
import pytest

import attsvm
from attsvm import (
    AttentionData,
    att_svm,
    certified_margin_ratio,
    margin_ratio,
    margin_ratios,
    prompt_svm,
)

NORMS = ("fro", "max", "l1", "spec", "nuc", "cut", 1.5, 4.0)


@pytest.fixture(scope="module")
def problems():
    data = attsvm.datasets.unit_sphere(3, 4, 5, batch=3, rng=0)
    return data, attsvm.optimal_tokens(data)


@pytest.mark.parametrize("norm", NORMS)
def test_solutions_have_ratio_one_and_others_less(problems, norm):
    data, selected = problems
    solution = att_svm(data, selected, norm=norm)
    ratio = margin_ratio(data, solution, selected, norm)
    assert ratio == pytest.approx(np.ones(3), abs=1e-9)
    assert margin_ratio(data, 7 * solution.W, selected, norm) == pytest.approx(ratio, abs=1e-12)
    others = np.random.default_rng(0).standard_normal(solution.W.shape)
    assert (margin_ratio(data, others, selected, norm, solution=solution) < 1).all()
    one = list(data.problems())[1]
    assert margin_ratio(one, solution.W[1], selected[1], norm) == pytest.approx(ratio[1], abs=1e-12)


def test_ratio_of_prompts():
    data = AttentionData(np.random.default_rng(1).standard_normal((2, 3, 6)), [1, 1])
    solution = prompt_svm(data, [0, 2], norm="max")
    assert margin_ratio(data, solution, [0, 2], "max") == pytest.approx(1, abs=1e-12)
    assert margin_ratio(data, solution, [0, 2], "l1") < 1


def test_infeasible_choices_have_no_ratio_and_nothing_to_separate_no_bound():
    tokens = [[[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]]
    data = AttentionData(tokens, [1], queries=[[1.0, -1.0]])
    assert np.isnan(margin_ratio(data, np.eye(2), [1], "max"))
    single = AttentionData([[[1.0, 2.0]]], [1], queries=[[1.0, 0.0]])
    assert margin_ratio(single, np.eye(2), [0], "l1") == -np.inf
    assert certified_margin_ratio(single, np.eye(2), [0], "l1", dual=[[1.0]]) == -np.inf


@pytest.mark.parametrize("norm", NORMS)
def test_multipliers_of_the_svm_certify_the_ratio_itself(problems, norm):
    data, selected = problems
    solution = att_svm(data, selected, norm=norm)
    W = solution.W + 0.01 * np.random.default_rng(2).standard_normal(solution.W.shape)
    ratio = margin_ratio(data, W, selected, norm, solution=solution)
    bound = certified_margin_ratio(data, W, selected, norm, dual=solution)
    assert (ratio > 0.5).all()
    assert bound == pytest.approx(ratio, abs=1e-8)


@pytest.mark.parametrize("norm", NORMS)
def test_a_run_certifies_itself_in_any_norm(problems, norm):
    """The bound is below the ratio; in the norm of gradient descent it is close."""
    data, _ = problems
    run = attsvm.train(data, steps=2000, lr=0.1)
    ratio = margin_ratio(data, run, run.selected, norm)
    bound = certified_margin_ratio(data, run, run.selected, norm)
    assert (bound <= ratio + 1e-12).all()
    if norm == "fro":
        assert (bound > 0.9 * ratio).all()
    else:
        assert (bound > 0).all()


def test_what_is_not_a_certificate_or_a_direction_is_refused(problems):
    data, selected = problems
    W = np.ones((3, 5, 5))
    with pytest.raises(ValueError, match="dual: expected multipliers where W is not a run"):
        certified_margin_ratio(data, W, selected)
    with pytest.raises(ValueError, match="dual"):
        certified_margin_ratio(data, W, selected, dual=-np.ones((3, 3, 4)))
    with pytest.raises(ValueError, match="W: expected"):
        margin_ratio(data, 0 * W, selected)
    with pytest.raises(ValueError, match="solution: expected the SVM of `selected`"):
        margin_ratio(data, W, selected, solution=att_svm(data, (selected + 1) % 4))
    with pytest.raises(ValueError, match="norm: expected"):
        margin_ratio(data, W, selected, "l3")


def test_a_solution_of_another_norm_or_of_other_data_is_refused(problems):
    """The largest margin of another norm, or of other tokens, makes ratios beyond 1."""
    data, selected = problems
    W, solution = np.ones((3, 5, 5)), att_svm(data, selected)
    for norm in ("max", 3.0):
        with pytest.raises(ValueError, match=f"^solution: expected that in the norm {norm!r}, got"):
            margin_ratio(data, W, selected, norm, solution=solution)
    with pytest.raises(ValueError, match=r"^solution: expected that in the norm 'nuc', got one in"):
        attsvm.nuclear_suboptimality(W, data, selected, solution)
    others = attsvm.datasets.unit_sphere(data.n, data.T, data.d, batch=3, rng=9)
    with pytest.raises(ValueError, match=r"^solution: expected that of `data`, got one with other"):
        margin_ratio(data, W, selected, solution=att_svm(others, selected))
    with pytest.raises(ValueError, match=r"^solution: expected W, got p$"):
        margin_ratio(data, W, selected, solution=prompt_svm(data, selected))


@pytest.mark.parametrize("parameter", ["W", "p", "KQ"])
@pytest.mark.parametrize("batch", [None, 3])
def test_ratios_along_a_run_are_those_of_its_iterates(parameter, batch):
    data = attsvm.datasets.unit_sphere(3, 4, 5, batch=batch, rng=0)
    name = "p" if parameter == "p" else "W"
    run = attsvm.train(data, parameter=parameter, steps=400, record_every=200, record=name, rng=0)
    found = margin_ratios(data, run, ("fro", "max", 3.0))
    assert list(found) == ["fro", "max", 3.0]
    iterates = np.moveaxis(run.history[name], run.selected.ndim - 1, 0)
    for norm, ratios in found.items():
        assert ratios.shape == run.history["norm"].shape
        for r, iterate in enumerate(iterates):
            if not iterate.any():
                assert (ratios[..., r] == 0).all()
                continue
            expected = margin_ratio(data, iterate, run.selected, norm)
            np.testing.assert_array_equal(ratios[..., r], expected)
    others = margin_ratios(data, run, "fro", selected=(run.selected + 1) % 4)
    assert not np.array_equal(others["fro"], found["fro"])


def test_ratios_along_a_run_say_where_there_are_none():
    tokens = [[[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]]
    data = AttentionData(tokens, [1], queries=[[1.0, -1.0]], value=[1.0, 0.0])
    run = attsvm.train(data, steps=2, record="W")
    assert np.isnan(margin_ratios(data, run, "max", selected=[1])["max"]).all()
    single = AttentionData([[[1.0, 2.0]]], [1], queries=[[1.0, 0.0]], value=[1.0, 0.0])
    run = attsvm.train(single, steps=2, record="W", init=np.eye(2))
    assert (margin_ratios(single, run, "l1")["l1"] == -np.inf).all()


def test_ratios_along_a_run_need_its_iterates(problems):
    data, _ = problems
    run = attsvm.train(data, steps=2)
    with pytest.raises(ValueError, match=r"run: expected one of train\(record='W'\)"):
        margin_ratios(data, run)
    with pytest.raises(TypeError, match="run: expected Run, got"):
        margin_ratios(data, np.ones((3, 5, 5)))
    run = attsvm.train(data, steps=2, record="W")
    with pytest.raises(ValueError, match="norms: expected"):
        margin_ratios(data, run, ("fro", "l3"))
    with pytest.raises(ValueError, match="selected: expected"):
        margin_ratios(next(iter(data.problems())), run)


@pytest.mark.parametrize("batch", [None, 3])
def test_a_run_of_a_fixed_prompt_is_measured_by_its_own_logits(batch):
    """X W p is X u with u = W p; the queries of the data are no part of it."""
    data = attsvm.datasets.unit_sphere(3, 4, 5, batch=batch, rng=0)
    prompt = np.random.default_rng(1).standard_normal((*data.labels.shape[:-1], 5))
    settings = {"parameter": "Wp", "prompt": prompt, "rule": "sign", "certify": "max"}
    run = attsvm.train(data, steps=300, record="W", record_every=100, **settings)
    u = (run.W @ prompt[..., np.newaxis])[..., 0]
    ratio = margin_ratio(data, run, run.selected, "max")
    np.testing.assert_allclose(ratio, margin_ratio(data, u, run.selected, "max"), rtol=1e-12)
    along = margin_ratios(data, run, "max")["max"]
    np.testing.assert_allclose(along[..., -1], ratio, rtol=1e-12)
    bound = certified_margin_ratio(data, run, run.selected, "max")
    assert np.all(bound <= ratio + 1e-12)
    np.testing.assert_allclose(bound, run.history["certified_margin_ratio:max"][..., -1], rtol=0.1)
