"""The cut norm of W, that of sign steps on its factors K and Q: values and SVMs.

Its unit ball is the convex hull of the products s t' of vectors of signs, its dual norm is
max s' G t over them, |G|_(∞→1). A linear program with one variable for each product is solved by
column generation: the SVM in the l1 norm of the coefficients of a few products, whose multipliers λ
say which others are missing, those with s' A*(λ) t > 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from attsvm._arrays import BoolArray, Float64Array, IndexArray
from attsvm.svm.solvers import (
    BOUNDED,
    INFEASIBLE,
    OPTIMAL,
    OPTIMALITY_TOLERANCE,
    UNRESOLVED,
    Result,
    frobenius,
    in_norm,
)
from attsvm.svm.svm_problem import SvmProblem, row_problem

MOST_SIGNS = 16  # that are enumerated
_SETTLED = 1e-11  # s' G t - 1 of a product that is not missing
_NEAR = 0.9  # s' G t of a product that is kept, at least, while the norm falls by a share of _FALL
_FALL = 1e-6
_MANY = 4096  # products, from which on not all are kept: fewer take more steps
_ROUNDING = 64 * float(np.finfo(np.float64).eps)
_STARTS = 256  # of the search for large s' G t with more signs
_MOST_STEPS = 500  # of Newton's method; it takes about 80
_NUMBERS_AT_ONCE = 2**23

_smallest_sum = in_norm("l1")["auto"]


def cut_norms(W: Float64Array) -> Float64Array:
    """Compute the least Σ |c_k| with W = Σ c_k s_k t_k', of matrices (..., d, e)."""
    *lead, d, e = W.shape
    matrices = W.reshape(-1, d, e)
    values: Float64Array = np.abs(matrices).max(axis=(1, 2))
    if min(d, e) == 1:
        return values.reshape(lead)
    _require_enumerable(d, e)
    used = np.flatnonzero(values)
    entries = matrices[used] / values[used, np.newaxis, np.newaxis]
    for part in _parts(used.size, d, e, d * e):
        rhs = entries[part].reshape(-1, d * e)
        rows, columns = (np.tile(x, (len(rhs), 1, 1)) for x in _unit_matrices(d, e))
        equal_to = row_problem(rows, rhs, np.ones(rhs.shape, dtype=np.bool_), columns)
        spanning = _spanning_products(len(rhs), d, e)
        found = _by_columns(_Rows.of(equal_to), rhs[..., np.newaxis], spanning)
        if (found["status"] != OPTIMAL).any():
            raise ArithmeticError("cut norm: its linear program was not solved to 1e-9")
        values[used[part]] *= found["norm"]
    return values.reshape(lead)


def dual_cut_norms(G: Float64Array) -> Float64Array:
    """Compute max s' G t over vectors of signs s and t, of matrices (..., d, e)."""
    *lead, d, e = G.shape
    _require_enumerable(d, e)
    matrices = G.reshape(-1, d, e)
    values = np.empty(len(matrices))
    for part in _parts(len(matrices), d, e):
        values[part] = _largest_products(matrices[part], 1).sizes[:, 0]
    return values.reshape(lead)


def smallest_cut(problem: SvmProblem, start: Float64Array | None) -> tuple[Result, list[str]]:
    """Solve SVMs in the cut norm; from 17 signs on, bound them.

    The Frobenius SVM has the same constraints, and decides which problems have no solution.
    """
    problem = problem.gathered()
    result, _ = frobenius(problem, start)
    B, d, e = len(problem.rhs), problem.tokens.shape[-1], problem.queries.shape[-1]
    result["right"] = np.tile(np.eye(e), (B, 1, 1))
    result["left"] = np.full((B, e, d), np.nan)
    solved = result["status"] == OPTIMAL
    result["left"][solved] = 0.0
    places = np.flatnonzero(solved & (result["norm"] > 0))
    for part in _parts(places.size, d, e, problem.rhs[0].size):
        at = places[part]
        found = _by_columns(_Rows.of(problem.problems(at)), result["dual"][at])
        for name, values in found.items():
            result[name][at] = values
    return result, ["native"] * B


