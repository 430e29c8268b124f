"""Small transformers that two processors train in a minute, and Muon, for the reproductions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread meanwhile: threads wait for each other in small models."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ImageTransformer(torch.nn.Module):
    """Classes of square images: patches are tokens behind a class token, from which it predicts.

    An image has `side` pixels on a side, a patch `patch`.
    """

    def __init__(
        self, side: int, patch: int, classes: int, d: int, heads: int, layers: int
    ) -> None:
        super().__init__()
        self.patch = patch
        self.embed = torch.nn.Linear(patch**2, d)
        self.first = torch.nn.Parameter(torch.zeros(d))
        self.place = torch.nn.Parameter(0.02 * torch.randn(1 + (side // patch) ** 2, d))
        self.blocks = _blocks(d, heads, layers)
        self.norm = torch.nn.LayerNorm(d)
        self.out = torch.nn.Linear(d, classes)

    def forward(self, images: Any) -> Any:
        """Compute the logits (B, classes) of images (B, side, side)."""
        k = self.patch
        patches = images.unfold(1, k, k).unfold(2, k, k).flatten(3).flatten(1, 2)
        first = self.first.expand(len(images), 1, -1)
        tokens = torch.cat([first, self.embed(patches)], dim=1) + self.place
        return self.out(self.norm(self.blocks(tokens))[:, 0])


class CharacterTransformer(torch.nn.Module):
    """Next characters of a text, each predicted from those before it."""

    def __init__(self, characters: int, context: int, d: int, heads: int, layers: int) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(characters, d)
        self.place = torch.nn.Parameter(0.02 * torch.randn(context, d))
        self.blocks = _blocks(d, heads, layers)
        self.norm = torch.nn.LayerNorm(d)
        self.out = torch.nn.Linear(d, characters)
        self.register_buffer("mask", torch.ones(context, context, dtype=torch.bool).triu(1))

    def forward(self, ids: Any) -> Any:
        """Compute the logits (B, context, characters) of ids (B, context)."""
        tokens = self.embed(ids) + self.place
        return self.out(self.norm(self.blocks(tokens, mask=self.mask)))


def _blocks(d: int, heads: int, layers: int) -> torch.nn.TransformerEncoder:
    layer = torch.nn.TransformerEncoderLayer(
        d, heads, 4 * d, dropout=0.0, batch_first=True, norm_first=True
    )
    return torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


class Muon(torch.optim.Optimizer):
    """Steps along the orthogonal factor of the average gradient, by five Newton-Schulz steps.

    For matrices (Jordan and others, "Muon: an optimizer for hidden layers in neural networks",
    2024). The packed projections (3 d, d) of attention are three matrices.
    """

    def __init__(self, parameters: Any, lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    def step(self, closure: Any = None) -> None:
        """Make one step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                average = self.state[parameter].setdefault("average", parameter.grad.clone())
                average.lerp_(parameter.grad, 1 - group["momentum"])
                rows, columns = average.shape
                parts = average.chunk(3) if rows == 3 * columns else [average]
                steps = [_orthogonal(x) * max(1.0, len(x) / columns) ** 0.5 for x in parts]
                parameter.detach().sub_(torch.cat(steps), alpha=group["lr"])


def _orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    size = wide.norm()
    X = wide / size if float(size) > 0 else wide
    for _ in range(5):
        square = X @ X.mT
        X = 3.4445 * X + (-4.7750 * square + 2.0315 * square @ square) @ X
    return X if matrix.shape[0] <= matrix.shape[1] else X.mT
