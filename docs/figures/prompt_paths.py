"""Paths of p from six starts, and the directions of the two SVMs that they converge to."""

import matplotlib.pyplot as plt
import numpy as np

import attsvm
from attsvm.heads import LinearScores
from attsvm.studies.reproduce.palette import BLUE, GREY, INK, RED

keys = [(-0.1, 1.0), (1.0, 0.0), (0.0, 0.0)]
starts = [(0, c) for c in (1.0, 0.5, 0.0, -0.5, -1.0, -1.5)]
data = attsvm.AttentionData([[keys]] * 6, [[1]] * 6)
head = LinearScores([[(1.0, 0.9, 0.0)]] * 6)

# The path is read off the cosines with the two axes.
axes = {"x": [1.0, 0.0], "y": [0.0, 1.0]}
run = attsvm.train(
    data, parameter="p", head=head, init=starts, steps=100, record_every=1, reference=axes
)
path = [run.history["norm"] * run.history[f"cosine:{axis}"] for axis in "xy"]

figure, plot = plt.subplots(figsize=(5.2, 4.2))
for token, colour in ((0, RED), (1, BLUE)):
    svm = attsvm.prompt_svm(data.problem(0), [token])
    ray = np.outer([0, 20], svm.p / svm.norm)
    plot.plot(*ray.T, "--", color=colour, label=f"SVM of token {token}")
for b, token in enumerate(run.selected[:, 0]):
    plot.plot(path[0][b], path[1][b], color=[RED, BLUE][token], linewidth=1)
    plot.plot(*starts[b], "o", color=INK, markersize=3.5)
for (x, y), name in zip(keys, ("0", "1", "2"), strict=True):
    plot.plot(x, y, "s", color=GREY, markersize=4)
    plot.annotate(name, (x, y), xytext=(4, 4), textcoords="offset points", color="#666666")
plot.set(xlim=(-2.5, 8), ylim=(-2, 8), aspect="equal", xlabel="$p_1$", ylabel="$p_2$")
plot.legend()
