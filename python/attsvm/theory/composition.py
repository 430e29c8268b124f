"""Composition of tokens inside components: the minimiser of the next-token loss on S_fin."""

from __future__ import annotations

import numpy as np
import scipy

from attsvm._arrays import BoolArray, Float64Array, IndexArray
from attsvm._softmax import logsumexp
from attsvm.data.next_token_data import NextTokenData, as_next_token_data
from attsvm.svm import SolverError
from attsvm.theory.cyclic_subspace import CyclicSubspace, cyclic_subspace, inside_components
from attsvm.threads import takes_threads

_MOST_STEPS = 200
_FINISHED = 1e-13
_ROUNDING = 1e-15  # of the decrement, where steps no longer shrink
_SHRINKS = 1e-4


def next_token_finite_part(data: NextTokenData) -> Float64Array:
    """Compute W^fin of a single problem, (d, d)."""
    space = cyclic_subspace(data)
    return space.lift(composition(space))


@takes_threads
def optimal_loss(data: NextTokenData, *, num_threads: int | None = None) -> float | Float64Array:
    """Compute the infimum of the next-token loss.

    The loss is the mean of -log Σ_{t: x_it = y_i} softmax(X_i W e_k)_t. Its infimum is the loss of
    W^fin on the cyclic sub-dataset: that of other contexts goes to zero ("Mechanics of Next Token
    Prediction with Self-Attention"). It is a `SolverError` where Newton's method does not end.

    Parameters
    ----------
    data : NextTokenData
        Every label in its context: elsewhere the loss is infinite.

    Returns
    -------
    float, or ndarray of shape (B,) for a batch

    Examples
    --------
    >>> import numpy as np
    >>> import attsvm
    >>> data = attsvm.NextTokenData(np.eye(3), [[1, 2, 0], [1, 2, 0]], [1, 2])
    >>> bool(np.isclose(attsvm.theory.optimal_loss(data), np.log(2)))
    True
    """
    missing = int(np.sum(~as_next_token_data(data).realizable))
    if missing:
        raise ValueError(f"data: expected every label in its context, got {missing} that are not")
    spaces = [cyclic_subspace(problem) for problem in data.problems()]
    losses = [loss_of_composition(space, composition(space)) for space in spaces]
    return losses[0] if data.batch is None else np.array(losses)


def loss_of_composition(space: CyclicSubspace, values: Float64Array) -> float:
    """Compute the loss of the cyclic sub-dataset, over all contexts, at logits of S_fin's nodes."""
    data = space.data
    kept, inside = inside_components(data, space.graphs)
    if not kept.any():
        return 0.0
    logits = _logits(space, inside, values)[kept]
    of_label = np.where(data.label_scores[kept] > 0, logits, -np.inf)
    return float(np.sum(logsumexp(logits, axis=1) - logsumexp(of_label, axis=1)) / data.n)


def composition(space: CyclicSubspace) -> Float64Array:
    """Compute the logits e_j' W^fin e_k of the nodes of S_fin, up to a constant of each component.

    Where embeddings are linearly independent the differences inside components are free, and every
    component is a separate problem; else W has coordinates in S_fin. The loss is strictly convex
    either way, and goes to infinity with the differences, as every edge is on a cycle.
    """
    data, graphs = space.data, space.graphs
    kept, inside = inside_components(data, graphs)
    if not kept.any():
        return np.zeros(0)
    place = _places(space, inside)[kept]
    label = place[np.arange(len(place)), np.argmax(data.label_scores[kept] > 0, axis=1)]
    if not space.free:
        return space.features @ _newton(place, label, space.nodes.size, space.features)
    values = np.zeros(space.nodes.size)
    of_component = space.component[label]
    order = np.argsort(of_component, kind="stable")
    for contexts in np.split(order, np.flatnonzero(np.diff(of_component[order])) + 1):
        nodes = np.flatnonzero(space.component == of_component[contexts[0]])
        rows = place[contexts]
        local = np.where(rows >= 0, np.searchsorted(nodes, rows), -1)
        # The values of one component count from their mean.
        values[nodes] = _newton(local, np.searchsorted(nodes, label[contexts]), nodes.size, None)
    return values


