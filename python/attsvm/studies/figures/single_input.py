"""One input of three tokens: which of them gradient descent on p selects, from six starts."""

from __future__ import annotations

import numpy as np

from attsvm.data import AttentionData
from attsvm.heads import LinearScores
from attsvm.studies.reproduce.drawing import Axes, Canvas, legend_outside, paths_in_plane, ray
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREEN, GREY, RED
from attsvm.svm import prompt_svm
from attsvm.theory import cosine

FIGURE = Figure.of(__name__)
_CASES = ("global", "local")


def problem(case: str) -> tuple[AttentionData, LinearScores, Array]:
    """Return data, head and starts of the six runs of a case, as a batch."""
    settings = FIGURE.settings
    runs = len(settings["starts"])
    keys = np.broadcast_to(np.array([settings["keys"]]), (runs, 1, 3, 2))
    data = AttentionData(keys, np.ones((runs, 1)))
    scores = np.broadcast_to([[[*settings["scores"], settings["third_score"][case]]]], (runs, 1, 3))
    return data, LinearScores(scores), np.stack([np.zeros(runs), settings["starts"]], axis=1)


def compute(task: Task) -> Data:
    """Train from all starts in both cases, and solve the SVMs of tokens 0 and 1."""
    alone = problem("global")[0].problem(0)
    svm = [prompt_svm(alone, np.array([token])).direction for token in (0, 1)]
    for token, p in enumerate(svm):
        task.check(f"SVM {token}", p)
    task.check("half square", [float(p @ p) / 2 for p in svm])
    paths = {}
    for case in _CASES:
        batch, head, init = problem(case)
        run = task.train(batch, head=head, init=init, record="p")
        paths[case] = run.history["p"]
        expected = np.array(FIGURE.numbers[f"selected {case}"].expected, dtype=np.int64)
        reached = cosine(paths[case][:, -1], np.stack([svm[token] for token in expected]), axis=-1)
        task.check(f"selected {case}", run.selected[:, 0])
        floors = [reached[expected == token].min() for token in np.unique(expected)]
        task.check(f"floor {case}", floors)
        task.check(f"cosine {case}", reached)
    task.check("norm", np.linalg.norm(paths["global"][:, -1], axis=1))
    leaves = [float(np.interp(task["top"], path[:, 1], path[:, 0])) for path in paths["global"]]
    task.check("leaves", [max(leaves), min(leaves)])
    return {"svm": svm, **paths}


def draw(canvas: Canvas, data: Data) -> None:
    """Plot the paths of p from the starts, the tokens, and the directions of the two SVMs."""
    panels = canvas.subplots(1, 2, sharey=True)
    titles = ("(a) all runs go to the best token", "(b) two runs go to token 1")
    for axes, case, title in zip(panels, _CASES, titles, strict=True):
        _draw_case(axes, data[case], data["svm"])
        axes.set(title=title, xlabel="$p_1$")
    panels[0].set_ylabel("$p_2$")
    legend_outside(canvas, panels[1], "outside lower center", 5)


def _draw_case(axes: Axes, paths: Array, svm: list[Array]) -> None:
    ray(axes, svm[0], RED, "SVM of token 0")
    ray(axes, svm[1], BLUE, "SVM of token 1", linestyle="--")
    paths_in_plane(axes, paths, GREY, "gradient descent")
    keys = np.transpose(FIGURE.settings["keys"])
    axes.plot(*keys, "D", color=GREEN, markersize=4, label="token")
    axes.set(aspect="equal", xlim=(-4, 8), ylim=(-2, FIGURE.settings["top"]))
