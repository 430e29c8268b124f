"""Next-token data from end to end: graphs, Graph-SVM, training, finite part and automaton."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attsvm._validation import as_float_in
from attsvm.data.batch_axis import require_one_problem
from attsvm.data.next_token_data import NextTokenData, as_next_token_data
from attsvm.descent import Run, train
from attsvm.svm import SVMSolution, graph_svm
from attsvm.theory import (
    Prediction,
    TokenPriorityGraph,
    cosine,
    cyclic_subspace,
    predict_next,
    token_priority_graphs,
)
from attsvm.theory.composition import composition, loss_of_composition


@dataclass(frozen=True, eq=False, repr=False)
class NextTokenStudy:
    """Next-token data: the predictions of theory and the result of training."""

    training: NextTokenData
    held_out: NextTokenData | None  # None if nothing was held out
    graphs: dict[int, TokenPriorityGraph]  # of the training contexts, by last token
    solution: SVMSolution  # their Graph-SVM
    finite: np.ndarray[Any, np.dtype[np.float64]]  # (d, d): W^fin
    run: Run
    loss_gap: float  # loss of the last iterate less its infimum
    finite_distance: float  # |Π(W) - W^fin|, Π the projection on the cyclic subspace
    # Of W with the Graph-SVM, ``"W"``; of its part outside the cyclic subspace with it,
    # ``"outside"``. Without those where a direction is zero.
    cosines: dict[str, float]
    # ``"training"`` and ``"held out"``: the automaton beside the trained layer.
    predictions: dict[str, Prediction]


def study_next_tokens(
    data: NextTokenData, *, held_out: float = 0.1, **training: Any
) -> NextTokenStudy:
    """Train on the first contexts, compare with theory, and predict the rest.

    The data are a single problem, every label in its context. `held_out` is the share of the
    contexts, the last ones, that training does not see: at least 0, below 1. The other options are
    those of `train`.
    """
    share = as_float_in("held_out", held_out, 0, 1, ends="[)")
    require_one_problem(as_next_token_data(data))
    kept = max(1, round(data.n * (1 - share)))
    early = np.arange(data.n) < kept
    seen = data.subset(early)
    rest = None if kept == data.n else data.subset(~early)

    solution = graph_svm(seen)
    if solution.W is None:
        raise ValueError("data: expected embeddings with a feasible Graph-SVM, got infeasible")
    space = cyclic_subspace(seen)
    composed = composition(space)
    finite = space.lift(composed)
    points = solution if solution.norm > 0 else None
    run = train(seen, reference=points, **training)
    W = run.W
    if W is None:
        raise ValueError("parameter: expected W or K and Q, got p")
    inside = space.project(W)
    cosines = {}
    for name, matrix in (("W", W), ("outside", W - inside)):
        if solution.norm > 0 and matrix.any():
            cosines[name] = cosine(matrix, solution.W)
    predictions = {"training": predict_next(seen, W, solution=solution)}
    if rest is not None:
        predictions["held out"] = predict_next(rest, W, training=seen, solution=solution)
    return NextTokenStudy(
        training=seen,
        held_out=rest,
        graphs=token_priority_graphs(seen),
        solution=solution,
        finite=finite,
        run=run,
        loss_gap=float(run.history["loss"][-1]) - loss_of_composition(space, composed),
        finite_distance=float(np.linalg.norm(inside - finite)),
        cosines=cosines,
        predictions=predictions,
    )