@dataclass(frozen=True, eq=False)
class _Products:
    """K products s_k t_k' of signs for each of B problems; 0 in place of signs is none."""

    s: Float64Array  # (B, K, d)
    t: Float64Array  # (B, K, e)
    sizes: Float64Array  # (B, K), of the G that they are large for: s_k' G t_k

    def __getitem__(self, places: IndexArray | BoolArray) -> _Products:
        return _Products(self.s[places], self.t[places], self.sizes[places])

    def only(self, kept: BoolArray) -> _Products:
        """Keep these, (1, K), of one problem."""
        return _Products(*(x[:, kept[0]] for x in (self.s, self.t, self.sizes)))

    def above(self, least: Float64Array) -> _Products:
        """Keep those of one problem of a larger size than `least`, (1,)."""
        return self.only(self.sizes > least[:, np.newaxis])

    def and_also(self, more: _Products) -> _Products:
        """Return all of both."""
        pairs = (self.s, more.s), (self.t, more.t), (self.sizes, more.sizes)
        return _Products(*(np.concatenate(pair, axis=1) for pair in pairs))

    def combined(self, coefficients: Float64Array) -> Float64Array:
        """Return Σ c_k s_k t_k', shape (B, d, e)."""
        return np.swapaxes(self.s * coefficients[..., np.newaxis], 1, 2) @ self.t


@dataclass(frozen=True, eq=False)
class _Rows:
    """The constraints of B problems, <d_it z_i', W> >= b_it or = b_it."""

    problem: SvmProblem
    differences: Float64Array  # (B, n, T, d)

    @classmethod
    def of(cls, problem: SvmProblem) -> _Rows:
        return cls(problem, problem.differences().astype(np.float64, copy=False))

    def __getitem__(self, places: IndexArray | BoolArray) -> _Rows:
        return _Rows(self.problem.problems(places), self.differences[places])

    def values(self, W: Float64Array) -> Float64Array:
        """Return <d_it z_i', W>, shape (B, n, T)."""
        directions = self.problem.queries @ np.swapaxes(W, 1, 2)
        return (self.differences @ directions[..., np.newaxis])[..., 0]

    def at_products(self, products: _Products) -> Float64Array:
        """Return s_k' d_it z_i' t_k, shape (B, n, T, K)."""
        of_tokens = self.differences @ np.swapaxes(products.s, 1, 2)[:, np.newaxis]
        return of_tokens * (self.problem.queries @ np.swapaxes(products.t, 1, 2))[:, :, np.newaxis]

    def adjoint(self, dual: Float64Array) -> Float64Array:
        """Return A*(λ) = Σ λ_it d_it z_i', shape (B, d, e)."""
        sums = (dual[..., np.newaxis, :] @ self.differences)[..., 0, :]
        return np.swapaxes(sums, 1, 2) @ self.problem.queries

    def rounding(self, dual: Float64Array) -> Float64Array:
        """Bound the rounding of s' A*(λ) t, shape (B,)."""
        sizes = np.abs(self.differences).sum(-1) * np.abs(self.problem.queries).sum(-1)[..., None]
        return np.asarray(_ROUNDING * np.sum(np.abs(dual) * sizes, axis=(1, 2)))

    def smallest_sum(self, features: Float64Array) -> Result:
        """Solve for the coefficients of products with these values, of least Σ |c_k|."""
        chosen = self.problem.selected[..., np.newaxis, np.newaxis] >= 0
        tokens = np.where(chosen, -features, features)  # the selected token is zero
        queries = np.ones((*self.problem.selected.shape, 1))
        problem = self.problem._replace(tokens=tokens, queries=queries)
        return _smallest_sum(problem, None)[0]


