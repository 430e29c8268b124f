"""The figures of a report, as what plotly draws in a browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attsvm.studies.axis_values import in_words
from attsvm.studies.expectations import reference
from attsvm.studies.panels import AXIS_NAMES, SHARES, panels
from attsvm.studies.reproduce.palette import BLUE, INK, ORANGE, RED, TEAL
from attsvm.studies.study import Study
from attsvm.studies.summary import records
from attsvm.studies.table import Row, Table, longest_axis

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Drawing", "Panel", "draw", "script"]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MIDDLE = (0.05, 0.5, 0.95)
_LOGARITHMIC = {"type": "log", "exponentformat": "power"}
_SCALE = (BLUE, TEAL, ORANGE, RED)
"""Colours from the first value of an axis to its last."""

_HISTORIES = (
    ("norm", ("history_norm",), "norm of what is trained"),
    ("loss", ("history_loss_gap", "history_loss"), "loss"),
)
"""Figure, the variables of which it shows the first that has values, and the name of its axis."""


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes
    ----------
    id : str
        Of its element, the same in every report.
    heading, caption : str
    json : str
        Its data and layout; safe within HTML.
    """

    id: str
    heading: str
    caption: str
    json: str


@dataclass(frozen=True)
class Panel:
    """Figures along the longest axis, at one combination of the values of the others."""

    name: str
    drawings: tuple[Drawing, ...]


@dataclass(frozen=True)
class _Line:
    """A row of the table with the distributions that only figures show."""

    row: Row
    tick: str
    gaps: NDArray[np.float64] | None
    histories: dict[str, NDArray[np.float64]]


