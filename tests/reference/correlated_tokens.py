"""Data of correlated tokens, as real embeddings are."""

from __future__ import annotations

import numpy as np

import attsvm


def correlated(n: int, T: int, d: int, noise: float, directions: int = 8, seed: int = 0):
    """Tokens of length 1 on common directions and `noise`; of each the best is selected."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((directions, d))
    tokens = rng.standard_normal((n, T, directions)) @ common
    tokens += noise * rng.standard_normal((n, T, d))
    tokens /= np.linalg.norm(tokens, axis=2, keepdims=True)
    labels, value = rng.choice([-1, 1], n), rng.standard_normal(d)
    data = attsvm.AttentionData(tokens, labels, queries=tokens[:, 0].copy(), value=value)
    return data, attsvm.optimal_tokens(data)
