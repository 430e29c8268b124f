"""Functions that a NumPy user would otherwise write by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from attsvm import _core
from attsvm.data import AttentionData
from attsvm.data.attention_data import as_data
from attsvm.data.checks import ArrayLike, as_choice
from attsvm.descent.problem import LOSSES, CoreProblem
from attsvm.heads import LinearScores
from attsvm.threads import thread_count

__all__ = ["loss_and_grad"]


def loss_and_grad(
    data: AttentionData,
    parameters: Mapping[str, ArrayLike],
    *,
    loss: str = "logistic",
    head: LinearScores | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Mean loss of attention with a fixed linear head, and its gradient.

    Parameters
    ----------
    data : AttentionData
        One problem, or a batch of B of them.
    parameters : dict
        ``{"W": W}`` with W of shape ([B,] d, d), ``{"K": K, "Q": Q}`` with factors of shape
        ([B,] d, m) of W = K Q', or ``{"p": p}`` with p of shape ([B,] d).
    loss : {"logistic", "exponential", "correlation"}
    head : LinearScores, optional
        A linear head given by its token scores; by default the scores of ``data.value``.
    num_threads : int, optional

    Returns
    -------
    loss : ndarray of float64, shape () or (B,)
        Mean over inputs of l(Y_i f(X_i)).
    gradients : dict of ndarray
        Under the same keys and of the same shapes, its gradient; free of cancellation, and zero
        only where it is below the smallest float64.

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be; the message names it.

    References
    ----------
    Tarzanagh et al., "Transformers as Support Vector Machines", 2023, section 2.
    """
    as_data(data)
    parameter = {"W": "W", "p": "p", "K,Q": "KQ"}.get(",".join(sorted(parameters)))
    if parameter is None:
        raise ValueError(
            f"parameters: expected the key 'W' or 'p', or 'K' and 'Q', got {sorted(parameters)}"
        )
    as_choice("loss", loss, LOSSES)
    threads = thread_count(num_threads)
    problem = CoreProblem.of(data, parameter, head, loss, dtype=None, threads=threads, passes=1)
    if parameter == "KQ":
        at = problem.as_factors("parameters", parameters["K"], parameters["Q"])
    else:
        at = problem.as_parameter(f"parameters[{parameter!r}]", parameters[parameter])
    losses, first, second = _core.loss_and_gradient(
        **problem.core_arguments, first=at.first, second=at.second, loss=loss, threads=threads
    )
    if parameter == "KQ":
        gradients = {"K": np.ascontiguousarray(np.swapaxes(first, 1, 2)), "Q": second}
        if not problem.batched:
            gradients = {name: gradient[0] for name, gradient in gradients.items()}
    else:
        gradients = {parameter: problem.as_caller_parameter(first, None)}
    return losses if problem.batched else losses[0], gradients
