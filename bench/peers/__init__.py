"""One file for each library: `descent`, `svm` or `figure` takes a task and returns its run.

A run of descent is called with the number of steps, from the start each time; the others with
nothing. A run returns when the work is done, and what it returns gives the answer when called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.tasks import Array

Run = Callable[..., Callable[[], Any]]


class NotAvailable(Exception):  # noqa: N818 - a fact about a contender, not an error of the run
    """The contender does not have what a task asks for."""


def gradients(
    parameter: str, query_gradient: Callable[[Any], Any], Z: Any, blocks: list[Any]
) -> list[Any]:
    """Compute the gradient of each block, from u_i = dloss/dq_i as a function of the q_i.

    For arrays of NumPy, PyTorch or JAX, in which `@` and `mT` are the same; q of a prompt has one
    row for all inputs.
    """
    if parameter == "p":
        return [query_gradient(blocks[0][..., None, :]).sum(-2)]
    if parameter == "W":
        return [query_gradient(Z @ blocks[0].mT).mT @ Z]
    K, Q = blocks
    G = query_gradient((Z @ Q) @ K.mT).mT @ Z
    return [G @ Q, G.mT @ K]


__all__ = ["Array", "NotAvailable", "Run", "gradients"]
