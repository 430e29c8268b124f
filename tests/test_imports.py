"""attsvm computes the same beside torch, jax and scikit-learn, whichever of them is imported first.

Each of them brings threads of its own, and torch and scikit-learn an OpenMP beside attsvm's; in one
process they share names, processors and the rounding modes of registers.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec

import pytest

NEIGHBOURS = ("torch", "jax", "sklearn")

PROGRAM = """
    import hashlib
    import importlib
    import multiprocessing
    import sys

    import numpy as np

    logits = np.random.default_rng(0).standard_normal((600, 700))
    softmax = np.exp(logits)
    softmax /= softmax.sum(axis=1, keepdims=True)


    def attsvm_trains(threads=2):
        import attsvm

        data = attsvm.datasets.unit_sphere(40, 33, 37, rng=0)
        packs = attsvm.datasets.unit_sphere(3, 4, 5, batch=21, rng=0)
        runs = [attsvm.train(x, steps=60, num_threads=threads) for x in (data, packs)]
        return hashlib.sha256(b"".join(run.direction.tobytes() for run in runs)).hexdigest()


    def torch_agrees():
        import torch

        torch.set_num_threads(2)
        found = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
        np.testing.assert_allclose(found, softmax, rtol=1e-12)


    def jax_agrees():
        import jax

        jax.config.update("jax_enable_x64", True)
        found = jax.jit(lambda x: jax.nn.softmax(x, axis=1))(logits)
        np.testing.assert_allclose(np.asarray(found), softmax, rtol=1e-12)


    def sklearn_agrees():
        from sklearn.cluster import KMeans

        sides = np.repeat([0, 1], 1000)
        points = np.random.default_rng(1).standard_normal((2000, 5)) + 100 * sides[:, np.newaxis]
        found = KMeans(2, n_init=1, random_state=0).fit(points).labels_
        assert set(found[:1000]).isdisjoint(found[1000:])


    computations = {
        "attsvm": lambda: answers.append(attsvm_trains()),
        "torch": torch_agrees,
        "jax": jax_agrees,
        "sklearn": sklearn_agrees,
    }
    answers = []
    order = sys.argv[2:]
    for name in order:
        importlib.import_module(name)
    for name in (*order, *order):
        computations[name]()

    if sys.argv[1] == "fork":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            answers += pool.map(attsvm_trains, [1, 2, 3, 2])
        computations["attsvm"]()
    (answer,) = set(answers)
    print(answer)
"""


def answer(*order: str, then: str = "end", **environment: str) -> str:
    missing = [name for name in order if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install --group neighbours")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), then, *order],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def alone() -> str:
    return answer("attsvm")


@pytest.mark.parametrize("neighbour", ["jax", "sklearn"])  # after torch: where a child is forked
def test_attsvm_last(neighbour, alone):
    assert answer(neighbour, "attsvm") == alone


def test_attsvm_first(alone):
    assert answer("attsvm", *NEIGHBOURS) == alone


@pytest.mark.slow
@pytest.mark.parametrize("order", [*itertools.permutations(("attsvm", *NEIGHBOURS))], ids="-".join)
def test_any_order_of_all(order, alone):
    assert answer(*order) == alone


@pytest.mark.parametrize("order", [("attsvm",), ("torch", "attsvm")], ids="-".join)
def test_a_forked_child_trains_after_its_parent(order, alone):
    assert answer(*order, then="fork") == alone


@pytest.mark.slow
@pytest.mark.parametrize("order", [("attsvm", "torch"), ("sklearn", "attsvm")], ids="-".join)
def test_a_forked_child_trains_beside_another_openmp(order, alone):
    assert answer(*order, then="fork") == alone


def test_a_subinterpreter_gets_an_error_and_the_main_one_works():
    program = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
run = getattr(interpreters, "run_string")
script = (
    "import warnings; warnings.simplefilter('ignore')\\n"
    "try: import attsvm\\n"
    "except ImportError as error: print(error, flush=True)"
)
run(interpreters.create(), script)
import attsvm
print(attsvm.train(attsvm.datasets.unit_sphere(3, 3, 3, rng=0), steps=3).steps)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == (
        "attsvm: cannot be imported in a subinterpreter; import it in the main one\n3\n"
    ), done.stderr
