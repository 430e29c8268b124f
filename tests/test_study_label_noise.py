"""Studies of flipped labels: accuracy, test accuracy and attention by kind of token."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from attrs import evolve

from attsvm import plots, train
from attsvm.cli import main
from attsvm.studies import Study, describe, report, run, tabulate
from attsvm.studies.compute import measure_cell
from attsvm.studies.problems import draw, draw_test

MEASURES = ("accuracy", "fitted", "test_accuracy", "attention_by_kind")
STUDY = Study(
    data="signal_noise",
    n=10,
    T=5,
    d=30,
    signal=(1.0, 3.0),
    label_noise=0.3,
    test=200,
    problems=3,
    parameter="W+p",
    rule="gd",
    lr=0.5,
    steps=100,
    record=(0, 40, 100),
    measure=(*MEASURES, *(f"{name}_history" for name in MEASURES), "p"),
)


@pytest.fixture(scope="module")
def measured():
    """The records of both cells, by signal."""
    return {c.axes["signal"]: measure_cell(STUDY, c, range(3)) for c in STUDY.cells}


def predicted(data, direction):
    weights = np.exp(data.tokens @ direction)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights, (weights * (data.tokens @ data.value)).sum(axis=-1)


@pytest.mark.parametrize("cell", STUDY.cells, ids=lambda cell: cell.name)
def test_labels_attention_and_test_are_those_of_the_plain_formula(measured, cell):
    record = measured[cell.axes["signal"]]
    data, test = draw(cell.settings, range(3)), draw_test(cell.settings)
    for k, p in enumerate(record["p"]):
        weights, scores = predicted(data.problem(k), p)
        flipped = data.labels[k] != np.tile([1, -1], 5)
        assert flipped.sum() == 3
        right = np.sign(scores) == data.labels[k]
        assert record["accuracy"][k] == right.mean()
        for name, which in (("clean", ~flipped), ("flipped", flipped)):
            kinds = [*weights[which, :3].mean(axis=0), weights[which, 3:].sum(axis=1).mean()]
            np.testing.assert_allclose(record[f"{name}_attention"][k], kinds, rtol=1e-10)
            assert record[f"{name}_fitted"][k] == pytest.approx(right[which].mean(), abs=1e-15)
        assert record["test_accuracy"][k] == (predicted(test, p)[1] * test.labels > 0).mean()


@pytest.mark.parametrize("signal", STUDY.axes["signal"])
def test_histories_begin_with_uniform_attention_and_end_with_the_end(measured, signal):
    record = measured[signal]
    for name in ("clean_attention", "flipped_attention"):
        start = record[f"history_{name}"][:, 0]
        np.testing.assert_allclose(start, [[0.2, 0.2, 0.2, 0.4]] * 3, rtol=1e-13)
    ends = ("accuracy", "clean_fitted", "flipped_fitted", "test_accuracy", "clean_attention")
    for name in ends:
        np.testing.assert_array_equal(record[f"history_{name}"][:, -1], record[name])
    both = 0.7 * record["history_clean_fitted"] + 0.3 * record["history_flipped_fitted"]
    np.testing.assert_allclose(both, record["history_accuracy"], atol=1e-15)


def test_the_test_has_right_labels_and_is_the_same_whatever_is_trained():
    first, second = (draw_test(cell.settings) for cell in STUDY.cells)
    np.testing.assert_array_equal(first.labels, np.tile([1, -1], 100))
    np.testing.assert_array_equal(first.tokens[:, 3:], second.tokens[:, 3:])
    other = evolve(STUDY, n=4, problems=1, steps=100, label_noise=0.0)
    again = draw_test(other.cells[0].settings)
    np.testing.assert_array_equal(again.tokens, first.tokens)
    trained = draw(STUDY.cells[0].settings, range(3)).tokens
    assert not np.isin(first.tokens, trained).any()


def test_a_problem_is_the_same_alone_and_in_a_batch(measured):
    alone = measure_cell(STUDY, STUDY.cells[0], range(2, 3))
    for name, values in alone.items():
        np.testing.assert_array_equal(values[0], measured[1.0][name][2])


def test_without_flipped_labels_there_is_no_share_of_them():
    study = evolve(STUDY, signal=3.0, label_noise=0.0)
    record = measure_cell(study, study.cells[0], range(1))
    assert np.isnan(record["flipped_fitted"]).all()
    assert np.isnan(record["flipped_attention"]).all()
    np.testing.assert_array_equal(record["clean_fitted"], record["accuracy"])


def test_a_trained_head_is_tried_on_the_test():
    study = Study(data="gaussian_classes", n=20, T=3, d=60, label_noise=0.1, problems=2, steps=300,
                  parameter="v+W", measure=("accuracy", "test_accuracy"))  # fmt: skip
    assert study.test == 1000
    record = measure_cell(study, study.cells[0], range(2))
    assert (record["accuracy"] > 0.85).all()
    assert (record["test_accuracy"] > 0.8).all()


def test_W_of_data_without_queries_takes_first_tokens_in_the_test_too():
    study = evolve(STUDY, parameter="W", problems=2, measure=("selected", "test_accuracy"))
    assert "; queries are the first tokens; W trained" in describe(study)
    cell = study.cells[0]
    record = measure_cell(study, cell, range(2))
    test = draw_test(cell.settings).with_first_queries()
    data = draw(cell.settings, range(2)).with_first_queries()
    own = train(data, lr=cell.settings["lr"], rule=cell.settings["step_rule"], steps=study.steps)
    np.testing.assert_array_equal(record["selected"], own.selected)
    accuracy = own.evaluate(test).accuracy
    np.testing.assert_array_equal(record["test_accuracy"], accuracy)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"data": "sphere"}, "label_noise, signal: expected none for data 'sphere'"),
        (
            {"data": "sphere", "signal": None, "label_noise": None, "parameter": "W"},
            "measure: 'fitted' needs data with label noise",
        ),
        (
            {"data": "near_orthogonal", "signal": None, "parameter": "W"},
            "measure: 'attention_by_kind' needs data with kinds of tokens",
        ),
        ({"T": 2}, "T: expected at least 3, got 2"),
        ({"signal": 0}, "signal: expected"),
        ({"signal": 1e-320}, "signal, weak: expected numbers of value that float64 holds"),
        ({"weak": 1e308, "signal": 1e10}, "signal, weak: expected numbers of tokens that float64"),
        ({"init": "balanced"}, "init: expected one of 'uniform', 'unbalanced', got 'balanced'"),
        ({"test": 0}, "test: expected"),
    ],
)
def test_what_does_not_go_with_the_data_is_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        evolve(STUDY, **changes)


def test_results_have_the_kinds_of_tokens_and_are_drawn_over_one_axis(tmp_path):
    results = run(STUDY, tmp_path / "one")
    assert results.history_flipped_attention.dims == ("signal", "problem", "step", "kind")
    assert results.kind.values.tolist() == ["relevant", "weak", "weak, other class", "noise"]
    figure = plots.study(results)
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels[:3] == ["Training accuracy", "Flipped labels fitted", "Test accuracy"]


def test_the_declared_study_is_a_table_and_maps_of_signal_against_n(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    changes = ("d=20", "test=50", "problems=2", "steps=20", "record=20", "n=4,5,6,8,10",
               "signal=1,2,4,8,16,32", "lr=0.5")  # fmt: skip
    arguments = [word for change in changes for word in ("--set", change)]
    assert main(["study", "label-noise", "--quiet", *arguments]) == 0
    assert "flipped labels fitted" in capsys.readouterr().out
    with (tmp_path / "out" / "label-noise" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    assert {"n", "signal", "test_accuracy_mean", "flipped_attention_2"} <= rows[0].keys()
    by_signal = [float(row["test_accuracy_mean"]) for row in rows[:6]]
    assert by_signal[-1] > by_signal[0]
    results = tmp_path / "out" / "label-noise"
    assert (results / "figure.png").read_bytes().startswith(b"\x89PNG")
    table = tabulate(run(Study.load("label-noise", dict(_values(changes))), results))
    assert table.map_axes == ("signal", "n")
    assert table.maps["flipped_fitted_mean"] == ("Flipped labels fitted", (0.0, 1.0))
    titles = {axes.get_title(loc="left") for axes in plots.study(table).axes}
    assert {"Training accuracy", "Test accuracy", "Attention, flipped labels: noise"} <= titles
    assert "Flipped labels fitted" in report(results).read_text(encoding="utf-8")


def test_attention_on_noise_is_missing_where_no_token_is_noise(tmp_path):
    study = evolve(STUDY, T=3, problems=2, measure=("attention_by_kind",), record=(100,))
    results = run(study, tmp_path, progress=False)
    assert results.flipped_attention.sel(kind="noise").isnull().all()
    np.testing.assert_allclose(results.flipped_attention.sum("kind"), 1.0)
    table = tabulate(results)
    heading = next(table.heading(m) for m in table.measures if m.name == "flipped_attention_3")
    lines = table.text(None).splitlines()
    at = lines[0].index(heading)
    assert [line[at : at + len(heading)].strip() for line in lines[-2:]] == ["-", "-"]


def _values(changes):
    for change in changes:
        name, _, text = change.partition("=")
        numbers = [float(x) if name in ("signal", "lr") else int(x) for x in text.split(",")]
        yield name, numbers if len(numbers) > 1 else numbers[0]
