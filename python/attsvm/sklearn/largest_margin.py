"""The hyperplane of the largest margin between two classes, certified.

Everything is solved by the SVMs of `attsvm.svm`. Without an intercept that is the label SVM. With
one, a class boundary w'x + b, take a sample k that is a support vector, so that
b = y_k - w'x_k. What is left of the constraints is

    y_k w'(x_i - x_k) >= 0   for the samples of k's class,
    y_k w'(x_k - x_i) >= 2   for those of the other.

This restricts the problem to k on the margin; where the multiplier of k, Σ_others λ - Σ_own λ,
comes out negative, k is no support vector. The restricted solution is then not optimal in the
problem of any of its support vectors, so that |w| falls with each change of k, no k is tried twice,
and the search ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

import numpy as np
from numpy.typing import NDArray

from attsvm._arrays import FloatArray
from attsvm.sklearn.slack import SMALLEST_PENALTY, beyond_float64, fallback_penalty, too_hard
from attsvm.svm import SolverError
from attsvm.svm.solve import solve
from attsvm.svm.solvers import EXTENDED, OPTIMALITY_TOLERANCE
from attsvm.svm.svm_problem import SvmProblem, row_problem

_SIZES = (1e-140, 1e140)
"""Samples between these have multipliers, of the order of 1/|x|², that float64 holds."""
_EPS = float(np.finfo(np.float64).eps)
_SHORT = 5e-10  # of a margin of 1
_OUTWEIGHED = 1e-8  # distance of two samples, relative to a column, from which this may hide it
_Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Hyperplane:
    """The smallest w with y_i (w'x_i + b) >= 1."""

    w: _Array  # (d,)
    b: float
    dual: _Array  # (n,): multipliers λ >= 0, w = Σ λ_i y_i x_i, and Σ λ_i y_i = 0 where b is free
    gap: float  # relative duality gap
    kkt: float  # largest residual of the optimality conditions


@dataclass(frozen=True, eq=False)
class NotSeparable:
    """No w and b reach a margin."""

    # (n,): λ >= 0 of sum 1 with Σ λ_i y_i x_i = 0, and Σ λ_i y_i = 0 where b is free: a point that
    # the convex hulls of both classes share.
    certificate: _Array


@dataclass(frozen=True, eq=False)
class Separation:
    """A hyperplane with a hard margin, or the soft margin that takes its place."""

    w: _Array  # (d,)
    plane: Hyperplane  # with the coordinates of the slack in its w where the margin is soft
    slack: _Array  # (n,): ξ_i
    C: float  # inf where the margin is hard
    # (n,): The proof that no hard margin exists, where C = inf was to be solved.
    certificate: _Array | None


def separation(
    samples: FloatArray, signs: FloatArray, C: float, *, intercept: bool, weights: _Array
) -> Separation:
    """Compute the hyperplane of penalty C, or where C = inf has none that of `fallback_penalty`.

    Slack of a sample costs C times its positive weight. Samples whose squares leave float64 are a
    `ValueError`; where no answer could be certified, a `SolverError` is raised.
    """
    X, y = np.asarray(samples, dtype=np.float64), np.asarray(signs, dtype=np.float64)
    _require_squares(X, intercept)
    certificate = None
    if np.isinf(C):
        answer = largest_margin(X, y, intercept=intercept)
        if isinstance(answer, Hyperplane):
            return Separation(answer.w, answer, np.zeros(y.size), C, None)
        certificate = answer.certificate
        mean = np.average(X, axis=0, weights=weights)
        C = fallback_penalty(X - mean if intercept else X, weights)
    penalties = C * weights
    if not penalties.min() >= SMALLEST_PENALTY:
        raise ValueError(
            f"sample_weight: expected weights of which C times the smallest is at least "
            f"{SMALLEST_PENALTY}, got {weights.min()} with C = {C}"
        )
    widened = _with_slack(X, y, penalties)
    try:
        soft = largest_margin(widened, y, intercept=intercept)
    except SolverError as error:
        raise too_hard(C) from error
    if not isinstance(soft, Hyperplane):
        raise too_hard(C)
    d = X.shape[1]
    return Separation(soft.w[:d], soft, soft.w[d:] / np.sqrt(penalties), C, certificate)


def _require_squares(X: _Array, intercept: bool) -> None:
    """Check sizes; samples that are all zero, or the same where b is free, have none and pass."""
    smallest, largest = _SIZES
    size = float(np.abs(X).max())
    if size <= largest and intercept:
        size = float(np.abs(X - X.mean(axis=0)).max())
    if not (size == 0 or smallest <= size <= largest):
        of = "differences from their mean" if intercept else "entries"
        raise ValueError(
            f"X: expected samples with the largest of their {of} between {smallest} and "
            f"{largest}, whose squares float64 holds, got {size}; scale them first"
        )


def largest_margin(X: _Array, y: _Array, *, intercept: bool) -> Hyperplane | NotSeparable:
    """Separate the samples X (n, d) of sign y (n,), both signs among them."""
    if intercept:
        return _with_intercept(X, y)
    rows, rhs = (y[:, np.newaxis] * X)[np.newaxis], np.ones((1, y.size))
    solution = solve("v", row_problem(rows, rhs, np.zeros(rhs.shape, dtype=np.bool_)), batch=None)
    if solution.certificate is not None:
        return NotSeparable(solution.certificate.ravel())
    assert solution.v is not None
    assert solution.dual is not None
    plane = Hyperplane(solution.v, 0.0, solution.dual, solution.gap, solution.kkt)
    if solution.solver == EXTENDED:
        rounded = _long_enough(X, y, plane, np.zeros(X.shape[1]))
        if rounded is None:
            raise beyond_float64(f"{y.size} samples")
        return rounded
    return plane


def _differences(X: _Array, origin: _Array, y: _Array, rhs: _Array) -> SvmProblem:
    """Return y_i w'(x_i - origin) >= b_i; the core forms the differences without rounding."""
    tokens = np.stack([X, np.broadcast_to(origin, X.shape)], axis=1)[np.newaxis]
    return SvmProblem(
        tokens=tokens,
        queries=np.ones((1, y.size, 1)),
        selected=(y < 0).astype(np.int64)[np.newaxis],
        lengths=np.full((1, y.size), 2),
        rhs=np.repeat(rhs[np.newaxis, :, np.newaxis], 2, axis=2),
        equality=np.zeros((1, y.size, 2), dtype=np.bool_),
    )


def _with_slack(X: _Array, y: _Array, C: _Array) -> _Array:
    """Return samples (n, d + n) whose hard margin is the soft margin of X, penalties C (n,).

    With ŵ = (w, √C_i ξ_i) and x̂_i = (x_i, y_i e_i / √C_i) the constraint y_i (ŵ'x̂_i + b) >= 1
    reads y_i (w'x_i + b) >= 1 - ξ_i, and ½|ŵ|² is ½|w|² + ½ Σ C_i ξ_i².
    """
    return np.hstack([X, np.diag(y / np.sqrt(C))])


def _with_intercept(X: _Array, y: _Array) -> Hyperplane | NotSeparable:
    mean = X.mean(axis=0)
    # An intercept that is penalised, as a column, asks for the same separability.
    size = np.sqrt(np.mean(np.sum(np.square(X - mean), axis=1)))
    column = np.full((y.size, 1), size if size > 0 else 1.0)
    problem = _differences(np.hstack([X, column]), np.append(mean, 0.0), y, np.ones(y.size))
    inseparable: NotSeparable | None = None
    untried = np.ones(y.size, dtype=np.bool_)
    try:
        solution = solve("p", problem, batch=None)
    except SolverError:  # samples far smaller than the column: any of them may be on the margin
        least, dual = 1e-300, np.ones(y.size)
    else:
        multipliers = solution.certificate if solution.dual is None else solution.dual
        assert multipliers is not None
        least, dual = 0.0, multipliers.max(axis=1)
        if solution.certificate is not None:
            inseparable = NotSeparable(dual)
            nearest = [X[sign * y > 0][dual[sign * y > 0].argmax()] for sign in (1, -1)]
            if float(np.linalg.norm(nearest[0] - nearest[1])) > _OUTWEIGHED * size:
                return inseparable
    while (untried & (dual > 0)).any():
        k = int(np.argmax(np.where(untried, dual, 0.0)))
        untried[k] = False
        restricted = _on_the_margin(X, y, k)
        if restricted is None:
            continue
        plane = _between(X, y, restricted)
        if plane is None and restricted.dual[k] >= 0:  # margins that rounding of w took
            longer = _on_the_margin(X, y, k, float(np.linalg.norm(restricted.w)))
            plane = None if longer is None else _between(X, y, longer)
        if plane is not None:
            return plane
        dual = np.maximum(restricted.dual, least)
    if inseparable is not None:
        return inseparable
    raise SolverError(f"no certified answer for {y.size} samples with an intercept")


def _on_the_margin(X: _Array, y: _Array, k: int, length: float = 0.0) -> Hyperplane | None:
    """Return the answer with sample k on the margin, b = 0 in it; None if none is certified.

    Its gap and residual are those of the problem, whose dual is max Σ λ - ½|Σ λ_i y_i x_i|² with
    λ >= 0 and Σ λ_i y_i = 0, if its multiplier of k is not negative. Margins are asked for with as
    much more as rounding of a w of this `length` may take.
    """
    others = np.arange(y.size) != k
    spare = 4 * _EPS * length * np.linalg.norm(X[others] - X[k], axis=1)
    rhs = np.where(y[others] == y[k], 0.0, 2.0) + spare
    try:
        solution = solve("p", _differences(X[others], X[k], y[others], rhs), batch=None)
    except SolverError:
        return None
    if solution.p is None or solution.dual is None:
        return None
    dual = np.zeros(y.size)
    dual[others] = solution.dual.max(axis=1)
    gap = solution.gap + float(spare @ dual[others]) / float(rhs @ dual[others])
    dual[k] = -y[k] * float(y @ dual)
    return Hyperplane(solution.p, 0.0, dual, gap, solution.kkt)


def _between(X: _Array, y: _Array, restricted: Hyperplane) -> Hyperplane | None:
    """Return the answer with an intercept in the middle of both classes; None if it is not one."""
    w, dual = restricted.w, np.maximum(restricted.dual, 0.0)
    total = float(dual.sum())
    if not total > 0:
        return None
    along = _sums(X, w, 0.0)
    b = -(float(along[y > 0].min()) + float(along[y < 0].max())) / 2
    kkt = max(restricted.kkt, -float(restricted.dual.min()) / total)
    return _long_enough(X, y, Hyperplane(w, b, dual, restricted.gap, kkt), X.mean(axis=0))


def _long_enough(X: _Array, y: _Array, plane: Hyperplane, origin: _Array) -> Hyperplane | None:
    """Return the plane with w and b longer by what rounding leaves them short of their margins.

    None where that takes more than the rounding of w'(x - origin).
    """
    most_rounds = 4
    w, b = plane.w, plane.b
    longer = 1.0
    for k in range(most_rounds):
        reached = float((y * _sums(X, longer * w, longer * b)).min())
        if reached >= 1.0 - _SHORT or not reached > 0:
            break
        longer *= (1.0 + k * _EPS * abs(b)) / reached
    kkt, gap = plane.kkt + longer - 1.0, plane.gap + longer**2 - 1.0
    largest = float(np.sqrt(np.square(X - origin).sum(axis=1).max()))
    rounding = 64 * _EPS * float(np.linalg.norm(w)) * largest
    tolerance = OPTIMALITY_TOLERANCE + min(rounding, 1e-6)
    if not (reached >= 1.0 - _SHORT and max(gap, kkt) <= tolerance):
        return None
    return Hyperplane(longer * w, longer * b, plane.dual, gap, kkt)


def _sums(X: _Array, w: _Array, b: float) -> _Array:
    """Return x'w + b of every sample, without the rounding of products and sums where it counts."""
    sizes = np.abs(X) @ np.abs(w) + abs(b)
    if _EPS * X.shape[1] * float(sizes.max()) <= _SHORT / 10:
        return np.asarray(X @ w + b)
    products = X * w
    (x, x_rest), (v, v_rest) = _halves(X), _halves(w)
    errors = ((x * v - products) + x * v_rest + x_rest * v) + x_rest * v_rest
    terms = np.hstack([products, errors, np.full((len(X), 1), b)])
    return np.array([fsum(row) for row in terms.tolist()])


def _halves(values: _Array) -> tuple[_Array, _Array]:
    """Return numbers of 26 digits each whose sum the values are (Dekker 1971)."""
    scaled = values * 134217729.0  # 2^27 + 1
    high = scaled - (scaled - values)
    return high, values - high
