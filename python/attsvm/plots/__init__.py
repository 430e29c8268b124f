"""Figures, drawn with matplotlib (the extra ``attsvm[plot]``) without touching its global state."""

from attsvm.plots.paths import path
from attsvm.plots.priority_graphs import token_priority_graph
from attsvm.plots.problems import data, solution
from attsvm.plots.published_figures import published
from attsvm.plots.records import heads, run
from attsvm.plots.studies import drawable, study
from attsvm.plots.style import encoded, png, require_matplotlib
from attsvm.studies.store import FORMATS

__all__ = [
    "FORMATS",
    "data",
    "drawable",
    "encoded",
    "heads",
    "path",
    "png",
    "published",
    "require_matplotlib",
    "run",
    "solution",
    "study",
    "token_priority_graph",
]
