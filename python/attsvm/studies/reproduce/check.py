"""A number of a published figure beside the one obtained here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["within", "factor", "at least", "at most", "equal"]
Verdict: TypeAlias = Literal["ok", "OUTSIDE", "not comparable"]

SOURCES = {
    "published": "stated in the paper, read off one of its figures, or in the code of its authors",
    "recomputed": "by a program that is independent of attsvm, in float64 or in many digits, with "
    "the settings of the paper",
    "theory": "follows from a theorem or a closed form",
    "criterion": "required of the computation itself; no other result to compare with",
}
"""Sources of an expected number, and their meanings."""

_SIGNS = {"within": "", "factor": "", "at least": ">= ", "at most": "<= ", "equal": "= "}


@dataclass(frozen=True)
class Check:
    """One number: expected value, obtained value, and how far apart they may be.

    Examples
    --------
    >>> from attsvm.studies.reproduce.check import Check
    >>> Check("norm", 19.791, 19.7911, tolerance=2e-3, source="recomputed").passed
    True
    >>> Check("cosine", 0.99, float("nan"), kind="at least").verdict
    'OUTSIDE'
    >>> Check("mean", 0.0086, 0.0219, tolerance=0.022).verdict
    'not comparable'
    """

    name: str  # what the number is
    expected: float
    obtained: float  # a truth value counts as 0 or 1
    # "within": |obtained - expected| may be this large. "factor": their ratio may be this large,
    # either way. "at least", "at most": by how much the number may be on the wrong side. "equal":
    # none, it has to be 0.
    tolerance: float = 0.0
    kind: Kind = "within"
    source: str = "published"  # one of `SOURCES`
    origin: str = ""  # where exactly the expected number is from, in few words
    reason: str = ""  # what the tolerance is made of

    def __post_init__(self) -> None:
        for part in ("expected", "obtained", "tolerance"):
            object.__setattr__(self, part, float(getattr(self, part)))
        for part, known in (("kind", _SIGNS), ("source", SOURCES)):
            if getattr(self, part) not in known:
                raise ValueError(
                    f"{part}: expected one of {', '.join(known)}, got {getattr(self, part)!r}"
                )
        if not math.isfinite(self.expected):
            raise ValueError(f"expected: must be finite, got {self.expected} for {self.name!r}")
        least = 1 if self.kind == "factor" else 0
        allowed = f"a finite number >= {least}"
        if self.kind == "equal":
            allowed = "0 where the kind is 'equal'"
        if not least <= self.tolerance < math.inf or (self.kind == "equal" and self.tolerance):
            raise ValueError(
                f"tolerance: expected {allowed}, got {self.tolerance} for {self.name!r}"
            )

    @property
    def verdict(self) -> Verdict:
        """Judge the obtained number. NaN and infinity are always outside.

        A number that is within a tolerance larger than the expected number itself is "not
        comparable": zero would pass as well. An expected zero has no size to compare with; its
        tolerance is the bound that is checked.
        """
        apart = self.obtained - self.expected
        inside = {
            "within": abs(apart) <= self.tolerance,
            "factor": self.expected * self.obtained > 0
            and max(self.obtained / self.expected, self.expected / self.obtained) <= self.tolerance,
            "at least": apart >= -self.tolerance,
            "at most": apart <= self.tolerance,
            "equal": apart == 0,
        }[self.kind]
        if not (inside and math.isfinite(self.obtained)):
            return "OUTSIDE"
        vague = self.kind == "within" and 0 < abs(self.expected) < self.tolerance
        return "not comparable" if vague else "ok"

    @property
    def passed(self) -> bool:
        """Whether the number is where it should be."""
        return self.verdict == "ok"

    @property
    def cells(self) -> tuple[str, str, str, str, str, str]:
        """Name, expected, obtained, tolerance, verdict and source, for a table."""
        tolerance = f"{self.tolerance:.2g}" if self.tolerance else "-"
        tolerance = f"factor {tolerance}" if self.kind == "factor" else tolerance
        expected = f"{_SIGNS[self.kind]}{self.expected:.6g}"
        source = f"{self.source}: {self.origin}" if self.origin else self.source
        return self.name, expected, f"{self.obtained:.6g}", tolerance, self.verdict, source


def table(checks: Iterable[Check]) -> str:
    """Return the lines of a table of checks, the headings first."""
    headings = ("number", "expected", "obtained", "tolerance", "", "source")
    columns = zip(headings, *(check.cells for check in checks), strict=True)
    aligned = (padded(texts, align) for texts, align in zip(columns, "<>>><<", strict=True))
    return "\n".join("   ".join(cells).rstrip() for cells in zip(*aligned, strict=True))


def padded(texts: Sequence[str], align: str) -> list[str]:
    """Pad the texts of a column to the longest one; they are aligned as in "<" or ">"."""
    width = max(map(len, texts))
    return [f"{text:{align}{width}}" for text in texts]


def counted(sources: Iterable[str]) -> str:
    """Count words of `SOURCES`: ``"7 published, 12 recomputed"``."""
    counts = Counter(sources)
    return ", ".join(f"{counts[source]} {source}" for source in SOURCES if counts[source])
