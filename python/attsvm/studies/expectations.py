"""What theory and an independent program expect of a study, beside what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from attsvm.studies.measurements import OUTCOMES
from attsvm.studies.study import Study
from attsvm.studies.summary import records, tabulate
from attsvm.studies.table import Row, Table

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["REFERENCE", "expectations", "reference"]

_REFERENCE_D = (2, 3, 4, 5, 8, 10, 15, 20, 30, 50)

REFERENCE = MappingProxyType(
    {
        measure: MappingProxyType(dict(zip(_REFERENCE_D, percentages, strict=True)))
        for measure, percentages in {
            "global_percent": (21.7, 46.3, 63.7, 72.3, 87.0, 92.3, 94.0, 98.0, 98.7, 100.0),
            "local_percent": (75.3, 100.0, 99.3, 100.0, 99.7, 100.0, 99.7, 99.7, 100.0, 100.0),
            "feasible_percent": (29.0, 92.7, *8 * (100.0,)),
            "all_support_percent": (*7 * (0.0,), 1.3, 8.0, 44.7),
        }.items()
    }
)
"""Percentages by measure and d at n = T = 5 which an independent program found.

It ran 3,000 normalised steps of 0.1 from zero (2,000 for d >= 30) on random unit-norm data with
cross-attention: 300 problems per d (150 for d >= 30), so that its own 95 % intervals reach up to 6
points to either side. The published bar chart (Tarzanagh, Li, Thrampoulidis, Oymak, 2023) shows the
same trends; its numbers, sizes and trials are not given.
"""


def expectations(study: Study, results: xr.Dataset) -> list[str]:
    """What theory and the reference say of the finished cells, each beside what was seen.

    Parameters
    ----------
    study : Study
    results : xarray.Dataset
        From `attsvm.studies.run` or `attsvm.studies.open_results`.

    Returns
    -------
    list of str
        Sentences; those of which the study has no case are left out.
    """
    sentences = []
    if "feasible" in results:
        for parameter, bound in (("W", "max(T-1, n)"), ("p", "n (T-1)")):
            seen = [
                record["feasible"]
                for cell, record in records(study, results, ["feasible"])
                if cell.settings["parameter"] == parameter
                and cell.settings["d"] >= _sufficient_dimension(cell.settings)
            ]
            if seen and study.file is None:
                feasible = np.concatenate(seen)
                sentences.append(
                    f"d >= {bound} makes the SVM feasible for almost all data: "
                    f"seen in {feasible.sum()} of {feasible.size} problems."
                )
    if "all_support" in results and "outcome" in results:
        saturated = [
            record["outcome"][record["all_support"]]
            for cell, record in records(study, results, ["all_support", "outcome"])
            if cell.settings["parameter"] == "W"
        ]
        outcomes = np.concatenate([np.empty(0, dtype=np.int8), *saturated])
        if outcomes.size:
            sentences.append(
                "Where all tokens are support vectors training is expected to go global: "
                f"seen in {(outcomes == OUTCOMES.index('global')).sum()} of {outcomes.size} "
                "problems."
            )
    differences = _differences_from_reference(study, tabulate(study, results))
    if differences:
        sentences.append(
            "Largest difference from an independent computation at n = T = 5, in points: "
            + ", ".join(f"{heading} {points:.1f} (d={d})" for heading, points, d in differences)
            + "."
        )
    if study.data == "digits":
        sentences.append(
            "How global rises on the digits depends on how they are embedded, and the embedding "
            "was chosen so that it does: an illustration on real data, not independent evidence."
        )
    return sentences


def _sufficient_dimension(settings: Mapping[str, Any]) -> int:
    """Smallest d at which the SVM of any selection is feasible for almost all data.

    For W by the feasibility theorem of "Transformers as Support Vector Machines"; for p because
    n(T-1) differences of tokens are then linearly independent, and any margins can be had.
    """
    n, T = settings["n"], settings["T"]
    return int(max(T - 1, n) if settings["parameter"] == "W" else n * (T - 1))


_OF_REFERENCE = MappingProxyType(
    {
        "data": "sphere",
        "attention": "cross",
        "parameter": "W",
        "rule": "ngd",
        "momentum": 0.0,
        "decay": 0.0,
        "loss": "logistic",
        "lr": 0.1,
        "steps": 3000,
    }
)
"""Settings of the independent program."""


def reference(study: Study, row: Row) -> dict[str, float]:
    """Percentages of `REFERENCE` that a row of the table compares with, by measure."""
    place = {"n": study.n, "T": study.T, "d": study.d, **row.axes}
    if (
        any(study.settings.get(name) != value for name, value in _OF_REFERENCE.items())
        or study.norm not in ("auto", "fro")
        or not place["n"] == place["T"] == 5
    ):
        return {}
    d = place["d"]
    return {measure: by_d[d] for measure, by_d in REFERENCE.items() if d in by_d}


def _differences_from_reference(study: Study, table: Table) -> list[tuple[str, float, int]]:
    """Heading, points and d of the largest difference of each measure, where it compares."""
    compared = [(row, reference(study, row)) for row in table.rows]
    differences = []
    for measure in table.measures:
        pairs = [
            (
                abs(row.estimates[measure.name].value - expected[measure.name]),
                {"d": study.d, **row.axes}["d"],
            )
            for row, expected in compared
            if measure.name in expected
        ]
        if pairs:
            points, d = max(pairs)
            differences.append((measure.heading.removesuffix(" %"), points, d))
    return differences
