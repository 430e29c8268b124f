"""The head as the core takes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attsvm import _core
from attsvm._validation import as_float_array, require_shape
from attsvm.data import AttentionData
from attsvm.heads import Head, LinearScores, Penalised, ReLU, Softmax

__all__ = ["CoreHead", "require_loss_of_head", "require_right_tokens"]

_OF_SOFTMAX = ("cross_entropy", "squared")

# exp(±2 · 300) is a float64 with room to spare, whatever the losses multiply it with.
_LARGEST_SCORE = 300.0


@dataclass(frozen=True, eq=False)
class CoreHead:
    """Arrays of a head, with a batch axis; those that its kind does not need are empty.

    Attributes
    ----------
    kind : {"fixed", "linear", "relu", "penalised", "softmax"}
    scores : ndarray, shape (B, n, T)
        Token scores of a fixed linear head, labels included.
    labels : ndarray, shape (B, n)
        ±1, or with a softmax head the right classes.
    vector : ndarray, shape (B, k)
        v, or the weights of the hidden units.
    hidden : ndarray, shape (B, m, d)
        Hidden units, or classes.
    penalty : float
    trained : bool
        Whether v, the start in `vector`, is trained.
    """

    kind: str
    scores: NDArray[np.float64]
    labels: NDArray[np.float64]
    vector: NDArray[np.float64]
    hidden: NDArray[np.float64]
    penalty: float = 0.0
    trained: bool = False

    @classmethod
    def fixed(
        cls,
        data: AttentionData,
        head: Head | None,
        tokens: NDArray[Any],
        lengths: NDArray[np.int64],
        loss: str,
        threads: int,
    ) -> CoreHead:
        """The head of `data`, or the one given."""
        if isinstance(head, ReLU):
            hidden = _of_every_problem(
                "head", head.hidden, "(d, m)", (data.d, head.hidden.shape[-1]), data
            )
            weights = _of_every_problem("head", head.weights, "(m,)", head.weights.shape[-1:], data)
            return cls._of_kind("relu", data, weights, np.swapaxes(hidden, 1, 2))
        if isinstance(head, Softmax):
            K = head.classes.shape[-2]
            hidden = _of_every_problem("head", head.classes, "(K, d)", (K, data.d), data)
            require_shape("head", head.targets, "([B,] n)", data.labels.shape)
            nothing = np.empty((hidden.shape[0], 0))
            made = cls._of_kind("softmax", data, nothing, hidden)
            return replace(made, labels=_batched(head.targets, data))
        if isinstance(head, Penalised):
            value = _of_every_problem("head", head.value, "(d,)", (data.d,), data)
            return cls._of_kind("penalised", data, value, penalty=head.penalty)
        if head is None:
            if data.value is None:
                raise ValueError("value: needed for the linear head, got data without a value")
            source = "value"
            scores = _core.token_scores(
                tokens=tokens,
                labels=_batched(data.labels, data),
                value=_batched(data.value, data),
                lengths=lengths,
                sequence=data.sequence_index,
                threads=threads,
            )
        elif isinstance(head, LinearScores):
            source = "head"
            text = "(n, T)" if data.batch is None else "(B, n, T)"
            require_shape("head", head.scores, text, data.valid.shape)
            scores = _batched(np.where(data.valid, head.scores, 0.0), data)
        else:
            raise TypeError(
                "head: expected None, LinearScores, ReLU, Penalised or Softmax, got "
                f"{type(head).__name__}"
            )
        if loss == "log":
            require_right_tokens(source, scores)
        largest = float(np.abs(scores).max())
        if loss in ("logistic", "exponential") and largest > _LARGEST_SCORE:
            raise ValueError(
                f"{source}: expected token scores up to {_LARGEST_SCORE:g} with the {loss} loss, "
                f"got {largest:g}; scale the {source}"
            )
        B = tokens.shape[0]
        return cls("fixed", scores, np.empty((B, 0)), np.empty((B, 0)), np.empty((B, 0, 0)))

    @classmethod
    def trained_from(cls, name: str, start: Any, data: AttentionData) -> CoreHead:
        """The linear head v'o, to be trained from `start`: by default the data's value, or 0."""
        if start is None:
            start = np.zeros(data.d) if data.value is None else data.value
        batched = data.batch is not None
        text = "(d,) or (B, d)" if batched else "(d,)"
        v = as_float_array(name, start, text, ndim={1, 1 + batched})
        vector = _of_every_problem(name, v, "(d,)", (data.d,), data)
        return replace(cls._of_kind("linear", data, vector), trained=True)

    @classmethod
    def _of_kind(
        cls,
        kind: str,
        data: AttentionData,
        vector: NDArray[Any],
        hidden: NDArray[Any] | None = None,
        penalty: float = 0.0,
    ) -> CoreHead:
        B = vector.shape[0]
        units = np.empty((B, 0, 0)) if hidden is None else hidden
        return cls(
            kind,
            np.empty((B, 0, 0)),
            _batched(data.labels, data),
            np.ascontiguousarray(vector, dtype=np.float64),
            np.ascontiguousarray(units, dtype=np.float64),
            penalty,
        )

    @property
    def linear(self) -> bool:
        """Whether the prediction is linear in the mixture of tokens."""
        return self.kind in ("fixed", "linear")

    def in_basis(self, basis: NDArray[np.float64]) -> CoreHead:
        """The head of tokens that stand in coordinates of the orthonormal rows of `basis`."""
        if self.kind in ("relu", "softmax"):
            return replace(self, hidden=self.hidden @ np.swapaxes(basis, 1, 2))
        if self.kind == "penalised":
            return replace(self, vector=(basis @ self.vector[..., np.newaxis])[..., 0])
        return self

    @property
    def core_arguments(self) -> dict[str, Any]:
        """The arrays under the names that the core gives them."""
        return {
            "head_kind": self.kind,
            "scores": self.scores,
            "labels": self.labels,
            "vector": self.vector,
            "hidden": self.hidden,
            "penalty": self.penalty,
            "trains_head": self.trained,
        }


def require_loss_of_head(loss: str, head: Head | None, *, trained: bool) -> None:
    """Raise `ValueError` where the loss is not one of the margins that the head makes."""
    softmax = isinstance(head, Softmax)
    if softmax != (loss in _OF_SOFTMAX):
        wanted = "'cross_entropy' or 'squared' with" if softmax else "another one without"
        raise ValueError(f"loss: expected {wanted} a Softmax head, got {loss!r}")
    if loss == "log" and (trained or not (head is None or isinstance(head, LinearScores))):
        raise ValueError(
            "loss: expected another one where the head is not fixed and linear, got 'log'"
        )


def require_right_tokens(source: str, scores: NDArray[np.float64]) -> None:
    """-log of the margin exists for scores >= 0 with one above 0 in every input."""
    if (scores < 0).any():
        raise ValueError(f"{source}: expected token scores of 0 or more with the log loss")
    without = ~(scores > 0).any(axis=2)
    if without.any():
        b, i = (int(at) for at in np.argwhere(without)[0])
        raise ValueError(
            f"{source}: expected a token of positive score in every input with the log loss, got "
            f"none in input {i} of problem {b}"
        )


def _batched(array: NDArray[Any], data: AttentionData) -> NDArray[np.float64]:
    """float64, with a batch axis."""
    given = array if data.batch is not None else array[np.newaxis]
    return np.ascontiguousarray(given, dtype=np.float64)


def _of_every_problem(
    name: str, array: NDArray[Any], text: str, one: tuple[int, ...], data: AttentionData
) -> NDArray[Any]:
    """`array` with a batch axis; an array of shape `one` serves all problems."""
    B = data.batch or 1
    lead = () if array.ndim == len(one) else (B,)
    if data.batch is None or not lead:
        require_shape(name, array, text, one)
    else:
        require_shape(name, array, f"(B, {text[1:]}", (B, *one))
    return np.broadcast_to(array, (B, *one))
