"""A study in one HTML file that needs no network."""

from __future__ import annotations

import os
import shlex
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attsvm._validation import as_path, in_words
from attsvm.data.whole_file import write_whole
from attsvm.extras import require_extra
from attsvm.studies.expectations import expectations
from attsvm.studies.layout import MEANINGS
from attsvm.studies.store import REPORT, RESULTS, open_results
from attsvm.studies.study import Study
from attsvm.studies.summary import INTERVALS, describe, records, tabulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["report"]

_VERSIONS = {
    "isa": "instruction set",
    **{name: name for name in ("attsvm", "numpy", "scipy", "osqp", "scikit-learn", "python")},
    "seed": "seed",
    "data_sha256": "SHA-256 of the file of problems",
}
"""Attributes of the results that are shown, with their names."""
_SVMS = {
    "svm_optimal": "optimal tokens",
    "svm_selected": "selected tokens",
    "svm_in_norm": "selected tokens, in several norms",
}
"""Measurements of SVMs that have an accuracy."""


def report(directory: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Write the results of a study as one HTML file: tables, figures, settings, commands.

    Everything comes from the results, so that they may have been computed elsewhere and may be
    unfinished. The same results make the same bytes. The file loads nothing from anywhere.

    Parameters
    ----------
    directory : str or path-like
        The directory of a study, or the Zarr store in it.
    path : str or path-like, optional
        The file, replaced if it exists; by default ``report.html`` in the directory of the study.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FileNotFoundError, ValueError
        There are no results of a study, or none of its problems is finished.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from attsvm.studies import Study, report, run
    >>> study = Study(n=3, T=4, d=(2, 5), problems=10, steps=100)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = run(study, directory)
    ...     print(report(directory).name)
    report.html
    """
    require_extra("attsvm.studies.report", "report", "jinja2", "plotly")
    from jinja2 import Environment, StrictUndefined
    from plotly.offline import get_plotlyjs

    from attsvm.studies.html_report.figures import figures

    where = as_path("directory", directory)
    if path is not None:
        as_path("path", path)
    results = open_results(where)
    try:
        study = Study.from_results(results)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    by_cell = results["finished"].to_numpy().reshape(-1, study.problems or 0)
    if not by_cell.any():
        raise ValueError(
            f"{where}: expected a finished problem or more, got a study without results so far"
        )
    table = tabulate(study, results)
    template = (resources.files(__name__) / "template.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    page = environment.from_string(template).render(
        study=study,
        title=study.title or study.name,
        summary=_summary(study),
        problems=(int(by_cell.sum()), by_cell.size),
        cells=(int(by_cell.all(axis=1).sum()), len(by_cell)),
        table=table,
        meanings={axis: MEANINGS[axis] for axis in table.rows[0].axes}
        | {"problems": "finished problems"}
        | {table.heading(measure): measure.meaning for measure in table.measures},
        intervals=INTERVALS if table.has_intervals else "",
        sentences=expectations(study, results, table),
        panels=figures(study, results, table),
        accuracies=_accuracies(study, results),
        versions={
            name: in_words(results.attrs[key])
            for key, name in _VERSIONS.items()
            if key in results.attrs
        },
        path=f"out/{study.name}",
        directory=shlex.quote(f"out/{study.name}"),
        toml=shlex.quote(f"{study.name}.toml"),
        version=results.attrs["attsvm"],
        plotly=get_plotlyjs(),
    )
    beside = where.resolve().parent if where.resolve().name == RESULTS else where
    return write_whole(beside / REPORT if path is None else path, page.encode())


def _summary(study: Study) -> str:
    """Describe the study for a reader who does not know the names of the settings."""
    count = len(study.cells) * (study.problems or 0)
    problems = "one problem" if count == 1 else f"{count:,} problems"
    axes = "; ".join(
        f"{axis} = {', '.join(map(in_words, values))}" for axis, values in study.axes.items()
    )
    every = "each of" if len(study.axes) == 1 else "every combination of"
    grid = f" There is a cell for {every} {axes}." if axes else ""
    return (
        f"Attention was trained on {problems} by gradient descent, and the trained parameter was "
        "compared with the solution of the support vector machine (SVM) to which theory says it "
        f"converges in direction. Settings: {describe(study)}.{grid} Recorded of every run: "
        f"{'; '.join(each.recorded for each in study.measurements)}."
    )


def _accuracies(study: Study, results: xr.Dataset) -> str:
    """Tabulate the largest gap and residual of each kind of SVM, and the cell of that residual.

    SVMs without a solution have the residual of the proof that there is none, and rows of their
    own.
    """
    import pandas as pd

    rows = []
    for svm, about in _SVMS.items():
        names = [f"{svm}_{part}" for part in ("norm", "gap", "kkt")]
        if names[0] not in results:
            continue
        for cell, record in records(study, results, names):
            norm, gap, kkt = (record[name] for name in names)
            for kind, mask in (
                ("solved", np.isfinite(norm)),
                ("proved to have no solution", ~np.isfinite(norm)),
            ):
                if mask.any():
                    what = f"SVM of the {about}, {kind}"
                    rows.append((what, mask.sum(), gap[mask].max(), kkt[mask].max(), cell.name))
    columns = ["SVMs", "number", "relative duality gap", "optimality residual", "largest at"]
    frame = pd.DataFrame(rows, columns=columns)
    by_kind = frame.sort_values(columns[3], ascending=False).groupby(columns[0])
    largest = by_kind.agg(dict(zip(columns[1:], ("sum", "max", "max", "first"), strict=True)))
    text: str = largest.reset_index().to_html(
        index=False, border=0, table_id="accuracies", float_format="{:.1e}".format
    )
    return text if rows else ""
