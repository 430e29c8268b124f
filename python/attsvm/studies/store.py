"""Results of a study in a directory: a Zarr store that can be left at any moment."""

from __future__ import annotations

import errno
import json
import re
import secrets
import shutil
import warnings
from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attsvm._validation import as_bool, as_instance, as_path
from attsvm.data.whole_file import write_whole
from attsvm.extras import require_extra
from attsvm.studies.chunked_arrays import ChunkedArray, LayoutError, StoredResults
from attsvm.studies.layout import FINISHED, Layout, Part, attributes
from attsvm.studies.measurements import Record
from attsvm.studies.study import Study

if TYPE_CHECKING:
    import xarray as xr

RESULTS = "results.zarr"
TABLE = "table.csv"
REPORT = "report.html"
FORMATS = ("png", "pdf", "svg")
FIGURES = tuple(f"figure.{each}" for each in FORMATS)
"""Names in the directory of a study, and formats of its figure."""

_NAMES = "|".join(map(re.escape, (RESULTS, TABLE, REPORT, *FIGURES)))
_UNFINISHED = re.compile(rf"\.({_NAMES})\.[0-9a-f]{{8}}(\.old)?\.part")
"""Names under which this module and `write_whole` prepare what they then move to its place."""
_COMPRESSION = {"id": "zstd", "level": 3, "checksum": True}
_FREE = ("python", "title", "declaration")
"""Attributes that may differ where a study goes on: others state what the results depend on."""
_UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, TypeError)
"""Errors that reading damaged chunks or metadata raises."""
_READS_COPIES = "xarray.open_zarr reads a copy of any layout"
_REASONS = (None, errno.ENOENT, errno.EIO, errno.EISDIR, errno.ENOTDIR, errno.EBADMSG)
"""Reasons of an `OSError` that say so; others say that what may be sound cannot be read now."""


class DamageWarning(RuntimeWarning):
    """Warning that a part of the results was damaged, and is computed or written again."""


