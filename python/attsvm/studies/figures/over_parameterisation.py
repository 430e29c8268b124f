"""Share of runs that go to the global direction, to a local one or to neither, as d grows.

The published bars have no sizes, trials or heights to compare with. The numbers expected here are
those of an independent program at n = T = 5, see `attsvm.studies.expectations.REFERENCE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from attsvm.progress import bar
from attsvm.studies.compute import measure_cell
from attsvm.studies.expectations import REFERENCE
from attsvm.studies.measurements import OUTCOMES, Record
from attsvm.studies.reproduce.check import Check
from attsvm.studies.reproduce.figure import Figure, Outcome, Settings
from attsvm.studies.reproduce.palette import BLUE, GREEN, INK, RED, TEAL
from attsvm.studies.study import Study
from attsvm.studies.summary import MEASURES
from attsvm.studies.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["FIGURE"]

QUICK_DIMENSIONS = (2, 4, 5, 10, 30)
PROBLEMS = 300
D = 10
"""Dimension at which n and T grow."""
SWEEP = (2, 5, 10, 15)
TOLERANCE = 8
"""Points, for 300 problems here and there: two standard errors of a difference at 50 %."""
LOCAL, ALL_SUPPORT_GLOBAL = 98.0, 0.98
WIDE = (20, 30, 50)
"""Dimensions at which all tokens may be support vectors."""

_COLOURS = {"global_percent": RED, "local_percent": BLUE, "neither_percent": TEAL,
            "all_support_percent": GREEN}  # fmt: skip
_LABELS = {
    "global_percent": "Global",
    "local_percent": "Local (including Global)",
    "neither_percent": "Not Local",
    "all_support_percent": "all tokens support vectors",
}


def compute(settings: Settings) -> Outcome:
    """Train and solve the SVMs of random problems over d, and over n and T at one d."""
    whole = Study.load("overparam", {"problems": PROBLEMS})
    studies = {"d": replace(whole, d=QUICK_DIMENSIONS) if settings.quick else whole}
    if not settings.quick:
        studies["n"] = replace(whole, n=SWEEP, d=(D,))
        studies["T"] = replace(whole, T=SWEEP, d=(D,))
    cells = sum(len(study.cells) for study in studies.values())
    enabled = None if settings.progress else False
    records: dict[str, dict[int, Record]] = {}
    with bar(cells * PROBLEMS, "problems", enabled=enabled) as advance:
        for axis, study in studies.items():
            records[axis] = {
                cell.axes[axis]: measure_cell(
                    study, cell, range(PROBLEMS), num_threads=settings.num_threads, done=advance
                )
                for cell in study.cells
            }
    rows = {
        axis: {size: _row(axis, size, record) for size, record in by_size.items()}
        for axis, by_size in records.items()
    }
    found = [*_reference_checks(rows["d"]), *_theory_checks(records["d"], rows["d"])]
    for axis, direction in (("d", 1), ("n", -1), ("T", -1)):
        if axis in rows:
            shares = [row.estimates["global_percent"].value for row in rows[axis].values()]
            monotone = bool((direction * np.diff(shares) > 0).all())
            name = f"Global {'rises' if direction > 0 else 'falls'} with {axis}"
            found.append(Check(name, True, monotone, kind="equal"))
    notes = (
        f"{PROBLEMS} random problems of each size, n = T = 5 unless said; W from zero, 3,000 "
        "normalised steps of 0.1. The independent program took 2,000 steps and 150 problems for "
        "d >= 30.",
        "The published chart gives no sizes and no heights: it shows that Global rises to 100 % "
        "with d, and the share of problems where all tokens are support vectors after it.",
    )
    return Outcome({"rows": rows}, tuple(found), notes)


def _row(axis: str, size: int, record: Record) -> Row:
    return Row({axis: size}, {measure.name: measure.estimate(record) for measure in MEASURES})


def _reference_checks(rows: Mapping[int, Row]) -> list[Check]:
    headings = {measure.name: measure.heading for measure in MEASURES}
    return [
        Check(
            f"d={d}: {headings[name]}",
            REFERENCE[name][d],
            row.estimates[name].value,
            TOLERANCE,
            source="recomputed, 300 runs",
        )
        for d, row in rows.items()
        for name in REFERENCE
    ]


def _theory_checks(records: Mapping[int, Record], rows: Mapping[int, Row]) -> list[Check]:
    """Local where d >= max(T-1, n), and global where all tokens are support vectors."""
    found = [
        Check(
            f"d={d}: local %, d >= max(T-1, n)",
            LOCAL,
            row.estimates["local_percent"].value,
            kind="at least",
            source="theory",
        )
        for d, row in rows.items()
        if d >= 5
    ]
    wide = [record for d, record in records.items() if d in WIDE]
    outcomes = np.concatenate([record["outcome"][record["all_support"]] for record in wide])
    share = (outcomes == OUTCOMES.index("global")).mean()
    found.append(
        Check(
            f"share of global runs where all tokens are support vectors ({outcomes.size} runs)",
            ALL_SUPPORT_GLOBAL,
            share,
            kind="at least",
            source="theory",
        )
    )
    return found


def draw(canvas: Canvas, outcome: Outcome) -> None:
    """Bars over d, and below them over n and T where these were varied."""
    rows: dict[str, dict[int, Row]] = outcome.data["rows"]
    others = [axis for axis in rows if axis != "d"]
    lines = 2 if others else 1
    grid = canvas.add_gridspec(lines, max(len(others), 1))
    panels = [("d", canvas.add_subplot(grid[0, :]))]
    panels += [(axis, canvas.add_subplot(grid[1, k])) for k, axis in enumerate(others)]
    titles = {"d": "n = T = 5", "n": f"T = 5, d = {D}", "T": f"n = 5, d = {D}"}
    names = {"d": "dimension d", "n": "inputs n", "T": "tokens T"}
    for axis, axes in panels:
        _draw_bars(axes, rows[axis])
        axes.set_title(titles[axis], loc="left")
        axes.set_xlabel(names[axis])
    for _, axes in panels[:2]:
        axes.set_ylabel("runs (%)")
    marks, *bars = zip(*panels[0][1].get_legend_handles_labels(), strict=True)
    handles, labels = zip(*bars, marks, strict=True)
    canvas.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)


def _draw_bars(axes: Axes, rows: Mapping[int, Row]) -> None:
    at, width = np.arange(len(rows)), 0.84 / len(_LABELS)
    for k, (name, label) in enumerate(_LABELS.items()):
        estimates = [row.estimates[name] for row in rows.values()]
        value = np.array([estimate.value for estimate in estimates])
        ends = np.array([(estimate.low, estimate.high) for estimate in estimates]).T
        place = at + (k - (len(_LABELS) - 1) / 2) * width
        axes.bar(
            place,
            value,
            0.94 * width,
            color=_COLOURS[name],
            label=label,
            yerr=np.abs(ends - value).tolist(),  # lists: see plots._with_errors
            error_kw={"elinewidth": 0.7, "ecolor": INK},
        )
        expected: Mapping[int, float] = REFERENCE.get(name, {})
        marks = [(x, expected[d]) for x, (d, row) in zip(place, rows.items(), strict=True)
                 if "d" in row.axes and d in expected]  # fmt: skip
        if marks:
            first = "expected" if name == "global_percent" else None
            axes.plot(*zip(*marks, strict=True), "_", color="black", markersize=7, label=first)
    axes.set_xticks(at, [str(size) for size in rows])
    axes.set_ylim(0, 103)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", linewidth=0.4, color="#dddddd")
    axes.set_axisbelow(True)


FIGURE = Figure(
    name="over-parameterisation",
    title="Share of global, local and other convergence as the dimension grows",
    source="P2, the figure of the percentage of global and local convergence",
    size=(10.0, 6.0),
    compute=compute,
    draw=draw,
    quick=f"d = {', '.join(map(str, QUICK_DIMENSIONS))} only, and no other n and T",
)
