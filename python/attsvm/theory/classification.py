"""Classification of selected tokens: globally optimal, locally optimal, or neither."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from attsvm._arrays import BoolArray, Float64Array, IndexArray
from attsvm._geometries import Norm as NormLike
from attsvm._validation import as_instance, require_shape
from attsvm.data.attention_data import AttentionData, as_data, as_selected
from attsvm.data.batch_axis import shape_of
from attsvm.descent import Run
from attsvm.svm import SVMSolution
from attsvm.svm.norms import as_svm_norm
from attsvm.theory.attention_parameter import require_in_norm
from attsvm.theory.local_optimality import locally_optimal_inputs
from attsvm.theory.svm_of_training import SVMS, kind_of_svm
from attsvm.theory.token_scores import scores
from attsvm.threads import takes_threads


class Classification(str):
    """The kind of one selection, "global", "local" or "neither", and those of its inputs.

    Attributes
    ----------
    inputs : ndarray of str, shape (n,)
        "global" where an input selects a token of the highest score, "local" where its token
        scores more than all support indices of the input, else "neither".
    """

    inputs: npt.NDArray[np.str_]

    def __new__(cls, kind: Any, inputs: npt.NDArray[np.str_]) -> Classification:
        """Make the word of a kind."""
        word = super().__new__(cls, kind)
        word.inputs = inputs
        return word

    def __reduce__(self) -> Any:
        return Classification, (str(self), self.inputs)


class Classifications(np.ndarray[Any, np.dtype[np.str_]]):
    """The kinds of the selections of a batch, an array of str with shape (B,).

    Attributes
    ----------
    inputs : ndarray of str, shape (B, n)
        As those of a `Classification`; None of an array that is no selection of the batch.
    """

    inputs: npt.NDArray[np.str_] | None = None  # of arrays that are made of these

    def __new__(
        cls, kinds: npt.NDArray[np.str_], inputs: npt.NDArray[np.str_] | None
    ) -> Classifications:
        """View an array of kinds."""
        words = kinds.view(cls)
        words.inputs = inputs
        return words

    def __getitem__(self, key: Any) -> Any:
        """Return some of the kinds, with those of their inputs."""
        kinds = np.asarray(self)[key]
        inputs = None if self.inputs is None else self.inputs[key]
        if isinstance(kinds, np.ndarray):
            return Classifications(kinds, inputs)
        return kinds if inputs is None else Classification(kinds, inputs)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """Return what is computed of the kinds, such as ``kinds == "global"``, as any array."""
        return array[()] if return_scalar else np.asarray(array)

    def __reduce__(self) -> Any:
        return Classifications, (np.asarray(self), self.inputs)

    @property
    def counts(self) -> dict[str, int]:
        """Number of problems of each kind."""
        return {kind: int((self == kind).sum()) for kind in ("global", "local", "neither")}


@takes_threads
def classify(
    data: AttentionData,
    run: Run,
    *,
    norm: NormLike = "fro",
    solution: SVMSolution | None = None,
    num_threads: int | None = None,
) -> Classification | Classifications:
    """Classify the tokens selected by a run: globally optimal, locally optimal, or neither.

    "global"
        Every selected token has the highest score of its sequence.
    "local"
        Not global, but locally optimal (`is_locally_optimal`).
    "neither"
        Otherwise, which includes an infeasible SVM of the selected tokens.

    "Transformers as Support Vector Machines" counts these kinds.

    Parameters
    ----------
    data : AttentionData
        What was trained on, with a `value` unless v was trained.
    run : Run
        Its `selected` tokens are classified. Their SVM is `att_svm` for W and for K and Q,
        `diagonal_svm` for k and q, and `prompt_svm` for p and for W in X W p. Where v was trained
        as well, the scores are those of its final v.
    norm : {"fro", "max", "l1", "spec", "nuc", "cut"} or float
        The norm of that SVM, as in `att_svm`; local optimality depends on it. Beside `solution`
        left out, or the norm of that.
    solution : SVMSolution, optional
        That SVM, if it is already solved. Otherwise it is solved here, unless all problems are
        global.

    Returns
    -------
    Classification, or Classifications of shape (B,) for a batch
        The word, a str, with `inputs`, what each input did; of a batch an ndarray of words with
        `inputs` and `counts`, the number of problems of each kind.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[-1.0], [0.0], [1.0]]], [1], value=[1.0])
    >>> attsvm.classify(data, attsvm.train(data, parameter="p", steps=100))
    'global'

    The best tokens of two inputs lie in opposite directions, and the longer one decides:

    >>> tokens = [[[2.0], [0.0]], [[1.0], [0.0]]]
    >>> both = attsvm.AttentionData(tokens, [1, -1], value=[1.0])
    >>> outcome = attsvm.classify(both, attsvm.train(both, parameter="p", steps=100))
    >>> outcome, outcome.inputs.tolist()
    ('neither', ['global', 'neither'])
    """
    as_data(data)
    selected = as_selected("run.selected", as_instance("run", run, Run).selected, data)
    require_shape("run.attention", run.attention, *shape_of(data, "n", "T"))
    if (d := run.trained.parameter_shape[selected.ndim - 1]) != data.d:
        raise ValueError(f"run: expected one of tokens of dimension {data.d}, got {d}")
    if run.v is not None:
        data = data.with_value(run.v)
    as_svm_norm("norm", norm)
    gamma = scores(data)
    is_best = selects_best(gamma, selected)
    if solution is None and not is_best.all():
        solution = SVMS[kind_of_svm(run.parameter)](data, selected, norm=norm)
    elif solution is not None and norm != "fro":
        require_in_norm(solution, norm)
    is_local = np.zeros_like(is_best)
    if solution is not None:
        is_local = locally_optimal_inputs(data, selected, gamma, solution)
    inputs = _words(is_best, is_local)
    kinds = _words(np.all(is_best, axis=-1), np.all(is_local, axis=-1))
    return Classification(kinds, inputs) if data.batch is None else Classifications(kinds, inputs)


def selects_best(gamma: Float64Array, selected: IndexArray) -> BoolArray:
    """Return whether each input selects a token with its largest score γ, shape ([B,] n)."""
    chosen = np.take_along_axis(gamma, selected[..., np.newaxis], axis=-1)[..., 0]
    return np.asarray(chosen == gamma.max(axis=-1))


def _words(is_global: BoolArray, is_local: BoolArray) -> npt.NDArray[np.str_]:
    return np.where(is_global, "global", np.where(is_local, "local", "neither"))
