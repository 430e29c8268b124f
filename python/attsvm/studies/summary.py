"""The results of a study in a table, and its settings in words."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from attsvm.studies.axis_values import in_words
from attsvm.studies.measurements import OUTCOMES, Record
from attsvm.studies.problems import KINDS
from attsvm.studies.study import Cell, Study
from attsvm.studies.table import Measure, Row, Table

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["INTERVALS", "MEASURES", "describe", "records", "tabulate", "terminal_report"]

MEASURES = (
    Measure(
        "global_percent",
        "global %",
        "every input selects its optimal token, the one with the largest score Y v'x",
        lambda record: record["outcome"] == OUTCOMES.index("global"),
        variable="outcome",
    ),
    Measure(
        "local_percent",
        "local %",
        "the selection is locally optimal: it outscores all its SVM-neighbours (global included)",
        lambda record: record["outcome"] != OUTCOMES.index("neither"),
        variable="outcome",
    ),
    Measure(
        "neither_percent",
        "neither %",
        "the selection is not locally optimal",
        lambda record: record["outcome"] == OUTCOMES.index("neither"),
        variable="outcome",
    ),
    Measure(
        "feasible_percent",
        "feasible %",
        "the SVM that separates the optimal tokens from the others has a solution",
        lambda record: record["feasible"],
        variable="feasible",
    ),
    Measure(
        "all_support_percent",
        "all SV %",
        "all constraints of that SVM are active: all tokens are support vectors",
        lambda record: record["all_support"],
        variable="all_support",
    ),
    Measure(
        "cosine_mean",
        "mean cosine",
        "of what was trained with the SVM solution of the tokens it selected",
        lambda record: record["cosine"],
        bounds=(-1.0, 1.0),
        decimals=(4, 4),
        variable="cosine",
    ),
)
"""Columns of the table of a study, where it has measured what they are made of."""

INTERVALS = (
    "95 % intervals, rounded outwards: Wilson's for percentages, Student's t for the mean, cut at "
    "1."
)
"""What the table shows beside its estimates."""

_RULES = {
    "ngd": "normalised steps",
    "gd": "steps of gradient descent",
    "polyak": "Polyak steps",
    "adam": "steps of Adam",
}


def records(
    study: Study, results: xr.Dataset, variables: Collection[str]
) -> Iterator[tuple[Cell, Record]]:
    """Finished problems of each cell that has one: the cell, and its arrays by name."""
    for cell in study.cells:
        place = dict(zip(study.axes, cell.index, strict=True))
        there = results.isel(place)
        finished = there["finished"].to_numpy()
        if finished.any():
            yield cell, {name: there[name].to_numpy()[finished] for name in variables}


def tabulate(study: Study, results: xr.Dataset) -> Table:
    """Table of the results, one row for each cell that has finished problems.

    Parameters
    ----------
    study : Study
    results : xarray.Dataset
        From `attsvm.studies.run` or `attsvm.studies.open_results`.

    Returns
    -------
    Table
        Its measures are those of `MEASURES` whose variable was measured; it may have none.
    """
    measures = tuple(m for m in MEASURES if m.variable in results)
    rows = []
    for cell, record in records(study, results, {m.variable for m in measures}):
        place = cell.axes or {size: cell.settings[size] for size in ("n", "T", "d")}
        rows.append(Row(place, {m.name: m.estimate(record) for m in measures}))
    return Table(measures, tuple(rows))


def describe(study: Study) -> str:
    """The settings of a study in a line or two, for the reader of its table or figure."""
    settings = study.settings
    if study.file is None:
        data = KINDS[study.data].describe(settings)
        problems = f"{_problems(study)} of each size"
    else:
        data, problems = study.file.path.name, _problems(study)
    parameter, rule, rate, loss = (
        in_words(settings[k]) for k in ("parameter", "rule", "lr", "loss")
    )
    steps = _RULES.get(rule, f"steps of {rule}")
    length = "" if rule == "polyak" else f" of {rate}"
    more = "".join(
        f", {name} {in_words(settings[name])}" for name in ("momentum", "decay") if settings[name]
    )
    start = f"from {in_words(settings['init'])} starts" if "KQ" in parameter else "from zero"
    return (
        f"{data}; {parameter} trained {start} by {study.steps} {steps}{length}{more}, {loss} loss; "
        f"{problems}, seed {in_words(settings['seed'])}"
    )


def terminal_report(
    study: Study, table: Table, sentences: Collection[str], width: int, *, broken: bool
) -> str:
    """Title, settings, table, what its columns mean, and what was expected, for a terminal.

    Parameters
    ----------
    study : Study
    table : Table
    sentences : collection of str
    width : int
        Characters per line of text.
    broken : bool
        Whether the table is broken into blocks of that width.
    """
    lines = [study.title or study.name, textwrap.fill(describe(study), width), ""]
    if table.measures:
        name_width = max(len(measure.heading) for measure in table.measures) + 3
        lines.append(table.text(width if broken else None))
        lines += [
            textwrap.fill(
                measure.meaning,
                width,
                initial_indent=measure.heading.ljust(name_width),
                subsequent_indent=" " * name_width,
            )
            for measure in table.measures
        ]
        lines += [textwrap.fill(f"In brackets {INTERVALS}", width), ""]
    return "\n".join([*lines, *(textwrap.fill(sentence, width) for sentence in sentences)])


def _problems(study: Study) -> str:
    return f"{study.problems} problem{'' if study.problems == 1 else 's'}"