class Store:
    """Results of one study, cell by cell, for a process that is the `only_writer` there.

    The store is a Zarr group (format 2, which all versions of Zarr read) that is laid out whole,
    with all its metadata, before the first cell. Each chunk carries a checksum. It is written
    beside its place, flushed to the disk and moved there, and the chunk of ``finished`` after all
    others of its cell, so that a process that is killed leaves finished cells and cells that will
    be written again with the same bytes. The arguments and their errors are those of
    `attsvm.studies.run`.
    """

    def __init__(
        self, directory: str | PathLike[str], study: Study, *, overwrite: bool = False
    ) -> None:
        self.directory = Path(directory)
        self.path = self.directory / RESULTS
        self.layout = Layout(study)
        self._parts = self.layout.parts
        self.attributes = attributes(study)
        if self.directory.exists():
            self._claim(overwrite)
        self._metadata = self._all_metadata()
        self._arrays = {
            v.name: ChunkedArray(self.path / v.name, self._metadata[f"{v.name}/.zarray"])
            for v in self.layout.variables
        }
        if overwrite or not self.path.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lay_out()
        else:
            self._repair_metadata()

    def missing(self) -> list[Part]:
        """Return the parts that are not finished.

        Every chunk of the finished ones is read. Where one is damaged or gone, a `DamageWarning`
        names it and its part counts as missing.
        """
        return [part for part in self._parts if not self._intact(part)]

    def write(self, part: Part, record: Record) -> None:
        """Keep a finished part. The same record always makes the same bytes."""
        for variable in self.layout.variables:
            array = self._arrays[variable.name]
            block = self.layout.block(variable, part, record)
            write_whole(array.chunk(part.chunk), array.encode(block))

    def _intact(self, part: Part) -> bool:
        finished = self._arrays[FINISHED.name]
        try:
            if not finished.read(part.chunk).flat[: len(part.problems)].all():
                return False
            damage = _damage(self._arrays, part.chunk)
        except _UNREADABLE as error:
            damage = _described(finished.chunk(part.chunk), error)
        if damage is None:
            return True
        _warn(f"{damage}; {part.cell.name} is computed again")
        write_whole(finished.chunk(part.chunk), self._unfinished)
        return False

    @cached_property
    def _unfinished(self) -> bytes:
        """Chunk of ``finished`` where nothing is."""
        return self._arrays[FINISHED.name].encode(np.zeros(self.layout.chunks(FINISHED), bool))

    def _claim(self, overwrite: bool) -> None:
        """Accept the directory, and remove what an interrupted writer has left there."""
        if not self.path.exists():
            # Hidden files, such as those of file managers and version control, are left alone.
            if any(not path.name.startswith(".") for path in self.directory.iterdir()):
                raise ValueError(
                    f"{self.directory}: expected a new or empty directory or one that holds a "
                    f"study, got one with files but without {RESULTS}"
                )
        elif overwrite:
            _attributes_of(self.path)
            for name in (TABLE, REPORT, *FIGURES):
                (self.directory / name).unlink(missing_ok=True)
        else:
            self._require_same()
        left = [path for path in self.directory.iterdir() if _UNFINISHED.fullmatch(path.name)]
        for path in (*left, *self.path.rglob(".*.part")):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _require_same(self) -> None:
        stored, expected = _attributes_of(self.path), self.attributes
        # A file of problems is known by its bytes, wherever it lies now.
        from_files = "data_sha256" in stored and "data_sha256" in expected
        free = (*_FREE, "data") if from_files else _FREE
        different = [
            f"{name} is {json.dumps(stored.get(name))} there and "
            f"{json.dumps(expected.get(name))} here"
            for name in dict.fromkeys([*expected, *stored])
            if name not in free and stored.get(name) != expected.get(name)
        ]
        if different:
            raise ValueError(
                f"{self.path} belongs to another study: {'; '.join(different)}. "
                "Start afresh with overwrite (--overwrite) or choose another directory (--out)"
            )
        self.attributes |= {name: stored[name] for name in free if name in stored}

    def _all_metadata(self) -> dict[str, Any]:
        """Return the content of every metadata file, by its path in the store."""
        layout = self.layout
        metadata: dict[str, Any] = {".zgroup": {"zarr_format": 2}, ".zattrs": self.attributes}
        arrays: list[tuple[Any, ...]] = [
            (name, (name,), values.shape, values.shape, values.dtype)
            for name, values in layout.coordinates.items()
        ]
        for v in layout.variables:
            dimensions = layout.dimensions(v)
            shape = [layout.sizes[each] for each in dimensions]
            arrays.append((v.name, dimensions, shape, layout.chunks(v), v.dtype))
        for name, dimensions, shape, chunks, dtype in arrays:
            little = np.dtype(dtype).newbyteorder("<")
            metadata[f"{name}/.zarray"] = {
                "zarr_format": 2,
                "shape": list(shape),
                "chunks": list(chunks),
                "dtype": little.str,
                # Else none: what is not written is marked in `finished`.
                "fill_value": "NaN" if little.kind == "f" else None,
                "order": "C",
                "filters": None,
                "dimension_separator": ".",
                "compressor": _COMPRESSION,
            }
            named = {"_ARRAY_DIMENSIONS": list(dimensions)}
            metadata[f"{name}/.zattrs"] = named | layout.attributes(name)
        return metadata

    def _fixed_files(self) -> dict[str, bytes]:
        """Return metadata and coordinates, by their paths; no cell changes them."""
        consolidated = {"zarr_consolidated_format": 1, "metadata": self._metadata}
        files = {
            name: json.dumps(content, indent=4).encode()
            for name, content in (self._metadata | {".zmetadata": consolidated}).items()
        }
        for name, values in self.layout.coordinates.items():
            array = ChunkedArray(self.path / name, self._metadata[f"{name}/.zarray"])
            files[f"{name}/0"] = array.encode(values)
        return files

    def _lay_out(self) -> None:
        """Make the store with everything but results, aside, and move it to its place."""
        aside = self.directory / f".{RESULTS}.{secrets.token_hex(4)}.part"
        try:
            for name, content in self._fixed_files().items():
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                (aside / name).write_bytes(content)
            for part in self._parts:
                name = self._arrays[FINISHED.name].chunk(part.chunk).name
                (aside / FINISHED.name / name).write_bytes(self._unfinished)
            old = aside.with_name(f"{aside.name[:-5]}.old.part")
            if self.path.exists():
                self.path.rename(old)
            aside.rename(self.path)
            if old.exists():
                shutil.rmtree(old)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise

    def _repair_metadata(self) -> None:
        """Write metadata and coordinates again where they are not what they must be."""
        for name, content in self._fixed_files().items():
            file = self.path / name
            if not file.is_file() or file.read_bytes() != content:
                _warn(f"{file}: not as this study writes it; it is written again")
                file.parent.mkdir(exist_ok=True)
                write_whole(file, content)


