"""Minimisation over a product of balls by a Riemannian trust-region method of second order.

A ball |x| <= R is the shadow of a sphere with one coordinate more: x = R u and a slack s with
|u|² + s² = 1. On the sphere there is no constraint left. s = 0 is the boundary of the ball, and
stays: no derivative leaves it. A minimiser on the boundary whose multiplier is negative is a saddle
of the sphere, which a small slack leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Evaluated", "Minimum", "Objective", "minimise"]

_EPS = float(np.finfo(np.float64).eps)
_FIRST_REACH = 0.5
_LARGEST_REACH = 1.5
_SMALLEST_REACH = 1e-15
_STALLED = 50
_SLACK = 0.3
_DROWNING = 1e8
_INNER = 1e-4
"""Each step reduces the residual this far at most: what is left beyond is rounding."""
_RESOLVED = 1e-150
"""Smallest ratio of two gradients that can be brought to one scale."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """An objective at one point.

    Attributes
    ----------
    value : float
    gradient : ndarray, shape (size,)
    hessian : callable
        Hessian times a vector, (size,) -> (size,).
    rounding : float
        Size of the numbers that went into `value`, whose rounding it carries.
    """

    value: float
    gradient: NDArray[np.float64]
    hessian: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    rounding: float


Objective = Callable[[NDArray[np.float64]], Evaluated]


@dataclass(frozen=True, eq=False)
class Minimum:
    """A stationary point on a product of balls, by block where that has a meaning.

    Attributes
    ----------
    point : ndarray, shape (size,)
    at : Evaluated
    multiplier : ndarray, shape (blocks,)
        μ of ∇F + μ x = 0; 0 inside.
    interior : ndarray of bool, shape (blocks,)
        Whether the block is inside its ball.
    residual : float
        Largest over the blocks of |∇F + μ x| / |∇F| on the boundary and of R |∇F| inside.
    iterations : int
    """

    point: NDArray[np.float64]
    at: Evaluated
    multiplier: NDArray[np.float64]
    interior: NDArray[np.bool_]
    residual: float
    iterations: int


class _Spheres:
    """Points of the product of spheres: u of all blocks, then one slack of each block."""

    def __init__(self, objective: Objective, sizes: Sequence[int], radii: Sequence[float]) -> None:
        self._objective = objective
        blocks = np.arange(len(sizes))
        self.block = np.concatenate([np.repeat(blocks, sizes), blocks])
        self.size = int(sum(sizes))
        self.blocks = len(sizes)
        self.radii = np.asarray(radii, dtype=np.float64)
        self.scale = self.radii[self.block]
        self.scale[self.size :] = 0.0  # the objective does not see the slack

    def dot(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inner products by block."""
        sums = np.bincount(self.block, a * b, minlength=self.blocks)
        return np.asarray(sums, dtype=np.float64)

    def norm(self, a: NDArray[np.float64]) -> NDArray[np.float64]:
        """Norms by block, without underflow of squares."""
        largest = np.array([np.abs(a[self.block == b]).max() for b in range(self.blocks)])
        unit = np.where(largest > 0, largest, 1.0)
        with np.errstate(under="ignore"):
            scaled = a / unit[self.block]
            norms: NDArray[np.float64] = largest * np.sqrt(self.dot(scaled, scaled))
        return norms

    def normalised(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = u / self.norm(u)[self.block]
        return result

    def tangent(self, u: NDArray[np.float64], a: NDArray[np.float64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = a - self.dot(u, a)[self.block] * u
        return result

    def at(self, u: NDArray[np.float64]) -> _Place:
        found = self._objective((self.scale * u)[: self.size])
        gradient = np.zeros_like(u)
        gradient[: self.size] = self.scale[: self.size] * found.gradient
        return _Place(self, u, found, gradient)


class _Place:
    """A point of the spheres with all that is known there."""

    def __init__(
        self,
        spheres: _Spheres,
        u: NDArray[np.float64],
        found: Evaluated,
        gradient: NDArray[np.float64],
    ) -> None:
        self.spheres, self.u, self.found = spheres, u, found
        self.value = found.value
        self.pull = -spheres.dot(u, gradient)  # multiplier of the unit sphere
        self.slope = gradient + self.pull[spheres.block] * u
        self.size = spheres.norm(gradient)
        self.interior = u[spheres.size :] != 0.0
        moving = self.size > 0
        # No gradient at all on the boundary says nothing about it: the residual is 1 there.
        on_boundary = np.where(
            moving, spheres.norm(self.slope) / np.where(moving, self.size, 1.0), 1.0
        )
        self.residuals = np.where(self.interior, self.size, on_boundary)
        self.residual = float(self.residuals.max())

    def curvature(self, step: NDArray[np.float64]) -> NDArray[np.float64]:
        """Riemannian Hessian times a tangent vector."""
        s = self.spheres
        image = np.zeros_like(step)
        image[: s.size] = s.scale[: s.size] * self.found.hessian((s.scale * step)[: s.size])
        return s.tangent(self.u, image + self.pull[s.block] * step)

    @property
    def rounding(self) -> float:
        return 16.0 * _EPS * (abs(self.value) + self.found.rounding)


def minimise(
    objective: Objective,
    start: NDArray[np.float64],
    sizes: Sequence[int],
    radii: Sequence[float],
    *,
    tol: float,
    max_iter: int,
    inside: bool = False,
) -> Minimum:
    """Local minimiser of an objective over |x_b| <= R_b for every block b of x.

    Parameters
    ----------
    objective : callable
        (size,) -> Evaluated.
    start : ndarray, shape (size,)
        Taken to the boundary along its direction, where no block is zero.
    sizes : sequence of int
        Coordinates of each block.
    radii : sequence of float
    tol : float
        Wanted residual.
    max_iter : int
        Trust-region steps.
    inside : bool
        Start where `start` is, in the interior of every ball, and reach no higher value.

    Returns
    -------
    Minimum
    """
    spheres = _Spheres(objective, sizes, radii)
    u = np.concatenate([start, np.zeros(spheres.blocks)])
    if inside:
        u /= spheres.radii[spheres.block]
        u[spheres.size :] = np.sqrt(1.0 - np.minimum(spheres.norm(u), 1.0) ** 2)
    u = spheres.normalised(u)
    place, iterations = _descend(spheres.at(u), tol, max_iter)
    # Each block is let into its ball once: it comes to rest inside, or at a better boundary point.
    for _ in range(spheres.blocks):
        outward = (place.pull < 0) & ~place.interior & (place.size > 0)
        if not outward.any() or iterations >= max_iter:
            break
        u = place.u.copy()
        u[spheres.size :][outward] = _SLACK
        within, more = _descend(spheres.at(spheres.normalised(u)), tol, max_iter - iterations)
        iterations += more
        returned = within.interior & (np.abs(within.u[spheres.size :]) < 1e-6)
        if returned.any():
            u = within.u.copy()
            u[spheres.size :][returned] = 0.0
            within, more = _descend(spheres.at(spheres.normalised(u)), tol, max_iter - iterations)
            iterations += more
        if within.value >= place.value:
            break
        place = within
    return Minimum(
        point=(spheres.scale * place.u)[: spheres.size],
        at=place.found,
        multiplier=np.where(place.interior, 0.0, place.pull / spheres.radii**2),
        interior=place.interior,
        residual=place.residual,
        iterations=iterations,
    )


def _descend(place: _Place, tol: float, max_iter: int) -> tuple[_Place, int]:
    """Trust-region steps until the residual is below `tol` or nothing is gained any more."""
    spheres = place.spheres
    reach = _FIRST_REACH
    stalled = 0
    for iteration in range(max_iter):
        lost = not place.size.any()  # the gradient has underflown
        if place.residual <= tol or lost or stalled >= _STALLED or reach < _SMALLEST_REACH:
            return place, iteration
        step, predicted = _trust_region_step(place, reach, tol)
        trial = spheres.at(spheres.normalised(place.u + step))
        gained = place.value - trial.value
        rounding = place.rounding
        if abs(gained) <= rounding and predicted <= rounding:
            # The values are equal but for rounding. Their slopes along the step are not.
            gained = _gain_by_slopes(place, trial)
            stalled = 0 if trial.residual < 0.5 * place.residual else stalled + 1
            ratio = gained / predicted if predicted > 0 else 0.0
        else:
            ratio = (gained + rounding) / (predicted + rounding)
            stalled = 0
        length = float(spheres.norm(step).max())
        if ratio < 0.25:
            reach = 0.25 * min(reach, length)
        elif ratio > 0.75 and length > 0.8 * reach:
            reach = min(2.0 * reach, _LARGEST_REACH)
        good = ratio > 0.1
        if good:
            place = trial
    return place, max_iter


def _gain_by_slopes(before: _Place, after: _Place) -> float:
    """Decrease of the value between two points, by the trapezium rule."""
    chord = after.u - before.u
    slopes = [place.slope @ place.spheres.tangent(place.u, chord) for place in (before, after)]
    return -0.5 * float(sum(slopes))


def _trust_region_step(
    place: _Place, reach: float, tol: float
) -> tuple[NDArray[np.float64], float]:
    """Step of truncated conjugate gradients (Steihaug, Toint), and the decrease it predicts.

    No block moves further than `reach`. Blocks whose gradients differ by orders of magnitude are
    brought to one scale: their curvature is at least the multiplier, of the size of the gradient.
    A block that has converged stays where its rounding would drown the others.
    """
    spheres = place.spheres
    unresolved = place.residuals > tol
    loud = place.size > _DROWNING * place.size[unresolved].max()
    moving = (unresolved | ~loud)[spheres.block]
    largest = place.size.max()
    size = np.where(place.size > _RESOLVED * largest, place.size, largest)
    scale = (largest / size)[spheres.block]
    step, image = np.zeros_like(place.u), np.zeros_like(place.u)
    rest = np.where(moving, place.slope, 0.0)
    direction = -scale * rest
    square = -float(rest @ direction)
    wanted = square * min(0.1, max(place.residual, _INNER)) ** 2
    for _ in range(2 * place.u.size + 10):
        if square <= wanted:
            break
        bent = np.where(moving, place.curvature(direction), 0.0)
        curvature = float(direction @ bent)
        border = _length_to_border(spheres, step, direction, reach)
        length = square / curvature if curvature * border > square else border
        step = step + length * direction
        image = image + length * bent
        if length == border:
            break
        rest = spheres.tangent(place.u, rest + length * bent)
        before, square = square, float(rest @ (scale * rest))
        direction = -scale * rest + (square / before) * direction
    return step, -float(place.slope @ step + 0.5 * (step @ image))


def _length_to_border(
    spheres: _Spheres, step: NDArray[np.float64], direction: NDArray[np.float64], reach: float
) -> float:
    """Largest t such that no block of step + t direction is longer than `reach`."""
    size = spheres.norm(direction)
    moving = size > 0
    unit = direction / np.where(moving, size, 1.0)[spheres.block]
    along = spheres.dot(step, unit)
    across = spheres.norm(step - along[spheres.block] * unit)
    room = np.sqrt(np.maximum(reach**2 - across**2, 0.0)) - along
    return float(np.min(room[moving] / size[moving], initial=np.inf))
