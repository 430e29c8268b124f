"""Gradient descent, normalised steps and Polyak steps on nearly orthogonal tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attsvm._linalg import in_own_span
from attsvm.data import AttentionData
from attsvm.datasets import near_orthogonal
from attsvm.descent import log_schedule, train
from attsvm.progress import bar
from attsvm.studies.attention_record import train_recording_attention
from attsvm.studies.reproduce.check import Check
from attsvm.studies.reproduce.figure import Figure, Outcome, Settings
from attsvm.studies.reproduce.palette import BLUE, GREEN, INK, ORANGE, RED
from attsvm.svm import SVMSolution, att_svm
from attsvm.theory import Rate, fit_rate, optimal_tokens

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = [
    "FIGURE",
    "LOSSES",
    "RULES",
    "STARTS",
    "Problems",
    "Rule",
    "distance",
    "least_attention",
    "rates_of_rules",
    "run_rule",
    "starts_that_reach",
]


@dataclass(frozen=True)
class Rule:
    """A rule with its rate, how long it runs, and how it is drawn."""

    kind: str
    text: str
    colour: str
    lr: float
    steps: int
    published: dict[int, float]
    """Distance from the direction of the SVM, by step."""
    tail: tuple[int, int]
    """Steps over which its exponent is fitted."""


RULES = {
    "gd": Rule("gd", "GD, η = 1", ORANGE, 1.0, 100_000, {1000: 0.048, 100_000: 0.030},
               (10_000, 100_000)),
    "ngd": Rule("ngd", "normalised, η = 0.1", BLUE, 0.1, 12_000, {1000: 0.0134, 10_000: 0.0015},
                (100, 10_000)),
    "polyak": Rule("polyak", "Polyak, c = 2", RED, 1.0, 100, {100: 0.0091}, (30, 100)),
}  # fmt: skip
LOSSES = ("exponential", "logistic")
PROBLEMS, QUICK_PROBLEMS = 16, 8
_SEED = 1
_FACTOR = 2.0  # c of the Polyak steps

NORM = 3.08
"""Mean |W^mm|; from one problem to another it varies from 2.6 to 3.2."""
STARTS = {
    "d = 512": (10, 10, 512, 0.0),
    "d = 64": (10, 6, 64, 0.0),
    "noisy signals": (20, 10, 200, 1.0),
}
"""n, T, d and noise of the random starts."""
START_NORMS = (1.0, 10.0, 50.0)
START_STEPS = {"ngd": 3000, "polyak": 100, "gd": 3000}
START_DISTANCES = {"ngd": (0.006, 0.034, 0.165), "gd": (0.06, 0.45, 1.1)}
"""At d = 512, by the norm of the start."""
SEEDS, QUICK_SEEDS = 10, 3


@dataclass(frozen=True)
class Problems:
    """Problems, their tokens of highest score, and the SVM of these."""

    data: AttentionData
    best: NDArray[np.int64]
    solution: SVMSolution

    @staticmethod
    def draw(
        problems: int,
        *,
        n: int = 10,
        T: int = 10,
        d: int = 512,
        noise: float = 0.0,
        seed: int = _SEED,
    ) -> Problems:
        """Near-orthogonal ones with antipodal signals."""
        data = near_orthogonal(n, T, d, signals="antipodal", noise=noise, batch=problems, rng=seed)
        best = optimal_tokens(data)
        return Problems(data, best, att_svm(data, best))

    def in_span(self) -> Problems:
        """The same in an orthonormal basis of the span of the tokens, with which descent commutes.

        At most n·T coordinates: iterates of runs from zero are smaller, and no different.
        """
        B, n, T, d = self.data.tokens.shape
        coordinates, basis = in_own_span(self.data.tokens.reshape(B, n * T, d).astype(np.float64))
        if basis is None or self.data.value is None:
            return self
        tokens = coordinates.reshape(B, n, T, -1)
        value = np.einsum("bsd,bd->bs", basis, self.data.value)
        data = AttentionData(tokens, self.data.labels, queries=tokens[:, :, 0], value=value)
        return Problems(data, self.best, att_svm(data, self.best))


def run_rule(
    problems: Problems,
    rule: Rule,
    *,
    loss: str,
    per_decade: int = 6,
    num_threads: int | None = None,
) -> dict[str, NDArray[Any]]:
    """History of a run from zero on a logarithmic schedule, with the attention missed."""
    return train_recording_attention(
        problems.data,
        problems.best,
        log_schedule(rule.steps, per_decade=per_decade),
        rule=rule.kind,
        lr=rule.lr,
        loss=loss,
        reference=problems.solution,
        num_threads=num_threads,
    )


def distance(history: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """|W/|W| - W^mm/|W^mm||, shape (B, R)."""
    apart: NDArray[np.float64] = np.sqrt(2 * history["cosine_gap"])
    return apart


def least_attention(history: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Smallest attention of an input to its optimal token, shape (B, R)."""
    smallest: NDArray[np.float64] = -np.expm1(history["log_miss"].max(axis=-1))
    return smallest


