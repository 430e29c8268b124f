"""Next tokens: the direction converges to the Graph-SVM, the rest to the finite part."""

import matplotlib.pyplot as plt
import numpy as np

import attsvm
from attsvm.studies.reproduce.palette import BLUE, INK, RED

story = "the cat sat on the mat and the dog sat on the cat and the mat sat on the dog and " * 3
data = attsvm.datasets.text(story, unit="word", context=10)
svm, finite = attsvm.graph_svm(data), attsvm.finite_part(data)
inside = attsvm.theory.cyclic_subspace(data)
infimum = attsvm.theory.optimal_loss(data)

steps, at, W = attsvm.log_schedule(30_000, per_decade=6), 0, None
angle, apart, gap = [], [], []
for step in steps:
    run = attsvm.train(data, rule="gd", lr=1.0, steps=int(step) - at, init=W, reference=svm)
    at, W = int(step), run.W
    angle.append(run.history["cosine_gap"][-1])
    apart.append(np.linalg.norm(inside.project(W) - finite))
    gap.append(run.history["loss"][-1] - infimum)

figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.0))
left.plot(steps, angle, color=BLUE, label="1 - cosine of W with the Graph-SVM")
left.plot(steps, apart, color=RED, label="|Π W - W$^{fin}$|")
right.plot(steps, gap, color=INK, label="loss less its infimum")
right.plot(steps, svm.norm**2 / steps, ":", color=INK, label="|W$^{mm}$|² / steps")
for plot in (left, right):
    plot.set(xscale="log", yscale="log", xlabel="step")
    plot.legend()
