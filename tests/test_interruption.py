"""Long calls answer Ctrl-C, and worker threads do not outlive a fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import attsvm


@pytest.mark.parametrize("shape", [(6, 8, 10), (60, 30, 40)])
@pytest.mark.parametrize("batch", [None, 3, 40])
def test_ctrl_c_ends_training(shape, batch):
    """Nothing here depends on speed: without an answer the run would take hours."""
    data = attsvm.datasets.unit_sphere(*shape, batch=batch, rng=0)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        attsvm.train(data, steps=10**10, record_every=[0])
    timer.join()


@pytest.mark.parametrize(
    "call",
    [
        lambda data: attsvm.att_svm(data, attsvm.optimal_tokens(data), norm="spec"),
        lambda data: attsvm.regularization_path(data, [1.0, 10.0, 100.0]),
    ],
    ids=["SVM", "path"],
)
def test_ctrl_c_ends_what_takes_long(call):
    data = attsvm.datasets.unit_sphere(60, 20, 60, rng=0)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        deque((call(data) for _ in range(10**6)), maxlen=0)
    timer.join()


def test_a_failing_progress_report_ends_training(monkeypatch):
    class BrokenTerminal:
        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            if "/" in text and not text.startswith("\r\x1b[Ksteps [........................] 0/"):
                raise OSError("the terminal is gone")

        def flush(self) -> None:
            pass

    monkeypatch.setattr(sys, "stderr", BrokenTerminal())
    data = attsvm.datasets.unit_sphere(60, 30, 40, rng=0)
    with pytest.raises(OSError, match="the terminal is gone"):
        attsvm.train(data, steps=10**8, record_every=[0], progress=True)


def test_training_works_after_a_fork_of_a_process_that_has_used_threads():
    script = """
        import os, sys, warnings
        import attsvm
        warnings.simplefilter("ignore")  # newer Pythons warn of any fork beside threads
        data = attsvm.datasets.unit_sphere(60, 30, 40, rng=0)
        before = attsvm.train(data, steps=30, num_threads=2)
        child = os.fork()
        if child == 0:
            after = attsvm.train(data, steps=30, num_threads=2)
            os._exit(0 if (after.W == before.W).all() else 1)
        _, status = os.waitpid(child, 0)
        again = attsvm.train(data, steps=30, num_threads=2)
        sys.exit(os.waitstatus_to_exitcode(status) or int((again.W != before.W).any()))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=120, check=False)
    assert done.returncode == 0


def test_a_process_forked_while_another_thread_trains_can_train():
    script = """
        import os, sys, threading, time, warnings
        import attsvm
        warnings.simplefilter("ignore")
        data = attsvm.datasets.unit_sphere(60, 30, 40, rng=0)
        alone = attsvm.train(data, steps=30, num_threads=2).W
        threading.Thread(
            target=lambda: attsvm.train(data, steps=10**9, record_every=[0], num_threads=2),
            daemon=True,
        ).start()
        time.sleep(0.2)
        child = os.fork()
        if child == 0:
            os._exit(0 if (attsvm.train(data, steps=30, num_threads=2).W == alone).all() else 1)
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=120, check=False)
    assert done.returncode == 0


def test_other_python_threads_run_during_training():
    data = attsvm.datasets.unit_sphere(60, 30, 40, rng=0)
    ticks = []
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    started = time.monotonic()
    attsvm.train(data, steps=4000, record_every=[0])
    ended = time.monotonic()
    done.set()
    ticker.join()
    assert np.sum((np.array(ticks) > started) & (np.array(ticks) < ended)) > 5


def test_a_daemon_thread_in_the_core_lets_the_program_end():
    script = """
        import threading, time
        import attsvm
        small = attsvm.datasets.unit_sphere(6, 8, 10, batch=2, rng=0)
        large = attsvm.datasets.unit_sphere(60, 30, 40, rng=0)
        def call(work):
            threading.Thread(target=work, daemon=True).start()
        call(lambda: attsvm.train(large, steps=10**9, record_every=[0], num_threads=2))
        call(lambda: [attsvm.train(small, steps=3) for _ in range(10**9)])
        call(lambda: [attsvm.att_svm(small, [[0] * 6] * 2) for _ in range(10**9)])
        call(lambda: [
            attsvm.att_svm(small, [[0] * 6] * 2, solver="osqp") for _ in range(10**9)
        ])
        time.sleep(0.5)
    """
    for _ in range(3):  # which of them runs Python at the end is a matter of chance
        command = [sys.executable, "-c", textwrap.dedent(script)]
        done = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_signals_during_and_after_osqp_reach_the_handler_of_the_caller():
    """Also after solves on several threads, whose handlers would put back each other's."""
    heard: list[int] = []
    data = attsvm.datasets.unit_sphere(12, 10, 20, rng=0)

    def solve(_: int) -> str:
        return str(attsvm.att_svm(data, [0] * 12, solver="osqp").status)

    def interrupt() -> None:
        while not heard:  # one that comes between OSQP's last look and its end is lost
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        sender = threading.Thread(target=interrupt)
        sender.start()
        while not heard:
            assert solve(0) == "optimal"
        sender.join()
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(solve, range(24))) == {"optimal"}
        heard.clear()
        os.kill(os.getpid(), signal.SIGINT)
        assert heard == [1]
    finally:
        signal.signal(signal.SIGINT, before)
