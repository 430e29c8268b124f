"""Figures, drawn with matplotlib (the extra ``attsvm[plot]``) without touching its global state."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attsvm.extras import require_extra
from attsvm.studies.axis_values import in_words
from attsvm.studies.panels import AXIS_NAMES, SHARES, panels
from attsvm.studies.reproduce.figure import Figure as PublishedFigure
from attsvm.studies.reproduce.figure import Outcome
from attsvm.studies.table import Row, Table, longest_axis
from attsvm.theory.priority_graphs import TokenPriorityGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["drawable", "png", "published", "require_matplotlib", "study", "token_priority_graph"]

_TOKENS_OF_BOX = 24
_BOXES_OF_LINE = 8
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


def drawable(table: Table) -> bool:
    """Whether a table has something that `study` draws: outcomes, support vectors or cosines.

    Parameters
    ----------
    table : Table

    Returns
    -------
    bool
    """
    measured = {measure.name for measure in table.measures}
    return bool(table.rows and measured & {*(name for name, _, _ in SHARES), "cosine_mean"})


def study(table: Table, caption: str = "") -> Figure:
    """Where training went, as bars over one axis of a study, above the cosine with the SVM.

    Parameters
    ----------
    table : Table
        From `attsvm.studies.tabulate`, with the outcome, the cosine or both. The bars stand along
        its longest axis of numbers; every combination of the others has a panel of its own.
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
    ValueError
        The table has nothing of what is drawn.
    """
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    measured = {measure.name for measure in table.measures}
    drawn = [bar for bar in SHARES if bar[0] in measured]
    has_cosine = "cosine_mean" in measured
    if not drawable(table):
        raise ValueError("table: expected outcomes or cosines to draw, got neither")
    along = longest_axis(table)
    all_panels = panels(table)
    columns = _columns(all_panels)
    lines = -(-len(all_panels) // columns)
    groups = max(len(rows) for rows in all_panels.values())
    width = columns * max(3.0, 0.5 + 0.62 * groups) + 0.4
    heights = [3.2] * bool(drawn) + [1 if drawn else 3.2] * has_cosine

    with rc_context(_STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
        figure = Figure(figsize=(width, 0.88 * sum(heights) * lines + 0.6), layout=layout)
        grid = figure.add_gridspec(len(heights) * lines, columns, height_ratios=heights * lines)
        cosines: Axes | None = None
        for k, (others, rows) in enumerate(all_panels.items()):
            line, column = divmod(k, columns)
            top: Axes | None = None
            if drawn:
                top = bars = figure.add_subplot(grid[len(heights) * line, column])
                _draw_bars(bars, rows, drawn)
                if column == 0:
                    bars.set_ylabel("problems (%)")
            if has_cosine:
                below = grid[len(heights) * (line + 1) - 1, column]
                cosines = figure.add_subplot(below, sharex=top, sharey=cosines)
                _draw_cosines(cosines, rows)
                _set_range_of_cosines(cosines, table)
                if column == 0:
                    cosines.set_ylabel("mean cosine\nwith the SVM")
                if top is not None:
                    top.tick_params(labelbottom=False, bottom=False)
            last = figure.axes[-1]
            last.set_xticks(range(len(rows)), [in_words(row.axes[along]) for row in rows])
            last.set_xlabel(AXIS_NAMES.get(along, along))
            title = ", ".join(f"{axis} = {in_words(x)}" for axis, x in others)
            (top or last).set_title(title, loc="left")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if drawn:
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


def token_priority_graph(
    graph: TokenPriorityGraph,
    vocabulary: Sequence[str] | NDArray[np.str_] | None = None,
    *,
    most: int = 40,
) -> Figure:
    """The token-priority graph of one last token: components as boxes, priorities as arrows.

    Priorities go down. Arrows that follow from others are left out; so are tokens without an edge.
    A coloured box is a component of several tokens. A dashed box holds single tokens with the same
    priorities, each a component by itself.

    Parameters
    ----------
    graph : TokenPriorityGraph
        One of `attsvm.token_priority_graphs`.
    vocabulary : sequence of str, optional
        Names of the ids, such as ``data.vocabulary``; by default the ids themselves.
    most : int
        Boxes drawn, those of highest priority.

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

    groups = _alike(graph)
    drawn = groups[:most]
    lines = _lines(graph, drawn)
    places = {
        box: ((k + 0.5) / len(line), -float(at))
        for at, line in enumerate(lines)
        for k, box in enumerate(line)
    }
    box_of = {c: box for box, group in enumerate(drawn) for c in group}
    height = max(len(lines), 1)
    width = max(3.2, 1.6 * max((len(line) for line in lines), default=1))
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, 0.8 + 0.95 * height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(0.5 - height, 0.5)
        patches = {}
        for box, (x, y) in places.items():
            group = drawn[box]
            tokens = np.concatenate([graph.components[c] for c in group])
            cyclic = len(tokens) > len(group)
            text = axes.text(
                x,
                y,
                _box_text(tokens, vocabulary),
                ha="center",
                va="center",
                zorder=2,
                bbox={
                    "boxstyle": "round,pad=0.35",
                    "facecolor": "#f3d9a4" if cyclic else "white",
                    "edgecolor": _INK,
                    "linewidth": 0.7,
                    "linestyle": "--" if len(group) > 1 else "-",
                },
            )
            patches[box] = text.get_bbox_patch()
        arrows = {
            (box_of[above], box_of[below])
            for above, below in graph.condensation.tolist()
            if above in box_of and below in box_of
        }
        for above, below in sorted(arrows):
            axes.annotate(
                "",
                places[below],
                places[above],
                zorder=1,
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": _INK,
                    "linewidth": 0.6,
                    "patchA": patches[above],
                    "patchB": patches[below],
                    "shrinkA": 2,
                    "shrinkB": 2,
                },
            )
        left_out = sum(len(group) for group in groups[most:])
        more = f"; {left_out} components of lower priority are not drawn" if left_out else ""
        axes.set_title(f"last token {_token_name(graph.last, vocabulary)}{more}", loc="left")
    return figure


