"""Parts of drawings that several figures have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from attsvm.studies.reproduce.expected import Expected
from attsvm.studies.reproduce.figure import Array
from attsvm.studies.reproduce.palette import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure

    Canvas: TypeAlias = Figure
else:  # matplotlib is an extra
    Axes: TypeAlias = Any
    Canvas: TypeAlias = Any


def band(
    axes: Axes,
    x: ArrayLike,
    curves: Array,
    colour: str,
    label: str | None = None,
    *,
    middle: str = "mean",
    **style: Any,
) -> None:
    """Plot the mean of curves (runs, x) in a band of one standard deviation, or median in range."""
    if middle == "mean":
        line, spread = curves.mean(axis=0), curves.std(axis=0)
        low, high = line - spread, line + spread
    else:
        low, line, high = np.quantile(curves, (0, 0.5, 1), axis=0)
    axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(x, line, **{"color": colour, "label": label, "linewidth": 1.5, **style})


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


def legend_outside(canvas: Canvas, axes: Axes, place: Any, columns: int = 1) -> None:
    """Put the legend of one panel outside of all, at ``"outside lower center"`` for example."""
    canvas.legend(*axes.get_legend_handles_labels(), loc=place, ncols=columns)
