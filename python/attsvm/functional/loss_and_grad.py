"""Loss of attention and its gradient."""

from __future__ import annotations

from collections.abc import Mapping

from attsvm import _core
from attsvm._arrays import ArrayLike, Float64Array
from attsvm._validation import as_choice, read_array
from attsvm.data.attention_data import AttentionData, as_data
from attsvm.descent.blocks import Blocks
from attsvm.descent.problem import CoreProblem
from attsvm.heads import Head, require_largest_score
from attsvm.threads import thread_count

_ATTENTION = {
    frozenset(Blocks(name).names): name
    for name, kind in _core.parameterisations.items()
    if kind.queries != "prompt"
}
"""Parameterisations by the names of their blocks."""


def loss_and_grad(
    data: AttentionData,
    parameters: Mapping[str, ArrayLike],
    *,
    loss: str = "logistic",
    head: Head | None = None,
    num_threads: int | None = None,
) -> tuple[Float64Array, dict[str, Float64Array]]:
    """Compute the mean loss of attention, and its gradient.

    Parameters
    ----------
    data : AttentionData
        One problem, or a batch of B of them.
    parameters : dict
        ``{"W": W}`` with W of shape ([B,] d, d); ``{"K": K, "Q": Q}`` with factors of shape
        ([B,] d, m) of W = K Q'; ``{"k": k, "q": q}``; ``{"p": p}`` with p of shape ([B,] d); or
        ``{"W": W, "p": p}``, for the logits X W p. With ``"v": v`` of shape ([B,] d) in it, v is
        the head, and a parameter like the others.
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
    """
    as_data(data)
    if not isinstance(parameters, Mapping):
        raise TypeError(f"parameters: expected a dict, got {type(parameters).__name__}")
    attention = _ATTENTION.get(frozenset(name for name in parameters if name != "v"))
    if attention is None:
        known = ", or ".join(" and ".join(map(repr, sorted(names))) for names in _ATTENTION)
        raise ValueError(
            f"parameters: expected the keys {known}, and perhaps 'v', "
            f"got {sorted(map(str, parameters))}"
        )
    blocks = Blocks(attention, "v" in parameters)
    as_choice("loss", loss, _core.losses)
    threads = thread_count(num_threads)
    of_v = "parameters['v']"
    v = read_array(of_v, parameters["v"]) if blocks.head else None
    problem = CoreProblem.of(
        data, blocks, head, loss, value=v, value_name=of_v, dtype=None, threads=threads, passes=1
    )
    own = {block.name: parameters[block.name] for block in blocks.kind.blocks}
    losses, largest_score, of_blocks, value = _core.loss_and_gradient(
        problem=problem.to_core(),
        at=problem.to_core_parameters(problem.coordinates.as_blocks("parameters", own)),
        loss=_core.losses[loss],
        threads=threads,
    )
    require_largest_score("value", largest_score, loss)
    coordinates = problem.coordinates
    gradients = coordinates.as_caller_blocks(of_blocks, None)
    if blocks.head:
        gradients["v"] = value
    return coordinates.answer(losses), {k: coordinates.answer(g) for k, g in gradients.items()}
