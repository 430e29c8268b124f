"""Make tests/data/reference_factored.npz: descent on the factors of W = K Q' in many digits.

Run it without arguments; it takes a minute. README.md beside this file says what the fixture
holds.
"""

from __future__ import annotations

from pathlib import Path

import mpmath
import numpy as np
import plain_attention

# At the end the gradient is near 1e-100, and the plain formula loses as many digits.
DIGITS = 300
DATA = Path(__file__).parents[1] / "data"
PUBLISHED = DATA / "local_converge_n6T8d10_seeds0-49.npz"
FIXTURE = DATA / "reference_factored.npz"
RUNS = {"square-data0": (0, 10), "square-data1": (1, 10), "narrow-data2": (2, 3)}
STEPS = 500
# At 0.1, descent on the factors is unstable from about step 250: one part in 1e14 grows to one in a
# thousand by step 500, in any arithmetic. At 0.05 it does not grow.
RATE = 0.05


def main() -> None:
    """Make the fixture."""
    published = np.load(PUBLISHED)
    mpmath.mp.dps = DIGITS
    d = published["X"].shape[-1]
    rate = mpmath.mpf(RATE)
    fixture: dict[str, np.ndarray] = {}
    for name, (dataset, inner) in RUNS.items():
        problem = plain_attention.Problem.of(
            *(published[key][dataset] for key in ("X", "Y", "v", "Z")), None
        )
        start = np.random.default_rng(dataset).uniform(-1, 1, (2, d, inner)) / np.sqrt(d)
        fixture[f"{name}:start"] = start
        K, Q = plain_attention.exact(start[0]), plain_attention.exact(start[1])
        for _ in range(STEPS):
            G = plain_attention.gradient(problem, K @ Q.T, "logistic")
            to_K, to_Q = G @ Q, G.T @ K
            K = K - rate / plain_attention.norm(to_K) * to_K
            Q = Q - rate / plain_attention.norm(to_Q) * to_Q
        fixture[f"{name}:end"] = np.stack([K.astype(np.float64), Q.astype(np.float64)])
        print(name, flush=True)
    np.savez_compressed(FIXTURE, **fixture)
    print(f"{FIXTURE}: {FIXTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
