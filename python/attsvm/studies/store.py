"""The results of a study in a directory: a Zarr store that can be left at any moment."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attsvm.data.whole_file import UNFINISHED
from attsvm.extras import require_extra
from attsvm.studies.layout import FINISHED, Layout, Part, attributes
from attsvm.studies.measurements import Record
from attsvm.studies.only_writer import LOCK
from attsvm.studies.study import Study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FIGURE", "REPORT", "RESULTS", "TABLE", "Store", "open_results"]

RESULTS = "results.zarr"
TABLE = "table.csv"
FIGURE = "figure.png"
REPORT = "report.html"
"""What stands in the directory of a study."""

_COMPRESSION = 3
_FREE = ("python", "title", "declaration")
"""Attributes that may differ where a study goes on: what they say of results others say too."""


class Store:
    """The results of one study, cell by cell, for a process that is the `only_writer` there.

    The store is a Zarr group (format 2, which all versions of Zarr read) that is laid out whole,
    with all its metadata, before the first cell. Each chunk is written beside its place and moved
    there, and the chunk of ``finished`` after all others of its cell, so that a process that is
    killed leaves finished cells and cells that will be written again with the same bytes.

    Parameters
    ----------
    directory : str or path-like
        Made if it does not exist; otherwise it must be empty or hold this study.
    study : Study
    overwrite : bool, default False
        Remove the study that the directory holds and start afresh.

    Attributes
    ----------
    directory, path : Path
        The directory, and the Zarr store in it.
    layout : Layout

    Raises
    ------
    ValueError
        The directory holds something else: files that are no study, or another study.
    OSError
        The directory cannot be made or written.
    """

    def __init__(
        self, directory: str | os.PathLike[str], study: Study, *, overwrite: bool = False
    ) -> None:
        self.directory = Path(directory)
        self.path = self.directory / RESULTS
        self.layout = Layout(study)
        self.attributes = attributes(study)
        if self.directory.exists():
            self._take_over(overwrite)
        if overwrite or not self.path.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lay_out()
        with _every_chunk():
            self._group = _open_group(self.path, "r+")
            self._arrays = {v.name: self._group[v.name] for v in self.layout.variables}

    def missing(self) -> list[Part]:
        """Parts that are not finished."""
        finished = self._arrays[FINISHED.name][:]
        return [
            part
            for part in self.layout.parts
            if not finished[(*part.cell.index, part.problems.start)]
        ]

    def write(self, part: Part, record: Record) -> None:
        """Keep a finished part. The same record always makes the same bytes."""
        problems = slice(part.problems.start, part.problems.stop)
        with _every_chunk():
            for variable in self.layout.variables:
                block = self.layout.block(variable, part, record)
                self._arrays[variable.name][(*part.cell.index, problems)] = block

    def open(self) -> xr.Dataset:
        """The results as a labelled array, read where they are asked for."""
        return open_results(self.path)

    def _take_over(self, overwrite: bool) -> None:
        unfinished = [*self.directory.glob(UNFINISHED), *self.path.rglob("*.partial")]
        if not self.path.exists():
            if set(self.directory.iterdir()) - {*unfinished, self.directory / LOCK}:
                raise ValueError(
                    f"{self.directory}: expected a new or empty directory or one that holds a "
                    f"study, got one with files but without {RESULTS}"
                )
        elif overwrite:
            _attributes_of(self.path)
            for name in (TABLE, FIGURE, REPORT):
                (self.directory / name).unlink(missing_ok=True)
        else:
            self._require_same()
        for path in unfinished:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _require_same(self) -> None:
        there, here = _attributes_of(self.path), self.attributes
        # A file of problems is told by its bytes, wherever it lies now.
        free = (*_FREE, "data") if "data_sha256" in here and "data_sha256" in there else _FREE
        names = [name for name in dict.fromkeys([*here, *there]) if name not in free]
        different = [
            f"{name} is {json.dumps(there.get(name))} there and {json.dumps(here.get(name))} here"
            for name in names
            if there.get(name) != here.get(name)
        ]
        variables = (variable.name for variable in self.layout.variables)
        different += [f"it has no {name}" for name in variables if not (self.path / name).is_dir()]
        if different:
            raise ValueError(
                f"{self.path} belongs to another study: {'; '.join(different)}. "
                "Start afresh with overwrite (--overwrite) or choose another directory (--out)"
            )

    def _lay_out(self) -> None:
        """Make the store with everything but results, aside, and move it to its place."""
        import zarr

        aside = self.directory / f".{RESULTS}.{secrets.token_hex(4)}.part"
        try:
            with _every_chunk():
                _open_group(aside, "w").attrs.update(self.attributes)
                for name, values in self.layout.coordinates.items():
                    array = self._create(aside, name, (name,), values.shape, values.dtype)
                    array[:] = values
                for v in self.layout.variables:
                    sizes, dims = self.layout.sizes, self.layout.dimensions(v)
                    shape = tuple(sizes[dim] for dim in dims)
                    array = self._create(aside, v.name, dims, self.layout.chunks(v), v.dtype, shape)
                    if v is FINISHED:
                        array[:] = False
                zarr.consolidate_metadata(str(aside), **_format())
            if self.path.exists():
                old = aside.with_name(f"{aside.name[:-5]}.old.part")
                self.path.rename(old)
                aside.rename(self.path)
                shutil.rmtree(old)
            else:
                aside.rename(self.path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise

    def _create(
        self,
        root: Path,
        name: str,
        dimensions: tuple[str, ...],
        chunks: tuple[int, ...],
        dtype: Any,
        shape: tuple[int, ...] | None = None,
    ) -> Any:
        """An array without a fill value: what is not written is marked in ``finished``."""
        import numcodecs
        import zarr

        floating = np.dtype(dtype).kind == "f"
        array = zarr.create(
            chunks if shape is None else shape,
            chunks=chunks,
            dtype=dtype,
            compressor=numcodecs.Zstd(_COMPRESSION),
            fill_value=np.nan if floating else None,
            store=str(root),
            path=name,
            **_format(),
        )
        array.attrs.update({"_ARRAY_DIMENSIONS": list(dimensions), **self.layout.attributes(name)})
        return array


def open_results(path: str | os.PathLike[str]) -> xr.Dataset:
    """The results of a study as a labelled array: what ``xarray.open_zarr`` gives.

    Parameters
    ----------
    path : str or path-like
        The Zarr store, or the directory of the study.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such store, or it is not that of a study.
    ImportError
        xarray or zarr is not installed.
    """
    require_extra("attsvm.studies", "study", "zarr", "xarray")
    import xarray

    where = Path(path)
    if (where / RESULTS).is_dir():
        where = where / RESULTS
    if not (where / ".zattrs").exists():
        raise FileNotFoundError(f"{path}: expected the results of a study, got none there")
    _attributes_of(where)
    return xarray.open_zarr(str(where), chunks=None)


def _attributes_of(path: Path) -> Mapping[str, Any]:
    try:
        said = json.loads((path / ".zattrs").read_text())
        said["declaration"]
    except (ValueError, KeyError, TypeError, FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{path}: expected the results of a study, got something else") from error
    attributes: Mapping[str, Any] = said
    return attributes


def _format() -> dict[str, int]:
    """The argument that asks for format 2, which Zarr 2 does not know: it has no other."""
    import zarr

    return {"zarr_format": 2} if int(zarr.__version__.split(".")[0]) > 2 else {}


def _open_group(path: Path, mode: str) -> Any:
    import zarr

    return zarr.open_group(str(path), mode=mode, **_format())


@contextmanager
def _every_chunk() -> Iterator[None]:
    """Chunks that hold nothing but zeros are written too, as Zarr 2 does unasked."""
    import zarr

    if not _format():
        yield
        return
    with zarr.config.set({"array.write_empty_chunks": True}):
        yield
