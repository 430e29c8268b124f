"""Style, page and files of figures, drawn with matplotlib without touching its global state."""

from __future__ import annotations

import io
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from attsvm._validation import as_choice, as_instance
from attsvm.extras import require_extra
from attsvm.studies.reproduce.palette import INK, PALE
from attsvm.studies.store import FORMATS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import LayoutEngine

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
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.grid": False,
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
GRID: dict[str, Any] = {"axis": "y", "linewidth": 0.4, "color": PALE}
COLUMN_WIDTH, TEXT_WIDTH = 3.25, 6.75
"""Widths of figures in inches: of a column of a paper, and of a page with two of them."""
_DPI = 200
_LAYOUTS = 4
"""The most steps of the layout of a figure."""
PAGE_HEIGHT = 9.5
"""Largest height of the figure of a study in inches."""


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

    By format, the content of a file: PNG with 200 dots per inch, PDF with embedded TrueType fonts,
    SVG with text as outlines.
    """
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    as_instance("formats", formats, list, tuple)
    as_instance("figure", figure, Figure)
    canvas, dpi, engine = figure.canvas, figure.dpi, figure.get_layout_engine()
    try:
        with rc_context(_STYLE):
            FigureCanvasAgg(figure)
            figure.dpi = _DPI
            if engine is not None:
                _lay_out(figure, engine)
                figure.set_layout_engine("none")
            return {name: _printed(figure, as_choice("formats", name, FORMATS)) for name in formats}
    finally:
        figure.dpi = dpi
        figure.set_canvas(canvas)
        if engine is not None:
            figure.set_layout_engine(engine)


def _lay_out(figure: Figure, engine: LayoutEngine) -> None:
    """Lay out a figure until nothing moves by a pixel; each time is one step of an iteration."""
    places = np.full((len(figure.axes), 4), np.nan)
    for _ in range(_LAYOUTS):
        engine.execute(figure)
        bounds = [axes.get_position().bounds for axes in figure.axes]
        before, places = places, np.reshape(bounds, places.shape)
        if (np.abs(places - before) * _DPI * max(figure.get_size_inches()) < 1).all():
            break


def _printed(figure: Figure, name: str) -> bytes:
    """Return the content of a file of a figure that is laid out."""
    from matplotlib.backend_bases import get_registered_canvas_class

    figure.dpi = _DPI  # which those of vectors leave at their own
    buffer = io.BytesIO()
    # Without the date the bytes are those of the figure alone.
    dated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(name)
    getattr(get_registered_canvas_class(name)(figure), f"print_{name}")(buffer, metadata=dated)
    return buffer.getvalue()


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
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


def set_ticks(axes: Axes, labels: list[str]) -> None:
    """Label the places 0, 1, … of an axis, or as many of them as its width holds."""
    characters = int(axes.bbox.width / axes.figure.dpi / 0.1)  # that fit on the axis
    every = max(1, -(-sum(len(label) + 2 for label in labels) // characters))
    numbers = all(label.replace(".", "").replace("-", "").isdigit() for label in labels)
    places = range(0, len(labels), every if numbers else 1)
    rotation = 0 if numbers or every == 1 else 45
    axes.set_xticks(places, [labels[k] for k in places], rotation=rotation)


def add_legend(figure: Figure) -> None:
    """Add the legend of all panels above the figure, in as many columns as its width holds.

    The figure grows, to a page at most, by what the legend takes beyond two lines.
    """
    every = (zip(*axes.get_legend_handles_labels(), strict=True) for axes in figure.axes)
    named = {label: handle for pairs in every for handle, label in pairs}
    handles, labels = list(named.values()), list(named)
    for columns in (len(handles), 2, 1) if handles else ():
        place: dict[str, Any] = {"loc": "outside upper center", "frameon": False}
        legend = figure.legend(handles, labels, ncols=columns, **place)
        if legend.get_window_extent().width <= figure.bbox.width or columns == 1:
            lines = -(-len(handles) // columns)
            grown = figure.get_figheight() + 0.15 * max(0, lines - 2)
            figure.set_figheight(max(figure.get_figheight(), min(grown, PAGE_HEIGHT)))
            break
        legend.remove()


def add_caption(figure: Figure, caption: str) -> None:
    """Write a caption, if there is one, small under the figure."""
    if caption:
        figure.supxlabel(textwrap.fill(caption, round(15 * figure.get_figwidth())), fontsize=8)
