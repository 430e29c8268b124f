"""Check the four additions, once they are made and built."""

import numpy as np

import attsvm
from attsvm.functional import loss_and_grad
from attsvm.heads import ReLU, Tanh

data = attsvm.datasets.unit_sphere(4, 5, 6, rng=0)
rng = np.random.default_rng(1)


def differences(f, at, step=1e-5):
    """The gradient by central differences."""
    units = np.eye(at.size).reshape(-1, *at.shape)
    return np.array([(f(at + step * e) - f(at - step * e)) / (2 * step) for e in units]).reshape(
        at.shape
    )


# A loss: its gradient is its slope, and descent goes to the SVM as with the others.
W = rng.standard_normal((6, 6))
loss, gradient = loss_and_grad(data, {"W": W}, loss="sigmoid")
slopes = differences(lambda at: float(loss_and_grad(data, {"W": at}, loss="sigmoid")[0]), W)
assert np.allclose(gradient["W"], slopes, rtol=1e-6, atol=1e-9)
run = attsvm.train(data, loss="sigmoid", steps=5000)
svm = attsvm.att_svm(data, run.selected)
assert attsvm.cosine(run.W, svm.W) > 0.999
gaps = run.history["loss_gap"]
assert np.all(np.diff(gaps[10:]) < 0)
assert gaps[-1] < 1e-30

# A head: value and gradient against the formula.
V, w = rng.standard_normal((6, 3)), rng.standard_normal(3)
logits = np.einsum("itd,id->it", data.tokens, data.queries @ W.T)
s = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
mixtures = np.einsum("it,itd->id", s, data.tokens)
expected = np.mean(np.log1p(np.exp(-data.labels * (np.tanh(mixtures @ V) @ w))))
loss, gradient = loss_and_grad(data, {"W": W}, head=Tanh(V, w))
assert abs(float(loss) - expected) < 1e-14
slopes = differences(lambda at: float(loss_and_grad(data, {"W": at}, head=Tanh(V, w))[0]), W)
assert np.allclose(gradient["W"], slopes, rtol=1e-6, atol=1e-9)
assert float(loss_and_grad(data, {"W": W}, head=ReLU(V, w))[0]) != float(loss)

# A rule: the steps are the signs, in the coordinates of the caller.
few = attsvm.datasets.unit_sphere(2, 3, 8, rng=2)
run = attsvm.train(few, rule="sign", lr=0.25, steps=3)
W = np.zeros((8, 8))
for _ in range(3):
    W -= 0.25 * np.sign(loss_and_grad(few, {"W": W})[1]["W"])
assert np.array_equal(run.W, W)

# A norm: no feasible matrix has smaller entries, and sign descent goes there, not to the others.
machine = attsvm.att_svm(data, attsvm.optimal_tokens(data), norm="max")
other = attsvm.att_svm(data, attsvm.optimal_tokens(data))
assert machine.gap < 1e-9
assert machine.margins.min() > 1 - 1e-9
assert abs(np.abs(machine.W).max() - machine.norm) < 1e-12
assert machine.norm < np.abs(other.W).max()
run = attsvm.train(data, rule="sign", lr=0.01, steps=20_000)
chosen = attsvm.att_svm(data, run.selected, norm="max")
usual = attsvm.att_svm(data, run.selected)
reach = [float(attsvm.theory.margins(W, data, run.selected).min() / np.abs(W).max())
         for W in (run.W, usual.W)]  # fmt: skip
assert reach[0] > 0.98 / chosen.norm
assert reach[1] < 0.95 / chosen.norm
print("all four hold")
