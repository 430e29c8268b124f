"""Results of a study beside what theory and an independent program predict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from attsvm._arrays import BoolArray
from attsvm._validation import as_instance
from attsvm.descent import StepRule
from attsvm.studies.chunked_arrays import StoredResults
from attsvm.studies.measurements import OUTCOMES
from attsvm.studies.reproduce.figure import Figure
from attsvm.studies.store import as_results
from attsvm.studies.study import Study
from attsvm.studies.summary import records
from attsvm.studies.table import Row, Table

if TYPE_CHECKING:
    import xarray as xr

_NUMBERS = Figure.of("attsvm.studies.figures.over_parameterisation").numbers
REFERENCE = MappingProxyType(
    {
        name: MappingProxyType(dict(zip(_NUMBERS[name].at, _NUMBERS[name].expected, strict=True)))
        for name in ("global_percent", "local_percent", "feasible_percent", "all_support_percent")
    }
)
"""Percentages by measure and d at n = T = 5, computed by an independent program.

It ran 3,000 normalised steps of 0.1 from zero (2,000 for d >= 30) on random unit-norm data with
cross-attention: 300 problems per d (150 for d >= 30), so that its own 95 % confidence intervals
extend up to 6 points to either side. The published bar chart (Tarzanagh, Li, Thrampoulidis, Oymak,
2023) shows the same trends; its numbers, sizes and trials are not given.
"""


def expectations(study: Study, results: xr.Dataset | StoredResults, table: Table) -> list[str]:
    """Compare the finished cells with theory and with the independent program, in sentences.

    Parameters
    ----------
    study : Study
    results : xarray.Dataset
        From `attsvm.studies.run` or `attsvm.studies.open_results`.
    table : Table
        Of these results.

    Returns
    -------
    list of str
        Those of which the study has no case are left out.
    """
    as_instance("study", study, Study)
    as_results("results", results)
    as_instance("table", table, Table)
    sentences = []
    if "feasible" in results and study.file is None:
        for parameter, bound in (("W", "max(T-1, n)"), ("p", "n (T-1)")):
            feasible = [
                record["feasible"]
                for cell, record in records(study, results, ["feasible"])
                if cell.settings["parameter"] == parameter
                and cell.settings["d"] >= _sufficient_dimension(cell.settings)
            ]
            if feasible:
                sentences.append(
                    f"d >= {bound} makes the SVM feasible for almost all data: "
                    f"measured in {_count(np.concatenate(feasible))}."
                )
    if "all_support" in results and "outcome" in results:
        outcomes = [
            record["outcome"][record["all_support"]]
            for cell, record in records(study, results, ["all_support", "outcome"])
            if cell.settings["parameter"] == "W" and record["all_support"].any()
        ]
        if outcomes:
            is_global = np.concatenate(outcomes) == OUTCOMES.index("global")
            sentences.append(
                "Where all tokens are support vectors training is expected to select the optimal "
                f"tokens: measured in {_count(is_global)}."
            )
    differences = _differences_from_reference(study, table)
    if differences:
        sentences.append(
            "Largest difference from an independent computation at n = T = 5, in percentage "
            "points, with the 95 % range of chance of one difference: "
            f"{', '.join(differences)}."
        )
    if study.data == "digits":
        sentences.append(
            "How global rises on the digits depends on how they are embedded, and the embedding "
            "was chosen so that it does: an illustration on real data, not independent evidence."
        )
    return sentences


def _count(holds: BoolArray) -> str:
    return f"{holds.sum()} of {holds.size} problem{'' if holds.size == 1 else 's'}"


def _sufficient_dimension(settings: Mapping[str, Any]) -> int:
    """Return the smallest d at which the SVM of any selection is feasible for almost all data.

    For W by the feasibility theorem of "Transformers as Support Vector Machines"; for p because
    n(T-1) differences of tokens are then linearly independent, and any margins can be had.
    """
    n, T = settings["n"], settings["T"]
    return int(max(T - 1, n) if settings["parameter"] == "W" else n * (T - 1))


_OF_REFERENCE = MappingProxyType(
    {"data": "sphere", "attention": "cross", "parameter": "W", "loss": "logistic", "steps": 3000}
)
"""Settings of the independent program, whose steps are normalised, of 0.1."""


def reference(study: Study, row: Row) -> dict[str, float]:
    """Return the percentages of `REFERENCE` at the place of a row, by measure."""
    place = {"n": study.n, "T": study.T, "d": study.d, **row.axes}
    if not _has_reference(study) or not place["n"] == place["T"] == 5:
        return {}
    d = place["d"]
    return {measure: by_d[d] for measure, by_d in REFERENCE.items() if d in by_d}


def _has_reference(study: Study) -> bool:
    """Return whether the settings of a study are those of the independent program."""
    settings = study.settings
    same = all(settings.get(name) == value for name, value in _OF_REFERENCE.items())
    steps = {(cell.settings["step_rule"], cell.settings["lr"]) for cell in study.cells}
    usual = {(StepRule("ngd", decay=decay), 0.1) for decay in (None, 0.0)}
    return same and study.norm in ("auto", "fro") and steps <= usual


def _differences_from_reference(study: Study, table: Table) -> list[str]:
    """Write the largest difference of each measure, its d, and the range of chance there."""
    if not _has_reference(study):
        return []
    texts = []
    for measure in table.measures:
        compared = []
        for row in table.rows:
            expected = reference(study, row).get(measure.name)
            if expected is not None:
                estimate, d = row.estimates[measure.name], {"d": study.d, **row.axes}["d"]
                sizes = (estimate.size, 150 if d >= 30 else 300)
                share = np.average([estimate.value, expected], weights=sizes) / 100
                chance = 196 * math.sqrt(share * (1 - share) * sum(1 / size for size in sizes))
                compared.append((abs(estimate.value - expected), d, chance))
        if compared:
            points, d, chance = max(compared)
            name = measure.heading.removesuffix(" %")
            texts.append(f"{name} {points:.1f} (d={d}, ±{chance:.1f})")
    return texts
