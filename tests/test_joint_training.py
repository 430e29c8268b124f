"""Attention and its linear head trained together; logits X W p with p fixed; the ridge."""

from __future__ import annotations

import mpmath
import numpy as np
import plain_loss
import pytest
from plain_attention import exact
from random_problems import random_problem

import attsvm
from attsvm import AttentionData
from attsvm.functional import loss_and_grad

LOSSES = ("logistic", "exponential", "correlation")


def toy(third):
    """P1's toy: token 0 is zero, and the last input is a support vector if `third` has 1 below."""
    tokens = [[[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, -1.0]], [[0.0, 0.0], third]]
    return AttentionData(tokens, [1, -1, 1])


TIGHT, LOOSE = [0.5, 1.0], [0.5, 1.5]
START = {"p": [0.0, -1.0], "v": [-1.0, 0.0]}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "blocks", [("p", "v"), ("W", "v"), ("K", "Q", "v"), ("W", "p"), ("W", "p", "v")]
)
def test_gradients_of_all_blocks_are_the_textbooks(loss, blocks):
    data = random_problem(1)
    if "v" not in blocks:
        data = AttentionData(data.tokens, data.labels, lengths=data.lengths, value=[0.3, -1.0, 0.5])
    rng = np.random.default_rng(2)
    shapes = {"p": (3,), "v": (3,), "W": (3, 3), "K": (3, 2), "Q": (3, 2)}
    at = {block: rng.standard_normal(shapes[block]) for block in blocks}
    value, gradients = loss_and_grad(data, at, loss=loss)
    assert set(gradients) == set(blocks)
    with mpmath.workdps(plain_loss.DIGITS):
        parameters = {block: exact(array) for block, array in at.items()}
        assert float(value) == pytest.approx(
            float(plain_loss.loss(data, parameters, None, loss)), rel=1e-14
        )
        for block, gradient in gradients.items():
            truth = plain_loss.rounded(plain_loss.gradient(data, parameters, block, None, loss))
            assert np.linalg.norm(gradient - truth) < 1e-13 * np.linalg.norm(truth)


@pytest.mark.parametrize("third", [TIGHT, LOOSE])
def test_the_path_is_that_of_exact_arithmetic(third):
    data = toy(third)
    run = attsvm.train(data, parameter=("v", "p"), init=START, steps=120)
    with mpmath.workdps(plain_loss.DIGITS):
        start = {name: exact(np.array(value)) for name, value in START.items()}
        truth = plain_loss.normalised_descent(data, start, 0.1, 120, ("p", "v"))
        truth = {name: plain_loss.rounded(value) for name, value in truth.items()}
    assert np.linalg.norm(run.p - truth["p"]) < 1e-13 * np.linalg.norm(truth["p"])
    assert np.linalg.norm(run.v - truth["v"]) < 1e-13 * np.linalg.norm(truth["v"])


def test_a_pair_is_also_written_in_one_word():
    for spelling in ("v+p", "p+v", ["p", "v"]):
        run = attsvm.train(toy(TIGHT), parameter=spelling, init=START, steps=5)
        assert run.parameter == ("v", "p")
    path = attsvm.regularization_path(toy(TIGHT), [[1.0, 1.0]], parameter="v+p")
    assert path.parameter == "v+p"
    assert path.converged.all()
    for wrong in ("v+Q", "v+", "v+W+K", "v+v+W", "W+W", "+"):
        with pytest.raises(ValueError, match="parameter: expected one of"):
            attsvm.train(toy(TIGHT), parameter=wrong)


def test_e6_joint_training_where_every_input_is_a_support_vector():
    data = toy(TIGHT)
    prompt, label = attsvm.prompt_svm(data, [1, 1, 1]), attsvm.label_svm(data, [1, 1, 1])
    assert prompt.p == pytest.approx([4 / 3, 1 / 3], abs=1e-9)
    assert label.v == pytest.approx([0, 1], abs=1e-9)
    marks = [0, 7, 10, 20, 30, 50, 90, 199]
    run = attsvm.train(
        data,
        parameter=("v", "p"),
        init=START,
        steps=199,
        record_every=marks,
        reference={"p": prompt, "v": label},
    )
    np.testing.assert_allclose(run.history["cosine:p"][-3:], [0.99875, 0.99932, 0.99984], atol=1e-4)
    np.testing.assert_allclose(run.history["cosine:v"][-3:], [0.99994, 0.99974, 0.99993], atol=1e-4)
    softmax, logistic = [], []
    for step in marks[:-1]:
        at = attsvm.train(data, parameter=("v", "p"), init=START, steps=step)
        softmax.append(at.attention[:, 1].mean())
        margins = data.labels * (at.attention[:, 1, np.newaxis] * data.tokens[:, 1] @ at.v)
        logistic.append((1 / (1 + np.exp(-margins))).mean())
    np.testing.assert_allclose(
        softmax, [0.4230, 0.3816, 0.389, 0.5255, 0.7186, 0.9316, 0.9963], atol=5e-3
    )
    np.testing.assert_allclose(
        logistic, [0.5249, 0.6022, 0.6254, 0.7124, 0.8686, 0.9885, 0.9998], atol=5e-3
    )


