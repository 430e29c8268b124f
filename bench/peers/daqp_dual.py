"""DAQP on the dual: a dual active-set method for dense problems of small size."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

import daqp
import numpy as np

from bench.peers.qp_dual import solve_each
from bench.tasks import Array, Machine


def version() -> str:
    return metadata.version("daqp")


def svm(task: Machine) -> Callable[[], Callable[[], Array]]:
    return solve_each(task, _solve)


def _solve(K: Array, gap: float) -> Array:
    m = len(K)
    dual, *_ = daqp.solve(
        K, -np.ones(m), np.empty((0, m)), np.full(m, 1e30), np.zeros(m), np.zeros(m, np.int32)
    )
    return np.asarray(dual)
