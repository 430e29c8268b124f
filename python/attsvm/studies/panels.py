"""How the table of a study becomes figures: their panels, and the names and colours in them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attsvm.studies.table import Row, Table, longest_axis

__all__ = ["AXIS_NAMES", "SHARES", "panels"]

SHARES = (
    ("global_percent", "Global", "#c8352b"),
    ("local_percent", "Local (including Global)", "#2f6db5"),
    ("neither_percent", "Not Local", "#35a79c"),
    ("all_support_percent", "All tokens support vectors", "#a9c93f"),
)
"""Measure, name and colour: the hues of the published figure, in different lightness."""

AXIS_NAMES: Mapping[str, str] = MappingProxyType(
    {"d": "dimension d", "n": "inputs n", "T": "tokens T", "lr": "rate"}
)
"""Names of axes that say more than what a declaration calls them."""


def panels(table: Table) -> dict[tuple[tuple[str, Any], ...], list[Row]]:
    """Rows along the longest axis, by the names and values of all other axes."""
    along = longest_axis(table)
    rows: dict[tuple[tuple[str, Any], ...], list[Row]] = {}
    for row in table.rows:
        others = tuple((axis, x) for axis, x in row.axes.items() if axis != along)
        rows.setdefault(others, []).append(row)
    return rows
