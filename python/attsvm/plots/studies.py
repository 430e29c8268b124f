"""Figures of studies: shares and means over axes, maps, and the record of one cell."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attsvm._arrays import BoolArray
from attsvm._validation import as_instance, in_words
from attsvm.plots.records import CURVES, draw_record
from attsvm.plots.style import (
    COLUMN_WIDTH,
    GRID,
    PAGE_HEIGHT,
    TEXT_WIDTH,
    add_caption,
    add_legend,
    new_figure,
    require_matplotlib,
    set_ticks,
)
from attsvm.studies.chunked_arrays import StoredResults
from attsvm.studies.layout import Layout
from attsvm.studies.measurements import OUTCOMES
from attsvm.studies.reproduce.drawing import bars, heat_map, interval_in_legend, intervals
from attsvm.studies.reproduce.palette import BLUE, INK, Series, series
from attsvm.studies.store import as_results
from attsvm.studies.study import Study
from attsvm.studies.summary import IN_NORMS, describe, measures_of, tabulate
from attsvm.studies.table import AXIS_NAMES, FEW_PROBLEMS, SHARES, Measure, Table

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARGINS = 0.6
"""Of the height, what legend and caption take."""
_LEAST_HEIGHT = 0.6
"""Share of the usual height that panels have at least where a page does not hold all of them."""
_MAPS_OF_LINE = 3
"""Heat maps without numbers in a line."""
_NARROW_BARS = 4
"""Groups of bars that a column of a page holds."""
_ASIDE = 0.2
"""Largest distance of the mark of a curve from its place on the axis, whose places are 1 apart."""
_MOST_BARS = 10
"""Groups of bars of a panel; more are curves."""


def drawable(
    table: Table | xr.Dataset | Study, *, results: xr.Dataset | StoredResults | None = None
) -> bool:
    """Return whether a table and its results, or results alone, have what `study` draws.

    That is outcomes, support vectors, cosines, margin ratios, accuracies or attention of several
    problems, or the record of one cell. Of the declaration of a study, whether its results will.
    """
    if results is not None:
        as_results("results", results)
    if isinstance(table, Study):
        names = {variable.name for variable in Layout(table).variables}
        measures = [measure for measure in measures_of(table) if measure.variable in names]
        problems = [table.problems or 0] * len(table.cells)
    else:
        if not isinstance(table, Table):
            results, table = table, tabulate(as_results("table", table, Table, Study))
        names, measures = {*map(str, results or ())}, [*table.measures]
        problems = [row.problems for row in table.rows]
    if _one_cell(problems) and any(f"history_{name}" in names for name in CURVES):
        return True
    drawn = any(each.norm or each.label or each.name in SHARES for each in measures)
    return problems not in ([], [1]) and drawn


def _one_cell(problems: Sequence[int]) -> bool:
    """Return whether there is one cell, with problems, of the numbers of each cell."""
    return len(problems) == 1 and problems[0] >= 1


def study(
    table: Table | xr.Dataset,
    caption: str = "",
    *,
    results: xr.Dataset | StoredResults | None = None,
) -> Figure:
    """Draw a study: outcomes over its axes and cosines with the SVM, or the record of one cell.

    Outcomes are bars over one axis, or curves where it has more than ten values; the mean cosine is
    below them. Two axes of five values or more span maps. Where there are results of one cell with
    the history of its problems, that is drawn, coloured by the outcome: of at most twenty problems
    each, and of more their medians and quartiles. Margin ratios and cosines in several norms are
    drawn as heat maps of their medians, the norms against one axis, which is the step rule where
    there are several. No figure is higher than a page: heat maps go without numbers there, and of
    many panels the first ones are drawn.

    Parameters
    ----------
    table : Table, or xarray.Dataset
        From `attsvm.studies.tabulate`, with what is drawn, else a `ValueError`; or the results,
        which are tabulated. The bars stand along the longest axis of numbers; every combination of
        the others has a separate panel.
    caption : str
        Written small under the figure; by default the settings, if results are given.
    results : xarray.Dataset, optional
        The results of which the table was made, which are then not tabulated again.

    Returns
    -------
    matplotlib.figure.Figure
        Error bars are the 95 % confidence intervals of the table.
    """
    as_instance("caption", caption, str)
    if not isinstance(table, Table):
        results, table = table, tabulate(as_results("table", table, Table))
    if results is not None:
        caption = caption or describe(Study.from_results(as_results("results", results)))
        if _one_cell([row.problems for row in table.rows]) and (history := _histories(results)):
            groups = _by_outcome(results)
            many = any(np.sum(which) > FEW_PROBLEMS for _, which in groups.values())
            caption = _joined(caption, "Lines are medians, bands quartiles" if many else "")
            return draw_record(history, caption=caption, groups=groups)
    require_matplotlib()
    if not drawable(table):
        raise ValueError(
            "table: expected outcomes, cosines, margin ratios, accuracies or attention of several "
            "problems to draw, got none"
        )
    if table.in_norms:
        return _heat_maps(table, caption)
    if table.map_axes is not None:
        return _maps(table, *table.map_axes, caption)
    measured = {measure.name for measure in table.measures}
    heights = [3.2] if measured & SHARES.keys() else []
    draw = [_draw_shares] if heights else []
    if "cosine_mean" in measured:
        heights.append(1 if draw else 3.2)
        draw.append(_draw_cosines)
    if table.shares:
        heights.append(3.2)
        draw.append(_draw_means)
    panels, along = table.panels, table.longest_axis
    columns = _columns(table)
    panel_height = 0.7 * sum(heights)
    panels, left_out = _on_a_page(panels, columns, panel_height * _LEAST_HEIGHT)
    caption = _joined(caption, left_out)
    lines = -(-len(panels) // columns)
    panel_height = min(panel_height, (PAGE_HEIGHT - _MARGINS) / lines)
    most = max(len(part.rows) for part in panels.values())
    width = COLUMN_WIDTH if columns == 1 and most <= _NARROW_BARS else TEXT_WIDTH
    panel_width = width / columns

    with new_figure(width, panel_height * lines + _MARGINS) as figure:
        rows = len(draw) * lines
        grid = figure.subplots(rows, columns, height_ratios=heights * lines, squeeze=False)
        for k, (name, part) in enumerate(panels.items()):
            line, column = divmod(k, columns)
            panel = grid[len(draw) * line : len(draw) * (line + 1), column]
            for axes, draw_part in zip(panel, draw, strict=True):
                draw_part(axes, table, part)
                set_ticks(axes, [in_words(r.axes[along]) for r in part.rows])
                axes.tick_params(labelbottom=axes is panel[-1], bottom=axes is panel[-1])
                if column > 0:
                    axes.set_ylabel("")
            panel[0].set_title(textwrap.fill(name, round(16 * panel_width)), loc="left")
            panel[-1].set_xlabel(AXIS_NAMES.get(along, along))
        for axes in grid.flat:
            if not axes.has_data():
                axes.remove()
        add_legend(figure)
        add_caption(figure, caption)
    return figure


def _heat_maps(table: Table, caption: str) -> Figure:
    """Draw the medians in every norm: with intervals one below the other, else side by side.

    What a page does not hold so is drawn without numbers, three maps in a line.
    """
    panels, in_norms, along = table.panels, table.in_norms, table.longest_axis
    rows = max(len(part.rows) for part in panels.values())
    detailed = len(panels) == 1
    columns = 1 if detailed else len(in_norms)
    lines = len(in_norms) if detailed else len(panels)
    height = (0.32 if detailed else 0.19) * rows + 0.5
    numbers = height * lines + _MARGINS <= PAGE_HEIGHT
    maps: list[tuple[tuple[str, Table] | None, tuple[str, list[Measure]]]]
    maps = [(panel, pair) for panel in panels.items() for pair in in_norms.items()]
    if not numbers:
        columns, height = _MAPS_OF_LINE, 0.115 * rows + 0.2
        panels, left_out = _on_a_page(panels, columns, height * len(in_norms))
        caption = _joined(caption, left_out)
        empty = [None] * (-len(panels) % columns)
        maps = [(panel, pair) for pair in in_norms.items() for panel in [*panels.items(), *empty]]
        lines = len(maps) // columns
    with new_figure(TEXT_WIDTH, height * lines + _MARGINS) as figure:
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True)
        for axes, (panel, (variable, measures)) in zip(grid.flat, maps, strict=True):
            if panel is None:
                axes.remove()
                continue
            name, part = panel
            estimates = [[row.estimates[m.name] for m in measures] for row in part.rows]
            labels = [in_words(row.axes[along]) for row in part.rows]
            norms = [measure.norm for measure in measures]
            options = {"with_intervals": detailed and numbers, "with_numbers": numbers}
            heat_map(axes, estimates, labels, norms, **options)
            title = f"{IN_NORMS[variable][1]} in each norm"
            title = "\n".join(filter(None, (title if numbers else "", name)))
            axes.set_title(title, loc="left")
            if axes not in grid[:, 0]:
                axes.set_yticks([])
            if not numbers:
                axes.tick_params(axis="x", rotation=90)
            if not numbers and axes in grid[:, 0]:
                axes.set_ylabel(textwrap.fill(IN_NORMS[variable][1], 12))
        bar = figure.colorbar(grid[0, 0].images[0], ax=grid, fraction=0.03, pad=0.01, aspect=40)
        bar.set_label("median")
        bar.outline.set_visible(False)
        shown = detailed and numbers and table.has_intervals
        below = "Below a median is its 95 % confidence interval" if shown else ""
        frame = "A frame marks the largest median of a row"
        add_caption(figure, f"{_joined(caption, frame, below)}.")
    return figure


def _on_a_page(
    panels: Mapping[str, Table], columns: int, height: float
) -> tuple[dict[str, Table], str]:
    """Return the panels that a page holds in lines of this height, and a note on the others."""
    count = columns * max(1, int((PAGE_HEIGHT - _MARGINS) / height))
    if len(panels) <= count:
        return dict(panels), ""
    shown = dict(itertools.islice(panels.items(), count))
    return shown, f"{count} of {len(panels)} panels, all of which are in the report"


def _joined(*sentences: str) -> str:
    return ". ".join(filter(None, sentences))


def _histories(results: xr.Dataset | StoredResults) -> dict[str, NDArray[Any]]:
    """Return the records of the finished problems, without what they do not have."""
    finished = results["finished"].to_numpy()
    names = {f"history_{name}": name for name in CURVES}
    history = {names[v]: results[v].to_numpy()[finished] for v in names if v in results}
    known = {name: values for name, values in history.items() if not np.isnan(values).all()}
    return {"step": results["step"].to_numpy(), **known} if known else {}


def _by_outcome(results: xr.Dataset | StoredResults) -> dict[str, tuple[str, BoolArray]]:
    """Return colour and problems of each outcome, by its name and number of problems.

    Without outcomes many problems are one group.
    """
    if "outcome" not in results:
        finished = np.ones(int(results["finished"].to_numpy().sum()), bool)
        many = finished.size > FEW_PROBLEMS
        return {f"{finished.size} problems": (BLUE, finished)} if many else {}
    outcome = results["outcome"].to_numpy()[results["finished"].to_numpy()]
    groups = {}
    for code, name in enumerate(OUTCOMES):
        which = outcome == code
        count = f"{which.sum()} problem{'' if which.sum() == 1 else 's'}"
        if which.any():
            groups[f"{name}: {count}"] = (SHARES[f"{name}_percent"][1], which)
    return groups


def _maps(table: Table, across: str, down: str, caption: str) -> Figure:
    """Draw every share, and the mean cosine, as a map over two axes."""
    shown = [name for name in table.maps if name != "neither_percent"]
    lines, columns = -(-len(shown) // 2), min(len(shown), 2)
    height = min(2.5, (PAGE_HEIGHT - _MARGINS) / lines)
    with new_figure(TEXT_WIDTH if columns > 1 else COLUMN_WIDTH, height * lines + 0.4) as figure:
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, name in itertools.zip_longest(grid, shown):
            if name is None:
                axes.remove()
                continue
            columns_of, rows_of, values = table.grid(name)
            title, limits = table.maps[name]
            image = axes.imshow(values, cmap="viridis", vmin=limits[0], vmax=limits[1],
                                aspect="auto", origin="lower")  # fmt: skip
            figure.colorbar(image, ax=axes)
            axes.set_title(title)
            axes.set(xlabel=AXIS_NAMES.get(across, across), ylabel=AXIS_NAMES.get(down, down))
            set_ticks(axes, columns_of)
            axes.set_yticks(range(len(rows_of)), rows_of)
        add_caption(figure, caption)
    return figure


def _draw_shares(axes: Axes, table: Table, part: Table) -> None:
    measured = {m.name for m in table.measures}
    shares = {name: style for name, style in SHARES.items() if name in measured}
    if len(part.rows) <= _MOST_BARS:
        bars(axes, shares, [row.estimates for row in part.rows])
    else:
        plain = {name: (x, Series(colour, "solid", "o")) for name, (x, colour) in shares.items()}
        _draw_curves(axes, part, plain)
    interval_in_legend(axes)
    axes.set(ylim=(0, 102), ylabel="problems (%)")


def _draw_cosines(axes: Axes, table: Table, part: Table) -> None:
    """Draw the cosines of a panel, on a scale from the lowest of all panels to above 1."""
    value, errors = intervals(row.estimates["cosine_mean"] for row in part.rows)
    style: dict[str, Any] = {"fmt": "o", "markersize": 3, "elinewidth": 0.7, "capsize": 1.5}
    axes.errorbar(np.arange(len(value)), value, errors, color=INK, **style)
    estimates = [row.estimates["cosine_mean"] for row in table.rows]
    lowest = min((x for e in estimates for x in (e.value, e.low) if x < 1), default=0.0)
    axes.set(
        xlim=(-0.6, len(value) - 0.4),
        ylim=(1 - 1.1 * (1 - lowest), 1 + 0.1 * (1 - lowest)),
        ylabel="mean cosine\nwith the SVM",
    )
    axes.grid(**GRID)
    axes.set_axisbelow(True)
    axes.ticklabel_format(axis="y", useOffset=False)


def _draw_means(axes: Axes, table: Table, part: Table) -> None:
    """Draw means between 0 and 1 over one axis."""
    styles = zip(table.shares, series(), strict=False)
    _draw_curves(axes, part, {measure.name: (measure.label, style) for measure, style in styles})
    axes.set(ylim=(-0.02, 1.02), ylabel=table.name_of_means)


def _draw_curves(axes: Axes, part: Table, measures: Mapping[str, tuple[str, Series]]) -> None:
    """Draw estimates with their intervals, side by side, over one axis; styles by measure."""
    aside = np.linspace(-_ASIDE, _ASIDE, len(measures)) if len(measures) > 1 else [0.0]
    for (name, (label, style)), shift in zip(measures.items(), aside, strict=True):
        value, errors = intervals(row.estimates[name] for row in part.rows)
        axes.errorbar(np.arange(len(value)) + shift, value, errors, color=style.colour, label=label,
                      linestyle=style.dash, marker=style.marker, markersize=2.5, elinewidth=0.7,
                      linewidth=1)  # fmt: skip
    axes.set_xlim(-0.6, len(part.rows) - 0.4)
    axes.grid(**GRID)


def _columns(table: Table) -> int:
    """Count the panels of a line: a grid of the two axes that vary if it fits, else three."""
    varying = [
        count
        for axis in table.rows[0].axes
        if (count := len({row.axes[axis] for row in table.rows})) > 1 and axis != table.longest_axis
    ]
    fits = len(varying) == 2 and varying[1] <= 4
    return varying[1] if fits else min(len(table.panels), 3)