def as_results(name: str, value: object, *others: type) -> Any:
    """Return `value` if it holds results, or is of one of `others`, else raise `TypeError`."""
    if isinstance(value, StoredResults):
        return value
    require_extra("attsvm.studies", "study", "xarray")
    import xarray

    return as_instance(name, value, *others, xarray.Dataset)


def open_results(path: str | PathLike[str], *, verify: bool = True) -> xr.Dataset:
    """Open the results of a study as a labelled array, whose values are read where they are used.

    Parameters
    ----------
    path : str or path-like
        The Zarr store, or the directory of the study.
    verify : bool
        Read all finished chunks once, so that damaged ones are an error here and now.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such store, it is not that of a study, or it is damaged; the message names what
        is, and running the study again mends it.
    OSError
        It cannot be read.
    """
    require_extra("attsvm.studies", "study", "numcodecs", "xarray")
    import xarray

    from attsvm.studies.xarray_backend import ResultsBackend

    as_bool("verify", verify)
    where = as_path("path", path)
    if (where / RESULTS).is_dir():
        where = where / RESULTS
    if (where / "zarr.json").exists():
        raise ValueError(
            f"{where}: expected the Zarr store of format 2 that a study writes, got one of format "
            f"3; {_READS_COPIES}"
        )
    if not (where / ".zattrs").exists():
        raise FileNotFoundError(f"{path}: expected the results of a study, got none there")
    _attributes_of(where)
    try:
        results = xarray.open_dataset(where, engine=ResultsBackend)
        damage = _damage_of_finished(where, results) if verify else None
    except LayoutError as error:
        raise ValueError(
            f"{error}; {_READS_COPIES}, and running the study again mends results of its own"
        ) from error
    except _UNREADABLE as error:
        damage = _described(where, error)
    if damage is not None:
        raise ValueError(f"damaged results: {damage}; run the study again to mend them")
    return results


def _damage_of_finished(path: Path, results: xr.Dataset) -> str | None:
    """Return a description of the first damaged chunk of finished problems, or None."""
    arrays = {str(name): ChunkedArray.open(path / str(name)) for name in results.data_vars}
    finished = arrays[FINISHED.name]
    sizes, chunks = (np.array(finished.metadata[name]) for name in ("shape", "chunks"))
    for array in arrays.values():
        if array.metadata["chunks"][: chunks.size] != chunks.tolist():
            raise LayoutError(
                f"{array.folder}: expected chunks of {chunks.tolist()} cells and problems, as "
                f"{FINISHED.name} has, got {array.metadata['chunks']}"
            )
    for index in np.ndindex(*-(-sizes // chunks)):
        damage = _damage({FINISHED.name: finished}, index)
        if damage is None and finished.read(index).any():
            damage = _damage(arrays, index)
        if damage is not None:
            return damage
    return None


def _damage(arrays: Mapping[str, ChunkedArray], index: tuple[int, ...]) -> str | None:
    """Return a description of the first damaged chunk of this index, or None."""
    for array in arrays.values():
        try:
            array.read(index)
        except FileNotFoundError:
            return f"{array.chunk(index)}: missing"
        except _UNREADABLE as error:
            return _described(array.chunk(index), error)
    return None


def _described(path: Path, error: Exception) -> str:
    """Write what is damaged; raise an error that does not say so."""
    if isinstance(error, OSError) and error.errno not in _REASONS:
        raise error
    return f"{path}: {error}"


def _warn(message: str) -> None:
    warnings.warn(message, DamageWarning, stacklevel=5)


def _attributes_of(path: Path) -> Mapping[str, Any]:
    try:
        stored: dict[str, Any] = json.loads((path / ".zattrs").read_text())
        stored["declaration"]
    except (ValueError, KeyError, TypeError, FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"{path}: expected the results of a study, got something else; remove it or choose "
            "another directory (--out)"
        ) from error
    return stored
