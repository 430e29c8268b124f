"""Runs that certify themselves: a lower bound on their cosine with an SVM that is never solved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attsvm
from attsvm import AttentionData
from attsvm.heads import ReLU

MARKS = [0, 100, 500, 1000, 2000, 5000, 20000]


def true_cosines(data, selected, run):
    """Cosine of the final W or p with the SVM of the tokens on top, by solving it."""
    solve = attsvm.prompt_svm if run.attention_parameter == "p" else attsvm.att_svm
    solution = solve(data, selected)
    return attsvm.cosine(run.direction, solution.p if solution.W is None else solution.W)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 5),
    T=st.integers(2, 6),
    d=st.integers(2, 12),
    steps=st.integers(0, 3000),
    parameter=st.sampled_from(["W", "p", "KQ"]),
)
def test_the_bound_never_exceeds_the_cosine(seed, n, T, d, steps, parameter):
    rng = np.random.default_rng(seed)
    data = AttentionData(
        rng.standard_normal((n, T, d)),
        rng.choice([-1.0, 1.0], n),
        queries=rng.standard_normal((n, d)),
        value=rng.standard_normal(d),
        lengths=rng.integers(1, T + 1, n),
    )
    run = attsvm.train(
        data, parameter=parameter, init="uniform", steps=steps, certify=True, rng=rng
    )
    bound, margin = run.history["certified_cosine"][-1], run.history["margin"][-1]
    assert run.history["settled"][-1]
    assert -1.0 <= bound <= 1.0
    logits = np.where(data.valid, run.log_attention, -np.inf)
    others = np.sort(logits, axis=1)[:, ::-1][:, :2]
    assert margin == pytest.approx((others[:, 0] - others[:, 1]).min(), rel=1e-9, abs=1e-12)
    if bound > -1.0:
        # W separates its top tokens, so their SVM has a solution.
        assert bound <= true_cosines(data, run.selected, run) + 1e-12


def test_the_bound_is_tight_on_the_published_data(local_convergence):
    """The median shortfall: asked 3 % by 2,000 steps, 0.5 % by 20,000."""
    data = local_convergence
    run = attsvm.train(data, init="uniform", steps=20000, rng=0)
    solution = attsvm.att_svm(data, run.selected)
    run = attsvm.train(
        data,
        init="uniform",
        steps=20000,
        rng=0,
        record_every=MARKS,
        certify=True,
        reference=solution,
    )
    cosine, bound = run.history["cosine"], run.history["certified_cosine"]
    settled = run.history["settled"]
    assert settled[:, -1].all()
    assert (bound <= cosine + 1e-12)[settled].all()
    shortfall = np.median((cosine - bound) / cosine, axis=0)
    assert shortfall[MARKS.index(2000)] < 0.03
    assert shortfall[MARKS.index(20000)] < 0.005


def test_certificates_change_nothing_else(local_convergence):
    data = local_convergence
    plain = attsvm.train(data, steps=300)
    certified = attsvm.train(data, steps=300, certify=True)
    assert np.array_equal(plain.W, certified.W)
    assert all(np.array_equal(plain.history[k], certified.history[k]) for k in plain.history)
    single = attsvm.train(data.problem(7), steps=300, certify=True)
    for key in ("margin", "certified_cosine"):
        np.testing.assert_allclose(certified.history[key][7], single.history[key], atol=1e-9)


def test_zero_separates_nothing_and_one_token_has_no_machine():
    data = AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]], value=[1.0, 0.0])
    history = attsvm.train(data, steps=1, certify=True).history
    assert history["margin"][0] == 0.0
    assert history["certified_cosine"].tolist() == pytest.approx([-1.0, 1.0])
    alone = AttentionData([[[1.0, 0.0]]], [1], queries=[[1.0, 0.0]], value=[1.0, 0.0])
    history = attsvm.train(alone, init=np.eye(2), steps=1, certify=True).history
    assert (history["margin"] == np.inf).all()
    assert (history["certified_cosine"] == -1.0).all()


def test_other_heads_certify_too():
    rng = np.random.default_rng(5)
    data = AttentionData(
        rng.standard_normal((2, 3, 6)), [1, -1], queries=rng.standard_normal((2, 6))
    )
    run = attsvm.train(data, head=ReLU(rng.standard_normal((6, 4))), steps=5000, certify=True)
    bound = run.history["certified_cosine"][-1]
    if bound > -1:
        assert bound <= true_cosines(data, run.selected, run) + 1e-12
    joint = attsvm.train(
        data, parameter=("v", "W"), init={"v": np.ones(6)}, steps=5000, certify=True
    )
    assert joint.history["certified_cosine"][-1] > 0.9
    assert joint.history["certified_cosine"][-1] <= true_cosines(data, joint.selected, joint)
