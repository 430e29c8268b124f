"""Make tests/data/reference_rules.npz: every step rule in 150-digit arithmetic.

Run it without arguments; it takes an hour. README.md beside this file says what the fixture holds.
"""

from __future__ import annotations

import json
import sys
from multiprocessing import Pool
from pathlib import Path

import mpmath
import numpy as np
import plain_attention
import plain_rules

DIGITS = 150
MORE_DIGITS = {"mirror1.75": 800, "mirror1.1": 4000}  # where W grows faster
DATA = Path(__file__).parents[1] / "data"
PUBLISHED = DATA / "local_converge_n6T8d10_seeds0-49.npz"
FIXTURE = DATA / "reference_rules.npz"
LONG = [10, 100, 300, 1000]
RULES = {
    "sign": ({"kind": "sign"}, 0.01, LONG),
    "coordinate": ({"kind": "coordinate"}, 0.1, LONG),
    "spectral": ({"kind": "spectral"}, 0.04, LONG),
    # At 0.1 the two largest singular values meet at step 150, and steps go to and fro between their
    # pairs: an error grows by 10^6 until step 200, in any arithmetic.
    "rank-one": ({"kind": "ngd", "norm": "nuc"}, 0.01, LONG),
    # |G|^(1/2) has infinite slope at 0: where an entry of G passes 0, 1e-16 makes 1e-8 of a step.
    "l3": ({"kind": "ngd", "norm": 3.0}, 0.01, LONG),
    "l1.5": ({"kind": "ngd", "norm": 1.5}, 0.1, LONG),
    "gd-max": ({"kind": "gd", "norm": "max"}, 0.01, LONG),
    "ngd-ema": ({"kind": "ngd", "ema": 0.9}, 0.1, LONG),
    "signum": ({"kind": "signum"}, 0.01, LONG),
    "muon": ({"kind": "muon"}, 0.04, LONG),
    "muon-newton-schulz": ({"kind": "muon", "newton_schulz": 5}, 0.04, LONG),
    "lion": ({"kind": "lion"}, 0.01, LONG),
    "adam-0": ({"kind": "adam", "epsilon": 0.0}, 0.01, LONG),
    # An error grows by 10^20 from step 500 to step 1000, in any arithmetic.
    "adam-.9-.9": ({"kind": "adam", "epsilon": 0.0, "betas": (0.9, 0.9)}, 0.01, [10, 100, 300]),
    "adamw": ({"kind": "adamw", "epsilon": 1e-8, "weight_decay": 0.1}, 0.01, LONG),
    "sign-decay": ({"kind": "sign", "weight_decay": 0.3}, 0.01, LONG),
    "mirror3": ({"kind": "mirror", "norm": 3.0}, 0.1, LONG),
    "mirror1.75": ({"kind": "mirror", "norm": 1.75}, 0.1, LONG),
    "mirror1.1": ({"kind": "mirror", "norm": 1.1}, 0.1, [10, 20]),
    "plain_mirror3": ({"kind": "plain_mirror", "norm": 3.0}, 0.1, LONG),
}


def run(name: str) -> tuple[str, np.ndarray, np.ndarray]:
    """W and log |G| at the recorded steps."""
    settings, lr, record = RULES[name]
    mpmath.mp.dps = MORE_DIGITS.get(name, DIGITS)
    published = np.load(PUBLISHED)
    problem = plain_attention.Problem.of(*(published[key][0] for key in ("X", "Y", "v", "Z")))
    d = published["X"].shape[-1]
    W = plain_attention.exact(np.zeros((d, d)))
    step, rate = plain_rules.step_of(**settings), mpmath.mpf(lr)
    kept, logs = [], []
    for k in range(1, record[-1] + 1):
        G = plain_attention.gradient(problem, W, "logistic")
        W = step(W, G, rate)
        if k in record:
            kept.append(W.astype(np.float64))
            G = plain_attention.gradient(problem, W, "logistic")
            logs.append(float(mpmath.log(plain_attention.norm(G))))
    return name, np.array(kept), np.array(logs)


def main() -> None:
    """Make the fixture, or the runs that are named on the command line."""
    names = sys.argv[1:] or list(RULES)
    fixture = dict(np.load(FIXTURE)) if sys.argv[1:] and FIXTURE.exists() else {}
    fixture["runs"] = np.array(json.dumps({name: RULES[name] for name in RULES}))
    with Pool(1) as pool:
        for name, W, log_grad_norm in pool.imap_unordered(run, names):
            fixture |= {f"{name}:W": W, f"{name}:log_grad_norm": log_grad_norm}
            print(name, flush=True)
            np.savez_compressed(FIXTURE, **fixture)


if __name__ == "__main__":
    main()
