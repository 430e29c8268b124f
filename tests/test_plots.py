"""Figures."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.container import BarContainer
from matplotlib.image import imread

from attsvm import plots
from attsvm.studies.intervals import Estimate
from attsvm.studies.summary import MEASURES
from attsvm.studies.table import Row, Table

SHARES = {
    "global_percent": 60.0,
    "local_percent": 99.0,
    "neither_percent": 1.0,
    "feasible_percent": 100.0,
    "all_support_percent": 30.0,
}


def table(*cells: tuple[int, int, int], cosine: float = 0.99) -> Table:
    estimates = {
        name: Estimate(share, max(share - 5, 0), min(share + 5, 100), 50)
        for name, share in SHARES.items()
    }
    estimates["cosine_mean"] = Estimate(cosine, cosine - 0.01, min(cosine + 0.01, 1.0), 50)
    rows = tuple(Row({"n": n, "T": T, "d": d}, estimates) for n, T, d in cells)
    return Table(MEASURES, rows)


def test_study_figure_has_a_bar_for_each_measure_and_dimension():
    figure = plots.study(table((5, 4, 2), (5, 4, 10)))
    bars, cosines = figure.axes
    series = [s for s in bars.containers if isinstance(s, BarContainer)]
    heights = [[bar.get_height() for bar in s] for s in series]
    assert heights == [[60.0, 60.0], [99.0, 99.0], [1.0, 1.0], [30.0, 30.0]]
    assert bars.get_title("left") == "n = 5, T = 4"
    assert [label.get_text() for label in cosines.get_xticklabels()] == ["2", "10"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "Global",
        "Local (including Global)",
        "Not Local",
        "All tokens support vectors",
    ]


def test_study_figure_draws_the_intervals():
    figure = plots.study(table((5, 4, 2)))
    segments = figure.axes[0].collections[0].get_segments()
    assert np.allclose(sorted(segments[0][:, 1]), [55.0, 65.0])


def test_study_figure_has_a_panel_for_each_n_and_T():
    cells = [(n, T, d) for n in (5, 10) for T in (4, 6) for d in (3, 9)]
    figure = plots.study(table(*cells), "the settings")
    assert [axes.get_title("left") for axes in figure.axes[::2]] == [
        "n = 5, T = 4",
        "n = 5, T = 6",
        "n = 10, T = 4",
        "n = 10, T = 6",
    ]
    assert figure.get_supxlabel() == "the settings"


def test_study_figure_shows_every_cosine_on_one_scale():
    far, near = (table((5, T, 2), (5, T, 3), cosine=c).rows for T, c in ((4, 0.5), (6, 0.98)))
    figure = plots.study(Table(MEASURES, far + near))
    assert [axes.get_ylim() for axes in figure.axes[1::2]] == [pytest.approx((0.439, 1.051))] * 2


def test_study_figure_is_drawn_where_a_mean_does_not_exist():
    nothing = table((5, 4, 1), cosine=float("nan"))
    assert plots.png(plots.study(nothing)).startswith(b"\x89PNG")


def test_same_table_gives_the_same_png():
    first, second = (plots.png(plots.study(table((5, 4, 2)), "text")) for _ in range(2))
    assert first == second
    image = imread(io.BytesIO(first))
    assert image.shape[0] > 500
    assert image[..., :3].min() < 0.5 < image[..., :3].max()


def test_plots_touch_no_global_state_of_matplotlib():
    program = (
        "import sys; from test_plots import plots, table;"
        "plots.png(plots.study(table((5, 4, 2))));"
        "assert 'matplotlib.pyplot' not in sys.modules;"
        "from matplotlib import rcParams, rcParamsDefault;"
        "assert rcParams['font.size'] == rcParamsDefault['font.size']"
    )
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, check=True)
