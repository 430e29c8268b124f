"""unit_sphere: the random problems of the published experiments."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from attsvm.datasets import unit_sphere

FIELDS = ("tokens", "labels", "queries", "value", "lengths")


@pytest.mark.parametrize("attention", ["cross", "self"])
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_everything_but_the_labels_has_unit_norm(batch, attention):
    data = unit_sphere(4, 5, 6, batch=batch, attention=attention, rng=0)
    lead = () if batch is None else (batch,)
    assert data.tokens.shape == (*lead, 4, 5, 6)
    assert data.dtype == np.float64
    for array in (data.tokens, data.queries, data.value):
        np.testing.assert_allclose(np.linalg.norm(array, axis=-1), 1, rtol=1e-15)
    assert set(np.unique(data.labels)) <= {-1.0, 1.0}
    assert data.valid.all()


def test_self_attention_asks_with_the_first_token():
    data = unit_sphere(4, 5, 6, batch=3, attention="self", rng=0)
    np.testing.assert_array_equal(data.queries, data.tokens[:, :, 0])
    cross = unit_sphere(4, 5, 6, batch=3, attention="cross", rng=0)
    assert not (cross.queries == cross.tokens[:, :, 0]).any()


@pytest.mark.parametrize("attention", ["cross", "self"])
def test_a_problem_is_the_same_whatever_the_size_of_its_batch(attention):
    many = unit_sphere(3, 4, 5, batch=7, attention=attention, rng=11)
    few = unit_sphere(3, 4, 5, batch=2, attention=attention, rng=11)
    one = unit_sphere(3, 4, 5, attention=attention, rng=11)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:2])
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name)[0])
    assert len({problem.tokens.tobytes() for problem in many.problems()}) == 7


def test_seeds_repeat_and_generators_go_on():
    assert (
        unit_sphere(2, 2, 2, rng=5).tokens.tobytes() == unit_sphere(2, 2, 2, rng=5).tokens.tobytes()
    )
    generator = np.random.default_rng(5)
    first, second = (unit_sphere(2, 2, 2, rng=generator).tokens for _ in range(2))
    assert first.tobytes() == unit_sphere(2, 2, 2, rng=5).tokens.tobytes()
    assert (first != second).all()
    assert (unit_sphere(2, 2, 2).tokens != unit_sphere(2, 2, 2).tokens).all()


def test_float32_problems_are_the_float64_ones_rounded():
    double = unit_sphere(3, 4, 5, batch=2, rng=1)
    for dtype in (np.float32, "float32", np.dtype("f4")):
        single = unit_sphere(3, 4, 5, batch=2, rng=1, dtype=dtype)
        assert single.dtype == np.float32
        np.testing.assert_array_equal(single.tokens, double.tokens.astype(np.float32))
        np.testing.assert_array_equal(single.value, double.value.astype(np.float32))


def test_directions_are_uniform_and_labels_fair():
    """On the sphere in three dimensions every coordinate is uniform on [-1, 1] (Archimedes).

    Seed fixed; each of the ten tests rejects a true statement with probability 1e-4.
    """
    data = unit_sphere(20, 20, 3, batch=20, rng=2)
    for array in (data.tokens, data.queries, data.value):
        for k in range(3):
            coordinate = array[..., k].ravel()
            assert scipy.stats.kstest(coordinate, "uniform", args=(-1, 2)).pvalue > 1e-4
    ups = int((data.labels > 0).sum())
    assert scipy.stats.binomtest(ups, data.labels.size).pvalue > 1e-4
