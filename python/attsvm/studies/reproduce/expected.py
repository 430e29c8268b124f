"""Expected numbers, as the TOML file of a figure states them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attsvm.studies.reproduce.check import Check, Kind

__all__ = ["Expected", "Sampling", "standard_error"]


def standard_error(
    samples: NDArray[np.float64], others: float = np.inf, spread: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Compute the standard error of the difference of two means of independent runs.

    Parameters
    ----------
    samples : ndarray, shape (..., runs)
        Of the first mean.
    others : float
        Runs of the second mean, of equal spread; infinite where that is exact.
    spread : array_like, shape (...), optional
        Standard deviation of a run; by default that of the samples.

    Returns
    -------
    ndarray, shape (...)
    """
    deviation = samples.std(axis=-1, ddof=1) if spread is None else np.asarray(spread)
    error: NDArray[np.float64] = deviation * np.sqrt(1 / others + 1 / samples.shape[-1])
    return error


@dataclass(frozen=True)
class Sampling:
    """A tolerance of so many standard errors of the difference of two means.

    Attributes
    ----------
    errors : float
        How many.
    runs : float
        Runs of the expected mean; infinite where it is exact.
    least : float
        The tolerance is at least this: the digits that are given.
    spread : sequence of float, optional
        Standard deviation of a run at each place; by default that of the runs here.
    """

    errors: float
    runs: float = np.inf
    least: float = 0.0
    spread: Sequence[float] | None = None

    @property
    def reason(self) -> str:
        """What the tolerance is made of."""
        exact = np.isinf(self.runs)
        of = "of the mean" if exact else f"of the difference of this mean and one of {self.runs:g}"
        least = f", at least {self.least:g}" if self.least else ""
        return f"{self.errors:g} standard errors {of}{least}"


@dataclass(frozen=True)
class Expected:
    """Numbers of a figure that belong together.

    Attributes
    ----------
    name : str
        Name of each; ``{}`` is its place.
    source : str
        A word of `attsvm.studies.reproduce.check.SOURCES`.
    origin : str
        Where exactly they are from.
    kind : str
        As in `Check`.
    at : tuple
        Place of each number: steps, dimensions, cases. One number without a name for its place by
        default.
    expected : tuple of float
        The numbers, or one for all places; empty if they are computed (closed forms).
    tolerance : tuple
        Of each number, or one for all: a number, or ``"sampling"``.
    relative : float
        In place of a tolerance: share of the number.
    sampling : Sampling or None
        What ``"sampling"`` stands for; without a tolerance, that of all.
    reason : str
        What the tolerance is made of.

    Examples
    --------
    >>> from attsvm.studies.reproduce.expected import Expected
    >>> norms = Expected.read({"name": "|p| at step {}", "source": "recomputed", "at": [50, 100],
    ...                        "expected": [4.972, 9.934], "tolerance": 1e-3})
    >>> [check.name for check in norms.checks([4.972, 9.9341])]
    ['|p| at step 50', '|p| at step 100']
    """

    name: str
    source: str
    origin: str = ""
    kind: Kind = "within"
    at: tuple[Any, ...] = ("",)
    expected: tuple[float, ...] = ()
    tolerance: tuple[float | str, ...] = ()
    relative: float = 0.0
    sampling: Sampling | None = None
    reason: str = ""

    @classmethod
    def read(cls, stated: Mapping[str, Any], settings: Mapping[str, Any] = {}) -> Expected:
        """Make them from a table of a TOML file, whose places may be the name of a setting.

        Raises
        ------
        TypeError
            There is a key that is no attribute, or a name or source is missing.
        KeyError
            There is no such setting.
        """
        values = dict(stated)
        if isinstance(values.get("at"), str):
            values["at"] = settings[values["at"]]
        for key in ("at", "expected", "tolerance"):
            if key in values:
                value = values[key]
                values[key] = tuple(value) if isinstance(value, list) else (value,)
        if "sampling" in values:
            values["sampling"] = Sampling(**values["sampling"])
        return cls(**values)

    def value(self, place: Any = "") -> float:
        """Return the number expected at a place."""
        return self._of_place(self.expected, place)

    def _of_place(self, values: tuple[Any, ...], place: Any) -> Any:
        return values[0] if len(values) == 1 else values[self.at.index(place)]

    def _allowed(self, place: Any, expected: float, error: NDArray[np.float64]) -> float:
        if self.relative:
            return self.relative * abs(expected)
        tolerance = self._of_place(self.tolerance, place) if self.tolerance else "sampling"
        if tolerance != "sampling":
            return float(tolerance)
        if self.sampling is None:
            return 0.0
        return max(self.sampling.errors * float(error), self.sampling.least)

    def checks(
        self,
        obtained: ArrayLike | Mapping[Any, ArrayLike],
        *,
        at: Iterable[Any] | None = None,
        expected: ArrayLike | None = None,
        tolerance: ArrayLike | None = None,
        kind: Kind | None = None,
    ) -> list[Check]:
        """Compare with what was obtained.

        Parameters
        ----------
        obtained : array_like, shape (k,) or (k, runs), or mapping
            A number for each of the k places, or where there is a `sampling` those of all runs,
            whose mean is compared; the first axis may be missing if k = 1. A mapping has them by
            place, and may have more.
        at : iterable, optional
            Only these places.
        expected, tolerance : array_like, shape (k,), optional
            In place of the stated ones.
        kind : str, optional
            In place of the stated one.

        Raises
        ------
        ValueError
            The shape of `obtained` is another one, or a place is not stated.
        """
        places = self.at if at is None else tuple(at)
        if isinstance(obtained, Mapping):
            obtained = [obtained[place] for place in places]
        got = np.asarray(obtained, dtype=np.float64)
        if got.ndim == 0 or (got.ndim == 1 and self.sampling is not None):
            got = got[np.newaxis]
        if len(got) != len(places) or got.ndim != (1 if self.sampling is None else 2):
            raise ValueError(
                f"obtained: expected {'numbers' if self.sampling is None else 'runs'} at "
                f"{len(places)} places, got shape {np.shape(obtained)} for {self.name!r}"
            )
        errors = np.zeros(len(places))
        if self.sampling is not None:
            spread = self.sampling.spread
            if spread is not None:
                spread = [spread[self.at.index(place)] for place in places]
            errors, got = standard_error(got, self.sampling.runs, spread), got.mean(axis=-1)
        stated = [
            self.value(place) if expected is None else of_place
            for place, of_place in zip(
                places, np.broadcast_to(np.asarray(expected), len(places)), strict=True
            )
        ]
        given = np.broadcast_to(np.asarray(tolerance), len(places))
        return [
            Check(
                self.name.format(*place) if isinstance(place, list) else self.name.format(place),
                wanted,
                number,
                self._allowed(place, wanted, error) if tolerance is None else of_place,
                kind or self.kind,
                self.source,
                self.origin,
                self._reason(place),
            )
            for place, wanted, number, error, of_place in zip(
                places, stated, got, errors, given, strict=True
            )
        ]

    def _reason(self, place: Any) -> str:
        sampled = self.sampling is not None and (
            not self.tolerance or self._of_place(self.tolerance, place) == "sampling"
        )
        parts = [
            f"{self.relative:.3g} of the number" if self.relative else "",
            self.sampling.reason if sampled and self.sampling is not None else "",
            self.reason,
        ]
        return "; ".join(part for part in parts if part)
