"""One attention classification problem, or a batch of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import scipy

from attsvm._arrays import ArrayLike, BoolArray, Float64Array, FloatArray, IndexArray
from attsvm._validation import (
    NUMBERS,
    as_bool,
    as_float_array,
    as_index_array,
    as_instance,
    entry_count,
    read_only,
    require_all,
    require_range,
    require_shape,
    require_unmasked,
)
from attsvm.data.batch_axis import BatchAxis, as_subset, shape_of


@dataclass(frozen=True, eq=False, init=False, repr=False)
class AttentionData(BatchAxis):
    """Sequences of tokens with labels, queries and a value head, the training data of attention.

    Input i is a sequence X_i of T tokens x_it in R^d with a label Y_i, and a query z_i. Attention
    with a linear head predicts from f(X_i, z_i) = v' X_i' softmax(X_i W z_i) (or softmax(X_i p)).
    Every array may carry one leading axis of length B: B independent problems of one shape. The
    models are those of "Max-Margin Token Selection in Attention Mechanism" and "Transformers as
    Support Vector Machines".

    Parameters
    ----------
    tokens : array_like, shape (n, T, d) or (B, n, T, d)
        Key tokens x_it. float64 or float32 (integers become float64); this type is the type of the
        whole problem, and the other arrays are cast to it. An array that would need a copy of more
        than 2**31 - 1 numbers is a `ValueError`.
    labels : array_like, shape ([B,] n)
        Y_i, each -1 or +1.
    queries : array_like, shape ([B,] n, d), optional
        z_i. Needed where attention is parametrised by W. For self-attention these are the first
        tokens, ``tokens[..., 0, :]``.
    value : array_like, shape ([B,] d), optional
        The linear head v. One (d,) head given with a batch serves all of its problems.
    lengths : array_like of int, shape ([B,] n), optional
        Number of valid tokens of each input, 1 to T; all T when not given. The tokens after them
        are padding: never used, but finite like the others.
    sequence : array_like of int, shape (n,), optional
        Inputs that share tokens: input i has the tokens ``tokens[..., sequence[i], :, :]``, and the
        first axis of `tokens` counts sequences, not inputs. The same in every problem of a batch.
        `per_position` makes such data, with one input for every position of a sequence.

    Attributes
    ----------
    tokens, labels, queries, value : ndarray
        C-contiguous, read-only. Arrays which came C-contiguous and of the right type are views of
        the caller's memory, so a change made there is seen here.
    lengths : ndarray of int64, shape ([B,] n)
    sequence : ndarray of int64, shape (n,), or None
        Copies: what is used as an index stays what was checked.

    Examples
    --------
    >>> AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 1.0]], value=[1.0, 0.0])
    AttentionData(n=1, T=2, d=2, dtype=float64, with queries and value)
    """

    tokens: FloatArray
    labels: FloatArray
    queries: FloatArray | None
    value: FloatArray | None
    lengths: IndexArray
    sequence: IndexArray | None

    def __init__(
        self,
        tokens: ArrayLike,
        labels: ArrayLike,
        *,
        queries: ArrayLike | None = None,
        value: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        sequence: ArrayLike | None = None,
    ) -> None:
        x = _as_tokens(tokens)
        *lead, n, T, d = x.shape
        index = None
        if sequence is not None:
            index = as_index_array("sequence", sequence, "(n,)", ndim=1)
            require_range("sequence", index, 0, n - 1)
            n = index.size
        B = "B, " if lead else ""

        def fitting(
            name: str, array: ArrayLike, text: str, shape: tuple[int, ...], numbers: str = NUMBERS
        ) -> FloatArray:
            return as_float_array(name, array, text, shape=shape, dtype=x.dtype, numbers=numbers)

        per_input = f"({B}n)" if lead else "(n,)"
        y = fitting("labels", labels, per_input, (*lead, n), numbers="-1 or +1")
        require_all("labels", np.abs(y) == 1, y, "-1 or +1")
        z = None if queries is None else fitting("queries", queries, f"({B}n, d)", (*lead, n, d))
        v = None
        if value is not None and not lead:
            v = fitting("value", value, "(d,)", (d,))
        elif value is not None:
            v = as_float_array("value", value, "(d,) or (B, d)", ndim=(1, 2), dtype=x.dtype)
            if v.ndim == 1:
                require_shape("value", v, "(d,)", (d,))
                v = read_only(np.ascontiguousarray(np.broadcast_to(v, (*lead, d))))
            else:
                require_shape("value", v, "(B, d)", (*lead, d))
        if lengths is None:
            counts = read_only(np.full((*lead, n), T, dtype=np.int64))
        else:
            counts = as_index_array("lengths", lengths, per_input, shape=(*lead, n))
            require_range("lengths", counts, 1, T)
        self.__setstate__(
            {
                **{"tokens": x, "labels": y, "queries": z},
                **{"value": v, "lengths": counts, "sequence": index},
            }
        )

    @classmethod
    def per_position(
        cls,
        tokens: ArrayLike,
        labels: ArrayLike,
        *,
        value: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        causal: bool = True,
    ) -> AttentionData:
        """Make data of sequences with an output at every position, whose token is the query.

        Position k of a sequence attends to its tokens up to k, or with ``causal=False`` to all of
        them. The result has one input for every valid position, sequence after sequence, as in
        "Transformers as Support Vector Machines".

        Parameters
        ----------
        tokens : array_like, shape (n, T, d) or (B, n, T, d)
        labels : array_like, shape ([B,] n) or ([B,] n, T)
            Of every sequence, or of every position.
        value : array_like, shape ([B,] d), optional
        lengths : array_like of int, shape ([B,] n), optional
            Valid tokens of each sequence, the same in every problem of a batch.
        causal : bool

        Returns
        -------
        AttentionData
            With `sequence`; tokens are not copied.

        Examples
        --------
        >>> AttentionData.per_position([[[1.0, 0.0], [0.0, 1.0]]], [1]).lengths
        array([1, 2])
        """
        x = _as_tokens(tokens)
        *lead, n, T, _ = x.shape
        text = "(B, n) or (B, n, T)" if lead else "(n,) or (n, T)"
        y = as_float_array("labels", labels, text, ndim={len(lead) + 1, len(lead) + 2})
        if y.ndim == len(lead) + 1:
            require_shape("labels", y, text, (*lead, n))
            y = y[..., np.newaxis]
        else:
            require_shape("labels", y, text, (*lead, n, T))
        sequences = cls(x, np.ones((*lead, n)), lengths=lengths)  # checks the lengths
        counts = sequences.lengths.reshape(-1, n)
        if (counts != counts[0]).any():
            raise ValueError("lengths: expected the same ones in every problem of the batch")
        sequence = np.repeat(np.arange(n), counts[0])
        position = np.concatenate([np.arange(count) for count in counts[0]])
        attended = position + 1 if as_bool("causal", causal) else counts[0][sequence]
        return cls(
            x,
            np.broadcast_to(y, (*lead, n, T))[..., sequence, position],
            queries=x[..., sequence, position, :],
            value=value,
            lengths=np.broadcast_to(attended, (*lead, attended.size)),
            sequence=sequence,
        )

    def _facts(self) -> dict[str, str]:
        facts = self._sizes({"inputs n": self.n, "tokens T": self.T, "dimension d": self.d})
        if self.sequence is not None:
            facts["shared sequences"] = f"{self.tokens.shape[-3]:,}"
        return {
            **facts,
            "labels +1": f"{int((self.labels > 0).sum()):,}",
            "queries z": "none" if self.queries is None else "given",
            "head v": "none" if self.value is None else "given",
            "stored as": str(self.dtype),
        }

    def __repr__(self) -> str:
        sizes = {"n": self.n, "T": self.T, "d": self.d, "dtype": self.dtype}
        if self.sequence is not None:
            sizes["sequences"] = self.tokens.shape[-3]
        heads = [name for name in ("queries", "value") if getattr(self, name) is not None]
        return self._described(sizes, *([f"with {' and '.join(heads)}"] if heads else []))

    @property
    def T(self) -> int:
        """Number of tokens of a sequence, padding included."""
        return int(self.tokens.shape[-2])

    @property
    def d(self) -> int:
        """Dimension of a token."""
        return int(self.tokens.shape[-1])

    @property
    def dtype(self) -> np.dtype[np.float64] | np.dtype[np.float32]:
        """float64 or float32, of every array but `lengths`."""
        return self.tokens.dtype

    @property
    def tokens_per_input(self) -> FloatArray:
        """([B,] n, T, d) tokens of each input: `tokens`, or a copy where inputs share them."""
        return self.tokens if self.sequence is None else self.tokens[..., self.sequence, :, :]

    @property
    def own_tokens(self) -> FloatArray:
        """Older name of `tokens_per_input`."""
        return self.tokens_per_input

    @property
    def sequence_index(self) -> IndexArray:
        """`sequence`, of size 0 where inputs do not share tokens."""
        return np.empty(0, dtype=np.int64) if self.sequence is None else self.sequence

    def with_value(self, value: ArrayLike) -> AttentionData:
        """Return the same problem with another linear head v of shape ([B,] d)."""
        return self._with(value=value)

    def with_first_queries(self) -> AttentionData:
        """Return the same problem with the first token of each input as its query."""
        first = self.tokens[..., 0, :]
        return self._with(queries=first if self.sequence is None else first[..., self.sequence, :])

    def _with(self, **changed: ArrayLike) -> AttentionData:
        names = ("tokens", "labels", "queries", "value", "lengths", "sequence")
        return AttentionData(**{name: getattr(self, name) for name in names} | changed)

    def subset(self, which: ArrayLike) -> AttentionData:
        """Return the problems that are True in `which` (B,), one or more, as a batch."""
        if self.batch is None:
            raise ValueError("which: expected data with a batch axis, got one problem")
        return self._at(as_subset(which, "B", self.batch, "problem"))

    def _at(self, index: int | BoolArray | IndexArray | None) -> AttentionData:
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        shared = {"sequence": state.pop("sequence")}
        some = object.__new__(AttentionData)
        some.__setstate__({k: None if a is None else a[index] for k, a in state.items()} | shared)
        return some


def _as_tokens(tokens: ArrayLike) -> FloatArray:
    require_padded("tokens", tokens)
    return as_float_array("tokens", tokens, "(n, T, d) or (B, n, T, d)", ndim=(3, 4))


def require_padded(name: str, tokens: Any) -> None:
    """Refuse masked arrays, sparse matrices, and lists of sequences of different lengths."""
    require_unmasked(name, tokens)
    listed = tokens if isinstance(tokens, list | tuple) else ()
    # What is dense does without the import of scipy.sparse.
    others = (x for x in (tokens, *listed) if not isinstance(x, np.ndarray | list | tuple))
    if any(scipy.sparse.issparse(x) for x in others):
        got = "a list of sparse ones" if listed else f"a sparse matrix of shape {tokens.shape}"
        raise TypeError(f"{name}: expected dense tokens of shape (n, T, d), got {got}")
    counts = {entry_count(sequence) for sequence in listed} - {0}
    if len(counts) > 1:
        raise ValueError(
            f"{name}: expected sequences padded to one length, with `lengths`, got {min(counts)} "
            f"to {max(counts)} tokens"
        )


def as_data(data: object, name: str = "data") -> AttentionData:
    """Return `data` if it is an `AttentionData`, else raise `TypeError`."""
    return as_instance(name, data, AttentionData)


def require_queries(data: AttentionData, purpose: str, name: str = "data") -> FloatArray:
    """Return the queries ([B,] n, d), or raise `ValueError` that they are needed for `purpose`."""
    if data.queries is None:
        raise ValueError(
            f"queries: needed for {purpose}, got {name} without queries; "
            f"{name}.with_first_queries() takes the first tokens"
        )
    return data.queries


def as_selected(name: str, value: ArrayLike, data: AttentionData) -> IndexArray:
    """Check the selected token of every input: int64 ([B,] n), within the valid tokens."""
    text, shape = shape_of(data, "n")
    selected = as_index_array(name, value, text, shape=shape)
    require_range(name, selected, 0, data.lengths - 1)
    return selected


def token_differences(data: AttentionData, selected: IndexArray) -> Float64Array:
    """Return x_iα - x_it of every token t of every input, shape ([B,] n, T, d).

    α is the `selected` token of the input. Inputs may share their tokens. Differences beyond
    float64 are inf.
    """
    tokens = data.tokens_per_input.astype(np.float64, copy=False)
    chosen = np.take_along_axis(tokens, selected[..., np.newaxis, np.newaxis], axis=-2)
    with np.errstate(over="ignore"):
        return chosen - tokens


def other_tokens(data: AttentionData, selected: IndexArray) -> BoolArray:
    """Return which tokens have a constraint, ([B,] n, T): the valid ones other than `selected`."""
    return np.asarray(data.valid & (np.arange(data.T) != selected[..., np.newaxis]))