def _alike(graph: TokenPriorityGraph) -> list[list[int]]:
    """Components, with single tokens that have the same arrows to and from them taken together."""
    above: dict[int, set[int]] = {}
    below: dict[int, set[int]] = {}
    for upper, lower in graph.condensation.tolist():
        above.setdefault(lower, set()).add(upper)
        below.setdefault(upper, set()).add(lower)
    groups: dict[Any, list[int]] = {}
    for c, tokens in enumerate(graph.components):
        arrows = (frozenset(above.get(c, ())), frozenset(below.get(c, ())))
        groups.setdefault(arrows if len(tokens) == 1 else c, []).append(c)
    return list(groups.values())


def _lines(graph: TokenPriorityGraph, groups: list[list[int]]) -> list[list[int]]:
    """Groups by the levels of their components, the levels in lines of at most eight."""
    level = np.zeros(len(graph.components), dtype=np.int64)
    level[graph.component] = graph.level
    levels: dict[int, list[int]] = {}
    for box, group in enumerate(groups):
        levels.setdefault(int(level[group[0]]), []).append(box)
    return [
        boxes[k : k + _BOXES_OF_LINE]
        for _, boxes in sorted(levels.items())
        for k in range(0, len(boxes), _BOXES_OF_LINE)
    ]


def _box_text(
    tokens: NDArray[np.int64], vocabulary: Sequence[str] | NDArray[np.str_] | None
) -> str:
    shown = ", ".join(_token_name(int(token), vocabulary) for token in tokens[:_TOKENS_OF_BOX])
    left_out = len(tokens) - _TOKENS_OF_BOX
    return textwrap.fill(shown if left_out <= 0 else f"{shown}, … {left_out} more", 28)


def _token_name(token: int, vocabulary: Sequence[str] | NDArray[np.str_] | None) -> str:
    word = str(token) if vocabulary is None else str(vocabulary[token])
    printed = repr(word)[1:-1] if word.strip() else repr(word)
    return printed.replace("$", r"\$")


def png(figure: Figure) -> bytes:
    """The figure as a PNG file of 200 dots per inch; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200)
    return buffer.getvalue()


def _draw_bars(axes: Axes, rows: Sequence[Row], drawn: Sequence[tuple[str, str, str]]) -> None:
    at = np.arange(len(rows))
    width = 0.84 / len(drawn)
    for k, (measure, label, colour) in enumerate(drawn):
        value, below, above = _with_errors(rows, measure)
        axes.bar(
            at + (k - (len(drawn) - 1) / 2) * width,
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


def _set_range_of_cosines(axes: Axes, table: Table) -> None:
    """From below the lowest end of an interval to above 1, the same for all panels."""
    ends = [row.estimates["cosine_mean"] for row in table.rows]
    lowest = min((e.low for e in ends if e.low < 1), default=0.0)
    axes.set_ylim(1 - 1.1 * (1 - lowest), 1 + 0.1 * (1 - lowest))


def _columns(panels: Collection[tuple[tuple[str, Any], ...]]) -> int:
    """Panels of one line: the grid of the two axes that vary where it fits, else three."""
    values = [set(column) for column in zip(*panels, strict=True)]
    varying = [len(column) for column in values if len(column) > 1]
    if len(varying) == 2 and varying[1] <= 4:
        return varying[1]
    return min(len(panels), 3)


def _with_errors(rows: Sequence[Row], measure: str) -> tuple[Any, Any, Any]:
    """Values, and how far their intervals reach below and above; NaN where there is none."""
    estimates = [row.estimates[measure] for row in rows]
    value, low, high = (
        np.array([getattr(e, part) for e in estimates]) for part in ("value", "low", "high")
    )
    # Lists: matplotlib 3.10, the last for Python 3.10, stumbles over arrays of one element.
    return value, (value - low).tolist(), (high - value).tolist()


def require_matplotlib() -> None:
    """Raise ImportError, naming the extra that brings it, if matplotlib is not installed."""
    require_extra("attsvm.plots", "plot", "matplotlib")
