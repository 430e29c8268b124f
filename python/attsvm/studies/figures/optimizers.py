"""Step rules on W against the SVMs of all norms: margin ratios and cosines, as heat maps."""

from __future__ import annotations

from attsvm.studies.compute import measure_cell
from attsvm.studies.reproduce.drawing import Canvas, heat_map
from attsvm.studies.reproduce.expected import tolerance_of_median
from attsvm.studies.reproduce.figure import Data, Figure, Task
from attsvm.studies.solved_svms import SolvedSVMs
from attsvm.studies.study import Study
from attsvm.studies.summary import IN_NORMS, measures_of

FIGURE = Figure.of(__name__)
_MEASURED = {"margin_ratio": "margin ratio", "cosine_in_norm": "cosine"}
_DIGITS_GIVEN = 1e-3


def compute(task: Task) -> Data:
    """Run the study of the geometries; compare the medians of every rule in every norm.

    By variable and rule, the estimates in the norms.
    """
    count, norms = task["problems"], task["norms"]
    changes = {"problems": count, "norms": norms, "measure": [*_MEASURED]}
    study, solved = Study.load("geometries", changes), SolvedSVMs()
    columns = [measure for measure in measures_of(study) if measure.norm]
    medians: Data = {variable: {} for variable in _MEASURED}
    with task.bar(len(study.cells) * count, "problems") as advance:
        for cell in study.cells:
            rule = cell.axes["rule"]
            record = measure_cell(study, cell, range(count), done=advance, solved=solved)
            for variable, name in _MEASURED.items():
                of_norms = [each for each in columns if each.variable == variable]
                medians[variable][rule] = [each.estimate(record) for each in of_norms]
                for k, norm in enumerate(norms):
                    samples = record[variable][:, k]
                    allowed = tolerance_of_median(samples, task["compared_with"], _DIGITS_GIVEN)
                    obtained = medians[variable][rule][k].value
                    task.check(f"{name}, {rule}", [obtained], at=[norm], tolerance=allowed)
    return medians


def draw(canvas: Canvas, data: Data) -> None:
    """Draw the medians, rules against norms."""
    panels = canvas.subplots(2, 1, sharex=True)
    labels = [norm if isinstance(norm, str) else f"l{norm:g}" for norm in FIGURE.settings["norms"]]
    for axes, letter, (variable, of_rules) in zip(panels, "ab", data.items(), strict=True):
        heat_map(axes, [*of_rules.values()], [*of_rules], labels, with_intervals=True)
        axes.set_title(f"({letter}) {IN_NORMS[variable][1]} in each norm, median")
