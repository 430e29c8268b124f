"""Experiments of "Benign Overfitting in Token Selection of Attention Mechanism"."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from attsvm.datasets import signal_noise
from attsvm.studies.figures import label_noise
from attsvm.studies.reproduce.figure import Settings, Task


@pytest.fixture(scope="module")
def small():
    """A run on a small problem, with its data and test."""
    task = Task(label_noise.FIGURE, Settings(quick=True))
    data = signal_noise(10, 5, 30, signal=3.0, label_noise=0.3, rng=0)
    test = signal_noise(200, 5, 30, signal=3.0, rng=1)
    rng = np.random.default_rng(2)
    options = {"lr": 0.5, "steps": 100, "record_every": [0, 40, 100]}
    return label_noise._train(task, data, test, rng, **options), data, test


def test_attention_is_by_kind_of_token_and_label(small):
    run, data, _ = small
    weights = np.exp(data.tokens @ run.direction)
    weights /= weights.sum(axis=1, keepdims=True)
    flipped = data.labels != np.tile([1, -1], 5)
    assert flipped.sum() == 3
    for name, which in (("clean", ~flipped), ("flipped", flipped)):
        kinds = [*weights[which, :3].mean(axis=0), weights[which, 3:].sum(axis=1).mean()]
        recorded = run.history[f"attention on {name}"]
        np.testing.assert_allclose(recorded[0], [0.2, 0.2, 0.2, 0.4], rtol=1e-13)
        np.testing.assert_allclose(recorded[-1], kinds, rtol=1e-10)
        predicted = np.sign((weights * (data.tokens @ data.value)).sum(axis=1))
        right = (predicted == data.labels)[which].mean()
        assert run.history[name][-1] == pytest.approx(right, abs=1e-15)


def test_shares_of_clean_and_flipped_labels_make_the_accuracy(small):
    history = small[0].history
    both = 0.7 * history["clean"] + 0.3 * history["flipped"]
    np.testing.assert_allclose(both, history["accuracy"], atol=1e-15)


def test_test_accuracy_is_that_of_the_plain_formula(small):
    run, _, test = small
    weights = np.exp(test.tokens @ run.direction)
    weights /= weights.sum(axis=1, keepdims=True)
    right = test.labels * (weights * (test.tokens @ test.value)).sum(axis=1) > 0
    assert run.history["test_accuracy"][-1] == right.mean()


def test_stated_accuracies_of_uniform_attention_are_the_closed_form():
    start, T = label_noise.FIGURE.numbers["start"], label_noise.FIGURE.settings["data"]["T"]
    for signal in start.at:
        expected = scipy.stats.norm.cdf(signal / np.sqrt(2 * T))
        assert start.value(signal) == pytest.approx(expected, abs=1e-7)


@pytest.mark.slow
def test_flipped_labels_are_fitted_later_the_stronger_the_signal(computed):
    along = computed("label-noise").data["along"]
    fitted = {signal: of["flipped"].mean() for signal, of in along.items()}
    assert fitted[5] > fitted[20]
    for signal, of in along.items():
        clean, flipped = (of[f"attention on {name}"][:, -1] for name in ("clean", "flipped"))
        assert (clean.argmax(axis=-1) == 0).all(), signal
        assert (flipped[:, 0] < 0.05).all(), signal
