"""Figures of what was recorded: of training runs, and of the heads of a model."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attsvm._validation import as_instance
from attsvm.descent import Run
from attsvm.plots.style import (
    COLUMN_WIDTH,
    GRID,
    TEXT_WIDTH,
    add_caption,
    add_legend,
    new_figure,
    require_matplotlib,
)
from attsvm.studies.reproduce.drawing import band
from attsvm.studies.reproduce.palette import CYCLE, series
from attsvm.studies.table import FEW_PROBLEMS

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = {
    "cosine_gap": "1 − cosine",
    "loss": "loss",
    "loss_gap": "loss − infimum",
    "norm": "norm",
    "max_attention": "largest attention,\nmean over inputs",
}
"""Records of a run that `run` draws, and the labels of their axes."""
_FEW_STEPS = 20
"""Recorded steps up to which each has a mark."""
_OF_HEADS = {
    "sparsity": "effective number of tokens",
    "margin_ratio": "margin ratio",
    "cosine": "cosine with the SVM",
    "global_share": "share of best tokens",
}
"""Records of heads that `heads` draws, and the titles of their panels."""


def run(result: Run) -> Figure:
    """Draw the record of a training run against the step, and its final attention.

    Panels show the loss (less its infimum where that is known), the norm, the largest attention,
    1 - cosine with each reference, and the attention of every input. Of a batch every problem is a
    line, and no attention is drawn.
    """
    as_instance("result", result, Run)
    attention = result.attention if result.attention.ndim == 2 else None
    return draw_record(result.history, attention, parameter=result.attention_parameter)


def draw_record(
    history: Mapping[str, NDArray[Any]],
    attention: NDArray[Any] | None = None,
    caption: str = "",
    groups: Mapping[str, tuple[str, Any]] | None = None,
    parameter: str = "",
) -> Figure:
    """Draw the curves of a record, and a map of the attention.

    Curves of a study come in groups of problems, with a colour for each; of a group of more than
    twenty problems the median and the quartiles are drawn. What is recorded of the
    `parameter` of attention has no name of its own.
    """
    keys_of = {name: [key for key in history if key.split(":")[0] == name] for name in CURVES}
    curves = {name: keys for name, keys in keys_of.items() if keys}
    if "loss_gap" in curves:
        curves.pop("loss", None)
    marker = "." if len(history["step"]) <= _FEW_STEPS else ""
    with new_panels(len(curves) + (attention is not None)) as (figure, panels):
        for axes, (name, keys) in zip(panels, curves.items(), strict=False):
            for key, style in zip(keys, series(), strict=False):
                label = key.partition(":")[2] or parameter
                curves_of_key = np.atleast_2d(history[key])
                for name_of_group, (shade, which) in (
                    groups or {label: (style.colour, ...)}
                ).items():
                    drawn_of_group = curves_of_key[which]
                    if groups and len(drawn_of_group) > FEW_PROBLEMS:
                        _draw_quartiles(axes, history["step"], drawn_of_group, shade, name_of_group,
                                        marker)  # fmt: skip
                        continue
                    drawn = axes.plot(history["step"], drawn_of_group.T, marker=marker,
                                      color=shade, linestyle=style.dash, linewidth=1)  # fmt: skip
                    drawn[0].set_label(name_of_group)
            axes.set_xscale("symlog", linthresh=1)
            if name != "max_attention" and any((history[key] > 0).any() for key in keys):
                axes.set_yscale("log", nonpositive="mask")
            of_study = name == "cosine_gap" and groups is not None
            axes.set(xlabel="step", ylabel=CURVES[name] + " with the SVM" * of_study)
            axes.grid(**GRID)
            if len(keys) > 1:
                axes.legend()
        if attention is not None:
            draw_attention(panels[-1], attention)
        if groups:
            add_legend(figure)
        add_caption(figure, caption)
    return figure


def _draw_quartiles(
    axes: Axes, step: NDArray[Any], curves: NDArray[Any], colour: str, label: str, marker: str
) -> None:
    """Draw the problems that have values, at the steps at which all of these do."""
    curves = curves[~np.isnan(curves).all(axis=1)]
    known = ~np.isnan(curves).any(axis=0)
    if len(curves):
        band(axes, step[known], curves[:, known], colour, label, middle="quartiles", marker=marker,
             linewidth=1)  # fmt: skip


@contextmanager
def new_panels(count: int) -> Iterator[tuple[Figure, list[Axes]]]:
    """Make a figure of so many panels, in a column of a page if there is one, else across it."""
    columns = 2 if count == 4 else min(count, 3)
    lines = -(-count // columns)
    with new_figure(TEXT_WIDTH if columns > 1 else COLUMN_WIDTH, 2.1 * lines + 0.3) as figure:
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for unused in grid[count:]:
            unused.remove()
        yield figure, list(grid[:count])


def draw_attention(axes: Axes, attention: NDArray[Any], label: str = "attention") -> None:
    """Draw a map of the attention (n, T) of every input."""
    image = axes.imshow(attention, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set(xlabel="token", ylabel="input")
    axes.locator_params(integer=True)
    axes.figure.colorbar(image, ax=axes, label=label)


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
    """
    for name in ("step", "layer", "head"):
        if not getattr(watched, "sizes", {}).get(name):
            raise ValueError(
                f"watched: expected the dataset of an attsvm.torch.Watch, got no {name}s"
            )
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
    with new_figure(TEXT_WIDTH, 1.6 * len(layers) + 0.6) as figure:
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
                if name != "sparsity":
                    axes.locator_params(axis="x", integer=True)
                if name == "margin_ratio":
                    axes.set_yscale("symlog", linthresh=1e-3)
                axes.grid(**GRID)
            row[0].set_ylabel(textwrap.fill(layer, 18))
        add_legend(figure)
        add_caption(figure, f"SVM of the {chosen} norm" if chosen is not None else "")
    return figure
