"""digits: real images as attention problems."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import attsvm
from attsvm.datasets import digits

load_digits = pytest.importorskip("sklearn.datasets").load_digits

FIELDS = ("tokens", "labels", "queries", "value", "lengths")


def images_of(*classes: int) -> tuple[np.ndarray, np.ndarray]:
    bunch = load_digits()
    chosen = np.isin(bunch.target, classes)
    return bunch.images[chosen] / 16, bunch.target[chosen]


def patch_kernel(image: np.ndarray, patch: int, stride: int) -> np.ndarray:
    """exp(-δ²/2) of every two patches, δ² = 36 mean square difference + squared offset / patch²."""
    corners = range(0, 9 - patch, stride)
    corner = [(r, c) for r in corners for c in corners]
    square = [
        [
            36
            * np.mean(
                (image[r : r + patch, c : c + patch] - image[s : s + patch, e : e + patch]) ** 2
            )
            + ((r - s) ** 2 + (c - e) ** 2) / patch**2
            for s, e in corner
        ]
        for r, c in corner
    ]
    return np.exp(-np.array(square) / 2)


def test_tokens_and_queries_are_random_fourier_features_of_real_images():
    """The Gram matrix of an image's tokens gives the image away, and so its label and its query.

    With d features each entry is off by about sqrt(1/(2d)).
    """
    n, d, patch, stride = 6, 1000, 5, 1
    data = digits(n, d, patch=patch, stride=stride, rng=3)
    images, classes = images_of(3, 8)
    kernels = np.array([patch_kernel(image, patch, stride) for image in images])
    found = []
    for i in range(n):
        gram = data.tokens[i] @ data.tokens[i].T
        error = np.sqrt(np.mean((kernels - gram) ** 2, axis=(1, 2)))
        best = int(error.argmin())
        assert error[best] < 2 * np.sqrt(0.5 / d)
        assert data.labels[i] == (1 if classes[best] == 8 else -1)
        found.append(best)
    assert len(set(found)) == n
    drawn = images[found].reshape(n, 64)
    square = np.mean((drawn[:, None] - drawn) ** 2, axis=-1)
    np.testing.assert_allclose(
        data.queries @ data.queries.T, np.exp(-36 * square / 2), atol=5 * np.sqrt(0.5 / d)
    )


@pytest.mark.parametrize("bandwidth", [1 / 2, 1 / 6])
def test_the_bandwidth_says_how_alike_the_queries_of_different_images_are(bandwidth):
    """Their mean cosine is that of exp(-δ²/2) over all images, up to the draw of twenty."""
    queries = digits(20, 400, bandwidth=bandwidth, rng=0).queries
    pixels = images_of(3, 8)[0].reshape(-1, 64)
    square = np.mean((pixels[:, None] - pixels) ** 2, axis=-1) / bandwidth**2

    def between(cosines: np.ndarray) -> float:
        return cosines[~np.eye(len(cosines), dtype=bool)].mean()

    assert between(queries @ queries.T) == pytest.approx(between(np.exp(-square / 2)), abs=0.06)


def test_a_larger_stride_leaves_patches_out():
    fine, coarse = digits(4, 6, stride=1, rng=0), digits(4, 6, stride=2, rng=0)
    every_second = fine.tokens.reshape(4, 5, 5, 6)[:, ::2, ::2].reshape(4, 9, 6)
    np.testing.assert_allclose(coarse.tokens, every_second, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("patch", "stride", "T"), [(4, 2, 9), (4, 4, 4), (2, 2, 16), (8, 1, 1), (3, 2, 9)]
)
def test_there_is_a_token_for_every_patch_that_fits(patch, stride, T):
    data = digits(4, 6, patch=patch, stride=stride, batch=2, rng=0)
    assert (data.batch, data.n, data.T, data.d) == (2, 4, T, 6)


def test_everything_but_the_labels_has_unit_norm():
    data = digits(5, 7, batch=3, rng=0)
    for array in (data.tokens, data.queries, data.value):
        np.testing.assert_allclose(np.linalg.norm(array, axis=-1), 1, rtol=1e-14)


def test_patches_of_one_image_are_told_apart_even_where_they_are_blank():
    data = digits(20, 50, classes=(1, 7), batch=3, patch=2, stride=2, rng=0)
    tokens = data.tokens.reshape(-1, data.T, data.d)
    distance = np.linalg.norm(tokens[:, :, None] - tokens[:, None], axis=-1)
    distance[:, np.arange(data.T), np.arange(data.T)] = np.inf
    assert distance.min() > 0.1


def test_classes_are_balanced_and_the_odd_image_is_a_fair_coin():
    even = digits(10, 3, batch=20, rng=0).labels
    assert (even.sum(axis=1) == 0).all()
    assert len({tuple(row) for row in even.tolist()}) > 10  # in random order
    odd = digits(5, 3, batch=100, rng=0).labels.sum(axis=1)
    assert set(odd.tolist()) == {-1.0, 1.0}
    assert scipy.stats.binomtest(int((odd > 0).sum()), odd.size).pvalue > 1e-4


def test_a_problem_is_the_same_whatever_the_size_of_its_batch():
    many = digits(4, 5, batch=4, rng=7)
    few = digits(4, 5, batch=2, rng=7)
    one = digits(4, 5, rng=7)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:2])
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name)[0])
    assert len({problem.tokens.tobytes() for problem in many.problems()}) == 4


def test_a_larger_d_adds_features_of_the_same_images():
    small, large = digits(4, 5, batch=2, rng=7), digits(4, 9, batch=2, rng=7)
    np.testing.assert_array_equal(small.labels, large.labels)
    for name in ("tokens", "queries"):
        first = getattr(large, name)[..., :5]
        first = first / np.linalg.norm(first, axis=-1, keepdims=True)
        np.testing.assert_allclose(getattr(small, name), first, rtol=1e-13, atol=1e-15)


def test_float32_problems_are_the_float64_ones_rounded():
    double, single = digits(4, 5, rng=1), digits(4, 5, rng=1, dtype=np.float32)
    for name in FIELDS[:-1]:
        rounded = getattr(double, name).astype(np.float32)
        np.testing.assert_array_equal(getattr(single, name), rounded, strict=True)


def test_scores_speak_for_the_class_of_images_that_the_value_has_not_seen():
    """Seed fixed: the mean score is above 0 for 94 % of 400 images, ± 1.2 % (one sigma)."""
    gamma = attsvm.scores(digits(40, 50, batch=10, rng=0))
    assert (gamma.mean(axis=-1) > 0).mean() > 0.9


def test_the_optimal_token_is_unique_and_not_always_the_same_patch():
    for d in (2, 10, 50):
        data = digits(10, d, batch=10, rng=0)
        best = np.sort(attsvm.scores(data), axis=-1)
        assert (best[..., -1] > best[..., -2]).all()
        chosen = attsvm.optimal_tokens(data)
        assert all(len(set(row)) > 1 for row in chosen.tolist())


def separable(data: attsvm.AttentionData, selected: np.ndarray) -> bool:
    """Whether a W meets the constraints of the Att-SVM, by a linear program."""
    i, t = np.nonzero(np.arange(data.T) != selected[:, None])
    difference = data.tokens[i, selected[i]] - data.tokens[i, t]
    rows = (difference[:, :, None] * data.queries[i][:, None, :]).reshape(len(i), -1)
    found = scipy.optimize.linprog(
        np.zeros(rows.shape[1]), A_ub=-rows, b_ub=-np.ones(len(i)), bounds=(None, None)
    )
    assert found.status in (0, 2)
    return found.status == 0


def test_the_optimal_tokens_become_separable_as_d_grows():
    """n = 10: a quarter or fewer at d = 2, all at d = n."""
    share = {}
    for d in (2, 10):
        data = digits(10, d, batch=20, rng=0)
        best = attsvm.optimal_tokens(data)
        share[d] = np.mean([separable(p, a) for p, a in zip(data.problems(), best, strict=True)])
    assert share[2] <= 0.25
    assert share[10] == 1


def test_more_images_than_half_of_a_class_are_refused():
    """There are 174 eights and 183 threes; the images not drawn make the value."""
    assert digits(174, 2, rng=0).n == 174
    with pytest.raises(
        ValueError, match=r"^n: expected at most 174 images of .*\(3, 8\), got 175$"
    ):
        digits(175, 2)


@pytest.mark.parametrize(
    ("option", "error"), [({"rng": -1}, ValueError), ({"dtype": "float16"}, TypeError)]
)
def test_seed_and_type_are_checked(option, error):
    with pytest.raises(error, match=f"^{next(iter(option))}: expected"):
        digits(2, 2, **option)
