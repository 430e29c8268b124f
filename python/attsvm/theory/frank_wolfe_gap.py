"""The Frank-Wolfe gap of W in a ball of a norm, in which decoupled weight decay keeps it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from attsvm._arrays import Float64Array
from attsvm._geometries import Norm
from attsvm._linalg import LowRank
from attsvm._validation import as_bool, as_positive_float
from attsvm.data.attention_data import AttentionData, as_data
from attsvm.descent import Run
from attsvm.functional import loss_and_grad
from attsvm.heads import Head
from attsvm.svm.norms import as_svm_norm
from attsvm.theory.attention_parameter import ParameterLike, as_parameter_of
from attsvm.threads import takes_threads


@takes_threads
def frank_wolfe_gap(
    data: AttentionData,
    W: ParameterLike,
    weight_decay: float,
    norm: Norm = "fro",
    *,
    loss: str = "logistic",
    head: Head | None = None,
    relative: bool = False,
    num_threads: int | None = None,
) -> float | Float64Array:
    """Compute the Frank-Wolfe gap of W in the ball N(V) <= 1/λ of a norm N.

    It is g = max <∇L(W), W - V> over the ball, <∇L(W), W> + N*(∇L(W)) / λ with the dual norm N*.
    Steps in the norm N with the decoupled `weight_decay` λ are the Frank-Wolfe method on this ball.
    For W in it g is not negative, and 0 where W meets the optimality conditions of min L there and
    nowhere else. Where L is convex, as the loss "log" is, L(W) exceeds that minimum by at most g.

    Parameters
    ----------
    data : AttentionData
        With queries where W is a matrix.
    W : array_like of shape ([B,] d, d) for W or ([B,] d) for p, Run or SVMSolution
        Of a run with a trained v, the gradient in W is that with this v.
    weight_decay : float
        λ, positive.
    norm : {"fro", "max", "l1", "spec", "nuc", "cut"} or float
        N, as in `StepRule`.
    loss, head
        L, as in `train`.
    relative : bool
        Compute g / (N*(∇L) / λ) instead, which is at most 2 in the ball and does not fall with the
        gradient; 0 where the gradient is zero.

    Returns
    -------
    float, or ndarray of shape (B,) for a batch
        Outside the ball it may be negative, in it by rounding alone, some 1e-15 N*(∇L) / λ.

    References
    ----------
    Jaggi, "Revisiting Frank-Wolfe: Projection-Free Sparse Convex Optimization", 2013, section 2;
    Xie, Li, "Implicit Bias of AdamW: l_∞ Norm Constrained Optimization", 2024.

    Examples
    --------
    Along a run, by `record`:

    >>> import attsvm
    >>> data = attsvm.datasets.unit_sphere(3, 4, 5, rng=0)
    >>> rule = attsvm.StepRule("sign", weight_decay=1.0, decay=0.5)
    >>> def gap(run):
    ...     return attsvm.theory.frank_wolfe_gap(data, run, 1.0, "max", relative=True)
    >>> run = attsvm.train(data, rule=rule, steps=1000, record=gap, record_every=500)
    >>> print(run.history["gap"].round(2))
    [1.   0.02 0.  ]
    """
    as_data(data)
    decay = as_positive_float("weight_decay", weight_decay)
    as_bool("relative", relative)
    of_ball = as_svm_norm("norm", norm)
    if isinstance(W, Run) and W.v is not None:
        data = data.with_value(W.v)
    if isinstance(W, Run) and W.prompt is not None:
        shape = (*data.labels.shape, data.d)
        data = replace(data, queries=np.broadcast_to(W.prompt[..., np.newaxis, :], shape))
        W = W.direction
    parameter = as_parameter_of("W", W, data)
    dense = parameter.matrix.dense()
    name: str = parameter.variable
    at = {name: dense.reshape(parameter.caller_shape)}
    _, gradient = loss_and_grad(data, at, loss=loss, head=head)
    G = LowRank.of_dense(gradient[name].reshape(dense.shape))
    size = of_ball.dual_of(G)
    some = size > 0
    unit = G.dense() / np.where(some, size, 1.0)[:, np.newaxis, np.newaxis]
    gaps = np.where(some, 1.0 + decay * np.sum(unit * dense, axis=(1, 2)), 0.0)
    return parameter.answer(gaps if relative else gaps * (size / decay))
