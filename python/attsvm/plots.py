"""Figures, drawn with matplotlib (the extra ``attsvm[plot]``) without touching its global state."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from attsvm.studies.reproduce.figure import Figure as PublishedFigure
from attsvm.studies.reproduce.figure import Outcome
from attsvm.studies.table import Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["overparam", "png", "published", "require_matplotlib"]

_BARS = (
    ("global_percent", "Global", "#c8352b"),
    ("local_percent", "Local (including Global)", "#2f6db5"),
    ("neither_percent", "Not Local", "#35a79c"),
    ("all_support_percent", "All tokens support vectors", "#a9c93f"),
)
"""Measure, name and colour: the hues of the published figure, in different lightness."""

_INK = "#333333"
_STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
}


def overparam(table: Table, caption: str = "") -> Figure:
    """Where training went, as bars over d, above the cosine with the SVM; one panel per (n, T).

    Parameters
    ----------
    table : Table
        From `attsvm.studies.overparam.tabulate`.
    caption : str
        Settings, written small under the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Error bars are the 95 % intervals of the table.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    panels: dict[tuple[int, int], list[Row]] = {}
    for row in table.rows:
        panels.setdefault((row.axes["n"], row.axes["T"]), []).append(row)
    columns = _columns(panels)
    lines = -(-len(panels) // columns)
    groups = max(len(rows) for rows in panels.values())
    width = columns * max(3.0, 0.5 + 0.62 * groups) + 0.4

    with rc_context(_STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
        figure = Figure(figsize=(width, 3.7 * lines + 0.6), layout=layout)
        grid = figure.add_gridspec(2 * lines, columns, height_ratios=(3.2, 1) * lines)
        ends = [row.estimates["cosine_mean"] for row in table.rows]
        lowest = min((e.low for e in ends if e.low < 1), default=0.0)
        cosines: Axes | None = None
        for k, ((n, T), rows) in enumerate(panels.items()):
            line, column = divmod(k, columns)
            bars = figure.add_subplot(grid[2 * line, column])
            below = grid[2 * line + 1, column]
            cosines = figure.add_subplot(below, sharex=bars, sharey=cosines)
            _draw_bars(bars, rows)
            _draw_cosines(cosines, rows)
            cosines.set_ylim(1 - 1.1 * (1 - lowest), 1 + 0.1 * (1 - lowest))
            bars.set_title(f"n = {n}, T = {T}", loc="left")
            bars.tick_params(labelbottom=False, bottom=False)
            cosines.set_xticks(range(len(rows)), [str(row.axes["d"]) for row in rows])
            cosines.set_xlabel("dimension d")
            if column == 0:
                bars.set_ylabel("problems (%)")
                cosines.set_ylabel("mean cosine\nwith the SVM")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
        if caption:
            figure.supxlabel(textwrap.fill(caption, round(17 * width)), fontsize=7)
    return figure


def published(figure: PublishedFigure, outcome: Outcome) -> Figure:
    """A published figure, drawn from what was computed anew.

    Parameters
    ----------
    figure : attsvm.studies.reproduce.figure.Figure
    outcome : Outcome
        From ``figure.compute``.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with rc_context(_STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
        canvas = Figure(figsize=figure.size, layout=layout)
        figure.draw(canvas, outcome)
    return canvas


def png(figure: Figure) -> bytes:
    """The figure as a PNG file of 200 dots per inch; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200)
    return buffer.getvalue()


def require_matplotlib() -> None:
    """Raise ImportError, naming the extra that brings it, if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError('attsvm.plots needs matplotlib: pip install "attsvm[plot]"') from error


def _draw_bars(axes: Axes, rows: Sequence[Row]) -> None:
    at = np.arange(len(rows))
    width = 0.84 / len(_BARS)
    for k, (measure, label, colour) in enumerate(_BARS):
        value, below, above = _with_errors(rows, measure)
        axes.bar(
            at + (k - (len(_BARS) - 1) / 2) * width,
            value,
            0.94 * width,
            color=colour,
            label=label,
            yerr=(below, above),
            error_kw={"elinewidth": 0.7, "ecolor": _INK},
        )
    axes.set_ylim(0, 102)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", linewidth=0.4, color="#dddddd")
    axes.set_axisbelow(True)


def _draw_cosines(axes: Axes, rows: Sequence[Row]) -> None:
    value, below, above = _with_errors(rows, "cosine_mean")
    axes.errorbar(
        np.arange(len(rows)),
        value,
        (below, above),
        fmt="o",
        markersize=3,
        color=_INK,
        elinewidth=0.7,
        capsize=1.5,
    )
    axes.grid(axis="y", linewidth=0.4, color="#dddddd")
    axes.set_axisbelow(True)


def _columns(panels: Collection[tuple[int, int]]) -> int:
    """Panels of one line: the grid of n by T where it is one that fits, else three."""
    numbers_n, numbers_T = ({panel[k] for panel in panels} for k in (0, 1))
    if len(numbers_n) > 1 and 1 < len(numbers_T) <= 4:
        return len(numbers_T)
    return min(len(panels), 3)


def _with_errors(rows: Sequence[Row], measure: str) -> tuple[Any, Any, Any]:
    """Values, and how far their intervals reach below and above; NaN where there is none."""
    estimates = [row.estimates[measure] for row in rows]
    value, low, high = (
        np.array([getattr(e, part) for e in estimates]) for part in ("value", "low", "high")
    )
    return value, value - low, high - value
