"""Published data that several tests share (tests/data/README.md says what it is)."""

from __future__ import annotations

import gc
import json
import signal
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from attsvm.data import AttentionData

settings.register_profile("attsvm", deadline=None, print_blob=True)
settings.load_profile("attsvm")

DATA = Path(__file__).parent / "data"

gc.disable()  # until all modules are imported, of which nothing is garbage


def pytest_collection_finish() -> None:
    gc.enable()


@pytest.fixture(scope="session")
def local_convergence() -> AttentionData:
    """The 50 published problems of n=6, T=8, d=10, in float64."""
    with np.load(DATA / "local_converge_n6T8d10_seeds0-49.npz", allow_pickle=False) as drawn:
        tokens, labels, queries, value = (drawn[name].astype(np.float64) for name in "XYZv")
    return AttentionData(tokens, labels, queries=queries, value=value)


@pytest.fixture(scope="session")
def toys() -> dict:
    """The small published problems, as nested lists."""
    return json.loads((DATA / "toys.json").read_text())


@pytest.fixture(scope="session")
def computed():
    """Outcome of a figure of the papers by its name, in a quick or full run, computed once."""
    from attsvm.studies.reproduce.figure import Settings
    from attsvm.studies.reproduce.registry import named

    return cache(lambda name, quick=True: named(name).compute(Settings(quick=quick)))


@pytest.fixture(scope="module")
def one_thread_of_torch():
    """The problems are small, and threads of torch would wait for each other."""
    torch = pytest.importorskip("torch", reason="torch is not installed (NEIGHBOURS)")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard():
    """A shell that runs the tests in the background has them ignore Ctrl-C, which some send."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def files_do_not_wait_for_the_disk():
    """That what is written is there after a loss of power is nothing that a test can see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda file: None)
        yield