def script() -> str:
    """The plotly.js that draws them."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def draw(study: Study, results: xr.Dataset, table: Table) -> list[Panel]:
    """Every figure of which the study has measured something.

    Parameters
    ----------
    study : Study
    results : xarray.Dataset
    table : Table
        Of these results.
    """
    along = longest_axis(table)
    gaps = _cosine_gaps(study, results)
    histories = {name: _histories(study, results, variables) for name, variables, _ in _HISTORIES}
    number = {id(row): k for k, row in enumerate(table.rows)}
    found = []
    for k, (others, rows) in enumerate(panels(table).items()):
        lines = [
            _Line(
                row,
                in_words(row.axes[along]),
                gaps[number[id(row)]],
                {name: several[number[id(row)]] for name, several in histories.items()},
            )
            for row in rows
        ]
        axis = AXIS_NAMES.get(along, along)
        drawn = (
            _shares(k, study, table, lines, axis),
            _boxes(k, lines, axis),
            *(_curves(k, study, name, title, lines, axis) for name, _, title in _HISTORIES),
        )
        name = ", ".join(f"{other} = {in_words(value)}" for other, value in others)
        found.append(Panel(name, tuple(each for each in drawn if each is not None)))
    return [panel for panel in found if panel.drawings]


def _cosine_gaps(study: Study, results: xr.Dataset) -> list[NDArray[np.float64] | None]:
    """Quantiles of 1 - cosine of each row of the table; None where it has no cosine."""
    if "cosine_gap" not in results:
        return [None for _ in records(study, results, [])]
    found: list[NDArray[np.float64] | None] = []
    for _, record in records(study, results, ["cosine_gap"]):
        there = record["cosine_gap"][~np.isnan(record["cosine_gap"])]
        found.append(np.quantile(there, _QUANTILES) if there.size else None)
    return found


def _histories(
    study: Study, results: xr.Dataset, variables: Sequence[str]
) -> list[NDArray[np.float64]]:
    """Quantiles (3, steps) of the first variable with values, for each row; else of no step."""
    nothing = np.empty((len(_MIDDLE), 0))
    rows = [nothing for _ in records(study, results, [])]
    for variable in variables:
        if variable not in results:
            continue
        for k, (_, record) in enumerate(records(study, results, [variable])):
            if not rows[k].size and not np.isnan(record[variable]).any():
                rows[k] = np.quantile(record[variable], _MIDDLE, axis=0)
    return rows


def _shares(
    k: int, study: Study, table: Table, lines: Sequence[_Line], axis: str
) -> Drawing | None:
    import plotly.graph_objects as go

    measured = {measure.name for measure in table.measures}
    expected = [reference(study, line.row) for line in lines]
    compared = False
    figure = go.Figure()
    for measure, name, colour in SHARES:
        if measure not in measured:
            continue
        estimates = [line.row.estimates[measure] for line in lines]
        figure.add_bar(
            x=[line.tick for line in lines],
            y=[_digits(e.value) for e in estimates],
            name=name,
            offsetgroup=measure,
            marker_color=colour,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [_digits(e.high - e.value) for e in estimates],
                "arrayminus": [_digits(e.value - e.low) for e in estimates],
                "color": INK,
                "thickness": 1,
                "width": 2,
            },
            customdata=[[_digits(e.low), _digits(e.high), e.size] for e in estimates],
            hovertemplate=f"<b>{name}</b><br>{axis} = %{{x}}<br>%{{y:.1f}} % of %{{customdata[2]}} "
            "problems<br>95 % interval %{customdata[0]:.1f} to %{customdata[1]:.1f} %"
            "<extra></extra>",
        )
        pairs = [
            (line.tick, by_measure[measure])
            for line, by_measure in zip(lines, expected, strict=True)
            if measure in by_measure
        ]
        if pairs:
            figure.add_scatter(
                x=[x for x, _ in pairs],
                y=[y for _, y in pairs],
                mode="markers",
                name="Independent computation",
                legendgroup="reference",
                legendrank=2000,
                showlegend=not compared,
                offsetgroup=measure,
                marker={
                    "symbol": "diamond",
                    "size": 7,
                    "color": "#ffffff",
                    "line": {"color": INK, "width": 1},
                },
                hovertemplate=f"<b>{name}</b><br>{axis} = %{{x}}<br>independent computation: "
                "%{y:.1f} %<extra></extra>",
            )
            compared = True
    if not figure.data:
        return None
    figure.update_layout(
        barmode="group",
        scattermode="group",
        bargap=0.16,
        scattergap=0.16,
        yaxis={"title": {"text": "problems (%)"}, "range": [0, 102]},
        xaxis=_categories(lines, axis),
    )
    caption = "Shares of the problems of a cell, with 95\u00a0% intervals (Wilson's)."
    if compared:
        caption += (
            " Diamonds: what an independent program found on 300 problems of its own "
            "(150 where d ≥ 30), whose own intervals reach up to 6 points to either side."
        )
    return Drawing(f"shares-{k}", "Where training went", caption, _json(figure))


def _boxes(k: int, lines: Sequence[_Line], axis: str) -> Drawing | None:
    import plotly.graph_objects as go

    # A logarithmic axis has no place for cosines that are all 1, as in one dimension.
    there = [(line, line.gaps) for line in lines if line.gaps is not None and line.gaps[-1] > 0]
    if not there:
        return None
    low, first, median, third, high = (
        [_digits(quantiles[q]) for _, quantiles in there] for q in range(len(_QUANTILES))
    )
    figure = go.Figure(
        go.Box(
            x=[line.tick for line, _ in there],
            lowerfence=low,
            q1=first,
            median=median,
            q3=third,
            upperfence=high,
            name="",
            line={"color": BLUE, "width": 1.5},
            showlegend=False,
        )
    )
    figure.update_layout(
        yaxis={"title": {"text": "1 − cosine with the SVM"}, "hoverformat": ".3~g", **_LOGARITHMIC},
        xaxis=_categories(lines, axis),
    )
    caption = (
        "How far the cosine of what was trained with the SVM of the tokens it selected is from 1, "
        "its limit: median, quartiles in the box, and fences at the 5\u00a0% and 95\u00a0% "
        "quantiles of the problems that have one."
    )
    return Drawing(f"cosine-{k}", "How the cosine is distributed", caption, _json(figure))


def _curves(
    k: int, study: Study, name: str, title: str, lines: Sequence[_Line], axis: str
) -> Drawing | None:
    import plotly.graph_objects as go

    there = [line for line in lines if (line.histories[name][1:2, 1:] > 0).any()]
    if not there:
        return None
    figure = go.Figure()
    for place, line in enumerate(there):
        low, median, high = line.histories[name][:, 1:]
        # A logarithm has no zero, such as the norm before the first step that moves it.
        figure.add_scatter(
            x=list(study.recorded_steps[1:]),
            y=[number if number else None for number in _all_digits(median)],
            mode="lines+markers",
            name=line.tick,
            line={"color": _colour(place, len(there)), "width": 1.8},
            marker={"size": 5},
            customdata=[
                list(pair) for pair in zip(_all_digits(low), _all_digits(high), strict=True)
            ],
            hovertemplate=f"{axis} = {line.tick}<br>step %{{x:,}}<br>median %{{y:.4~g}}<br>"
            "90 % of the problems from %{customdata[0]:.4~g} to %{customdata[1]:.4~g}"
            "<extra></extra>",
        )
    figure.update_layout(
        legend={"title": {"text": f"{axis}  "}},
        showlegend=True,
        xaxis={"title": {"text": "step"}, "dtick": 1, **_LOGARITHMIC},
        yaxis={"title": {"text": title}, **_LOGARITHMIC},
    )
    said = {
        "norm": "Frobenius norm of what is trained: median over the problems of a cell.",
        "loss": "Mean loss, less its infimum where that is known: median over the problems of a "
        "cell.",
    }
    return Drawing(f"{name}-{k}", f"{name.capitalize()} over the steps", said[name], _json(figure))


def _categories(lines: Sequence[_Line], axis: str) -> dict[str, Any]:
    return {
        "title": {"text": axis},
        "type": "category",
        "categoryorder": "array",
        "categoryarray": [line.tick for line in lines],
    }


def _colour(place: int, count: int) -> str:
    """The colour at a place of the scale, between those of its ends."""
    ends = np.array([[int(hue[k : k + 2], 16) for k in (1, 3, 5)] for hue in _SCALE])
    at = place / max(count - 1, 1) * (len(ends) - 1)
    mixed = [np.interp(at, np.arange(len(ends)), channel) for channel in ends.T]
    return "#" + "".join(f"{round(channel):02x}" for channel in mixed)


def _digits(number: float) -> float | None:
    """Six digits, more than a figure shows; nothing for what is no number, which JSON lacks."""
    return float(f"{number:.6g}") if math.isfinite(number) else None


def _all_digits(numbers: NDArray[np.float64]) -> list[float | None]:
    return [_digits(number) for number in numbers]


def _json(figure: Any) -> str:
    """Data and layout; no text in it can end the element that holds it."""
    clear = "rgba(0,0,0,0)"
    figure.update_layout(
        template="none",
        height=400,
        margin={"l": 62, "r": 12, "t": 50 if len(figure.data) > 1 else 20, "b": 55},
        paper_bgcolor=clear,
        plot_bgcolor=clear,
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "bgcolor": clear,
        },
        modebar={"bgcolor": clear, "remove": ["select2d", "lasso2d", "autoScale2d"]},
        hovermode="closest",
    )
    figure.update_yaxes(automargin=True)
    text: str = figure.to_json()
    return text.replace("<", "\\u003c")
