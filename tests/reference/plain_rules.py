"""Step rules by their textbook formulas, in arithmetic of any precision.

A rule is a function of the gradient that keeps what it needs from step to step. Arrays are NumPy
arrays of ``mpmath.mpf``, as in `plain_attention`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
from plain_attention import MpArray, norm

_abs = np.frompyfunc(abs, 1, 1)
_sign = np.frompyfunc(lambda x: mpmath.sign(x), 1, 1)
_sqrt = np.frompyfunc(mpmath.sqrt, 1, 1)
RELATIVE_RANK = mpmath.mpf(10) ** -12


def _power(array: MpArray, exponent: mpmath.mpf) -> MpArray:
    return np.frompyfunc(lambda x: x**exponent if x else mpmath.mpf(0), 1, 1)(array)


def singular_pairs(G: MpArray) -> list[tuple[mpmath.mpf, MpArray, MpArray]]:
    """Singular values, falling, with their vectors, from G'G in twice the digits."""
    with mpmath.workdps(2 * mpmath.mp.dps):
        values, vectors = mpmath.eigsy(mpmath.matrix((G.T @ G).tolist()))
    pairs = []
    for k in reversed(range(len(values))):
        v = np.array([vectors[j, k] for j in range(G.shape[1])], dtype=object)
        u = G @ v
        size = norm(u)
        if size > RELATIVE_RANK * (pairs[0][0] if pairs else 0):
            pairs.append((size, u / size, v))
    return pairs


def dual_norm(G: MpArray, p: mpmath.mpf) -> mpmath.mpf:
    """l_q norm of the entries, 1/p + 1/q = 1."""
    q = p / (p - 1)
    return _power(_abs(G), q).sum() ** (1 / q)


def direction(G: MpArray, of: str | float) -> MpArray:
    """Steepest direction of G in the norm of this name, or in l_p."""
    if of == "fro":
        return G / norm(G)
    if of == "max":
        return _sign(G)
    if of == "l1":
        at = np.unravel_index(np.argmax(_abs(G)), G.shape)
        D = 0 * G
        D[at] = _sign(G[at])
        return D
    if of in ("spec", "nuc"):
        pairs = singular_pairs(G)
        return sum(np.outer(u, v) for _, u, v in (pairs if of == "spec" else pairs[:1]))
    p = mpmath.mpf(of)
    q = p / (p - 1)
    return _sign(G) * _power(_abs(G) / dual_norm(G, p), q - 1)


def newton_schulz(G: MpArray, iterations: int) -> MpArray:
    """The quintic iteration of Muon in practice."""
    a, b, c = (mpmath.mpf(x) for x in (3.4445, -4.7750, 2.0315))
    X = G / norm(G)
    for _ in range(iterations):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return X


Step = Callable[[MpArray, MpArray, mpmath.mpf], MpArray]


def step_of(kind: str, **settings: Any) -> Step:
    """Return step(W, G, rate) of a new run with the rule."""
    kept: dict[str, Any] = {"k": 0}
    norms = {"sign": "max", "signum": "max", "lion": "max", "coordinate": "l1"}
    norms |= {"spectral": "spec", "muon": "spec"}
    of = settings.get("norm", norms.get(kind, "fro"))
    averages = {"signum": (0.9, 0.9), "muon": (0.95, 0.95), "lion": (0.9, 0.99)}
    if "ema" in settings:
        averages = {kind: (settings["ema"], settings["ema"])}
    decay = mpmath.mpf(settings.get("weight_decay", 0.01 if kind == "adamw" else 0.0))

    def averaged(G: MpArray) -> MpArray:
        if kind not in averages:
            return G
        seen, held = (mpmath.mpf(x) for x in averages[kind])
        before = kept.get("M", 0 * G)
        kept["M"] = held * before + (1 - held) * G
        return seen * before + (1 - seen) * G

    def adam(G: MpArray) -> MpArray:
        first, second = (mpmath.mpf(x) for x in settings.get("betas", (0.9, 0.999)))
        kept["k"] += 1
        kept["m"] = first * kept.get("m", 0 * G) + (1 - first) * G
        kept["s"] = second * kept.get("s", 0 * G) + (1 - second) * G * G
        root = _sqrt(kept["s"] / (1 - second ** kept["k"])) + mpmath.mpf(settings["epsilon"])
        return kept["m"] / (1 - first ** kept["k"]) / root

    def step(W: MpArray, G: MpArray, rate: mpmath.mpf) -> MpArray:
        shrunk = (1 - rate * decay) * W
        if kind in ("adam", "adamw"):
            return shrunk - rate * adam(G)
        M = averaged(G)
        if kind.endswith("mirror"):
            p = mpmath.mpf(of)
            V = kept.get("V", _sign(W) * _power(_abs(W), p - 1))
            kept["V"] = V - rate * (M if kind == "plain_mirror" else M / dual_norm(M, p))
            return _sign(kept["V"]) * _power(_abs(kept["V"]), 1 / (p - 1))
        if settings.get("newton_schulz"):
            return shrunk - rate * newton_schulz(M, settings["newton_schulz"])
        D = direction(M, of)
        return shrunk - rate * ((M * D).sum() * D if kind == "gd" else D)

    return step
