"""Figures of regularisation paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attsvm._validation import as_instance
from attsvm.descent import RegularizationPath
from attsvm.plots.records import draw_attention, new_panels
from attsvm.plots.style import GRID, add_caption
from attsvm.studies.reproduce.palette import series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NORMS = {
    "p": (r"$\|p\|$",),
    "W": (r"$\|W\|_F$",),
    "KQ": (r"$(\|K\|_F^2 + \|Q\|_F^2) / 2$",),
    "v+p": (r"$\|v\|$", r"$\|p\|$"),
}
"""What the radii bound, by parameter."""


def path(result: RegularizationPath) -> Figure:
    """Draw a regularisation path against the radius, and the attention at its end.

    Panels show the logarithm of the excess loss, the norm, the cosine with each reference, the
    largest attention, and the attention of every input at the largest radius. For v and p the
    radius is that of p, or that of v where that of p stays the same.
    """
    radii = as_instance("result", result, RegularizationPath).radii
    symbol = "radius R"
    if radii.ndim > 1:
        of_p = radii[0, 1] < radii[-1, 1]
        radii, symbol = radii[:, int(of_p)], "radius R of p" if of_p else "radius r of v"
    norms = zip(_NORMS[result.parameter], result.norm.reshape(len(radii), -1).T, strict=True)
    curves = {
        "log of loss − infimum": {"": result.log_excess},
        "norm": dict(norms),
        "cosine": {name or "reference": values for name, values in result.cosines.items()},
        "largest attention,\nmean over inputs": {"": result.attention.max(axis=2).mean(axis=1)},
    }
    curves = {label: of_names for label, of_names in curves.items() if of_names}
    with new_panels(len(curves) + 1) as (figure, panels):
        from matplotlib.ticker import LogFormatter  # shorter than 3 × 10⁰, which overlap

        panels[1].set_yscale("log", nonpositive="mask")
        for axes, (label, of_names) in zip(panels, curves.items(), strict=False):
            for (name, values), style in zip(of_names.items(), series(), strict=False):
                drawn: dict[str, Any] = {
                    "color": style.colour,
                    "linestyle": style.dash,
                    "linewidth": 1,
                }
                axes.plot(radii, values, marker=".", label=name, **drawn)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(LogFormatter(labelOnlyBase=False))
            axes.xaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
            axes.set(xlabel=symbol, ylabel=label)
            axes.grid(**GRID)
            if any(of_names):
                axes.legend()
        draw_attention(panels[-1], result.attention[-1], "attention, largest radius")
        failed = int(np.sum(~result.converged))
        add_caption(figure, f"{failed} of {len(radii)} radii did not converge" if failed else "")
    return figure
