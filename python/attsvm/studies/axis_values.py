"""Values of the axes of a study in words."""

from __future__ import annotations

from typing import Any

__all__ = ["in_words"]


def in_words(value: Any) -> str:
    """One value, or the list of those of an axis: whole numbers with all their digits.

    Examples
    --------
    >>> from attsvm.studies.axis_values import in_words
    >>> in_words(20260101), in_words([0.1, 1e-05, 3.0]), in_words(["W", "p"])
    ('20260101', '0.1/1e-05/3', 'W/p')
    """
    if isinstance(value, list):
        return "/".join(map(in_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
