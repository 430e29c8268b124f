"""Figures of the papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attsvm._validation import as_instance
from attsvm.plots.style import encoded, new_figure
from attsvm.studies.reproduce.figure import Figure as PublishedFigure
from attsvm.studies.reproduce.figure import Outcome

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def published(figure: PublishedFigure, outcome: Outcome) -> Figure:
    """Draw a published figure from its recomputed data, the outcome of ``figure.compute``."""
    as_instance("figure", figure, PublishedFigure)
    as_instance("outcome", outcome, Outcome)
    with new_figure(*figure.size) as canvas:
        figure.draw(canvas, outcome)
    return canvas


def published_files(
    figure: PublishedFigure, outcome: Outcome, formats: Sequence[str] = ("png",)
) -> dict[str, bytes]:
    """Draw a published figure as the content of files, by format."""
    return encoded(published(figure, outcome), formats)
