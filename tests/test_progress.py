"""Progress bar."""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stderr
from functools import partialmethod
from types import SimpleNamespace

import numpy as np
import pytest
import tqdm.auto
from correlated_tokens import correlated

from attsvm import att_svm, progress, regularization_path, train
from attsvm.datasets import unit_sphere


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_shows_counts_and_the_note_on_a_terminal_and_is_erased(monkeypatch):
    class Undelayed(tqdm.auto.tqdm):
        __init__ = partialmethod(tqdm.auto.tqdm.__init__, mininterval=0)

    monkeypatch.setattr(tqdm.auto, "tqdm", Undelayed)
    with redirect_stderr(Terminal()) as terminal, progress.bar(4, "problems") as advance:
        advance()
        advance(2, "d=10")
    drawn = terminal.getvalue().split("\r")
    assert any("problems   0%" in line and " 0/4 [" in line for line in drawn)
    assert any("problems  75%" in line and " 3/4, d=10 [" in line for line in drawn)
    assert drawn[-1].strip() == ""


def test_bar_is_erased_when_the_loop_is_stopped():
    terminal = Terminal()
    with (
        redirect_stderr(terminal),
        pytest.raises(KeyboardInterrupt),
        progress.bar(4, "problems"),
    ):
        raise KeyboardInterrupt
    assert terminal.getvalue().split("\r")[-1].strip() == ""


@pytest.mark.parametrize(
    ("stream", "enabled"),
    [(Terminal(), False), (io.StringIO(), None), (object(), None), (None, None), (None, True)],
)
def test_nothing_is_shown_where_it_is_not_wanted_or_nobody_watches(stream, enabled, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.bar(4, "problems", enabled=enabled) as advance:
        advance(4, "note")
    assert not isinstance(stream, io.StringIO) or stream.getvalue() == ""


def test_bar_is_shown_in_a_notebook(monkeypatch):
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    with redirect_stderr(io.StringIO()) as stream, progress.bar(4, "problems") as advance:
        advance(1)
    assert "problems   0%" in stream.getvalue()


def test_loop_over_nothing_is_done():
    with redirect_stderr(Terminal()) as terminal, progress.bar(0, "cells"):
        pass
    assert "cells" in terminal.getvalue()


@pytest.mark.slow  # for some seconds: the core reports ten times a second
def test_a_long_svm_says_what_it_is_at():
    data, selected = correlated(400, 32, 64, noise=0.3)
    notes: list[str] = []
    with progress.inside(lambda count, note: notes.append(note), "d=64"):
        solution = att_svm(data, selected)
    assert notes
    form = r"d=64, SVM of 12400 constraints(?:, gap (.*), (\d+) active)?, \d+ s"
    found = [re.fullmatch(form, note) for note in notes]
    assert all(found)
    states = [(float(each[1]), int(each[2])) for each in found if each[1]]
    assert all(0 <= gap <= 1 for gap, _ in states)
    assert states[-1][0] < 1e-3
    # In the end nothing is active but what has a multiplier, and what is active without one.
    assert 0.5 * solution.support.sum() < states[-1][1] <= solution.support.sum()


def test_a_regularisation_path_says_what_it_is_at(monkeypatch):
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    data = unit_sphere(3, 4, 5, rng=0)
    notes: list[str] = []
    with progress.inside(lambda count, note: notes.append(note)):
        path = regularization_path(data, [1.0, 10.0], starts=2)
    found = [re.fullmatch(r"search (\d+), step (\d+), residual (.*)", note) for note in notes]
    assert all(found)
    assert len(found) <= path.iterations.sum()
    assert {float(each[3]) > 1e-9 for each in found} == {True}
    with redirect_stderr(Terminal()) as terminal:
        regularization_path(data, [1.0, 10.0], starts=2, progress=True)
    assert re.search(r"radii +50%\|.*\| 1/2, search \d+, step \d+, resid", terminal.getvalue())


def test_without_a_bar_nothing_is_asked_of_a_computation():
    assert progress.reporter(lambda: "SVM") is None
    shown = []
    with progress.inside(lambda count, note: shown.append((count, note))):
        report = progress.reporter(lambda: "7 SVMs")
        assert report is not None
        report(0.5)
        report(0.0, 1e-3, 12)
    assert shown == [(0, "7 SVMs 50%, 0 s"), (0, "7 SVMs, gap 1e-03, 12 active, 0 s")]
    assert progress.reporter(lambda: "SVM") is None


class TestMeanwhile:
    def test_work_is_done_once_within_a_run(self):
        done: list[str] = []
        with progress.meanwhile(lambda: done.append("work")):
            run = train(unit_sphere(5, 5, 10, batch=64, rng=0), steps=2000)
            assert done == ["work"]
        assert done == ["work"]
        assert np.array_equal(run.W, train(unit_sphere(5, 5, 10, batch=64, rng=0), steps=2000).W)

    def test_work_is_done_in_the_end_where_no_call_was_long(self):
        done: list[str] = []
        with progress.meanwhile(lambda: done.append("work")):
            assert done == []
        assert done == ["work"]

    def test_the_run_raises_what_the_work_raises(self):
        data = unit_sphere(5, 5, 10, batch=64, rng=0)
        with progress.meanwhile(lambda: 1 // 0), pytest.raises(ZeroDivisionError):
            train(data, steps=2000)
        assert progress.reporter(lambda: "SVM") is None


def test_a_bar_shows_a_note_at_once():
    with redirect_stderr(Terminal()) as terminal, progress.bar(4, "problems") as advance:
        advance(0, "d=10, SVM of 6200 constraints 3 s")
    assert "0/4, d=10, SVM of 6200 constraints 3 s [" in terminal.getvalue()


def test_a_bar_of_one_thing_counts_nothing():
    with redirect_stderr(Terminal()) as terminal, progress.bar(1, "solving") as advance:
        advance(0, "SVM of 6200 constraints, 3 s")
    assert "solving, SVM of 6200 constraints, 3 s [00:00]" in terminal.getvalue()
