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