def test_e7_joint_training_goes_to_the_relaxed_machine():
    data = toy(LOOSE)
    label = attsvm.label_svm(data, [1, 1, 1])
    assert label.margins == pytest.approx([1, 1, 1.5], abs=1e-9)
    relaxed = attsvm.prompt_svm(data, [1, 1, 1], required=label.support)
    whole = attsvm.prompt_svm(data, [1, 1, 1])
    assert relaxed.p == pytest.approx([1, 0], abs=1e-9)
    assert whole.p == pytest.approx([1.25, 0.25], abs=1e-9)
    run = attsvm.train(
        data,
        parameter=("v", "p"),
        init=START,
        steps=199,
        reference={"relaxed": relaxed, "whole": whole, "v:label": label},
    )
    assert run.history["cosine:relaxed"][-1] == pytest.approx(0.99984, abs=2e-3)
    assert run.history["cosine:whole"][-1] == pytest.approx(0.98396, abs=2e-3)
    assert run.history["cosine:relaxed"][-1] > run.history["cosine:whole"][-1]
    assert run.history["cosine:v:label"][-1] > 0.999


def test_a_long_run_keeps_its_direction_after_every_slope_has_underflown():
    """20,000 steps: |v| is 2,000, and exp(-margin) is far below the smallest float64."""
    data = toy(TIGHT)
    label = attsvm.label_svm(data, [1, 1, 1])
    run = attsvm.train(data, parameter=("v", "p"), init=START, steps=20000, reference={"v": label})
    assert run.history["loss"][-1] == 0.0
    assert run.history["norm:v"][-1] > 1900
    assert run.history["cosine_gap:v"][-1] < 1e-6
    assert np.isfinite(run.history["log_grad_norm"]).all()


def test_polyak_steps_reduce_the_loss_of_both_blocks():
    data = toy(TIGHT)
    run = attsvm.train(data, parameter=("p", "v"), init=START, steps=40, rule="polyak")
    at = {"p": np.array(START["p"]), "v": np.array(START["v"])}
    for _ in range(40):
        loss, slopes = loss_and_grad(data, at)
        square = sum(np.sum(slope**2) for slope in slopes.values())
        at = {name: at[name] - loss / (2 * square) * slopes[name] for name in at}
    assert run.p == pytest.approx(at["p"], rel=1e-9)
    assert run.v == pytest.approx(at["v"], rel=1e-9)


@pytest.mark.parametrize("attention", ["p", "W", "KQ", "Wp"])
def test_a_batch_is_trained_as_its_problems_are(attention):
    B = 19
    data = random_problem(3, n=4, T=5, d=6, batch=(B,))
    rng = np.random.default_rng(4)
    shapes = {"p": (6,), "W": (6, 6), "K": (6, 3), "Q": (6, 3), "v": (6,)}
    names = {"p": ("p",), "W": ("W",), "KQ": ("K", "Q"), "Wp": ("W",)}[attention]
    init = {name: rng.standard_normal((B, *shapes[name])) for name in (*names, "v")}
    prompt = rng.standard_normal((B, 6)) if attention == "Wp" else None
    lr = dict.fromkeys(names, 0.02) | {"v": 0.05}
    settings = {"parameter": ("v", attention), "steps": 50, "lr": lr}
    together = attsvm.train(data, init=init, prompt=prompt, **settings)
    assert together.lr == lr
    for b in (0, 8, 17, 18):
        alone = attsvm.train(
            data.problem(b),
            init={name: start[b] for name, start in init.items()},
            prompt=None if prompt is None else prompt[b],
            **settings,
        )
        np.testing.assert_allclose(together.v[b], alone.v, rtol=0, atol=1e-10)
        np.testing.assert_allclose(together.direction[b], alone.direction, rtol=0, atol=1e-10)
        for key in ("loss", "norm", "norm:v", "log_grad_norm", "loss_gap"):
            np.testing.assert_allclose(together.history[key][b], alone.history[key], rtol=1e-9)


def test_v_starts_at_the_value_of_the_data_or_at_zero():
    data = random_problem(5)
    assert not attsvm.train(data, parameter=("v", "p"), steps=0).v.any()
    headed = AttentionData(data.tokens, data.labels, value=[1.0, 2.0, 3.0])
    assert attsvm.train(headed, parameter=("v", "p"), steps=0).v.tolist() == [1.0, 2.0, 3.0]
    assert attsvm.train(headed, parameter="p", steps=0).v is None


