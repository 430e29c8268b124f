"""Studies of step rules in several norms: tables, heat maps and reports beside plain NumPy."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import xarray
from plain_svm import attention_rows
from scipy.optimize import linprog, nnls

import attsvm
from attsvm.cli import main
from attsvm.data import AttentionData
from attsvm.studies import Study, describe, open_results, report, run, tabulate
from attsvm.studies.problems import draw, start_of_factors

STUDY = Study.load(
    "geometries",
    {
        "n": 2, "T": 3, "d": 4, "problems": 9, "steps": 40, "norms": ["fro", "max", "l1"],
        "rule": ["gradient", "sign", "l3"], "measure": ["margin_ratio", "cosine_in_norm"],
    },
)  # fmt: skip
NAMES = ("fro", "max", "l1")


def descended(data: AttentionData, rule: str, lr: float, steps: int) -> np.ndarray:
    """W (d, d) after steps of the textbook gradient of the logistic loss, for one problem."""
    X, Y, Z, v = data.tokens, data.labels, data.queries, data.value
    W = np.zeros((data.d, data.d))
    for _ in range(steps):
        logits = np.einsum("itd,de,ie->it", X, W, Z)
        s = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        scores = X @ v
        slope = -Y / (1 + np.exp(Y * (s * scores).sum(axis=1))) / len(Y)
        changes = s * (scores - (s * scores).sum(axis=1, keepdims=True))
        G = np.einsum("i,it,itd,ie->de", slope, changes, X, Z)
        step = {
            "gradient": G / np.linalg.norm(G),
            "sign": np.sign(G),
            "l3": np.sign(G) * np.sqrt(np.abs(G) / np.sum(np.abs(G) ** 1.5) ** (2 / 3)),
        }[rule]
        W -= lr * step
    return W


def largest_margin(rows: np.ndarray, norm: str) -> tuple[float, np.ndarray]:
    """Largest margin of a w with norm 1, and that w: HiGHS, or Lawson and Hanson's method."""
    width = rows.shape[1]
    if norm == "fro":
        E = np.vstack([rows.T, np.ones(len(rows))])
        u, _ = nnls(E, np.eye(width + 1)[-1])
        residual = E @ u - np.eye(width + 1)[-1]
        w = -residual[:-1] / residual[-1]
        return 1 / np.linalg.norm(w), w / np.linalg.norm(w)
    parts = np.hstack([rows, -rows])  # w = positive part - negative part
    A = np.hstack([-parts, np.ones((len(rows), 1))])
    cost = np.zeros(2 * width + 1)
    cost[-1] = -1
    if norm == "max":
        bounds = [(0, 1)] * (2 * width) + [(None, None)]
        sums = np.hstack([np.eye(width), np.eye(width), np.zeros((width, 1))])
        A, b = np.vstack([A, sums]), np.r_[np.zeros(len(rows)), np.ones(width)]
    else:
        bounds = [(0, None)] * (2 * width) + [(None, None)]
        A = np.vstack([A, np.r_[np.ones(2 * width), 0.0]])
        b = np.r_[np.zeros(len(rows)), 1.0]
    x = linprog(cost, A_ub=A, b_ub=b, bounds=bounds, method="highs").x
    return float(x[-1]), x[:width] - x[width:-1]