def rates_of_rules(history: dict[str, NDArray[Any]], rule: Rule) -> list[Rate]:
    """Power at which the distance falls at the end, fitted for each problem."""
    return [fit_rate(history["step"], d, window=rule.tail) for d in distance(history)]


def starts_that_reach(
    kind: str, size: float, problems: Problems, *, num_threads: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least attention and distance, shape (B,), from random W of this norm."""
    B, _, _, d = problems.data.tokens.shape
    W = np.random.default_rng(_SEED).standard_normal((B, d, d))
    W *= size / np.linalg.norm(W, axis=(1, 2), keepdims=True)
    run = train(
        problems.data,
        rule=kind,
        lr=RULES[kind].lr,
        steps=START_STEPS[kind],
        loss="exponential",
        init=W,
        reference=problems.solution,
        record_every=START_STEPS[kind],
        num_threads=num_threads,
    )
    attention = np.take_along_axis(run.attention, problems.best[..., np.newaxis], axis=-1)
    return attention.min(axis=(1, 2)), distance(run.history)[:, -1]


def compute(settings: Settings) -> Outcome:
    """Run every rule from zero with both losses, and from random starts."""
    problems = Problems.draw(QUICK_PROBLEMS if settings.quick else PROBLEMS)
    found = _solution_checks(problems)
    problems = problems.in_span()
    histories: dict[str, dict[str, dict[str, NDArray[Any]]]] = {}
    seeds = QUICK_SEEDS if settings.quick else SEEDS
    drawn = {
        name: Problems.draw(seeds, n=n, T=T, d=d, noise=noise)
        for name, (n, T, d, noise) in STARTS.items()
    }
    work = len(LOSSES) * len(RULES) + len(START_STEPS) * len(drawn) * len(START_NORMS)
    reached: dict[tuple[str, str, float], tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    with bar(work, "runs", enabled=None if settings.progress else False) as advance:
        for loss in LOSSES:
            histories[loss] = {}
            for kind, rule in RULES.items():
                histories[loss][kind] = run_rule(
                    problems, rule, loss=loss, num_threads=settings.num_threads
                )
                advance(1, f"{rule.text}, {loss}")
            found += direction_checks(loss, histories[loss])
            found += asymptotic_checks(loss, histories[loss], problems)
        for kind in START_STEPS:
            for name, some in drawn.items():
                for size in START_NORMS:
                    reached[kind, name, size] = starts_that_reach(
                        kind, size, some, num_threads=settings.num_threads
                    )
                    advance(1, f"starts, {kind}, {name}")
    found += _start_checks(reached, seeds)
    notes = (
        f"Means over {len(problems.best)} problems, antipodal signals; the expected distances are "
        "means over 5 other draws. Drawn: medians, and the range over problems.",
        "Normalised steps stop losing their direction to rounding where the gradient is computed "
        "from margins: at the end of the run the gap of the loss is below 1e-140.",
    )
    norms = np.asarray(problems.solution.norm)
    data = {"histories": histories, "reached": reached, "norm": float(norms.mean())}
    return Outcome(data, tuple(found), notes)


def _solution_checks(problems: Problems) -> list[Check]:
    solution = problems.solution
    norms, active = np.asarray(solution.norm), np.asarray(solution.support).sum(axis=(1, 2))
    return [
        Check("P3-1: mean |W^mm|", NORM, norms.mean(), 0.05 * NORM, source="recomputed"),
        Check("P3-1: largest KKT residual", 0, solution.kkt.max(), 1e-8, "at most", "theory"),
        Check("P3-1: fewest active constraints", 90, active.min(), kind="equal"),
    ]


def direction_checks(loss: str, histories: dict[str, dict[str, NDArray[Any]]]) -> list[Check]:
    """P3-2: distance from the direction of the SVM, in numbers, order, and power."""
    found: list[Check] = []
    at_100 = {}
    for kind, rule in RULES.items():
        history = histories[kind]
        steps = list(history["step"])
        for step, expected in rule.published.items():
            if kind == "gd" and loss == "logistic" and step < 10_000:
                continue  # known for the exponential loss; the logistic one is half as steep at 0
            got = distance(history)[:, steps.index(step)].mean()
            text = f"P3-2: distance, {rule.text}, step {step}, {loss}"
            found.append(Check(text, expected, got, 0.15 * expected, source="recomputed"))
        at_100[kind] = distance(history)[:, steps.index(100)]
        if kind == "polyak":
            continue
        rates = rates_of_rules(history, rule)
        text = f"P3-2: power of the distance, {rule.text}, {loss}"
        if kind == "gd":
            mean = float(np.mean([rate.exponent for rate in rates]))
            found.append(Check(f"{text}, mean", -0.1, mean, kind="at least", source="recomputed"))
        else:
            highest = max(rate.high for rate in rates)
            found.append(Check(f"{text}, highest", -0.5, highest, kind="at most", source="theory"))
    ordered = (at_100["polyak"] < at_100["ngd"]) & (at_100["ngd"] < at_100["gd"])
    text = f"P3-2: share with distance Polyak < normalised < GD at step 100, {loss}"
    return [*found, Check(text, 1, ordered.mean(), kind="equal", source="recomputed")]


def asymptotic_checks(
    loss: str, histories: dict[str, dict[str, NDArray[Any]]], problems: Problems
) -> list[Check]:
    """P3-3 and P3-4: growth of the norm, Polyak's steps, attention missed."""
    norm = np.asarray(problems.solution.norm)
    ngd, gd, polyak = (histories[kind] for kind in ("ngd", "gd", "polyak"))
    rate = RULES["ngd"].lr
    along = ngd["norm"][:, -1] / (rate * RULES["ngd"].steps)
    step = np.exp(np.log(polyak["loss_gap"][:, -1]) - polyak["log_grad_norm"][:, -1]) / _FACTOR
    decades = [list(gd["step"]).index(t) for t in (10_000, 100_000)]
    growth = np.diff(gd["norm"][:, decades], axis=1)[:, 0] / (norm * np.log(10))
    decay = fit_rate(
        polyak["step"], np.exp(np.log(polyak["loss_gap"]).mean(axis=0)), kind="exponential",
        window=(20, 100),
    )  # fmt: skip
    tails = sparsification(ngd)
    slopes = np.array([tail.exponent for tail in tails])
    relative = (slopes.reshape(norm.size, -1) * norm[:, np.newaxis] / -rate).ravel()
    at_1000 = list(ngd["step"]).index(1000)
    return [
        Check(f"P3-3: least |W|/(η t), normalised, {loss}", 0.99, along.min(), kind="at least",
              source="theory"),
        Check(f"P3-3: largest |W|/(η t), normalised, {loss}", 1, along.max(), 1e-12, "at most",
              "theory"),
        Check(f"P3-3: mean Polyak step / (|W^mm|/2), {loss}", 1, (step / norm * _FACTOR).mean(),
              0.05, source="theory"),
        Check(f"P3-3: factor of the gap per Polyak step, {loss}", np.exp(-1 / _FACTOR),
              np.exp(decay.exponent), 0.02, source="theory"),
        Check(f"P3-3: mean growth of |W| per decade / (|W^mm| ln 10), GD, {loss}", 1,
              growth.mean(), 0.1, source="theory"),
        Check(f"P3-4: least R² of log(1 - attention) on t, {loss}", 0.99,
              min(tail.r_squared for tail in tails), kind="at least", source="recomputed"),
        Check(f"P3-4: mean slope of log(1 - attention) / (-η/|W^mm|), {loss}", 1,
              relative.mean(), 0.05, source="theory"),
        Check(f"P3-4: least attention at step 1000, {loss}", 0.9999,
              least_attention(ngd)[:, at_1000].min(), kind="at least", source="recomputed"),
        Check(f"P3-2: largest gap of the loss at step 12000, normalised, {loss}", 1e-140,
              ngd["loss_gap"][:, -1].max(), kind="at most", source="recomputed"),
        Check(f"P3-2: share with distance fallen after step 1000, normalised, {loss}", 1,
              (distance(ngd)[:, -1] < distance(ngd)[:, at_1000]).mean(), kind="equal",
              source="theory"),
    ]  # fmt: skip


def sparsification(history: dict[str, NDArray[Any]]) -> list[Rate]:
    """Exponential fall of 1 - attention to the optimal token, for every input of every problem."""
    steps, misses = history["step"], np.exp(history["log_miss"])
    window = (200, int(steps[-1]))
    return [
        fit_rate(steps, miss, kind="exponential", window=window)
        for problem in misses
        for miss in problem.T
    ]


def _start_checks(
    reached: dict[tuple[str, str, float], tuple[NDArray[np.float64], NDArray[np.float64]]],
    seeds: int,
) -> list[Check]:
    found = []
    for kind, steps in START_STEPS.items():
        text = {"ngd": "normalised", "polyak": "Polyak", "gd": "GD"}[kind]
        if kind != "gd":
            attention = np.concatenate([got[0] for key, got in reached.items() if key[0] == kind])
            of = len(STARTS) * len(START_NORMS) * seeds
            name = f"P3-5: starts of {of} that end above .99, {text}, {steps} steps"
            found.append(
                Check(name, of, (attention > 0.99).sum(), kind="equal", source="recomputed")
            )
        for size, expected in zip(START_NORMS, START_DISTANCES.get(kind, ()), strict=False):
            got = reached[kind, "d = 512", size][1].mean()
            name = f"P3-5: distance from |W_0| = {size:g}, {text}, d = 512"
            found.append(Check(name, expected, got, 0.15 * expected, source="recomputed"))
    return found


def draw(canvas: Canvas, outcome: Outcome) -> None:
    """Six measures along the runs from zero, and the distance after random starts."""
    panels = canvas.subplots(2, 3)
    histories = outcome.data["histories"]["exponential"]
    titles = (
        "(a) loss - infimum",
        "(b) least attention to the optimal token",
        "(c) norm of W",
        "(d) distance from the SVM's direction",
    )
    for axes, title in zip(panels.ravel(), titles, strict=False):
        axes.set_title(title, loc="left")
        axes.set_xlabel("step")
        axes.set_xscale("log")
        axes.set_xlim(1, 1e5)
        for kind, rule in RULES.items():
            history = histories[kind]
            value = {
                "a": lambda h: h["loss_gap"],
                "b": least_attention,
                "c": lambda h: h["norm"],
                "d": distance,
            }[title[1]](history)
            label = rule.text
            if title[1] == "d":
                exponent = np.mean([rate.exponent for rate in rates_of_rules(history, rule)])
                label = f"power {exponent:.2f}"
            _draw_band(axes, history["step"], value, rule.colour, label)
    loss, attention, norm, apart = panels.ravel()[:4]
    loss.set_yscale("log")
    loss.set_ylim(1e-30, 3)
    norm.set_yscale("log")
    apart.set_yscale("log")
    apart.set_ylim(2e-4, 1)
    attention.set_ylim(0, 1.03)
    canvas.legend(
        *loss.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    apart.legend(frameon=False, loc="lower left", title="fitted at the end")
    _draw_sparsification(panels[1, 1], histories["ngd"], outcome.data["norm"])
    _draw_starts(panels[1, 2], outcome.data["reached"])


def _draw_band(
    axes: Axes, x: NDArray[Any], values: NDArray[np.float64], colour: str, label: str
) -> None:
    low, middle, high = np.quantile(values, (0, 0.5, 1), axis=0)
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(x, middle, color=colour, linewidth=1.4, label=label)


def _draw_sparsification(axes: Axes, history: dict[str, NDArray[Any]], norm: float) -> None:
    rule, steps = RULES["ngd"], history["step"]
    missed = np.exp(history["log_miss"].max(axis=-1))
    _draw_band(axes, steps, missed, rule.colour, rule.text)
    line = np.array([0, rule.steps])
    axes.plot(line, np.exp(-rule.lr * line / norm), ":", color=INK, label="$e^{-ηt/|W^{mm}|}$")
    axes.set_yscale("log")
    axes.set_ylim(1e-200, 10)
    axes.set_yticks([1e-200, 1e-150, 1e-100, 1e-50, 1])
    axes.set_xlim(0, rule.steps)
    axes.set_title("(e) 1 - least attention", loc="left")
    axes.set_xlabel("step")
    axes.legend(frameon=False, loc="upper right")


def _draw_starts(
    axes: Axes,
    reached: dict[tuple[str, str, float], tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> None:
    shades = dict(zip(STARTS, (BLUE, GREEN, ORANGE), strict=True))
    marks = {"ngd": "o", "polyak": "^", "gd": "s"}
    places = np.arange(len(START_NORMS))
    for j, (kind, mark) in enumerate(marks.items()):
        for k, (name, shade) in enumerate(shades.items()):
            apart = [reached[kind, name, size][1].mean() for size in START_NORMS]
            at = places + 0.24 * (j - 1) + 0.06 * (k - 1)
            axes.plot(at, apart, mark, color=shade, markersize=4)
    for kind, mark in marks.items():
        text = {"ngd": "normalised", "polyak": "Polyak", "gd": "GD"}[kind]
        axes.plot([], [], mark, color=INK, markersize=4, label=f"{text}, {START_STEPS[kind]} steps")
    for name, shade in shades.items():
        axes.plot([], [], color=shade, linewidth=3, label=name)
    axes.set_xticks(places, [f"{size:g}" for size in START_NORMS])
    axes.set_yscale("log")
    axes.set_ylim(1e-3, 40)
    axes.set_xlabel("norm of the random start")
    axes.set_title("(f) distance after random starts", loc="left")
    axes.legend(frameon=False, loc="upper left", ncols=2, fontsize=7)


FIGURE = Figure(
    name="p3-rules",
    title="Gradient descent, normalised and Polyak steps on nearly orthogonal tokens",
    source="P3, synthetic experiments with a fixed head",
    size=(10.2, 6.0),
    compute=compute,
    draw=draw,
    quick=f"{QUICK_PROBLEMS} problems in place of {PROBLEMS}, {QUICK_SEEDS} random starts in place "
    f"of {SEEDS}",
)
