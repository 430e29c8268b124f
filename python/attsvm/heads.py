"""Heads: functions from the attended mixture of tokens to a prediction.

A head is one class here, and one struct in the core (`heads.hpp`) under the name of its `kind`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attsvm import _core
from attsvm._arrays import ArrayLike, Float64Array, FloatArray, IndexArray
from attsvm._validation import (
    ReadOnlyArrays,
    as_float_array,
    as_index_array,
    as_nonnegative_float,
    first_index,
    number_text,
    require_all,
    require_range,
    require_shape,
)
from attsvm.data import AttentionData

__all__ = ["Head", "LinearScores", "Penalised", "ReLU", "Softmax"]


class CoreHead(NamedTuple):
    """Arrays of a head of `data`, as the core takes them."""

    kind: str  # the core's name of the head
    data: AttentionData
    # ([B,] n, T): Token scores of a fixed linear head, labels included.
    scores: NDArray[Any] | None = None
    vector: NDArray[Any] | None = None  # (B, k): v, or the weights of the hidden units
    hidden: NDArray[Any] | None = None  # (B, m, d): hidden units, or classes
    # ([B,] n): The right classes; by default the labels of the data.
    labels: NDArray[Any] | None = None
    penalty: float = 0.0
    trained: bool = False  # whether v, the start in `vector`, is trained
    tabled: bool = False  # whether `scores` are given, and not those of the data's value

    @property
    def linear(self) -> bool:
        """Whether the prediction is linear in the mixture of tokens."""
        return self.kind in ("fixed", "linear")

    @property
    def other_head(self) -> str | None:
        """What it is, in words, where not v'o with the data's value or a trained v; else None."""
        if not self.linear:
            return "not linear"
        return "a table of scores" if self.tabled else None

    def scored(self, tokens: NDArray[Any], lengths: NDArray[np.int64], threads: int) -> CoreHead:
        """Return a linear head that is not trained as the scores that it gives tokens (B, s, T, d).

        Else the core computes them, with the first read of the tokens.
        """
        if self.kind != "linear" or self.trained:
            return self
        data = self.data
        scores = _core.token_scores(
            tokens=tokens,
            labels=_float64(data.labels.reshape(-1, data.n)),
            value=_float64(value_of(data).reshape(-1, data.d)),
            lengths=lengths,
            sequence=data.sequence_index,
            threads=threads,
        )
        return CoreHead("fixed", data, scores=scores.reshape(*data.labels.shape, data.T))

    def in_basis(self, basis: Float64Array) -> CoreHead:
        """Return the head of tokens in coordinates of the orthonormal rows (B, k, d) of `basis`."""
        if self.hidden is not None:
            return self._replace(hidden=self.hidden @ np.swapaxes(basis, 1, 2))
        if self.vector is not None:
            return self._replace(vector=(basis @ self.vector[..., np.newaxis])[..., 0])
        return self

    def to_core(self) -> _core.Head:
        """Return the arrays, with a batch axis."""
        labels = self.data.labels if self.labels is None else self.labels
        B, scores, vector = self.data.batch or 1, self.scores, self.vector
        return _core.Head(
            kind=self.kind,
            scores=None if scores is None else _float64(scores.reshape(B, *scores.shape[-2:])),
            labels=_float64(labels.reshape(B, -1)),
            vector=None if vector is None else _float64(vector.reshape(B, -1)),
            hidden=None if self.hidden is None else _float64(self.hidden),
            penalty=self.penalty,
            trained=self.trained,
        )


def broadcast_to_batch(
    name: str, array: NDArray[Any], text: str, one: tuple[int, ...], data: AttentionData
) -> NDArray[Any]:
    """Return `array` with the batch axis of `data`; an array of shape `one` serves all problems."""
    B = data.batch or 1
    if data.batch is None or array.ndim == len(one):
        require_shape(name, array, text, one)
    else:
        require_shape(name, array, f"(B, {text[1:]}", (B, *one))
    return np.broadcast_to(array, (B, *one))


class Head(ReadOnlyArrays, ABC):
    """A head that stays as it is while attention is trained."""

    kind: ClassVar[str]
    """The core's name of the head."""
    margins: ClassVar[str] = "real"
    """What its margins are: of the losses, those of the same kind of margins fit."""
    smooth: ClassVar[bool] = False
    """Whether it has `prediction`, `gradient` and `curvature`, for methods of second order."""

    @abstractmethod
    def core_head(self, data: AttentionData) -> CoreHead:
        """Check the head's arrays against `data`, and lay them out for the core."""

    def prediction(self, mixtures: Float64Array) -> Float64Array:
        """Compute h of mixtures (n, d), shape (n,)."""
        raise NotImplementedError

    def gradient(self, mixtures: Float64Array) -> Float64Array:
        """Compute the gradient of h at mixtures (n, d), shape (n, d)."""
        raise NotImplementedError

    def curvature(self, mixtures: Float64Array, changes: Float64Array) -> Float64Array:
        """Multiply the Hessian of h at each mixture with a vector of each, (n, d) to (n, d)."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, init=False)
class LinearScores(Head):
    """A fixed linear head given by its token scores gamma_it = Y_i v'x_it.

    It stands for a head that reads other coordinates of a token than its key has: attention sees
    the tokens of the data, the loss of input i is l(sum_t s_it gamma_it). In the two-dimensional
    figures of "Max-Margin Token Selection" every token has a key and, apart from it, a score.

    Parameters
    ----------
    scores : array_like, shape ([B,] n, T)
        Token scores, labels included. Entries at padding are not used.
    """

    scores: FloatArray

    def __init__(self, scores: ArrayLike) -> None:
        array = as_float_array("scores", scores, "(n, T) or (B, n, T)", ndim=(2, 3))
        object.__setattr__(self, "scores", array)

    kind = "fixed"

    def core_head(self, data: AttentionData) -> CoreHead:
        """Lay out the scores, 0 at padding."""
        text = "(n, T)" if data.batch is None else "(B, n, T)"
        require_shape("head", self.scores, text, data.valid.shape)
        scores = np.where(data.valid, self.scores, 0.0)
        return CoreHead(self.kind, data, scores=scores, tabled=True)


@dataclass(frozen=True, eq=False, init=False)
class ReLU(Head):
    """A network with one hidden layer: h(o) = w' max(V'o, 0) of the mixture o.

    Its prediction for input i is h(o_i), its margin Y_i h(o_i). Where a hidden unit is exactly 0,
    its slope is taken as 0.

    Parameters
    ----------
    hidden : array_like, shape ([B,] d, m)
        V, one column for each of the m hidden units.
    weights : array_like, shape ([B,] m), optional
        w, all 1 by default, as in "Transformers as Support Vector Machines".
    """

    hidden: FloatArray
    weights: FloatArray

    def __init__(self, hidden: ArrayLike, weights: ArrayLike | None = None) -> None:
        V = as_float_array("hidden", hidden, "(d, m) or (B, d, m)", ndim=(2, 3))
        *lead, _, m = V.shape
        given = np.ones((*lead, m)) if weights is None else weights
        text = "(B, m)" if lead else "(m,)"
        w = as_float_array("weights", given, text, shape=(*lead, m))
        object.__setattr__(self, "hidden", V)
        object.__setattr__(self, "weights", w)

    kind = "relu"
    smooth = True

    def core_head(self, data: AttentionData) -> CoreHead:
        """Lay out V' and w."""
        m = self.hidden.shape[-1]
        hidden = broadcast_to_batch("head", self.hidden, "(d, m)", (data.d, m), data)
        weights = broadcast_to_batch("head", self.weights, "(m,)", (m,), data)
        return CoreHead(self.kind, data, vector=weights, hidden=np.swapaxes(hidden, 1, 2))

    def prediction(self, mixtures: Float64Array) -> Float64Array:
        """Compute w' max(V'o, 0)."""
        return np.asarray(np.maximum(mixtures @ self.hidden, 0.0) @ self.weights)

    def gradient(self, mixtures: Float64Array) -> Float64Array:
        """Compute V (w ∘ [V'o > 0])."""
        active = mixtures @ self.hidden > 0
        return np.asarray((active * self.weights) @ self.hidden.T)

    def curvature(self, mixtures: Float64Array, changes: Float64Array) -> Float64Array:
        """Return 0: it is linear but for its kinks."""
        return np.zeros_like(changes)


