"""Sequences that show the signal of their class in one token, among noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from attsvm._arrays import BoolArray, Float64Array, FloatArray
from attsvm._validation import (
    as_choice,
    as_float_in,
    as_nonnegative_float,
    as_positive_float,
    as_positive_int,
)
from attsvm.data.attention_data import AttentionData
from attsvm.datasets.drawing import draw_arrays

Signals: TypeAlias = Literal["orthogonal", "antipodal"]

KINDS_OF_TOKEN = ("relevant", "weak", "weak, other class", "noise")
"""Kinds of the tokens of `signal_noise`: one of each, and the others are noise."""

_SPAN = {"orthogonal": 2, "antipodal": 1}  # dimension of the span of the two signals


def near_orthogonal(
    n: int,
    T: int,
    d: int,
    *,
    signals: Signals = "orthogonal",
    noise: float = 0.0,
    label_noise: float = 0.0,
    batch: int | None = None,
    rng: int | np.random.Generator | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> AttentionData:
    """Draw nearly orthogonal tokens, of which the signal token scores 1 and the others 0.

    Labels alternate, beginning with +1. One token of sequence i, at a place drawn uniformly, is the
    signal μ_{Y_i} of its class, a unit vector; the others are N(0, I/d) without their part in the
    span of the signals. The value v scores the signal token Y_i v'x = 1 and the others 0, exactly.
    The query is the first token of the sequence, which may be the signal token.

    Descent commutes with rotations, so the signals are unit vectors of the first coordinates. The
    data are those of "Implicit Bias and Fast Convergence Rates for Self-attention".

    Parameters
    ----------
    n, T, d : int
        Sequences, tokens of each, dimension: at least 3, or 2 for antipodal signals.
    signals : {"orthogonal", "antipodal"}
        μ_- is orthogonal to μ_+, or -μ_+.
    noise : float
        The signal token is μ_{Y_i} + `noise` · N(0, I/d), the latter off the span of the signals
        too: scores stay as they are, and tokens are farther from orthogonal the larger it is.
    label_noise : float
        Share of the labels that are flipped: round(label_noise · n) of them, at places drawn
        uniformly. Tokens stay. In a flipped sequence the signal token scores -1 and the others 0:
        they are all best together, so that no token is the only one, and the SVM of
        `attsvm.optimal_tokens` is that of the first of them.
    batch, rng, dtype
        As of `unit_sphere`. Tokens do not depend on `label_noise`.

    Returns
    -------
    AttentionData
        tokens ([B,] n, T, d), labels ([B,] n), queries ([B,] n, d), value ([B,] d).

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.datasets.near_orthogonal(10, 10, 512, rng=0)
    >>> solution = attsvm.att_svm(data, attsvm.optimal_tokens(data))
    >>> run = attsvm.train(data, steps=2000, reference=solution)
    >>> bool(run.history["cosine"][-1] > 0.999)
    True
    """
    problem = _problem(n, T, d, signals, noise, label_noise, scored=True)
    scales = {"noise": noise}
    return AttentionData(**draw_arrays(problem, batch=batch, rng=rng, dtype=dtype, scales=scales))


def gaussian_classes(
    n: int,
    T: int,
    d: int,
    *,
    signals: Signals = "antipodal",
    noise: float = 0.0,
    label_noise: float = 0.0,
    batch: int | None = None,
    rng: int | np.random.Generator | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> AttentionData:
    """Draw a signal token among Gaussian noise, to learn attention and head together.

    As `near_orthogonal`, with two differences: the other tokens are N(0, I/d) as they are drawn,
    with a part along the signals, and there is no value, for the head is to be learned. What it
    learns is the SVM of the signal tokens, `attsvm.label_svm`, in the joint training of the same
    paper.

    Parameters
    ----------
    n, T, d : int
        Sequences, tokens of each, dimension: at least 3, or 2 for antipodal signals.
    signals : {"antipodal", "orthogonal"}
        μ_- is -μ_+, or orthogonal to it.
    noise : float
        The signal token is μ_{Y_i} + `noise` · N(0, I/d).
    label_noise, batch, rng, dtype
        As of `near_orthogonal`.

    Returns
    -------
    AttentionData
        tokens ([B,] n, T, d), labels ([B,] n), queries ([B,] n, d), and no value.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.datasets.gaussian_classes(10, 10, 128, rng=0)
    >>> run = attsvm.train(data, parameter=("v", "W"), steps=500)
    >>> signal = data.tokens[0, run.selected[0]] * data.labels[0]
    >>> bool(attsvm.cosine(run.v, signal) > 0.99)
    True
    """
    problem = _problem(n, T, d, signals, noise, label_noise, scored=False)
    scales = {"noise": noise}
    return AttentionData(**draw_arrays(problem, batch=batch, rng=rng, dtype=dtype, scales=scales))


def signal_noise(
    n: int,
    T: int,
    d: int,
    *,
    signal: float = 20.0,
    weak: float = 0.1,
    label_noise: float = 0.0,
    batch: int | None = None,
    rng: int | np.random.Generator | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> AttentionData:
    """Draw standard normal tokens of which one has the signal of its class, and two a weak signal.

    Labels alternate, beginning with +1. Every token is N(0, I). Token 0 of a sequence of class y is
    relevant: the signal μ_y is added to it. Tokens 1 and 2 are weakly relevant: `weak` · μ_y is
    added to the first, and `weak` · μ_{-y}, of the other class, to the second. The signals are
    orthogonal, μ_+ = `signal` · e_1 and μ_- = `signal` · e_2, and the value is
    v = (e_1 - e_2) / (√2 `signal`): the relevant token of a clean sequence has the expected score
    1/√2. There are no queries, which logits X p and X W p do not need.

    Parameters
    ----------
    n, T, d : int
        Sequences, tokens of each: at least 3, dimension: at least 2.
    signal : float
        Length of the signals, positive. The signal-to-noise ratio is signal / √d.
    weak : float
        Share of the signal in the weakly relevant tokens, not negative.
    label_noise : float
        Share of the labels that are flipped: round(label_noise · n) of them, at places drawn
        uniformly. Tokens stay, and do not depend on it.
    batch, rng, dtype
        As of `unit_sphere`.

    Returns
    -------
    AttentionData
        tokens ([B,] n, T, d), labels ([B,] n), value ([B,] d), and no queries.

    References
    ----------
    Sakamoto, Sato, "Benign Overfitting in Token Selection of Attention Mechanism", 2025, the data
    of its analysis, with its synthetic experiments.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.datasets.signal_noise(20, 8, 2000, label_noise=0.2, rng=0)
    >>> clean = attsvm.datasets.signal_noise(20, 8, 2000, rng=0)
    >>> int((data.labels != clean.labels).sum())
    4
    """
    n, T = as_positive_int("n", n), as_positive_int("T", T)
    for name, size, least in (("T", T, 3), ("d", as_positive_int("d", d), 2)):
        if size < least:
            raise ValueError(f"{name}: expected at least {least}, got {size}")
    length = as_positive_float("signal", signal)
    share_of_weak = as_nonnegative_float("weak", weak)
    flips = round(as_float_in("label_noise", label_noise, 0, 1) * n)
    value = np.zeros(d)
    with np.errstate(over="ignore"):  # refused by `draw_arrays`
        value[:2] = np.array([1.0, -1.0]) / (np.sqrt(2.0) * length)

    def problem(rng: np.random.Generator) -> dict[str, FloatArray]:
        token_rng, label_rng = rng.spawn(2)
        each, classes = np.arange(n), _alternating(n)
        own = np.where(classes > 0, 0, 1)
        tokens = token_rng.standard_normal((n, T, d))
        for token, share, axis in (
            (0, 1.0, own),
            (1, share_of_weak, own),
            (2, share_of_weak, 1 - own),
        ):
            tokens[each, token, axis] += share * length
        labels = _flipped(classes, flips, label_rng)
        return {"tokens": tokens, "labels": labels, "value": value}

    scales = {"signal": length, "weak": share_of_weak}
    return AttentionData(**draw_arrays(problem, batch=batch, rng=rng, dtype=dtype, scales=scales))


def by_kind(attention: Float64Array) -> Float64Array:
    """Sum attention (..., T) on tokens of `signal_noise` over each of `KINDS_OF_TOKEN` (..., 4).

    It is NaN for the noise where T = 3, which leaves none.
    """
    sums = attention[..., 3:].sum(axis=-1, keepdims=True)
    if attention.shape[-1] == 3:
        sums[...] = np.nan
    return np.concatenate([attention[..., :3], sums], axis=-1)


def flipped(labels: npt.ArrayLike) -> BoolArray:
    """Return which labels (..., n) of the generators of this module are flipped."""
    given = np.asarray(labels)
    return np.asarray(given != _alternating(given.shape[-1]))


def _alternating(n: int) -> FloatArray:
    """Return n classes +1, -1, +1, ..."""
    return np.where(np.arange(n) % 2 == 0, 1.0, -1.0)


def _flipped(classes: FloatArray, flips: int, rng: np.random.Generator) -> FloatArray:
    """Return the labels of these classes with so many of them flipped, at places drawn."""
    labels = classes.copy()
    labels[rng.permutation(labels.size)[:flips]] *= -1.0
    return labels


def _problem(
    n: int, T: int, d: int, signals: Signals, noise: float, label_noise: float, *, scored: bool
) -> Callable[[np.random.Generator], dict[str, FloatArray]]:
    """Check settings; return what draws tokens, scored with a value or with a head to learn."""
    n, T = as_positive_int("n", n), as_positive_int("T", T)
    span = _SPAN[as_choice("signals", signals, tuple(_SPAN))]
    if as_positive_int("d", d) <= span:
        raise ValueError(f"d: expected more than {span} for {signals} signals, got {d}")
    spread = as_nonnegative_float("noise", noise)
    flips = round(as_float_in("label_noise", label_noise, 0, 1) * n)

    def draw(rng: np.random.Generator) -> dict[str, FloatArray]:
        token_rng, label_rng = rng.spawn(2)
        each, classes = np.arange(n), _alternating(n)
        tokens = token_rng.standard_normal((n, T, d)) / np.sqrt(d)
        if scored:  # the score of noise is 0
            tokens[..., :span] = 0.0
        best = token_rng.integers(T, size=n)
        tokens[each, best] *= spread
        if span == 1:
            tokens[each, best, 0] += classes
        else:
            tokens[each, best, np.where(classes > 0, 0, 1)] += 1.0
        labels = _flipped(classes, flips, label_rng)
        drawn = {"tokens": tokens, "labels": labels, "queries": tokens[:, 0]}
        if scored:
            drawn["value"] = np.zeros(d)
            drawn["value"][:span] = (1.0, -1.0)[:span]
        return drawn

    return draw
