"""The table of a study: one row per cell, each measure an estimate with its confidence interval."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from attsvm._arrays import Float64Array
from attsvm._validation import in_words
from attsvm.studies.intervals import Estimate, mean, median, proportion
from attsvm.studies.measurements import Record
from attsvm.studies.reproduce.check import padded
from attsvm.studies.reproduce.palette import BLUE, GREY, RED, YELLOW

if TYPE_CHECKING:
    import pandas as pd

SHARES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "global_percent": ("Global", RED),
        "local_percent": ("Local (including Global)", BLUE),
        "neither_percent": ("Neither", GREY),
        "all_support_percent": ("All tokens support vectors", YELLOW),
    }
)
"""Labels and colours of the measures that are drawn as bars."""

AXIS_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "d": "dimension d",
        "n": "inputs n",
        "T": "tokens T",
        "lr": "step size",
        "lr_factor": "factor of the step size",
        "signal": "length of the signals |μ|",
        "weak": "share of the signal in weak tokens",
        "label_noise": "label noise",
        "weight_decay": "weight decay",
    }
)
"""Labels of axes in figures, where they differ from the names in a declaration."""

FEW_PROBLEMS = 20
"""Problems of the only cell of a study up to which each is drawn, and no statistics of them."""

_MANY_VALUES = 5
"""Values of each of two axes from which they span a map, and not a grid of panels."""
_MOST_DECIMALS = 9


@dataclass(frozen=True)
class Measure:
    """A column: a property of every run, its mean or median over the runs of a cell."""

    name: str  # name in the CSV file and of the estimate in a `Row`
    heading: str  # heading of the printed column
    variable: str  # variable of the results it is computed from
    meaning: str  # one line for the reader of the table
    # The variable to an array with one value per run. Booleans are averaged to a percentage; floats
    # to a mean, NaN marking the runs that have no value.
    values: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] = field(default=np.asarray, repr=False)
    middle: Literal["mean", "median"] = "mean"  # of floats
    norm: str = ""  # of the SVM, where the variable has several
    # Smallest and largest value a float can take.
    bounds: tuple[float, float] = (-math.inf, math.inf)
    # Name in figures: where two axes are long, a map of the means is drawn, and else their curve
    # for a quantity between 0 and 1.
    label: str = ""
    # Fewest decimals printed of the estimate, and of the ends of its interval.
    decimals: tuple[int, int] = (1, 0)

    def estimate(self, record: Record) -> Estimate:
        """Average over the runs of a cell: in percent for booleans."""
        values = self.values(record[self.variable])
        if values.dtype == bool:
            share = proportion(values)
            return Estimate(100 * share.value, 100 * share.low, 100 * share.high, share.size)
        known = values[~np.isnan(values)]
        return median(known) if self.middle == "median" else mean(known, bounds=self.bounds)


@dataclass(frozen=True)
class Row:
    """One cell."""

    axes: Mapping[str, Any]  # its place in the grid
    estimates: Mapping[str, Estimate]  # by the name of their measure
    problems: int = 0  # finished problems of the cell


@dataclass(frozen=True, repr=False)
class Table:
    """Rows with the same axes and the same measures.

    Printed, it is the text of `text`; in a notebook it is an HTML table.
    """

    measures: tuple[Measure, ...]
    rows: tuple[Row, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """All numbers as a pandas DataFrame, a row per cell.

        The columns are the axes, and for every measure ``name``, ``name_low``, ``name_high`` (the
        95 % confidence interval) and ``name_runs`` (size of the sample).
        """
        import pandas as pd

        return pd.DataFrame(self._columns)

    @property
    def _columns(self) -> dict[str, list[Any]]:
        parts = {"": "value", "_low": "low", "_high": "high", "_runs": "size"}
        columns = {axis: [row.axes[axis] for row in self.rows] for axis in self._axes}
        for m in self.measures:
            for part, name in parts.items():
                columns[m.name + part] = [getattr(r.estimates[m.name], name) for r in self.rows]
        return columns

    @property
    def _axes(self) -> list[str]:
        return [*self.rows[0].axes] if self.rows else []

    def csv(self) -> str:
        """Write `frame` as CSV with all digits; a number that does not exist is left empty."""
        columns = self._columns
        lines = csv.writer(text := io.StringIO(), lineterminator="\n")
        lines.writerow(columns)
        for values in zip(*columns.values(), strict=True):
            lines.writerow(["" if value != value else value for value in values])
        return text.getvalue()

    @cached_property
    def has_intervals(self) -> bool:
        """Whether an estimate has a confidence interval."""
        return any(e.low <= e.high for row in self.rows for e in row.estimates.values())

    @cached_property
    def _single(self) -> bool:
        """Whether every cell has one problem, whose measures are no statistics."""
        return bool(self.rows) and all(row.problems == 1 for row in self.rows)

    def heading(self, measure: Measure) -> str:
        """Return the heading of a measure: of single problems neither a percentage nor a mean."""
        heading = measure.heading
        return heading.removesuffix(" %").removeprefix("mean ") if self._single else heading

    def shown(self, measure: Measure) -> list[tuple[str, str, str]]:
        """Write each estimate of a measure and the ends of its interval, rounded outwards.

        The decimals show two digits of the width of the median interval of the column. Ends that do
        not exist are empty. A percentage of single problems is yes or no.
        """
        estimates = [row.estimates[measure.name] for row in self.rows]
        if self._single and measure.heading.endswith("%"):
            return [("yes" if e.value else "no", "", "") for e in estimates]
        widths = [e.high - e.low for e in estimates if e.high > e.low]
        digits = 1 - math.floor(math.log10(np.median(widths))) if widths else 0
        of_value, of_ends = (max(least, min(digits, _MOST_DECIMALS)) for least in measure.decimals)
        unit = 10**of_ends
        texts = []
        for e in estimates:
            value = "-" if math.isnan(e.value) else f"{e.value:.{of_value}f}"
            ends = (math.floor(e.low * unit), math.ceil(e.high * unit)) if e.low <= e.high else ()
            low, high = (f"{end / unit:.{of_ends}f}" for end in ends) if ends else ("", "")
            texts.append((value, low, high))
        return texts

    def text(self, width: int | None = None) -> str:
        """Write the table for reading: ``estimate (low-high)``, the interval rounded outwards.

        A table of more than `width` characters is broken into blocks which all repeat the axes.
        """
        axes = [padded([axis, *(str(r.axes[axis]) for r in self.rows)], ">") for axis in self._axes]
        blocks = [axes]
        for measure in self.measures if self.rows else ():
            values, lows, highs = zip(*self.shown(measure), strict=True)
            intervals = [
                f"({low}{' to ' if low.startswith('-') else '-'}{high})" if low else ""
                for low, high in zip(lows, highs, strict=True)
            ]
            cells = map(" ".join, zip(padded(values, ">"), padded(intervals, "<"), strict=True))
            column = padded([self.heading(measure), *cells], "<")
            line = "   ".join(texts[0] for texts in (*blocks[-1], column))
            if width is not None and len(line) > width and blocks[-1] is not axes:
                blocks.append(axes)
            blocks[-1] = [*blocks[-1], column]
        texts = (
            "\n".join("   ".join(line).rstrip() for line in zip(*b, strict=True)) for b in blocks
        )
        return "\n\n".join(texts) + "\n"

    def html(self, **options: Any) -> str:
        """Write the axes that vary and the estimates as HTML, by `pandas.DataFrame.to_html`."""
        import pandas as pd

        varying = [axis for axis in self._axes if len({r.axes[axis] for r in self.rows}) > 1]
        columns = {
            axis: [html.escape(in_words(row.axes[axis])) for row in self.rows]
            for axis in varying or self._axes
        }
        columns["problems"] = [f"{row.problems:,}" for row in self.rows]
        for measure in self.measures:
            columns[self.heading(measure)] = [
                _html_cell(row.estimates[measure.name], row.problems, *shown)
                for row, shown in zip(self.rows, self.shown(measure), strict=True)
            ]
        with pd.option_context("display.max_colwidth", None):
            text: str = pd.DataFrame(columns).to_html(
                index=False, border=0, escape=False, **options
            )
        return text

    def __repr__(self) -> str:
        return self.text() if self.rows else "Table of no finished cells"

    def _repr_html_(self) -> str:
        return self.html()

    @cached_property
    def longest_axis(self) -> str:
        """Axis of the figures: of several rules, where SVMs are in several norms, else the longest.

        Of equally many values a number comes before text, and d, T and n first.
        """
        values = {axis: {row.axes[axis] for row in self.rows} for axis in self._axes}
        if len(values.get("rule", ())) > 1 and any(measure.norm for measure in self.measures):
            return "rule"

        def rank(axis: str) -> tuple[bool, int, int, int]:
            several = len(values[axis])
            numbers = several > 1 and not any(isinstance(value, str) for value in values[axis])
            return numbers, several, "nTd".find(axis), self._axes.index(axis)

        return max(values, key=rank)

    @property
    def in_norms(self) -> dict[str, list[Measure]]:
        """Measures of SVMs in several norms, by their variable."""
        measures: dict[str, list[Measure]] = {}
        for measure in self.measures:
            if measure.norm:
                measures.setdefault(measure.variable, []).append(measure)
        return measures

    @property
    def shares(self) -> tuple[Measure, ...]:
        """Measures between 0 and 1 that have a name in figures."""
        return tuple(m for m in self.measures if m.label and m.bounds == (0.0, 1.0))

    @property
    def name_of_means(self) -> str:
        """Name of the axis that the means of `shares` are drawn on: that of the only one."""
        label = self.shares[0].label if len(self.shares) == 1 else ""
        return f"mean {label[0].lower()}{label[1:]}" if label else "mean over problems"

    @property
    def maps(self) -> dict[str, tuple[str, tuple[float, float]]]:
        """Title and range of the colours of every measure that is drawn as a map, by its name."""
        drawn = {}
        for measure in self.measures:
            if measure.name in SHARES:
                drawn[measure.name] = f"{SHARES[measure.name][0]} (%)", (0.0, 100.0)
            elif measure in self.shares:
                drawn[measure.name] = measure.label, measure.bounds
            elif measure.label:
                low, high = measure.bounds
                values = (row.estimates[measure.name].value for row in self.rows)
                lowest = min((x for x in values if not math.isnan(x)), default=low)
                drawn[measure.name] = measure.label, (lowest, high)
        return drawn

    @property
    def map_axes(self) -> tuple[str, str] | None:
        """The two axes that vary, the longest first, where both have five values or more."""
        counts = {axis: len({row.axes[axis] for row in self.rows}) for axis in self._axes}
        varying = sorted((axis for axis in counts if counts[axis] > 1), key=counts.__getitem__)
        if len(varying) != 2 or counts[varying[0]] < _MANY_VALUES:
            return None
        across = self.longest_axis
        return across, next(axis for axis in varying if axis != across)

    def grid(self, measure: str) -> tuple[list[str], list[str], Float64Array]:
        """Return the values of both `map_axes` in words, and the estimates (down, across)."""
        assert self.map_axes is not None
        across, down = (
            list(dict.fromkeys(r.axes[axis] for r in self.rows)) for axis in self.map_axes
        )
        values = np.full((len(down), len(across)), np.nan)
        for row in self.rows:
            x, y = (row.axes[axis] for axis in self.map_axes)
            values[down.index(y), across.index(x)] = row.estimates[measure].value
        return [*map(in_words, across)], [*map(in_words, down)], values

    @property
    def panels(self) -> dict[str, Table]:
        """Rows along the longest axis, by the values of all other axes in words."""
        rows: dict[str, list[Row]] = {}
        for row in self.rows:
            others = {axis: x for axis, x in row.axes.items() if axis != self.longest_axis}
            name = ", ".join(f"{axis} = {in_words(x)}" for axis, x in others.items())
            rows.setdefault(name, []).append(row)
        return {name: Table(self.measures, tuple(part)) for name, part in rows.items()}


def _html_cell(estimate: Estimate, problems: int, value: str, low: str, high: str) -> str:
    """Write an estimate with its value for sorting, a minus sign, its interval and its runs."""
    interval = f"{low}–{high}".replace("-", "−") if low else ""
    runs = "" if estimate.size == problems else f"of {estimate.size:,}"
    number = "" if math.isnan(estimate.value) else repr(float(estimate.value))
    shown = value.replace("-", "−") if number else value
    small = "".join(f" <small>{text}</small>" for text in (interval, runs) if text)
    return f'<data value="{number}">{shown}</data>{small}'
