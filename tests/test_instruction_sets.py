"""The core compiled for every instruction set gives the same numbers, and import picks one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import attsvm
from attsvm import _core
from attsvm._dispatch import available_levels

RUN = """
    import sys
    import numpy as np
    import attsvm
    from attsvm import _core
    assert _core.isa == sys.argv[1]
    sphere = attsvm.datasets.unit_sphere
    results = {}
    for name, data in {
        "one": sphere(6, 8, 10, rng=0),
        "packs": sphere(5, 7, 9, batch=13, rng=1),
        "large": sphere(40, 33, 37, rng=2),
        "long": sphere(4, 3, 200, rng=3),
        "float32": sphere(20, 9, 50, rng=4, dtype=np.float32),
    }.items():
        for parameter in ("W", "p"):
            run = attsvm.train(data, parameter=parameter, steps=200)
            results[f"{name}-{parameter}"] = run.direction
            results[f"{name}-{parameter}-log"] = run.log_attention
            results[f"{name}-{parameter}-gap"] = run.history["loss_gap"]
    rng = np.random.default_rng(5)
    data = sphere(5, 7, 9, batch=13, rng=6)
    heads = {
        "relu": attsvm.heads.ReLU(rng.standard_normal((13, 9, 6))),
        "penalised": attsvm.heads.Penalised(rng.standard_normal((13, 9)), 0.3),
    }
    for name, head in heads.items():
        run = attsvm.train(data, head=head, steps=100)
        results[f"{name}-W"] = run.W
    for attention in ("p", "W"):
        run = attsvm.train(data, parameter=("v", attention), steps=100, certify=True, ridge=1e-6)
        results[f"joint-{attention}"] = run.direction
        results[f"joint-{attention}-v"] = run.v
        results[f"joint-{attention}-certified"] = run.history["certified_cosine"]
    data = attsvm.AttentionData.per_position(data.tokens, data.labels, value=data.value)
    results["causal"] = attsvm.train(data, steps=100).W
    for name, data in {
        "batch": sphere(4, 5, 8, batch=20, rng=7),
        "infeasible": sphere(9, 5, 3, batch=20, rng=8),
        "large": sphere(40, 12, 30, rng=9),
    }.items():
        solution = attsvm.att_svm(data, attsvm.optimal_tokens(data), solver="native")
        results[f"svm-{name}-feasible"] = np.asarray(solution.feasible, dtype=float)
        results[f"svm-{name}-norm"] = np.nan_to_num(solution.norm)
        results[f"svm-{name}-W"] = np.nan_to_num(solution.W)
    data = sphere(4, 5, 8, batch=6, rng=7)
    solution = attsvm.att_svm(data, attsvm.optimal_tokens(data), norm="nuc")
    results["svm-nuclear-norm"] = solution.norm
    data = attsvm.datasets.next_token(400, 9, 20, 24, rng=3)
    results["ids"] = attsvm.train(data, steps=50).W
    np.savez(sys.argv[2], **results)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels")
    found = {}
    for level in available_levels():
        file = folder / f"{level}.npz"
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(RUN), level, str(file)],
            env={**os.environ, "ATTSVM_ISA": level},
            check=True,
        )
        with np.load(file) as arrays:
            found[level] = dict(arrays)
    return found


@pytest.mark.slow
def test_all_instruction_sets_agree(results):
    best, *others = results.values()
    if not others:
        pytest.skip("compared where several levels are compiled that the processor has")
    for other in others:
        for name, expected in best.items():
            np.testing.assert_allclose(
                other[name], expected, rtol=1e-10, atol=1e-13 * np.abs(expected).max(), err_msg=name
            )


def test_import_picks_the_best_level():
    wanted = os.environ.get("ATTSVM_ISA") or available_levels()[0]
    assert _core.isa == wanted
    assert _core.__name__ == f"attsvm._core_{wanted}"


def test_unknown_level_is_refused_by_name():
    done = subprocess.run(
        [sys.executable, "-c", "import attsvm"],
        env={**os.environ, "ATTSVM_ISA": "avx1024"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "ATTSVM_ISA: expected one of" in done.stderr
    assert "'avx1024'" in done.stderr


def test_version_is_the_distribution_s():
    assert attsvm.__version__.count(".") == 2
