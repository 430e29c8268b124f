"""Studies on a Dask cluster: the same bytes as here, whatever becomes of the workers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import dask
import distributed
import numpy as np
import pytest
from attrs import evolve
from distributed.utils import get_mp_context
from file_tree import content

import attsvm
from attsvm.studies import MEASUREMENTS, Study, cluster, run
from attsvm.studies.compute import batch_size
from attsvm.studies.measurements import measurable
from attsvm.studies.store import RESULTS

EVERY = measurable(MEASUREMENTS, ["W", "p"], {"value", "queries"})
SMALL = Study(name="small", n=3, T=4, d=(2, 5), problems=30, steps=60, measure=EVERY)

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")


@contextmanager
def _preloaded(*modules: str):
    """Have processes of Dask forked from one that has imported these modules, in this context."""
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(list(modules))
        yield


@pytest.fixture(scope="module")
def client():
    """Three processes of one thread, forked from one that has imported what they need."""
    with (
        _preloaded("distributed", "attsvm.studies.cluster"),
        distributed.LocalCluster(
            n_workers=3, threads_per_worker=1, dashboard_address=":0"
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        yield client


def test_a_cluster_gives_the_bytes_that_this_process_gives(client, tmp_path):
    run(SMALL, tmp_path / "here", progress=False)
    results = run(SMALL, tmp_path / "there", scheduler=client, progress=False)
    assert results.finished.all()
    assert content(tmp_path / "there") == content(tmp_path / "here")


def test_parts_and_tasks_of_any_size_are_put_together(client, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "batch_size", lambda *_: 8)
    run(SMALL, tmp_path / "here", progress=False)
    run(SMALL, tmp_path / "there", scheduler=client, progress=False)
    assert content(tmp_path / "there") == content(tmp_path / "here")


def test_workers_share_the_memory_and_batches_fit_into_it(monkeypatch):
    monkeypatch.setattr("attsvm.studies.cluster.MEMORY_LIMIT", 2**31)
    with (
        cluster._local_cluster(1) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        (worker,) = client.scheduler_info()["workers"].values()
        assert worker["memory_limit"] == 2**30
        memory = cluster._memory_of_batch(client)
    assert 0 < memory < 0.6 * 2**30
    settings = {"n": 20, "T": 8, "d": 200}
    count = batch_size(settings, memory=memory // 4)
    assert 1 < count < batch_size(settings)
    assert 128 * count * 200**2 <= memory // 4  # 8 bytes of W, ten copies and four that wait
    assert batch_size(settings, memory=1) == 1


def test_smaller_batches_are_said_and_give_the_same_bytes(client, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_memory_of_batch", lambda _: 100_000)
    run(SMALL, tmp_path / "here", progress=False)
    message = r"^batches of \d problems, where there would be 256: each worker has 0.0001 GB"
    with pytest.warns(UserWarning, match=message):
        run(SMALL, tmp_path / "there", scheduler=client, progress=False)
    assert content(tmp_path / "there") == content(tmp_path / "here")


def test_more_workers_than_the_memory_holds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("attsvm.studies.cluster.MEMORY_LIMIT", 2**31)
    message = r"^workers: expected more than 0.28 GB of memory .*, got 0.2 GB: take fewer$"
    with pytest.raises(ValueError, match=message):
        run(SMALL, tmp_path, workers=10, progress=False)


def test_problems_of_a_file_travel_with_the_task(client, tmp_path):
    data = attsvm.datasets.unit_sphere(3, 4, 5, batch=20, rng=0)
    attsvm.save(tmp_path / "mine.npz", data)
    study = Study(data=str(tmp_path / "mine.npz"), steps=60, lr=(0.1, 0.2))
    (tmp_path / "mine.npz").rename(tmp_path / "gone.npz")  # read when the study was declared
    results = run(study, tmp_path / "out", scheduler=client, progress=False)
    for lr in study.lr:
        selected = attsvm.train(data, steps=60, lr=lr).selected
        assert np.array_equal(results.selected.sel(lr=lr), selected)


def test_a_worker_that_is_killed_is_replaced_without_loss(client, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "batch_size", lambda *_: 70)
    study = evolve(SMALL, d=(2, 3, 4, 5, 6, 7), problems=200, steps=4000)
    before = client.run(os.getpid)
    killed, ended = [], threading.Event()

    def kill() -> None:
        while not list((tmp_path / "there").glob(f"{RESULTS}/selected/*.*.*")):
            time.sleep(0.005)
        victim = min(before.values())
        os.kill(victim, signal.SIGKILL)
        killed.extend((victim, ended.is_set()))

    killer = threading.Thread(target=kill)
    killer.start()
    run(study, tmp_path / "there", scheduler=client, progress=False)
    ended.set()
    killer.join()
    client.wait_for_workers(3)
    victim, too_late = killed
    assert victim not in client.run(os.getpid).values()
    assert not too_late
    run(study, tmp_path / "here", progress=False)
    assert content(tmp_path / "there") == content(tmp_path / "here")


def test_an_error_of_a_worker_names_the_cell(client, tmp_path):
    study = evolve(SMALL, rule=("ngd", "polyak"), steps=5000)
    # of whichever cell fails first
    with pytest.raises(FloatingPointError, match=r"d=\d, rule=polyak, .*: train: problem \d+ over"):
        run(study, tmp_path, scheduler=client, progress=False)


def test_workers_of_another_kind_are_refused_before_any_work(client, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "made_with", lambda study: {"isa": "abacus", "attsvm": "0.0"})
    with pytest.raises(ValueError, match=r"of worker tcp.* isa is .* there and abacus here"):
        run(SMALL, tmp_path, scheduler=client, progress=False)


def test_a_worker_of_another_kind_that_joins_later_refuses_its_tasks():
    task = cluster._Task(0, SMALL.cells[0], range(1), None)
    with pytest.raises(ValueError, match=r"isa is .* there and abacus here"):
        cluster._measure(task, (), (), {"isa": "abacus"}, 1)


def test_a_worker_without_attsvm_is_named_before_any_work(tmp_path):
    with (
        distributed.LocalCluster(n_workers=1, dashboard_address=":0") as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        client.run(lambda: sys.modules.update({"attsvm": None}))  # as if it were not installed
        with pytest.raises(ValueError, match=r"expected attsvm .* on every worker, got .*attsvm"):
            run(SMALL, tmp_path / "out", scheduler=client, progress=False)


def test_workers_that_die_again_and_again_are_an_error(client, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_measure", lambda *_: os._exit(1))
    monkeypatch.setattr(cluster, "batch_size", lambda *_: 100)
    with pytest.raises(ChildProcessError, match=r"workers died at d=\d: "):
        run(SMALL, tmp_path, scheduler=client, progress=False)
    client.restart()  # for the tests after this one


def test_a_problem_that_may_be_too_large_for_a_worker_is_named(client, tmp_path, monkeypatch):
    def killed(*_):
        raise distributed.scheduler.KilledWorker("task", SimpleNamespace(address="there"), 3)

    monkeypatch.setattr(cluster, "_measure", killed)
    monkeypatch.setattr(cluster, "_memory_of_batch", lambda _: 2000)
    wanted = r"a problem takes up to \S+ GB there, and each worker has 2e-06 GB for it: take fewer$"
    with (
        pytest.warns(UserWarning, match="batches of 1 problems"),
        pytest.raises(ChildProcessError, match=rf"^workers died at d=\d: {wanted}"),
    ):
        run(SMALL, tmp_path, scheduler=client, progress=False)


def test_workers_that_cannot_hold_the_tokens_of_one_problem_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_client", lambda *_: nullcontext())
    monkeypatch.setattr(cluster, "_require_same_workers", lambda *_: None)
    monkeypatch.setattr(cluster, "_memory_of_batch", lambda _: 400)
    message = r"^workers: expected 4.8e-07 GB of memory for the tokens .* d=5, got 4e-07 GB "
    with pytest.raises(ValueError, match=message):
        run(SMALL, tmp_path, scheduler="tcp://127.0.0.1:9", progress=False)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://127.0.0.1:9", "tcp://"])
def test_a_scheduler_that_is_not_there_is_an_error(tmp_path, monkeypatch, address):
    monkeypatch.setattr(cluster, "_SECONDS_TO_CONNECT", 1)
    with pytest.raises(OSError, match=f"scheduler: expected the address .* got '{address}'"):
        run(SMALL, tmp_path, scheduler=address, progress=False)


@pytest.mark.parametrize("address", ["host", "nonsense://host:1", "tcp://host:port"])
def test_no_client_is_made_of_what_is_no_address(tmp_path, monkeypatch, address):
    class Made(distributed.Client):
        def __new__(cls, *_arguments, **_options):
            raise AssertionError

    monkeypatch.setattr("attsvm.studies.cluster.Client", Made)
    with pytest.raises(ConnectionError, match=f"scheduler: expected the address .* '{address}'"):
        run(SMALL, tmp_path, scheduler=address, progress=False)


@pytest.mark.parametrize(("from_file", "message"), [(True, "line 4 of .*script"), (False, "input")])
def test_a_script_that_workers_cannot_import_is_refused_at_once(tmp_path, from_file, message):
    script = tmp_path / "script.py"
    script.write_text(
        "from attsvm.studies import Study, run\n"
        "study = Study(n=3, T=4, d=2, problems=4, steps=9)\n"
        "\nrun(study, 'out', workers=1)\n"
    )
    words = [sys.executable, *([str(script)] if from_file else [])]
    done = subprocess.run(
        words, input=script.read_text(), capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1
    assert re.search(f"^RuntimeError: workers: expected .*{message}", done.stderr, re.MULTILINE)
    assert done.stderr.count("Traceback") == 1
    assert not (tmp_path / "out" / RESULTS).exists()


def test_a_script_with_a_guard_starts_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from attsvm.studies import Study, run\n"
        "if __name__ == '__main__':\n"
        "    run(Study(n=3, T=4, d=2, problems=4, steps=9), 'out', workers=1)\n"
    )
    subprocess.run([sys.executable, str(script)], check=True, cwd=tmp_path)
    assert (tmp_path / "out" / RESULTS).exists()


def test_scheduler_and_workers_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="workers: expected none where a scheduler is given"):
        run(SMALL, tmp_path, scheduler="tcp://127.0.0.1:9", workers=2)


def test_ctrl_c_ends_processes_and_says_how_to_go_on(tmp_path):
    words = ["study", "overparam", "--set", "steps=20000000", "--workers", "2", "--out", "out"]
    with subprocess.Popen(
        [sys.executable, "-m", "attsvm", *words, "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    ) as process:
        while process.poll() is None and len(workers := _workers(process.pid)) < 2:
            time.sleep(0.1)
        while process.poll() is None and not (tmp_path / "out" / RESULTS).exists():
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    again = "attsvm study overparam --set steps=20000000 --workers 2 --out out"
    assert f"To continue: {again}" in errors
    assert "Traceback" not in errors
    assert workers
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def _workers(pid: int) -> list[int]:
    """Processes that a parent has spawned to work."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            words = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if parent == pid and "spawn_main" in words:
            found.append(int(stat.parent.name))
    return found
