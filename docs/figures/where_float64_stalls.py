"""1 - cosine with the SVM and the norm of W: the published arithmetic and attsvm's."""

import matplotlib.pyplot as plt
import numpy as np

import attsvm
from attsvm.studies.reproduce.palette import BLUE, ORANGE, RED

data = attsvm.datasets.unit_sphere(6, 8, 10, rng=3)
steps = 20_000
record = attsvm.log_schedule(steps, per_decade=8)
exact = attsvm.train(data, steps=steps, record_every=record)
svm = attsvm.att_svm(data, exact.selected)
exact = attsvm.train(data, steps=steps, record_every=record, reference=svm)

X, z, n = data.tokens, data.queries, data.n
scores = attsvm.scores(data)


def plain(eps):
    """Take the same steps with the textbook gradient; `eps` is added to its norm."""
    W, gaps, norms = np.zeros((data.d, data.d)), [], []
    for step in range(1, steps + 1):
        logits = np.einsum("itd,id->it", X, z @ W.T)
        s = np.exp(logits - logits.max(axis=1, keepdims=True))
        s /= s.sum(axis=1, keepdims=True)
        margin = np.sum(s * scores, axis=1, keepdims=True)
        slope = s * (scores - margin) * -1 / (1 + np.exp(margin)) / n
        gradient = np.einsum("it,itd->id", slope, X).T @ z
        size = np.linalg.norm(gradient) + eps
        if size > 0:
            W -= 0.1 * gradient / size
        if step in record:
            gaps.append(attsvm.theory.cosine_gap(W, svm.W))
            norms.append(np.linalg.norm(W))
    return gaps, norms


figure, (direction, length) = plt.subplots(1, 2, figsize=(7.4, 3.1))
runs = {
    "textbook gradient, with the published ε": (*plain(2.2e-16), RED),
    "textbook gradient, without": (*plain(0.0), ORANGE),
    "attsvm": (exact.history["cosine_gap"], exact.history["norm"], BLUE),
}
for name, (gaps, norms, colour) in runs.items():
    direction.plot(record, gaps, color=colour, label=name)
    length.plot(record, norms, color=colour)
direction.set_ylabel("1 - cosine with the SVM")
length.set_ylabel("norm of W")
for plot in (direction, length):
    plot.set(xscale="log", yscale="log", xlabel="step")
direction.legend(loc="lower left", fontsize=7.5)