@dataclass(frozen=True, eq=False, init=False)
class Penalised(Head):
    """A linear head with a penalty on the mixture: h(o) = v'o - λ|o|².

    Its margin for input i is Y_i h(o_i). With λ > 0 attention stays spread over several tokens
    where their scores are near each other ("Transformers as Support Vector Machines").

    Parameters
    ----------
    value : array_like, shape ([B,] d)
        v.
    penalty : float
        λ >= 0.
    """

    value: FloatArray
    penalty: float

    def __init__(self, value: ArrayLike, penalty: float) -> None:
        v = as_float_array("value", value, "(d,) or (B, d)", ndim=(1, 2))
        object.__setattr__(self, "value", v)
        object.__setattr__(self, "penalty", as_nonnegative_float("penalty", penalty))

    kind = "penalised"
    smooth = True

    def core_head(self, data: AttentionData) -> CoreHead:
        """Lay out v and λ."""
        vector = broadcast_to_batch("head", self.value, "(d,)", (data.d,), data)
        return CoreHead(self.kind, data, vector=vector, penalty=self.penalty)

    def prediction(self, mixtures: Float64Array) -> Float64Array:
        """Compute v'o - λ|o|²."""
        square = np.sum(mixtures**2, axis=1)
        return np.asarray(mixtures @ self.value - self.penalty * square)

    def gradient(self, mixtures: Float64Array) -> Float64Array:
        """Compute v - 2λ o."""
        return np.asarray(self.value - 2.0 * self.penalty * mixtures)

    def curvature(self, mixtures: Float64Array, changes: Float64Array) -> Float64Array:
        """Multiply with -2λ."""
        return -2.0 * self.penalty * changes


