"""PyTorch with the gradient written by hand: batched products and no autograd."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.peers import Run, gradients
from bench.tasks import NGD_EPS, Array, Descent


@torch.inference_mode()
def descent(task: Descent) -> Run:
    torch.set_num_threads(task.threads)
    X, Z, scores = map(torch.from_numpy, (task.tokens, task.queries, task.scores()))
    starts = [torch.from_numpy(start) for start in task.starts()]
    axes = (-1,) if task.parameter == "p" else (-2, -1)
    # One batch of B n matrices for bmm, whatever the axes.
    *lead, n, T, d = X.shape
    flat_X = X.reshape(-1, T, d)

    def query_gradient(q: torch.Tensor) -> torch.Tensor:
        """Compute u_i = dloss/dq_i from the query directions q_i."""
        # A row times a matrix: the kernel of a matrix times a column is several times slower.
        rows = q.expand(*lead, n, d).reshape(-1, 1, d)
        logits = torch.bmm(rows, flat_X.mT).reshape(*lead, n, T)
        s = torch.softmax(logits, dim=-1)
        mean = (s * scores).sum(-1, keepdim=True)
        c = s.mul_(scores - mean).mul_(torch.sigmoid(-mean).div_(-n))
        return torch.bmm(c.reshape(-1, 1, T), flat_X).reshape(*lead, n, d)

    @torch.inference_mode()
    def run(steps: int) -> Callable[[], Array]:
        blocks = [start.clone() for start in starts]
        for _ in range(steps):
            for block, dL in zip(
                blocks, gradients(task.parameter, query_gradient, Z, blocks), strict=True
            ):
                norm = torch.linalg.vector_norm(dL, dim=axes, keepdim=True)
                block -= dL * (task.lr / (norm + NGD_EPS))
        return lambda: task.outcome(*(block.numpy() for block in blocks))

    return run
