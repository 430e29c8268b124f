"""Rows that a run has measured, kept until it ends: one that dies can go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attsvm.data.whole_file import write_whole


class Unfinished:
    """Records by name, in ``unfinished.json`` of a folder, which is made where it is missing.

    `of_run` is what rows of one run have in common, such as its pace and the versions of libraries.
    With `resume` the records that are there are gone on with, if they are of such a run; else they
    are replaced.
    """

    def __init__(self, folder: Path, of_run: dict[str, Any], resume: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "unfinished.json"
        self._kept: dict[str, Any] = {"run": of_run, "records": {}}
        if resume and self._path.exists():
            kept = json.loads(self._path.read_text())
            if kept["run"] != of_run:
                raise ValueError(f"--resume: expected {of_run} in {self._path}, got {kept['run']}")
            self._kept = kept

    def get(self, name: str, measured: Callable[[], Any]) -> Any:
        """Return the record of this name; where there is none, measure and write it."""
        records = self._kept["records"]
        if name not in records:
            records[name] = measured()
            write_whole(self._path, json.dumps(self._kept).encode())
        return records[name]

    def end(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)
