"""The angle to the SVM that a run certifies, and the true one."""

import matplotlib.pyplot as plt
import numpy as np

import attsvm
from attsvm.studies.reproduce.palette import BLUE, ORANGE

data = attsvm.datasets.unit_sphere(6, 8, 10, rng=3)
steps = attsvm.log_schedule(20_000, per_decade=8)
end = attsvm.train(data, steps=20_000)
svm = attsvm.att_svm(data, end.selected)
run = attsvm.train(data, steps=20_000, record_every=steps, reference=svm, certify=True)
certified = run.history["settled"] & (run.history["certified_cosine"] > -1)

figure, plot = plt.subplots(figsize=(5.2, 3.0))
angles = {
    "certified along the run, no SVM solved": np.arccos(run.history["certified_cosine"][certified]),
    "true": np.arccos(1 - run.history["cosine_gap"][certified]),
}
for (name, angle), colour in zip(angles.items(), (ORANGE, BLUE), strict=True):
    plot.plot(steps[certified], np.degrees(angle), color=colour, label=name)
plot.set(xscale="log", yscale="log", xlabel="step", ylabel="angle to the SVM, degrees")
plot.legend()
