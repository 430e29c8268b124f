"""The number of threads, what is thrown on them, and the quota of control groups."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from threadpoolctl import threadpool_limits

import attsvm
from attsvm import _core
from attsvm.threads import processors, quota_of_groups, thread_count

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


@pytest.mark.parametrize("count", [4097, 2**40, 2**64])
def test_more_threads_than_a_machine_has_are_refused(count):
    with pytest.raises(ValueError, match=r"num_threads: expected 1..4096, got "):
        thread_count(count)


def run_limited(script: str) -> str:
    """Run Python with 120 MB of memory beyond what the import takes; what it prints."""
    limit = """
        import resource, attsvm, numpy as np
        from attsvm import _core
        def limit(megabytes):
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20,) * 2)
    """
    script = textwrap.dedent(limit) + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


linux_only = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="limits the address space as Linux does"
)


@linux_only
def test_threads_that_cannot_be_started_are_done_without():
    done = run_limited("""
        data = attsvm.datasets.unit_sphere(400, 16, 64, rng=0)
        one = attsvm.train(data, steps=60, num_threads=1)
        limit(120)  # 64 stacks of 8 MB do not fit
        print((attsvm.train(data, steps=60, num_threads=64).W == one.W).all())
    """)
    assert done == "True"


@linux_only
def test_an_exception_on_a_thread_is_raised_by_the_call():
    done = run_limited("""
        rows = np.random.default_rng(0).standard_normal((1, 100, 50_000))
        _core.row_bases(rows=rows[:, :, :2000].copy(), threads=2)  # starts the threads
        limit(45)
        try:
            _core.row_bases(rows=rows, threads=2)
        except MemoryError:
            print("MemoryError")
    """)
    assert done == "MemoryError"


def write_groups(folder, groups: str, **files: str):
    (folder / "groups").write_text(groups)
    for name, text in files.items():
        file = folder / "root" / name.replace("__", "/").replace("_max", ".max")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return quota_of_groups(folder / "groups", folder / "root")


def test_the_smallest_quota_of_nested_groups_counts(tmp_path):
    found = write_groups(
        tmp_path,
        "0::/system.slice/job\n",
        **{"system.slice__job__cpu_max": "max 100000", "system.slice__cpu_max": "200000 100000"},
    )
    assert found == 2.0


def test_a_quota_of_version_1_counts(tmp_path):
    job = tmp_path / "root" / "cpu" / "job"
    job.mkdir(parents=True)
    (job / "cpu.cfs_quota_us").write_text("150000\n")
    (job / "cpu.cfs_period_us").write_text("100000\n")
    assert write_groups(tmp_path, "4:cpu,cpuacct:/job\n3:memory:/job\n") == 1.5


@pytest.mark.parametrize("text", ["", "max 100000", "what is this", "1 2 3", "-1 100000", "5 0"])
def test_a_quota_that_cannot_be_read_is_none(tmp_path, text):
    assert write_groups(tmp_path, "0::/\nnonsense\n", cpu_max=text) is None
