"""A head with the penalty λ|o|²: attention goes to a projection on the simplex.

One input of T = d orthonormal tokens has the mixture o = s in their coordinates, and its margin is
v's - λ|s|². The largest is at the point of the simplex nearest to v / 2λ, known as its sparsemax:
W then converges within the set of tokens of positive weight, and the larger λ, the more of them.
"""

from __future__ import annotations

import numpy as np

from attsvm.data import AttentionData
from attsvm.datasets.drawing import unit_rows
from attsvm.heads import Penalised
from attsvm.studies.reproduce.drawing import Canvas, band, rings
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREY, RED

FIGURE = Figure.of(__name__)


def sparsemax(scores: Array) -> Array:
    """Project the rows of `scores` (..., T) on the simplex, in the Euclidean norm.

    Martins, Astudillo, "From softmax to sparsemax", ICML 2016.

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
    return np.asarray(np.maximum(scores - np.take_along_axis(levels, above - 1, axis=-1), 0.0))


def compute(task: Task) -> Data:
    """Train from zero for each λ, and compare attention with sparsemax."""
    draws, d = task["draws"], task["d"]
    drawn = np.random.default_rng(task["seed"]).standard_normal((draws, d))
    values: Array = unit_rows(drawn).astype(np.float64, copy=False)
    tokens = np.broadcast_to(np.eye(d), (draws, 1, d, d))
    data = AttentionData(tokens, np.ones((draws, 1)), queries=tokens[..., 0, :])
    trained, limits = [], []
    for penalty in task["penalties"]:
        W = None
        for lr in task["rates"]:
            run = task.train(data, head=Penalised(values, penalty), init=W, lr=lr)
            W = run.W
        trained.append(run.attention[:, 0])
        limits.append(sparsemax(values / (2 * penalty)))
    attention, limit = np.stack(trained), np.stack(limits)
    selected, supported = attention > task["selected"], limit > task["selected"]
    counts, limit_counts = selected.sum(axis=2), supported.sum(axis=2)
    error = np.abs(attention - limit).max(axis=2)
    task.check("same", (selected == supported).all(axis=2).mean(axis=1))
    task.check("error", error.max(axis=1))
    task.check("tokens", limit_counts)
    task.check("rises", (np.diff(counts.mean(axis=1)) >= 0).all())
    return {"counts": counts, "limit_counts": limit_counts, "error": error,
            "attention": attention[:, 0], "limit": limit[:, 0]}  # fmt: skip


def draw(canvas: Canvas, data: Data) -> None:
    """Plot selected tokens against λ, the weights of one draw, and the error of attention."""
    settings = FIGURE.settings
    penalties, d = settings["penalties"], settings["d"]
    counted, weights, errors = panels = canvas.subplots(1, 3)
    band(counted, penalties, data["counts"].T, BLUE, "gradient descent", within=(0, d),
         marker="o", markersize=4)  # fmt: skip
    counted.plot(penalties, data["limit_counts"].mean(axis=1), "x", color=RED, markersize=7,
                 label="sparsemax")  # fmt: skip
    rings(counted, FIGURE.numbers["tokens"], label="expected")
    counted.set(ylabel=f"selected tokens of {d}, ± 1 std", ylim=(0, d + 0.5), title="(a)")
    counted.legend(loc="upper left")

    for k, token in enumerate(np.argsort(-data["limit"][-1])):
        weights.plot(penalties, data["limit"][:, token], "x", color=RED, markersize=5)
        weights.plot(penalties, data["attention"][:, token], color=BLUE, alpha=1 - 0.08 * k)
    weights.set(ylabel="attention to a token, one draw", ylim=(-0.03, 1.03), title="(b)")

    error = data["error"]
    errors.loglog(penalties, error, ".", color=GREY, markersize=4,
                  label=["a draw", *[None] * (error.shape[1] - 1)])  # fmt: skip
    errors.loglog(penalties, error.max(axis=1), "_", color=BLUE, markersize=12, label="largest")
    bound = FIGURE.numbers["error"].value()
    errors.axhline(bound, color=RED, linewidth=0.8, linestyle="--", label="allowed")
    errors.set(ylabel="error of attention", ylim=(None, 0.2), title="(c)")
    errors.legend()
    for axes in panels:
        axes.set(xscale="log", xlabel="penalty λ")
