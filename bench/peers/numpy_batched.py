"""NumPy with the gradient written by hand, all inputs of many problems at once.

NumPy's small products run on one thread, so a batch is shared out over threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bench.tasks import NGD_EPS, Array, Descent


def version() -> str:
    return np.__version__


def descent(task: Descent) -> Callable[[int], Callable[[], Array]]:
    if not task.batched or task.threads == 1:
        return _on_one_thread(task)
    shares = np.array_split(np.arange(len(task.tokens)), task.threads)
    pool = ThreadPoolExecutor(task.threads)
    runs = [_on_one_thread(task.part(slice(share[0], share[-1] + 1))) for share in shares]

    def run(steps: int) -> Callable[[], Array]:
        trained = list(pool.map(lambda part: part(steps), runs))
        return lambda: np.concatenate([part() for part in trained])

    return run


def _on_one_thread(task: Descent) -> Callable[[int], Callable[[], Array]]:
    X, Z, scores = task.tokens, task.queries, task.scores()
    n = X.shape[-3]
    blocks = {"W": ("W",), "KQ": ("K", "Q"), "p": ("p",)}[task.parameter]
    axes = (-1,) if task.parameter == "p" else (-2, -1)

    def query_gradient(q: Array) -> Array:
        """u_i = dloss/dq_i from the query directions q_i."""
        s: Array = np.matmul(X, q[..., None])[..., 0]
        s -= s.max(axis=-1, keepdims=True)
        np.exp(s, out=s)
        s /= s.sum(axis=-1, keepdims=True)
        mean = np.einsum("...t,...t->...", s, scores)[..., None]
        s *= scores - mean
        s /= -n * (1 + np.exp(mean))
        u: Array = np.matmul(s[..., None, :], X)[..., 0, :]
        return u

    def directions(parameters: list[Array]) -> Array:
        if task.parameter == "p":
            return np.broadcast_to(parameters[0][..., None, :], Z.shape)
        if task.parameter == "W":
            return Z @ parameters[0].swapaxes(-1, -2)
        K, Q = parameters
        return (Z @ Q) @ K.swapaxes(-1, -2)

    def gradients(parameters: list[Array]) -> list[Array]:
        u = query_gradient(directions(parameters))
        if task.parameter == "p":
            return [u.sum(axis=-2)]
        G = u.swapaxes(-1, -2) @ Z
        if task.parameter == "W":
            return [G]
        K, Q = parameters
        return [G @ Q, G.swapaxes(-1, -2) @ K]

    def run(steps: int) -> Callable[[], Array]:
        parameters = [task.start(name) for name in blocks]
        for _ in range(steps):
            for parameter, dL in zip(parameters, gradients(parameters), strict=True):
                norm = np.sqrt(np.square(dL).sum(axis=axes, keepdims=True))
                dL *= task.lr / (norm + NGD_EPS)
                parameter -= dL
        return lambda: task.outcome(*parameters)

    return run