SIZES = {
    "fro": np.linalg.norm,
    "max": lambda w: np.abs(w).max(),
    "l1": lambda w: np.abs(w).sum(),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("geometries") / "small"
    run(STUDY, path, progress=False)
    return path


@pytest.fixture(scope="module")
def results(directory) -> xarray.Dataset:
    return open_results(directory).load()


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    """Margin ratios and Frobenius cosines (rules, problems, norms) by plain NumPy."""
    ratios, cosines = [], []
    for cell in STUDY.cells:
        of_problems, of_angles = [], []
        for data in draw(cell.settings, range(9)).problems():
            W = descended(data, cell.axes["rule"], cell.settings["lr"], STUDY.steps)
            logits = np.einsum("itd,de,ie->it", data.tokens, W, data.queries)
            rows = attention_rows(data.tokens, data.queries, logits.argmax(axis=1))
            w, margin = W.ravel(), (rows @ W.ravel()).min()
            best = {norm: largest_margin(rows, norm) for norm in NAMES}
            of_problems.append([margin / SIZES[norm](w) / best[norm][0] for norm in NAMES])
            of_angles.append(w @ best["fro"][1] / np.linalg.norm(w))
        ratios.append(of_problems)
        cosines.append(of_angles)
    return {"margin_ratio": np.array(ratios), "cosine_in_norm": np.array(cosines)}


def test_results_have_a_dimension_of_the_norms(results):
    assert results.margin_ratio.dims == ("rule", "problem", "norm")
    assert results.norm.values.tolist() == list(NAMES)
    assert results.rule.values.tolist() == ["gradient", "sign", "l3"]
    assert results.sel(rule="sign", norm="max").margin_ratio.sizes == {"problem": 9}


def test_margin_ratios_and_cosines_are_those_of_plain_numpy(results, expected):
    np.testing.assert_allclose(results.margin_ratio, expected["margin_ratio"], rtol=1e-7)
    of_frobenius = results.cosine_in_norm.sel(norm="fro")
    np.testing.assert_allclose(of_frobenius, expected["cosine_in_norm"], rtol=1e-7)


def test_table_has_medians_and_the_second_and_last_but_one_of_nine(results, expected):
    """P(Bin(9, 1/2) < 2) = 10/512 < 0.025 < P(Bin(9, 1/2) < 3)."""
    frame = tabulate(results).frame
    assert frame.rule.tolist() == ["gradient", "sign", "l3"]
    for k, norm in enumerate(NAMES):
        ordered = np.sort(expected["margin_ratio"][:, :, k], axis=1)
        for part, place in (("", 4), ("_low", 1), ("_high", 7)):
            obtained = frame[f"margin_ratio_{norm}{part}"]
            np.testing.assert_allclose(obtained, ordered[:, place], rtol=1e-7)
        assert frame[f"margin_ratio_{norm}_runs"].tolist() == [9, 9, 9]


def test_heat_maps_show_every_median_and_frame_the_largest(results):
    pytest.importorskip("matplotlib")
    from attsvm import plots

    table = tabulate(results)
    figure = plots.study(results)
    panels = [axes for axes in figure.axes if axes.images][:2]
    for axes, variable in zip(panels, ("margin_ratio", "cosine_in_norm"), strict=True):
        medians = table.frame[[f"{variable}_{norm}" for norm in NAMES]].to_numpy()
        np.testing.assert_array_equal(axes.images[0].get_array(), medians)
        numbers = [text.get_text().splitlines()[0] for text in axes.texts]
        assert numbers == [f"{value:.3f}" for value in medians.ravel()]
        framed = [(line.get_ydata().mean(), line.get_xdata()[:2].mean()) for line in axes.lines]
        largest = list(enumerate(medians.argmax(axis=1)))
        np.testing.assert_allclose([(y.round(), x) for y, x in framed], largest, atol=1e-12)
    assert [label.get_text() for label in panels[1].get_xticklabels()] == list(NAMES)
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["gradient", "sign", "l3"]


def test_outcomes_and_cosines_are_those_of_the_svm_in_the_norm_of_the_steps(tmp_path):
    study = Study(
        n=5, T=4, d=4, problems=40, steps=100, rule=["ngd", "sign", "adam"],
        measure=["outcome", "cosine", "selected"],
    )  # fmt: skip
    results = run(study, tmp_path, progress=False).load()
    moved = []
    for cell, norm in zip(study.cells, ("fro", "max", "max"), strict=True):
        data = draw(cell.settings, range(40))
        run_of_cell = attsvm.train(data, rule=cell.axes["rule"], steps=100)
        kinds, of_gradient = (attsvm.classify(data, run_of_cell, norm=x) for x in (norm, "fro"))
        of_rule = results.sel(rule=cell.axes["rule"])
        assert [("neither", "local", "global")[k] for k in of_rule.outcome.values] == kinds.tolist()
        solution = attsvm.att_svm(data, run_of_cell.selected, norm=norm)
        known = solution.feasible
        expected = attsvm.cosine(run_of_cell.W[known], solution.W[known], axis=(1, 2))
        np.testing.assert_allclose(of_rule.cosine.values[known], expected, atol=1e-9)
        moved.append((kinds != of_gradient).any())
    assert moved == [False, True, True]
    text = {measure.name: measure.meaning for measure in tabulate(study, results).measures}
    assert text["local_percent"].endswith("SVMs in the norms Frobenius (ngd), max (sign, adam)")
    assert text["cosine_mean"].endswith("SVMs in the norms Frobenius (ngd), max (sign, adam)")
    assert "norm" not in text["global_percent"]


def test_runs_of_diagonal_factors_are_compared_with_the_diagonal_svm(tmp_path):
    study = Study(n=2, T=3, d=6, problems=9, steps=50, parameter="diagonal KQ")
    results = run(study, tmp_path, progress=False).load()
    data = draw(study.cells[0].settings, range(9))
    solution = attsvm.diagonal_svm(data, results.selected.values)
    factors = start_of_factors(study.cells[0].settings, range(9), 6)
    run_of_all = attsvm.train(data, parameter="diagonal KQ", init=factors, steps=50)
    known = solution.feasible
    expected = attsvm.cosine(run_of_all.W[known], solution.W[known], axis=(1, 2))
    np.testing.assert_allclose(results.cosine.values[known], expected, atol=1e-9)
    assert (np.isfinite(results.cosine.values) == known).all()
    assert known.any()


def test_other_axes_make_panels_and_the_rules_stand_along(tmp_path):
    study = Study.load("geometries", {**STUDY.settings, "lr_factor": [0.5, 1.0, 2.0, 4.0]})
    table = tabulate(run(study, tmp_path, progress=False))
    assert list(table.panels) == [f"lr_factor = {x:g}" for x in (0.5, 1.0, 2.0, 4.0)]
    assert table.longest_axis == "rule"
    assert "lr factor 0.5/1/2/4" in describe(study)


def test_report_has_heat_maps_and_the_accuracy_of_every_norm(tmp_path):
    pytest.importorskip("plotly")
    pytest.importorskip("jinja2")
    from attsvm.studies.html_report.figures import figures

    study = Study.load("geometries", {**STUDY.settings, "measure": ["margin_ratio", "svm_in_norm"]})
    results = run(study, tmp_path, progress=False).load()
    table = tabulate(results)
    (drawings,) = figures(study, results, table).values()
    (drawn,) = (drawing.figure for drawing in drawings if drawing.id == "margin-ratio-0")
    (trace,) = drawn.data
    assert (list(trace.x), list(trace.y)) == (list(NAMES), ["gradient", "sign", "l3"])
    medians = table.frame[[f"margin_ratio_{norm}" for norm in NAMES]].to_numpy()
    np.testing.assert_array_equal(np.array(trace.z), medians)
    page = report(tmp_path).read_text()
    assert "SVM of the selected tokens, in several norms, solved" in page
    assert f"<td>{results.svm_in_norm_gap.max().item():.1e}</td>" in page


def test_the_command_writes_table_and_figure(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    words = ["n=2", "T=3", "d=4", "problems=6", "steps=20", "norms=max,3", "rule=sign,Muon"]
    changes = [f"--set={word}" for word in words]
    assert main(["study", "geometries", "--quiet", *changes]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Geometries: which optimiser finds the SVM of which norm\n")
    assert "ratio l3" in shown
    assert "margin ratio of the selected tokens in the max norm, median" in shown
    with (tmp_path / "out" / "geometries" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["rule"] for row in rows] == ["sign", "Muon"]
    assert {"margin_ratio_max", "cosine_in_norm_l3_low"} <= rows[0].keys()
    assert (tmp_path / "out" / "geometries" / "figure.png").read_bytes().startswith(b"\x89PNG")
