"""Decoupled weight decay: W ends in a ball of the norm of its steps, which grows as λ falls."""

from __future__ import annotations

import numpy as np

from attsvm.datasets import unit_sphere
from attsvm.descent import StepRule
from attsvm.studies.intervals import median
from attsvm.studies.reproduce.drawing import Canvas, intervals, legend_outside, ring
from attsvm.studies.reproduce.expected import tolerance_of_median
from attsvm.studies.reproduce.figure import Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREEN, ORANGE
from attsvm.svm.norms import as_svm_norm
from attsvm.theory import frank_wolfe_gap, margin_ratio

FIGURE = Figure.of(__name__)
_MEASURES = {"ratio": "margin ratio in N", "norm": "N(W) λ", "gap": "relative Frank-Wolfe gap"}
_LEAST = 1e-16
_COLOURS = {"spectral": ORANGE, "sign": GREEN, "gradient": BLUE}
_DIGITS_GIVEN = 5e-3


def compute(task: Task) -> Data:
    """Train with every rule and λ; by rule and measure, its values (λ, problems)."""
    decays = task["decays"]
    data = unit_sphere(**task["data"], batch=task["problems"], rng=task["seed"])
    measured: Data = {}
    with task.bar(len(task["rules"]) * len(decays), "runs") as advance:
        for name, settings in task["rules"].items():
            kind, norm = settings["kind"], as_svm_norm("norm", settings["norm"])
            of_rule = []
            for decay in decays:
                rule = StepRule(kind, weight_decay=decay, decay=task["exponent"])
                run = task.train(
                    data, rule=rule, lr=settings["lr"], record_every=task["train"]["steps"]
                )
                ratio = margin_ratio(data, run, run.selected, settings["norm"])
                gap = frank_wolfe_gap(data, run, decay, settings["norm"], relative=True)
                of_rule.append((ratio, decay * norm.values(run.direction), gap))
                advance(1, f"{name}, λ = {decay:g}")
            by_measure = np.array(of_rule, dtype=np.float64).swapaxes(0, 1)
            measured[name] = dict(zip(_MEASURES, by_measure, strict=True))
    for name, of_measures in measured.items():
        for measure, values in of_measures.items():
            group = f"{measure}, {name}"
            for decay, samples in zip(decays, values, strict=True):
                if group in FIGURE.numbers and decay in FIGURE.numbers[group].at:
                    allowed = None
                    if measure == "ratio":
                        others = task["compared_with"]
                        allowed = tolerance_of_median(samples, others, _DIGITS_GIVEN)
                    task.check(group, [np.median(samples)], at=[decay], tolerance=allowed)
        task.check("ball", [of_measures["norm"].max()], at=[name])
    return {"λ": np.array(decays), **measured}


def draw(canvas: Canvas, data: Data) -> None:
    """Plot the medians of every measure against λ, with rings at the expected numbers."""
    panels = canvas.subplots(1, len(_MEASURES))
    decays = data["λ"]
    for axes, letter, (measure, title) in zip(panels, "abc", _MEASURES.items(), strict=True):
        for name, colour in _COLOURS.items():
            shown = np.maximum(data[name][measure], _LEAST if measure == "gap" else 0.0)
            values, errors = intervals(median(samples) for samples in shown)
            label = f"{name}, N = {FIGURE.settings['rules'][name]['norm']}"
            style = {"fmt": "o-", "markersize": 2.5, "linewidth": 1.2, "capsize": 2}
            axes.errorbar(decays, values, errors, color=colour, label=label, **style)
            numbers = FIGURE.numbers.get(f"{measure}, {name}")
            if numbers is not None and numbers.kind != "at most":
                at = [decay for decay in numbers.at if decay in decays]
                ring(axes, at, [numbers.value(decay) for decay in at], colour)
        axes.set(title=f"({letter}) {title}", xlabel="weight decay λ", xscale="log")
    panels[2].set(yscale="log", ylim=(5e-17, 2.0))
    ring(panels[0], [], [], label="expected")
    legend_outside(canvas, panels[0], "outside lower center", 4)
