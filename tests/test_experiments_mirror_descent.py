"""Experiments of "Optimizing Attention with Mirror Descent": each l_p run finds its own SVM."""

from __future__ import annotations

import numpy as np


def test_every_run_is_nearest_the_svm_of_its_own_norm(computed):
    along = computed("mirror-descent").data
    for p, of in along.items():
        ends = {q: distances[:, -1] for q, distances in of["own"].items()}
        for q in ends.keys() - {p}:
            assert (ends[p] < ends[q]).mean() >= 0.9
            assert ends[p].mean() < ends[q].mean()


def test_tokens_of_another_run_are_never_nearer_on_average(computed):
    """With the same tokens the SVM is the same; a run is compared with its own tokens at q = p."""
    along = computed("mirror-descent").data
    for p, of in along.items():
        np.testing.assert_array_equal(of["own"][p], of["others"][p])
        for q in along.keys() - {p}:
            own, others = of["own"][q][:, -1], of["others"][q][:, -1]
            same = np.isclose(own, others, rtol=1e-9)
            assert (others[~same] > own[~same]).all()
            assert same.any()
            assert not same.all()
