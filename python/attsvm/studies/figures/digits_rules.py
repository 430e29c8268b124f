"""Handwritten digits: mini-batch training of attention and head under four step rules.

Every rule gets its best rate of a grid in steps of about three: the one with the smallest training
loss on average over the run, that of all steps. For Polyak steps the grid is over their constant c,
for they have no rate. The rates chosen lie inside the grids. Mini-batches are the same for all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from attsvm._arrays import BoolArray, IndexArray
from attsvm.data import AttentionData
from attsvm.datasets import digits
from attsvm.descent import Run, StepRule, log_schedule
from attsvm.studies.reproduce.drawing import Canvas, legend_outside
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.palette import INK, RULE_COLOURS

FIGURE = Figure.of(__name__)
_SETTINGS = FIGURE.settings
_RULES = _SETTINGS["rules"]
_TEXTS = {kind: rule["text"] for kind, rule in _RULES.items()}


def halves(problems: int) -> tuple[AttentionData, ...]:
    """Draw images to train on and to test with, embedded alike; each problem draws both anew."""
    classes, middle = tuple(_SETTINGS["classes"]), _SETTINGS["trained_on"]
    images, features = middle + _SETTINGS["tested_on"], _SETTINGS["features"]
    data = digits(images, features, classes=classes, batch=problems, rng=_SETTINGS["seed"])
    parts = (data.tokens, data.labels, np.asarray(data.queries))
    fit, held_out = zip(*(np.split(part, [middle], axis=1) for part in parts), strict=True)
    return tuple(AttentionData(x, y, queries=z) for x, y, z in (fit, held_out))


def _trained(task: Task, data: AttentionData, kind: str, rate: float, **options: Any) -> Run:
    """Train attention and head from zero by mini-batches."""
    polyak = kind == "polyak"
    factor = rate if polyak else StepRule.factor
    rule = StepRule(kind, factor=factor, batch_size=task["batch_size"])
    lr = None if polyak else rate
    return task.train(data, parameter=("v", "W"), rule=rule, lr=lr, rng=task["seed"], **options)


def _mean_losses(task: Task, data: AttentionData, kind: str) -> Array:
    """Average the training loss over steps and problems for every rate; inf if a run overflows."""
    grid = _RULES[kind]["grid"]
    means = np.full(len(grid), np.inf)
    for k, rate in enumerate(grid):
        try:
            run = _trained(task, data, kind, rate, record_every=1)
        except FloatingPointError:
            continue
        means[k] = run.history["loss"].mean()
    return means


def compute(task: Task) -> Data:
    """Find the rate of every rule, and train with it."""
    fit, held_out = halves(task["problems"])
    steps = task["train"]["steps"]
    marks = log_schedule(steps, per_decade=10)
    results: Data = {}
    with task.bar(len(_RULES), "rules") as advance:
        for kind, rule in _RULES.items():
            means = _mean_losses(task, fit, kind)
            rate = rule["grid"][int(means.argmin())]
            whole = _trained(task, fit, kind, rate, record_every=1)
            tested = _trained(task, fit, kind, rate, record_every=marks, test=held_out)
            results[kind] = {
                "means": means,
                "rate": rate,
                "loss": whole.history["loss"],
                "marks": marks,
                "accuracy": tested.history["test_accuracy"],
            }
            advance(1, rule["text"])
    _check(task, results)
    goal = task["accuracy_goal"]
    rates, reached, ends = [], [], []
    for kind, result in results.items():
        accuracies = result["accuracy"].mean(axis=0)
        rates.append(f"{_TEXTS[kind]} {result['rate']:g}")
        reached.append(f"{_TEXTS[kind]} {_first(accuracies > goal, marks):g}")
        ends.append(f"{_TEXTS[kind]} {100 * accuracies[-1]:.1f} %")
    task.notes.append(
        "Each rule has the rate of its grid with the smallest training loss averaged over the run: "
        f"{', '.join(rates)} (of Polyak steps, c)."
    )
    task.notes.append(
        f"Test accuracy does not order the rules: its mean passes {100 * goal:g} % after so few "
        f"steps ({', '.join(reached)}) that another way to choose the rates changes the order, and "
        f"after {steps} steps it is {', '.join(ends)}."
    )
    return results


def _first(reached: BoolArray, steps: IndexArray) -> float:
    """Find the first of the steps at which something is reached; infinity if at none."""
    return float(steps[reached.argmax()]) if reached.any() else np.inf


def _check(task: Task, results: Data) -> None:
    inside = [0 < of["means"].argmin() < of["means"].size - 1 for of in results.values()]
    task.check("inside", inside)
    losses = {kind: result["loss"].mean(axis=0) for kind, result in results.items()}
    to_goal = {
        kind: _first(loss < task["loss_goal"], np.arange(loss.size))
        for kind, loss in losses.items()
    }
    sgd = results["gd"]
    for kind in ("ngd", "polyak"):
        result, at = results[kind], [_TEXTS[kind]]
        task.check("to loss", [to_goal[kind] / to_goal["gd"]], at=at)
        task.check("mean", [result["means"].min() / sgd["means"].min()], at=at)
        task.check("lower", [(result["loss"][:, -1] < sgd["loss"][:, -1]).mean()], at=at)


def draw(canvas: Canvas, data: Data) -> None:
    """Plot training loss and test accuracy along the runs, and the choice of the rates."""
    loss, test, choice = canvas.subplots(1, 3)
    for kind, result in data.items():
        colour = RULE_COLOURS[kind]
        label = f"{_TEXTS[kind]}, {'c' if kind == 'polyak' else 'η'} = {result['rate']:g}"
        mean = result["loss"].mean(axis=0)
        loss.plot(np.arange(1, mean.size), mean[1:], color=colour, label=label)
        spread = result["accuracy"].std(axis=0) / np.sqrt(len(result["accuracy"]))
        middle = result["accuracy"].mean(axis=0)
        test.errorbar(result["marks"], 100 * middle, 100 * spread, color=colour, marker="o",
                      markersize=3, linewidth=1.2, elinewidth=0.8)  # fmt: skip
        grid, means = np.array(_RULES[kind]["grid"]), result["means"]
        finite = means < 100  # larger ones have diverged
        choice.plot(grid[finite], means[finite], "o-", color=colour, markersize=3, linewidth=1)
        best = int(means.argmin())
        choice.plot(grid[best], means[best], "o", color=colour, markersize=8, fillstyle="none")
    loss.set(title="(a) training loss", xscale="log", yscale="log", ylim=(1e-10, 3), xlabel="step")
    test.set(title="(b) test accuracy (%), ± 1 SE", xscale="log", ylim=(65, 100), xlabel="step")
    choice.set(title="(c) mean training loss by rate", xscale="log", yscale="log",
               ylim=(0.004, 1), xlabel="rate η, or c")  # fmt: skip
    loss.plot([], [], "o", color=INK, markersize=8, fillstyle="none", label="rate chosen")
    legend_outside(canvas, loss, "outside lower center", 5)
