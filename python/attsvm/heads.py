"""Heads: what turns the attended mixture of tokens into a prediction."""

from __future__ import annotations

from dataclasses import dataclass

from attsvm.data.checks import ArrayLike, FloatArray, as_float_array

__all__ = ["LinearScores"]


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
