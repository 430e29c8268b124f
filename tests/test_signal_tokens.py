"""near_orthogonal and gaussian_classes: one token with the signal of the class, noise beside it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

import attsvm
from attsvm.datasets import gaussian_classes, near_orthogonal, signal_noise

MAKERS = (near_orthogonal, gaussian_classes)
FIELDS = ("tokens", "labels", "queries")


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("signals", ["orthogonal", "antipodal"])
def test_signal_tokens_score_one_and_the_others_zero_exactly(signals, noise):
    data = near_orthogonal(9, 5, 30, signals=signals, noise=noise, batch=4, rng=0)
    assert data.tokens.shape == (4, 9, 5, 30)
    scores = np.sort(attsvm.scores(data), axis=-1)
    assert (scores[..., -1] == 1).all()
    assert (scores[..., :-1] == 0).all()
    np.testing.assert_array_equal(data.labels, np.tile([1, -1, 1, -1, 1, -1, 1, -1, 1], (4, 1)))


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(("signals", "inner"), [("orthogonal", 0.0), ("antipodal", -1.0)])
def test_signals_are_unit_vectors_of_their_angle(maker, signals, inner):
    data = maker(2, 1, 6, signals=signals, rng=1)
    signal = data.tokens[:, 0]
    np.testing.assert_array_equal(signal @ signal.T, [[1, inner], [inner, 1]])


@pytest.mark.parametrize("maker", MAKERS)
def test_queries_are_first_tokens(maker):
    data = maker(4, 5, 6, batch=3, rng=0)
    np.testing.assert_array_equal(data.queries, data.tokens[:, :, 0])


def test_places_are_uniform_and_noise_is_gaussian():
    """Seed fixed; each of the three tests rejects a true statement with probability 1e-4."""
    data = near_orthogonal(40, 5, 50, batch=50, rng=2)
    best = attsvm.optimal_tokens(data)
    assert scipy.stats.chisquare(np.bincount(best.ravel(), minlength=5)).pvalue > 1e-4
    others = np.arange(5) != best[..., np.newaxis]
    noise = data.tokens[others][:, 2:]
    assert scipy.stats.kstest(noise.ravel()[::7] * np.sqrt(50), "norm").pvalue > 1e-4
    assert not data.tokens[others][:, :2].any()
    along = gaussian_classes(40, 5, 50, batch=50, rng=2).tokens[..., 0]
    along = along[(along != 1) & (along != -1)]
    assert along.size == 50 * 40 * 4
    assert scipy.stats.kstest(along * np.sqrt(50), "norm").pvalue > 1e-4


def test_noise_is_added_to_the_signal():
    clean, noisy, twice = (near_orthogonal(6, 4, 8, noise=s, rng=3) for s in (0.0, 1.0, 2.0))
    best = attsvm.optimal_tokens(clean)[:, np.newaxis, np.newaxis]
    signal, once, more = (
        np.take_along_axis(data.tokens, best, axis=1) for data in (clean, noisy, twice)
    )
    np.testing.assert_allclose(more - signal, 2 * (once - signal), atol=1e-15)
    assert (np.linalg.norm(once - signal, axis=-1) > 0.3).all()


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.25, 1.0])
def test_label_noise_flips_that_share_and_nothing_else(maker, share):
    clean, noisy = (maker(10, 4, 8, label_noise=s, batch=20, rng=4) for s in (0.0, share))
    flipped = clean.labels != noisy.labels
    assert (flipped.sum(axis=1) == round(10 * share)).all()
    np.testing.assert_array_equal(clean.tokens, noisy.tokens)
    if 0 < share < 1:
        assert flipped.any(axis=0).all()


def test_a_flipped_signal_scores_minus_one():
    data = near_orthogonal(6, 4, 8, label_noise=0.5, rng=5)
    lowest, highest = attsvm.scores(data).min(axis=1), attsvm.scores(data).max(axis=1)
    flipped = data.labels != [1, -1, 1, -1, 1, -1]
    np.testing.assert_array_equal(lowest, -1.0 * flipped)
    np.testing.assert_array_equal(highest, 1.0 - flipped)


@pytest.mark.parametrize("maker", MAKERS)
def test_a_problem_is_the_same_whatever_the_size_of_its_batch(maker):
    many, few = (maker(3, 4, 5, batch=size, label_noise=0.4, rng=11) for size in (7, 2))
    one = maker(3, 4, 5, label_noise=0.4, rng=11)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:2])
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name)[0])
    assert len({problem.tokens.tobytes() for problem in many.problems()}) == 7


@pytest.mark.parametrize("maker", MAKERS)
def test_float32_problems_are_the_float64_ones_rounded(maker):
    double, single = (maker(3, 4, 5, rng=1, dtype=dtype) for dtype in (np.float64, np.float32))
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single.tokens, double.tokens.astype(np.float32))


def test_gaussian_classes_leave_the_head_to_be_learned():
    data = gaussian_classes(4, 3, 5, rng=0)
    assert data.value is None
    signal = np.flatnonzero(np.abs(data.tokens[..., 0]).ravel() == 1) % 3
    solution = attsvm.label_svm(data, signal)
    np.testing.assert_allclose(solution.v, [1, 0, 0, 0, 0], atol=1e-9)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n": 0}, ValueError, "n: expected a positive integer"),
        ({"T": 1.5}, TypeError, "T: expected a positive integer"),
        ({"d": 2, "signals": "orthogonal"}, ValueError, "d: expected more than 2 for orthogonal"),
        ({"d": 1, "signals": "antipodal"}, ValueError, "d: expected more than 1 for antipodal"),
        ({"signals": "parallel"}, ValueError, "signals: expected one of"),
        ({"signals": None}, TypeError, "signals: expected one of"),
        ({"noise": -0.1}, ValueError, "noise: expected a number >= 0"),
        ({"noise": np.nan}, ValueError, "noise: expected"),
        (
            {"noise": 1e300, "dtype": np.float32},
            ValueError,
            "^noise: expected numbers of tokens that float32 holds, got noise=1e.300$",
        ),
        ({"label_noise": 1.1}, ValueError, r"label_noise: expected a number in \[0, 1\]"),
        ({"label_noise": "half"}, TypeError, "label_noise: expected"),
        ({"batch": 0}, ValueError, "batch: expected a positive integer"),
        ({"rng": -1}, ValueError, "rng: expected"),
        ({"dtype": int}, TypeError, "dtype: expected float64 or float32"),
    ],
)
def test_bad_settings_are_refused(maker, changes, error, message):
    with pytest.raises(error, match=message):
        maker(**{"n": 4, "T": 3, "d": 5, **changes})


@pytest.mark.parametrize(("signal", "weak"), [(20.0, 0.1), (3.0, 0.0), (0.5, 2.0)])
def test_tokens_of_signal_noise_have_their_class_in_the_first_three_means(signal, weak):
    """Without its noise, which is that of another strength of the signal, a token is its mean."""
    data = signal_noise(5, 4, 7, signal=signal, weak=weak, batch=2, rng=0)
    noise = data.tokens - signal_noise(5, 4, 7, signal=2 * signal, weak=weak, batch=2, rng=0).tokens
    means = np.zeros((5, 4, 7))
    for i, own in enumerate([0, 1, 0, 1, 0]):
        means[i, 0, own] = signal
        means[i, 1, own] = weak * signal
        means[i, 2, 1 - own] = weak * signal
    np.testing.assert_allclose(-noise, np.broadcast_to(means, noise.shape), atol=1e-13)
    assert data.queries is None
    np.testing.assert_array_equal(data.labels, np.tile([1, -1, 1, -1, 1], (2, 1)))
    expected = np.array([1.0, -1.0, 0, 0, 0, 0, 0]) / (np.sqrt(2) * signal)
    np.testing.assert_allclose(data.value, np.tile(expected, (2, 1)), rtol=1e-15)


def test_the_noise_of_signal_noise_is_standard_normal():
    """Seed fixed; each of the four tests rejects a true statement with probability 1e-4."""
    data = signal_noise(40, 5, 30, signal=2.0, weak=0.5, batch=50, rng=1)
    for token, place, mean in ((0, 0, 2.0), (1, 0, 1.0), (2, 1, 1.0), (4, 0, 0.0)):
        along = data.tokens[:, ::2, token, place] - mean  # sequences of class +1
        assert scipy.stats.kstest(along.ravel(), "norm").pvalue > 1e-4


def test_the_accuracy_of_uniform_attention_on_signal_noise():
    """Φ(|μ| / √(2T)): the mean of the tokens has the mean |μ| / T, and the variance 1 / T."""
    data = signal_noise(20_000, 8, 4, signal=5.0, rng=2)
    margins = data.labels * (data.tokens.mean(axis=1) @ data.value)
    expected = scipy.stats.norm.cdf(5 / 4)
    spread = np.sqrt(expected * (1 - expected) / 20_000)
    assert abs((margins > 0).mean() - expected) < 4 * spread
    assert margins.mean() == pytest.approx(1 / (8 * np.sqrt(2)), abs=4 / np.sqrt(8 * 20_000 * 25))


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_flipped_labels_of_signal_noise(share):
    clean, noisy = (signal_noise(10, 4, 8, label_noise=s, batch=20, rng=4) for s in (0.0, share))
    assert ((clean.labels != noisy.labels).sum(axis=1) == round(10 * share)).all()
    np.testing.assert_array_equal(clean.tokens, noisy.tokens)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"T": 2}, "T: expected at least 3, got 2"),
        ({"d": 1}, "d: expected at least 2, got 1"),
        ({"signal": 0.0}, "signal: expected"),
        ({"weak": -0.1}, "weak: expected"),
        ({"label_noise": 1.5}, "label_noise: expected"),
        (
            {"signal": 1e300, "dtype": np.float32},
            r"^signal, weak: expected numbers of tokens that float32 holds, got signal=1e\+300, ",
        ),
        ({"signal": 1e-300, "dtype": np.float32}, "^signal, weak: expected numbers of value that"),
        ({"signal": 1e-320}, "^signal, weak: expected numbers of value that float64 holds, got"),
        (
            {"signal": 1e300, "weak": 1e300},
            "^signal, weak: expected numbers of tokens that float64",
        ),
    ],
)
def test_arguments_of_signal_noise_are_checked(options, text):
    with pytest.raises(ValueError, match=text):
        signal_noise(**{"n": 4, "T": 3, "d": 5, "rng": 0, **options})
