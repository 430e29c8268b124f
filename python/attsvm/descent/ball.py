"""Minimise over a product of balls by a Riemannian trust-region method of second order.

A ball |x| <= R is the projection of a unit sphere with one more coordinate, a slack s: x = R u with
|u|² + s² = 1. On the sphere the problem has no constraint. The boundary of the ball is s = 0, where
derivatives by s vanish: iterates that start there stay there. A minimiser on the boundary whose
multiplier is negative is a saddle point of the sphere, which a small slack leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from attsvm._arrays import BoolArray, Float64Array
from attsvm._linalg import euclidean_norm

_EPS = float(np.finfo(np.float64).eps)
_FIRST_RADIUS = 0.5
_LARGEST_RADIUS = 1.5
_SMALLEST_RADIUS = 1e-15
_STALLED = 50
_SLACK = 0.3
_DOMINANT = 1e8
_REDUCTION = 1e-4
"""Each step reduces the residual this far at most: what is left beyond is rounding."""
_SQUARE_OF_ALL = 1e-280
"""A sum of squares beyond this has lost none that counts to underflow."""
_RESOLVED = 1e-150
"""Smallest ratio of two gradients that can be brought to one scale."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The value and derivatives of an objective at one point."""

    value: float
    gradient: Float64Array  # (size,)
    hessian: Callable[[Float64Array], Float64Array]  # Hessian times a vector, (size,) -> (size,)
    rounding: float  # size of the numbers behind `value`, which is exact to their rounding


Objective = Callable[[Float64Array], Evaluated]
Watch = Callable[[int, float], None]


@dataclass(frozen=True, eq=False)
class Minimum:
    """A stationary point on a product of balls."""

    point: Float64Array  # (size,)
    at: Evaluated
    multiplier: Float64Array  # (blocks,): μ of ∇F + μ x = 0; 0 inside
    interior: BoolArray  # (blocks,): whether the block is inside its ball
    residual: float  # largest over the blocks of |∇F + μ x| / |∇F| on the boundary, R |∇F| inside
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

    def dot(self, a: Float64Array, b: Float64Array) -> Float64Array:
        """Compute inner products by block."""
        sums = np.bincount(self.block, a * b, minlength=self.blocks)
        return np.asarray(sums, dtype=np.float64)

    def norm(self, a: Float64Array) -> Float64Array:
        """Compute norms by block, without underflow of squares."""
        with np.errstate(under="ignore", over="ignore"):
            squares = self.dot(a, a)
        exact = squares.min() > _SQUARE_OF_ALL and squares.max() < np.inf
        if exact or not a.any():
            return np.sqrt(squares)
        return np.array([euclidean_norm(a[self.block == b]) for b in range(self.blocks)])

    def tangent(self, u: Float64Array, a: Float64Array) -> Float64Array:
        return np.asarray(a - self.dot(u, a)[self.block] * u)

    def at(self, u: Float64Array) -> _Point:
        """Return the point in the direction of u, with what the objective is there."""
        u = np.asarray(u / self.norm(u)[self.block])
        found = self._objective((self.scale * u)[: self.size])
        gradient = np.zeros_like(u)
        gradient[: self.size] = self.scale[: self.size] * found.gradient
        return _Point(self, u, found, gradient)


