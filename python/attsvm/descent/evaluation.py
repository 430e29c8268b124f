"""Evaluation of trained attention on other inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attsvm import _core
from attsvm._arrays import Float64Array
from attsvm._display import Displayed, ends_text
from attsvm._softmax import log_softmax
from attsvm.data.attention_data import AttentionData, as_data, require_queries
from attsvm.descent.problem import Trained
from attsvm.heads import value_of


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Displayed):
    """Margins, loss and accuracy of trained attention on n inputs.

    Attributes
    ----------
    margins : ndarray, shape ([B,] n)
        Y_i v'o_i, with the mixture o_i of the tokens of input i.
    loss : ndarray, shape ([B])
        Mean over inputs of l(margin).
    accuracy : ndarray, shape ([B])
        Share of the inputs with a positive margin.
    attention, log_attention : ndarray, shape ([B,] n, T)
        Softmax weights and their logarithms, 0 and -inf at padding.
    """

    margins: Float64Array
    loss: Float64Array
    accuracy: Float64Array
    attention: Float64Array
    log_attention: Float64Array

    def _facts(self) -> dict[str, str]:
        problems = {"problems": f"{len(self.margins):,}"} if self.margins.ndim == 2 else {}
        return {
            **problems,
            "inputs": f"{self.margins.shape[-1]:,}",
            "loss": ends_text(self.loss, ".3e"),
            "accuracy": ends_text(self.accuracy, ".4g"),
            "smallest margin": f"{self.margins.min():.6g}",
        }

    def __repr__(self) -> str:
        return f"Evaluation({', '.join(f'{k} {text}' for k, text in self._facts().items())})"


def evaluated(
    name: str, data: object, trained: Trained | None, loss: str
) -> tuple[AttentionData, Trained]:
    """Check that these inputs fit what was trained, None for a table of tokens."""
    other: str | None = "not linear"
    if trained is not None and _core.losses[loss].margins == "real":
        other = trained.other_head
    if trained is None or other is not None:
        raise ValueError(f"{name}: expected none where the head is {other}, got inputs")
    coordinates = trained.coordinates
    inputs, batch = as_data(data, name), coordinates.batch
    if inputs.d != coordinates.dimensions[0]:
        raise ValueError(
            f"{name}: expected tokens of dimension {coordinates.dimensions[0]}, got {inputs.d}"
        )
    if inputs.batch not in (None, batch):
        expected = "one problem" if batch is None else f"one problem or a batch of {batch}"
        raise ValueError(f"{name}: expected {expected}, got a batch of {inputs.batch}")
    if trained.query is None:
        require_queries(inputs, "the logits X W z", name)
    if not coordinates.blocks.head:
        value_of(inputs, name)
    return inputs, trained


def evaluate(
    data: AttentionData, directions: NDArray[Any], value: NDArray[Any], loss: str
) -> Evaluation:
    """Evaluate the linear head v ([B,] d) on logits X q with q one of ([B,] n, d) or ([B,] 1, d).

    Data without a batch axis serve every problem of a batch.
    """
    tokens = data.tokens_per_input
    logits = (tokens @ directions[..., np.newaxis])[..., 0]
    log_attention = log_softmax(np.where(data.valid, logits, -np.inf), axis=-1)
    attention = np.exp(log_attention)
    of_tokens = (tokens @ value[..., np.newaxis, :, np.newaxis])[..., 0]
    margins = data.labels * (attention * of_tokens).sum(axis=-1)
    losses = _core.losses[loss].value(margins)
    return Evaluation(
        margins=margins,
        loss=losses.mean(axis=-1),
        accuracy=(margins > 0).mean(axis=-1),
        attention=attention,
        log_attention=log_attention,
    )
