"""SVMs in exact arithmetic: margins of a W in float64, and Farkas multipliers as fractions."""

from __future__ import annotations

from fractions import Fraction
from math import frexp

import numpy as np


class Exact:
    """An array of floats as integers times a power of two, so that sums and products are exact.

    Attributes
    ----------
    integers : ndarray of object
        Python integers.
    exponent : int
        Of the power of two.
    """

    def __init__(self, values, exponent=None):
        if exponent is not None:
            self.integers, self.exponent = values, exponent
            return
        values = np.asarray(values, dtype=np.float64)
        nonzero = np.abs(values[values != 0])
        self.exponent = frexp(nonzero.min())[1] - 53 if nonzero.size else 0
        scaled = [int(Fraction(x) / Fraction(2) ** self.exponent) for x in values.ravel().tolist()]
        self.integers = np.array(scaled, dtype=object).reshape(values.shape)

    def __matmul__(self, other):
        return Exact(np.dot(self.integers, other.integers), self.exponent + other.exponent)

    def __sub__(self, other):
        exponent = min(self.exponent, other.exponent)
        return Exact(self._in_units(exponent) - other._in_units(exponent), exponent)

    def __getitem__(self, where):
        return Exact(self.integers[where], self.exponent)

    def _in_units(self, exponent):
        return self.integers * 2 ** (self.exponent - exponent)

    def fractions(self):
        unit = Fraction(2) ** self.exponent
        return [Fraction(x) * unit for x in self.integers.ravel().tolist()]


def exact_rows(tokens, queries, selected):
    """Rows a with a'vec(W) = (x_ia - x_it)' W z_i for every t but a; without queries, a'p."""
    X, Z = Exact(tokens), None if queries is None else Exact(queries)
    rows, exponents = [], []
    for i, a in enumerate(selected):
        for t in range(len(tokens[i])):
            if t == a:
                continue
            difference = X[i, a] - X[i, t]
            rows.append(
                difference.integers
                if Z is None
                else np.outer(difference.integers, Z.integers[i]).ravel()
            )
            exponents.append(difference.exponent + (0 if Z is None else Z.exponent))
    assert len(set(exponents)) <= 1
    return Exact(np.array(rows, dtype=object), exponents[0] if exponents else 0)


def proves_infeasible(rows: Exact, rhs, equality, multipliers) -> bool:
    """Whether λ (>= 0 on inequalities) with rows'λ = 0 and rhs'λ = 1 exists on their support.

    By the simplex method in fractions, with Bland's rule: the equations rows'λ = 0 and rhs'λ = 1
    have an artificial variable each, and the sum of these is to become 0.
    """
    support = np.flatnonzero(multipliers)
    columns = []
    for r in support:
        column = [Fraction(x) for x in rows.integers[r].tolist()] + [Fraction(rhs[r])]
        columns.append(column)
        if equality[r]:
            columns.append([-x for x in column])
    height = len(columns[0])
    # Rows of the tableau; the artificial variable of row k is basic in it at first.
    table = [
        [column[k] for column in columns] + [Fraction(int(k == height - 1))] for k in range(height)
    ]
    count = len(columns)
    basic = [count + k for k in range(height)]
    cost = [-sum(row[j] for row in table) for j in range(count + 1)]
    while True:
        entering = next((j for j in range(count) if cost[j] < 0), None)
        if entering is None:
            return cost[-1] == 0
        ratios = [
            (row[-1] / row[entering], basic[k], k)
            for k, row in enumerate(table)
            if row[entering] > 0
        ]
        if not ratios:
            return False
        leaving = min(ratios)[2]
        pivot = table[leaving][entering]
        table[leaving] = [x / pivot for x in table[leaving]]
        for k, row in enumerate(table):
            if k != leaving and row[entering] != 0:
                factor = row[entering]
                table[k] = [x - factor * y for x, y in zip(row, table[leaving], strict=True)]
        factor = cost[entering]
        cost = [x - factor * y for x, y in zip(cost, table[leaving], strict=True)]
        basic[leaving] = entering


def smallest(rows: Exact, rhs, equality):
    """The multipliers of the smallest W with rows W >= rhs, or = rhs, as fractions; None: no W.

    By the dual active set method, in which each constraint that is missed enters while those whose
    multiplier falls to zero leave.
    """
    gram = Exact(rows.integers @ rows.integers.T, 2 * rows.exponent).fractions()
    m = len(rhs)
    K = np.array(gram, dtype=object).reshape(m, m)
    dual, active = np.array([Fraction(0)] * m, dtype=object), []

    def enter(r):
        while True:
            share = _solved(K[np.ix_(active, active)], K[active, r]) if active else []
            distance = K[r, r] - sum(x * K[s, r] for s, x in zip(active, share, strict=True))
            missing = Fraction(rhs[r]) - K[r] @ dual
            if distance == 0 and missing == 0:
                return True
            sign = 1 if missing > 0 else -1
            full = abs(missing) / distance if distance > 0 else None
            blocked = [
                (dual[s] / (sign * x), s)
                for s, x in zip(active, share, strict=True)
                if sign * x > 0 and not equality[s]
            ]
            step, leaving = min(blocked, default=(None, None))
            if step is None or (full is not None and full <= step):
                step, leaving = full, None
            if step is None:
                return False
            for s, x in zip(active, share, strict=True):
                dual[s] -= step * sign * x
            dual[r] += step * sign
            if leaving is None:
                active.append(r)
                return True
            active.remove(leaving)

    if not all(enter(r) for r in range(m) if equality[r]):
        return None
    while True:
        values = K @ dual
        missed = [r for r in range(m) if not equality[r] and values[r] < rhs[r]]
        if not missed:
            return dual
        if not enter(missed[0]):
            return None


def _solved(M, b):
    """M⁻¹ b in fractions."""
    table = [[*row, x] for row, x in zip(M.tolist(), b.tolist(), strict=True)]
    for k in range(len(table)):
        pivot = next(i for i in range(k, len(table)) if table[i][k] != 0)
        table[k], table[pivot] = table[pivot], table[k]
        for i, row in enumerate(table):
            if i != k and row[k] != 0:
                factor = row[k] / table[k][k]
                table[i] = [x - factor * y for x, y in zip(row, table[k], strict=True)]
    return [row[-1] / row[k] for k, row in enumerate(table)]
