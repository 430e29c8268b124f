"""The machines as they are written in the papers, solved by programs that attsvm does not use.

One dense row per constraint, by a loop over inputs and tokens; a conic solver (Clarabel) in W
itself for the solution, a linear program (HiGHS) for whether there is one.
"""

from __future__ import annotations

import itertools

import clarabel
import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.optimize import linprog

Array = NDArray[np.float64]


def attention_rows(tokens: Array, queries: Array | None, selected, lengths=None) -> Array:
    """Rows a with a'vec(W) = (x_ia - x_it)' W z_i for every t but a; without queries, a'p."""
    rows = []
    for i, (X, a) in enumerate(zip(tokens, selected, strict=True)):
        valid = len(X) if lengths is None else lengths[i]
        for t in range(valid):
            if t != a:
                difference = X[a] - X[t]
                rows.append(difference if queries is None else np.kron(difference, queries[i]))
    width = tokens.shape[2] * (1 if queries is None else queries.shape[1])
    return np.array(rows).reshape(-1, width)


def required_margins(tokens: Array, required) -> Array:
    """1 for each constraint of a required input, 0 for the others."""
    return np.repeat(np.where(required, 1.0, 0.0), tokens.shape[1] - 1)


def smallest(rows: Array, rhs: Array, equality=None) -> Array:
    """Minimise |w| subject to rows w >= rhs, or = where `equality`, by Clarabel."""
    if equality is None:
        equality = np.zeros(len(rhs), dtype=bool)
    order = np.argsort(~equality, kind="stable")
    width = rows.shape[1]
    cones = [
        clarabel.ZeroConeT(int(equality.sum())),
        clarabel.NonnegativeConeT(int((~equality).sum())),
    ]
    for tolerance in (1e-14, 1e-12):
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.tol_gap_abs = settings.tol_gap_rel = tolerance
        settings.tol_feas = 1e-12
        solution = clarabel.DefaultSolver(
            scipy.sparse.identity(width, format="csc"),
            np.zeros(width),
            scipy.sparse.csc_matrix(-rows[order]),
            -rhs[order],
            cones,
            settings,
        ).solve()
        if str(solution.status) == "Solved":
            return np.array(solution.x)
    raise AssertionError(f"Clarabel did not solve the problem: {solution.status}")


def feasible(rows: Array, rhs: Array) -> bool:
    """Whether rows w >= rhs has a solution, for right-hand sides 0 and 1, by HiGHS.

    The size of a row does not change the answer, so all rows are scaled to 1.
    """
    size = np.abs(rows).max(axis=1, initial=0.0)
    scaled = rows / np.where(size > 0, size, 1.0)[:, np.newaxis]
    width = rows.shape[1]
    answer = linprog(np.zeros(width), A_ub=-scaled, b_ub=-rhs, bounds=(None, None), method="highs")
    assert answer.status in (0, 2), answer.message
    return bool(answer.status == 0)


def smallest_nuclear_norm(rows: Array, d: int) -> float:
    """Smallest |W|_* with rows vec(W) >= 1, W of shape (d, d), as a semidefinite program.

    min ½ tr X, X = [X1 W; W' X2] positive semidefinite, by Clarabel; it takes the upper triangle of
    X column by column, entries off the diagonal times √2.
    """
    order = 2 * d
    column, row = np.tril_indices(order)
    place = {(int(i), int(j)): k for k, (i, j) in enumerate(zip(row, column, strict=True))}
    of_W = [place[i, d + j] for i in range(d) for j in range(d)]
    entries = scipy.sparse.lil_matrix((len(rows), len(place)))
    entries[:, of_W] = rows / np.sqrt(2)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    solution = clarabel.DefaultSolver(
        scipy.sparse.csc_matrix((len(place), len(place))),
        np.where(row == column, 0.5, 0.0),
        scipy.sparse.vstack([-entries, -scipy.sparse.identity(len(place))], format="csc"),
        np.concatenate([-np.ones(len(rows)), np.zeros(len(place))]),
        [clarabel.NonnegativeConeT(len(rows)), clarabel.PSDTriangleConeT(order)],
        settings,
    ).solve()
    assert str(solution.status) == "Solved", solution.status
    return float(solution.obj_val)


