"""Handwritten digits: mini-batch training of attention and head under four step rules.

Every rule gets its best rate of a grid in steps of about three: the one with the smallest training
loss on average over the run, that of all steps. For Polyak steps the grid is over their constant c,
for they have no rate. The rates chosen lie inside the grids. Mini-batches are the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from attsvm.data import AttentionData
from attsvm.datasets import digits
from attsvm.descent import Run, StepRule, log_schedule, train
from attsvm.progress import bar
from attsvm.studies.reproduce.check import Check
from attsvm.studies.reproduce.figure import Figure, Outcome, Settings
from attsvm.studies.reproduce.palette import BLUE, GREEN, ORANGE, RED

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["CURVES", "FIGURE", "Curve", "accuracy", "best_rate", "halves", "mean_losses"]


@dataclass(frozen=True)
class Curve:
    """A rule, the grid of its rates (of c for Polyak steps), and how it is drawn."""

    kind: str
    text: str
    colour: str
    grid: tuple[float, ...]

    def rule(self, rate: float) -> StepRule:
        """The rule with mini-batches."""
        factor = rate if self.kind == "polyak" else StepRule.factor
        return StepRule(self.kind, factor=factor, batch_size=BATCH_SIZE)

    def lr(self, rate: float) -> float:
        """The rate for `train`, where a Polyak rule ignores it."""
        return 1.0 if self.kind == "polyak" else rate


CURVES = {
    "gd": Curve("gd", "SGD", ORANGE, (3, 10, 30, 100, 300, 1000)),
    "ngd": Curve("ngd", "normalised SGD", BLUE, (0.3, 1, 3, 10, 30, 100)),
    "polyak": Curve("polyak", "stochastic Polyak", RED, (0.05, 0.1, 0.2, 0.5, 1, 2, 5)),
    "adam": Curve("adam", "Adam", GREEN, (0.03, 0.1, 0.3, 1, 3)),
}
CLASSES = (3, 8)
IMAGES, TRAINED_ON, FEATURES = 174, 116, 128
BATCH_SIZE, STEPS = 16, 300
PROBLEMS, QUICK_PROBLEMS = 16, 8
_SEED = 5
LOSS_GOAL, ACCURACY_GOAL = 0.01, 0.95
"""Training loss and test accuracy that the rules are timed to."""


def halves(problems: int) -> tuple[AttentionData, AttentionData]:
    """Images to train on and to test with, embedded alike; each problem draws both anew."""
    data = digits(IMAGES, FEATURES, classes=CLASSES, batch=problems, rng=_SEED)
    queries = np.asarray(data.queries)

    def part(images: slice) -> AttentionData:
        return AttentionData(
            data.tokens[:, images], data.labels[:, images], queries=queries[:, images]
        )

    return part(slice(0, TRAINED_ON)), part(slice(TRAINED_ON, IMAGES))


def trained(
    data: AttentionData, curve: Curve, rate: float, steps: int, settings: Settings, **more: Any
) -> Run:
    """Attention and head after so many mini-batches, from zero."""
    return train(
        data,
        parameter=("v", "W"),
        rule=curve.rule(rate),
        lr=curve.lr(rate),
        steps=steps,
        rng=_SEED,
        num_threads=settings.num_threads,
        **more,
    )


def mean_losses(data: AttentionData, curve: Curve, settings: Settings) -> NDArray[np.float64]:
    """Training loss, averaged over steps and problems, for every rate; inf if a run overflows."""
    means = np.full(len(curve.grid), np.inf)
    for k, rate in enumerate(curve.grid):
        try:
            run = trained(data, curve, rate, STEPS, settings, record_every=1)
        except FloatingPointError:
            continue
        means[k] = run.history["loss"].mean()
    return means


def best_rate(curve: Curve, means: NDArray[np.float64]) -> float:
    """The rate with the smallest mean loss."""
    return curve.grid[int(means.argmin())]


def accuracy(data: AttentionData, run: Run) -> NDArray[np.float64]:
    """Share of images (B,) whose label is the sign of v'X'softmax(XWz); half where that is 0."""
    if data.queries is None or run.W is None or run.v is None:
        raise ValueError("run: expected W and v trained on data with queries")
    logits = data.tokens @ (run.W @ np.swapaxes(data.queries, -1, -2)).swapaxes(-1, -2)[..., None]
    attention = special.softmax(logits[..., 0], axis=-1)
    outputs = (attention[..., None, :] @ data.tokens)[..., 0, :] @ run.v[..., None]
    outputs = outputs[..., 0]
    right: NDArray[np.float64] = (1 + np.sign(data.labels * outputs)).mean(axis=-1) / 2
    return right


def compute(settings: Settings) -> Outcome:
    """Find the rate of every rule, and train with it."""
    fit, held_out = halves(QUICK_PROBLEMS if settings.quick else PROBLEMS)
    marks = log_schedule(STEPS, per_decade=10)
    results: dict[str, dict[str, Any]] = {}
    enabled = None if settings.progress else False
    with bar(len(CURVES), "rules", enabled=enabled) as advance:
        for name, curve in CURVES.items():
            means = mean_losses(fit, curve, settings)
            rate = best_rate(curve, means)
            whole = trained(fit, curve, rate, STEPS, settings, record_every=1)
            # The same mini-batches from the start up to every mark.
            runs = [trained(fit, curve, rate, int(mark), settings) for mark in marks]
            results[name] = {
                "means": means,
                "rate": rate,
                "loss": whole.history["loss"],
                "marks": marks,
                "accuracy": np.stack([accuracy(held_out, run) for run in runs], axis=1),
            }
            advance(1, curve.text)
    rates = ", ".join(f"{CURVES[name].text} {r['rate']:g}" for name, r in results.items())
    ends = ", ".join(
        f"{CURVES[name].text} {100 * r['accuracy'][:, -1].mean():.1f} %"
        for name, r in results.items()
    )
    reached = ", ".join(f"{CURVES[name].text} {_times(r)[1]:g}" for name, r in results.items())
    notes = (
        f"Digits {CLASSES[0]} and {CLASSES[1]} of 8x8 pixels in place of MNIST: {TRAINED_ON} images"
        f" to train on, {IMAGES - TRAINED_ON} to test with, {len(fit.labels)} draws; mini-batches "
        f"of {BATCH_SIZE}; W and v from zero. Only the order in training loss is compared.",
        "Each rule has the rate of its grid with the smallest training loss averaged over the run: "
        f"{rates} (of Polyak steps, c).",
        f"Test accuracy does not order the rules: its mean passes {100 * ACCURACY_GOAL:g} % after "
        f"so few steps ({reached}) that another way to choose the rates changes the order, and "
        f"after {STEPS} steps it is {ends}.",
    )
    return Outcome(results, tuple(_checks(results)), notes)


def first_step(reached: NDArray[np.bool_], steps: NDArray[np.int64]) -> float:
    """The first of the steps at which something is reached; infinity if at none."""
    return float(steps[reached.argmax()]) if reached.any() else np.inf


def _times(result: dict[str, Any]) -> tuple[float, float]:
    """Steps to the training loss and to the test accuracy aimed at, of means over problems."""
    loss = result["loss"].mean(axis=0)
    accuracies = result["accuracy"].mean(axis=0)
    return (
        first_step(loss < LOSS_GOAL, np.arange(loss.size)),
        first_step(accuracies > ACCURACY_GOAL, result["marks"]),
    )


def _checks(results: dict[str, dict[str, Any]]) -> list[Check]:
    found = []
    sgd = results["gd"]
    for name, curve in CURVES.items():
        inside = best_rate(curve, results[name]["means"]) not in (curve.grid[0], curve.grid[-1])
        found.append(Check(f"P3-8: best rate inside the grid, {curve.text}", True, inside,
                           kind="equal", source="protocol"))  # fmt: skip
    for name in ("ngd", "polyak"):
        result, text = results[name], CURVES[name].text
        to_loss = _times(result)[0] / _times(sgd)[0]
        lower = (result["loss"][:, -1] < sgd["loss"][:, -1]).mean()
        mean = result["means"].min() / sgd["means"].min()
        found += [
            Check(f"P3-8: steps to loss {LOSS_GOAL:g} over those of SGD, {text}", 1, to_loss,
                  kind="at most"),
            Check(f"P3-8: mean training loss over that of SGD, {text}", 1, mean, kind="at most"),
            Check(f"P3-8: share of draws with lower final training loss than SGD, {text}", 1,
                  lower, kind="equal"),
        ]  # fmt: skip
    return found


def draw(canvas: Canvas, outcome: Outcome) -> None:
    """Training loss and test accuracy along the runs, and the choice of the rates."""
    loss, test, choice = canvas.subplots(1, 3)
    for name, curve in CURVES.items():
        result = outcome.data[name]
        label = f"{curve.text}, {'c' if name == 'polyak' else 'η'} = {result['rate']:g}"
        mean = result["loss"].mean(axis=0)
        loss.plot(np.arange(1, mean.size), mean[1:], color=curve.colour, label=label)
        spread = result["accuracy"].std(axis=0) / np.sqrt(len(result["accuracy"]))
        middle = result["accuracy"].mean(axis=0)
        test.errorbar(result["marks"], 100 * middle, 100 * spread, color=curve.colour, marker="o",
                      markersize=3, linewidth=1.2, elinewidth=0.8)  # fmt: skip
        finite = result["means"] < 100  # larger ones have diverged
        grid = np.array(curve.grid)
        choice.plot(
            grid[finite], result["means"][finite], "o-", color=curve.colour, markersize=3,
            linewidth=1,
        )  # fmt: skip
        best = int(result["means"].argmin())
        choice.plot(grid[best], result["means"][best], "o", color=curve.colour, markersize=8,
                    fillstyle="none")  # fmt: skip
    loss.set_yscale("log")
    loss.set_ylim(1e-10, 3)
    loss.set_title("(a) training loss", loc="left")
    test.set_title("(b) test accuracy (%)", loc="left")
    test.set_ylim(65, 100)
    for axes in (loss, test):
        axes.set_xscale("log")
        axes.set_xlabel("step")
    choice.set_xscale("log")
    choice.set_yscale("log")
    choice.set_ylim(0.004, 1)
    choice.set_xlabel("rate η, or c")
    choice.set_title("(c) mean training loss by rate", loc="left")
    handles, labels = loss.get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)


FIGURE = Figure(
    name="p3-digits",
    title="Step rules on handwritten digits, mini-batches, each at its best rate",
    source="P3, MNIST and CIFAR-10 experiments, on digits",
    size=(9.6, 3.4),
    compute=compute,
    draw=draw,
    quick=f"{QUICK_PROBLEMS} draws in place of {PROBLEMS}",
)