def test_w_with_a_fixed_prompt_follows_p():
    """P1's equivalence: W(t) = p(t) u' / |u|^2 when the step on W is eta / |u|^2."""
    data = random_problem(6, n=5, T=6, d=7)
    data = AttentionData(data.tokens, data.labels, value=np.linspace(-1, 1, 7))
    rng = np.random.default_rng(7)
    u, start = rng.standard_normal((2, 7))
    p = attsvm.train(data, parameter="p", rule="gd", lr=0.05, steps=1000, init=start).p
    run = attsvm.train(
        data,
        parameter="Wp",
        prompt=u,
        rule="gd",
        lr=0.05 / (u @ u),
        steps=1000,
        init=np.outer(start, u) / (u @ u),
    )
    assert np.abs(run.W - np.outer(p, u) / (u @ u)).max() < 1e-12 * np.abs(p).max()


def test_a_ridge_shrinks_every_block_but_the_head():
    """One plain step, by hand."""
    data = random_problem(8)
    rng = np.random.default_rng(9)
    at = {name: rng.standard_normal((3, 3)) for name in "KQ"} | {"v": rng.standard_normal(3)}
    _, slopes = loss_and_grad(data, at)
    run = attsvm.train(data, parameter=("v", "KQ"), rule="gd", lr=0.1, steps=1, init=at, ridge=0.25)
    for name, got in (("K", run.K), ("Q", run.Q), ("v", run.v)):
        pull = 0.5 * at[name] if name != "v" else 0.0
        np.testing.assert_allclose(got, at[name] - 0.1 * (slopes[name] + pull), rtol=1e-14)


def test_a_ridge_of_machine_precision_stalls_the_factors(toys):
    """E10: the published code's ridge stops |K Q'| of vis1 at 301.5."""
    vis1 = toys["vis1"]
    data = AttentionData(vis1["X"], [1, 1], queries=vis1["Z"], value=vis1["v"])
    init = {"K": 0.1 * np.random.default_rng(1).standard_normal((2, 2)), "Q": np.zeros((2, 2))}
    settings = {"parameter": "KQ", "steps": 4000, "init": init}
    free = attsvm.train(data, **settings)
    held = attsvm.train(data, ridge=np.finfo(float).eps, **settings)
    assert held.history["norm"][-1] == pytest.approx(301.5, rel=0.02)
    assert free.history["norm"][-1] > 1.5 * held.history["norm"][-1]


def test_a_ridge_shrinks_what_lies_outside_the_spans_too():
    data = AttentionData([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]], [1], value=[1.0, 0.0, 0.0])
    run = attsvm.train(
        data, parameter="p", rule="gd", lr=0.5, steps=3, init=[0.0, 0.0, 1.0], ridge=0.1
    )
    assert run.p[2] == pytest.approx(0.9**3, rel=1e-14)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"parameter": ("v",)}, ValueError, "parameter: expected one of"),
        ({"parameter": ("v", "v")}, ValueError, "parameter: expected one of"),
        ({"parameter": ("v", "x")}, ValueError, "parameter: expected one of"),
        ({"parameter": ("v", "Wp")}, ValueError, "prompt: needed to train W"),
        ({"parameter": "p", "prompt": [1.0, 0.0]}, ValueError, "prompt: expected None"),
        ({"parameter": "Wp", "prompt": [0.0, 0.0]}, ValueError, "prompt: expected a direction"),
        ({"parameter": "Wp", "prompt": [1.0]}, ValueError, r"prompt: expected shape \(d,\)"),
        ({"parameter": ("v", "p"), "init": {"v": [1.0]}}, ValueError, r"init\['v'\]: expected sh"),
        ({"parameter": ("v", "p"), "init": {"q": [1.0]}}, ValueError, "init: expected the key 'p'"),
        ({"parameter": ("v", "p"), "lr": {"p": 0.1}}, ValueError, "lr: expected the keys 'p' and"),
        ({"parameter": "p", "ridge": -1.0}, ValueError, "ridge: expected a number >= 0"),
        ({"parameter": "p", "ridge": 0.1, "rule": "polyak"}, ValueError, "rule: expected 'gd'"),
        (
            {"parameter": ("v", "p"), "reference": {"v": [0.0, 0.0]}},
            ValueError,
            r"reference\['v'\]: expected a direction",
        ),
        (
            {"parameter": ("v", "p"), "rule": "polyak", "loss": "correlation"},
            ValueError,
            "rule: expected 'gd'",
        ),
    ],
)
def test_joint_training_refuses_what_it_cannot_use(changes, error, message):
    data = AttentionData(toy(TIGHT).tokens, [1, -1, 1], value=[1.0, 0.0])
    with pytest.raises(error, match=message):
        attsvm.train(data, steps=1, **changes)