def smallest_norm(rows: Array, d: int, norm: str | float, rhs=None, equality=None) -> float:
    """Smallest N(W) with rows vec(W) >= rhs, or = where `equality`, W of shape (d, e).

    N is "max", "l1" or "cut", by a linear program (HiGHS), "spec" by a semidefinite one, or l_p for
    a number, by power cones (Clarabel). "cut" takes a variable for every product s t' of signs.
    """
    rhs = np.ones(len(rows)) if rhs is None else rhs
    equality = np.zeros(len(rows), dtype=bool) if equality is None else equality
    if norm in ("max", "l1"):
        return _by_linear_program(rows, norm, rhs, equality)
    width = rows.shape[1]
    e = width // d
    if norm == "cut":
        return _by_linear_program(rows @ products_of_signs(d, e).T, "l1", rhs, equality)
    if norm == "spec":
        # (W, τ): τ I + [0 W; W' 0] positive semidefinite, upper triangle column by column
        order = d + e
        column, row = np.tril_indices(order)
        place = {(int(i), int(j)): k for k, (i, j) in enumerate(zip(row, column, strict=True))}
        cone = scipy.sparse.lil_matrix((len(place), width + 1))
        for i in range(d):
            for j in range(e):
                cone[place[i, d + j], i * e + j] = -np.sqrt(2)
        for i in range(order):
            cone[place[i, i], width] = -1.0
        more, cones = [cone], [clarabel.PSDTriangleConeT(order)]
        variables = width + 1
    else:
        # (W, τ, t): t_k^(1/p) τ^(1 - 1/p) >= |w_k|, Σ t = τ
        p = float(norm)
        cone = scipy.sparse.lil_matrix((3 * width, 2 * width + 1))
        for k in range(width):
            cone[3 * k, width + 1 + k] = cone[3 * k + 1, width] = cone[3 * k + 2, k] = -1.0
        total = np.zeros((1, 2 * width + 1))
        total[0, width + 1 :], total[0, width] = 1.0, -1.0
        more, cones = [cone, total], [clarabel.PowerConeT(1 / p) for _ in range(width)]
        cones.append(clarabel.ZeroConeT(1))
        variables = 2 * width + 1
    order = np.argsort(~equality, kind="stable")
    padded = np.hstack([rows[order], np.zeros((len(rows), variables - width))])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-9
    goal = np.zeros(variables)
    goal[width] = 1.0
    solution = clarabel.DefaultSolver(
        scipy.sparse.csc_matrix((variables, variables)),
        goal,
        scipy.sparse.vstack([scipy.sparse.csc_matrix(-padded), *more], format="csc"),
        np.concatenate([-rhs[order], np.zeros(sum(part.shape[0] for part in more))]),
        [
            clarabel.ZeroConeT(int(equality.sum())),
            clarabel.NonnegativeConeT(int((~equality).sum())),
            *cones,
        ],
        settings,
    ).solve()
    assert str(solution.status) in ("Solved", "AlmostSolved"), solution.status
    return float(solution.obj_val)


def products_of_signs(d: int, e: int) -> Array:
    """Every s t' of vectors of signs but for its own, as rows (2^(d+e-1), d e)."""
    s, t = (np.array(list(itertools.product((1.0, -1.0), repeat=k))) for k in (d, e))
    return np.einsum("kj,lc->kljc", s[: len(s) // 2], t).reshape(-1, d * e)


def spread_of_solutions(rows: Array, norm: str, along: Array) -> float:
    """max a'w - min a'w over the w of smallest max or l1 norm with rows w >= 1, over that norm."""
    goal, columns, program = _linear_program(
        rows, norm, np.ones(len(rows)), np.zeros(len(rows), dtype=bool)
    )
    smallest = _least(goal, program)
    program["A_ub"] = np.vstack([program["A_ub"], goal])
    program["b_ub"] = np.r_[program["b_ub"], smallest * (1 + 1e-11)]
    across = columns(along[np.newaxis])[0]
    return -(_least(across, program) + _least(-across, program)) / smallest


def _by_linear_program(rows: Array, norm: str, rhs: Array, equality) -> float:
    goal, _, program = _linear_program(rows, norm, rhs, equality)
    return _least(goal, program)


def _least(goal: Array, program) -> float:
    precise = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    answer = linprog(goal, **program, method="highs", options=precise)
    assert answer.status == 0, answer.message
    return float(answer.fun)


def _linear_program(rows: Array, norm: str, rhs: Array, equality):
    """Goal, map of rows in w to rows in the variables, and constraints."""
    width = rows.shape[1]
    if norm == "max":  # (W, τ), |w_k| <= τ
        goal = np.r_[np.zeros(width), 1.0]
        one = np.ones((width, 1))
        bound = np.vstack([np.hstack([np.eye(width), -one]), np.hstack([-np.eye(width), -one])])
        bounds = (None, None)
    else:  # W = W⁺ - W⁻
        goal = np.ones(2 * width)
        bound, bounds = np.zeros((0, 2 * width)), (0, None)

    def columns(of_w: Array) -> Array:
        return np.hstack([of_w, np.zeros((len(of_w), 1)) if norm == "max" else -of_w])

    equal = {"A_eq": columns(rows[equality]), "b_eq": rhs[equality]} if equality.any() else {}
    above = {
        "A_ub": np.vstack([-columns(rows[~equality]), bound]),
        "b_ub": np.r_[-rhs[~equality], np.zeros(len(bound))],
    }
    return goal, columns, {"bounds": bounds, **above, **equal}
