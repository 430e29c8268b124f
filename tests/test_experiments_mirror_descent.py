"""Experiments of "Optimizing Attention with Mirror Descent": each l_p run finds its own SVM."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import attsvm
from attsvm import StepRule
from attsvm.studies.figures import mirror_descent


def test_every_run_is_nearest_the_svm_of_its_own_norm(computed):
    along = computed("mirror-descent").data["along"]
    for p, of in along.items():
        ends = {q: distances[:, -1] for q, distances in of["own"].items()}
        for q in ends.keys() - {p}:
            assert (ends[p] < ends[q]).mean() >= 0.9
            assert ends[p].mean() < ends[q].mean()


def test_tokens_of_another_run_are_never_nearer_on_average(computed):
    """With the same tokens the SVM is the same; a run is compared with its own tokens at q = p."""
    along = computed("mirror-descent").data["along"]
    for p, of in along.items():
        np.testing.assert_array_equal(of["own"][p], of["others"][p])
        for q in along.keys() - {p}:
            own, others = of["own"][q][:, -1], of["others"][q][:, -1]
            same = np.isclose(own, others, rtol=1e-9)
            assert (others[~same] > own[~same]).all()
            assert same.any()
            assert not same.all()


def joint_run_in_digits(tokens, p, lr, steps):
    """Train W and v from zero by normalised mirror descent in 200 digits; return both."""
    mp = mpmath.mp.clone()
    mp.dps = 200
    p, labels = mp.mpf(p), (1, -1)
    X = [[[mp.mpf(x) for x in token] for token in sequence] for sequence in tokens.tolist()]
    dual = {name: mp.matrix(2, k) for name, k in (("W", 2), ("v", 1))}

    def primal(U):
        return U.apply(lambda a: mp.sign(a) * abs(a) ** (1 / (p - 1)))

    for _ in range(steps):
        W, v = primal(dual["W"]), primal(dual["v"])
        gradient = {name: 0 * U for name, U in dual.items()}
        for sequence, y in zip(X, labels, strict=True):
            z = mp.matrix(sequence[0])
            x = mp.matrix(sequence)
            weights = (x * W * z).apply(mp.exp)
            weights = weights / mp.fsum(weights)
            scores = y * x * v
            margin = (weights.T * scores)[0]
            slope = -1 / (1 + mp.exp(margin)) / 2
            gradient["v"] += slope * y * x.T * weights
            of_logits = mp.matrix([w * (s - margin) for w, s in zip(weights, scores, strict=True)])
            gradient["W"] += slope * x.T * of_logits * z.T
        for name, G in gradient.items():
            size = mp.fsum(abs(g) ** (p / (p - 1)) for g in G) ** ((p - 1) / p)
            dual[name] -= lr * G / (size or 1)
    return tuple(np.array(primal(dual[name]).tolist(), dtype=float) for name in ("W", "v"))


@pytest.mark.parametrize("p", [1.75, 2.0, 3.0])
def test_joint_mirror_descent_agrees_with_200_digits(p):
    tokens = np.array(mirror_descent.FIGURE.settings["tokens"])
    data = attsvm.AttentionData(tokens, [1, -1], queries=tokens[:, 0])
    options = {"rule": StepRule("mirror", norm=p), "lr": 0.125}
    run = attsvm.train(data, parameter=("v", "W"), steps=100, **options)
    W, v = joint_run_in_digits(tokens, p, 0.125, 100)
    np.testing.assert_allclose(run.W, W, rtol=0, atol=1e-12 * np.abs(W).max())
    np.testing.assert_allclose(run.v, v[:, 0], rtol=0, atol=1e-12 * np.abs(v).max())


def test_joint_mirror_descent_goes_to_the_svms_of_its_norm(computed):
    outcome = computed("mirror-descent")
    for p, of_run in outcome.data["joint"].items():
        assert of_run["curves"]["softmax"][-1] > 0.99
        for name, svm in zip("Wv", of_run["SVM"], strict=True):
            assert attsvm.cosine(of_run[name][-1], svm) > 0.999, p
    assert all(check.verdict != "OUTSIDE" for check in outcome.checks)
