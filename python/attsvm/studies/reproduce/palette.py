"""Colours of the figures, named after what they stand for in the papers."""

from __future__ import annotations

INK = "#333333"
GREY = "#9a9a9a"
PALE = "#dddddd"
"""Grid lines."""
BLUE = "#2f6db5"
"""Frobenius norm, W; the local solution in the trajectories of P1."""
RED = "#c8352b"
"""Nuclear norm, (K, Q); the global solution in the trajectories of P1."""
GREEN = "#4f9d45"
LIME = "#a9c93f"
SAND = "#f3d9a4"
ORANGE = "#e08a1e"
PURPLE = "#7b52a1"
TEAL = "#35a79c"
RULE_COLOURS = {"gd": ORANGE, "ngd": BLUE, "polyak": RED, "adam": GREEN}
"""By step rule."""
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, TEAL)
"""For series without a meaning of their own, such as starts."""
