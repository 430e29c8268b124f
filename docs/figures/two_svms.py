"""W and (K, Q) on a hundred problems: 1 - cosine with each of the two SVMs."""

import matplotlib.pyplot as plt
import numpy as np

import attsvm
from attsvm.studies.reproduce.palette import BLUE, RED

data = attsvm.datasets.unit_sphere(6, 8, 10, batch=100, rng=0)
colours = {"Frobenius": BLUE, "nuclear": RED}
figure, plots = plt.subplots(1, 2, figsize=(7.4, 3.1), sharey=True)
for plot, parameter, title in zip(plots, ("W", "KQ"), ("training W", "training K, Q"), strict=True):
    start = {"W": "uniform", "KQ": None}[parameter]
    end = attsvm.train(data, parameter=parameter, steps=2000, init=start, rng=1)
    svms = {
        "Frobenius": attsvm.att_svm(data, end.selected),
        "nuclear": attsvm.att_svm(data, end.selected, norm="nuc"),
    }
    steps = attsvm.log_schedule(2000, per_decade=12)
    run = attsvm.train(data, parameter=parameter, steps=2000, init=start, rng=1,
                       record_every=steps, reference=svms)  # fmt: skip
    for name, colour in colours.items():
        gaps = run.history[f"cosine_gap:{name}"]
        low, middle, high = np.quantile(gaps, (0.25, 0.5, 0.75), axis=0)
        plot.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
        plot.plot(steps, middle, color=colour, label=f"with the {name} SVM")
    plot.set_title(title, loc="left")
    plot.set(xscale="log", yscale="log", xlabel="step")
plots[0].set_ylabel("1 - cosine")
plots[0].legend()
