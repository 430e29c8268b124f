"""Colours of the figures, named after what they stand for in the papers.

The eight are those of Okabe and Ito, which stay apart in every kind of colour blindness.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

INK = "#333333"
GREY = "#999999"
PALE = "#dddddd"
"""Grid lines."""
BLUE = "#0072b2"
"""Frobenius norm, W; the local solution in the plane of the prompt."""
RED = "#d55e00"
"""Nuclear norm, (K, Q); the global solution in the plane of the prompt. Vermilion."""
GREEN = "#009e73"
ORANGE = "#e69f00"
PURPLE = "#cc79a7"
SKY = "#56b4e9"
YELLOW = "#f0e442"
SAND = "#f3d9a4"
RULE_COLOURS = {"gd": ORANGE, "ngd": BLUE, "polyak": RED, "adam": GREEN}
"""By step rule."""
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
"""For series without a meaning of their own, such as starts."""


class Series(NamedTuple):
    """How a series is drawn; dash and marker are names of matplotlib."""

    colour: str
    dash: str
    marker: str


def series() -> Iterator[Series]:
    """Yield styles without end, 90 different ones: those of a colour differ in dash and marker."""
    dashes, markers = ("solid", "dashed", "dotted"), ("o", "s", "^", "D", "v")
    pairs = zip(itertools.cycle(dashes), itertools.cycle(markers), strict=False)
    return (Series(colour, *pair) for pair in pairs for colour in CYCLE)
