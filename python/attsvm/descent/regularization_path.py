"""Regularisation paths: what attention of bounded norm does best, as the bound grows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attsvm.data import AttentionData
from attsvm.data.attention_data import as_data
from attsvm.data.checks import (
    ArrayLike,
    as_choice,
    as_float_array,
    as_generator,
    as_nonnegative_int,
    as_positive_float,
    as_positive_int,
    require_shape,
)
from attsvm.data.span import in_own_span
from attsvm.descent.attention_maps import Sequences
from attsvm.descent.ball import Minimum, Objective, minimise
from attsvm.descent.log_excess import LogExcess, LogLoss, LogLossOfMixture, MarginLoss, Slope
from attsvm.descent.problem import LOSSES, Factored
from attsvm.descent.smooth_heads import smooth_head
from attsvm.heads import Head, LinearScores, Penalised, ReLU
from attsvm.progress import bar

__all__ = ["ConvergenceWarning", "RegularizationPath", "regularization_path"]

_BLOCKS = {"p": ("p",), "W": ("W",), "KQ": ("K", "Q"), "v,p": ("v", "p")}
_LARGEST_SCORE = 300.0
_LOOSE = 1e-3
_SMALL_GROWTH = 1.3
_SAME_ATTENTION = 1e-6


class ConvergenceWarning(RuntimeWarning):
    """A point of a path is further from stationary than was asked for."""


@dataclass(frozen=True, eq=False, repr=False)
class RegularizationPath:
    """Minimisers on balls of increasing radius. The leading axis N is that of the radii.

    Attributes
    ----------
    parameter, loss : str
        What was varied (``"v,p"`` for v and p together), and the loss.
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
    radii: NDArray[np.float64]
    W: NDArray[np.float64] | None
    p: NDArray[np.float64] | None
    K: NDArray[np.float64] | None
    Q: NDArray[np.float64] | None
    v: NDArray[np.float64] | None
    norm: NDArray[np.float64]
    loss_value: NDArray[np.float64]
    log_excess: NDArray[np.float64]
    residual: NDArray[np.float64]
    multiplier: NDArray[np.float64]
    interior: NDArray[np.bool_]
    converged: NDArray[np.bool_]
    iterations: NDArray[np.int64]
    attention: NDArray[np.float64]
    log_attention: NDArray[np.float64]
    selected: NDArray[np.int64]
    cosines: dict[str, NDArray[np.float64]]

    def cosine(self, reference: ArrayLike | Factored, block: str | None = None) -> Any:
        """Cosine (N,) of every point of the path with a direction; 0 for the point zero.

        Parameters
        ----------
        reference : array_like or SVMSolution
            Of the shape of one point.
        block : {"W", "p", "v"}, optional
            Which parameter, where v and p were varied together.

        Raises
        ------
        TypeError, ValueError
            The reference has another shape or is zero, or the path has no such block.
        """
        return self._cosine("reference", reference, block)

    def _cosine(
        self, name: str, reference: ArrayLike | Factored, block: str | None
    ) -> NDArray[np.float64]:
        blocks = {"KQ": ("W",), "v,p": ("v", "p")}.get(self.parameter, (self.parameter,))
        if block is None and len(blocks) == 1:
            block = blocks[0]
        points = getattr(self, as_choice("block", block, blocks))
        direction = _direction(name, reference, points.shape[1:])
        size = np.linalg.norm(points.reshape(len(points), -1), axis=1)
        shape = (-1, *[1] * (points.ndim - 1))
        apart = points / np.where(size > 0, size, 1.0).reshape(shape) - direction
        gap = 0.5 * np.sum(apart**2, axis=tuple(range(1, points.ndim)))
        return np.where(size > 0, 1.0 - gap, 0.0)

    def __repr__(self) -> str:
        low, high = (np.atleast_1d(self.radii[j]) for j in (0, -1))
        ends = [" and ".join(f"{number:g}" for number in end) for end in (low, high)]
        return (
            f"RegularizationPath(parameter={self.parameter!r}, loss={self.loss!r}, "
            f"{len(self.radii)} radii from {ends[0]} to {ends[1]}, "
            f"{int(self.converged.sum())} converged)"
        )


