"""NumPy with the gradient written by hand, all inputs of many problems at once.

NumPy's small products run on one thread, so a batch is shared out over threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bench.peers import Run, gradients
from bench.tasks import NGD_EPS, Array, Descent


def descent(task: Descent) -> Run:
    if not task.batched or task.threads == 1:
        return _on_one_thread(task)
    shares = np.array_split(np.arange(len(task.tokens)), task.threads)
    pool = ThreadPoolExecutor(task.threads)
    runs = [_on_one_thread(task.part(slice(share[0], share[-1] + 1))) for share in shares]

    def run(steps: int) -> Callable[[], Array]:
        trained = list(pool.map(lambda part: part(steps), runs))
        return lambda: np.concatenate([part() for part in trained])

    return run


def _on_one_thread(task: Descent) -> Run:
    X, Z, scores = task.tokens, task.queries, task.scores()
    n = X.shape[-3]
    axes = (-1,) if task.parameter == "p" else (-2, -1)

    def query_gradient(q: Array) -> Array:
        """Compute u_i = dloss/dq_i from the query directions q_i."""
        s: Array = np.matmul(X, q[..., None])[..., 0]
        s -= s.max(axis=-1, keepdims=True)
        np.exp(s, out=s)
        s /= s.sum(axis=-1, keepdims=True)
        mean = np.einsum("...t,...t->...", s, scores)[..., None]
        s *= scores - mean
        s /= -n * (1 + np.exp(mean))
        u: Array = np.matmul(s[..., None, :], X)[..., 0, :]
        return u

    def run(steps: int) -> Callable[[], Array]:
        blocks = task.starts()
        for _ in range(steps):
            for block, dL in zip(
                blocks, gradients(task.parameter, query_gradient, Z, blocks), strict=True
            ):
                norm = np.sqrt(np.square(dL).sum(axis=axes, keepdims=True))
                dL *= task.lr / (norm + NGD_EPS)
                block -= dL
        return lambda: task.outcome(*blocks)

    return run