class _Point:
    """A point of the spheres with the objective, its gradient and multipliers there."""

    def __init__(
        self, spheres: _Spheres, u: Float64Array, found: Evaluated, gradient: Float64Array
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

    def curvature(self, step: Float64Array) -> Float64Array:
        """Multiply the Riemannian Hessian with a tangent vector."""
        s = self.spheres
        image = np.zeros_like(step)
        image[: s.size] = s.scale[: s.size] * self.found.hessian((s.scale * step)[: s.size])
        return s.tangent(self.u, image + self.pull[s.block] * step)

    @property
    def rounding(self) -> float:
        return 16.0 * _EPS * (abs(self.value) + self.found.rounding)


def minimise(
    objective: Objective,
    start: Float64Array,
    sizes: Sequence[int],
    radii: Sequence[float],
    *,
    tol: float,
    max_iter: int,
    inside: bool = False,
    watch: Watch | None = None,
) -> Minimum:
    """Find a local minimiser of an objective over |x_b| <= R_b for every block b of x.

    x has the coordinates `start` (size,), of which each block has its share in `sizes`. The start
    is taken to the boundary along its direction, where no block is zero; with `inside` it stays in
    the interior of every ball, and no higher value is accepted. The search takes at most `max_iter`
    trust-region steps to the residual `tol`; `watch` is called before each of them with the number
    of steps so far and the residual.
    """
    spheres = _Spheres(objective, sizes, radii)
    u = np.concatenate([start, np.zeros(spheres.blocks)])
    if inside:
        u /= spheres.radii[spheres.block]
        u[spheres.size :] = np.sqrt(1.0 - np.minimum(spheres.norm(u), 1.0) ** 2)
    point, iterations = _descend(spheres.at(u), tol, max_iter, watch)
    # A block with a negative multiplier starts again inside its ball, once: it converges there, or
    # to a better point of the boundary.
    for _ in range(spheres.blocks):
        outward = (point.pull < 0) & ~point.interior & (point.size > 0)
        if not outward.any() or iterations >= max_iter:
            break
        u = point.u.copy()
        u[spheres.size :][outward] = _SLACK
        within, more = _descend(spheres.at(u), tol, max_iter - iterations, watch)
        iterations += more
        returned = within.interior & (np.abs(within.u[spheres.size :]) < 1e-6)
        if returned.any():
            u = within.u.copy()
            u[spheres.size :][returned] = 0.0
            within, more = _descend(spheres.at(u), tol, max_iter - iterations, watch)
            iterations += more
        if within.value >= point.value:
            break
        point = within
    return Minimum(
        point=(spheres.scale * point.u)[: spheres.size],
        at=point.found,
        multiplier=np.where(point.interior, 0.0, point.pull / spheres.radii**2),
        interior=point.interior,
        residual=point.residual,
        iterations=iterations,
    )


def _descend(point: _Point, tol: float, max_iter: int, watch: Watch | None) -> tuple[_Point, int]:
    """Take trust-region steps until the residual is below `tol` or the value falls no more."""
    spheres = point.spheres
    trust_radius = _FIRST_RADIUS
    stalled = 0
    for iteration in range(max_iter):
        lost = not point.size.any()  # the gradient has underflown
        if point.residual <= tol or lost or stalled >= _STALLED or trust_radius < _SMALLEST_RADIUS:
            return point, iteration
        if watch is not None:
            watch(iteration, point.residual)
        step, predicted = _trust_region_step(point, trust_radius, tol)
        trial = spheres.at(point.u + step)
        gained = point.value - trial.value
        rounding = point.rounding
        if abs(gained) <= rounding and predicted <= rounding:
            # The values are equal but for rounding. Their slopes along the step are not.
            gained = _gain_by_slopes(point, trial)
            stalled = 0 if trial.residual < 0.5 * point.residual else stalled + 1
            ratio = gained / predicted if predicted > 0 else 0.0
        else:
            ratio = (gained + rounding) / (predicted + rounding)
            stalled = 0
        length = float(spheres.norm(step).max())
        if ratio < 0.25:
            trust_radius = 0.25 * min(trust_radius, length)
        elif ratio > 0.75 and length > 0.8 * trust_radius:
            trust_radius = min(2.0 * trust_radius, _LARGEST_RADIUS)
        good = ratio > 0.1
        if good:
            point = trial
    return point, max_iter


def _gain_by_slopes(before: _Point, after: _Point) -> float:
    """Estimate the decrease of the value between two points by the trapezium rule."""
    chord = after.u - before.u
    slopes = [point.slope @ point.spheres.tangent(point.u, chord) for point in (before, after)]
    return -0.5 * float(sum(slopes))


def _trust_region_step(
    point: _Point, trust_radius: float, tol: float
) -> tuple[Float64Array, float]:
    """Compute a step of truncated conjugate gradients (Steihaug, Toint) and its predicted decrease.

    No block moves further than `trust_radius`. Blocks are preconditioned by the sizes of their
    gradients, which may differ by orders of magnitude: their curvature is at least the multiplier,
    of the size of the gradient. A block that has converged stays fixed if the rounding of its
    gradient would exceed the gradients of the others.
    """
    spheres = point.spheres
    unresolved = point.residuals > tol
    dominant = point.size > _DOMINANT * point.size[unresolved].max()
    moving = (unresolved | ~dominant)[spheres.block]
    largest = point.size.max()
    size = np.where(point.size > _RESOLVED * largest, point.size, largest)
    scale = (largest / size)[spheres.block]
    step, image = np.zeros_like(point.u), np.zeros_like(point.u)
    rest = np.where(moving, point.slope, 0.0)
    direction = -scale * rest
    square = -float(rest @ direction)
    wanted = square * min(0.1, max(point.residual, _REDUCTION)) ** 2
    for _ in range(2 * point.u.size + 10):
        if square <= wanted:
            break
        curved = np.where(moving, point.curvature(direction), 0.0)
        curvature = float(direction @ curved)
        to_boundary = _length_to_boundary(spheres, step, direction, trust_radius)
        length = square / curvature if curvature * to_boundary > square else to_boundary
        step = step + length * direction
        image = image + length * curved
        if length == to_boundary:
            break
        rest = spheres.tangent(point.u, rest + length * curved)
        before, square = square, float(rest @ (scale * rest))
        direction = -scale * rest + (square / before) * direction
    return step, -float(point.slope @ step + 0.5 * (step @ image))


def _length_to_boundary(
    spheres: _Spheres, step: Float64Array, direction: Float64Array, trust_radius: float
) -> float:
    """Return the largest t with no block of step + t direction longer than `trust_radius`."""
    size = spheres.norm(direction)
    moving = size > 0
    unit = direction / np.where(moving, size, 1.0)[spheres.block]
    along = spheres.dot(step, unit)
    across = spheres.norm(step - along[spheres.block] * unit)
    reach = np.sqrt(np.maximum(trust_radius**2 - across**2, 0.0)) - along
    return float(np.min(reach[moving] / size[moving], initial=np.inf))
