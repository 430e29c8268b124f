"""A study in one HTML file that needs no network."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from attsvm.data.whole_file import write_whole
from attsvm.extras import require_extra
from attsvm.studies.expectations import expectations
from attsvm.studies.html_report.content import accuracies, paragraph, progress, reruns, versions
from attsvm.studies.html_report.drawings import draw, script
from attsvm.studies.html_report.tables import columns, lines
from attsvm.studies.recorded import recorded_study
from attsvm.studies.store import REPORT, RESULTS, open_results
from attsvm.studies.summary import INTERVALS, tabulate

__all__ = ["report"]

_OPEN = 4
"""Panels whose figures are shown unasked."""


def report(directory: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Write the results of a study as one HTML file: tables, figures, settings, commands.

    Everything comes from the results, so that they may have been made elsewhere and may be
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
    ImportError
        xarray, zarr, Jinja2 or plotly is not installed.

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

    where = Path(directory)
    results = open_results(where)
    try:
        study = recorded_study(results)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    done = progress(study, results)
    if not done.problems:
        raise ValueError(
            f"{where}: expected a finished problem or more, got a study without results so far"
        )
    table = tabulate(study, results)
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    files = resources.files(__name__)
    text = {
        name: (files / name).read_text(encoding="utf-8")
        for name in ("template.html", "style.css", "script.js")
    }
    page = environment.from_string(text["template.html"]).render(
        study=study,
        title=study.title or study.name,
        paragraph=paragraph(study),
        done=done,
        table=table,
        columns=columns(table),
        lines=lines(study, results, table),
        intervals=INTERVALS,
        sentences=expectations(study, results),
        panels=draw(study, results, table),
        shown_panels=_OPEN,
        accuracies=accuracies(study, results),
        versions=versions(results),
        reruns=reruns(study, results),
        style=text["style.css"],
        script=text["script.js"],
        plotly=script(),
    )
    beside = where.resolve().parent if where.resolve().name == RESULTS else where
    return write_whole(beside / REPORT if path is None else path, page.encode())
