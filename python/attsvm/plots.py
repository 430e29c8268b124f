"""Figures, drawn with matplotlib (the extra ``attsvm[plot]``) without touching its global state."""

from __future__ import annotations

import io
import itertools
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attsvm._validation import as_choice
from attsvm.data import AttentionData, NextTokenData
from attsvm.descent import Run
from attsvm.extras import require_extra
from attsvm.studies.measurements import OUTCOMES
from attsvm.studies.reproduce.drawing import bars, heat_map, interval_in_legend, intervals
from attsvm.studies.reproduce.figure import Figure as PublishedFigure
from attsvm.studies.reproduce.figure import Outcome
from attsvm.studies.reproduce.palette import BLUE, CYCLE, GREY, INK, PALE, RED, SAND
from attsvm.studies.store import FORMATS
from attsvm.studies.study import Study
from attsvm.studies.summary import IN_NORMS, describe, tabulate
from attsvm.studies.table import AXIS_NAMES, FEW_PROBLEMS, SHARES, Measure, Table, in_words
from attsvm.svm import SVMSolution
from attsvm.theory.priority_graphs import TokenPriorityGraph
from attsvm.theory.token_scores import scores

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FORMATS",
    "data",
    "drawable",
    "encoded",
    "heads",
    "png",
    "published",
    "require_matplotlib",
    "run",
    "solution",
    "study",
    "token_priority_graph",
]

_TOKENS_OF_BOX = 24
_BOXES_OF_LINE = 8
_STYLE: dict[Any, Any] = {
    "text.usetex": False,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.handlelength": 1.5,
    "legend.labelspacing": 0.3,
    "legend.columnspacing": 1.2,
    "lines.linewidth": 1.2,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "pdf.fonttype": 42,  # TrueType, as publishers ask for
    "svg.hashsalt": "attsvm",
}
_GRID: dict[str, Any] = {"axis": "y", "linewidth": 0.4, "color": PALE}
_CURVES = {
    "cosine_gap": "1 − cosine",
    "loss": "loss",
    "loss_gap": "loss − infimum",
    "norm": "norm",
    "max_attention": "largest attention,\nmean over inputs",
}
"""Records of a run that `run` draws, and the labels of their axes."""
COLUMN_WIDTH, TEXT_WIDTH = 3.25, 6.75
"""Widths of figures in inches: of a column of a paper, and of a page with two of them."""
PAGE_HEIGHT = 9.5
"""Largest height of the figure of a study in inches."""
_MARGINS = 0.6
"""Of it, what legend and caption take."""
_LEAST_HEIGHT = 0.6
"""Share of the usual height that panels have at least where a page does not hold all of them."""
_MAPS_OF_LINE = 3
"""Heat maps without numbers in a line."""
_FEW_STEPS = 20
"""Recorded steps up to which each has a mark."""
_NARROW_BARS = 4
"""Groups of bars that a column of a page holds."""
_MOST_BARS = 10
"""Groups of bars of a panel; more are curves."""
_OF_HEADS = {
    "sparsity": "effective number of tokens",
    "margin_ratio": "margin ratio",
    "cosine": "cosine with the SVM",
    "global_share": "share of best tokens",
}
"""Records of heads that `heads` draws, and the titles of their panels."""


def require_matplotlib() -> None:
    """Raise ImportError, naming the extra that brings it, if matplotlib is not installed.

    An MPLBACKEND that matplotlib does not know stops its import, though no backend is used here: it
    is set afterwards, as matplotlib does, unless it is unknown.
    """
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        require_extra("attsvm.plots", "plot", "matplotlib")
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        from matplotlib import rcParams

        with suppress(ValueError):
            rcParams["backend"] = backend


def png(figure: Figure) -> bytes:
    """Encode a figure as PNG with 200 dots per inch; the same figure gives the same bytes."""
    return encoded(figure)["png"]


