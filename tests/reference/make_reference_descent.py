"""Make tests/data/reference_descent.npz: gradient descent in 150-digit arithmetic.

Run it without arguments; it takes a few minutes. README.md beside this file says what the
fixture holds.
"""

from __future__ import annotations

import json
from pathlib import Path

import mpmath
import numpy as np
import plain_attention

DIGITS = 150
DATA = Path(__file__).parents[1] / "data"
PUBLISHED = DATA / "local_converge_n6T8d10_seeds0-49.npz"
FIXTURE = DATA / "reference_descent.npz"
RAGGED = [8, 1, 5, 3, 7, 2]
INIT_SEED = 20230816


def runs() -> dict[str, dict[str, object]]:
    """List every run of the fixture: data set, parameter, loss, rule, step size, recorded steps."""
    table: dict[str, dict[str, object]] = {}

    def add(name: str, **changes: object) -> None:
        standard = {"dataset": 0, "loss": "logistic", "rule": "ngd", "lr": 0.1, "lengths": None}
        table[name] = standard | {"init": None} | changes

    for dataset in range(4):
        for parameter in ("W", "p"):
            record = [100, 500, 1000, 2000]
            add(f"{parameter}-data{dataset}", parameter=parameter, dataset=dataset, record=record)
    for parameter in ("W", "p"):
        for loss in ("exponential", "correlation"):
            add(f"{parameter}-{loss}", parameter=parameter, loss=loss, record=[100, 300])
        add(f"{parameter}-ragged", parameter=parameter, lengths=RAGGED, record=[100, 300])
        add(f"{parameter}-init", parameter=parameter, init=INIT_SEED, record=[100, 300])
    add("W-gd", parameter="W", rule="gd", lr=0.5, record=[100, 300])
    add("W-polyak", parameter="W", rule="polyak", record=[10, 50])
    return table


def descend(
    problem: plain_attention.Problem,
    init: plain_attention.MpArray,
    *,
    loss: str,
    rule: str,
    lr: float,
    record: list[int],
) -> dict[str, np.ndarray]:
    """Descend from `init` and record, at the given steps, what the fixture keeps of the iterate."""
    n, T, _ = problem.tokens.shape
    parameter = init
    kept: dict[str, list[object]] = {"parameter": [], "loss_gap": [], "log_grad_norm": []}
    for step in range(1, max(record) + 1):
        parameter = plain_attention.next_parameter(problem, parameter, loss=loss, rule=rule, lr=lr)
        if step in record:
            least = plain_attention.least_loss(problem, loss)
            gap = plain_attention.loss_value(problem, parameter, loss) - least
            slope = plain_attention.norm(plain_attention.gradient(problem, parameter, loss))
            kept["parameter"].append(parameter.astype(np.float64))
            kept["loss_gap"].append(float(gap))
            kept["log_grad_norm"].append(float(mpmath.log(slope)))
    log_attention = np.full((n, T), -np.inf)
    for i, weights in enumerate(plain_attention.attention(problem, parameter)):
        log_attention[i, : problem.lengths[i]] = plain_attention.log(weights)
    return {key: np.array(values) for key, values in kept.items()} | {
        "log_attention": log_attention
    }


def main() -> None:
    """Make the fixture."""
    published = np.load(PUBLISHED)
    mpmath.mp.dps = DIGITS

    table = runs()
    d = published["X"].shape[-1]
    fixture: dict[str, np.ndarray] = {"runs": np.array(json.dumps(table))}
    for name, run in table.items():
        shape = (d, d) if run["parameter"] == "W" else (d,)
        start = np.zeros(shape)
        if run["init"] is not None:
            start = np.random.default_rng(run["init"]).uniform(-1, 1, shape) / np.sqrt(d)
            fixture[f"{name}:init"] = start
        i = run["dataset"]
        problem = plain_attention.Problem.of(
            published["X"][i],
            published["Y"][i],
            published["v"][i],
            published["Z"][i] if run["parameter"] == "W" else None,
            run["lengths"],
        )
        options = {key: run[key] for key in ("loss", "rule", "lr", "record")}
        for key, values in descend(problem, plain_attention.exact(start), **options).items():
            fixture[f"{name}:{key}"] = values
        print(name, flush=True)
    np.savez_compressed(FIXTURE, **fixture)
    print(f"{FIXTURE}: {FIXTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
