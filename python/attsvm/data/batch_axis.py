"""The batch axis and the padding of every kind of data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from attsvm._arrays import ArrayLike, BoolArray, Float64Array, IndexArray
from attsvm._display import Plotted
from attsvm._validation import (
    ReadOnlyArrays,
    as_bool_array,
    as_float64_array,
    as_index_array,
    as_int,
    as_positive_int,
    require_range,
)

_Data = TypeVar("_Data", bound="BatchAxis")


class BatchAxis(ReadOnlyArrays, Plotted, ABC):
    """Data of one problem, or of a batch of B independent ones of one shape."""

    _drawn_by = "data"

    labels: Any
    lengths: IndexArray

    @property
    def batch(self) -> int | None:
        """Number of problems B, or None for one problem without a batch axis."""
        return self.labels.shape[0] if self.labels.ndim == 2 else None

    @property
    def n(self) -> int:
        """Number of inputs of one problem: sequences, where these are not shared, or contexts."""
        return int(self.labels.shape[-1])

    @property
    @abstractmethod
    def T(self) -> int:
        """Number of tokens of an input, padding included."""

    @property
    def valid(self) -> BoolArray:
        """([B,] n, T) bool, False at padding."""
        return np.arange(self.T) < self.lengths[..., np.newaxis]

    @abstractmethod
    def _at(self: _Data, index: int | BoolArray | IndexArray | None) -> _Data:
        """Return what `index` takes from the batch axis; None adds the axis."""

    def _sizes(self, sizes: Mapping[str, int]) -> dict[str, str]:
        """Return the sizes and the range of lengths where there is padding, for a table."""
        batch = {} if self.batch is None else {"problems": self.batch}
        rows = {name: f"{size:,}" for name, size in {**batch, **sizes}.items()}
        if int(self.lengths.min()) < self.T:
            rows["lengths"] = f"{self.lengths.min()} to {self.lengths.max()}"
        return rows

    def _described(self, sizes: Mapping[str, Any], *notes: str) -> str:
        """Write the sizes, the range of lengths where there is padding, and notes, for `repr`."""
        batch = {} if self.batch is None else {"batch": self.batch}
        parts = [f"{name}={size}" for name, size in {**batch, **sizes}.items()]
        if int(self.lengths.min()) < self.T:
            parts.append(f"lengths {self.lengths.min()}..{self.lengths.max()}")
        return f"{type(self).__name__}({', '.join([*parts, *notes])})"

    def batched(self: _Data) -> _Data:
        """Return the data with a batch axis: a single problem as a batch of one, as views."""
        return self if self.batch is not None else self._at(None)

    def repeated(self: _Data, count: int) -> _Data:
        """Return a batch of `count` copies of a single problem."""
        require_one_problem(self)
        copies = np.zeros(as_positive_int("count", count), dtype=np.int64)
        return self.batched().take(copies)

    def take(self: _Data, problems: ArrayLike) -> _Data:
        """Return the problems of these numbers, repeated ones too, as a batch."""
        if self.batch is None:
            raise ValueError("problems: expected data with a batch axis, got one problem")
        numbers = as_index_array("problems", problems, "(k,)", ndim=1)
        require_range("problems", numbers, 0, self.batch - 1)
        return self._at(numbers)

    def problem(self: _Data, b: int) -> _Data:
        """Return problem `b` as views, a negative `b` from the end; `IndexError` if it is none."""
        if self.batch is None:
            raise IndexError("b: expected data with a batch axis, got one problem")
        if not -self.batch <= as_int("b", b) < self.batch:
            raise IndexError(f"b: expected a problem of 0..{self.batch - 1}, got {b}")
        return self._at(b)

    def problems(self: _Data) -> Iterator[_Data]:
        """Yield each problem of the batch in turn; the data itself when it has no batch axis."""
        if self.batch is None:
            yield self
        else:
            for b in range(self.batch):
                yield self.problem(b)


def require_one_problem(data: BatchAxis, name: str = "data") -> None:
    """Raise `ValueError` where `data` has a batch axis."""
    if data.batch is not None:
        raise ValueError(f"{name}: expected one problem, got a batch of {data.batch}")


def as_subset(value: ArrayLike, axis: str, size: int, unit: str) -> BoolArray:
    """Check the argument `which`: bools along an axis of this size, True for at least one unit."""
    chosen = as_bool_array("which", value, f"({axis},)", shape=(size,))
    if not chosen.any():
        raise ValueError(f"which: expected at least one {unit}, got none")
    return chosen


def shape_of(data: BatchAxis, *axes: str) -> tuple[str, tuple[int, ...]]:
    """Return the shape with these axes for each problem, in letters for errors, and in numbers.

    Of a batch ``shape_of(data, "n", "T")`` is ``("(B, n, T)", (B, n, T))``.
    """
    if data.batch is not None:
        axes = ("B", *axes)
    sizes = (getattr(data, "batch" if axis == "B" else axis) for axis in axes)
    return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})", tuple(sizes)


def as_float64(data: BatchAxis, name: str, value: ArrayLike, *axes: str) -> Float64Array:
    """Check an array with these axes for each problem: finite numbers, cast to float64."""
    text, shape = shape_of(data, *axes)
    return as_float64_array(name, value, text, shape=shape)
