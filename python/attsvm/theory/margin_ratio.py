"""The margin of a W over the largest margin of its norm, which needs no unique SVM solution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from attsvm import _core
from attsvm._arrays import ArrayLike, Float64Array, IndexArray
from attsvm._geometries import Norm as NormLike
from attsvm._geometries import listed
from attsvm._linalg import LowRank
from attsvm._validation import as_instance, require_direction, require_shape
from attsvm.data.attention_data import (
    AttentionData,
    as_data,
    as_selected,
    other_tokens,
    token_differences,
)
from attsvm.data.batch_axis import shape_of
from attsvm.descent import Run
from attsvm.svm import SVMSolution, att_svm, prompt_svm
from attsvm.svm.norms import Norm, as_svm_norm
from attsvm.theory.attention_parameter import (
    AttentionParameter,
    ParameterLike,
    as_parameter_of,
    require_in_norm,
)
from attsvm.theory.certified_cosine import scaled_multipliers
from attsvm.theory.separation import logit_differences
from attsvm.theory.token_scores import scores
from attsvm.threads import takes_threads

_ROUNDING = 1e-5
"""How much the smallest margin of a solution may differ from that of its W in float64."""


@takes_threads
def margin_ratio(
    data: AttentionData,
    W: ParameterLike,
    selected: ArrayLike,
    norm: NormLike = "fro",
    *,
    solution: SVMSolution | None = None,
    num_threads: int | None = None,
) -> float | Float64Array:
    """Compute the margin of the direction of W over the largest margin of its norm.

    It is ν min (x_iα - x_it)' W z_i / N(W), with ν the norm of the solution of the SVM in the norm
    N, so that 1 / ν is the largest margin that a W of norm 1 has. It is 1 for the directions of all
    solutions, be they one or many, and for nothing else; positive where W separates the selected
    tokens; and it does not depend on the size of W.

    Parameters
    ----------
    data : AttentionData
        With queries where W is a matrix.
    W : array_like of shape ([B,] d, d) for W or ([B,] d) for p, Run or SVMSolution
        Of any size but zero. Of a run of the logits X W p it is W p, as p of X p.
    selected : array_like of int, shape ([B,] n)
        Tokens α.
    norm : {"fro", "max", "l1", "spec", "nuc", "cut"} or float
        N, as in `att_svm`. The cut norm of W is itself a linear program, of d² constraints.
    solution : SVMSolution, optional
        That of `att_svm` (`prompt_svm` for p) of these data and tokens in this norm, if it is
        already solved; that of `diagonal_svm` for the largest margin of diagonal W.

    Returns
    -------
    float, or ndarray of shape (B,) for a batch
        At most 1, up to rounding and the gap of the solution. NaN where the SVM is infeasible; -inf
        when no input has another token to be separated from: the solution is then W = 0, which has
        no direction.

    References
    ----------
    Fan, Schmidt, Thrampoulidis, "Implicit Bias of Spectral Descent and Muon on Multiclass Separable
    Data", 2025: margin gaps of optimisers in their norms.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    >>> W = [[1.0, 0.0], [0.0, 0.0]]
    >>> [round(attsvm.margin_ratio(data, W, [0], norm), 6) for norm in ("max", "fro", "l1")]
    [0.5, 0.707107, 1.0]
    """
    alpha = as_selected("selected", selected, as_data(data))
    parameter, made_small = as_parameter_of("W", W, data), as_svm_norm("norm", norm)
    smallest = _smallest_margin(data, parameter, alpha, made_small)
    best = _smallest_norm(data, parameter.variable, alpha, norm, solution)
    return parameter.answer(_ratio(best, smallest))


@takes_threads
def margin_ratios(
    data: AttentionData,
    run: Run,
    norms: NormLike | Sequence[NormLike] = ("fro", "max", "l1", "spec", "nuc"),
    selected: ArrayLike | None = None,
    *,
    num_threads: int | None = None,
) -> dict[NormLike, Float64Array]:
    """Compute the `margin_ratio` of every recorded iterate of a run, in several norms.

    One SVM is solved per norm, that of the tokens selected at the end.

    Parameters
    ----------
    data : AttentionData
        That of the run.
    run : Run
        Of ``train(record="W")``, or of ``train(record="p")`` where p was trained.
    norms : {"fro", "max", "l1", "spec", "nuc", "cut"}, float, or sequence of them
    selected : array_like of int, shape ([B,] n), optional
        Tokens α; by default those that the run selects at its end.

    Returns
    -------
    dict of ndarray, shape ([B,] R)
        By norm, the ratio at each of the steps ``run.history["step"]``. The zero iterate points
        nowhere and has ratio 0. NaN where the SVM is infeasible, -inf where no input has another
        token to be separated from.

    Examples
    --------
    Steps along signs go to the largest margin in the max norm:

    >>> import attsvm
    >>> data = attsvm.datasets.unit_sphere(3, 4, 5, rng=0)
    >>> run = attsvm.train(data, rule="sign", steps=1000, record="W", record_every=500)
    >>> for norm, ratios in attsvm.margin_ratios(data, run, ("max", "fro")).items():
    ...     print(norm, ratios.round(2))
    max [0.   0.98 0.99]
    fro [0.   0.76 0.77]
    """
    as_instance("run", run, Run)
    recorded = run.trained.blocks.direction
    iterates = run.history.get(recorded)
    if iterates is None:
        raise ValueError(f"run: expected one of train(record={recorded!r}), got no iterates")
    names = listed(norms)
    made_small = {norm: as_svm_norm("norms", norm) for norm in names}
    alpha = as_selected("selected", run.selected if selected is None else selected, as_data(data))
    margins: dict[NormLike, list[Float64Array]] = {norm: [] for norm in names}
    if run.prompt is not None:
        iterates = (iterates @ run.prompt[..., np.newaxis, :, np.newaxis])[..., 0]
    for iterate in np.moveaxis(iterates, run.selected.ndim - 1, 0):
        parameter = as_parameter_of("run", iterate, data)
        unit = parameter.unit()
        least, moved = _least(unit, data, alpha), parameter.matrix.norm() > 0
        for norm, each in made_small.items():
            margins[norm].append(least / np.where(moved, each.of(unit.matrix), 1.0))
    answers = {}
    for norm in names:
        best = _smallest_norm(data, parameter.variable, alpha, norm)
        ratios = _ratio(best[:, np.newaxis], np.stack(margins[norm], axis=1))
        answers[norm] = ratios.reshape(*data.labels.shape[:-1], -1)
    return answers


@takes_threads
def certified_margin_ratio(
    data: AttentionData,
    W: ParameterLike,
    selected: ArrayLike,
    norm: NormLike = "fro",
    *,
    dual: ArrayLike | SVMSolution | None = None,
    num_threads: int | None = None,
) -> float | Float64Array:
    """Compute a lower bound of `margin_ratio`, certified without solving the SVM.

    By weak duality any multipliers λ >= 0 prove that a W of norm 1 has no margin above N*(G) / Σ
    λ_it, with G = Σ λ_it (x_iα - x_it) z_i' and the dual norm N*. The bound is the margin of W over
    it. A run has such multipliers in its last gradient: |l'_i| s_it (γ_iα - γ_it)₊, from its
    softmax weights s and the token scores γ. In the norm of its own optimiser the bound then tends
    to 1.

    Parameters
    ----------
    data : AttentionData
        With queries where W is a matrix; with a `value` where `dual` is not given, unless the run
        trained v.
    W, selected, norm
        As of `margin_ratio`.
    dual : array_like of shape ([B,] n, T), or SVMSolution, optional
        λ, of any scale. What it has at the selected tokens and at padding is not used. By default
        those of the run that `W` is.

    Returns
    -------
    float, or ndarray of shape (B,) for a batch
        -inf, the bound that always holds, where there is no certificate: W does not separate,
        λ = 0, or no constraints at all.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData(
    ...     [[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]], value=[1.0, 0.0]
    ... )
    >>> run = attsvm.train(data, steps=100)
    >>> round(attsvm.certified_margin_ratio(data, run, run.selected), 12)
    1.0
    """
    alpha = as_selected("selected", selected, as_data(data))
    parameter, made_small = as_parameter_of("W", W, data), as_svm_norm("norm", norm)
    smallest = _smallest_margin(data, parameter, alpha, made_small)
    if dual is None:
        if not isinstance(W, Run):
            raise ValueError("dual: expected multipliers where W is not a run, got None")
        dual = _multipliers_of_run(data, W, alpha)
    weights = scaled_multipliers(dual, data, other_tokens(data, alpha))
    differences = token_differences(data.batched(), alpha.reshape(-1, data.n))
    sums = (weights[..., np.newaxis, :] @ differences)[..., 0, :]
    size = made_small.dual_of(LowRank(sums, parameter.queries(data)))
    exists = np.isfinite(smallest) & (smallest > 0) & (size > 0)
    bound = weights.sum(axis=(1, 2)) / np.where(exists, size, 1.0)
    least = np.where(exists, smallest, 0.0)
    return parameter.answer(np.where(exists, least * bound, -np.inf))


@takes_threads
def nuclear_suboptimality(
    W: ParameterLike,
    data: AttentionData,
    selected: ArrayLike,
    solution: SVMSolution,
    *,
    num_threads: int | None = None,
) -> float | Float64Array:
    """Compute by how much the margin of W falls short of the largest one in the nuclear norm.

    It is 1 less the `margin_ratio` in the nuclear norm: 0 in the direction of each solution of the
    nuclear-norm SVM, which may be many, and of nothing else, and below 1 where W separates the
    selected tokens.

    For a value ε < 1, W scaled to margins of 1 meets all constraints and its norm is ν / (1 - ε),
    where a solution has ν. And with the multipliers λ of the solution, G = Σ λ_it (x_iα - x_it)
    z_i' and |G|_op = 1, it is 1 - <G, W> / |W|_* <= ε: the directions for which this is 0 are the
    face of the nuclear ball on which all solutions lie ("Transformers as Support Vector Machines").

    Parameters
    ----------
    W, data, selected
        As of `margin_ratio`, W a matrix.
    solution : SVMSolution
        ``att_svm(data, selected, norm="nuc")``.

    Returns
    -------
    float, or ndarray of shape (B,) for a batch
        NaN where the SVM is infeasible. At a solution, rounding and the gap of `solution` may leave
        a small negative number. inf when no input has another token to be separated from: the
        solution is then W = 0, which has no direction.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    >>> solution = attsvm.att_svm(data, [0], norm="nuc")
    >>> W = [[1.0, 0.0], [0.0, 0.0]]
    >>> round(attsvm.nuclear_suboptimality(W, data, [0], solution), 6)
    0.292893
    """
    as_data(data)
    as_instance("solution", solution, SVMSolution)
    if as_parameter_of("W", W, data).variable != "W":
        raise ValueError("W: expected W, got p")
    return 1 - margin_ratio(data, W, selected, "nuc", solution=solution)


def _smallest_margin(
    data: AttentionData, parameter: AttentionParameter, alpha: IndexArray, norm: Norm
) -> Float64Array:
    """Compute the smallest margin of W / N(W), shape (B,); inf where there are no margins."""
    unit = parameter.unit()
    size = norm.of(unit.matrix)
    require_direction("W", ((size > 0) | ~parameter.exists).reshape(data.labels.shape[:-1]))
    with np.errstate(invalid="ignore"):
        return _least(unit, data, alpha) / size


def _least(parameter: AttentionParameter, data: AttentionData, alpha: IndexArray) -> Float64Array:
    """Compute the smallest margin, shape (B,); inf where there are none."""
    values = logit_differences(parameter, data, alpha)
    constrained = other_tokens(data, alpha).reshape(values.shape)
    return np.asarray(np.where(constrained, values, np.inf).min(axis=(1, 2)))


def _smallest_norm(
    data: AttentionData,
    variable: Literal["W", "p"],
    alpha: IndexArray,
    norm: NormLike,
    solution: SVMSolution | None = None,
) -> Float64Array:
    """Return the norm of the solution, solved or given, shape (B,); NaN where there is none."""
    if solution is None:
        solution = (att_svm if variable == "W" else prompt_svm)(data, alpha, norm=norm)
    else:
        _require_solution_of(data, variable, alpha, norm, solution)
    optimal = np.asarray(solution.status) == "optimal"
    return np.atleast_1d(np.where(optimal, solution.norm, np.nan))


def _require_solution_of(
    data: AttentionData,
    variable: Literal["W", "p"],
    alpha: IndexArray,
    norm: NormLike,
    solution: SVMSolution,
) -> None:
    """Refuse what is not the solution of the SVM of these data and tokens in this norm."""
    status = np.asarray(as_instance("solution", solution, SVMSolution).status)
    require_shape("solution.status", status, *shape_of(data))
    if solution.margins is None:
        return
    optimal = np.atleast_1d(status == "optimal")
    others = other_tokens(data, alpha)
    same = np.isfinite(solution.margins).reshape(others.shape) == others
    if not np.atleast_1d(same.all(axis=(-2, -1)))[optimal].all():
        raise ValueError("solution: expected the SVM of `selected`")
    direction = as_parameter_of("solution", solution, data)
    if direction.variable != variable:
        raise ValueError(f"solution: expected {variable}, got {direction.variable}")
    require_in_norm(solution, norm)
    least = _least(direction, data, alpha)
    # An extended one meets its constraints with digits that margins computed here do not have.
    known = optimal & np.isfinite(least) & (np.asarray(solution.solver) != "extended")
    if not np.isclose(least, 1.0, rtol=0, atol=_ROUNDING)[known].all():
        raise ValueError("solution: expected that of `data`, got one with other margins there")


def _ratio(best: Float64Array, smallest: Float64Array) -> Float64Array:
    """Multiply the norms of solutions and smallest margins; -inf where there are no margins."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isposinf(smallest), -np.inf, best * smallest)


def _multipliers_of_run(data: AttentionData, run: Run, alpha: IndexArray) -> Float64Array:
    """Compute |l'_i| s_it (γ_iα - γ_it)₊ of the final weights s, over the largest."""
    gamma = scores(data if run.v is None else data.with_value(run.v))
    chosen = np.take_along_axis(gamma, alpha[..., np.newaxis], axis=-1)
    above = other_tokens(data, alpha) & (gamma < chosen)
    log_slope = _core.losses[run.loss].log_slope(chosen)
    logs = np.where(above, log_slope + run.log_attention, -np.inf)
    largest = logs.max(axis=(-2, -1), keepdims=True)
    relative = np.exp(logs - np.where(np.isfinite(largest), largest, 0.0))
    return np.where(above, (chosen - np.where(above, gamma, 0.0)) * relative, 0.0)
