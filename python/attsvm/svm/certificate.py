"""Certificates: what makes the answer of a solver trustworthy, computed from the data alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attsvm.svm.constraints import Constraints, Float64Array, UnitConstraints, factored_norm

__all__ = [
    "FARKAS_TOLERANCE",
    "LARGEST_ROUNDING",
    "NUCLEAR_OPTIMALITY_TOLERANCE",
    "OPTIMALITY_TOLERANCE",
    "OptimalityCertificate",
    "certify_optimality",
    "farkas_residual",
]

OPTIMALITY_TOLERANCE = 1e-9
NUCLEAR_OPTIMALITY_TOLERANCE = 1e-8
LARGEST_ROUNDING = 1e-6
FARKAS_TOLERANCE = 1e-9
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class OptimalityCertificate:
    """How far a primal and a dual point are from proving each other optimal.

    Attributes
    ----------
    gap : float
        Relative duality gap.
    kkt : float
        Largest residual of the optimality conditions.
    rounding : float
        What a float64 W may leave of them: the rounding of A_r(W), for right-hand sides of 1.
    """

    gap: float
    kkt: float
    rounding: float

    def holds(self) -> bool:
        """Whether both residuals are small enough to call the answer optimal."""
        worst = max(self.gap, self.kkt)
        return worst <= OPTIMALITY_TOLERANCE + min(self.rounding, LARGEST_ROUNDING)


def certify_optimality(
    scaled: UnitConstraints, left: Float64Array, right: Float64Array, dual: Float64Array
) -> OptimalityCertificate:
    """Duality gap and optimality residual of w = left' right with multipliers `dual`.

    Parameters
    ----------
    scaled : UnitConstraints
        Both points are in its units; the results do not depend on the units.
    left, right : ndarray, shapes (k, d) and (k, e)
    dual : ndarray, shape (m,)

    Notes
    -----
    Gap: (f - g) / f with the dual value g = b'λ - ½|A*λ|² and f = ½|s w|², where s scales w so that
    every constraint with a positive right-hand side holds. Where the others (right-hand side 0,
    equality) are missed, f is raised by |λ_r| times the miss, which makes it an upper bound of the
    optimal value to first order. s is 1 when an equality has a right-hand side other than 0.

    KKT residual: the largest of the violations of the constraints, max(-λ_r, 0) / max |λ|,
    |λ_r (A_r(W) - b_r)| / b'λ, and |W - A*λ| / |W|.
    """
    unit = scaled.unit
    values = unit.values(left, right)
    sums = unit.token_sums(dual)
    norm = factored_norm(left, right)
    gain = float(unit.rhs @ dual)

    def missed(at: Float64Array) -> Float64Array:
        short = unit.rhs - at
        return np.where(unit.equality, np.abs(short), np.maximum(short, 0.0))

    if not (gain > 0 and norm > 0):
        return OptimalityCertificate(np.inf, np.inf, 0.0)
    positive = (unit.rhs > 0) & ~unit.equality
    scaling = 1.0
    if not np.any(unit.equality & (unit.rhs != 0)):
        smallest = float((values[positive] / unit.rhs[positive]).min(initial=np.inf))
        scaling = 1.0 / smallest if smallest > 0 else np.inf
    if scaling == np.inf:
        return OptimalityCertificate(np.inf, np.inf, 0.0)
    penalty = np.abs(dual[~positive]) @ missed(scaling * values)[~positive]
    primal_value = 0.5 * (scaling * norm) ** 2 + float(penalty)
    dual_value = gain - 0.5 * factored_norm(sums, unit.queries) ** 2

    difference = factored_norm(np.vstack([left, -sums]), np.vstack([right, unit.queries]))
    kkt = max(
        float(scaled.original_values(missed(values)).max()),
        float(np.maximum(-dual[~unit.equality], 0.0).max(initial=0.0) / np.abs(dual).max()),
        float(np.abs(dual * (values - unit.rhs)).max()) / gain,
        difference / norm,
    )
    rounding = 64 * _EPS * float(scaled.original_values(np.full(unit.m, norm)).max())
    return OptimalityCertificate(abs(primal_value - dual_value) / primal_value, kkt, rounding)


def farkas_residual(unit: Constraints, certificate: Float64Array) -> float:
    """How far multipliers are from proving that no W meets the constraints.

    Multipliers λ >= 0 (of any sign on equalities) with A*λ = 0 and b'λ > 0 leave no W, for then
    0 = <A*λ, W> >= b'λ. In floating point A*λ is not quite 0, and what is proved is
    |W|_F >= b'λ / |A*λ|_F. The residual is the inverse of that bound, times the size of W that a
    constraint asks for on its own: |A*λ|_F / Σ |λ_r| over the constraints with b_r other than 0,
    divided by b'λ / Σ |b_r λ_r|, which is 1 unless equalities cancel.

    Parameters
    ----------
    unit : Constraints
        With unit rows.
    certificate : ndarray, shape (m,)
        λ, of any scale.

    Returns
    -------
    float
        inf if a sign or b'λ is wrong.
    """
    gain = float(unit.rhs @ certificate)
    if not gain > 0 or np.any(certificate[~unit.equality] < 0):
        return np.inf
    weight = float(np.abs(certificate[unit.rhs != 0]).sum())
    cancelled = float(np.abs(unit.rhs * certificate).sum()) / gain
    return cancelled * factored_norm(unit.token_sums(certificate), unit.queries) / weight