def _by_columns(rows: _Rows, dual: Float64Array, given: _Products | None = None) -> Result:
    """Solve feasible problems from any multipliers that are not zero.

    Products that are `given` are used from the beginning.
    """
    (B, n, T, d), e = rows.differences.shape, rows.problem.queries.shape[2]
    answers: Result = {
        "dual": np.zeros((B, n, T)),
        "margins": np.full((B, n, T), np.nan),
        "left": np.full((B, e, d), np.nan),
        "status": np.full(B, UNRESOLVED, dtype=np.int8),
        "unique": np.full(B, -1, dtype=np.int8),
        "iterations": np.zeros(B, dtype=np.int64),
        **{name: np.full(B, np.nan) for name in ("norm", "gap", "kkt")},
    }
    # One at a time: the number of columns, by which sums are rounded, is that of the problem alone.
    for b in np.arange(B)[:, np.newaxis]:
        found = _of_one(rows[b], dual[b], None if given is None else given[b])
        for name, values in (found or {}).items():
            answers[name][b] = values
    return answers


def _of_one(rows: _Rows, dual: Float64Array, given: _Products | None) -> Result | None:
    """Solve one problem, the only one of `rows`; None without an answer."""
    count = max(16, 3 * int(rows.problem.constrained.sum()))
    products = _largest_products(rows.adjoint(dual), count).above(rows.rounding(dual))
    if given is not None:
        products = given.and_also(products)
    norm = np.full(1, np.inf)
    while True:
        features = rows.at_products(products)
        master = rows.smallest_sum(features)
        dual, status = master["dual"], master["status"]
        if status[0] > INFEASIBLE:
            return None
        least = 1.0 + np.maximum(_SETTLED, 2 * master["kkt"]) if status[0] == OPTIMAL else 0.0
        found = _largest_products(rows.adjoint(dual), count)
        missing = found.above(least + rows.rounding(dual))
        if missing.sizes.size == 0:
            solved = status[0] == OPTIMAL
            return _certified(rows, products, master, found.sizes.max(axis=1)) if solved else None
        # Where the norm fell, many products go without those that are far from being missed.
        if products.sizes.size > _MANY and master["norm"] < (1.0 - _FALL) * norm:
            sizes = np.abs(np.sum(features * dual[..., np.newaxis], axis=(1, 2)))
            products = products.only(sizes > _NEAR)
        products, norm = products.and_also(missing), master["norm"]


def _certified(rows: _Rows, products: _Products, master: Result, largest: Float64Array) -> Result:
    """Certify W = Σ c_k s_k t_k' with the multipliers λ of its coefficients, in the cut norm.

    `largest` are the largest s' A*(λ) t that were found, shape (B,).
    """
    problem, dual = rows.problem, master["dual"]
    coefficients = np.sum(master["left"] * master["right"], axis=1)
    W, size = products.combined(coefficients), np.abs(coefficients).sum(axis=1)
    G = rows.adjoint(dual)
    enumerated = min(G.shape[1:]) <= MOST_SIGNS
    proof, dual_size = (dual, largest) if enumerated else (_dual_of_vectors(rows), 1.0)
    constrained, b = problem.constrained, problem.rhs
    margins = np.where(constrained, rows.values(W), np.inf)
    short = np.where(constrained, b - margins, 0.0)
    missed = np.where(problem.equality, np.abs(short), np.maximum(short, 0.0))
    upper = size + np.sum(np.abs(proof) * missed, axis=(1, 2)) / dual_size
    gap = 1.0 - np.sum(b * proof, axis=(1, 2)) / dual_size / upper
    inner = np.sum(G * W, axis=(1, 2))
    residuals = (
        missed.max(axis=(1, 2)),
        np.where(problem.equality, 0.0, -dual).max(axis=(1, 2)) / np.abs(dual).max(axis=(1, 2)),
        np.abs(dual * short).max(axis=(1, 2)) / np.sum(b * dual, axis=(1, 2)),
        largest - 1.0,
        (size - inner) / size,
    )
    kkt = np.maximum.reduce(residuals)
    holds = (np.maximum(kkt, gap) if enumerated else residuals[0]) <= OPTIMALITY_TOLERANCE
    return {
        "dual": dual,
        "margins": margins,
        "left": np.swapaxes(W, 1, 2),
        "norm": size,
        "gap": np.maximum(gap, 0.0),
        "kkt": kkt,
        "status": np.where(holds, OPTIMAL if enumerated else BOUNDED, UNRESOLVED),
        "unique": -1,
        "iterations": products.sizes.shape[1],
    }


