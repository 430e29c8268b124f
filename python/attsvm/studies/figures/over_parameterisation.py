"""Share of runs that go to the global direction, to a local one or to neither, as d grows.

The published bars have no sizes, trials or heights to compare with. The numbers expected here are
those of an independent program at n = T = 5.
"""

from __future__ import annotations

import numpy as np
from attrs import evolve

from attsvm.studies.compute import measure_cell
from attsvm.studies.measurements import OUTCOMES, Record
from attsvm.studies.reproduce.drawing import Axes, Canvas, bars, interval_in_legend, legend_outside
from attsvm.studies.reproduce.figure import Data, Figure, Task
from attsvm.studies.study import Study
from attsvm.studies.summary import MEASURES
from attsvm.studies.table import SHARES, Row

FIGURE = Figure.of(__name__)


def compute(task: Task) -> Data:
    """Train and solve the SVMs of random problems over d, and over n and T at one d."""
    count = task["problems"]
    whole = Study.load("overparam", {"problems": count})
    studies = {"d": evolve(whole, d=tuple(task["dimensions"]))}
    if task["sweep"]:
        sweep, d = tuple(task["sweep"]), (task["d"],)
        studies |= {"n": evolve(whole, n=sweep, d=d), "T": evolve(whole, T=sweep, d=d)}
    records: dict[str, dict[int, Record]] = {axis: {} for axis in studies}
    rows: dict[str, dict[int, Row]] = {axis: {} for axis in studies}
    cells = sum(len(study.cells) for study in studies.values())
    with task.bar(cells * count, "problems") as advance:
        for axis, study in studies.items():
            for cell in study.cells:
                size = cell.axes[axis]
                of = records[axis][size] = measure_cell(study, cell, range(count), done=advance)
                estimates = {measure.name: measure.estimate(of) for measure in MEASURES}
                rows[axis][size] = Row({axis: size}, estimates)
    shares = {
        name: {d: row.estimates[name].value for d, row in rows["d"].items()}
        for name in (*SHARES, "feasible_percent")
    }
    for name, by_d in shares.items():
        if name in FIGURE.numbers:
            task.check(name, by_d, at=by_d)
    for key, values in (
        ("theorem", shares["local_percent"]),
        ("always feasible", shares["feasible_percent"]),
        ("mean cosine", {d: np.nanmean(of["cosine"]) for d, of in records["d"].items()}),
        ("median cosine", {d: np.nanmedian(of["cosine"]) for d, of in records["d"].items()}),
    ):
        task.check(key, values, at=[d for d in FIGURE.numbers[key].at if d in values])
    wide = [records["d"][d] for d in task["wide"] if d in rows["d"]]
    ends = np.concatenate([record["outcome"][record["all_support"]] for record in wide])
    task.check("all support", (ends == OUTCOMES.index("global")).mean())
    task.notes.append(f"All tokens are support vectors in {ends.size} runs of the last check.")
    for axis, by_size in rows.items():
        change = np.diff([row.estimates["global_percent"].value for row in by_size.values()])
        rises = axis == "d"
        text = f"{'rises' if rises else 'falls'} with {axis}"
        task.check("trend", [(change > 0 if rises else change < 0).all()], at=[text])
    return rows


def draw(canvas: Canvas, data: Data) -> None:
    """Draw bars over d, and below them over n and T where these were varied."""
    others = [axis for axis in data if axis != "d"]
    grid = canvas.add_gridspec(2 if others else 1, max(len(others), 1))
    panels = [("d", canvas.add_subplot(grid[0, :]))]
    panels += [(axis, canvas.add_subplot(grid[1, k])) for k, axis in enumerate(others)]
    d = FIGURE.settings["d"]
    titles = {"d": "n = T = 5", "n": f"T = 5, d = {d}", "T": f"n = 5, d = {d}"}
    names = {"d": "dimension d", "n": "inputs n", "T": "tokens T"}
    for axis, axes in panels:
        _draw_bars(axes, data[axis])
        axes.set(title=titles[axis], xlabel=names[axis])
    for _, axes in panels[:2]:
        axes.set_ylabel("runs (%)")
    legend_outside(canvas, panels[0][1], "outside upper center", 3)


def _draw_bars(axes: Axes, rows: dict[int, Row]) -> None:
    for name, place in bars(axes, SHARES, [row.estimates for row in rows.values()]).items():
        numbers = FIGURE.numbers.get(name)
        if numbers is not None and all("d" in row.axes for row in rows.values()):
            expected = [numbers.value(d) for d in rows]
            mark = "expected" if name == "all_support_percent" else None
            axes.plot(place, expected, "_", color="black", markersize=7, label=mark)
    interval_in_legend(axes)
    axes.set_ylim(0, 103)
    axes.set_xticks(range(len(rows)), [str(size) for size in rows])
