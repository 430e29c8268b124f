"""A head with the penalty λ|o|²: attention goes to a projection on the simplex.

One input of T = d orthonormal tokens has the mixture o = s in their coordinates, and its margin is
v's - λ|s|². The largest is at the point of the simplex nearest to v / 2λ, known as its sparsemax:
W then converges within the set of tokens of positive weight, and the larger λ, the more of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attsvm.data import AttentionData
from attsvm.datasets.drawing import unit_rows
from attsvm.descent import train
from attsvm.heads import Penalised
from attsvm.studies.reproduce.check import Check
from attsvm.studies.reproduce.figure import Figure, Outcome, Settings
from attsvm.studies.reproduce.palette import BLUE, GREY, INK, RED

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["FIGURE", "SELECTED_TOKENS", "sparsemax"]

D, DRAWS = 10, 20
SELECTED_TOKENS = {
    0.01: (1.0, 1.0),
    0.05: (1.35, 1.35),
    0.1: (2.0, 2.0),
    0.2: (2.75, 2.75),
    0.5: (4.65, 4.65),
    1.0: (6.6, 6.6),
    2.0: (9.3, 9.15),
}
"""Mean number of selected tokens by λ, of descent and of sparsemax: 20 draws of an independent
program, whose largest error of attention was 0.0043 on average."""

RATES, STEPS = (0.1, 0.01, 0.001), 20_000
"""Normalised steps of one length would circle the limit; they are made of three, one after the
other."""
_SELECTED = 1e-3
_SEED = 0


def sparsemax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean projection of the rows of `scores` (..., T) on the simplex.

    References
    ----------
    Martins, Astudillo, "From softmax to sparsemax", 33rd International Conference on Machine
    Learning, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from attsvm.studies.figures.lambda_head import sparsemax
    >>> sparsemax(np.array([1.0, 0.5, -1.0]))
    array([0.75, 0.25, 0.  ])
    """
    ordered = np.sort(scores, axis=-1)[..., ::-1]
    levels = (np.cumsum(ordered, axis=-1) - 1) / np.arange(1, scores.shape[-1] + 1)
    above = np.sum(ordered > levels, axis=-1, keepdims=True)
    projected: NDArray[np.float64] = scores - np.take_along_axis(levels, above - 1, axis=-1)
    return np.maximum(projected, 0.0)


def compute(settings: Settings) -> Outcome:
    """Train from zero for each λ, and compare attention with sparsemax."""
    drawn = np.random.default_rng(_SEED).standard_normal((DRAWS, D))
    values: NDArray[np.float64] = unit_rows(drawn).astype(np.float64, copy=False)
    basis = np.eye(D)
    data = AttentionData(
        np.broadcast_to(basis, (DRAWS, 1, D, D)),
        np.ones((DRAWS, 1)),
        queries=np.broadcast_to(basis[0], (DRAWS, 1, D)),
    )
    trained, limits = [], []
    for penalty in SELECTED_TOKENS:
        W = None
        for lr in RATES:
            run = train(
                data,
                head=Penalised(values, penalty),
                init=W,
                lr=lr,
                steps=STEPS,
                num_threads=settings.num_threads,
            )
            W = run.W
        trained.append(run.attention[:, 0])
        limits.append(sparsemax(values / (2 * penalty)))
    attention, limit = np.stack(trained), np.stack(limits)

    selected, supported = attention > _SELECTED, limit > _SELECTED
    same = (selected == supported).all(axis=2).mean(axis=1)
    error = np.abs(attention - limit).max(axis=2)
    counts, limit_counts = selected.sum(axis=2), supported.sum(axis=2)
    found: list[Check] = []
    for k, (penalty, published) in enumerate(SELECTED_TOKENS.items()):
        found += [
            Check(f"λ={penalty:g}: share of draws that select the tokens of sparsemax", 0.95,
                  same[k], kind="at least", source="closed form"),
            Check(f"λ={penalty:g}: largest error of attention", 0.01, error[k].max(),
                  kind="at most", source="closed form"),
        ]  # fmt: skip
        # Two means of 20 draws: three standard errors of their difference.
        tolerance = 3 * np.sqrt(2 / DRAWS) * limit_counts[k].std(ddof=1)
        found.append(
            Check(
                f"λ={penalty:g}: mean number of tokens of sparsemax",
                published[1],
                limit_counts[k].mean(),
                tolerance,
                source="recomputed, 20 draws",
            )
        )
    rising = bool((np.diff(counts.mean(axis=1)) >= 0).all())
    found.append(Check("the number of selected tokens rises with λ", True, rising, kind="equal"))
    notes = (
        "The penalties and sizes of the published figure are not known; these are those of an "
        "independent computation. Its draws were others: the numbers of tokens are compared within "
        "three standard errors, for sparsemax, whose tokens descent is to select.",
        f"Steps of length {', '.join(f'{lr:g}' for lr in RATES)}, {STEPS} of each: with one length "
        "attention circles its limit.",
    )
    data_drawn = {"counts": counts, "limit_counts": limit_counts, "error": error,
                  "attention": attention, "limit": limit}  # fmt: skip
    return Outcome(data_drawn, tuple(found), notes)


def draw(canvas: Canvas, outcome: Outcome) -> None:
    """Selected tokens against λ, the weights of one draw, and the error of attention."""
    penalties = np.array(list(SELECTED_TOKENS))
    counted, weights, errors = canvas.subplots(1, 3)
    counts, limit_counts = outcome.data["counts"], outcome.data["limit_counts"]
    spread = counts.std(axis=1)
    mean = counts.mean(axis=1)
    counted.fill_between(penalties, mean - spread, mean + spread, color=BLUE, alpha=0.15, lw=0)
    counted.plot(penalties, mean, "o-", color=BLUE, markersize=4, label="gradient descent")
    counted.plot(penalties, limit_counts.mean(axis=1), "x", color=RED, markersize=7,
                 label="sparsemax")  # fmt: skip
    counted.plot(
        penalties,
        [expected for _, expected in SELECTED_TOKENS.values()],
        "o",
        color="none",
        markeredgecolor=INK,
        markersize=9,
        label="expected",
    )
    counted.set_ylabel(f"selected tokens of {D}, ± 1 std")
    counted.set_ylim(0, D + 0.5)
    counted.legend(frameon=False, loc="upper left")

    order = np.argsort(-outcome.data["limit"][-1, 0])
    for k, token in enumerate(order):
        shade = {"color": BLUE, "alpha": 1 - 0.08 * k}
        weights.plot(penalties, outcome.data["limit"][:, 0, token], "x", color=RED, markersize=5)
        weights.plot(penalties, outcome.data["attention"][:, 0, token], "-", **shade)
    weights.set_ylabel("attention to each token, one draw")
    weights.set_ylim(-0.03, 1.03)

    error = outcome.data["error"]
    errors.loglog(penalties, error, ".", color=GREY, markersize=4)
    errors.loglog(penalties, error.max(axis=1), "_", color=BLUE, markersize=12, label="largest")
    errors.axhline(0.01, color=RED, linewidth=0.8, linestyle="--", label="asked for")
    errors.set_ylabel("largest error of attention")
    errors.legend(frameon=False)
    for axes in (counted, weights, errors):
        axes.set_xscale("log")
        axes.set_xlabel("penalty λ")


FIGURE = Figure(
    name="lambda-head",
    title="A head with a penalty: how many tokens are selected",
    source="P2, the figure of the penalised head",
    size=(10.0, 3.2),
    compute=compute,
    draw=draw,
)
