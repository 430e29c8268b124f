"""Heads: what turns the attended mixture of tokens into a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from attsvm._validation import (
    ArrayLike,
    FloatArray,
    IndexArray,
    as_float_array,
    as_index_array,
    as_nonnegative_float,
    require_range,
    require_shape,
)

__all__ = ["Head", "LinearScores", "Penalised", "ReLU", "Softmax"]


@dataclass(frozen=True, eq=False, init=False)
class LinearScores:
    """A fixed linear head given by its token scores gamma_it = Y_i v'x_it.

    It stands for a head that reads other coordinates of a token than its key has: attention sees
    the tokens of the data, the loss of input i is l(sum_t s_it gamma_it).

    Parameters
    ----------
    scores : array_like, shape ([B,] n, T)
        Token scores, labels included. Entries at padding are not used.

    Raises
    ------
    TypeError, ValueError
        `scores` is not a finite array of numbers of two or three axes.

    References
    ----------
    Tarzanagh, Li, Zhang, Oymak, "Max-Margin Token Selection in Attention Mechanism", 2023: its
    two-dimensional figures give every token a key and, apart from it, a score.
    """

    scores: FloatArray

    def __init__(self, scores: ArrayLike) -> None:
        array = as_float_array("scores", scores, "(n, T) or (B, n, T)", ndim=(2, 3))
        object.__setattr__(self, "scores", array)


@dataclass(frozen=True, eq=False, init=False)
class ReLU:
    """A network with one hidden layer: h(o) = w' max(V'o, 0) of the mixture o.

    Its prediction for input i is h(o_i), its margin Y_i h(o_i). Where a hidden unit is exactly 0,
    its slope is taken as 0.

    Parameters
    ----------
    hidden : array_like, shape ([B,] d, m)
        V, one column for each of the m hidden units.
    weights : array_like, shape ([B,] m), optional
        w, all 1 by default.

    Raises
    ------
    TypeError, ValueError
        An argument is not a finite array of the right shape.

    References
    ----------
    Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023: its
    experiments with several selected tokens use w = 1.
    """

    hidden: FloatArray
    weights: FloatArray

    def __init__(self, hidden: ArrayLike, weights: ArrayLike | None = None) -> None:
        V = as_float_array("hidden", hidden, "(d, m) or (B, d, m)", ndim=(2, 3))
        *lead, _, m = V.shape
        given = np.ones((*lead, m)) if weights is None else weights
        text = "(B, m)" if lead else "(m,)"
        w = as_float_array("weights", given, text, ndim=len(lead) + 1)
        require_shape("weights", w, text, (*lead, m))
        object.__setattr__(self, "hidden", V)
        object.__setattr__(self, "weights", w)


@dataclass(frozen=True, eq=False, init=False)
class Penalised:
    """A linear head with a penalty on the mixture: h(o) = v'o - λ|o|².

    Its margin for input i is Y_i h(o_i). With λ > 0 attention stays spread over several tokens
    where their scores are near each other.

    Parameters
    ----------
    value : array_like, shape ([B,] d)
        v.
    penalty : float
        λ >= 0.

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be.

    References
    ----------
    Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023.
    """

    value: FloatArray
    penalty: float

    def __init__(self, value: ArrayLike, penalty: float) -> None:
        v = as_float_array("value", value, "(d,) or (B, d)", ndim=(1, 2))
        strength = as_nonnegative_float("penalty", penalty)
        object.__setattr__(self, "value", v)
        object.__setattr__(self, "penalty", strength)


@dataclass(frozen=True, eq=False, init=False)
class Softmax:
    """Classes by their logits C o: the margin is the log-probability of the right class.

    With the cross-entropy loss this is the language model's head. Labels of the data are not used.

    Parameters
    ----------
    classes : array_like, shape ([B,] K, d)
        C, one row for each class.
    targets : array_like of int, shape ([B,] n)
        The right class of each input, 0 to K - 1.

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be.

    References
    ----------
    Li, Huang, Ildiz, Rawat, Oymak, "Mechanics of Next Token Prediction with Self-Attention", 2024:
    the losses of its section on local convergence, where C is the embedding itself.
    """

    classes: FloatArray
    targets: IndexArray

    def __init__(self, classes: ArrayLike, targets: ArrayLike) -> None:
        C = as_float_array("classes", classes, "(K, d) or (B, K, d)", ndim=(2, 3))
        right = as_index_array("targets", targets, "(n,) or (B, n)", ndim=(1, 2))
        require_range("targets", right, 0, C.shape[-2] - 1)
        object.__setattr__(self, "classes", C)
        object.__setattr__(self, "targets", right)


Head: TypeAlias = "LinearScores | ReLU | Penalised | Softmax"
"""A head that stays as it is while attention is trained."""
