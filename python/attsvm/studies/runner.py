"""Runs the cells of a study that are not there yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from attsvm.progress import bar
from attsvm.studies.store import Record, Store

__all__ = ["Cell", "Study", "run"]


class Cell(Protocol):
    """One point of the grid of a study."""

    @property
    def name(self) -> str:
        """Names the file of the cell."""


CellT = TypeVar("CellT", bound=Cell)


class Study(Protocol[CellT]):
    """A grid of cells, and what is measured in each of the problems of a cell."""

    @property
    def problems(self) -> int:
        """Number of problems of each cell."""

    @property
    def cells(self) -> Sequence[CellT]:
        """The grid."""

    def batch(self, cell: CellT) -> int:
        """How many problems of a cell to measure in one call."""

    def measure(self, cell: CellT, problems: range, *, num_threads: int | None) -> Record:
        """Draw these problems of a cell and measure each; every array has one row per problem.

        But for rounding, a row depends on its cell and its number alone.
        """


def run(
    study: Study[CellT],
    store: Store,
    *,
    num_threads: int | None = None,
    progress: bool | None = None,
) -> None:
    """Measure all cells of a study that its store does not hold yet.

    It may be stopped at any moment, and called again to go on after the last finished cell: the
    store then ends with the same bytes as without the stop, for any number of threads.

    Parameters
    ----------
    study : Study
    store : Store
        Receives each cell when it is finished.
    num_threads : int, optional
        As in `attsvm.train`.
    progress : bool, optional
        Show a progress bar; by default if standard error is a terminal.
    """
    missing = [cell for cell in study.cells if cell.name not in store]
    with bar(len(missing) * study.problems, "problems", enabled=progress) as advance:
        for cell in missing:
            parts: list[Record] = []
            batch = study.batch(cell)
            for first in range(0, study.problems, batch):
                problems = range(first, min(first + batch, study.problems))
                advance(0, cell.name)
                parts.append(study.measure(cell, problems, num_threads=num_threads))
                advance(len(problems), cell.name)
            store.write_cell(
                cell.name, {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            )
