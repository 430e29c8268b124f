"""A number of a published figure, beside the one obtained here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Check", "Kind", "checks", "table"]

Kind: TypeAlias = Literal["within", "at least", "at most", "equal"]

_SIGNS = {"within": "", "at least": ">= ", "at most": "<= ", "equal": "= "}


@dataclass(frozen=True)
class Check:
    """One number: what it should be, what it is, and how far they may be apart.

    Attributes
    ----------
    name : str
        What the number is.
    expected, obtained : float
        A truth value counts as 0 or 1.
    tolerance : float
        "within": |obtained - expected| may be this large. "at least", "at most": by how much the
        number may be on the wrong side. "equal": none, it has to be 0.
    kind : {"within", "at least", "at most", "equal"}
        How the two are compared.
    source : str
        Where the expected number is from, in few words: "published" (in the text, the figures or
        the code of the authors), "recomputed" (an independent float64 program with the published
        settings), "closed form", "mpmath" (many digits), "theory" (what a theorem says of the
        limit).

    Raises
    ------
    ValueError
        The expected number or the tolerance is not finite, or the tolerance is negative, or there
        is one where the kind is "equal".

    Examples
    --------
    >>> from attsvm.studies.reproduce.check import Check
    >>> Check("norm", 19.791, 19.7911, tolerance=2e-3, source="mpmath").passed
    True
    >>> Check("cosine", 0.99, float("nan"), kind="at least").passed
    False
    """

    name: str
    expected: float
    obtained: float
    tolerance: float = 0.0
    kind: Kind = "within"
    source: str = "published"

    def __post_init__(self) -> None:
        for part in ("expected", "obtained", "tolerance"):
            object.__setattr__(self, part, float(getattr(self, part)))
        if self.kind not in _SIGNS:
            raise ValueError(f"kind: expected one of {', '.join(_SIGNS)}, got {self.kind!r}")
        if not math.isfinite(self.expected):
            raise ValueError(f"expected: must be finite, got {self.expected} for {self.name!r}")
        if not 0 <= self.tolerance < math.inf:
            raise ValueError(
                f"tolerance: expected a finite number >= 0, got {self.tolerance} for {self.name!r}"
            )
        if self.kind == "equal" and self.tolerance:
            raise ValueError(
                f"tolerance: expected 0 where the kind is 'equal', got {self.tolerance} "
                f"for {self.name!r}"
            )

    @property
    def passed(self) -> bool:
        """Whether the number is where it should be. NaN and infinity never are."""
        if not math.isfinite(self.obtained):
            return False
        if self.kind == "at least":
            return self.obtained >= self.expected - self.tolerance
        if self.kind == "at most":
            return self.obtained <= self.expected + self.tolerance
        return abs(self.obtained - self.expected) <= self.tolerance

    @property
    def cells(self) -> tuple[str, str, str, str, str, str]:
        """Name, expected, obtained, tolerance, verdict and source, for a table."""
        return (
            self.name,
            f"{_SIGNS[self.kind]}{self.expected:.6g}",
            f"{self.obtained:.6g}",
            f"{self.tolerance:.2g}" if self.tolerance else "-",
            "ok" if self.passed else "OUTSIDE",
            self.source,
        )


def checks(
    names: Sequence[str],
    expected: Iterable[float],
    obtained: Iterable[float],
    *,
    tolerance: float = 0.0,
    kind: Kind = "within",
    source: str = "published",
) -> tuple[Check, ...]:
    """A check for every element of one-dimensional arrays of equal length.

    Raises
    ------
    ValueError
        The lengths differ, or as for `Check`.
    """
    return tuple(
        Check(name, e, o, tolerance, kind, source)
        for name, e, o in zip(names, expected, obtained, strict=True)
    )


def table(checks: Iterable[Check]) -> str:
    """Lines of a table of checks, the headings first."""
    lines = [
        ("number", "expected", "obtained", "tolerance", "", "source"),
        *(check.cells for check in checks),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = (True, False, False, False, True, True)
    return "\n".join(
        "   ".join(
            text.ljust(width) if to_left else text.rjust(width)
            for text, width, to_left in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in lines
    )