def _places(space: CyclicSubspace, inside: BoolArray) -> IndexArray:
    """Return the index in the nodes of S_fin of tokens inside components, -1 for others: (n, T)."""
    data = space.data
    last = np.broadcast_to(data.last[:, np.newaxis], data.contexts.shape)
    places = np.full(data.contexts.shape, -1, dtype=np.int64)
    nodes = space.graphs.node(last[inside], data.contexts[inside])
    places[inside] = np.searchsorted(space.nodes, nodes)
    return places


def _logits(space: CyclicSubspace, inside: BoolArray, values: Float64Array) -> Float64Array:
    places = _places(space, inside)
    return np.where(places >= 0, values[places], -np.inf)


def _newton(
    place: IndexArray, label: IndexArray, size: int, features: Float64Array | None
) -> Float64Array:
    """Minimise Σ_i log Σ_t exp(θ_{place it}) - θ_{label i}, by damped Newton steps from zero.

    `place` (m, T) are coordinates of θ in 0..size-1, -1 where there is none. With `features`
    (size, r) θ is features α and the result α; without them the result is θ, of mean zero.
    """
    rows, often = np.unique(
        np.column_stack([label, np.sort(place, axis=1)]), axis=0, return_counts=True
    )
    label, place = rows[:, :1], rows[:, 1:]
    present = place >= 0
    at = np.where(present, place, 0)
    other = present & (place != label)
    row = np.broadcast_to(np.arange(len(place))[:, np.newaxis], place.shape)

    def logits(x: Float64Array) -> Float64Array:
        theta = x if features is None else features @ x
        return np.where(present, theta[at] - theta[label], -np.inf)

    def loss(x: Float64Array) -> float:
        return float(often @ logsumexp(logits(x), axis=1))

    x = np.zeros(size if features is None else features.shape[1])
    value, before = loss(x), np.inf
    for _ in range(_MOST_STEPS):
        a = logits(x)
        weights = np.exp(a - logsumexp(a, axis=1, keepdims=True))
        counted = often[:, np.newaxis] * weights
        expected = np.bincount(at[present], weights=counted[present], minlength=size)
        matrix = scipy.sparse.csr_array(
            ((np.sqrt(often)[:, np.newaxis] * weights)[present], (row[present], at[present])),
            shape=(len(place), size),
        )
        hessian = np.diag(expected) - (matrix.T @ matrix).toarray()
        # 1 minus the weight of the label is the sum of the other weights, which does not cancel.
        lacking = np.where(other, counted, 0.0)
        lack = np.bincount(label[:, 0], weights=lacking.sum(axis=1), minlength=size)
        gradient = np.bincount(at[other], weights=counted[other], minlength=size) - lack
        if features is None:
            hessian += expected.mean() / size  # along the constants, where nothing changes
        else:
            gradient = features.T @ gradient
            hessian = features.T @ hessian @ features
        step = -np.linalg.solve(hessian, gradient)
        decrement = -float(gradient @ step)
        length = float(np.abs(step).max())
        if length <= _FINISHED * max(1.0, float(np.abs(x).max())) or (
            decrement <= _ROUNDING * max(1.0, value) and length >= before / 2
        ):
            end: Float64Array = x + step
            return end if features is not None else end - end.mean()
        before = length
        share = 1.0
        while True:
            tried = loss(x + share * step)
            # Where the change is below the rounding of the loss, the whole step is right.
            if tried <= value - _SHRINKS * share * decrement or decrement <= 1e-10 * max(1, value):
                break
            share /= 2
        x, value = x + share * step, tried
    raise SolverError(f"finite_part: Newton's method left a step of {length:.1e}")
