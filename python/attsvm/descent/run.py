"""What a training run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attsvm.descent.problem import CoreProblem

__all__ = ["Run", "Trained"]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained parameter in the coordinates it was trained in, until it is asked for.

    Attributes
    ----------
    problem : CoreProblem
        Knows the coordinates.
    V : ndarray, shape (B, r, k)
        The parameter in them.
    rest : ndarray, shape (B, d, e), or None
        What of the start lies outside the spans of tokens and queries.
    """

    problem: CoreProblem
    V: NDArray[np.float64]
    rest: NDArray[np.float64] | None

    def dense(self) -> NDArray[np.float64]:
        """W ([B,] d, d) or p ([B,] d)."""
        return self.problem.as_caller_parameter(self.V, self.rest)

    def factors(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """(left, right) with W = left' right; None where the start left a part outside."""
        return None if self.rest is not None else self.problem.factors(self.V)


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """The end of a run of gradient descent, and its record.

    A batch has a leading axis B throughout.

    Attributes
    ----------
    parameter, rule, loss : str
        What was trained, and how.
    lr : float
    steps : int
    W : ndarray, shape ([B,] d, d), or None
        Final W, where W was trained; formed when first asked for.
    p : ndarray, shape ([B,] d), or None
        Final p, where p was trained.
    left, right : ndarray, shapes ([B,] s, d) and ([B,] s, e), or None
        Factors with W = left' right, s at most the number of inputs where that is below d, for a
        run whose W is too large to be formed (e = 1 for p). None if a start other than zero has a
        part outside the spans of tokens and queries.
    attention : ndarray, shape ([B,] n, T)
        Softmax weights at the final parameters, 0 at padding.
    log_attention : ndarray, shape ([B,] n, T)
        Their logarithms, exact also where the weights underflow; -inf at padding.
    selected : ndarray of int64, shape ([B,] n)
        Token with the largest final weight (the first of equals).
    history : dict of ndarray
        ``"step"`` (R,) are the recorded steps: step k is the iterate after k updates. The others
        have shape ([B,] R): ``"loss"``; ``"loss_gap"``, loss less its infimum; ``"norm"``, of the
        parameter; ``"grad_norm"`` and ``"log_grad_norm"``; ``"max_attention"``, the largest weight
        of an input, averaged over inputs; for each reference ``"cosine"`` and ``"cosine_gap"``
        (1 - cosine without cancellation), with ``":name"`` behind for named references. The zero
        iterate points nowhere and has cosine 0.
    """

    parameter: str
    rule: str
    loss: str
    lr: float
    steps: int
    trained: Trained
    attention: NDArray[np.float64]
    log_attention: NDArray[np.float64]
    selected: NDArray[np.int64]
    history: dict[str, NDArray[np.float64] | NDArray[np.int64]]

    @cached_property
    def direction(self) -> NDArray[np.float64]:
        """The trained parameter, `W` or `p`, whose direction the theory is about."""
        return self.trained.dense()

    @property
    def W(self) -> NDArray[np.float64] | None:
        """Final W ([B,] d, d), where W was trained."""
        return self.direction if self.parameter == "W" else None

    @property
    def p(self) -> NDArray[np.float64] | None:
        """Final p ([B,] d), where p was trained."""
        return self.direction if self.parameter == "p" else None

    @cached_property
    def _factors(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        return self.trained.factors()

    @property
    def left(self) -> NDArray[np.float64] | None:
        """Left factor ([B,] s, d) of W = left' right."""
        return None if self._factors is None else self._factors[0]

    @property
    def right(self) -> NDArray[np.float64] | None:
        """Right factor ([B,] s, e) of W = left' right."""
        return None if self._factors is None else self._factors[1]

    def __repr__(self) -> str:
        shape = "x".join(str(size) for size in self.trained.problem.parameter_shape)
        return (
            f"Run(parameter={self.parameter!r} {shape}, rule={self.rule!r}, lr={self.lr:g}, "
            f"loss={self.loss!r}, steps={self.steps}, {self.history['step'].size} recorded)"
        )
