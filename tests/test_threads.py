"""How many threads are used: what OpenMP and the container say, unless the caller says it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from threadpoolctl import threadpool_limits

import attsvm
from attsvm import _core
from attsvm.threads import processors, thread_count

needs_openmp = pytest.mark.skipif(not _core.openmp, reason="the core was built without OpenMP")


def test_a_number_is_taken_as_it_is():
    assert thread_count(7) == 7


def test_default_is_at_least_one_and_no_more_than_there_are_processors():
    assert 1 <= thread_count(None) <= processors() <= (os.cpu_count() or 1)


@needs_openmp
def test_omp_num_threads_is_respected():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from attsvm.threads import thread_count; print(thread_count(None))",
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1"


@needs_openmp
def test_threadpoolctl_is_respected():
    with threadpool_limits(limits=1, user_api="openmp"):
        assert thread_count(None) == 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("shape", "batch"), [((40, 30, 40), None), ((3, 4, 5), 21), ((30, 30, 30), 3)]
)
def test_results_do_not_depend_on_the_number_of_threads(shape, batch, dtype):
    data = attsvm.datasets.unit_sphere(*shape, batch=batch, rng=0, dtype=dtype)
    one = attsvm.train(data, steps=60, num_threads=1, reference=None)
    for threads in (2, 3, 16):
        many = attsvm.train(data, steps=60, num_threads=threads)
        assert one.direction.tobytes() == many.direction.tobytes()
        assert one.log_attention.tobytes() == many.log_attention.tobytes()
        for key, values in one.history.items():
            assert values.tobytes() == many.history[key].tobytes()
