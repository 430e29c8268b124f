"""What a published figure is to us: how to compute it, what it should show, how to draw it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attsvm.studies.reproduce.check import Check

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["Figure", "Outcome", "Settings"]


@dataclass(frozen=True)
class Settings:
    """How to compute a figure.

    Attributes
    ----------
    quick : bool
        With fewer runs, as `Figure.quick` says.
    num_threads : int, optional
        As in `attsvm.train`.
    progress : bool
        Show progress where standard error is a terminal: ``train(progress=settings.progress)``, or
        ``bar(..., enabled=None if settings.progress else False)``.
    """

    quick: bool = False
    num_threads: int | None = None
    progress: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Attributes
    ----------
    data : mapping
        Arrays and numbers that are drawn.
    checks : tuple of Check
        Every number that is compared with what was published or is known.
    notes : tuple of str
        What a reader has to know, a sentence or two each: where we differ from the papers and why.
    """

    data: Mapping[Any, Any]
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A figure of the papers.

    Attributes
    ----------
    name : str
        On the command line and of the files: ``"single-input"``.
    title : str
        One line.
    source : str
        Paper and figure: ``"P1, figure 1 (a), (b)"``.
    size : tuple of float
        Width and height of the drawing in inches.
    compute : callable
        Settings to Outcome.
    draw : callable
        Called with an empty matplotlib Figure of that size (constrained layout, house style) and
        the outcome; adds the axes. It imports nothing of matplotlib when its module is imported.
    quick : str
        What is fewer in a quick run: ``"30 problems in place of 100"``; empty if nothing is.
    """

    name: str
    title: str
    source: str
    size: tuple[float, float]
    compute: Callable[[Settings], Outcome]
    draw: Callable[[Canvas, Outcome], None]
    quick: str = ""