@dataclass(frozen=True, eq=False, init=False)
class Softmax(Head):
    """Classes by their logits C o: the margin is the log-probability of the right class.

    With the cross-entropy loss this is the language model's head. Labels of the data are not used.
    In "Mechanics of Next Token Prediction" C is the embedding itself, for local convergence.

    Parameters
    ----------
    classes : array_like, shape ([B,] K, d)
        C, one row for each class.
    targets : array_like of int, shape ([B,] n)
        The right class of each input, 0 to K - 1.
    """

    classes: FloatArray
    targets: IndexArray

    def __init__(self, classes: ArrayLike, targets: ArrayLike) -> None:
        C = as_float_array("classes", classes, "(K, d) or (B, K, d)", ndim=(2, 3))
        right = as_index_array("targets", targets, "(n,) or (B, n)", ndim=(1, 2))
        require_range("targets", right, 0, C.shape[-2] - 1)
        object.__setattr__(self, "classes", C)
        object.__setattr__(self, "targets", right)

    kind = "softmax"
    margins = "log_probability"

    def core_head(self, data: AttentionData) -> CoreHead:
        """Lay out C and the right classes."""
        K = self.classes.shape[-2]
        classes = broadcast_to_batch("head", self.classes, "(K, d)", (K, data.d), data)
        require_shape("head", self.targets, "([B,] n)", data.labels.shape)
        return CoreHead(self.kind, data, hidden=classes, labels=self.targets)


