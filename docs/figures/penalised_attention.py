"""Attention after training with a penalised head, and the projection that theory predicts."""

import matplotlib.pyplot as plt
import numpy as np

import attsvm
from attsvm.heads import Penalised
from attsvm.studies.figures.lambda_head import sparsemax
from attsvm.studies.reproduce.palette import BLUE, GREEN, ORANGE, RED

value = np.array([1.0, 0.8, 0.5, 0.1])
penalties = np.geomspace(0.02, 2, 25)
data = attsvm.AttentionData([np.eye(4)], [1], queries=[[1, 0, 0, 0]])
attention = []
for penalty in penalties:
    W = None
    for lr in (0.1, 0.01, 0.001):  # steps of one length would circle the limit
        run = attsvm.train(data, head=Penalised(value, penalty), init=W, lr=lr, steps=3000)
        W = run.W
    attention.append(run.attention[0])
attention = np.array(attention)

fine = np.geomspace(0.02, 2, 400)
limit = sparsemax(value / (2 * fine[:, np.newaxis]))
figure, plot = plt.subplots(figsize=(5.6, 3.2))
for token, colour in enumerate((BLUE, ORANGE, GREEN, RED)):
    plot.plot(fine, limit[:, token], color=colour, linewidth=1)
    plot.plot(penalties, attention[:, token], "o", color=colour, markersize=3.5,
              label=f"token {token}, score {value[token]:g}")  # fmt: skip
plot.set(xscale="log", xlabel="λ", ylabel="attention")
plot.legend()
