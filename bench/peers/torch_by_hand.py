"""PyTorch with the gradient written by hand: batched products and no autograd."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.tasks import NGD_EPS, Array, Descent


def version() -> str:
    return str(torch.__version__)


@torch.inference_mode()
def descent(task: Descent) -> Callable[[int], Callable[[], Array]]:
    torch.set_num_threads(task.threads)
    X, Z = torch.from_numpy(task.tokens), torch.from_numpy(task.queries)
    scores = torch.from_numpy(task.scores())
    blocks = {"W": ("W",), "KQ": ("K", "Q"), "p": ("p",)}[task.parameter]
    starts = [torch.from_numpy(task.start(name)) for name in blocks]
    # One batch of B n matrices for bmm, whatever the axes.
    *lead, n, T, d = X.shape
    flat_X = X.reshape(-1, T, d)

    def query_gradient(q: torch.Tensor) -> torch.Tensor:
        """u_i = dloss/dq_i from the query directions q_i."""
        # A row times a matrix: the kernel of a matrix times a column is several times slower.
        logits = torch.bmm(q.reshape(-1, 1, d), flat_X.mT).reshape(*lead, n, T)
        s = torch.softmax(logits, dim=-1)
        mean = (s * scores).sum(-1, keepdim=True)
        c = s.mul_(scores - mean).mul_(torch.sigmoid(-mean).div_(-n))
        return torch.bmm(c.reshape(-1, 1, T), flat_X).reshape(*lead, n, d)

    def gradients(parameters: list[torch.Tensor]) -> list[torch.Tensor]:
        if task.parameter == "p":
            u = query_gradient(parameters[0].unsqueeze(-2).expand(*lead, n, d))
            return [u.sum(-2)]
        if task.parameter == "W":
            return [query_gradient(Z @ parameters[0].mT).mT @ Z]
        K, Q = parameters
        G = query_gradient((Z @ Q) @ K.mT).mT @ Z
        return [G @ Q, G.mT @ K]

    @torch.inference_mode()
    def run(steps: int) -> Callable[[], Array]:
        parameters = [start.clone() for start in starts]
        axes = (-1,) if task.parameter == "p" else (-2, -1)
        for _ in range(steps):
            for parameter, dL in zip(parameters, gradients(parameters), strict=True):
                norm = torch.linalg.vector_norm(dL, dim=axes, keepdim=True)
                parameter -= dL * (task.lr / (norm + NGD_EPS))
        return lambda: task.outcome(*(parameter.numpy() for parameter in parameters))

    return run
