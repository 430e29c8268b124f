"""Search the best point at each radius of a regularisation path."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from attsvm._arrays import Float64Array
from attsvm._softmax import log_softmax
from attsvm.descent.ball import Minimum, Objective, minimise
from attsvm.descent.path_problem import PathProblem
from attsvm.progress import watcher

_LOOSE = 1e-3
_SMALL_GROWTH = 1.3
_SAME_ATTENTION = 1e-6


class PathSearch:
    """Minimisers at increasing radii: local ones are starting points at the next radius."""

    def __init__(
        self,
        problem: PathProblem,
        starts: int,
        tol: float,
        max_iter: int,
        generator: np.random.Generator,
    ) -> None:
        self._problem, self._starts = problem, starts
        self._tol, self._max_iter = tol, max_iter
        self._generator = generator
        self._margins = problem.margins()
        self._wide: Float64Array | None = None
        self._local: list[Minimum] = []
        self._radii = np.empty(0)
        self.iterations: list[int] = []
        self._tell = watcher()
        self._searches = 0

    def at(self, radii: Float64Array, given: Float64Array | None) -> Minimum | None:
        """Return the best minimiser found, None where every point is one."""
        problem, self._searches = self._problem, 0
        if problem.constant:
            self.iterations.append(0)
            return None
        spent = 0
        starts = [found.point for found in self._local]
        if not self.iterations:
            downhill, spent = self._grown(problem.objective, radii)
            starts = [downhill] if given is None else [downhill, given]
            size = sum(problem.sizes)
            starts += [self._generator.standard_normal(size) for _ in range(self._starts)]
        if self._margins is not None:
            if self._wide is None:
                self._wide, more = self._grown(self._margins, radii)
                spent += more
            found = self._minimise(self._margins, self._wide, radii, _LOOSE)
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

    def _in_small_steps(self, found: Minimum, radii: Float64Array) -> Minimum:
        """Follow a minimiser from the last radius to this one by radii that grow slowly."""
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
        x: Float64Array,
        radii: Float64Array,
        tol: float,
        *,
        inside: bool = False,
    ) -> Minimum:
        self._searches += 1
        return minimise(
            objective,
            x if inside else self._nonzero(x),
            self._problem.sizes,
            radii.tolist(),
            tol=tol,
            max_iter=self._max_iter,
            inside=inside,
            watch=None if self._tell is None else self._watch,
        )

    def _watch(self, steps: int, residual: float) -> None:
        assert self._tell is not None
        self._tell(lambda: f"search {self._searches}, step {steps}, residual {residual:.0e}")

    def _grown(self, objective: Objective, radii: Float64Array) -> tuple[Float64Array, int]:
        """Follow the path from radii where logits are about 1; return its end and iterations."""
        reach = max(radii.max() * self._problem.reach, 1.0)
        count = int(np.ceil(np.log(reach) / np.log(4.0)))
        x, iterations = self._nonzero(self._problem.downhill()), 0
        for j in range(count, 0, -1):
            found = self._minimise(objective, x, radii * 4.0**-j, _LOOSE)
            x, iterations = found.point, iterations + found.iterations
        return x, iterations

    def _nonzero(self, x: Float64Array) -> Float64Array:
        """Return `x` with random directions in place of blocks of zeros."""
        blocks = np.split(x, np.cumsum(self._problem.sizes)[:-1])
        return np.concatenate(
            [b if b.any() else self._generator.standard_normal(b.size) for b in blocks]
        )

    def _different(self, local: list[Minimum]) -> list[Minimum]:
        """Return the minimisers, best first, one of those with the same attention."""
        kept: list[tuple[Minimum, Float64Array]] = []
        for found in sorted(local, key=lambda found: (found.at.value, found.residual)):
            attention = np.exp(log_softmax(self._problem.logits(found.point), 1))
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
