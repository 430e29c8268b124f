"""Proof within a minute that attsvm works: its rooms, its instruction sets, its command line.

    python tests/smoke.py [--installed]

It needs nothing but attsvm and what that requires. `--installed` also asks that attsvm does not
come from these sources.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import attsvm
from attsvm import _core
from attsvm._dispatch import available_levels

SOURCES = Path(__file__).resolve().parents[1]


def descent_and_svm_agree() -> None:
    data = attsvm.datasets.unit_sphere(6, 8, 10, rng=0)
    run = attsvm.train(data, steps=2000, num_threads=2)
    svm = attsvm.att_svm(data, run.selected)
    assert attsvm.classify(data, run) == "global"
    assert attsvm.cosine(run.W, svm.W) > 0.999
    assert max(svm.gap, svm.kkt) < 1e-12
    native = attsvm.att_svm(data, run.selected, solver="native")
    np.testing.assert_allclose(native.W, svm.W, rtol=1e-8, atol=1e-10)
    nuclear = attsvm.att_svm(data, run.selected, norm="nuc")
    assert nuclear.gap < 1e-9


def threads_do_not_change_results() -> None:
    for batch in (None, 21):
        data = attsvm.datasets.unit_sphere(40, 30, 40, batch=batch, rng=0)
        one, two = (attsvm.train(data, steps=60, num_threads=k).direction for k in (1, 2))
        assert one.tobytes() == two.tobytes()


def next_tokens_are_learnt() -> None:
    data = attsvm.datasets.next_token(20, 5, 8, 10, rng=0)
    run = attsvm.train(data, steps=2000)
    assert attsvm.cosine(run.W, attsvm.graph_svm(data).W) > 0.9


def files_and_commands_work() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        attsvm.save(path, attsvm.datasets.unit_sphere(6, 8, 10, rng=0))
        attsvm_says("info")
        for command in ("train", "svm"):
            attsvm_says(command, str(path), "--out", str(path.with_name(f"{command}.npz")))
        assert len(list(Path(folder).glob("*.npz"))) == 3
    assert attsvm_says("--version").strip() == f"attsvm {attsvm.__version__}"


def attsvm_says(*words: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "attsvm", *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def every_level_runs() -> None:
    for level in available_levels():
        assert f"{level} (available" in attsvm_says("info", ATTSVM_ISA=level)


def main() -> None:
    where = Path(attsvm.__file__).resolve()
    if "--installed" in sys.argv[1:]:
        assert SOURCES / "python" not in where.parents, f"attsvm comes from the sources: {where}"
    for proof in (
        descent_and_svm_agree,
        threads_do_not_change_results,
        next_tokens_are_learnt,
        files_and_commands_work,
        every_level_runs,
    ):
        proof()
        print(f"{proof.__name__.replace('_', ' ')}: yes")
    print(
        f"attsvm {attsvm.__version__} works, Python {sys.version.split()[0]}, {_core.isa}: {where}"
    )


if __name__ == "__main__":
    main()
