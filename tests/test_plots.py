"""Figures."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import matplotlib.style
from matplotlib.colors import to_rgb
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from attsvm import (
    AttentionData,
    ConvergenceWarning,
    NextTokenData,
    att_svm,
    plots,
    regularization_path,
    train,
)
from attsvm.datasets import unit_sphere
from attsvm.plots.style import PAGE_HEIGHT, TEXT_WIDTH
from attsvm.studies import OUTCOMES, Study, describe, report, run, tabulate
from attsvm.studies.intervals import Estimate
from attsvm.studies.reproduce import palette
from attsvm.studies.reproduce.drawing import band
from attsvm.studies.reproduce.registry import FIGURES
from attsvm.studies.summary import MEASURES
from attsvm.studies.table import SHARES as SHARES_DRAWN
from attsvm.studies.table import Measure, Row, Table
from attsvm.theory import optimal_tokens

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
        "Neither",
        "All tokens support vectors",
        "95 % interval",
    ]


def test_every_curve_of_many_means_looks_different_and_is_in_the_legend():
    names = [f"mean {k}" for k in range(14)]
    measures = tuple(Measure(x, x, x, "", bounds=(0.0, 1.0), label=x.capitalize()) for x in names)
    estimates = {name: Estimate(k / 20, k / 20, k / 20, 9) for k, name in enumerate(names)}
    rows = tuple(Row({"d": d}, estimates, problems=9) for d in (2, 3))
    figure = plots.study(Table(measures, rows))
    (axes,) = figure.axes
    curves = [bars.lines[0] for bars in axes.containers]
    looks = {(x.get_color(), x.get_linestyle(), x.get_marker()) for x in curves}
    assert len(looks) == len(curves) == 14
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [name.capitalize() for name in names]
    assert len({line.get_xdata()[0] for line in curves}) == 14  # intervals side by side


def heat_maps(rules: int, settings: int) -> Table:
    """Medians of two variables in two norms, by rule and setting, all of them different."""
    measures = tuple(
        Measure(f"{v}-{norm}", norm, v, "", norm=norm)
        for v in ("margin_ratio", "cosine_in_norm")
        for norm in ("fro", "max")
    )
    values = iter(np.linspace(0, 1, rules * settings * len(measures)))
    rows = tuple(
        Row(
            {"rule": f"rule {rule}", "lr_factor": 0.1 * k},
            {m.name: Estimate(next(values), np.nan, np.nan, 9) for m in measures},
            problems=9,
        )
        for rule in range(rules)
        for k in range(settings)
    )
    return Table(measures, rows)


def test_heat_maps_of_many_settings_are_all_on_one_page():
    shown = heat_maps(11, 9)
    figure = plots.study(shown)
    assert figure.get_figheight() <= PAGE_HEIGHT
    maps = [axes for axes in figure.axes if axes.images]
    assert not any(axes.texts for axes in maps)
    expected = [
        [[row.estimates[m.name].value for m in measures] for row in part.rows]
        for measures in shown.in_norms.values()
        for part in shown.panels.values()
    ]
    np.testing.assert_array_equal([axes.images[0].get_array() for axes in maps], expected)
    assert [axes.get_title("left") for axes in maps] == [*shown.panels, *shown.panels]


@pytest.mark.parametrize(
    ("shown", "count", "of"),
    [
        (heat_maps(11, 30), 9, 30),
        (table(*itertools.product((2, 3, 4, 5), (2, 3, 4, 5, 6), (2, 4, 6, 8, 9, 10))), 15, 20),
    ],
)
def test_what_a_page_does_not_hold_is_left_out_and_said(shown, count, of):
    figure = plots.study(shown)
    assert figure.get_figheight() <= PAGE_HEIGHT
    titles = {axes.get_title("left") for axes in figure.axes} - {""}
    assert titles == set(list(shown.panels)[:count])
    assert f"{count} of {of} panels, all of which are in the report" in " ".join(
        figure._supxlabel.get_text().split()
    )


def test_study_figure_draws_the_intervals():
    figure = plots.study(table((5, 4, 2)))
    segments = figure.axes[0].collections[0].get_segments()
    assert np.allclose(sorted(segments[0][:, 1]), [55.0, 65.0])


def test_study_figure_has_a_panel_for_each_n_and_T():
    cells = [(n, T, d) for n in (5, 10) for T in (4, 6) for d in (3, 9)]
    figure = plots.study(table(*cells), "the settings")
    assert [title for axes in figure.axes if (title := axes.get_title("left"))] == [
        "n = 5, T = 4",
        "n = 5, T = 6",
        "n = 10, T = 4",
        "n = 10, T = 6",
    ]
    assert figure.get_supxlabel() == "the settings"


def test_study_figure_shows_every_cosine_on_one_scale():
    far, near = (table((5, T, 2), (5, T, 3), cosine=c).rows for T, c in ((4, 0.5), (6, 0.98)))
    figure = plots.study(Table(MEASURES, far + near))
    assert [axes.get_ylim() for axes in figure.axes[2:]] == [pytest.approx((0.439, 1.051))] * 2


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


def test_legend_is_within_the_narrowest_figure():
    figure = plots.study(table((5, 4, 2)))
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_notebooks_show_figures_without_pyplot():
    figure = plots.study(table((5, 4, 2)))
    assert figure._repr_png_() == plots.png(figure)


@pytest.mark.parametrize("style", ["dark_background", "ggplot"])
def test_figures_are_legible_whatever_the_style_of_the_session(style):
    """Dark text stood on the dark ground of the one, grid lines of the other on maps."""
    result = train(unit_sphere(3, 4, 5, rng=0), steps=20)
    expected = plots.png(plots.run(result))
    with matplotlib.style.context(style):
        assert plots.png(plots.run(result)) == expected


def test_results_alone_are_drawn_with_their_settings(tmp_path):
    study = Study(n=3, T=4, d=(2, 5), problems=5, steps=20)
    results = run(study, tmp_path, progress=False)
    expected = plots.study(tabulate(study, results), describe(study))
    assert plots.png(plots.study(results)) == plots.png(expected)


def test_a_single_problem_is_drawn_by_its_history(tmp_path):
    study = Study(n=3, T=4, d=5, problems=1, steps=50, measure=("cosine", "history"))
    results = run(study, tmp_path, progress=False)
    figure = plots.study(results)
    curves = {axes.get_ylabel(): axes.lines[0].get_xydata() for axes in figure.axes}
    assert list(curves) == ["loss − infimum", "norm", "largest attention,\nmean over inputs"]
    assert np.array_equal(curves["norm"][:, 0], results.step)
    assert np.array_equal(curves["norm"][:, 1], results.history_norm[0])
    assert figure.get_supxlabel().replace("\n", " ") == describe(study)


def test_the_only_mean_of_a_figure_and_a_report_is_named_on_its_axis(tmp_path):
    label = "mean training accuracy"
    study = Study(n=3, T=4, d=(4, 5), problems=9, steps=9, measure=("outcome", "accuracy"))
    results = run(study, tmp_path, progress=False)
    assert label in [axes.get_ylabel() for axes in plots.study(results).axes]
    assert f'"text":"{label}"' in report(tmp_path).read_text(encoding="utf-8")


def test_the_legend_has_the_curves_of_every_panel_and_leaves_them_their_height(tmp_path):
    names = ("outcome", "accuracy", "fitted", "test_accuracy", "attention_by_kind")
    small = {"n": 5, "d": 50, "signal": [1.0, 9.0], "steps": 5, "record": [5]}
    study = Study.load("label-noise", {**small, "measure": list(names)})
    results = run(study, tmp_path, progress=False)
    figure = plots.study(results)
    figure.draw_without_rendering()
    shown = {each.get_text() for each in figure.legends[0].get_texts()}
    for axes in figure.axes:
        assert axes.get_legend_handles_labels()[1]
        assert shown.issuperset(axes.get_legend_handles_labels()[1])
        assert axes.get_window_extent().height / figure.dpi > 1


def test_few_problems_are_drawn_by_their_way_to_the_svm_and_coloured_by_their_outcome(tmp_path):
    names = ("outcome", "cosine", "cosine_history")
    study = Study(n=6, T=8, d=4, problems=8, steps=200, measure=names)
    assert plots.drawable(study)
    results = run(study, tmp_path, progress=False)
    figure = plots.study(results)
    (axes,) = figure.axes
    assert axes.get_ylabel() == "1 − cosine with the SVM"
    gaps = results.history_cosine_gap.to_numpy()
    drawn = {tuple(line.get_ydata()[1:]): line.get_color() for line in axes.lines}
    colour = {0: SHARES_DRAWN["neither_percent"], 1: SHARES_DRAWN["local_percent"]}
    colour[2] = SHARES_DRAWN["global_percent"]
    outcomes = results.outcome.to_numpy()
    assert len(set(outcomes.tolist())) > 1
    assert drawn == {
        tuple(gap[1:]): colour[kind][1] for gap, kind in zip(gaps, outcomes.tolist(), strict=True)
    }
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        f"{name}: {count} problem{'' if count == 1 else 's'}"
        for name, count in zip(OUTCOMES, np.bincount(outcomes, minlength=3), strict=True)
        if count
    ]


def test_many_problems_of_one_cell_are_drawn_by_medians_and_quartiles(tmp_path):
    study = Study(
        **{"n": 6, "T": 8, "d": 4, "problems": 64, "steps": 200, "record": [*range(0, 201, 8)]},
        measure=("outcome", "history"),
    )
    results = run(study, tmp_path, progress=False)
    figure = plots.study(results)
    outcomes = results.outcome.to_numpy()
    norms = next(axes for axes in figure.axes if axes.get_ylabel() == "norm")
    groups = [k for k in range(3) if np.sum(outcomes == k)]
    assert any(np.sum(outcomes == k) > 20 for k in groups)
    assert {line.get_marker() for line in norms.lines} == {""}  # as the steps are many
    medians = {tuple(line.get_ydata()) for line in norms.lines}
    for k in groups:
        curves = results.history_norm.to_numpy()[outcomes == k]
        if len(curves) > 20:
            assert tuple(np.median(curves, axis=0)) in medians
        else:
            assert medians.issuperset(map(tuple, curves))
    assert figure.get_supxlabel().replace("\n", " ").endswith("Lines are medians, bands quartiles")


def test_a_single_problem_without_its_history_has_nothing_to_draw(tmp_path):
    study = Study(n=3, T=4, d=5, problems=1, steps=5, measure=("outcome", "cosine"))
    results = run(study, tmp_path, progress=False)
    assert not plots.drawable(results)
    assert not plots.drawable(study)
    with pytest.raises(ValueError, match=r"^table: expected outcomes, .* to draw, got none"):
        plots.study(results)


def test_many_values_of_an_axis_are_curves_on_the_width_of_a_page():
    figure = plots.study(table(*((5, 4, d) for d in range(2, 30))))
    shares, cosines = figure.axes
    assert not [series for series in shares.containers if isinstance(series, BarContainer)]
    assert {tuple(line.get_ydata()) for line in shares.lines if len(line.get_ydata()) == 28} == {
        (share,) * 28 for name, share in SHARES.items() if name in SHARES_DRAWN
    }
    assert figure.get_figwidth() == TEXT_WIDTH
    assert shares.get_xlim() == cosines.get_xlim()


def test_two_long_axes_span_maps():
    sizes, dimensions = (2, 3, 4, 5, 6), (2, 4, 6, 8, 10, 12)
    figure = plots.study(table(*((n, 4, d) for n in sizes for d in dimensions)))
    maps = {
        axes.get_title("left"): axes.images[0] for axes in figure.axes if axes.get_title("left")
    }
    assert list(maps) == [
        *("Global (%)", "Local (including Global) (%)", "All tokens support vectors (%)"),
        "Mean cosine with the SVM",
    ]
    assert {image.get_array().shape for image in maps.values()} == {(5, 6)}
    assert (maps["Global (%)"].get_array() == 60.0).all()
    assert maps["Global (%)"].get_clim() == (0.0, 100.0)


@pytest.mark.parametrize("name", plots.FORMATS)
def test_figures_have_the_same_bytes_in_every_format(name):
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[name]
    first, second = (plots.encoded(plots.study(table((5, 4, 2))), [name]) for _ in range(2))
    assert first == second
    assert list(first) == [name]
    assert first[name].startswith(start)
    assert b"/Type3" not in first[name]  # fonts that publishers refuse


@pytest.mark.parametrize("formats", [*itertools.permutations(plots.FORMATS)])
def test_a_format_has_the_same_bytes_after_others(formats):
    figure = plots.study(table((5, 4, 2)))
    alone = {name: plots.encoded(figure, [name])[name] for name in formats}
    assert plots.encoded(figure, formats) == alone


def test_a_figure_without_axes_is_encoded():
    assert plots.png(Figure(layout="tight")).startswith(b"\x89PNG")


def test_other_formats_are_refused():
    with pytest.raises(ValueError, match=r"formats: expected one of .*, got 'gif'"):
        plots.encoded(plots.study(table((5, 4, 2))), ["gif"])


def test_figures_of_matplotlib_and_of_papers_are_told_apart():
    ours, theirs = "attsvm.studies.reproduce.figure.Figure", "matplotlib.figure.Figure"
    with pytest.raises(TypeError, match=f"^figure: expected {theirs}, got {ours}$"):
        plots.encoded(FIGURES[0])
    with pytest.raises(TypeError, match=f"^figure: expected {ours}, got {theirs}$"):
        plots.published(Figure(), None)


def test_published_figures_fit_the_width_of_a_page_in_8_points():
    for figure in FIGURES:
        assert figure.size[0] <= TEXT_WIDTH, figure.name
        assert figure.size[1] <= 9, figure.name
    drawn = plots.study(table((5, 4, 2), (5, 4, 10)), "the settings")
    texts = [text for text in drawn.findobj(Text) if text.get_text()]
    assert {text.get_fontsize() for text in texts} == {8.0}


_SIMULATIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
"""Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB."""


def lab(colour: str, simulation: np.ndarray) -> np.ndarray:
    """Return CIELAB of an sRGB colour as it is seen."""
    coded = np.array(to_rgb(colour))
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
    xyz = to_xyz @ np.clip(simulation @ linear, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", _SIMULATIONS)
def test_colours_that_stand_together_differ_in_every_kind_of_sight(sight):
    # 2.3 is just noticeable; 15 is told apart at a glance.
    shares = [colour for _, colour in SHARES_DRAWN.values()]
    for together in (palette.CYCLE, (*palette.RULE_COLOURS.values(), palette.INK), shares):
        seen = [lab(colour, np.array(_SIMULATIONS[sight])) for colour in together]
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 15


def test_bands_stay_within_what_a_quantity_can_be():
    axes = Figure().subplots()
    band(axes, [0, 1], np.array([[0.0, 0.9], [1.0, 1.0]]), "black", within=(0, 1))
    (patch,) = axes.collections
    heights = patch.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.0, 1.0)


def test_run_is_drawn_by_its_record_and_its_attention():
    data = unit_sphere(3, 4, 5, rng=0)
    solution = att_svm(data, optimal_tokens(data))
    result = train(data, steps=50, reference={"optimal": solution, "value": np.ones((5, 5))})
    *curves, attention, colours = plots.run(result).axes
    assert curves[0].get_ylabel() == "1 − cosine"
    labels = ["optimal", "value"]
    assert [text.get_text() for text in curves[0].get_legend().get_texts()] == labels
    for line, name in zip(curves[0].lines, labels, strict=True):
        expected = result.history[f"cosine_gap:{name}"]
        assert np.array_equal(line.get_xydata(), np.transpose([result.history["step"], expected]))
    assert np.array_equal(attention.images[0].get_array(), result.attention)
    assert colours.get_ylabel() == "attention"


def test_a_run_of_no_steps_is_drawn():
    result = train(unit_sphere(3, 4, 5, rng=0), steps=0)
    assert plots.png(plots.run(result)).startswith(b"\x89PNG")


def test_norms_of_a_run_are_named_by_their_parameters():
    norms = train(unit_sphere(3, 4, 5, rng=0), parameter="v+KQ", steps=20).plot().axes[1]
    assert [text.get_text() for text in norms.get_legend().get_texts()] == ["KQ", "v"]


def test_run_of_a_batch_is_a_line_for_each_problem():
    result = train(unit_sphere(3, 4, 5, batch=7, rng=0), steps=20)
    assert [len(axes.lines) for axes in plots.run(result).axes] == [7, 7, 7]


def test_a_solution_is_drawn_with_its_support_vectors():
    data = unit_sphere(6, 8, 10, rng=0)
    solution = att_svm(data, optimal_tokens(data))
    margins, multipliers = solution.plot().axes
    count = {line.get_label(): line.get_xdata().size for line in margins.lines[:2]}
    support = int(solution.support.sum())
    assert count == {"other constraints": 6 * 7 - support, "support vectors": support}
    assert max(multipliers.lines[1].get_ydata()) == solution.dual.max()
    infeasible = att_svm(unit_sphere(20, 6, 3, rng=0), np.zeros(20, dtype=int))
    (proof,) = infeasible.plot().axes
    used = infeasible.certificate[infeasible.certificate > 0]
    assert used.size < infeasible.certificate.size
    assert proof.lines[0].get_ydata().tolist() == sorted(used, reverse=True)


def test_a_batch_of_solutions_is_drawn_with_its_norms_and_certificates():
    data = unit_sphere(5, 5, 2, batch=9, rng=0)
    solution = att_svm(data, optimal_tokens(data))
    assert 0 < solution.feasible.sum() < 9
    norms, certificates = solution.plot().axes
    (line,) = norms.lines
    assert line.get_ydata().tolist() == sorted(solution.norm[solution.feasible])
    drawn = {line.get_label(): sorted(line.get_ydata()) for line in certificates.lines}
    assert drawn == {
        "optimality residual": sorted(solution.kkt[solution.feasible]),
        "duality gap": sorted(solution.gap[solution.feasible]),
        "residual of the proof, infeasible": sorted(solution.kkt[~solution.feasible]),
    }


def test_a_path_is_drawn_against_its_radii():
    data = unit_sphere(3, 4, 5, rng=0)
    solution = att_svm(data, optimal_tokens(data))
    path = regularization_path(data, [1.0, 10.0, 50.0], reference=solution)
    excess, norm, cosine, _, attention, _ = path.plot().axes
    for axes, values in ((excess, path.log_excess), (norm, path.norm), (cosine, path.cosines[""])):
        assert np.array_equal(axes.lines[0].get_xydata(), np.transpose([path.radii, values]))
    assert np.array_equal(attention.images[0].get_array(), path.attention[-1])


def test_radii_within_a_decade_are_written_out_without_powers_of_ten():
    path = regularization_path(unit_sphere(3, 4, 5, rng=0), [1.0, 5.0])
    figure = path.plot()
    plots.png(figure)
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    ticks = {tick.get_position()[0]: tick.get_text() for tick in axes.get_xticklabels(which="both")}
    shown = {x: text for x, text in ticks.items() if low <= x <= high and text}
    assert shown == {1: "1", 2: "2", 3: "3", 4: "4"}


def test_a_path_of_two_parameters_names_its_radius_and_what_did_not_converge():
    data = unit_sphere(3, 4, 5, rng=0)
    with pytest.warns(ConvergenceWarning):
        path = regularization_path(data, {"v": [1, 2], "p": 3}, parameter="v+p", max_iter=1)
    figure = path.plot()
    assert figure.axes[1].get_xlabel() == "radius r of v"
    assert [line.get_ydata().tolist() for line in figure.axes[1].lines] == path.norm.T.tolist()
    failed = int((~path.converged).sum())
    assert figure.get_supxlabel() == f"{failed} of 2 radii did not converge"


def test_data_are_drawn_as_scores_norms_or_counts():
    data = unit_sphere(6, 8, 10, rng=0)
    scores = data.labels[:, np.newaxis] * (data.tokens @ data.value)
    np.testing.assert_allclose(data.plot().axes[0].images[0].get_array(), scores)
    plain = AttentionData(data.tokens, data.labels, lengths=[8, 8, 8, 8, 8, 3])
    shown = plain.plot().axes[0].images[0].get_array()
    np.testing.assert_allclose(shown[0], 1.0)
    assert np.isnan(np.ma.filled(shown, np.nan)[5, 3:]).all()
    following = NextTokenData(np.eye(3), [[0, 1], [2, 1]], [1, 1])
    assert following.plot().axes[0].images[0].get_array()[1].tolist() == [0.0, 2.0, 0.0]
    with pytest.raises(
        ValueError, match=r"^problem: .* a batch of 2, of which data\.problem\(b\) is"
    ):
        unit_sphere(6, 8, 10, batch=2, rng=0).plot()