def _largest_products(G: Float64Array, count: int) -> _Products:
    """Return s and t of large s' G t, at most so many: the largest, where signs are enumerated."""
    if G.shape[1] > G.shape[2]:
        found = _largest_products(np.swapaxes(G, 1, 2), count)
        return _Products(found.t, found.s, found.sizes)
    enumerated = G.shape[1] <= MOST_SIGNS
    s = _every_sign(G.shape[1]) if enumerated else _stationary_signs(G)
    images = s @ G
    sizes = np.abs(images).sum(axis=-1)
    count = min(count, sizes.shape[1])
    kept = np.argpartition(-sizes, count - 1, axis=1)[:, :count]
    t = np.where(np.take_along_axis(images, kept[..., np.newaxis], axis=1) < 0, -1.0, 1.0)
    s = s[kept] if enumerated else np.take_along_axis(s, kept[..., np.newaxis], axis=1)
    return _Products(s, t, np.take_along_axis(sizes, kept, axis=1))


@lru_cache(maxsize=4)
def _every_sign(d: int) -> Float64Array:
    """Return every vector of d signs, of s and -s one, shape (2^(d-1), d)."""
    bits = np.arange(2 ** (d - 1))[:, np.newaxis] >> np.arange(d)
    return np.where(bits & 1, -1.0, 1.0)


def _stationary_signs(G: Float64Array) -> Float64Array:
    """Return s, shape (B, R, d), that s <- sign(G t), t <- sign(G' s) keeps, from random ones."""
    B, d, _ = G.shape
    s = np.tile(np.random.default_rng(0).choice([-1.0, 1.0], (_STARTS, d)), (B, 1, 1))
    sizes = np.zeros((B, _STARTS))
    while True:
        images = s @ G
        grown = np.abs(images).sum(axis=-1)
        if not (grown > sizes).any():
            break
        sizes = grown
        t = np.where(images < 0, -1.0, 1.0)
        s = np.where(t @ np.swapaxes(G, 1, 2) < 0, -1.0, 1.0)
    s *= s[..., :1]
    # Of equal ones all but the first are taken to be zero.
    for signs in s:
        _, first = np.unique(signs, axis=0, return_index=True)
        signs[np.setdiff1d(np.arange(_STARTS), first)] = 0.0
    return s


def _dual_of_vectors(rows: _Rows) -> Float64Array:
    """Return λ, shape (B, n, T), of nearly the largest b'λ with Σ <A*(λ)_jk u_j, v_k> <= 1.

    That over unit vectors u, v is at least max s' A*(λ) t, at most 1.783 times it.
    """
    problem = rows.problem
    dual = np.zeros(rows.differences.shape[:3])
    equality = np.broadcast_to(problem.equality, dual.shape)
    of_query = (problem.queries != 0).any(axis=2, keepdims=True)
    used = problem.constrained & rows.differences.any(axis=3) & of_query
    for k, of_problem in enumerate(used):
        i, t = np.nonzero(of_problem)
        D, Z = rows.differences[k, i, t], problem.queries[k, i]
        dual[k, i, t] = _by_barrier(D, Z, problem.rhs[k, i, t], equality[k, i, t])
    return dual


