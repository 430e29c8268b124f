"""The figures of a report, drawn by plotly in the reader's browser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from attsvm._arrays import Float64Array
from attsvm._validation import in_words
from attsvm.studies.expectations import reference
from attsvm.studies.reproduce.palette import BLUE, INK, ORANGE, RED, SKY, series
from attsvm.studies.study import Study
from attsvm.studies.summary import IN_NORMS, records
from attsvm.studies.table import AXIS_NAMES, FEW_PROBLEMS, SHARES, Row, Table

if TYPE_CHECKING:
    import xarray as xr

_PROBLEM = "problem"
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_Quantiles: TypeAlias = "Mapping[str, Mapping[str, Float64Array]]"
"""By value of the longest axis and variable, those that have values."""
_HISTORIES = {
    "direction": (
        ("history_cosine_gap",),
        "1 − cosine with the SVM solution of the tokens selected at the end",
    ),
    "norm": (("history_norm",), "Frobenius norm of the trained parameters"),
    "loss": (("history_loss_gap", "history_loss"), "Mean loss, less its infimum if known"),
    "attention": (("history_max_attention",), "Largest attention of an input, mean over inputs"),
}
"""By figure: variables, of which the first with values is drawn, and what it is."""

_DASHES = {"solid": "solid", "dashed": "dash", "dotted": "dot"}
_MARKERS = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down"}
"""Dashes and markers of `Series` in plotly."""


class Drawing(NamedTuple):
    """One figure of a report; its id is that of its HTML element, the same in every report."""

    id: str
    heading: str
    caption: str
    figure: Any

    @property
    def html(self) -> str:
        """The element and the script that draws it."""
        text: str = self.figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=self.id,
            default_height="400px",
            config={"displaylogo": False, "plotlyServerURL": ""},
            post_script="prepare(document.getElementById('{plot_id}'))",
        )
        return text


def figures(study: Study, results: xr.Dataset, table: Table) -> dict[str, list[Drawing]]:
    """Draw all that was measured along the longest axis, by the values of the other axes."""
    along = table.longest_axis
    axis = AXIS_NAMES.get(along, along)
    of_runs = [name for variables, _ in _HISTORIES.values() for name in variables]
    names = [name for name in ("cosine_gap", *of_runs) if name in results]
    if len(study.cells) == 1 and table.rows[0].problems <= FEW_PROBLEMS:
        drawn = _few_problems(study, results)
        if drawn or table.rows[0].problems == 1:
            return drawn
    quantiles = {
        id(row): {
            name: of_cell
            for name, values in record.items()
            if (of_cell := _quantiles(name, values)) is not None
        }
        for row, (_, record) in zip(table.rows, records(study, results, names), strict=True)
    }
    drawn = _maps(table)
    for k, (panel, part) in enumerate(table.panels.items()):
        rows = {in_words(row.axes[along]): row for row in part.rows}
        of_rows = {tick: quantiles[id(row)] for tick, row in rows.items()}
        drawings = [_shares(study, part, rows, axis), *_heat_maps(part, rows, axis)]
        drawings += [_means(part, rows, axis), _cosines(of_rows, axis)]
        drawings += [_history(study, name, of_rows, axis) for name in _HISTORIES]
        drawn[panel] = [
            drawing._replace(id=f"{drawing.id}-{k}", figure=_styled(drawing.figure))
            for drawing in drawings
            if drawing is not None
        ]
    return {panel: drawings for panel, drawings in drawn.items() if drawings}


def _maps(table: Table) -> dict[str, list[Drawing]]:
    """Draw every share and mean as a map, where two axes are long."""
    if table.map_axes is None:
        return {}
    across, down = (AXIS_NAMES.get(axis, axis) for axis in table.map_axes)
    drawings = []
    for measure in table.measures:
        if measure.name not in table.maps:
            continue
        share = measure.name in SHARES
        heading, (lowest, highest) = table.maps[measure.name]
        number, text = ("%{z:.1f} %", "%{z:.0f}") if share else ("%{z:.3f}", "%{z:.2f}")
        x, y, values = table.grid(measure.name)
        hover = f"{across} = %{{x}}<br>{down} = %{{y}}<br>{number}<extra></extra>"
        options = {"zmin": lowest, "zmax": highest, "colorscale": "Viridis", "hovertemplate": hover}
        figure = go.Figure(go.Heatmap(x=x, y=y, z=values, texttemplate=text, **options))
        figure.update_xaxes(title_text=across, type="category")
        figure.update_yaxes(title_text=down, type="category")
        caption = f"{'Share' if share else 'Mean'} of the problems of a cell."
        drawings.append(Drawing(f"map-{measure.name}", heading, caption, _styled(figure)))
    return {"Both axes": drawings} if drawings else {}


def _few_problems(study: Study, results: xr.Dataset) -> dict[str, list[Drawing]]:
    """Draw the record of each problem of the only cell."""
    variables = [name for of_figure, _ in _HISTORIES.values() for name in of_figure]
    names = [name for name in variables if name in results]
    ((_, record),) = records(study, results, names)
    rows: dict[str, dict[str, Float64Array]] = {}
    for name, curves in record.items():
        for k, curve in enumerate(curves):
            if not np.isnan(curve).all():
                # All quantiles of one problem are its value.
                rows.setdefault(str(k), {})[name] = np.tile(curve, (len(_QUANTILES), 1))
    drawings = (_history(study, name, rows, _PROBLEM) for name in _HISTORIES)
    drawn = [x._replace(id=f"{x.id}-0", figure=_styled(x.figure)) for x in drawings if x]
    return {"Each problem" if len(rows) > 1 else "The problem": drawn} if drawn else {}


def _shares(study: Study, table: Table, rows: Mapping[str, Row], axis: str) -> Drawing | None:
    figure, frame, compared = go.Figure(), table.frame, False
    for name, (label, colour) in SHARES.items():
        if name not in frame:
            continue
        columns = [name + part for part in ("", "_low", "_high", "_runs")]
        value, low, high, runs = frame[columns].to_numpy().T
        start = f"<b>{label}</b><br>{axis} = %{{x}}<br>"
        figure.add_bar(
            x=[*rows],
            y=value,
            name=label,
            offsetgroup=name,
            marker_color=colour,
            error_y={"array": high - value, "arrayminus": value - low, "color": INK, "width": 2},
            error_y_thickness=1,
            customdata=np.transpose([low, high, runs]),
            hovertemplate=start + "%{y:.1f} % (problems: %{customdata[2]})<br>95 % confidence "
            "interval %{customdata[0]:.1f} to %{customdata[1]:.1f} %<extra></extra>",
        )
        expected = {tick: reference(study, row) for tick, row in rows.items()}
        marks = {tick: by_name[name] for tick, by_name in expected.items() if name in by_name}
        if marks:
            figure.add_scatter(
                x=[*marks],
                y=[*marks.values()],
                mode="markers",
                name="Independent computation",
                legendgroup="reference",
                legendrank=2000,
                showlegend=not compared,
                offsetgroup=name,
                marker={"symbol": "diamond", "size": 7, "color": "white", "line_width": 1},
                hovertemplate=start + "independent computation: %{y:.1f} %<extra></extra>",
            )
            compared = True
    figure.update_layout(barmode="group", scattermode="group", bargap=0.16, scattergap=0.16)
    figure.update_yaxes(title_text="problems (%)", range=[0, 102])
    figure.update_xaxes(title_text=axis, type="category", categoryarray=[*rows])
    caption = "Shares of the problems of a cell, with 95\u00a0% confidence intervals (Wilson's)."
    if compared:
        caption += (
            " Diamonds: an independent program on 300 other problems (150 where d ≥ 30), "
            "whose own intervals extend up to 6 points to either side."
        )
    return Drawing("shares", "Outcome of training", caption, figure) if figure.data else None


def _means(table: Table, rows: Mapping[str, Row], axis: str) -> Drawing | None:
    """Draw means between 0 and 1 as curves with their intervals."""
    figure = go.Figure()
    for measure, style in zip(table.shares, series(), strict=False):
        estimates = [row.estimates[measure.name] for row in rows.values()]
        value, low, high = np.array([(e.value, e.low, e.high) for e in estimates]).T
        errors = {"array": high - value, "arrayminus": value - low, "width": 2, "thickness": 1}
        figure.add_scatter(
            x=[*rows],
            y=value,
            error_y=errors,
            name=measure.label,
            line={"color": style.colour, "dash": _DASHES[style.dash]},
            marker_symbol=_MARKERS[style.marker],
            hovertemplate=f"{axis} = %{{x}}<br>%{{y:.3f}}",
        )
    figure.update_yaxes(title_text=table.name_of_means, range=[-0.02, 1.02])
    figure.update_xaxes(title_text=axis, type="category", categoryarray=[*rows])
    caption = "Means over the problems of a cell, with 95\u00a0% confidence intervals (Student's)."
    several = len(table.shares) > 1
    heading = "Labels and attention" if several else _capitalised(table.name_of_means)
    return Drawing("means", heading, caption, figure) if figure.data else None


def _heat_maps(table: Table, rows: Mapping[str, Row], axis: str) -> list[Drawing]:
    """Draw the medians in every norm, a figure for each variable."""
    drawings = []
    for variable, measures in table.in_norms.items():
        of_rows = [[row.estimates[m.name] for m in measures] for row in rows.values()]
        values = [[estimate.value for estimate in estimates] for estimates in of_rows]
        about = [[(e.low, e.high, e.size) for e in estimates] for estimates in of_rows]
        trace = go.Heatmap(
            x=[measure.norm for measure in measures],
            y=[*rows],
            z=values,
            zmin=0,
            zmax=1,
            colorscale="Viridis",
            texttemplate="%{z:.3f}",
            customdata=about,
            hovertemplate=f"{axis} = %{{y}}<br>norm = %{{x}}<br>median %{{z:.4f}} (problems: "
            "%{customdata[2]})<br>95 % confidence interval %{customdata[0]:.4f} to "
            "%{customdata[1]:.4f}<extra></extra>",
        )
        figure = go.Figure(trace)
        figure.update_yaxes(title_text=axis, type="category", autorange="reversed")
        figure.update_xaxes(title_text="norm of the SVM", type="category")
        heading = f"{_capitalised(IN_NORMS[variable][1])} in each norm"
        caption = f"{heading}: median over the problems of a cell."
        drawings.append(Drawing(variable.replace("_", "-"), heading, caption, figure))
    return drawings


def _cosines(rows: _Quantiles, axis: str) -> Drawing | None:
    """Draw a box per row, or its only value; a logarithmic axis has no place for cosines of 1."""
    gaps = {tick: q["cosine_gap"] for tick, q in rows.items() if "cosine_gap" in q}
    gaps = {tick: quantiles for tick, quantiles in gaps.items() if quantiles[-1] > 0}
    if not gaps:
        return None
    low, first, median, third, high = np.transpose([*gaps.values()])
    if (high > low).any():
        box = {"lowerfence": low, "q1": first, "median": median, "q3": third, "upperfence": high}
        trace = go.Box(x=[*gaps], **box, name="", line={"color": BLUE, "width": 1.5})
        spread = "Median, quartiles (box), and 5\u00a0% and 95\u00a0% quantiles (fences) of a cell."
    else:
        trace = go.Scatter(x=[*gaps], y=median, mode="markers", marker_color=BLUE)
        spread = "One problem in each cell."
    figure = go.Figure(trace, {"showlegend": False})
    figure.update_yaxes(title_text="1 − cosine", hoverformat=".3~g", **_logarithmic(low, high))
    figure.update_xaxes(title_text=axis, type="category", categoryarray=[*rows])
    caption = (
        "1 − cosine of the trained parameter with the SVM solution of the tokens it selects, which "
        f"tends to 0 in theory. {spread}"
    )
    return Drawing("cosine", "Distance from the SVM direction", caption, figure)


def _history(study: Study, name: str, rows: _Quantiles, axis: str) -> Drawing | None:
    """Draw the medians over the problems against the recorded steps, one curve per row.

    Where the rows are problems, the only cell has few of them.
    """
    variables, meaning = _HISTORIES[name]
    known = {tick: next((q[v] for v in variables if v in q), None) for tick, q in rows.items()}
    # A logarithm has no zero, such as the norm before the first step that moves it.
    steps = np.array(study.recorded_steps)
    steps, later = steps[steps > 0], steps > 0
    curves = {
        tick: np.where(q > 0, q, np.nan)[:, later]
        for tick, q in known.items()
        if q is not None and (q[2, later] > 0).any()
    }
    if not curves:
        return None
    of_point = "%{y:.4~g}"
    of_curve = "a curve for each problem" if len(curves) > 1 else "the only problem"
    if axis != _PROBLEM:
        of_point = (
            "median %{y:.4~g}<br>90 % of the problems from %{customdata[0]:.4~g} to "
            "%{customdata[1]:.4~g}"
        )
        of_curve = "median over the problems of a cell"
    figure = go.Figure()
    colours = sample_colorscale([BLUE, SKY, ORANGE, RED], max(len(curves), 2))
    for (tick, quantiles), colour in zip(curves.items(), colours, strict=False):
        figure.add_scatter(
            x=steps,
            y=quantiles[2],
            name=tick,
            mode="lines+markers",
            line={"color": colour, "width": 1.8},
            customdata=quantiles[[0, -1]].T,
            hovertemplate=f"{axis} = {tick}<br>step %{{x:,}}<br>{of_point}<extra></extra>",
        )
    figure.update_layout(
        legend={"title": {"text": axis, "side": "top"}}, showlegend=len(curves) > 1
    )
    figure.update_xaxes(title_text="step", **_logarithmic(steps))
    scale = {} if name == "attention" else _logarithmic(*(q[2] for q in curves.values()))
    figure.update_yaxes(title_text="1 − cosine" if name == "direction" else name, **scale)
    return Drawing(name, f"{name.capitalize()} over the steps", f"{meaning}: {of_curve}.", figure)


def _quantiles(name: str, values: Float64Array) -> Float64Array | None:
    """Compute the quantiles over the problems; None where there are no values."""
    known = ~np.isnan(values)
    if name == "cosine_gap":
        values = values[known]
    elif name == "history_cosine_gap":  # the zero that a run starts from points nowhere
        values = values[known.any(axis=1)]
    elif not known.all():
        return None
    if not values.size:
        return None
    return np.quantile(values, _QUANTILES, axis=0)


def _logarithmic(*values: Any) -> dict[str, Any]:
    """Return the settings of a logarithmic axis with about six labels."""
    numbers = np.hstack(values)
    decades = np.ptp(np.log10(numbers[numbers > 0]))
    spacing = "D2" if 0 < decades < 1.5 else max(1, round(decades / 6))
    return {"type": "log", "exponentformat": "power", "dtick": spacing}


def _capitalised(text: str) -> str:
    """Return text with a capital, and abbreviations as they are."""
    return f"{text[:1].upper()}{text[1:]}"


def _styled(figure: Any) -> Any:
    """Set what all figures share; the colours of text and axes follow the page."""
    clear = "rgba(0,0,0,0)"
    return figure.update_layout(
        template="none",
        margin={"l": 62, "r": 12, "t": 70 if figure.layout.legend.title.text else 50, "b": 55},
        paper_bgcolor=clear,
        plot_bgcolor=clear,
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": clear},
        modebar={"bgcolor": clear, "remove": ["select2d", "lasso2d", "autoScale2d"]},
        hovermode="closest",
        yaxis={"automargin": True, "title_standoff": 12},
        xaxis={"automargin": True, "title_standoff": 10},
    )
