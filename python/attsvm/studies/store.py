"""A directory that holds the cells of a study, one file each, and can be left at any moment."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from attsvm.data.whole_file import UNFINISHED, whole_file

__all__ = ["Record", "Store"]

Record: TypeAlias = "dict[str, npt.NDArray[Any]]"
"""Named arrays of one cell: what was measured in each of its runs."""

_SETTINGS = "settings.json"
_RUNS = "runs"


class Store:
    """The results of one study in a directory.

    Every file is written beside its place and moved there when it is whole, so a process that is
    killed leaves finished cells and nothing half-written. Each cell carries the identity of its
    study, and a directory takes cells of one identity only. One process at a time may write.

    Parameters
    ----------
    directory : str or path-like
        Made if it does not exist; otherwise it must be empty or hold a study.
    identity : mapping
        All that the results depend on besides their cell: settings, version, instruction set.
        Names and values must come back from JSON as they were.
    about : mapping
        What else is worth knowing of this run: the grid, the machine. Kept in ``settings.json``
        beside the identity, never compared.
    overwrite : bool, default False
        Remove the study that the directory holds and start afresh.

    Attributes
    ----------
    directory, runs : Path
        The directory, and the one in it with a file for every cell.
    identity : dict

    Raises
    ------
    ValueError
        The directory holds something else: files that are no study, or a study of another identity.
    OSError
        The directory cannot be made or written.
    """

    TABLE = "table.csv"
    FIGURE = "figure.png"

    def __init__(
        self,
        directory: str | os.PathLike[str],
        identity: Mapping[str, Any],
        about: Mapping[str, Any],
        *,
        overwrite: bool = False,
    ) -> None:
        self.directory = Path(directory)
        self.identity = dict(identity)
        self.runs = self.directory / _RUNS
        if self.directory.exists():
            self._take_over(overwrite)
        self.runs.mkdir(parents=True, exist_ok=True)
        settings = json.dumps({"study": self.identity, **about}, indent=2)
        self._write(self.directory / _SETTINGS, settings.encode() + b"\n")

    def __contains__(self, name: str) -> bool:
        """Whether the cell of this name is finished."""
        return self._cell(name).exists()

    def write_cell(self, name: str, record: Record) -> None:
        """Keep a finished cell. The same record always makes the same bytes."""
        members: dict[str, Any] = {"identity": np.array(json.dumps(self.identity)), **record}
        with whole_file(self._cell(name)) as file:
            np.savez(file, **members)

    def read_cell(self, name: str, keys: Collection[str] | None = None) -> Record:
        """Arrays of a finished cell: those of the given names, or all.

        Raises
        ------
        ValueError
            The file is damaged, or belongs to a study of another identity.
        """
        path = self._cell(name)
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                identity = json.loads(str(file["identity"]))
                names = [key for key in file.files if key != "identity"] if keys is None else keys
                record = {key: file[key] for key in names}
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"{path}: damaged ({error}); remove this file and run the study again"
            ) from error
        self._require_same(identity, path)
        return record

    def write_table(self, text: str) -> Path:
        """Keep the table of the study, as CSV. Returns its path."""
        return self._write(self.directory / self.TABLE, text.encode())

    def write_figure(self, png: bytes) -> Path:
        """Keep the figure of the study, as PNG. Returns its path."""
        return self._write(self.directory / self.FIGURE, png)

    def _cell(self, name: str) -> Path:
        return self.runs / f"{name}.npz"

    @staticmethod
    def _write(path: Path, content: bytes) -> Path:
        with whole_file(path) as file:
            file.write(content)
        return path

    def _take_over(self, overwrite: bool) -> None:
        if not self.directory.is_dir():
            raise NotADirectoryError(f"{self.directory}: expected a directory, got a file")
        unfinished = [*self.directory.glob(UNFINISHED), *self.runs.glob(UNFINISHED)]
        settings = self.directory / _SETTINGS
        if not settings.exists():
            if set(self.directory.iterdir()) - {self.runs, *unfinished} or any(
                self.runs.glob("*.npz")
            ):
                raise ValueError(
                    f"{self.directory}: expected a new or empty directory or one that holds a "
                    f"study, got one with files but without {_SETTINGS}"
                )
        elif overwrite:
            # The settings are replaced last: stopped half-way, the directory is still a study.
            products = (self.directory / self.TABLE, self.directory / self.FIGURE)
            for path in (*self.runs.glob("*.npz"), *products):
                path.unlink(missing_ok=True)
        else:
            self._require_same(_read_identity(settings), settings)
        for path in unfinished:
            path.unlink(missing_ok=True)

    def _require_same(self, identity: Mapping[str, Any], path: Path) -> None:
        names = [*self.identity, *(name for name in identity if name not in self.identity)]
        different = [
            f"{name} is {json.dumps(identity.get(name))} there "
            f"and {json.dumps(self.identity.get(name))} here"
            for name in names
            if identity.get(name) != self.identity.get(name)
        ]
        if different:
            raise ValueError(
                f"{path} belongs to another study: {'; '.join(different)}. "
                "Start afresh with overwrite (--overwrite) or choose another directory (--out)"
            )


def _read_identity(settings: Path) -> Mapping[str, Any]:
    try:
        identity = json.loads(settings.read_text())["study"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{settings}: expected the settings of a study ({error!r})") from error
    if not isinstance(identity, dict):
        raise ValueError(f"{settings}: expected the settings of a study, got {identity!r}")
    return identity
