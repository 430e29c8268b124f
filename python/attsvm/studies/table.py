"""The table of a study: one row per cell, each measure an estimate with its interval."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attsvm.studies.intervals import Estimate, mean, proportion
from attsvm.studies.measurements import Record

__all__ = ["Measure", "Row", "Table", "longest_axis"]

_GAP = "   "


@dataclass(frozen=True)
class Measure:
    """A column: a property of every run, averaged over the runs of a cell.

    Attributes
    ----------
    name : str
        Name in the CSV file and of the estimate in a `Row`.
    heading : str
        Heading of the printed column, and what the figure calls it.
    meaning : str
        One line for the reader of the table.
    values : callable
        The record of a cell to an array with one value per run. Booleans are averaged to a
        percentage; floats to a mean, NaN marking the runs which have no value.
    bounds : tuple of float
        Smallest and largest value a float can take.
    decimals : tuple of int
        Decimals printed of the estimate, and of the ends of its interval.
    variable : str
        What the record must have for it.
    """

    name: str
    heading: str
    meaning: str
    values: Callable[[Record], npt.NDArray[Any]]
    bounds: tuple[float, float] = (-math.inf, math.inf)
    decimals: tuple[int, int] = (1, 0)
    variable: str = ""

    def estimate(self, record: Record) -> Estimate:
        """Average over the runs of a cell: in percent for booleans."""
        values = self.values(record)
        if values.dtype == bool:
            share = proportion(values)
            return Estimate(100 * share.value, 100 * share.low, 100 * share.high, share.size)
        return mean(values[~np.isnan(values)], bounds=self.bounds)

    def shown(self, estimate: Estimate) -> tuple[str, str, str]:
        """An estimate for reading, and the ends of its interval, rounded outwards, or nothing."""
        value_decimals, end_decimals = self.decimals
        unit = 10**end_decimals
        value = "-" if math.isnan(estimate.value) else f"{estimate.value:.{value_decimals}f}"
        if math.isnan(estimate.low):
            return value, "", ""
        low, high = math.floor(estimate.low * unit) / unit, math.ceil(estimate.high * unit) / unit
        return value, f"{low:.{end_decimals}f}", f"{high:.{end_decimals}f}"


@dataclass(frozen=True)
class Row:
    """One cell: its place in the grid, and its estimates by the name of their measure."""

    axes: Mapping[str, Any]
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Table:
    """Rows with the same axes and the same measures."""

    measures: tuple[Measure, ...]
    rows: tuple[Row, ...]

    def csv(self) -> str:
        """Table as CSV: the axes, then for every measure its value, interval and number of runs.

        A cell stays empty where the number does not exist, such as the mean of no runs.
        """
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        axes = list(self.rows[0].axes)
        parts = ("", "_low", "_high", "_runs")
        writer.writerow(axes + [m.name + part for m in self.measures for part in parts])
        for row in self.rows:
            line: list[Any] = [row.axes[axis] for axis in axes]
            for measure in self.measures:
                e = row.estimates[measure.name]
                line += ["" if math.isnan(x) else repr(x) for x in (e.value, e.low, e.high)]
                line.append(e.size)
            writer.writerow(line)
        return out.getvalue()

    def text(self, width: int | None = None) -> str:
        """Table for reading: ``estimate (low-high)``, the interval rounded outwards.

        Parameters
        ----------
        width : int, optional
            Characters per line. A wider table is broken into blocks which all repeat the axes; by
            default it is not broken.
        """
        places = [[f"{value}" for value in row.axes.values()] for row in self.rows]
        keys = _aligned([*self.rows[0].axes], places)
        blocks = [keys]
        for measure in self.measures:
            column = _estimates(measure, [row.estimates[measure.name] for row in self.rows])
            joined = _beside(blocks[-1], column)
            if width is None or len(joined[0]) <= width or blocks[-1] is keys:
                blocks[-1] = joined
            else:
                blocks.append(_beside(keys, column))
        return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks) + "\n"


def longest_axis(table: Table) -> str:
    """The axis with the most values: of numbers, the last of equals, where there is one."""
    values = {axis: {row.axes[axis] for row in table.rows} for axis in table.rows[0].axes}
    numbers = {
        axis: several
        for axis, several in values.items()
        if len(several) > 1 and not any(isinstance(value, str) for value in several)
    }
    chosen = numbers or values
    return max(reversed(chosen), key=lambda axis: len(chosen[axis]))


def _estimates(measure: Measure, estimates: list[Estimate]) -> list[str]:
    """Lines of one column: the heading, then values and intervals each below each other."""
    values, lows, highs = zip(*(measure.shown(e) for e in estimates), strict=True)
    ends = zip(lows, highs, strict=True)
    intervals = [f"({low}-{high})" if low else "" for low, high in ends]
    value_width, interval_width = (max(map(len, texts)) for texts in (values, intervals))
    lines = [
        f"{value:>{value_width}} {interval:<{interval_width}}"
        for value, interval in zip(values, intervals, strict=True)
    ]
    width = max(len(measure.heading), len(lines[0]))
    return [f"{text:<{width}}" for text in (measure.heading, *lines)]


def _aligned(headings: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of right-aligned columns of equal width, the headings first."""
    lines = [headings, *rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(headings))]
    return [_GAP.join(f"{x:>{w}}" for x, w in zip(line, widths, strict=True)) for line in lines]


def _beside(left: list[str], right: list[str]) -> list[str]:
    return [a + _GAP + b for a, b in zip(left, right, strict=True)]
