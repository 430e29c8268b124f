"""Three step rules on one problem: distance to the SVM's direction, and loss above its infimum."""

import matplotlib.pyplot as plt
import numpy as np

import attsvm
from attsvm.studies.reproduce.palette import BLUE, ORANGE, RED

data = attsvm.datasets.near_orthogonal(10, 10, 512, signals="antipodal", rng=0)
svm = attsvm.att_svm(data, attsvm.optimal_tokens(data))
rules = {
    "gd": (1.0, 100_000, "gradient descent", ORANGE),
    "ngd": (0.1, 10_000, "normalised", BLUE),
    "polyak": (None, 300, "Polyak", RED),
}
figure, (distance, loss) = plt.subplots(1, 2, figsize=(7.4, 3.1))
for rule, (lr, steps, name, colour) in rules.items():
    schedule = attsvm.log_schedule(steps)
    run = attsvm.train(data, rule=rule, lr=lr, steps=steps, loss="exponential",
                       record_every=schedule, reference=svm)  # fmt: skip
    distance.plot(schedule, np.sqrt(2 * run.history["cosine_gap"]), color=colour, label=name)
    loss.plot(schedule, run.history["loss_gap"], color=colour)
distance.set_ylabel("distance from the SVM's direction")
loss.set(ylabel="loss less its infimum", ylim=(1e-40, 2))
for plot in (distance, loss):
    plot.set(xscale="log", yscale="log", xlabel="step")
distance.legend()
