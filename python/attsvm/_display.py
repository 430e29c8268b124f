"""Values that show themselves: a table in notebooks, and a figure."""

from __future__ import annotations

import html
import importlib
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from attsvm._arrays import ArrayLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ends_text(values: ArrayLike, form: str) -> str:
    """Write a number, or the smallest and the largest of several."""
    numbers = np.asarray(values)
    return " to ".join(dict.fromkeys(format(x, form) for x in (numbers.min(), numbers.max())))


class Displayed:
    """A value with a short table of what it holds, which notebooks show in place of its text."""

    def _facts(self) -> dict[str, str]:
        """Return the rows of the table, without markup."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{html.escape(text)}</td></tr>'
            for name, text in self._facts().items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"


class Plotted(Displayed):
    """A value that a function of `attsvm.plots` draws."""

    _drawn_by: ClassVar[str]

    def plot(self) -> Figure:
        """Draw what one looks at first, by the function of `attsvm.plots` for this type."""
        # By name, when it is asked for: the interfaces stand above what they draw.
        figure: Figure = getattr(importlib.import_module("attsvm.plots"), self._drawn_by)(self)
        return figure
