"""The results of a study as a table, and its settings in words."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from attsvm import _core
from attsvm._validation import as_instance, in_words
from attsvm.datasets.signal_tokens import KINDS_OF_TOKEN
from attsvm.descent.blocks import as_blocks
from attsvm.studies.chunked_arrays import StoredResults
from attsvm.studies.measurements import OUTCOMES, Record
from attsvm.studies.problems import FIRST_TOKENS, KINDS
from attsvm.studies.store import as_results
from attsvm.studies.study import Cell, Study, norm_of_svm
from attsvm.studies.table import Measure, Row, Table
from attsvm.svm.norms import as_svm_norm

if TYPE_CHECKING:
    import xarray as xr

MEASURES = (
    Measure(
        "global_percent",
        "global %",
        "outcome",
        "every input selects its optimal token, the one with the largest score Y v'x",
        partial(np.equal, OUTCOMES.index("global")),
    ),
    Measure(
        "local_percent",
        "local %",
        "outcome",
        "the selection is locally optimal: it outscores all its SVM-neighbours (global included)",
        partial(np.not_equal, OUTCOMES.index("neither")),
    ),
    Measure(
        "neither_percent",
        "neither %",
        "outcome",
        "the selection is not locally optimal",
        partial(np.equal, OUTCOMES.index("neither")),
    ),
    Measure(
        "feasible_percent",
        "feasible %",
        "feasible",
        "the SVM that separates the optimal tokens from the others has a solution",
    ),
    Measure(
        "all_support_percent",
        "all support %",
        "all_support",
        "all constraints of that SVM are active: all tokens are support vectors",
    ),
    Measure(
        "cosine_mean",
        "mean cosine",
        "cosine",
        "cosine of the trained parameter with the SVM solution of the tokens it selects",
        bounds=(-1.0, 1.0),
        label="Mean cosine with the SVM",
        decimals=(4, 4),
    ),
)
"""Columns of the table of a study, where their variable was measured."""

_OF_SVMS = ("local_percent", "neither_percent", "cosine_mean")
"""Columns that depend on the norm of the SVMs."""

_OF_LABELS = (
    *(
        Measure(
            f"{name}_mean",
            f"mean {heading}",
            name,
            meaning,
            bounds=(0.0, 1.0),
            label=heading.capitalize(),
            decimals=(3, 3),
        )
        for name, heading, meaning in (
            ("accuracy", "training accuracy", "share of all labels that are fitted"),
            ("flipped_fitted", "flipped labels fitted", "share of them that are fitted"),
            ("test_accuracy", "test accuracy", "accuracy on a test without flipped labels"),
        )
    ),
    *(
        Measure(
            f"{labels}_attention_{k}",
            f"mean {labels}: {KINDS_OF_TOKEN[k]}",
            f"{labels}_attention",
            f"attention on {tokens}, mean over inputs with {labels} labels",
            partial(np.take, indices=k, axis=1),
            bounds=(0.0, 1.0),
            label=f"Attention, {labels} labels: {KINDS_OF_TOKEN[k]}",
            decimals=(3, 3),
        )
        for labels, k, tokens in (
            ("clean", 0, "the relevant token"),
            ("flipped", 0, "the relevant token"),
            ("flipped", 1, "the weakly relevant token of its class"),
            ("flipped", 2, "the weakly relevant token of the other class, that of the label"),
            ("flipped", 3, "the tokens of noise"),
        )
    ),
)

IN_NORMS = MappingProxyType(
    {"margin_ratio": ("ratio", "margin ratio"), "cosine_in_norm": ("cosine", "cosine with the SVM")}
)
"""Variables with a column for each norm: start of its heading, and the name in figures."""

INTERVALS = (
    "95 % confidence intervals, rounded outwards: Wilson's for percentages, Student's t for means, "
    "within the range of the mean, and between order statistics for medians."
)
"""Explanation of the intervals in a table."""


def records(
    study: Study, results: xr.Dataset | StoredResults, variables: Collection[str]
) -> Iterator[tuple[Cell, Record]]:
    """Yield each cell that has finished problems, and its arrays of these problems by name."""
    arrays: Mapping[Any, Any] = results
    if not isinstance(results, StoredResults):
        _require_results_of(study, results)
        arrays = results[list({"finished", *variables})].transpose(*study.axes, ...).variables
    for cell in study.cells:
        finished = np.asarray(arrays["finished"][cell.index])
        if finished.any():
            yield cell, {name: np.asarray(arrays[name][cell.index])[finished] for name in variables}


def _require_results_of(study: Study, results: xr.Dataset) -> None:
    """Refuse results whose attributes state other settings than the study, but for its names."""
    free = ("name", "title", "measure", *(["data"] if study.file else []))
    for name, value in study.settings.items():
        stored = results.attrs.get(name, value)
        if name not in free and not np.array_equal(np.atleast_1d(stored), np.atleast_1d(value)):
            raise ValueError(
                f"results: expected those of the study, whose {name} is {value}, got {stored}"
            )


def measures_of(study: Study) -> tuple[Measure, ...]:
    """Return the columns that the table of a study may have."""
    in_norms = [
        Measure(
            f"{variable}_{norm.name}",
            f"{heading} {norm.name}",
            variable,
            f"{meaning} of the selected tokens in the {norm.text} norm, median",
            partial(np.take, indices=k, axis=1),
            middle="median",
            norm=norm.name,
            decimals=(3, 3),
        )
        for variable, (heading, meaning) in IN_NORMS.items()
        for k, norm in enumerate(as_svm_norm("norms", norm) for norm in study.norms or ())
    ]
    norms = _norms_in_words(study)
    of_cells = [
        replace(measure, meaning=f"{measure.meaning}; SVMs in the {norms}")
        if measure.name in _OF_SVMS
        else measure
        for measure in MEASURES
    ]
    return (*of_cells, *_OF_LABELS, *in_norms)


def _norms_in_words(study: Study) -> str:
    """Write the norm of the SVMs, or that of each parameter, rule and norm of the cells."""
    by_norm: dict[str, dict[str, None]] = {}
    for cell in study.cells:
        values = (cell.axes[axis] for axis in ("parameter", "rule", "norm") if axis in cell.axes)
        norm = as_svm_norm("norm", norm_of_svm(cell.settings)).text
        by_norm.setdefault(norm, {})[" ".join(values)] = None
    if len(by_norm) == 1:
        return f"{next(iter(by_norm))} norm"
    of_each = (f"{norm} ({', '.join(names)})" for norm, names in by_norm.items())
    return f"norms {', '.join(of_each)}"


def tabulate(study: Study | xr.Dataset, results: xr.Dataset | StoredResults | None = None) -> Table:
    """Tabulate the results, one row for each cell that has finished problems.

    Parameters
    ----------
    study : Study, or xarray.Dataset
        The study of the results; or the results alone, which hold their declaration.
    results : xarray.Dataset
        From `attsvm.studies.run` or `attsvm.studies.open_results`.

    Returns
    -------
    Table
        Its measures are those of `MEASURES` whose variable was measured; it may have none.

    Raises
    ------
    ValueError
        The results are not those of the study, or of any.
    """
    if not isinstance(study, Study):
        study, results = Study.from_results(as_results("study", study, Study)), study
    results = as_results("results", results)
    measures = tuple(m for m in measures_of(study) if m.variable in results)
    rows = []
    for cell, record in records(study, results, {"finished", *(m.variable for m in measures)}):
        place = cell.axes or {size: cell.settings[size] for size in ("n", "T", "d")}
        estimates = {m.name: m.estimate(record) for m in measures}
        rows.append(Row(place, estimates, record["finished"].size))
    return Table(measures, tuple(rows))


def describe(study: Study) -> str:
    """Describe the settings of a study in a line or two, for its table and its figure."""
    settings = as_instance("study", study, Study).settings
    if study.file is None:
        data = KINDS[study.data].describe(settings)
        problems = f"{_problems(study)} of each size"
    else:
        data, problems = study.file.path.name, _problems(study)
    data += f"; queries are the {FIRST_TOKENS}" * study.takes_first_queries
    rule, loss = (in_words(settings[k]) for k in ("rule", "loss"))
    known = study.rules is None and rule in _core.step_rules  # and not several
    steps = _core.StepRule(rule).description if known else f"steps of {rule}"
    length = f" of {in_words(settings['lr'])}" if "lr" in settings else ", each of its own size"
    length = "" if rule == "polyak" else length
    of_steps = {"momentum": 0, "decay": 0, "weight_decay": 0, "lr_factor": 1}
    more = "".join(
        f", {name.replace('_', ' ')} {in_words(settings[name])}"
        for name, usual in of_steps.items()
        if settings.get(name, usual) != usual
    )
    return (
        f"{data}; {_starts_in_words(study)} by {study.steps} {steps}{length}{more}, {loss} loss; "
        f"{problems}, seed {in_words(settings['seed'])}"
    )


def _starts_in_words(study: Study) -> str:
    """Write what is trained from which start."""
    by_start: dict[str, list[str]] = {}
    for parameter in np.atleast_1d(study.settings["parameter"]).tolist():
        blocks = as_blocks(parameter)
        drawn = f"{in_words(study.settings['init'])} starts"
        start = drawn if blocks.kind.bilinear else "zero"
        of_value = "the value of the data and " if blocks.head and study.has_value else ""
        by_start.setdefault(of_value + start, []).append(parameter)
    return ", ".join(f"{in_words(names)} trained from {x}" for x, names in by_start.items())


def terminal_report(
    study: Study, table: Table, sentences: Collection[str], width: int, *, broken: bool
) -> str:
    """Write title, settings, table, meaning of its columns, and expectations, for a terminal.

    Text has lines of `width` characters; so has the table if it is `broken` into blocks.
    """
    lines = [study.title or study.name, textwrap.fill(describe(study), width), ""]
    if table.measures:
        name_width = max(len(table.heading(measure)) for measure in table.measures) + 3
        lines.append(table.text(width if broken else None))
        lines += [
            textwrap.fill(
                measure.meaning,
                width,
                initial_indent=table.heading(measure).ljust(name_width),
                subsequent_indent=" " * name_width,
            )
            for measure in table.measures
        ]
        if table.has_intervals:
            lines.append(textwrap.fill(f"In brackets: {INTERVALS}", width))
        lines.append("")
    return "\n".join([*lines, *(textwrap.fill(sentence, width) for sentence in sentences)])


def _problems(study: Study) -> str:
    return f"{study.problems} problem{'' if study.problems == 1 else 's'}"
