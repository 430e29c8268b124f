"""Results of a study as xarray opens them: their values are read where they are used.

Nothing here starts a thread, as Zarr does to read: `threading.Thread.start` waits for ever where
memory runs out while the new thread begins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from attsvm.studies.chunked_arrays import ChunkedArray, StoredResults


class _Values(BackendArray):  # type: ignore[misc, unused-ignore]
    """Values of a chunked array."""

    def __init__(self, array: ChunkedArray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        read = self.array.__getitem__
        values = indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, read
        )
        return np.asarray(values)


class ResultsBackend(BackendEntrypoint):  # type: ignore[misc, unused-ignore]
    """Engine of `xarray.open_dataset` for the Zarr store of a study."""

    def open_dataset(self, filename_or_obj: Any, *, drop_variables: Any = None) -> xr.Dataset:
        """Open the store in a directory, without the variables of these names."""
        results, variables = StoredResults(Path(filename_or_obj)), {}
        for name, array in results.items():
            if name not in (drop_variables or ()):
                attributes = dict(results.metadata[f"{name}/.zattrs"])
                dimensions = attributes.pop("_ARRAY_DIMENSIONS")
                lazy = indexing.LazilyIndexedArray(_Values(array))
                variables[name] = xr.Variable(dimensions, lazy, attributes)
        return xr.Dataset(variables, attrs=results.metadata[".zattrs"])
