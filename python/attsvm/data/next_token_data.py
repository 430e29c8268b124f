"""Next-token prediction: contexts of token ids, and the id that comes after each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from attsvm._arrays import ArrayLike, BoolArray, FloatArray, IndexArray
from attsvm._validation import (
    as_float_array,
    as_index_array,
    as_instance,
    read_only,
    require_range,
    require_shape,
)
from attsvm.data.attention_data import AttentionData
from attsvm.data.batch_axis import BatchAxis, as_subset, require_one_problem

_ROUNDING = 1e-12
_LARGEST_LOOK_UP = 2**31 - 1
_OF_CONTEXTS = ("contexts", "labels", "lengths", "last")


@dataclass(frozen=True, eq=False, init=False, repr=False)
class NextTokenData(BatchAxis):
    """Contexts over a vocabulary of K tokens, each with the token that follows.

    Context i is a sequence X_i of tokens x_it, given by their ids, with a label y_i, the id of the
    next token. The last token is the query: attention weighs the context by softmax(X_i W e_k), k
    the last id, e_j the embedding of id j. Ids may be repeated in a context. Contexts, labels and
    lengths may carry one leading axis of length B: B independent problems. The model is that of
    "Mechanics of Next Token Prediction with Self-Attention".

    Parameters
    ----------
    embeddings : array_like, shape (K, d) or (B, K, d)
        e_j. float64 or float32 (integers become float64). One (K, d) table given with a batch
        serves all of its problems.
    contexts : array_like of int, shape (n, T) or (B, n, T), or sequence of sequences of int
        Ids in 0..K-1. Sequences of different length make one problem; they are kept padded.
    labels : array_like of int, shape ([B,] n)
        y_i in 0..K-1.
    lengths : array_like of int, shape ([B,] n), optional
        Number of valid tokens of each context, 1 to T; all T when not given. The ids after them are
        padding: never used, but in 0..K-1 like the others.
    last : array_like of int, shape ([B,] n), optional
        Query ids, where these are not the last valid tokens: contexts that lost theirs, see
        `attsvm.theory.cyclic_subset`.
    vocabulary : sequence of K str, optional
        What the ids stand for.

    Attributes
    ----------
    embeddings : ndarray, shape (K, d) or (B, K, d)
    contexts : ndarray of int64, shape ([B,] n, T)
    labels, lengths, last : ndarray of int64, shape ([B,] n)
        All are C-contiguous and read-only. What is used as an index is a copy, so that it stays
        what was checked.
    vocabulary : ndarray of str, shape (K,), or None

    Examples
    --------
    >>> import numpy as np
    >>> NextTokenData(np.eye(3), [[0, 1, 2], [1, 2]], [0, 2])
    NextTokenData(K=3, d=3, n=2, T=3, dtype=float64, lengths 2..3)
    """

    embeddings: FloatArray
    contexts: IndexArray
    labels: IndexArray
    lengths: IndexArray
    last: IndexArray
    vocabulary: npt.NDArray[np.str_] | None

    def __init__(
        self,
        embeddings: ArrayLike,
        contexts: ArrayLike,
        labels: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        last: ArrayLike | None = None,
        vocabulary: Sequence[str] | npt.NDArray[np.str_] | None = None,
    ) -> None:
        e = as_float_array("embeddings", embeddings, "(K, d) or (B, K, d)", ndim=(2, 3))
        if lengths is None:
            contexts, lengths = _padded(contexts)
        x = as_index_array("contexts", contexts, "(n, T) or (B, n, T)", ndim=(2, 3))
        *lead, n, T = x.shape
        if e.ndim == 3:
            require_shape("embeddings", e, "(B, K, d)", (*(lead or ("B",)), *e.shape[1:]))
        K = e.shape[-2]
        text = "(B, n)" if lead else "(n,)"

        def of_contexts(name: str, array: ArrayLike, low: int, high: int) -> IndexArray:
            result = as_index_array(name, array, text, shape=(*lead, n))
            require_range(name, result, low, high)
            return result

        require_range("contexts", x, 0, K - 1)
        y = of_contexts("labels", labels, 0, K - 1)
        if lengths is None:
            counts = np.full((*lead, n), T, dtype=np.int64)
        else:
            counts = of_contexts("lengths", lengths, 1, T)
        if last is None:
            queries = np.take_along_axis(x, counts[..., np.newaxis] - 1, axis=-1)[..., 0]
        else:
            queries = of_contexts("last", last, 0, K - 1)
        names = None if vocabulary is None else _as_vocabulary(vocabulary, K)
        self.__setstate__(
            {
                **{"embeddings": e, "contexts": x, "labels": y},
                **{"lengths": counts, "last": queries, "vocabulary": names},
            }
        )

    def _facts(self) -> dict[str, str]:
        sizes = {"vocabulary K": self.K, "dimension d": self.d}
        missing = int(np.sum(~self.realizable))
        return {
            **self._sizes({**sizes, "contexts n": self.n, "tokens T": self.T}),
            "labels not in their context": f"{missing:,}",
            "stored as": str(self.dtype),
        }

    def __repr__(self) -> str:
        sizes = {"K": self.K, "d": self.d, "n": self.n, "T": self.T, "dtype": self.dtype}
        missing = int(np.sum(~self.realizable))
        note = f"{missing} of {self.labels.size} labels not in their context"
        return self._described(sizes, *([note] if missing else []))

    @property
    def K(self) -> int:
        """Size of the vocabulary."""
        return int(self.embeddings.shape[-2])

    @property
    def d(self) -> int:
        """Dimension of an embedding."""
        return int(self.embeddings.shape[-1])

    @property
    def T(self) -> int:
        """Number of tokens of a context, padding included."""
        return int(self.contexts.shape[-1])

    @property
    def dtype(self) -> np.dtype[np.float64] | np.dtype[np.float32]:
        """float64 or float32, of the embeddings."""
        return self.embeddings.dtype

    @property
    def label_scores(self) -> FloatArray:
        """1 where a token is the label and 0 elsewhere, ([B,] n, T) float64.

        The attention that a context gives to its label is their mean under the softmax weights, so
        that ``heads.LinearScores(data.label_scores)`` is a head C with C E' = I.
        """
        is_label = self.contexts == self.labels[..., np.newaxis]
        return np.asarray(self.valid & is_label, dtype=np.float64)

    @cached_property
    def realizable(self) -> BoolArray:
        """([B,] n) bool, True where the label is in the context, which theory asks for."""
        return read_only(np.any(self.label_scores, axis=-1))

    @cached_property
    def orthonormal(self) -> bool:
        """True where the embeddings of every problem are orthonormal, to 1e-12."""
        if self.d < self.K:
            return False
        tables = self.embeddings.reshape(-1, self.K, self.d).astype(np.float64, copy=False)
        # Products of huge embeddings would overflow.
        return all(
            np.abs(e).max() <= 2 and np.abs(e @ e.T - np.eye(self.K)).max() <= _ROUNDING
            for e in tables
        )

    def as_attention(self) -> AttentionData:
        """Look up the tokens of the problem: keys e_{x_it}, queries e_k, labels +1.

        With the head ``LinearScores(data.label_scores)`` and the loss -log m it is this problem.

        Returns
        -------
        AttentionData
            Without a value, of at most 2**31 - 1 numbers.

        Examples
        --------
        >>> import numpy as np
        >>> NextTokenData(np.eye(3), [[0, 1]], [0]).as_attention().tokens[0]
        array([[1., 0., 0.],
               [0., 1., 0.]])
        """
        if self.contexts.size * self.d > _LARGEST_LOOK_UP:
            raise ValueError(
                f"contexts: expected at most 2**31 - 1 numbers when every token is looked up, got "
                f"{self.contexts.shape} tokens of dimension {self.d}"
            )
        return AttentionData(
            self.look_up(self.contexts),
            np.ones(self.labels.shape, dtype=self.dtype),
            queries=self.look_up(self.last),
            lengths=self.lengths,
        )

    def look_up(self, ids: ArrayLike) -> FloatArray:
        """Return the embeddings of ids of shape ([B,] ...)."""
        batched = self.embeddings.ndim == 3
        known = as_index_array("ids", ids, "([B,] ...)", ndim=range(batched, 65))
        require_range("ids", known, 0, self.K - 1)
        if not batched:
            return np.asarray(self.embeddings[known])
        require_shape("ids", known, "(B, ...)", (len(self.embeddings), *known.shape[1:]))
        problem = np.arange(len(known)).reshape(-1, *([1] * (known.ndim - 1)))
        return np.asarray(self.embeddings[problem, known])

    def _at(self, index: int | BoolArray | IndexArray | None) -> NextTokenData:
        arrays = {name: getattr(self, name)[index] for name in _OF_CONTEXTS}
        table = self.embeddings if self.embeddings.ndim == 2 else self.embeddings[index]
        data = object.__new__(NextTokenData)
        data.__setstate__({**arrays, "embeddings": table, "vocabulary": self.vocabulary})
        return data

    def subset(self, which: ArrayLike) -> NextTokenData:
        """Return the contexts of a single problem that are True in `which` (n,), one or more."""
        require_one_problem(self, "which")
        return self._at(as_subset(which, "n", self.n, "context"))


def as_next_token_data(data: object, name: str = "data") -> NextTokenData:
    """Return `data` if it is a `NextTokenData`, else raise `TypeError`."""
    return as_instance(name, data, NextTokenData)


def _padded(contexts: Any) -> tuple[Any, Any]:
    """Pad contexts of different length with id 0, and return their lengths too."""
    if not isinstance(contexts, list | tuple) or not all(
        isinstance(ids, list | tuple | np.ndarray) and np.ndim(ids) == 1 for ids in contexts
    ):
        return contexts, None
    counts = np.array([len(ids) for ids in contexts], dtype=np.int64)
    if counts.size == 0 or counts.min() == counts.max():
        return contexts, None
    if counts.min() == 0:
        raise ValueError(f"contexts[{counts.argmin()}]: expected at least one token, got none")
    rows = [as_index_array(f"contexts[{i}]", ids, "(T,)", ndim=1) for i, ids in enumerate(contexts)]
    padded = np.zeros((counts.size, counts.max()), dtype=np.int64)
    padded[np.arange(counts.max()) < counts[:, np.newaxis]] = np.concatenate(rows)
    return padded, counts


def _as_vocabulary(
    vocabulary: Sequence[str] | npt.NDArray[np.str_], K: int
) -> npt.NDArray[np.str_]:
    names = np.asarray(vocabulary)
    if names.dtype.kind == "O" and all(isinstance(name, str) for name in names.flat):
        names = names.astype(np.str_)
    if names.dtype.kind != "U":
        raise TypeError(f"vocabulary: expected K strings, got an array of dtype {names.dtype}")
    require_shape("vocabulary", names, "(K,)", (K,))
    for given, name in zip(vocabulary, names.tolist(), strict=True):
        if given != name:  # an array of text has no NUL at the end of an item
            raise ValueError(f"vocabulary: expected strings without NUL at the end, got {given!r}")
    return names
