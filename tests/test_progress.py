"""The progress bar."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

import pytest

from attsvm import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_draws_counts_on_a_terminal_and_erases_its_line(monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_DRAWINGS", 0.0)
    with redirect_stderr(Terminal()) as terminal, progress.bar(4, "problems") as advance:
        advance()
        advance(2, "d=10")
    drawings = terminal.getvalue().split("\r\x1b[K")
    assert [line.split("/")[0].split()[-1] for line in drawings[1:-1]] == ["0", "1", "3"]
    assert "problems [##################......] 3/4" in drawings[-2]
    assert drawings[-2].endswith("d=10")
    assert drawings[-1] == ""


def test_bar_is_erased_when_the_loop_is_stopped():
    terminal = Terminal()
    with (
        redirect_stderr(terminal),
        pytest.raises(KeyboardInterrupt),
        progress.bar(4, "problems"),
    ):
        raise KeyboardInterrupt
    assert terminal.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize(("stream", "enabled"), [(Terminal(), False), (io.StringIO(), None)])
def test_nothing_is_drawn_where_none_is_wanted_or_there_is_no_terminal(stream, enabled):
    with redirect_stderr(stream), progress.bar(4, "problems", enabled=enabled) as advance:
        advance(4, "note")
    assert stream.getvalue() == ""


def test_line_tells_rate_and_time_left_and_fits_its_width():
    line = progress.progress_line(50, 200, 10.0, "problems", "n5-T5-d10", 100)
    assert line == "problems [######..................] 50/200  5/s  0:30 left  n5-T5-d10"
    assert progress.progress_line(1, 7201, 1.0, "x", "", 100).endswith("1/s  2:00:00 left")
    assert progress.progress_line(0, 200, 0.0, "x", "", 100).endswith("] 0/200")
    assert len(progress.progress_line(50, 200, 10.0, "problems", "n5-T5-d10", 30)) == 29


def test_loop_over_nothing_is_done():
    assert progress.progress_line(0, 0, 1.0, "cells", "", 80) == f"cells [{'#' * 24}] 0/0"
