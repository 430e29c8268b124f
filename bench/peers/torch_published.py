"""PyTorch as in the papers' published code.

A module whose linear layer is applied to every token, a loss by autograd, and a normalised step on
each parameter; problems one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from bench.peers import Run, cvxpy_published
from bench.tasks import NGD_EPS, SVM, Array, Descent, Figure


class Attention(nn.Module):
    """softmax(logits) over the tokens, and a fixed linear head."""

    def __init__(self, task: Descent) -> None:
        super().__init__()
        d = task.tokens.shape[-1]
        starts = [torch.from_numpy(start) for start in task.starts()]
        prompt = task.parameter == "p"
        self.maps = nn.ModuleList(nn.Linear(d, d, bias=False) for _ in starts if not prompt)
        self.prompt = nn.Parameter(starts[0]) if prompt else None
        self.head = nn.Linear(d, 1, bias=False)
        self.to(torch.float64)
        with torch.no_grad():
            for layer, start in zip(self.maps, starts, strict=False):
                layer.weight.copy_(start.T)
            self.head.weight.copy_(torch.from_numpy(task.value)[None])
        self.head.weight.requires_grad_(False)

    def forward(self, X: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        keys = self.maps[0](X) if len(self.maps) else X
        if self.prompt is not None:
            logits = keys @ self.prompt
        else:
            query = self.maps[1](z) if len(self.maps) == 2 else z
            logits = torch.einsum("ntd,nd->nt", keys, query)
        mixture = torch.einsum("nt,ntd->nd", torch.softmax(logits, dim=-1), X)
        return self.head(mixture).squeeze(-1)

    def trained(self) -> torch.Tensor:
        """Return W or p as in the papers: logits X W z, with W = weight' or K Q'."""
        with torch.no_grad():
            if self.prompt is not None:
                return self.prompt.clone()
            K, Q = self.maps[0].weight.T, self.maps[-1].weight.T
            return (K @ Q.T if len(self.maps) == 2 else K).clone()


def descent(task: Descent) -> Run:
    torch.set_num_threads(task.threads)
    problems = task.problems()

    def run(steps: int) -> Callable[[], Array]:
        trained = torch.stack([_train(problem, steps).trained() for problem in problems])
        return lambda: (trained if task.batched else trained[0]).numpy()

    return run


def figure(task: Figure) -> Run:
    torch.set_num_threads(task.descent.threads)
    problems = task.descent.problems()

    def solve(problem: Descent) -> Array:
        W = _train(problem, task.steps).trained().numpy()
        logits = np.einsum("ntd,nd->nt", problem.tokens, problem.queries @ W.T)
        selected: Array = logits.argmax(axis=1)
        for norm in ("fro", "nuc"):
            cvxpy_published.svm(SVM(problem.tokens, problem.queries, selected, norm))()
        return selected

    def run() -> Callable[[], Array]:
        selected = [
            [solve(replace(problem, parameter=parameter)) for problem in problems]
            for parameter in ("W", "KQ")
        ]
        return lambda: np.array(selected)

    return run


def _train(problem: Descent, steps: int) -> Attention:
    model = Attention(problem)
    X, z, y = (torch.from_numpy(a) for a in (problem.tokens, problem.queries, problem.labels))
    for _ in range(steps):
        model.zero_grad()
        loss = nn.functional.softplus(-y * model(X, z)).mean()
        loss.backward()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.grad is not None:
                    weight -= problem.lr * weight.grad / (weight.grad.norm() + NGD_EPS)
    return model