def encoded(figure: Figure, formats: Sequence[str] = ("png",)) -> dict[str, bytes]:
    """Encode a figure in some of `FORMATS`; the same figure gives the same bytes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    formats : sequence of str

    Returns
    -------
    dict of bytes
        The content of a file by format: PNG with 200 dots per inch, PDF with embedded TrueType
        fonts, SVG with text as outlines.

    Raises
    ------
    ValueError
        Other formats.
    """
    from matplotlib import rc_context

    for _ in range(2):  # the layout is one step of an iteration each time
        with rc_context(_STYLE):
            figure.draw_without_rendering()
    files = {}
    for name in formats:
        buffer = io.BytesIO()
        # Without the date the bytes are those of the figure alone.
        dated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(name)
        with rc_context(_STYLE):
            figure.savefig(
                buffer, format=as_choice("formats", name, FORMATS), dpi=200, metadata=dated
            )
        files[name] = buffer.getvalue()
    return files


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    """Make a figure to draw on in the style of all, which a notebook shows without pyplot."""
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with rc_context(_STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
        figure = Figure(figsize=(width, height), layout=layout)
        vars(figure)["_repr_png_"] = partial(png, figure)
        yield figure


def drawable(table: Table | xr.Dataset) -> bool:
    """Return whether a table, or results, have what `study` draws.

    That is outcomes, support vectors, cosines or margin ratios of several problems, or the record
    of a few.
    """
    if not isinstance(table, Table):
        results, table = table, tabulate(table)
        if _few(table) and any(f"history_{name}" in results for name in _CURVES):
            return True
    several = [row.problems for row in table.rows] not in ([], [1])
    return several and bool(table.in_norms or table.maps)


def _few(table: Table) -> bool:
    """Return whether a study has one cell of a few problems."""
    return len(table.rows) == 1 and 1 <= table.rows[0].problems <= FEW_PROBLEMS


def study(table: Table | xr.Dataset, caption: str = "") -> Figure:
    """Draw a study: outcomes over its axes and cosines with the SVM, or the record of few problems.

    Outcomes are bars over one axis, or curves where it has more than ten values; the mean cosine is
    below them. Two axes of five values or more span maps. Where there are results of one cell of at
    most twenty problems with their history, the record of each is drawn, coloured by its outcome.
    Margin ratios and cosines in several norms are drawn as heat maps of their medians, the norms
    against one axis, which is the step rule where there are several. No figure is higher than a
    page: heat maps go without numbers there, and of many panels the first ones are drawn.

    Parameters
    ----------
    table : Table, or xarray.Dataset
        From `attsvm.studies.tabulate`, with what is drawn; or the results, which
        are tabulated. The bars stand along the longest axis of numbers; every combination of the
        others has a separate panel.
    caption : str
        Written small under the figure; by default the settings, if results are given.

    Returns
    -------
    matplotlib.figure.Figure
        Error bars are the 95 % confidence intervals of the table.

    Raises
    ------
    ValueError
        The table has nothing of what is drawn.
    """
    if not isinstance(table, Table):
        results, declared = table, Study.from_results(table)
        caption = caption or describe(declared)
        table = tabulate(declared, results)
        if _few(table) and (history := _histories(results)):
            return _record(history, caption=caption, groups=_by_outcome(results))
    require_matplotlib()
    if not drawable(table):
        raise ValueError(
            "table: expected outcomes or cosines of several problems to draw, got neither"
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

    with _figure(width, panel_height * lines + _MARGINS) as figure:
        rows = len(draw) * lines
        grid = figure.subplots(rows, columns, height_ratios=heights * lines, squeeze=False)
        for k, (name, part) in enumerate(panels.items()):
            line, column = divmod(k, columns)
            panel = grid[len(draw) * line : len(draw) * (line + 1), column]
            for axes, draw_part in zip(panel, draw, strict=True):
                draw_part(axes, table, part)
                _set_ticks(axes, [in_words(r.axes[along]) for r in part.rows])
                axes.tick_params(labelbottom=axes is panel[-1], bottom=axes is panel[-1])
                if column > 0:
                    axes.set_ylabel("")
            panel[0].set_title(textwrap.fill(name, round(16 * panel_width)), loc="left")
            panel[-1].set_xlabel(AXIS_NAMES.get(along, along))
        for axes in grid.flat:
            if not axes.has_data():
                axes.remove()
        _add_legend(figure)
        _add_caption(figure, caption)
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
    with _figure(TEXT_WIDTH, height * lines + _MARGINS) as figure:
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
        below = "Below a median is its 95 % confidence interval" if detailed else ""
        frame = "A frame marks the largest median of a row"
        _add_caption(figure, f"{_joined(caption, frame, below)}.")
    return figure


def _on_a_page(
    panels: Mapping[str, Table], columns: int, height: float
) -> tuple[dict[str, Table], str]:
    """Return the panels that a page holds in lines of this height, and what is said of others."""
    count = columns * max(1, int((PAGE_HEIGHT - _MARGINS) / height))
    if len(panels) <= count:
        return dict(panels), ""
    shown = dict(itertools.islice(panels.items(), count))
    return shown, f"{count} of {len(panels)} panels, all of which are in the report"


def _joined(*sentences: str) -> str:
    return ". ".join(filter(None, sentences))


def _set_ticks(axes: Axes, labels: list[str]) -> None:
    """Label the places 0, 1, … of an axis, or as many of them as its width holds."""
    characters = int(axes.bbox.width / axes.figure.dpi / 0.1)  # that fit on the axis
    every = max(1, -(-sum(len(label) + 2 for label in labels) // characters))
    numbers = all(label.replace(".", "").replace("-", "").isdigit() for label in labels)
    places = range(0, len(labels), every if numbers else 1)
    rotation = 0 if numbers or every == 1 else 45
    axes.set_xticks(places, [labels[k] for k in places], rotation=rotation)


def _histories(results: xr.Dataset) -> dict[str, NDArray[Any]]:
    """Return the records of the finished problems, without what they do not have."""
    finished = results["finished"].to_numpy()
    names = {f"history_{name}": name for name in _CURVES}
    history = {names[v]: results[v].to_numpy()[finished] for v in names if v in results}
    known = {name: values for name, values in history.items() if not np.isnan(values).all()}
    return {"step": results["step"].to_numpy(), **known} if known else {}


def _by_outcome(results: xr.Dataset) -> dict[str, tuple[str, NDArray[np.bool_]]]:
    """Return colour and problems of each outcome, by its name and number of problems."""
    if "outcome" not in results:
        return {}
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
    with _figure(TEXT_WIDTH if columns > 1 else COLUMN_WIDTH, 2.5 * lines + 0.4) as figure:
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
            _set_ticks(axes, columns_of)
            axes.set_yticks(range(len(rows_of)), rows_of)
        _add_caption(figure, caption)
    return figure


def run(result: Run) -> Figure:
    """Draw the record of a training run against the step, and its final attention.

    Parameters
    ----------
    result : Run
        From `attsvm.train`. Of a batch every problem is a line, and no attention is drawn.

    Returns
    -------
    matplotlib.figure.Figure
        Panels of the loss (less its infimum where that is known), the norm, the largest attention,
        1 - cosine with each reference, and the attention of every input.

    """
    return _record(result.history, result.attention if result.attention.ndim == 2 else None)


def solution(result: SVMSolution) -> Figure:
    """Draw the margins of an SVM, smallest first, and the multipliers of its constraints.

    Parameters
    ----------
    result : SVMSolution
        Of one problem. Of an infeasible one the multipliers that prove it are drawn.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        A batch of solutions.
    """
    if not isinstance(result.status, str):
        raise ValueError(f"result: expected one solution, got a batch of {len(result.status)}")
    with _figure(5.0 if result.feasible else 2.6, 2.5) as figure:
        if result.margins is None or result.dual is None or result.support is None:
            assert result.certificate is not None
            axes = figure.subplots()
            axes.plot(np.sort(result.certificate, axis=None)[::-1], ".", color=RED, markersize=3)
            axes.set(xlabel="constraint, sorted", ylabel="multiplier", title="infeasible: proof")
            return figure
        constraints = np.isfinite(result.margins)
        order = np.argsort(result.margins[constraints], kind="stable")
        place = np.arange(order.size)
        active = result.support[constraints][order]
        panels = figure.subplots(1, 2)
        for axes, values, label in (
            (panels[0], result.margins[constraints][order], "margin"),
            (panels[1], result.dual[constraints][order], "multiplier λ"),
        ):
            for which, colour, name in (
                (~active, GREY, "other constraints"), (active, BLUE, "support vectors"),
            ):  # fmt: skip
                axes.plot(place[which], values[which], ".", color=colour, markersize=3, label=name)
            axes.set(xlabel="constraint, by margin", ylabel=label)
            axes.locator_params(axis="x", integer=True)
            axes.grid(**_GRID)
        panels[0].axhline(1.0, color=INK, linewidth=0.6)
        panels[0].set_ylim(bottom=0.0)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def data(problem: AttentionData | NextTokenData) -> Figure:
    """Draw what tokens are worth: scores, norms where there is no head, or counts of next tokens.

    Parameters
    ----------
    problem : AttentionData or NextTokenData
        One problem.

    Returns
    -------
    matplotlib.figure.Figure
        A map of the scores Y_i v'x_it, or of the norms |x_it|, over inputs and tokens; of
        next-token data, how often each id follows each last id.

    Raises
    ------
    ValueError
        A batch of problems.
    """
    if problem.batch is not None:
        raise ValueError(f"problem: expected one problem, got a batch of {problem.batch}")
    if isinstance(problem, NextTokenData):
        values = np.zeros((problem.K, problem.K))
        np.add.at(values, (problem.last, problem.labels), 1)
        shown = {"xlabel": "next id", "ylabel": "last id"}
        label, colours = "contexts", "Blues"
    else:
        scored = problem.value is not None
        values = scores(problem) if scored else np.linalg.norm(problem.tokens, axis=-1)
        values = np.where(problem.valid, values, np.nan)
        shown = {"xlabel": "token", "ylabel": "input"}
        label = "score $Y_i v'x_{it}$" if scored else "norm $|x_{it}|$"
        colours = "RdBu" if scored else "Blues"
    with _figure(3.6, 2.8) as figure:
        axes = figure.subplots()
        limit = float(np.nanmax(np.abs(values)))
        lowest = -limit if colours == "RdBu" else 0.0
        image = axes.imshow(values, cmap=colours, vmin=lowest, vmax=limit, aspect="auto")
        axes.set(**shown)
        axes.locator_params(integer=True)
        figure.colorbar(image, ax=axes, label=label)
    return figure


def _record(
    history: Mapping[str, NDArray[Any]],
    attention: NDArray[Any] | None = None,
    caption: str = "",
    groups: Mapping[str, tuple[str, Any]] | None = None,
) -> Figure:
    """Draw the curves of a record, and a map of the attention.

    Curves of a study come in groups of problems, with a colour for each.
    """
    keys_of = {name: [key for key in history if key.split(":")[0] == name] for name in _CURVES}
    curves = {name: keys for name, keys in keys_of.items() if keys}
    if "loss_gap" in curves:
        curves.pop("loss", None)
    count = len(curves) + (attention is not None)
    columns = 2 if count == 4 else min(count, 3)
    lines = -(-count // columns)
    marker = "." if len(history["step"]) <= _FEW_STEPS else ""
    with _figure(TEXT_WIDTH if columns > 1 else COLUMN_WIDTH, 2.1 * lines + 0.3) as figure:
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        panels = grid[:count]
        for unused in grid[count:]:
            unused.remove()
        for axes, (name, keys) in zip(panels, curves.items(), strict=False):
            for key, colour in zip(keys, itertools.cycle(CYCLE), strict=False):
                label = key.partition(":")[2] or "unnamed"
                curves_of_key = np.atleast_2d(history[key])
                for name_of_group, (shade, which) in (groups or {label: (colour, ...)}).items():
                    drawn = axes.plot(history["step"], curves_of_key[which].T, marker=marker,
                                      color=shade, linewidth=1)  # fmt: skip
                    drawn[0].set_label(name_of_group)
            axes.set_xscale("symlog", linthresh=1)
            if name != "max_attention":
                axes.set_yscale("log", nonpositive="mask")
            of_study = name == "cosine_gap" and groups is not None
            axes.set(xlabel="step", ylabel=_CURVES[name] + " with the SVM" * of_study)
            axes.grid(**_GRID)
            if len(keys) > 1:
                axes.legend()
        if attention is not None:
            axes = panels[-1]
            image = axes.imshow(attention, cmap="Blues", vmin=0, vmax=1, aspect="auto")
            axes.set(xlabel="token", ylabel="input")
            axes.locator_params(integer=True)
            figure.colorbar(image, ax=axes, label="attention")
        if groups:
            _add_legend(figure)
        _add_caption(figure, caption)
    return figure


def heads(watched: xr.Dataset, *, norm: str | None = None) -> Figure:
    """Draw how the attention heads of a model changed along training: a row for each layer.

    Parameters
    ----------
    watched : xarray.Dataset
        From `attsvm.torch.Watch`, with dimensions step, layer and head.
    norm : str, optional
        Of the SVM; by default the first that was recorded.

    Returns
    -------
    matplotlib.figure.Figure
        Panels of the soft sparsity against the norm of W, and of the margin ratio, the cosine with
        the SVM and the share of inputs whose selected token has the largest score, those that were
        recorded, against the step. Every head is a line; its last step has a mark.

    Raises
    ------
    ValueError
        There are no steps, or no such norm.
    """
    if "step" not in getattr(watched, "dims", ()):
        raise ValueError("watched: expected the dataset of an attsvm.torch.Watch, got no steps")
    recorded = [str(one) for one in watched.norm.values] if "norm" in watched.coords else []
    chosen = recorded[0] if norm is None and recorded else norm
    if norm is not None and norm not in recorded:
        raise ValueError(f"norm: expected one of {', '.join(recorded) or 'none'}, got {norm!r}")
    data = watched.sel(norm=chosen) if chosen is not None else watched
    panels = [name for name in _OF_HEADS if name in data]
    require_matplotlib()
    from matplotlib import colormaps

    layers, count = [str(name) for name in data.layer.values], data.sizes["head"]
    colours = CYCLE if count <= len(CYCLE) else colormaps["viridis"](np.linspace(0, 0.95, count))
    with _figure(TEXT_WIDTH, 1.6 * len(layers) + 0.6) as figure:
        grid = figure.subplots(len(layers), len(panels), squeeze=False, sharex="col")
        for k, (row, layer) in enumerate(zip(grid, layers, strict=True)):
            for axes, name in zip(row, panels, strict=True):
                x = data["fro_norm" if name == "sparsity" else "step"]
                for head in range(count):
                    y = data[name].isel(layer=k, head=head).to_numpy()
                    at = x.isel(layer=k, head=head).to_numpy() if name == "sparsity" else x
                    style = {"color": colours[head], "markevery": [-1], "markersize": 3}
                    axes.plot(at, y, "o-", linewidth=1, label=f"head {head}", **style)
                if k == 0:
                    axes.set_title(_OF_HEADS[name], loc="left")
                if k == len(layers) - 1:
                    axes.set_xlabel(r"$\|W\|_F$" if name == "sparsity" else "step")
                if name == "margin_ratio":
                    axes.set_yscale("symlog", linthresh=1e-3)
                axes.grid(**_GRID)
            row[0].set_ylabel(textwrap.fill(layer, 18))
        _add_legend(figure)
        _add_caption(figure, f"SVM of the {chosen} norm" if chosen is not None else "")
    return figure


def published(figure: PublishedFigure, outcome: Outcome) -> Figure:
    """Draw a published figure from its recomputed data.

    Parameters
    ----------
    figure : attsvm.studies.reproduce.figure.Figure
    outcome : Outcome
        From ``figure.compute``.

    Returns
    -------
    matplotlib.figure.Figure

    """
    with _figure(*figure.size) as canvas:
        figure.draw(canvas, outcome)
    return canvas


def published_files(
    figure: PublishedFigure, outcome: Outcome, formats: Sequence[str] = ("png",)
) -> dict[str, bytes]:
    """Draw a published figure as the content of files, by format."""
    return encoded(published(figure, outcome), formats)


def token_priority_graph(
    graph: TokenPriorityGraph,
    vocabulary: Sequence[str] | NDArray[np.str_] | None = None,
    *,
    most: int = 40,
) -> Figure:
    """Draw the token-priority graph of one last token: components as boxes, priorities as arrows.

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

    """
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
    with _figure(width, 0.8 + 0.95 * height) as figure:
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(0.5 - height, 0.5)
        patches = {}
        for box, place in places.items():
            group = drawn[box]
            tokens = np.concatenate([graph.components[c] for c in group])
            style: dict[str, Any] = {
                "boxstyle": "round,pad=0.35",
                "facecolor": SAND if len(tokens) > len(group) else "white",
                "edgecolor": INK,
                "linewidth": 0.7,
                "linestyle": "--" if len(group) > 1 else "-",
            }
            label = _box_text(tokens, vocabulary)
            text = axes.text(*place, label, ha="center", va="center", zorder=2, bbox=style)
            patches[box] = text.get_bbox_patch()
        arrows = {
            (box_of[above], box_of[below])
            for above, below in graph.condensation.tolist()
            if above in box_of and below in box_of
        }
        for above, below in sorted(arrows):
            ends = {"patchA": patches[above], "patchB": patches[below], "shrinkA": 2, "shrinkB": 2}
            style = {"arrowstyle": "-|>", "color": INK, "linewidth": 0.6, **ends}
            axes.annotate("", places[below], places[above], zorder=1, arrowprops=style)
        left_out = sum(len(group) for group in groups[most:])
        more = f"; {left_out} components of lower priority are not drawn" if left_out else ""
        axes.set_title(f"last token {_token_name(graph.last, vocabulary)}{more}", loc="left")
        legend = "yellow: component of several tokens; dashed: tokens with the same priorities"
        _add_caption(figure, legend)
    return figure


def _alike(graph: TokenPriorityGraph) -> list[list[int]]:
    """Group single tokens that have the same arrows to and from them; other components alone."""
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
    """Sort groups by the levels of their components, at most eight groups in a line."""
    level = np.zeros(len(graph.components), dtype=np.int64)
    level[graph.component] = graph.level
    boxes = sorted(range(len(groups)), key=lambda box: level[groups[box][0]])
    levels = itertools.groupby(boxes, key=lambda box: level[groups[box][0]])
    lines = [list(line) for _, line in levels]
    size = _BOXES_OF_LINE
    return [line[k : k + size] for line in lines for k in range(0, len(line), size)]


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


def _draw_shares(axes: Axes, table: Table, part: Table) -> None:
    measured = {m.name for m in table.measures}
    shares = {name: style for name, style in SHARES.items() if name in measured}
    rows = [row.estimates for row in part.rows]
    if len(rows) <= _MOST_BARS:
        bars(axes, shares, rows)
    else:
        for name, (label, colour) in shares.items():
            value, errors = intervals(row[name] for row in rows)
            axes.errorbar(np.arange(len(rows)), value, errors, color=colour, label=label,
                          marker="o", markersize=2.5, elinewidth=0.7, linewidth=1)  # fmt: skip
        axes.set_xlim(-0.6, len(rows) - 0.4)
        axes.grid(**_GRID)
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
    axes.grid(**_GRID)
    axes.set_axisbelow(True)
    axes.ticklabel_format(axis="y", useOffset=False)


def _draw_means(axes: Axes, table: Table, part: Table) -> None:
    """Draw means between 0 and 1 over one axis."""
    for measure, colour in zip(table.shares, itertools.cycle(CYCLE), strict=False):
        value, errors = intervals(row.estimates[measure.name] for row in part.rows)
        axes.errorbar(np.arange(len(value)), value, errors, color=colour, label=measure.label,
                      marker="o", markersize=2.5, elinewidth=0.7, linewidth=1)  # fmt: skip
    axes.set(ylim=(-0.02, 1.02), xlim=(-0.6, len(part.rows) - 0.4), ylabel="mean over problems")
    axes.grid(**_GRID)


def _columns(table: Table) -> int:
    """Count the panels of a line: a grid of the two axes that vary if it fits, else three."""
    varying = [
        count
        for axis in table.rows[0].axes
        if (count := len({row.axes[axis] for row in table.rows})) > 1 and axis != table.longest_axis
    ]
    fits = len(varying) == 2 and varying[1] <= 4
    return varying[1] if fits else min(len(table.panels), 3)


def _add_legend(figure: Figure) -> None:
    """Add the legend of the bars above the figure, in as many columns as its width holds."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    for columns in (len(handles), 2, 1) if handles else ():
        place: dict[str, Any] = {"loc": "outside upper center", "frameon": False}
        legend = figure.legend(handles, labels, ncols=columns, **place)
        if legend.get_window_extent().width <= figure.bbox.width or columns == 1:
            break
        legend.remove()


def _add_caption(figure: Figure, caption: str) -> None:
    if caption:
        figure.supxlabel(textwrap.fill(caption, round(15 * figure.get_figwidth())), fontsize=8)
