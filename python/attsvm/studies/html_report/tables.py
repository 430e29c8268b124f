"""The table of a study as headings and cells, for sorting and for reading."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attsvm.studies.axis_values import in_words
from attsvm.studies.layout import MEANINGS
from attsvm.studies.study import Study
from attsvm.studies.summary import records
from attsvm.studies.table import Table

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Column", "Entry", "Line", "columns", "lines"]


@dataclass(frozen=True)
class Column:
    """Heading of a column, and what it means."""

    heading: str
    meaning: str


@dataclass(frozen=True)
class Entry:
    """A number: what it is sorted by, how it is shown, its interval, and a remark."""

    key: str
    shown: str
    interval: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Line:
    """A cell of the study: its place, and its numbers."""

    place: tuple[Entry, ...]
    numbers: tuple[Entry, ...]


def columns(table: Table) -> tuple[list[Column], list[Column]]:
    """Columns of the axes, and of what was measured."""
    axes = [Column(axis, MEANINGS[axis]) for axis in table.rows[0].axes]
    measured = [Column("problems", "how many are finished")]
    return axes, measured + [Column(m.heading, m.meaning) for m in table.measures]


def lines(study: Study, results: xr.Dataset, table: Table) -> list[Line]:
    """Rows of the table, each with the number of its finished problems."""
    sizes = [len(record["finished"]) for _, record in records(study, results, ["finished"])]
    found = []
    for row, size in zip(table.rows, sizes, strict=True):
        place = tuple(Entry(str(value), in_words(value)) for value in row.axes.values())
        numbers = [Entry(str(size), f"{size:,}")]
        for measure in table.measures:
            estimate = row.estimates[measure.name]
            value, low, high = measure.shown(estimate)
            numbers.append(
                Entry(
                    key="" if math.isnan(estimate.value) else repr(float(estimate.value)),
                    shown=_signed(value),
                    interval=_signed(f"{low}–{high}") if low else "",
                    remark="" if estimate.size == size else f"of {estimate.size:,}",
                )
            )
        found.append(Line(place, tuple(numbers)))
    return found


def _signed(number: str) -> str:
    """With a minus sign, which differs from the dash of an interval and of no number."""
    return number if number == "-" else number.replace("-", "−")
