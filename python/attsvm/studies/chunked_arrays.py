"""Arrays of a Zarr group of format 2, whose chunks are read and written by the calling thread."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LAYOUT = {"zarr_format": 2, "order": "C", "filters": None, "dimension_separator": "."}
"""Metadata of every array that is read here; others would be read wrongly."""


class LayoutError(ValueError):
    """An array has another layout than those that a study writes, as in a copy it may have."""


@dataclass(frozen=True)
class ChunkedArray:
    """Array in a folder, with a file for each chunk; `LayoutError` where its layout is another."""

    folder: Path
    metadata: Mapping[str, Any]  # content of its ``.zarray``

    def __post_init__(self) -> None:
        """Check the layout."""
        given = {"dimension_separator": ".", **self.metadata}
        for name, value in _LAYOUT.items():
            if given[name] != value:
                raise LayoutError(f"{self.folder}: expected {name} {value!r}, got {given[name]!r}")

    @classmethod
    def open(cls, folder: Path) -> ChunkedArray:
        """Read the metadata of an array."""
        return cls(folder, json.loads((folder / ".zarray").read_text()))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self.metadata["shape"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values."""
        dtype: np.dtype[Any] = np.dtype(self.metadata["dtype"])
        return dtype

    @cached_property
    def _codec(self) -> Any:
        import numcodecs

        return numcodecs.get_codec(dict(self.metadata["compressor"]))

    def chunk(self, index: tuple[int, ...]) -> Path:
        """Return the file of a chunk; all chunks are whole along the axes that `index` lacks."""
        return self.folder / ".".join(map(str, (*index, *[0] * (len(self.shape) - len(index)))))

    def read(self, index: tuple[int, ...]) -> NDArray[Any]:
        """Return a chunk. The codec verifies its checksum."""
        content = self.chunk(index).read_bytes()
        shape = self.metadata["chunks"]
        with _memory_of_codec():
            # Into an array of the right size first: a damaged size asks for no memory.
            self._codec.decode(content, out=np.empty(shape, self.dtype))
            return np.frombuffer(self._codec.decode(content), self.dtype).reshape(shape)

    def encode(self, values: NDArray[Any]) -> bytes:
        """Return the content of the file of a chunk."""
        with _memory_of_codec():
            return bytes(self._codec.encode(np.ascontiguousarray(values, self.dtype)))

    def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        """Return the values at integers and slices of positive steps, one for each of the axes.

        Axes without one are whole. Chunks that are not there hold the fill value. `IndexError`
        where an integer is too large.
        """
        key = (*key, *[slice(None)] * (len(self.shape) - len(key)))
        wanted = [
            places[one] if isinstance(one, slice) else places[places[one] :][:1]
            for places, one in zip(map(range, self.shape), key, strict=True)
        ]
        fill = self.metadata["fill_value"]
        shape = [len(each) for each in wanted]
        values = np.zeros(shape, self.dtype) if fill is None else np.full(shape, fill, self.dtype)
        pieces = map(_pieces, wanted, self.metadata["chunks"])
        for of_axes in itertools.product(*map(list, pieces)):
            index, inside, place = zip(*of_axes, strict=True)
            if self.chunk(index).exists():
                values[place] = self.read(index)[inside]
        return values[tuple(slice(None) if isinstance(one, slice) else 0 for one in key)]

    def to_numpy(self) -> NDArray[Any]:
        """Return all values."""
        return self[()]


class StoredResults(dict[str, ChunkedArray]):
    """Arrays in the Zarr store of a study: the `xarray.Dataset` of its results without xarray."""

    def __init__(self, store: Path) -> None:
        self.metadata = json.loads((store / ".zmetadata").read_text())["metadata"]
        names = (name.removesuffix("/.zarray") for name in self.metadata if "/.zarray" in name)
        super().__init__(
            {name: ChunkedArray(store / name, self.metadata[f"{name}/.zarray"]) for name in names}
        )


@contextmanager
def _memory_of_codec() -> Iterator[None]:
    """Raise `MemoryError` where the codec has too little memory, which it calls a RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        if "not enough memory" in str(error):
            raise MemoryError(str(error)) from error
        raise


def _pieces(wanted: range, size: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield the chunks of `size` that hold `wanted` indices, with their places there and here."""
    done = 0
    while done < len(wanted):
        chunk = wanted[done] // size
        start, stop = wanted[done] - chunk * size, min(wanted.stop - chunk * size, size)
        count = len(range(start, stop, wanted.step))
        yield chunk, slice(start, stop, wanted.step), slice(done, done + count)
        done += count
