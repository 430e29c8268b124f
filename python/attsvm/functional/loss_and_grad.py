"""Loss of attention and its gradient."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from attsvm import _core
from attsvm._validation import ArrayLike, as_choice
from attsvm.data import AttentionData
from attsvm.data.attention_data import as_data
from attsvm.descent.blocks import Blocks
from attsvm.descent.problem import CoreProblem
from attsvm.heads import Head
from attsvm.threads import thread_count

_ATTENTION = {("p",): "p", ("W",): "W", ("K", "Q"): "KQ", ("W", "p"): "Wp"}


def loss_and_grad(
    data: AttentionData,
    parameters: Mapping[str, ArrayLike],
    *,
    loss: str = "logistic",
    head: Head | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Mean loss of attention, and its gradient.

    Parameters
    ----------
    data : AttentionData
        One problem, or a batch of B of them.
    parameters : dict
        ``{"W": W}`` with W of shape ([B,] d, d); ``{"K": K, "Q": Q}`` with factors of shape
        ([B,] d, m) of W = K Q'; ``{"p": p}`` with p of shape ([B,] d); or ``{"W": W, "p": p}``, for
        the logits X W p. With ``"v": v`` of shape ([B,] d) in it, v is the head, and a parameter
        like the others.
    loss : {"logistic", "exponential", "correlation", "log", "cross_entropy", "squared"}
    head : LinearScores, ReLU, Penalised or Softmax, optional
        The head where v is no parameter; by default the linear head ``data.value``.
    num_threads : int, optional

    Returns
    -------
    loss : ndarray of float64, shape () or (B,)
        Mean over inputs of l(Y_i h(o_i)).
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
    names = tuple(sorted(name for name in parameters if name != "v"))
    if names not in _ATTENTION:
        raise ValueError(
            "parameters: expected the key 'W' or 'p' or both, or 'K' and 'Q', and perhaps 'v', "
            f"got {sorted(map(str, parameters))}"
        )
    blocks = Blocks(_ATTENTION[names], "v" in parameters)
    as_choice("loss", loss, _core.losses)
    threads = thread_count(num_threads)
    problem = CoreProblem.of(
        data,
        blocks,
        head,
        loss,
        prompt=parameters["p"] if blocks.attention == "Wp" else None,
        value=parameters.get("v"),
        dtype=None,
        threads=threads,
        passes=1,
    )
    if blocks.attention == "KQ":
        at = problem.as_factors("parameters", parameters["K"], parameters["Q"])
    else:
        at = problem.as_parameter(f"parameters[{names[0]!r}]", parameters[names[0]])
    losses, first, second, value = _core.loss_and_gradient(
        problem=problem.to_core(), at=at.to_core(), loss=_core.losses[loss], threads=threads
    )
    gradients: dict[str, NDArray[np.float64]] = {}
    if blocks.attention == "KQ":
        gradients = {"K": np.ascontiguousarray(np.swapaxes(first, 1, 2)), "Q": second}
        if not problem.batched:
            gradients = {name: gradient[0] for name, gradient in gradients.items()}
    else:
        gradients[names[0]] = problem.as_caller_parameter(first, None)
    if blocks.attention == "Wp":
        # dW = (Σ u_i) p' stands in the one coordinate |p| of the queries, and dp = W' Σ u_i.
        total = first[:, 0] / problem.queries[:, 0]
        W = np.asarray(parameters["W"], dtype=np.float64)
        gradient = (total[:, np.newaxis] @ W)[:, 0]
        gradients["p"] = gradient if problem.batched else gradient[0]
    if blocks.head:
        gradients["v"] = value if problem.batched else value[0]
    return losses if problem.batched else losses[0], gradients