def _by_barrier(
    D: Float64Array, Z: Float64Array, b: Float64Array, equal: BoolArray
) -> Float64Array:
    """Maximise b'λ with S = Diag(y) - [0 G; G' 0] ⪰ 0, G = Σ λ_r d_r z_r', Σ y = 2.

    Every such λ is one that S proves. Newton's method with a logarithmic barrier (Boyd,
    Vandenberghe, "Convex Optimization", 2004, section 11.3), until b'λ is within 1e-5.
    """
    (m, d), N = D.shape, D.shape[1] + Z.shape[1]

    def slack(dual: Float64Array, y: Float64Array) -> Float64Array:
        S = np.diag(y)
        S[:d, d:] = -(D * dual[:, np.newaxis]).T @ Z
        S[d:, :d] = S[:d, d:].T
        return S

    reach = 1.0 / (np.abs(D).max(axis=1) * np.abs(Z).max(axis=1))
    sizes = (np.abs(D) * reach[:, np.newaxis]).T @ np.abs(Z)
    y = np.concatenate([sizes.sum(axis=1), sizes.sum(axis=0)])
    y += y.mean()
    reach, y = 2.0 * reach / y.sum(), 2.0 * y / y.sum()
    dual = np.where(equal, 0.0, reach)
    barriers = N + m - np.count_nonzero(equal)
    weight = barriers / (np.abs(b) @ reach)
    total = np.concatenate([np.zeros(m), np.ones(N)])

    def solve(M: Float64Array, right: Float64Array) -> Float64Array:
        # Equalities may depend on each other.
        found = np.linalg.lstsq(M, right)[0] if equal.any() else np.linalg.solve(M, right)
        return np.asarray(found, dtype=np.float64)

    for _ in range(_MOST_STEPS):
        P = np.linalg.inv(slack(dual, y))
        of_tokens, of_queries = D @ P[:d], Z @ P[d:]
        mixed = of_tokens[:, d:] @ Z.T
        inverse = np.where(equal, 0.0, 1.0 / np.where(equal, 1.0, dual))
        gradient = np.concatenate([2.0 * np.diag(mixed) - inverse - weight * b, -np.diag(P)])
        hessian = np.empty((m + N, m + N))
        products = (of_tokens[:, :d] @ D.T) * (of_queries[:, d:] @ Z.T)
        hessian[:m, :m] = 2.0 * (products + mixed * mixed.T) + np.diag(inverse**2)
        hessian[:m, m:] = -2.0 * of_tokens * of_queries
        hessian[m:, :m] = hessian[:m, m:].T
        hessian[m:, m:] = P * P
        unit = 1.0 / np.sqrt(np.diag(hessian))
        scaled = np.stack([-gradient, total], axis=1) * unit[:, np.newaxis]
        # Rounding ends the method where it no longer finds a point inside.
        try:
            newton, along = solve(hessian * unit * unit[:, np.newaxis], scaled).T * unit
            newton = newton - along * (total @ newton) / (total @ along)
            decrease = -(gradient @ newton)
            near = decrease < 0.25**2
            share = 1.0 if near else 1.0 / (1.0 + np.sqrt(decrease))
            next_dual, next_y = dual + share * newton[:m], y + share * newton[m:]
            np.linalg.cholesky(slack(next_dual, next_y))
        except np.linalg.LinAlgError:
            break
        if not (decrease > 0 and (next_dual[~equal] > 0).all()):
            break
        dual, y = next_dual, next_y
        if near:
            if barriers <= 1e-5 * weight * (b @ dual):
                break
            weight *= 10.0
    return np.asarray(2.0 * dual / y.sum())


def _spanning_products(B: int, d: int, e: int) -> _Products:
    """Return d e products of signs that span all matrices: every W is a sum of them."""
    s, t = (1.0 - 2.0 * np.tri(k, k, -1).T for k in (d, e))
    every = np.repeat(s, e, axis=0), np.tile(t, (d, 1))
    s, t = (np.tile(signs, (B, 1, 1)) for signs in every)
    return _Products(s, t, np.zeros((B, d * e)))


def _unit_matrices(d: int, e: int) -> tuple[Float64Array, Float64Array]:
    """Return j and k of every E_jk = j k' as rows, shapes (d e, d) and (d e, e)."""
    return np.repeat(np.eye(d), e, axis=0), np.tile(np.eye(e), (d, 1))


def _parts(count: int, d: int, e: int, constraints: int = 1) -> list[slice]:
    """Cut 0..count into parts whose products fit in memory at the same time."""
    shorter, longer = sorted((d, e))
    each = 2 ** (min(shorter, MOST_SIGNS) - 1) * longer + 10 * constraints**2
    step = max(1, _NUMBERS_AT_ONCE // each)
    return [slice(k, min(k + step, count)) for k in range(0, count, step)]


def _require_enumerable(d: int, e: int) -> None:
    if min(d, e) > MOST_SIGNS:
        raise ValueError(
            f"norm: expected at most {MOST_SIGNS} rows or columns for 'cut', got {min(d, e)}"
        )
