"""What a training run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attsvm.descent.blocks import Blocks
from attsvm.descent.by_ids import TrainedByIds
from attsvm.descent.problem import CoreProblem, Parameter
from attsvm.descent.step_rule import StepRule

__all__ = ["Run", "Trained"]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained parameter in the coordinates it was trained in, until it is asked for.

    Attributes
    ----------
    problem : CoreProblem
        Knows the coordinates.
    parameter : Parameter
        In them.
    """

    problem: CoreProblem
    parameter: Parameter

    @property
    def blocks(self) -> Blocks:
        """What was trained."""
        return self.problem.blocks

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of W or p as the caller knows it."""
        return self.problem.parameter_shape

    def dense(self) -> NDArray[np.float64]:
        """W ([B,] d, d), also where it is K Q', or p ([B,] d)."""
        if self.parameter.second.size:
            left, right = self.problem.factors(self.parameter)
            product: NDArray[np.float64] = np.swapaxes(left, -1, -2) @ right
            return product
        return self.problem.as_caller_parameter(self.parameter.first, self.parameter.rest)

    def factors(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """(left, right) with W = left' right; None where the start left a part outside."""
        return None if self.parameter.rest is not None else self.problem.factors(self.parameter)


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """The end of a run of gradient descent, and its record.

    A batch has a leading axis B throughout.

    Attributes
    ----------
    parameter : str, or pair of str
        What was trained, as `train` takes it.
    rule, loss : str
        How.
    step_rule : StepRule
        The rule with its settings.
    lr : dict of float
        By block: ``"W"``, ``"p"``, ``"K"``, ``"Q"``, ``"v"``.
    steps : int
    W : ndarray, shape ([B,] d, d), or None
        Final W, or K Q' where these were trained; formed when first asked for.
    p : ndarray, shape ([B,] d), or None
        Final p, where p was trained.
    K, Q : ndarray, shape ([B,] d, m), or None
        Final factors, where K and Q were trained.
    v : ndarray, shape ([B,] d), or None
        Final head, where it was trained.
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
        have shape ([B,] R): ``"loss"``; ``"loss_gap"``, loss less its infimum, where this is known;
        ``"norm"``, of the attention parameter; ``"norm:v"``, of a trained head; ``"grad_norm"`` and
        ``"log_grad_norm"``; ``"max_attention"``, the largest weight of an input, averaged over
        inputs; for each reference ``"cosine"`` and ``"cosine_gap"`` (1 - cosine without
        cancellation), with ``":name"`` behind for named references. The zero iterate points nowhere
        and has cosine 0. A certified run has ``"margin"``, the least that the logit of the top
        token of an input stands above its others, inf where no input has others;
        ``"certified_cosine"``, a lower bound on the cosine of the iterate with the SVM of the
        tokens on top at that step, -1 where there is none; and ``"settled"``, whether those are the
        tokens selected at the end. A run of gradient flow on K and Q has ``"balance_drift"``: by
        how much K'K - Q'Q, which the flow keeps, has changed since the start, over |K|² + |Q|².
    """

    parameter: str | tuple[str, str]
    rule: str
    step_rule: StepRule
    loss: str
    lr: dict[str, float]
    steps: int
    trained: Trained | TrainedByIds
    v: NDArray[np.float64] | None
    attention: NDArray[np.float64]
    log_attention: NDArray[np.float64]
    selected: NDArray[np.int64]
    history: dict[str, NDArray[Any]]

    @property
    def attention_parameter(self) -> str:
        """`parameter` without the head."""
        return self.trained.blocks.attention

    @cached_property
    def direction(self) -> NDArray[np.float64]:
        """`W` or `p`, whose direction the theory is about."""
        return self.trained.dense()

    @property
    def W(self) -> NDArray[np.float64] | None:
        """Final W ([B,] d, d), where W or its factors were trained."""
        return None if self.attention_parameter == "p" else self.direction

    @property
    def p(self) -> NDArray[np.float64] | None:
        """Final p ([B,] d), where p was trained."""
        return self.direction if self.attention_parameter == "p" else None

    @property
    def K(self) -> NDArray[np.float64] | None:
        """Final K ([B,] d, m), where the factors of W = K Q' were trained."""
        if self.attention_parameter != "KQ" or self.left is None:
            return None
        K: NDArray[np.float64] = np.swapaxes(self.left, -1, -2)
        return K

    @property
    def Q(self) -> NDArray[np.float64] | None:
        """Final Q ([B,] d, m), where the factors of W = K Q' were trained."""
        if self.attention_parameter != "KQ" or self.right is None:
            return None
        Q: NDArray[np.float64] = np.swapaxes(self.right, -1, -2)
        return Q

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

    @property
    def speed_limit_share(self) -> NDArray[np.float64] | None:
        """Whether Adam's memory holds it back, shape ([B]); None for other rules.

        The decrease of log |gradient| per step, over the second half of the records, divided by
        ½ log(1/β2). Once every input has selected a token this is how fast the smallest margin
        grows, at most min(η/N*, ½ log(1/β2)), with N* the norm of the SVM in the max norm: the root
        of the mean square fades no faster. Far below 1 the steps are those of signs and W goes to
        that SVM; near 1 they are those of a preconditioner left from old gradients.
        """
        if self.rule not in ("adam", "adamw"):
            return None
        assert self.step_rule.betas is not None
        steps, log_norm = self.history["step"], self.history["log_grad_norm"]
        half = (steps.size - 1) // 2
        with np.errstate(divide="ignore"):
            limit = -0.5 * np.log(self.step_rule.betas[1])
        fall = (log_norm[..., half] - log_norm[..., -1]) / max(1, steps[-1] - steps[half])
        share: NDArray[np.float64] = fall / limit
        return share

    def __repr__(self) -> str:
        shape = "x".join(str(size) for size in self.trained.parameter_shape)
        rates = " and ".join(f"{rate:g}" for rate in dict.fromkeys(self.lr.values()))
        return (
            f"Run(parameter={self.parameter!r} {shape}, rule={self.rule!r}, lr={rates}, "
            f"loss={self.loss!r}, steps={self.steps}, {self.history['step'].size} recorded)"
        )
