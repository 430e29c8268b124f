"""Whether the first step of descent already separates the selected tokens."""

from __future__ import annotations

import numpy as np

from attsvm._validation import ArrayLike, BoolArray, as_choice
from attsvm.data.attention_data import AttentionData, as_data, as_selected
from attsvm.functional import loss_and_grad
from attsvm.heads import LinearScores
from attsvm.theory.margins import margins
from attsvm.theory.token_scores import optimal_tokens

__all__ = ["first_step_separates"]


def first_step_separates(
    data: AttentionData,
    *,
    selected: ArrayLike | None = None,
    parameter: str = "W",
    loss: str = "logistic",
    head: LinearScores | None = None,
) -> bool | BoolArray:
    """Whether -(x_iα - x_it)' ∇L(0) z_i > 0 for every input and every token t ≠ α.

    The first step of gradient descent from W = 0, of any size, then separates the tokens α. With
    the optimal tokens for α this leads to global convergence.

    Parameters
    ----------
    data : AttentionData
        With a `value`, and with queries for W.
    selected : array_like of int, shape ([B,] n), optional
        Tokens α; by default those of the highest score (`optimal_tokens`).
    parameter : {"W", "p"}
        Logits X W z or X p.
    loss, head
        As in `train`.

    Returns
    -------
    bool, or ndarray of bool of shape (B,) for a batch

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be; the message names it.

    References
    ----------
    P2: Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023, the
    global convergence after a first step that separates.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData(
    ...     [[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]], value=[1.0, 0.0]
    ... )
    >>> attsvm.first_step_separates(data)
    True
    """
    name = as_choice("parameter", parameter, ("W", "p"))
    if selected is None:
        alpha = optimal_tokens(data)
    else:
        alpha = as_selected("selected", selected, as_data(data))
    lead = () if data.batch is None else (data.batch,)
    zero = np.zeros((*lead, data.d, data.d) if name == "W" else (*lead, data.d))
    _, gradients = loss_and_grad(data, {name: zero}, loss=loss, head=head)
    separates = np.asarray((margins(-gradients[name], data, alpha) > 0).all(axis=(-2, -1)))
    return separates if lead else bool(separates)
