"""Step rules on W against the SVMs of all norms: margin ratios and cosines, as heat maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attsvm.datasets import unit_sphere
from attsvm.descent import StepRule
from attsvm.studies.reproduce.drawing import Axes, Canvas
from attsvm.studies.reproduce.expected import standard_error
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.svm import att_svm
from attsvm.theory import margin_ratio
from attsvm.theory.cosine import cosine

FIGURE = Figure.of(__name__)
_RULES: Data = FIGURE.settings["rules"]
_NORMS: list[str | float] = FIGURE.settings["norms"]
_MEASURES = ("margin ratio", "cosine")
_ERRORS = 4
_DIGITS_GIVEN = 1e-3


def measured(task: Task) -> dict[str, Array]:
    """Train with every rule; return margin ratio and cosine in every norm, (2, norms, problems)."""
    data = unit_sphere(**task["data"], batch=task["problems"], rng=task["seed"])
    results = {}
    with task.bar(len(_RULES), "rules") as advance:
        for name, settings in _RULES.items():
            rule, steps = StepRule(**settings["rule"]), task["train"]["steps"]
            run = task.train(data, rule=rule, lr=settings["lr"], record_every=steps)
            of_norms = []
            for norm in _NORMS:
                svm = att_svm(data, run.selected, norm=norm)
                directions = svm.W
                assert directions is not None
                ratio = margin_ratio(data, run, run.selected, norm, solution=svm)
                of_norms.append((ratio, cosine(run.direction, directions, axis=(1, 2))))
            results[name] = np.array(of_norms, dtype=np.float64).swapaxes(0, 1)
            advance(1, name)
    return results


def tolerance_of_median(samples: Array, others: int) -> float:
    """Bound the difference of the medians of these samples and of so many others.

    The standard error of the median of normal draws is sqrt(π / 2) times that of their mean.
    """
    error = np.sqrt(np.pi / 2) * standard_error(samples, others)
    return float(_ERRORS * error + _DIGITS_GIVEN)


def compute(task: Task) -> Data:
    """Compare the medians of every rule in every norm."""
    results = measured(task)
    for name, of_rule in results.items():
        for measure, of_norms in zip(_MEASURES, of_rule, strict=True):
            for norm, samples in zip(_NORMS, of_norms, strict=True):
                allowed = tolerance_of_median(samples, task["compared_with"])
                task.check(f"{measure}, {name}", [np.median(samples)], at=[norm], tolerance=allowed)
    medians = np.array([np.median(of_rule, axis=-1) for of_rule in results.values()])
    return dict(zip(_MEASURES, medians.swapaxes(0, 1), strict=True))


def draw(canvas: Canvas, data: Data) -> None:
    """Draw the medians, rules against norms."""
    panels = canvas.subplots(1, 2, sharey=True)
    for axes, letter, (measure, medians) in zip(panels, "ab", data.items(), strict=True):
        _draw_medians(axes, medians)
        axes.set(title=f"({letter}) {measure}, median", xlabel="norm of the SVM")
    panels[0].set_yticks(range(len(_RULES)), list(_RULES))


def _draw_medians(axes: Axes, medians: NDArray[np.float64]) -> None:
    axes.imshow(medians, cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto")
    for row, settings in enumerate(_RULES.values()):
        for column, value in enumerate(medians[row]):
            bold = _NORMS[column] == settings["own"]
            axes.text(column, row, f"{value:.3f}", ha="center", va="center", fontsize=7,
                      color="black" if value > 0.6 else "white",
                      bbox={"facecolor": "none", "pad": 2} if bold else None)  # fmt: skip
    labels = [norm if isinstance(norm, str) else f"l{norm:g}" for norm in _NORMS]
    axes.set_xticks(range(len(labels)), labels)
    axes.tick_params(length=0)
