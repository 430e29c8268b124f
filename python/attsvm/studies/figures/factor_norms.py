"""Step rules on K and Q against the SVMs of W = K Q' in all norms: margin ratios, as a heat map."""

from __future__ import annotations

import numpy as np

from attsvm._arrays import Float64Array
from attsvm.datasets import unit_sphere
from attsvm.descent import Run, StepRule
from attsvm.studies.intervals import median
from attsvm.studies.reproduce.drawing import Canvas, heat_map
from attsvm.studies.reproduce.expected import tolerance_of_median
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.svm import att_svm
from attsvm.svm.norms import as_svm_norm
from attsvm.theory import margin_ratio, margins, product_norm

FIGURE = Figure.of(__name__)
_RULES: Data = FIGURE.settings["rules"]
_NORMS: list[str] = FIGURE.settings["norms"]
_DIGITS_GIVEN = 1e-3
_OWN = [product_norm(rule["of_factors"]) for rule in _RULES.values()]


def measured(task: Task) -> dict[str, Array]:
    """Train with every rule; return margin ratios in every norm and of pairs, (1 + norms, B)."""
    data = unit_sphere(**task["data"], batch=task["problems"], rng=task["seed"])
    generator = np.random.default_rng(task["seed"])
    results = {}
    with task.bar(len(_RULES), "rules") as advance:
        for (name, settings), own in zip(_RULES.items(), _OWN, strict=True):
            shape = (task["problems"], task["data"]["d"], settings["columns"])
            run = task.train(
                data,
                parameter="KQ",
                rule=StepRule(**settings["rule"]),
                lr=settings["lr"],
                init={block: task["start"] * generator.uniform(-1, 1, shape) for block in "KQ"},
                record_every=task["train"]["steps"],
            )
            largest = att_svm(data, run.selected, norm=own).norm
            least = margins(run, data, run.selected).min(axis=(-2, -1))
            of_pair = largest * least / pair_norm(run, settings["of_factors"])
            of_norms = [margin_ratio(data, run, run.selected, norm) for norm in _NORMS]
            results[name] = np.array([*of_norms, of_pair], dtype=np.float64)
            advance(1, name)
    return results


def pair_norm(run: Run, norm: str) -> Float64Array:
    """Compute what steps in a norm on K and Q keep small, at least the product norm of W."""
    size = as_svm_norm("norm", norm)
    assert run.K is not None
    assert run.Q is not None
    if norm == "fro":
        return (size.values(run.K) ** 2 + size.values(run.Q) ** 2) / 2
    columns = run.K.shape[-1] if norm == "max" else 1
    return columns * size.values(run.K) * size.values(run.Q)


def compute(task: Task) -> Data:
    """Compare the medians of every rule that there are numbers of; the own norm is the largest."""
    results = measured(task)
    places = [*_NORMS, "pair"]
    for name, of_rule in results.items():
        by_place = dict(zip(places, of_rule, strict=True))
        group, spreads = f"margin ratio, {name}", task["spread"].get(name, [])
        for place, spread in zip(FIGURE.numbers[group].at if spreads else [], spreads, strict=True):
            samples = by_place[place]
            others = task["compared_with"]
            allowed = tolerance_of_median(samples, others, _DIGITS_GIVEN, spread)
            task.check(group, [np.median(samples)], at=[place], tolerance=allowed)
    medians = {name: [median(x) for x in of_rule[:-1]] for name, of_rule in results.items()}
    best = [_NORMS[np.argmax([each.value for each in row])] for row in medians.values()]
    task.check("own", [norm == own for norm, own in zip(best, _OWN, strict=True)])
    return medians


def draw(canvas: Canvas, data: Data) -> None:
    """Draw the medians, rules against norms."""
    axes = canvas.subplots()
    heat_map(axes, [*data.values()], [*data], _NORMS, with_intervals=True)
    axes.set(title="margin ratio of W = K Q' in each norm, median", xlabel="norm of the SVM")
