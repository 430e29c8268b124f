"""Next-token attention as an automaton: hard retrieval by priority, then soft composition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from attsvm._arrays import ArrayLike, BoolArray, Float64Array, IndexArray
from attsvm._display import Displayed
from attsvm._validation import as_float64_array, as_instance, require_all, require_shape
from attsvm.data.batch_axis import require_one_problem
from attsvm.data.next_token_data import NextTokenData, as_next_token_data
from attsvm.data.token_priorities import label_preferences, token_priorities
from attsvm.descent import Run
from attsvm.svm import SVMSolution, graph_svm
from attsvm.svm.selected_ids import id_weights
from attsvm.theory.attention_parameter import require_margins_of
from attsvm.threads import takes_threads

_TIED = 1e-6  # of margins, which are 0 or at least 1 between tokens connected by a path


@dataclass(frozen=True, eq=False, repr=False)
class Prediction(Displayed):
    """Predictions of the automaton, beside those of the attention layer.

    Attributes
    ----------
    ids : ndarray of int, shape (n,)
        The id of largest probability, first of equals.
    attention : ndarray, shape (n, T)
        Weights of the automaton: 0 at tokens that are not retrieved, and at padding.
    layer_ids, layer_attention : ndarray, shapes (n,) and (n, T)
        Those of the layer softmax(X W e_k).
    determined : ndarray of bool, shape (n,)
        True where the graphs alone determine the retrieved tokens: one component of the context has
        priority over all others in it.
    contexts : ndarray of int, shape (n, T)
    K : int
    """

    ids: IndexArray
    attention: Float64Array
    layer_ids: IndexArray
    layer_attention: Float64Array
    determined: BoolArray
    contexts: IndexArray
    K: int

    def _facts(self) -> dict[str, str]:
        return {
            "contexts": f"{self.ids.size:,}",
            "same id as the layer": f"{self.agreement:.2%}",
            "distance of attention, 0 to 1": f"{self.distance:.3g}",
            "determined by the graphs": f"{int(self.determined.sum()):,}",
        }

    def __repr__(self) -> str:
        return (
            f"Prediction({self.ids.size} contexts, agreement={self.agreement:.4g}, "
            f"distance={self.distance:.3g}, {int(self.determined.sum())} determined)"
        )

    @property
    def probabilities(self) -> scipy.sparse.csr_array:
        """Distribution of the automaton over ids, (n, K), sparse."""
        row, token = np.nonzero(self.attention)
        return scipy.sparse.csr_array(
            (self.attention[row, token], (row, self.contexts[row, token])),
            shape=(self.ids.size, self.K),
        )

    @property
    def agreement(self) -> float:
        """Share of the contexts for which automaton and layer predict the same id."""
        return float(np.mean(self.ids == self.layer_ids))

    @property
    def distance(self) -> float:
        """Mean total variation distance of their attention, from 0 to 1."""
        difference = np.abs(self.attention - self.layer_attention)
        return float(difference.sum(axis=1).mean() / 2)


@takes_threads
def predict_next(
    data: NextTokenData,
    W: ArrayLike | Run,
    *,
    training: NextTokenData | None = None,
    solution: SVMSolution | None = None,
    num_threads: int | None = None,
) -> Prediction:
    """Predict by the self-attention automaton, and compare with the layer of W.

    In the automaton of "Mechanics of Next Token Prediction with Self-Attention", of the components
    in a context the one of highest priority, given the last token, is retrieved, and its tokens are
    composed by the softmax of their logits X W e_k, which W^fin settles. Where no component has
    priority over all others, those of largest logit under the Graph-SVM are retrieved, as the layer
    does in the limit; a token that is new to the last one has logit 0 there if embeddings are
    orthonormal.

    Parameters
    ----------
    data : NextTokenData
        Contexts to predict from; a single problem. Its labels are not used.
    W : array_like of shape (d, d), or Run
        Trained W, or `finite_part`.
    training : NextTokenData, optional
        Data of the priorities, with the same embeddings; `data` by default.
    solution : SVMSolution, optional
        Graph-SVM of `training`, feasible; solved when not given.

    Returns
    -------
    Prediction

    Examples
    --------
    >>> import numpy as np
    >>> import attsvm
    >>> data = attsvm.NextTokenData(np.eye(4), [[1, 2, 3, 0], [1, 2, 0, 3]], [1, 2])
    >>> run = attsvm.train(data, lr=0.5, steps=400)
    >>> attsvm.predict_next(data, run).ids
    array([1, 2])
    """
    source = data if training is None else training
    for name, each in (("data", data), ("training", source)):
        require_one_problem(as_next_token_data(each, name), name)
    require_shape("training.embeddings", source.embeddings, "(K, d)", data.embeddings.shape)
    if solution is not None:
        as_instance("solution", solution, SVMSolution)
    if isinstance(W, Run):
        if W.W is None:
            raise ValueError("W: expected a run of W or of K and Q, got one of p")
        W = W.W
    matrix = as_float64_array("W", W, "(d, d)", shape=(data.d, data.d))
    direction = (graph_svm(source) if solution is None else solution).W
    if direction is None:
        raise ValueError("solution: expected a feasible Graph-SVM, got none")
    require_shape("solution.W", direction, "(d, d)", matrix.shape)

    if solution is not None:
        logits = logits_of_ids(source, direction, "solution.W")
        name = "data" if training is None else "training"
        require_margins_of(name, solution, logits, source.valid)
    logits = logits_of_ids(data, matrix, "W")
    priority = logits_of_ids(data, direction, "solution.W")
    retrieved = priority >= priority.max(axis=1, keepdims=True) - _TIED
    attention = np.exp(scipy.special.log_softmax(np.where(retrieved, logits, -np.inf), axis=1))
    layer = np.exp(scipy.special.log_softmax(logits, axis=1))
    return Prediction(
        ids=_largest(data, attention),
        attention=attention,
        layer_ids=_largest(data, layer),
        layer_attention=layer,
        determined=_determined(data, source),
        contexts=data.contexts,
        K=data.K,
    )


def logits_of_ids(data: NextTokenData, W: Float64Array, name: str) -> Float64Array:
    """Compute e_{x_it}' W e_k of a single problem, -inf at padding: (n, T)."""
    E: Any = data.embeddings.astype(np.float64, copy=False)
    lasts, which = np.unique(data.last, return_inverse=True)
    with np.errstate(over="ignore", invalid="ignore"):
        columns = E @ (W @ E[lasts].T)  # (K, last tokens)
    logits: Float64Array = columns[data.contexts, which[:, np.newaxis]]
    require_all(name, np.isfinite(logits) | ~data.valid, logits, "finite logits X W e_k")
    return np.where(data.valid, logits, -np.inf)


def _largest(data: NextTokenData, attention: Float64Array) -> IndexArray:
    """Return the id with the largest sum of weights in every context."""
    weights = id_weights(data, attention)
    best = weights.argmax(axis=1)
    return np.asarray(data.contexts[np.arange(data.n), best])


def _determined(data: NextTokenData, training: NextTokenData) -> BoolArray:
    """Test whether a component of the context has priority over all others, in the graphs."""
    graphs = token_priorities(training, label_preferences(training))
    last = np.broadcast_to(data.last[:, np.newaxis], data.contexts.shape)
    node = graphs.node(last, data.contexts)
    known = (node >= 0) | ~data.valid
    inside = data.valid & (node >= 0)
    component = np.full(node.shape, -1)
    component[inside] = graphs.component[node[inside]]
    determined = np.zeros(data.n, dtype=np.bool_)
    for i in np.flatnonzero(known.all(axis=1)).tolist():
        first, *others = sorted(set(component[i].tolist()) - {-1})
        determined[i] = graphs.reaches_all(first, others)
    return determined
