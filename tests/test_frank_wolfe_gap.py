"""The Frank-Wolfe gap: the largest decrease along the gradient within the ball, 0 at its minima."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import attsvm
from attsvm.functional import loss_and_grad
from attsvm.theory import frank_wolfe_gap

ANGLES = np.linspace(0, 2 * np.pi, 2001)
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=-1)


def signed_rotations():
    rotations = np.stack([CIRCLE, CIRCLE[:, ::-1] * [-1, 1]], axis=-1)
    return np.concatenate([rotations, rotations * [1, -1]])


def rank_one(step=10):
    few = CIRCLE[::step]
    return np.einsum("ai,bj->abij", few, few).reshape(-1, 2, 2)


# Extreme points of the unit ball of matrices (2, 2), or a fine grid of them.
EXTREME_POINTS = {
    "max": np.reshape(list(itertools.product([-1, 1], repeat=4)), (16, 2, 2)),
    "l1": np.concatenate([np.eye(4), -np.eye(4)]).reshape(8, 2, 2),
    "spec": signed_rotations(),
    "nuc": rank_one(),
}


@pytest.fixture(scope="module")
def small():
    data = attsvm.datasets.unit_sphere(3, 4, 2, rng=0)
    return data, 0.1 * np.random.default_rng(1).standard_normal((2, 2))


def numerical_gradient(data, W, loss, h=1e-6):
    def at(V):
        return float(loss_and_grad(data, {"W": V}, loss=loss)[0])

    units = np.eye(4).reshape(4, 2, 2)
    return np.reshape([(at(W + h * E) - at(W - h * E)) / (2 * h) for E in units], (2, 2))


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
@pytest.mark.parametrize("norm", EXTREME_POINTS)
def test_it_is_the_largest_decrease_within_the_ball(small, norm, loss):
    data, W = small
    decay = 0.7
    G = numerical_gradient(data, W, loss)
    largest = np.sum(G * (W - EXTREME_POINTS[norm] / decay), axis=(1, 2)).max()
    gap = frank_wolfe_gap(data, W, decay, norm, loss=loss)
    assert gap == pytest.approx(largest, rel=1e-3 if norm == "nuc" else 1e-5)
    relative = frank_wolfe_gap(data, W, decay, norm, loss=loss, relative=True)
    dual = np.sum(G * EXTREME_POINTS[norm], axis=(1, 2)).max()
    assert relative == pytest.approx(gap * decay / dual, rel=1e-3 if norm == "nuc" else 1e-5)


@pytest.mark.parametrize("norm", ["fro", 3.0])
def test_it_is_that_of_the_steepest_direction(small, norm):
    data, W = small
    G = loss_and_grad(data, {"W": W})[1]["W"]
    q = 2.0 if norm == "fro" else norm / (norm - 1)
    V = -np.sign(G) * np.abs(G) ** (q - 1) / np.sum(np.abs(G) ** q) ** (1 - 1 / q)
    assert frank_wolfe_gap(data, W, 0.5, norm) == pytest.approx(np.sum(G * (W - V / 0.5)), 1e-12)


def test_zero_has_the_dual_norm_over_the_decay_and_a_point_outside_may_be_negative(small):
    data, _ = small
    zero = np.zeros((2, 2))
    G = loss_and_grad(data, {"W": zero})[1]["W"]
    assert frank_wolfe_gap(data, zero, 0.5, "max") == pytest.approx(2 * np.abs(G).sum(), 1e-14)
    assert frank_wolfe_gap(data, zero, 0.5, "max", relative=True) == 1
    assert frank_wolfe_gap(data, -10 * G, 1e3) < 0


@pytest.mark.parametrize("norm", ["fro", "max", "spec"])
def test_it_bounds_what_a_convex_loss_can_still_lose(norm):
    """-log of the attention on the one token of score 1 is convex in W."""
    rng = np.random.default_rng(2)
    tokens = rng.standard_normal((5, 4, 3))
    tokens[..., 0] = [1, 0, 0, 0]
    data = attsvm.AttentionData(
        tokens, np.ones(5), queries=rng.standard_normal((5, 3)), value=[1.0, 0, 0]
    )
    rule = attsvm.StepRule("ngd", norm=norm, weight_decay=1.0, decay=0.5)
    least = attsvm.train(data, rule=rule, lr=1.0, loss="log", steps=3000).history["loss"][-1]
    for _ in range(20):
        W = rng.standard_normal((3, 3))
        W /= {"fro": np.linalg.norm(W), "max": np.abs(W).max(), "spec": np.linalg.norm(W, 2)}[norm]
        excess = float(loss_and_grad(data, {"W": W}, loss="log")[0]) - least
        assert 0 < excess < frank_wolfe_gap(data, W, 1.0, norm, loss="log")


@pytest.mark.parametrize(
    ("parameter", "rule", "norm", "decay", "lr", "bound"),
    [
        ("W", "ngd", "fro", 0.3, 1.0, 1e-14),
        ("p", "ngd", "fro", 0.3, 1.0, 1e-14),
        ("W", "spectral", "spec", 1.0, 1.0, 1e-14),
        ("W", "spectral", "spec", 0.3, 3.0, 1e-14),
        ("W", "sign", "max", 1.0, 0.3, 1e-4),
        ("p", "sign", "max", 1.0, 0.3, 1e-4),
        ("W", "sign", "max", 0.3, 0.3, 5e-4),
    ],
)
def test_decoupled_weight_decay_ends_where_it_is_zero(parameter, rule, norm, decay, lr, bound):
    """Some entries are within the ball, where signs oscillate: the gap falls with the rate."""
    data = attsvm.datasets.unit_sphere(6, 8, 10, batch=3, rng=0)
    settings = attsvm.StepRule(rule, weight_decay=decay, decay=0.5)
    steps = 2_000 if rule == "spectral" else 20_000
    run = attsvm.train(
        data, parameter=parameter, rule=settings, lr=lr, steps=steps, record_every=steps
    )
    gap = frank_wolfe_gap(data, run, decay, norm, relative=True)
    assert (np.abs(gap) < bound).all()
    others = {"fro": "max", "max": "spec", "spec": "fro"}[norm]
    assert (np.abs(frank_wolfe_gap(data, run, decay, others, relative=True)) > 0.01).all()


def test_a_trained_head_counts_and_a_zero_gradient_has_no_gap():
    data = attsvm.datasets.unit_sphere(3, 4, 5, rng=0)
    run = attsvm.train(data, parameter=("W", "v"), steps=50)
    gradients = loss_and_grad(data, {"W": run.W, "v": run.v})[1]
    expected = np.sum(gradients["W"] * run.W) + 2 * np.linalg.norm(gradients["W"])
    assert frank_wolfe_gap(data, run, 0.5) == pytest.approx(expected, rel=1e-12)
    single = attsvm.AttentionData([[[1.0, 2.0]]], [1], queries=[[1.0, 0.0]], value=[1.0, 0.0])
    assert frank_wolfe_gap(single, np.eye(2), 1.0, "spec") == 0
    assert frank_wolfe_gap(single, np.eye(2), 1.0, "spec", relative=True) == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"weight_decay": 0.0}, "weight_decay: expected"),
        ({"norm": "l3"}, "norm: expected"),
        ({"loss": "hinge"}, "loss: expected"),
        ({"W": np.eye(3)}, "W: expected"),
    ],
)
def test_bad_arguments_are_named(small, change, text):
    data, W = small
    with pytest.raises(ValueError, match=text):
        frank_wolfe_gap(data, **({"W": W, "weight_decay": 1.0} | change))


@pytest.mark.parametrize("parameter", ["Wp", "v+Wp"])
def test_the_gap_of_a_run_of_a_fixed_prompt_is_that_of_its_own_logits(parameter):
    data = attsvm.datasets.unit_sphere(3, 4, 5, rng=0)
    prompt = np.random.default_rng(1).standard_normal(5)
    rule = attsvm.StepRule("sign", weight_decay=0.5, decay=0.5)
    run = attsvm.train(data, parameter=parameter, prompt=prompt, rule=rule, steps=50)
    value = data.value if run.v is None else run.v
    same = attsvm.AttentionData(
        data.tokens, data.labels, queries=np.tile(prompt, (3, 1)), value=value
    )
    expected = frank_wolfe_gap(same, run.W, 0.5, "max")
    assert frank_wolfe_gap(data, run, 0.5, "max") == pytest.approx(expected, rel=1e-12)