def regularization_path(
    data: AttentionData,
    radii: ArrayLike | Mapping[str, ArrayLike],
    *,
    parameter: str | Sequence[str] = "W",
    loss: str = "logistic",
    head: Head | None = None,
    inner: int | None = None,
    init: ArrayLike | Mapping[str, ArrayLike] | None = None,
    starts: int = 8,
    tol: float = 1e-9,
    max_iter: int = 500,
    reference: ArrayLike | Factored | Mapping[str, ArrayLike | Factored] | None = None,
    rng: int | np.random.Generator | None = 0,
    progress: bool = False,
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
    minimiser, in general it may not be. A minimiser on a kink of a ReLU head has no residual of 0
    and is reported as not converged.

    Parameters
    ----------
    data : AttentionData
        One problem, without a batch axis.
    radii : array_like, shape (N,), or a dict
        Positive and increasing. For v and p pairs (r, R) of shape (N, 2), or
        ``{"v": r, "p": R}`` with arrays of shape (N,) or numbers; neither may fall along the path.
    parameter : {"W", "KQ", "p"} or ("v", "p")
    loss : {"logistic", "exponential", "correlation"}
        The correlation loss, which is negative, only with a linear head that stays fixed.
    head : LinearScores, ReLU or Penalised, optional
        By default the linear head ``data.value``. None for v and p.
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
        Show progress when standard error is a terminal.

    Returns
    -------
    RegularizationPath

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be; the message names it.

    Warns
    -----
    ConvergenceWarning
        Some residual is above `tol`; ``converged`` says which.

    References
    ----------
    Tarzanagh et al., "Max-Margin Token Selection in Attention Mechanism", 2023, sections 3 and 4
    (p, and v with p); "Transformers as Support Vector Machines", 2023, section 3 (W, and K with Q).

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
    as_data(data)
    name = _parameter_name(parameter)
    as_choice("loss", loss, LOSSES)
    starts = as_nonnegative_int("starts", starts)
    tol = as_positive_float("tol", tol)
    max_iter = as_positive_int("max_iter", max_iter)
    generator = as_generator("rng", rng)
    if data.batch is not None:
        raise ValueError(f"data: expected one problem, got a batch of {data.batch}")
    bounds = _radii(radii, name)
    problem = _Problem.of(data, name, loss, head, inner)
    given = None if init is None else problem.start("init", init)
    named: Mapping[str, Any] = {}
    if reference is not None:
        named = reference if isinstance(reference, Mapping) else {"": reference}
    if name == "v,p" and not named.keys() <= {"v", "p"}:
        raise ValueError(f"reference: expected the keys 'v' and 'p', got {sorted(map(str, named))}")
    shape = (data.d, data.d) if name in ("W", "KQ") else (data.d,)
    for key, one in named.items():
        _direction(_reference_name(key), one, shape)

    with bar(len(bounds), "radii", None if progress else False) as advance:
        found = []
        search = _Search(problem, starts, tol, max_iter, generator)
        for radius in bounds:
            found.append(search.at(problem.ball(radius), given))
            advance(1)
    path = _path(problem, data, loss, bounds, found, search.iterations, tol)
    for key, one in named.items():
        path.cosines[str(key)] = path._cosine(
            _reference_name(key), one, key if name == "v,p" else None
        )
    if not path.converged.all():
        worst = int(np.argmax(np.where(path.converged, -1.0, path.residual)))
        warnings.warn(
            f"{int((~path.converged).sum())} of {len(bounds)} radii did not converge: residual "
            f"{path.residual[worst]:.1e} at radius {np.array2string(path.radii[worst])}, wanted "
            f"{tol:g}",
            ConvergenceWarning,
            stacklevel=2,
        )
    return path


@dataclass(frozen=True, eq=False)
class _Problem:
    """The problem in coordinates of the spans of its tokens and queries, as flat blocks."""

    parameter: str
    sequences: Sequences
    token_basis: NDArray[np.float64] | None
    query_basis: NDArray[np.float64] | None
    dimension: int
    inner: int
    columns: int
    objective: Objective
    of_logits: Callable[[NDArray[np.float64]], Slope] | None
    ranking: LogExcess | None
    infimum: float
    constant: bool
    sizes: tuple[int, ...]

    @classmethod
    def of(
        cls,
        data: AttentionData,
        parameter: str,
        loss: str,
        head: Head | None,
        inner: int | None,
    ) -> _Problem:
        """Check that `data` has what `parameter` and `head` need, and lay it out."""
        if parameter in ("W", "KQ") and data.queries is None:
            raise ValueError("queries: needed for W, got data without queries")
        if parameter != "KQ" and inner is not None:
            raise ValueError(f"inner: expected None where K and Q are not varied, got {inner!r}")
        d = data.d
        m = d if inner is None else as_positive_int("inner", inner)
        order = slice(None) if data.sequence is None else data.sequence
        given = data.tokens.astype(np.float64)
        tokens, token_basis = in_own_span(given.reshape(1, -1, d))
        queries, query_basis = np.ones((1, data.n, 1)), None
        if data.queries is not None and parameter in ("W", "KQ"):
            queries, query_basis = in_own_span(data.queries[np.newaxis].astype(np.float64))
        tokens = tokens.reshape(*given.shape[:2], -1)[order]
        sequences = Sequences(tokens, queries[0], data.valid)
        k, r = sequences.shape
        # W has rank min(k, r) at most: that many columns reach any of them at its nuclear norm.
        inner_size = min(m, k, r)
        labels = data.labels.astype(np.float64)
        of_logits: Callable[[NDArray[np.float64]], Slope] | None = None
        ranking, infimum, constant = None, 0.0, False
        if parameter == "v,p":
            if head is not None:
                raise ValueError(f"head: expected None where v is varied, got {_kind(head)}")
            _require_positive(loss, "for v and p")
            objective = sequences.of_value_and_prompt(LogLoss(loss), labels)
            sizes: tuple[int, ...] = (k, k)
        else:
            if isinstance(head, ReLU | Penalised):
                _require_positive(loss, f"with a {_kind(head)} head")
                smooth = smooth_head(head, d)
                of_logits = LogLossOfMixture(given[order], labels, smooth, loss)
                flat = smooth.value(given.reshape(-1, d)).reshape(given.shape[:2])
                alone = labels[:, np.newaxis] * flat[order]
                _require_moderate("head", alone[data.valid], loss)
                ranking = LogExcess(alone, data.valid, loss)
                same = (given[order] == given[order][:, :1]).all(axis=2) | ~data.valid
                infimum, constant = (ranking.infimum, True) if same.all() else (0.0, False)
            else:
                ranking = LogExcess(_scores(data, given[order], head, loss), data.valid, loss)
                of_logits, infimum, constant = ranking, ranking.infimum, ranking.constant
            if parameter == "KQ":
                objective = sequences.of_factors(of_logits, inner_size)
                sizes = ((k + r) * inner_size,)
            else:
                objective = sequences.of_matrix(of_logits)
                sizes = (k * r,)
        return cls(
            parameter,
            sequences,
            None if token_basis is None else token_basis[0],
            None if query_basis is None else query_basis[0],
            d,
            inner_size,
            m,
            objective,
            of_logits,
            ranking,
            infimum,
            constant,
            sizes,
        )

    def ball(self, radius: NDArray[np.float64]) -> NDArray[np.float64]:
        """Radii of the blocks, from what bounds the point in the caller's terms."""
        return np.sqrt(2.0 * radius) if self.parameter == "KQ" else radius

    def start(self, name: str, value: Any) -> NDArray[np.float64]:
        """Check a start as given by the caller, and take its coordinates."""
        blocks = _BLOCKS[self.parameter]
        if not isinstance(value, Mapping):
            if len(blocks) > 1:
                keys = " and ".join(map(repr, blocks))
                raise TypeError(f"{name}: expected a dict with {keys}, got {type(value).__name__}")
            value, names = {blocks[0]: value}, [name]
        else:
            if set(value) != set(blocks):
                wanted = " and ".join(map(repr, blocks))
                raise ValueError(
                    f"{name}: expected the key {wanted}, got {sorted(map(str, value))}"
                )
            names = [f"{name}[{block!r}]" for block in blocks]
        d, columns = self.dimension, self.columns
        text, shape = {
            "W": ("(d, d)", (d, d)),
            "KQ": ("(d, m)", (d, columns)),
        }.get(self.parameter, ("(d,)", (d,)))
        parts = []
        for block, label in zip(blocks, names, strict=True):
            array = as_float_array(label, value[block], text, ndim=len(shape), dtype=np.float64)
            require_shape(label, array, text, shape)
            basis = self.query_basis if block == "Q" else self.token_basis
            inside = array if basis is None else basis @ array
            if block == "W" and self.query_basis is not None:
                inside = inside @ self.query_basis.T
            parts.append(inside)
        if self.parameter == "KQ" and self.inner < columns:
            # The largest part of K Q' that the fewer columns hold.
            parts = list(_balanced(parts[0] @ parts[1].T, self.inner))
        return np.concatenate([part.ravel() for part in parts])

    def lifted(self, x: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The blocks in the caller's coordinates."""

        def lift(basis: NDArray[np.float64] | None, part: NDArray[np.float64]) -> Any:
            return part if basis is None else basis.T @ part

        k, r = self.sequences.shape
        if self.parameter == "KQ":
            K, Q = self.sequences.factors(x, self.inner)
            empty = ((0, 0), (0, self.columns - self.inner))
            K, Q = lift(self.token_basis, K), lift(self.query_basis, Q)
            return {"K": np.pad(K, empty), "Q": np.pad(Q, empty), "W": K @ Q.T}
        if self.parameter == "W":
            W = lift(self.token_basis, x.reshape(k, r))
            return {"W": W if self.query_basis is None else W @ self.query_basis}
        if self.parameter == "p":
            return {"p": lift(self.token_basis, x)}
        return {"v": lift(self.token_basis, x[:k]), "p": lift(self.token_basis, x[k:])}

    def logits(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Attention logits (n, T) at x."""
        k, r = self.sequences.shape
        if self.parameter == "KQ":
            K, Q = self.sequences.factors(x, self.inner)
            return self.sequences.logits(K @ Q.T)
        if self.parameter == "v,p":
            return self.sequences.logits(x[k:, np.newaxis])
        return self.sequences.logits(x.reshape(k, r))

    def downhill(self) -> NDArray[np.float64]:
        """A start along the negative gradient at zero, or what is next to it where that is 0."""
        k, r = self.sequences.shape
        if self.parameter == "v,p":
            # At zero only v has a gradient, and p gets one as soon as v has moved.
            v = -self.objective(np.zeros(2 * k)).gradient[:k]
            return np.concatenate([v, -self.objective(np.append(v, np.zeros(k))).gradient[k:]])
        assert self.of_logits is not None
        at_zero = self.of_logits(self.sequences.logits(np.zeros((k, r))))
        return self.of_direction(-self.sequences.pullback(at_zero.gradient))

    def of_direction(self, W: NDArray[np.float64]) -> NDArray[np.float64]:
        """The flat parameter whose matrix is W, or next to it where the columns are too few."""
        if self.parameter != "KQ":
            return W.ravel()
        return np.concatenate([part.ravel() for part in _balanced(W, self.inner)])

    def margins(self) -> Objective | None:
        """The convex problem with the max-margin direction of the best tokens; None without one."""
        if self.ranking is None or self.ranking.constant:
            return None
        slope = MarginLoss(self.ranking.best, self.ranking.moved)
        if self.parameter == "KQ":
            return self.sequences.of_factors(slope, self.inner)
        return self.sequences.of_matrix(slope)


class _Search:
    """Minimisers at one radius after the other, the local ones kept as starts for the next."""

    def __init__(
        self,
        problem: _Problem,
        starts: int,
        tol: float,
        max_iter: int,
        generator: np.random.Generator,
    ) -> None:
        self._problem, self._starts = problem, starts
        self._tol, self._max_iter = tol, max_iter
        self._generator = generator
        self._margins = problem.margins()
        self._wide: NDArray[np.float64] | None = None
        self._local: list[Minimum] = []
        self._radii = np.empty(0)
        self.iterations: list[int] = []

    def at(self, radii: NDArray[np.float64], given: NDArray[np.float64] | None) -> Minimum | None:
        """The best minimiser found, None where every point is one."""
        problem = self._problem
        if problem.constant:
            self.iterations.append(0)
            return None
        spent = 0
        starts = [found.point for found in self._local]
        if not self.iterations:
            downhill = self._nonzero(problem.downhill())
            for part in self._smaller(radii):
                found = self._minimise(problem.objective, downhill, part, _LOOSE)
                downhill, spent = found.point, spent + found.iterations
            starts = [downhill] if given is None else [downhill, given]
            starts += [self._random() for _ in range(self._starts)]
        if self._margins is not None:
            wide = self._wide
            if wide is None:
                wide = self._nonzero(problem.downhill())
                for part in self._smaller(radii):
                    found = self._minimise(self._margins, wide, part, _LOOSE)
                    wide, spent = found.point, spent + found.iterations
            found = self._minimise(self._margins, wide, radii, _LOOSE)
            self._wide, spent = found.point, spent + found.iterations
            starts.append(found.point)
        local = [self._minimise(problem.objective, x, radii, self._tol) for x in starts]
        for before, now in zip(self._local, list(local), strict=False):
            # The smaller ball lies in this one: what was found there bounds what is found here.
            if before.interior.any() or now.at.value > before.at.value:
                local.append(
                    self._minimise(problem.objective, before.point, radii, self._tol, inside=True)
                )
        different = self._different(local)
        if self._local and different[0].residual > self._tol:
            local.append(self._in_small_steps(self._local[0], radii))
            different = self._different(local)
        self.iterations.append(spent + sum(found.iterations for found in local))
        self._local, self._radii = different, radii
        return different[0]

    def _in_small_steps(self, found: Minimum, radii: NDArray[np.float64]) -> Minimum:
        """The minimiser from that of the radius before, by radii that grow slowly."""
        growth = radii / self._radii
        count = int(np.ceil(np.log(growth.max()) / np.log(_SMALL_GROWTH)))
        iterations = 0
        for j in range(1, count + 1):
            part = self._radii * growth ** (j / count)
            found = self._minimise(self._problem.objective, found.point, part, self._tol)
            iterations += found.iterations
        return replace(found, iterations=iterations)

    def _minimise(
        self,
        objective: Objective,
        x: NDArray[np.float64],
        radii: NDArray[np.float64],
        tol: float,
        *,
        inside: bool = False,
    ) -> Minimum:
        return minimise(
            objective,
            x if inside else self._nonzero(x),
            self._problem.sizes,
            radii.tolist(),
            tol=tol,
            max_iter=self._max_iter,
            inside=inside,
        )

    def _smaller(self, radii: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Radii up to a quarter of the given ones, from where the logits are about 1."""
        s = self._problem.sequences
        reach = float(np.max(np.linalg.norm(s.tokens, axis=2).max(1) * np.linalg.norm(s.queries)))
        count = int(np.ceil(max(0.0, np.log(max(radii.max() * reach, 1.0)) / np.log(4.0))))
        return [radii * 4.0**-j for j in range(count, 0, -1)]

    def _random(self) -> NDArray[np.float64]:
        return self._generator.standard_normal(sum(self._problem.sizes))

    def _nonzero(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """`x`, blocks of zeros replaced by random directions."""
        blocks = np.split(x, np.cumsum(self._problem.sizes)[:-1])
        return np.concatenate(
            [b if b.any() else self._generator.standard_normal(b.size) for b in blocks]
        )

    def _different(self, local: list[Minimum]) -> list[Minimum]:
        """One of those that attend alike, best first."""
        kept: list[tuple[Minimum, NDArray[np.float64]]] = []
        for found in sorted(local, key=lambda found: (found.at.value, found.residual)):
            attention = np.exp(_log_softmax(self._problem.logits(found.point)))
            slack = 1e-12 * (1.0 + abs(found.at.value))  # rounding
            for j, (other, seen) in enumerate(kept):
                if (
                    found.at.value - other.at.value <= _SAME_ATTENTION
                    and np.abs(attention - seen).max() <= _SAME_ATTENTION
                ):
                    if found.residual < other.residual and found.at.value <= other.at.value + slack:
                        kept[j] = (found, attention)
                    break
            else:
                kept.append((found, attention))
        return [found for found, _ in kept]


def _path(
    problem: _Problem,
    data: AttentionData,
    loss: str,
    bounds: NDArray[np.float64],
    found: list[Minimum | None],
    iterations: list[int],
    tol: float,
) -> RegularizationPath:
    size, blocks = sum(problem.sizes), len(problem.sizes)
    points = [np.zeros(size) if one is None else one.point for one in found]
    lifted = [problem.lifted(x) for x in points]
    log_attention = np.stack([_log_softmax(problem.logits(x)) for x in points])

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


def _parameter_name(parameter: Any) -> str:
    if isinstance(parameter, Sequence) and not isinstance(parameter, str):
        if set(parameter) == {"v", "p"} and len(parameter) == 2:
            return "v,p"
        raise ValueError(f"parameter: expected ('v', 'p') for a tuple, got {tuple(parameter)!r}")
    return as_choice("parameter", parameter, ("p", "W", "KQ"))


def _radii(radii: Any, parameter: str) -> NDArray[np.float64]:
    """Radii (N, blocks)."""
    if parameter == "v,p":
        if isinstance(radii, Mapping):
            if set(radii) != {"v", "p"}:
                raise ValueError(
                    f"radii: expected the key 'v' and 'p', got {sorted(map(str, radii))}"
                )
            columns = [
                np.atleast_1d(
                    as_float_array(
                        f"radii[{block!r}]", radii[block], "(N,)", ndim=(0, 1), dtype=np.float64
                    )
                )
                for block in ("v", "p")
            ]
            sizes = [column.size for column in columns]
            if min(sizes) != max(sizes) and min(sizes) != 1:
                raise ValueError(f"radii: expected equally many for 'v' and 'p', got {sizes}")
            bounds = np.stack(np.broadcast_arrays(*columns), axis=1)
        else:
            bounds = as_float_array("radii", radii, "(N, 2)", ndim=2, dtype=np.float64)
            require_shape("radii", bounds, "(N, 2)", (len(bounds), 2))
    else:
        if isinstance(radii, Mapping):
            raise TypeError("radii: expected an array, got a dict, which is for ('v', 'p')")
        bounds = as_float_array("radii", radii, "(N,)", ndim=1, dtype=np.float64)[:, np.newaxis]
    if bounds.min() <= 0:
        raise ValueError(f"radii: expected positive numbers, got {bounds.min():g}")
    steps = np.diff(bounds, axis=0)
    if (steps < 0).any() or (steps.max(axis=1, initial=-1.0) <= 0).any():
        raise ValueError(f"radii: expected them increasing, got {np.squeeze(bounds).tolist()}")
    return np.array(bounds)


def _scores(
    data: AttentionData, tokens: NDArray[np.float64], head: Any, loss: str
) -> NDArray[np.float64]:
    """Token scores of a linear head, labels included."""
    if head is None:
        if data.value is None:
            raise ValueError("value: needed for the linear head, got data without a value")
        source = "value"
        value = data.value.astype(np.float64)
        scores = data.labels.astype(np.float64)[:, np.newaxis] * (tokens @ value)
    elif isinstance(head, LinearScores):
        source = "head"
        require_shape("head", head.scores, "(n, T)", (data.n, data.T))
        scores = head.scores.astype(np.float64)
    else:
        raise TypeError(
            f"head: expected None, LinearScores, ReLU or Penalised, got {type(head).__name__}"
        )
    _require_moderate(source, scores[data.valid], loss)
    return scores


def _require_moderate(source: str, scores: NDArray[np.float64], loss: str) -> None:
    largest = float(np.abs(scores).max())
    if loss != "correlation" and largest > _LARGEST_SCORE:
        raise ValueError(
            f"{source}: expected token scores up to {_LARGEST_SCORE:g} with the {loss} loss, "
            f"got {largest:g}; scale the {source}"
        )


def _require_positive(loss: str, where: str) -> None:
    """The logarithm of the loss is what is minimised there."""
    if loss == "correlation":
        raise ValueError(f"loss: expected 'logistic' or 'exponential' {where}, got {loss!r}")


def _kind(head: object) -> str:
    return type(head).__name__


def _reference_name(key: object) -> str:
    return "reference" if key == "" else f"reference[{key!r}]"


def _direction(
    name: str, reference: ArrayLike | Factored, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """The reference as a unit vector of `shape`."""
    if isinstance(reference, Factored):
        if reference.left is None or reference.right is None:
            raise ValueError(f"{name}: expected a feasible solution, got one without a direction")
        product = np.swapaxes(reference.left, -1, -2) @ reference.right
        array = product[:, 0] if len(shape) == 1 and product.ndim == 2 else product
    else:
        text = "(d, d)" if len(shape) == 2 else "(d,)"
        array = as_float_array(name, reference, text, ndim=len(shape), dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    largest = float(np.abs(array).max())
    if largest == 0:
        raise ValueError(f"{name}: expected a direction, got zero")
    unit: NDArray[np.float64] = array / largest
    return unit / np.linalg.norm(unit)


def _balanced(
    W: NDArray[np.float64], inner: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """K and Q of equal norms with K Q' = W, or its best approximation of rank `inner`."""
    left, values, right = np.linalg.svd(W, full_matrices=False)
    root = np.sqrt(values[:inner])
    return left[:, :inner] * root, right[:inner].T * root


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    below = logits - logits.max(axis=1, keepdims=True)
    with np.errstate(under="ignore"):
        total = np.exp(below).sum(axis=1, keepdims=True)
    result: NDArray[np.float64] = below - np.log(total)
    return result
