"""Parts of drawings that several figures have."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from attsvm.studies.intervals import Estimate
from attsvm.studies.reproduce.expected import Expected
from attsvm.studies.reproduce.figure import Array, Data
from attsvm.studies.reproduce.palette import INK, PALE, RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure

    Canvas: TypeAlias = Figure
else:  # matplotlib is an extra
    Axes: TypeAlias = Any
    Canvas: TypeAlias = Any


_QUANTILES = {"median": (0.0, 0.5, 1.0), "quartiles": (0.25, 0.5, 0.75)}


def band(
    axes: Axes,
    x: ArrayLike,
    curves: Array,
    colour: str,
    label: str | None = None,
    *,
    middle: str = "mean",
    within: tuple[float, float] = (-np.inf, np.inf),
    **style: Any,
) -> None:
    """Plot the mean of curves (runs, x) in a band of one standard deviation, or of quantiles.

    With the `middle` "median" the band is the range of all, with "quartiles" that between these.
    The band stays `within` the values that the quantity can have.
    """
    if middle == "mean":
        line, spread = curves.mean(axis=0), curves.std(axis=0)
        low, high = np.clip([line - spread, line + spread], *within)
    else:
        low, line, high = np.quantile(curves, _QUANTILES[middle], axis=0)
    axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(x, line, **{"color": colour, "label": label, "linewidth": 1.5, **style})


def band_in_legend(axes: Axes, label: str) -> None:
    """Add the mark of a band to the legend."""
    axes.fill_between([], [], [], color=INK, alpha=0.16, linewidth=0, label=label)


def intervals(estimates: Iterable[Estimate]) -> tuple[Array, Any]:
    """Return values, and how far their intervals extend below and above; NaN for none."""
    value, low, high = np.array([(x.value, x.low, x.high) for x in estimates]).T
    # Lists: matplotlib 3.10, the last for Python 3.10, fails on arrays of one element.
    return value, [(value - low).tolist(), (high - value).tolist()]


def bars(
    axes: Axes, measures: Mapping[str, tuple[str, str]], rows: Sequence[Mapping[str, Estimate]]
) -> Data:
    """Draw a group of bars, one for each of the measures, for every row; return their places.

    `measures` are labels and colours by name.
    """
    places, width = {}, 0.84 / len(measures)
    for k, (name, (label, colour)) in enumerate(measures.items()):
        value, errors = intervals(row[name] for row in rows)
        places[name] = np.arange(len(rows)) + (k - (len(measures) - 1) / 2) * width
        axes.bar(places[name], value, 0.94 * width, color=colour, label=label, yerr=errors,
                 error_kw={"elinewidth": 0.7, "ecolor": INK})  # fmt: skip
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", linewidth=0.4, color=PALE)
    axes.set_axisbelow(True)
    return places


def interval_in_legend(axes: Axes) -> None:
    """Add the mark of a confidence interval to the legend."""
    axes.errorbar([], [], [], color=INK, elinewidth=0.7, linewidth=0, label="95 % interval")


_FRAME = 0.47 * np.array([[-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1]])
"""Corners of a frame around a cell of a heat map."""


def heat_map(
    axes: Axes,
    estimates: Sequence[Sequence[Estimate]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    with_intervals: bool = False,
    with_numbers: bool = True,
) -> None:
    """Draw estimates between 0 and 1 as coloured cells with their values, and intervals below them.

    Intervals are rounded outwards. A frame marks the largest value of a row.
    """
    values = np.array([[each.value for each in row] for row in estimates])
    axes.imshow(values, cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        low, high = estimates[row][column].low, estimates[row][column].high
        style: dict[str, Any] = {"ha": "center", "color": "white" if value <= 0.6 else "black"}
        number = "–" if np.isnan(value) else f"{value:.3f}"
        if with_intervals and low <= high:
            ends = np.floor(1000 * low) / 1000, np.ceil(1000 * high) / 1000
            number += "\n" + "–".join(f"{end:.3f}" for end in ends).replace("0.", ".")
        if with_numbers:
            axes.text(column, row, number.replace("–1.000", "–1"), va="center_baseline", **style)
        if value == np.nanmax(values[row], initial=-np.inf):
            x, y = column + _FRAME[0], row + _FRAME[1]
            axes.plot(x, y, color=RED, linewidth=1.5, scalex=False, scaley=False)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)


def ring(axes: Axes, x: Any, y: Any, colour: str = INK, label: str | None = None) -> None:
    """Mark points with rings: expected numbers, or starts."""
    # A line without points, for the legend, has no extent to lay out unless it is clipped.
    axes.plot(x, y, "o", color="white", markeredgecolor=colour, markersize=4.5,
              clip_on=np.size(x) == 0, zorder=3, label=label)  # fmt: skip


def rings(
    axes: Axes, numbers: Expected, colour: str = INK, label: str | None = None, upto: float = np.inf
) -> None:
    """Mark expected numbers at their places, up to one, with rings."""
    at = [place for place in numbers.at if place <= upto]
    ring(axes, at, [numbers.value(place) for place in at], colour, label)


def ray(axes: Axes, direction: Array, colour: str, label: str, **style: Any) -> None:
    """Plot a half line from the origin, beyond every frame."""
    end = 40 * direction / np.linalg.norm(direction)
    axes.plot(*np.outer([0.0, 1.0], end).T, color=colour, label=label, **{"linewidth": 2, **style})


def paths_in_plane(axes: Axes, paths: Array, colour: str, label: str) -> None:
    """Plot paths (runs, steps, 2) and rings where they start."""
    for k, path in enumerate(paths):
        axes.plot(*path.T, color=colour, linewidth=1, label=None if k else label)
    x, y = paths[:, 0].T
    ring(axes, x, y, colour, "start")


def legend_outside(
    canvas: Canvas, panels: Axes | Iterable[Axes], place: Any, columns: int, **options: Any
) -> None:
    """Put the legend of some panels outside of all, at ``"outside lower center"`` for example."""
    several = panels if isinstance(panels, Iterable) else [panels]
    marks = [axes.get_legend_handles_labels() for axes in several]
    handles, labels = (itertools.chain(*parts) for parts in zip(*marks, strict=True))
    canvas.legend(list(handles), list(labels), loc=place, ncols=columns, **options)
