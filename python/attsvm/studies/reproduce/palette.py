"""Colours of the figures, named after what they stand for in the papers.

The eight are those of Okabe and Ito, which stay apart in every kind of colour blindness.
"""

from __future__ import annotations

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
