"""Expected numbers, as the TOML file of a figure states them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attsvm._arrays import Float64Array
from attsvm.studies.reproduce.check import Check, Kind


def standard_error(
    samples: Float64Array, others: float = np.inf, spread: float | None = None
) -> float:
    """Compute the standard error of the difference of two means of independent runs.

    The first is of `samples`, the second of so many `others` (infinite: exact) of equal spread,
    which is by default that of the samples.
    """
    deviation = samples.std(ddof=1) if spread is None else spread
    return float(deviation * np.sqrt(1 / others + 1 / samples.size))


def tolerance_of_median(
    samples: Float64Array, others: float, digits: float, spread: float | None = None
) -> float:
    """Compute 4 standard errors of the difference of two medians, and the digits given.

    The standard error of the median of normal draws is sqrt(π / 2) times that of their mean.
    """
    return float(4 * np.sqrt(np.pi / 2) * standard_error(samples, others, spread) + digits)


@dataclass(frozen=True)
class Expected:
    """Numbers of a figure that belong together.

    Examples
    --------
    >>> from attsvm.studies.reproduce.expected import Expected
    >>> norms = Expected.read({"name": "|p| at step {}", "source": "recomputed", "at": [50, 100],
    ...                        "expected": [4.972, 9.934], "tolerance": 1e-3})
    >>> [check.name for check in norms.checks([4.972, 9.9341])]
    ['|p| at step 50', '|p| at step 100']
    """

    name: str  # name of each; ``{}`` is its place
    source: str  # where they are from, as in `Check`
    origin: str = ""
    kind: Kind = "within"  # as in `Check`
    # Place of each number: steps, dimensions, cases. A single number has the place ``""``.
    at: tuple[Any, ...] = ("",)
    # The numbers, or one for all places; empty if they are computed (closed forms).
    expected: tuple[float, ...] = ()
    # Of each number, or one for all: a number, or ``"sampling"``.
    tolerance: tuple[float | str, ...] = ()
    relative: float = 0.0  # in place of a tolerance: share of the number
    # If not empty, the obtained numbers are those of runs, whose means are compared. ``"sampling"``
    # (without a tolerance, of all) are so many ``errors`` of the difference from a mean of ``runs``
    # (default: exact), at least ``least`` (the digits given), where a run has the standard
    # deviation ``spread`` at each place (default: that of the runs here).
    sampling: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""  # what the tolerance is made of

    @classmethod
    def read(cls, stated: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> Expected:
        """Make them from a table of a TOML file, whose places may be the name of a setting."""
        values = dict(stated)
        if isinstance(values.get("at"), str):
            values["at"] = (settings or {})[values["at"]]
        for key in {"at", "expected", "tolerance"} & values.keys():
            value = values[key]
            values[key] = tuple(value) if isinstance(value, list) else (value,)
        return cls(**values)

    def value(self, place: Any = "") -> float:
        """Return the number expected at a place."""
        return float(self._at(self.expected, place))

    def checks(
        self,
        obtained: ArrayLike | Mapping[Any, ArrayLike],
        *,
        at: Iterable[Any] | None = None,
        expected: ArrayLike | None = None,
        tolerance: float | None = None,
        kind: Kind | None = None,
    ) -> list[Check]:
        """Compare with what was obtained at all places, or only at those of `at`.

        `obtained` has a number for each of k places, (k,), or where there is a `sampling` those of
        all runs, (k, runs); the first axis may be missing if k = 1. A mapping has them by place,
        and may have more. `expected`, `tolerance` and `kind` take the place of the stated ones.
        """
        places = list(self.at if at is None else at)
        got = np.asarray(
            [obtained[place] for place in places] if isinstance(obtained, Mapping) else obtained,
            dtype=np.float64,
        )
        if got.ndim == bool(self.sampling):
            got = got[np.newaxis]
        if got.ndim != 1 + bool(self.sampling) or len(got) != len(places):
            raise ValueError(
                f"obtained: expected {'runs' if self.sampling else 'numbers'} at {len(places)} "
                f"places, got shape {got.shape} for {self.name!r}"
            )
        if expected is None:
            expected = [self.value(place) for place in places]
        return [
            Check(
                self.name.format(*place) if isinstance(place, list) else self.name.format(place),
                number,
                here.mean(),
                self._allowed(place, number, here) if tolerance is None else tolerance,
                kind or self.kind,
                self.source,
                self.origin,
                self._reason(place),
            )
            for place, number, here in zip(
                places, np.broadcast_to(expected, len(places)).tolist(), got, strict=True
            )
        ]

    def _at(self, values: tuple[Any, ...], place: Any) -> Any:
        return values[0] if len(values) == 1 else values[self.at.index(place)]

    def _sampled(self, place: Any) -> bool:
        by_sampling = not self.tolerance or self._at(self.tolerance, place) == "sampling"
        return bool(self.sampling) and by_sampling

    def _allowed(self, place: Any, number: float, here: Float64Array) -> float:
        if self._sampled(place):
            sampling = self.sampling
            spread = sampling["spread"][self.at.index(place)] if "spread" in sampling else None
            error = standard_error(here, sampling.get("runs", np.inf), spread)
            return float(max(sampling["errors"] * error, sampling.get("least", 0.0)))
        if self.relative:
            return self.relative * abs(number)
        return float(self._at(self.tolerance, place)) if self.tolerance else 0.0

    def _reason(self, place: Any) -> str:
        parts = [f"{self.relative:.3g} of the number"] if self.relative else []
        if self._sampled(place):
            runs = self.sampling.get("runs")
            of = f" of the difference from one of {runs} runs" if runs else ""
            parts.append(f"{self.sampling['errors']} standard errors of the mean{of}")
        return "; ".join([*parts, *([self.reason] if self.reason else [])])
