"""Random problems that several tests draw."""

from __future__ import annotations

import numpy as np

from attsvm import AttentionData


def random_problem(seed, n=3, T=4, d=3, batch=()):
    """Gaussian, without a value; lengths 1..T, the first of them T."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, T + 1, (*batch, n))
    lengths[..., 0] = T
    return AttentionData(
        rng.standard_normal((*batch, n, T, d)),
        rng.choice([-1.0, 1.0], (*batch, n)),
        queries=rng.standard_normal((*batch, n, d)),
        lengths=lengths,
    )