def fixed_head(
    data: AttentionData,
    head: Head | None,
    loss: str,
    tokens: NDArray[Any],
    lengths: IndexArray,
    threads: int,
    *,
    scored: bool,
) -> CoreHead:
    """Lay out `head`, or the linear head of `data`, whose `tokens` and `lengths` have a batch axis.

    It is an error if it is no head of this data, or the loss not one of its margins. `scored` says
    that the scores are needed before the core reads all tokens.
    """
    require_loss_of_head(loss, head)
    made = CoreHead("linear", data, vector=value_of(data)) if head is None else head.core_head(data)
    if scored or _core.losses[loss].margins == "attention":
        made = made.scored(tokens, lengths, threads)
    if made.scores is not None:
        require_scores_of_loss("value" if head is None else "head", made.scores, loss)
    return made


def trained_head(name: str, start: Any, data: AttentionData) -> CoreHead:
    """Lay out the linear head v'o, trained from `start`: by default the data's value, or 0."""
    if start is None:
        start = np.zeros(data.d) if data.value is None else data.value
    batched = data.batch is not None
    text = "(d,) or (B, d)" if batched else "(d,)"
    v = as_float_array(name, start, text, ndim={1, 1 + batched})
    vector = broadcast_to_batch(name, v, "(d,)", (data.d,), data)
    return CoreHead("linear", data, vector=vector, trained=True)


def value_of(data: AttentionData, name: str = "data") -> FloatArray:
    """Return the vector of the linear head of `data`; `ValueError` without one."""
    if data.value is None:
        raise ValueError(
            f"value: needed for the linear head, got {name} without a value; "
            "data.with_value(v) gives one, and parameters that begin with 'v+' train it"
        )
    return data.value


def require_loss_of_head(loss: str, head: object, *, trained: bool = False) -> None:
    """Raise an error where `head` is no head, or the loss is not one of its margins."""
    if not (head is None or isinstance(head, Head)):
        *names, last = (kind.__name__ for kind in Head.__subclasses__())
        raise TypeError(
            f"head: expected None, {', '.join(names)} or {last}, got {type(head).__name__}"
        )
    of_loss = _core.losses[loss].margins
    of_head = "real" if head is None else head.margins
    if (of_loss == "log_probability") != (of_head == "log_probability"):
        fit = [repr(name) for name, one in _core.losses.items() if one.margins == of_head]
        softmax = of_head == "log_probability"
        wanted = f"{' or '.join(fit)} with" if softmax else "another one without"
        raise ValueError(f"loss: expected {wanted} a Softmax head, got {loss!r}")
    fixed = not trained and (head is None or isinstance(head, LinearScores))
    if of_loss == "attention" and not fixed:
        raise ValueError(
            f"loss: expected another one where the head is not fixed and linear, got {loss!r}"
        )


def require_scores_of_loss(source: str, scores: NDArray[Any], loss: str) -> None:
    """Raise `ValueError` for token scores ([B,] n, T), 0 at padding, which the loss cannot bear."""
    if _core.losses[loss].margins == "attention":
        wanted = f"token scores of 0 or more with the {loss} loss"
        require_all(source, ~(scores < 0), scores, wanted)
        without = np.asarray(~(scores > 0).any(axis=-1))
        if without.any():
            *b, i = first_index(without)
            raise ValueError(
                f"{source}: expected a token of positive score in every input with the {loss} "
                f"loss, got none in input {i} of problem {b[0] if b else 0}"
            )
    require_largest_score(source, float(max(scores.max(), -scores.min())), loss)


def require_largest_score(source: str, largest: float, loss: str) -> None:
    """Raise `ValueError` where token scores are larger than the loss can bear."""
    most = _core.losses[loss].largest_score
    if largest > most:
        raise ValueError(
            f"{source}: expected token scores up to {number_text(most)} with the {loss} loss, "
            f"got {number_text(largest)}; scale the {source}"
        )


def _float64(array: NDArray[Any]) -> Float64Array:
    return np.ascontiguousarray(array, dtype=np.float64)
