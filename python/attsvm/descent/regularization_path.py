"""Regularisation paths: what attention of bounded norm does best, as the bound grows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attsvm import _core
from attsvm._arrays import ArrayLike, BoolArray, Float64Array, IndexArray
from attsvm._display import Plotted
from attsvm._linalg import LowRank
from attsvm._softmax import log_softmax
from attsvm._validation import (
    as_bool,
    as_choice,
    as_float64_array,
    as_generator,
    as_nonnegative_int,
    as_positive_float,
    as_positive_int,
    number_text,
    require_all,
    require_direction,
    require_keys,
    require_shape,
)
from attsvm.data import AttentionData, NextTokenData
from attsvm.data.attention_data import as_data
from attsvm.descent.ball import Minimum
from attsvm.descent.next_tokens import next_token_problem
from attsvm.descent.path_problem import PathProblem
from attsvm.descent.path_search import PathSearch
from attsvm.descent.references import (
    Factored,
    Reference,
    factors_of,
    name_in_call,
    named_references,
)
from attsvm.heads import Head
from attsvm.progress import bar, inside
from attsvm.threads import takes_threads

_LOSSES = tuple(name for name, loss in _core.losses.items() if loss.has_excess)
_SIZES = 1e-50, 1e50
"""Radii, and logits at most, whose products float64 holds."""


class ConvergenceWarning(RuntimeWarning):
    """A point of a path is further from stationary than was asked for."""


@dataclass(frozen=True, eq=False, repr=False)
class RegularizationPath(Plotted):
    """Minimisers on balls of increasing radius. The leading axis N is that of the radii.

    Attributes
    ----------
    parameter, loss : str
        What was varied (``"v+p"`` for v and p together), and the loss.
    radii : ndarray, shape (N,); (N, 2) for v and p
    W : ndarray, shape (N, d, d), or None
        Also where K and Q were varied: K Q'.
    p, v : ndarray, shape (N, d), or None
    K, Q : ndarray, shape (N, d, m), or None
        Of equal Frobenius norms; any K A, Q inv(A)' with orthogonal A serves as well.
    norm : ndarray, of the shape of `radii`
        What the radius bounds: |p|, |W|_F, (|K|_F² + |Q|_F²) / 2, or |v| and |p|.
    loss_value : ndarray, shape (N,)
    log_excess : ndarray, shape (N,)
        F = log(loss - infimum), the infimum that with every input on its best token. For v and p,
        and for a head that is not linear, the log of the loss. -inf where attention makes no
        difference.
    residual : ndarray, shape (N,)
        Of F as a function of the parameter x: |∇F + μ x| / |∇F| where the bound is
        reached, R |∇F| where it is not; for v and p the larger of the two blocks.
    multiplier : ndarray, of the shape of `radii`
        μ: the rate at which F falls with |x|²/2, negative if the ball has better points inside.
    interior : ndarray of bool, of the shape of `radii`
        Whether the minimiser does not reach the bound: a larger radius changes nothing.
    converged : ndarray of bool, shape (N,)
        Whether the residual is at most the tolerance and no multiplier is negative.
    iterations : ndarray of int64, shape (N,)
        Trust-region steps, all starts together.
    attention, log_attention : ndarray, shape (N, n, T)
        Softmax weights and their logarithms; 0 and -inf at padding.
    selected : ndarray of int64, shape (N, n)
        Token with the largest weight (the first of equals).
    cosines : dict of ndarray, shape (N,)
        With each given reference, under its name ("" for a single one).
    """

    parameter: str
    loss: str
    radii: Float64Array
    W: Float64Array | None
    p: Float64Array | None
    K: Float64Array | None
    Q: Float64Array | None
    v: Float64Array | None
    norm: Float64Array
    loss_value: Float64Array
    log_excess: Float64Array
    residual: Float64Array
    multiplier: Float64Array
    interior: BoolArray
    converged: BoolArray
    iterations: IndexArray
    attention: Float64Array
    log_attention: Float64Array
    selected: IndexArray
    cosines: dict[str, Float64Array]

    def cosine(self, reference: Reference, block: str | None = None) -> Any:
        """Compute the cosine (N,) of every point of the path with a direction; 0 for zero.

        `reference` is an array of the shape of one point, or an `SVMSolution`; `block` is "W", "p"
        or "v" where v and p were varied together.
        """
        return self._cosine("reference", reference, block)

    def _cosine(self, name: str, reference: Reference, block: str | None) -> Float64Array:
        blocks = {"KQ": ("W",), "v+p": ("v", "p")}.get(self.parameter, (self.parameter,))
        if block is None and len(blocks) == 1:
            block = blocks[0]
        points = getattr(self, as_choice("block", block, blocks))
        direction = _direction(name, reference, points.shape[1:])
        size = np.linalg.norm(points.reshape(len(points), -1), axis=1)
        shape = (-1, *[1] * (points.ndim - 1))
        apart = points / np.where(size > 0, size, 1.0).reshape(shape) - direction
        gap = 0.5 * np.sum(apart**2, axis=tuple(range(1, points.ndim)))
        return np.where(size > 0, 1.0 - gap, 0.0)

    _drawn_by = "path"

    def _facts(self) -> dict[str, str]:
        facts = {
            "path": f"{self.parameter}, {self.loss} loss, {self._radii()}",
            "converged": f"{int(self.converged.sum())} radii",
            "largest residual": f"{self.residual.max():.1e}",
            "log of loss less its infimum, at the end": f"{self.log_excess[-1]:.6g}",
            "norm, at the end": " and ".join(f"{x:.6g}" for x in np.atleast_1d(self.norm[-1])),
        }
        for name, cosine in self.cosines.items():
            facts[f"cosine{name and f' with {name}'}, at the end"] = f"{cosine[-1]:.9f}"
        return facts

    def _radii(self) -> str:
        low, high = (_radius_text(self.radii[j]) for j in (0, -1))
        return f"{len(self.radii)} radii from {low} to {high}"

    def __repr__(self) -> str:
        return (
            f"RegularizationPath(parameter={self.parameter!r}, loss={self.loss!r}, "
            f"{self._radii()}, {int(self.converged.sum())} converged)"
        )


@takes_threads
def regularization_path(
    data: AttentionData | NextTokenData,
    radii: ArrayLike | Mapping[str, ArrayLike],
    *,
    parameter: str | Sequence[str] = "W",
    loss: str | None = None,
    head: Head | None = None,
    inner: int | None = None,
    init: ArrayLike | Mapping[str, ArrayLike] | None = None,
    starts: int = 8,
    tol: float = 1e-9,
    max_iter: int = 500,
    reference: Reference | Mapping[str, Reference] | None = None,
    rng: int | np.random.Generator | None = 0,
    progress: bool = False,
    num_threads: int | None = None,
) -> RegularizationPath:
    """Minimise the loss of attention over balls of increasing radius.

    The points of the path are p(R) = argmin L over |p| <= R, W(R) over |W|_F <= R, (K, Q)(R) over
    |K|_F² + |Q|_F² <= 2 R, which for W = K Q' is |W|_* <= R (and rank at most `inner`), or
    (v, p)(r, R) over |v| <= r and |p| <= R.

    What is minimised is the logarithm of the excess of the loss over its infimum, which is exact
    where the loss itself has long rounded to its infimum, by Riemannian trust-region steps with
    exact second derivatives. For v and p, and for heads that are not linear, it is the logarithm of
    the loss; where its values have become equal but for rounding, their slopes decide. All points
    are found within the spans of tokens and queries, where the minimisers lie.

    The problem is not convex. At the first radius the method starts from a path of small radii
    along the negative gradient at zero, from `init`, and from random directions; at every radius
    from the minimisers found at the radius before and (not for v and p) from that of a convex
    problem with the same max-margin direction, log Σ exp(-margin of the best token). The best
    point found is returned. Promised is its residual; on the papers' toys it is the global
    minimiser, in general it may not be. Reported as not converged are, besides what
    took too many steps, minimisers on a kink of a ReLU head, and those at radii where the loss has
    come within rounding of an infimum that is reached by a mixture of tokens.

    Parameters
    ----------
    data : AttentionData or NextTokenData
        One problem, without a batch axis.
    radii : array_like, shape (N,), or a dict
        Increasing, from 1e-50 to 1e50. For v and p pairs (r, R) of shape (N, 2), or
        ``{"v": r, "p": R}`` with arrays of shape (N,) or numbers; neither may fall along the path.
        Logits |x_it| R |z_i|, and scores |x_it| r, are at most 1e50. Those above about 1e7 round by
        more than the default `tol` allows the residual, which is then about 1e-16 of them: such
        points are given with a ConvergenceWarning, and of logits above 1e15 none is stationary.
    parameter : {"W", "KQ", "p"} or ("v", "p"), also written "v+p"
    loss : {"logistic", "exponential", "correlation", "log"}
        The last two only with a linear head that stays fixed: the correlation loss is negative, the
        log loss needs token scores of 0 or more. By default "logistic", and "log" for next-token
        data.
    head : LinearScores, ReLU or Penalised, optional
        By default the linear head ``data.value``, and the attention on the label for next-token
        data. None for v and p.
    inner : int, optional
        Number m of columns of K and Q; d by default. Columns beyond the spans of tokens and queries
        are zero.
    init : array_like or dict, optional
        One more start at the first radius, of which the direction counts: of the shape of the
        parameter, or a dict by block, ``{"K": ..., "Q": ...}`` or ``{"v": ..., "p": ...}``.
    starts : int
        Number of random starts.
    tol : float
        Wanted residual.
    max_iter : int
        Largest number of trust-region steps from one start.
    reference : array_like, SVMSolution, or dict of them, optional
        Directions whose cosine with the path is computed. For v and p a dict by block.
    rng : int, numpy.random.Generator or None
        For the random starts; a fixed seed by default, so that results repeat.
    progress : bool
        Show progress when standard error is a terminal: radii, and at each the searches so far, one
        from every start, with step and residual of the last.
    num_threads : int, optional
        Threads of the core, as in `train`; NumPy, which does most of the work, has its own.

    Returns
    -------
    RegularizationPath

    Warns
    -----
    ConvergenceWarning
        Some residual is above `tol`; ``converged`` says which.

    Examples
    --------
    With two tokens the max-margin direction is that from the worse to the better one:

    >>> data = AttentionData([[[3.0, 4.0], [0.0, 0.0]]], [1], value=[1.0, 0.0])
    >>> path = regularization_path(data, [1.0, 10.0, 100.0], parameter="p", reference=[0.6, 0.8])
    >>> path.cosines[""].round(6).tolist()
    [1.0, 1.0, 1.0]
    >>> path.log_excess[-1].round(3).item()
    -501.95
    """
    name = _parameter_name(parameter)
    if loss is None:
        loss = "log" if isinstance(data, NextTokenData) else "logistic"
    as_choice("loss", loss, _LOSSES)
    if isinstance(data, NextTokenData):
        data, head = next_token_problem(data, loss, head)
    as_data(data)
    starts = as_nonnegative_int("starts", starts)
    tol = as_positive_float("tol", tol)
    max_iter = as_positive_int("max_iter", max_iter)
    as_bool("progress", progress)
    generator = as_generator("rng", rng)
    if data.batch is not None:
        raise ValueError(f"data: expected one problem, got a batch of {data.batch}")
    bounds = _radii(radii, name)
    problem = PathProblem.of(data, name, loss, head, inner)
    _require_sizes(bounds, problem.reach)
    given = None if init is None else problem.start("init", init)
    named = named_references(reference)
    if name == "v+p" and not named.keys() <= {"v", "p"}:
        require_keys("reference", named, ("v", "p"))
    shape = (data.d, data.d) if name in ("W", "KQ") else (data.d,)
    for key, one in named.items():
        _direction(name_in_call(key), one, shape)

    with bar(len(bounds), "radii", None if progress else False) as advance:
        found = []
        with inside(advance) if progress else nullcontext():
            search = PathSearch(problem, starts, tol, max_iter, generator)
            for radius in bounds:
                found.append(search.at(problem.ball(radius), given))
                advance(1)
    path = _path(problem, data, loss, bounds, found, search.iterations, tol)
    for key, one in named.items():
        path.cosines[key] = path._cosine(name_in_call(key), one, key if name == "v+p" else None)
    if not path.converged.all():
        worst = int(np.argmax(np.where(path.converged, -1.0, path.residual)))
        warnings.warn(
            f"{int((~path.converged).sum())} of {len(bounds)} radii did not converge: residual "
            f"{path.residual[worst]:.1e} at radius {_radius_text(path.radii[worst])}, wanted "
            f"{number_text(tol)}",
            ConvergenceWarning,
            stacklevel=3,  # that of the caller of what `takes_threads` makes
        )
    return path


def _path(
    problem: PathProblem,
    data: AttentionData,
    loss: str,
    bounds: Float64Array,
    found: list[Minimum | None],
    iterations: list[int],
    tol: float,
) -> RegularizationPath:
    size, blocks = sum(problem.sizes), len(problem.sizes)
    points = [np.zeros(size) if one is None else one.point for one in found]
    lifted = [problem.lifted(x) for x in points]
    log_attention = np.stack([log_softmax(problem.logits(x), 1) for x in points])

    def column(of: Callable[[Minimum], Any], otherwise: Any) -> NDArray[Any]:
        values = np.array([otherwise if one is None else of(one) for one in found])
        return values[:, 0] if values.ndim == 2 and blocks == 1 else values

    log_excess = column(lambda one: one.at.value, -np.inf)
    residual = column(lambda one: one.residual, 0.0)
    multiplier = column(lambda one: one.multiplier, np.zeros(blocks))
    converged = (residual <= tol) & (multiplier.reshape(len(found), -1) >= 0).all(axis=1)
    parts = np.split(np.stack(points), np.cumsum(problem.sizes)[:-1], axis=1)
    norm = np.stack([np.linalg.norm(part, axis=1) for part in parts], axis=1)
    if problem.parameter == "KQ":
        norm = 0.5 * norm**2
    return RegularizationPath(
        parameter=problem.parameter,
        loss=loss,
        radii=bounds if blocks > 1 else bounds[:, 0],
        **{
            block: np.stack([one[block] for one in lifted]) if block in lifted[0] else None
            for block in ("W", "p", "K", "Q", "v")
        },
        norm=norm if blocks > 1 else norm[:, 0],
        loss_value=problem.infimum + np.exp(log_excess),
        log_excess=log_excess,
        residual=residual,
        multiplier=multiplier,
        interior=column(lambda one: one.interior, np.ones(blocks, dtype=bool)),
        converged=converged,
        iterations=np.array(iterations, dtype=np.int64),
        attention=np.exp(log_attention),
        log_attention=log_attention,
        selected=np.argmax(log_attention, axis=2),
        cosines={},
    )


def _radius_text(radius: Any) -> str:
    return " and ".join(map(number_text, np.atleast_1d(radius)))


def _parameter_name(parameter: Any) -> str:
    if isinstance(parameter, Sequence) and not isinstance(parameter, str):
        if set(parameter) == {"v", "p"} and len(parameter) == 2:
            return "v+p"
        raise ValueError(f"parameter: expected ('v', 'p') for a tuple, got {tuple(parameter)!r}")
    return as_choice("parameter", parameter, ("p", "W", "KQ", "v+p"))


def _radii(radii: Any, parameter: str) -> Float64Array:
    """Check radii, and return them (N, blocks)."""
    if parameter == "v+p":
        if isinstance(radii, Mapping):
            require_keys("radii", radii, ("v", "p"))
            columns = [
                np.atleast_1d(
                    as_float64_array(f"radii[{block!r}]", radii[block], "(N,)", ndim=(0, 1))
                )
                for block in ("v", "p")
            ]
            sizes = [column.size for column in columns]
            if min(sizes) != max(sizes) and min(sizes) != 1:
                raise ValueError(f"radii: expected equally many for 'v' and 'p', got {sizes}")
            bounds = np.stack(np.broadcast_arrays(*columns), axis=1)
        else:
            bounds = as_float64_array("radii", radii, "(N, 2)", ndim=2)
            require_shape("radii", bounds, "(N, 2)", (len(bounds), 2))
    else:
        if isinstance(radii, Mapping):
            raise TypeError("radii: expected an array, got a dict, which is for ('v', 'p')")
        bounds = as_float64_array("radii", radii, "(N,)", ndim=1)[:, np.newaxis]
    if bounds.min() <= 0:
        raise ValueError(f"radii: expected positive numbers, got {number_text(bounds.min())}")
    steps = np.diff(bounds, axis=0)
    if (steps < 0).any() or (steps.max(axis=1, initial=-1.0) <= 0).any():
        raise ValueError(f"radii: expected them increasing, got {np.squeeze(bounds).tolist()}")
    return np.array(bounds)


def _require_sizes(bounds: Float64Array, reach: float) -> None:
    """Raise `ValueError` at a radius of which float64 does not hold what is computed from it."""
    low, high = _SIZES
    radii = bounds if bounds.shape[1] > 1 else bounds[:, 0]
    wanted = f"numbers from {low} to {high}"
    require_all("radii", (low <= radii) & (radii <= high), radii, wanted)
    made = radii * reach
    what = "scores |x_it| r and logits |x_it| R" if radii.ndim > 1 else "logits |x_it| R |z_i|"
    # The norms of unit vectors round to above 1.
    require_all("radii", made <= high * (1 + 1e-9), made, f"{what} of at most {high}")


def _direction(name: str, reference: Reference, shape: tuple[int, ...]) -> Float64Array:
    """Return the reference as a unit vector of `shape`."""
    if isinstance(reference, Factored):
        product = LowRank(*factors_of(name, reference)).dense()
        array = product[:, 0] if len(shape) == 1 and product.ndim == 2 else product
    else:
        text = "(d, d)" if len(shape) == 2 else "(d,)"
        array = as_float64_array(name, reference, text, ndim=len(shape))
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    require_direction(name, array.any())
    unit: Float64Array = array / np.abs(array).max()
    return unit / np.linalg.norm(unit)
