"""Compute figures, draw them, and write the numbers and the drawing of each."""

from __future__ import annotations

import json
import math
import os
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from attsvm.data.whole_file import place_of_directory, whole_file, write_whole
from attsvm.studies.environment import environment, version
from attsvm.studies.reproduce.check import SOURCES, Check, counted, table
from attsvm.studies.reproduce.figure import PAPERS, Figure, Outcome, Settings

Render: TypeAlias = Callable[[Figure, Outcome], Mapping[str, bytes]]
"""Makes the files of a figure, by their suffixes such as "png"."""


@dataclass(frozen=True)
class Reproduction:
    """A computed figure."""

    figure: Figure
    settings: Settings
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    seconds: float  # time of the computation, without the drawing
    error: Exception | None  # what stopped the computation or the drawing
    written: tuple[Path, ...]  # JSON file and, where the figure was drawn, those of the drawing

    @property
    def passed(self) -> bool:
        """Whether some numbers are where they should be, none is outside, and nothing failed."""
        verdicts = {check.verdict for check in self.checks}
        return self.error is None and "ok" in verdicts and "OUTSIDE" not in verdicts

    @property
    def text(self) -> str:
        """Report for the reader: heading, table, notes, verdict."""
        lines = [f"{self.figure.name}: {self.figure.title} ({self.figure.source})"]
        if self.settings.quick:
            lines.append(f"Quick: {self.figure.quick or 'nothing is left out of this figure'}.")
        if self.checks:
            lines.append(table(self.checks))
        lines += [textwrap.fill(f"Note: {note}", 100) for note in self.notes]
        if self.error is not None:
            lines.append(f"FAILED: {type(self.error).__name__}: {self.error}")
        digits = 0 if self.seconds >= 10 else 1
        lines.append(f"{_verdicts(self.checks)}, {self.seconds:.{digits}f} s")
        return "\n".join(lines)


def _verdicts(checks: Sequence[Check]) -> str:
    """Count the numbers by verdict and source."""
    vague = sum(check.verdict == "not comparable" for check in checks)
    text = f"{sum(check.passed for check in checks)} of {len(checks)} as expected"
    text += f" ({counted(check.source for check in checks)})" if checks else ""
    return text + (f", {vague} not comparable" if vague else "")


_VAGUE = "not comparable: the tolerance is larger than the expected number"
_WORDS = "\n".join([*(f"{source}: {meaning}" for source, meaning in SOURCES.items()), _VAGUE])


def summary(results: Sequence[Reproduction]) -> str:
    """Count figures and numbers by verdict and source, and say what the words mean."""
    passed = sum(result.passed for result in results)
    checks = [check for result in results for check in result.checks]
    return (
        f"{passed} of {len(results)} figures as expected\n"
        f"numbers of all: {_verdicts(checks)}\n{_WORDS}"
    )


def announcement(figures: Sequence[Figure], quick: bool) -> str:
    """Say what is computed, and about how long that takes."""
    what = figures[0].name if len(figures) == 1 else f"{len(figures)} figures"
    return f"{what}: about {_time(figures, quick)} of processor time"


def _time(figures: Sequence[Figure], quick: bool) -> str:
    seconds = sum(figure.seconds[quick] for figure in figures)
    return f"{max(1, seconds):.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _times(figures: Sequence[Figure]) -> str:
    full, quick = (_time(figures, quick) for quick in (False, True))
    return f"about {full}" if full == quick else f"about {full}, with --quick {quick}"


def listing(figures: Sequence[Figure]) -> str:
    """List figures by paper, with the sources of their numbers, and say what the words mean."""
    width = max(len(figure.name) for figure in figures)
    lines = []
    for arxiv, paper in PAPERS.items():
        of_paper = [figure for figure in figures if figure.papers[0] == arxiv]
        if of_paper:
            lines.append(str(paper))
        for figure in of_paper:
            also = "".join(f"; also arXiv {other}" for other in figure.papers[1:])
            lines.append(f"  {figure.name:{width}}   {figure.title} ({figure.place}{also})")
            lines.append(f"  {'':{width}}   {counted(figure.sources)}; {_times([figure])}")
    sources = counted(source for figure in figures for source in figure.sources)
    lines.append(f"in all: {sources}; {_times(figures)} of processor time")
    return "\n".join([*lines, _WORDS])


def reproduce(
    figure: Figure,
    directory: str | os.PathLike[str],
    settings: Settings,
    render: Render | None = None,
) -> Reproduction:
    """Compute a figure, compare its numbers, draw it, and write both.

    The directory is made if it does not exist, and receives ``<name>.json`` and, with `render`, a
    drawing such as ``<name>.png``, each whole. An exception of the computation or drawing is kept
    in the result.
    """
    out = place_of_directory("directory", directory)
    outcome, error = Outcome({}, ()), None
    drawings: Mapping[str, bytes] = {}
    started = time.perf_counter()
    try:
        outcome = figure.compute(settings)
        seconds = time.perf_counter() - started
        drawings = {} if render is None else render(figure, outcome)
    except Exception as raised:  # one figure that cannot be computed is no reason to lose others
        error = raised
        if not outcome.checks:
            seconds = time.perf_counter() - started
    written = (out / f"{figure.name}.json", *(out / f"{figure.name}.{each}" for each in drawings))
    for path, content in zip(written[1:], drawings.values(), strict=True):
        write_whole(path, content)
    numbers = (outcome.checks, outcome.notes)
    result = Reproduction(figure, settings, *numbers, seconds, error, written)
    with whole_file(written[0]) as file:
        file.write(json.dumps(_as_json(result), indent=2, allow_nan=False).encode() + b"\n")
    return result


def _as_json(result: Reproduction) -> dict[str, Any]:
    figure = result.figure
    return {
        "figure": figure.name,
        "title": figure.title,
        "source": figure.source,
        "papers": list(figure.papers),
        "passed": result.passed,
        "error": None if result.error is None else repr(result.error),
        "settings": {"quick": result.settings.quick, "num_threads": result.settings.num_threads},
        "less_in_quick": figure.quick,
        "seconds": result.seconds,
        "checks": [
            # JSON has no NaN and no infinity.
            asdict(check)
            | {"obtained": check.obtained if math.isfinite(check.obtained) else None}
            | {"passed": check.passed, "verdict": check.verdict}
            for check in result.checks
        ],
        "notes": list(result.notes),
        "drawings": [path.name for path in result.written[1:]],
        "attsvm": version("attsvm"),
        "environment": environment(),
    }
