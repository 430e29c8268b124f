"""Experiments of "Benign Overfitting in Token Selection of Attention Mechanism"."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from attsvm.studies.figures import label_noise
from attsvm.studies.study import Study


def test_stated_accuracies_of_uniform_attention_are_the_closed_form():
    start, T = label_noise.FIGURE.numbers["start"], Study.load("label-noise").T
    for signal in start.at:
        expected = scipy.stats.norm.cdf(signal / np.sqrt(2 * T))
        assert start.value(signal) == pytest.approx(expected, abs=1e-7)


@pytest.mark.slow
def test_flipped_labels_are_fitted_later_the_stronger_the_signal(computed):
    along = computed("label-noise").data["along"]
    fitted = {signal: of["flipped_fitted"].mean() for signal, of in along.items()}
    assert fitted[5] > fitted[20]
    for signal, of in along.items():
        clean, flipped = (of[f"{name}_attention"][:, -1] for name in ("clean", "flipped"))
        assert (clean.argmax(axis=-1) == 0).all(), signal
        assert (flipped[:, 0] < (0.05 if signal < 80 else 0.5)).all(), signal
