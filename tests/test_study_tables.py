"""The tables of studies, what is expected of them, and what over-parameterisation does."""

from __future__ import annotations

import csv
import math
import pickle

import bs4
import numpy as np
import pytest
import xarray
from attrs import evolve

from attsvm import plots
from attsvm.studies import OUTCOMES, Study, describe, expectations, run, tabulate
from attsvm.studies.expectations import REFERENCE
from attsvm.studies.intervals import proportion
from attsvm.studies.summary import MEASURES, terminal_report
from attsvm.studies.table import Measure, Row, Table

OVERPARAM = Study.load("overparam")
SMALL = evolve(OVERPARAM, n=(3,), T=(4,), d=(2, 5), problems=10, steps=60)

RECORD = {
    "outcome": np.array([OUTCOMES.index(o) for o in ("global", "local", "neither", "global")]),
    "feasible": np.array([True, True, False, True]),
    "all_support": np.zeros(4, bool),
    "cosine": np.array([1.0, 0.9, math.nan, 0.8]),
}


class TestTable:
    def row(self, record=RECORD, **axes) -> Row:
        return Row(axes, {m.name: m.estimate(record) for m in MEASURES})

    def test_measures_of_a_record(self):
        estimates = self.row(n=3).estimates
        assert {name: estimate.value for name, estimate in estimates.items()} == {
            "global_percent": 50.0,
            "local_percent": 75.0,
            "neither_percent": 25.0,
            "feasible_percent": 75.0,
            "all_support_percent": 0.0,
            "cosine_mean": pytest.approx(0.9),
        }
        assert estimates["cosine_mean"].size == 3
        assert estimates["cosine_mean"].high == 1.0
        expected = proportion(np.array([True, True, False, False]))
        assert estimates["global_percent"].low == pytest.approx(100 * expected.low)

    def test_csv_holds_every_digit_and_nothing_where_there_is_no_number(self):
        nothing = {**RECORD, "cosine": np.full(4, math.nan)}
        table = Table(MEASURES, (self.row(n=3, d=2), self.row(nothing, n=3, d=5)))
        first, second = csv.DictReader(table.csv().splitlines())
        assert (first["n"], first["d"]) == ("3", "2")
        estimate = table.rows[0].estimates["global_percent"]
        assert float(first["global_percent_low"]) == estimate.low
        assert float(first["global_percent_high"]) == estimate.high
        assert first["global_percent_runs"] == "4"
        assert second["cosine_mean"] == second["cosine_mean_low"] == ""
        assert second["cosine_mean_runs"] == "0"

    def test_text_is_aligned_and_rounds_intervals_outwards(self):
        share = Measure("share", "share %", "heads", "of heads")
        rows = [
            Row({"n": 5, "d": d}, {"share": share.estimate({"heads": np.arange(300) < heads})})
            for d, heads in ((2, 3), (50, 300))
        ]
        assert Table((share,), tuple(rows)).text() == (
            "n    d   share %\n5    2     1.0 (0.3-2.9)\n5   50   100.0 (98.7-100.0)\n"
        )

    @pytest.mark.parametrize(
        ("size", "count", "shown"),
        [
            (1, 1, "100.0"),
            (10, 5, "50.0 (23-77)"),
            (300, 188, "62.7 (57-68)"),
            (20_000, 12_520, "62.6 (61.9-63.3)"),
            (20_000, 0, "0.000 (0.000-0.020)"),
            (10**7, 6_260_000, "62.600 (62.570-62.630)"),
        ],
    )
    def test_decimals_fit_the_width_of_the_interval(self, size, count, shown):
        share = Measure("share", "share %", "heads", "of heads")
        row = Row({"n": 5}, {"share": share.estimate({"heads": np.arange(size) < count})})
        assert Table((share,), (row,)).text().split(maxsplit=4)[4].strip() == shown

    def test_interval_with_a_negative_end_is_written_with_to(self):
        value = Measure("value", "value", "x", "", decimals=(2, 2))
        row = Row({"n": 5}, {"value": value.estimate({"x": np.array([-0.3, -0.2, -0.1])})})
        assert Table((value,), (row,)).text().splitlines()[1] == "5   -0.20 (-0.45 to 0.05)"

    def test_printed_it_is_its_text_and_in_a_notebook_a_table(self):
        table = Table(MEASURES, (self.row(n=3, d=2), self.row(n=3, d=50)))
        assert repr(table) == table.text()
        assert "function" not in repr(MEASURES)
        page = bs4.BeautifulSoup(table._repr_html_(), "html.parser")
        headings = ["d", "problems", *(measure.heading for measure in MEASURES)]
        assert [heading.get_text() for heading in page.find_all("th")] == headings
        assert [row.find_all("td")[2].get_text() for row in page.select("tbody tr")] == [
            "50.0 15–85 of 4"
        ] * 2
        assert "no finished" in repr(Table(MEASURES, ()))

    def test_frame_has_the_axes_and_every_number(self):
        frame = Table(MEASURES, (self.row(n=3, d=2), self.row(n=3, d=50))).frame
        assert frame.d.tolist() == [2, 50]
        assert frame.cosine_mean.tolist() == [pytest.approx(0.9)] * 2
        assert frame.cosine_mean_high.tolist() == [1.0, 1.0]
        assert frame.cosine_mean_runs.tolist() == [3, 3]

    def test_results_alone_are_tabulated(self, tmp_path):
        results = run(SMALL, tmp_path, progress=False)
        assert tabulate(results).csv() == tabulate(SMALL, results).csv()
        with pytest.raises(TypeError, match=r"^results: expected Dataset, got NoneType$"):
            tabulate(SMALL)

    def test_text_without_a_number_shows_a_dash(self):
        nothing = {**RECORD, "cosine": np.full(4, math.nan)}
        lines = Table(MEASURES, (self.row(nothing, n=3),)).text().splitlines()
        assert lines[1].endswith(" -")

    @pytest.mark.parametrize("width", [40, 60, 80, 100])
    def test_text_wider_than_the_terminal_is_broken_into_blocks(self, width):
        table = Table(MEASURES, (self.row(n=3, d=2), self.row(n=3, d=50)))
        blocks = table.text(width).split("\n\n")
        assert len(blocks) > 1
        assert all(len(line) <= width for line in table.text(width).splitlines())
        assert all(block.splitlines()[2].startswith("3   50   ") for block in blocks)
        words = table.text(width).split()
        assert all(heading in " ".join(words) for heading in ("global %", "mean cosine"))

    def test_columns_are_those_that_were_measured(self, tmp_path):
        study = evolve(SMALL, measure=("selected", "cosine"), lr=(0.1, 0.2))
        table = tabulate(study, run(study, tmp_path, progress=False))
        assert [measure.name for measure in table.measures] == ["cosine_mean"]
        assert [(row.axes["d"], row.axes["lr"]) for row in table.rows] == [
            (2, 0.1),
            (2, 0.2),
            (5, 0.1),
            (5, 0.2),
        ]

    def test_unfinished_problems_do_not_count(self, tmp_path):
        results = run(SMALL, tmp_path, progress=False).load()
        finished = results.finished.copy()
        finished[0, 0, 0, 4:] = False
        finished[0, 0, 1] = False
        (row,) = tabulate(SMALL, results.assign(finished=finished)).rows
        assert row.axes["d"] == 2
        assert row.estimates["global_percent"].size == 4

    def test_a_study_without_axes_has_one_row_named_by_its_sizes(self, tmp_path):
        study = evolve(SMALL, n=3, T=4, d=5)
        (row,) = tabulate(study, run(study, tmp_path, progress=False)).rows
        assert row.axes == {"n": 3, "T": 4, "d": 5}

    def test_the_longest_axis_is_one_of_numbers(self):
        def axis_of(**axes: list) -> str:
            grid = xarray.Dataset(coords=axes).stack(cell=list(axes)).indexes["cell"]
            rows = tuple(Row(dict(zip(axes, cell, strict=True)), {}) for cell in grid)
            return Table((), rows).longest_axis

        assert axis_of(n=[5], T=[5], d=[2, 3]) == "d"
        assert axis_of(n=[2, 3], d=[5]) == "n"
        assert axis_of(d=[2, 3], loss=["logistic", "exponential", "correlation"]) == "d"
        assert axis_of(d=[2], loss=["logistic", "exponential"]) == "loss"
        assert axis_of(n=[2, 3], d=[2, 3], lr=[0.1, 0.2]) == "d"
        assert axis_of(n=[2, 3], lr=[0.1, 0.2]) == "n"
        assert axis_of(d=[2, 3], lr=[0.1, 0.2, 0.3]) == "lr"


class TestExpectations:
    def sentences(self, study: Study, directory) -> list[str]:
        results = run(study, directory, progress=False)
        return expectations(study, results, tabulate(study, results))

    def test_feasibility_is_counted_where_the_theorem_holds(self, tmp_path):
        assert self.sentences(SMALL, tmp_path / "both")[0] == (
            "d >= max(T-1, n) makes the SVM feasible for almost all data: "
            "measured in 10 of 10 problems."
        )
        assert self.sentences(evolve(SMALL, d=(2,)), tmp_path / "narrow") == []

    def test_feasibility_of_the_prompt_needs_more_dimensions(self, tmp_path):
        study = evolve(SMALL, parameter="p", d=(5, 8, 9))
        assert self.sentences(study, tmp_path)[0] == (
            "d >= n (T-1) makes the SVM feasible for almost all data: "
            "measured in 10 of 10 problems."
        )

    def test_global_selection_is_counted_where_all_tokens_are_support_vectors(self, tmp_path):
        study = evolve(SMALL, n=(2,), T=(3,), d=(40,), problems=20, steps=1000)
        results = run(study, tmp_path, progress=False)
        saturated = int(results.all_support.sum())
        assert saturated > 0
        assert expectations(study, results, tabulate(study, results))[1] == (
            "Where all tokens are support vectors training is expected to select the optimal "
            f"tokens: measured in {saturated} of {saturated} problems."
        )

    def test_reference_is_compared_where_the_settings_are_its_own(self, tmp_path):
        study = evolve(OVERPARAM, d=(8, 9), problems=8)
        last = self.sentences(study, tmp_path / "same")[-1]
        assert last.startswith("Largest difference from an independent computation at n = T = 5")
        assert "(d=8, ±" in last
        assert "d=9" not in last
        for change in ({"steps": 5}, {"attention": "self"}, {"n": (4,)}):
            sentences = self.sentences(evolve(study, **change), tmp_path / str(change))
            assert not any("independent" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "random unit-norm tokens, cross-attention; W trained from zero by 60 normalised"),
        ({"lr": (0.1, 0.5)}, "normalised steps of 0.1/0.5, logistic loss"),
        ({"rule": "polyak", "lr": None}, "60 Polyak steps, logistic loss"),
        ({"seed": (0, 1)}, "10 problems of each size, seed 0/1"),
        ({"seed": 20260101}, "seed 20260101"),
        (
            {"data": "near_orthogonal", "attention": None, "noise": 0.1},
            "near-orthogonal tokens, antipodal signals, noise 0.1, label noise 0; W",
        ),
        ({"momentum": 0.5, "decay": (0, 0.5)}, "of 0.1, momentum 0.5, decay 0/0.5, logistic loss"),
        ({"problems": 1}, "1 problem of each size"),
        ({"parameter": ("W", "p")}, "; W/p trained from zero by"),
        (
            {"parameter": ("W+p", "p", "KQ")},
            "; W+p/KQ trained from uniform starts, p trained from zero by",
        ),
        (
            {"parameter": "v+KQ", "init": ("uniform", "balanced")},
            "; v+KQ trained from the value of the data and uniform/balanced starts by",
        ),
        ({"lr": 0.12345678}, "steps of 0.12345678,"),
    ],
)
def test_a_study_is_described_in_words(changes, words):
    assert words in describe(evolve(SMALL, **changes))


def test_over_parameterised_training_is_local_and_the_global_share_grows(tmp_path):
    study = evolve(OVERPARAM, d=(5, 10, 50), problems=100, steps=1500)
    table = tabulate(study, run(study, tmp_path, progress=False))
    shares = [row.estimates["global_percent"].value for row in table.rows]
    assert shares == sorted(shares)
    for row in table.rows:
        d = row.axes["d"]
        assert row.estimates["local_percent"].value >= 98
        assert row.estimates["feasible_percent"].value == 100
        for name in ("global_percent", "all_support_percent"):
            wide = proportion(np.arange(100) < round(row.estimates[name].value), level=0.999)
            assert 100 * wide.low <= REFERENCE[name][d] <= 100 * wide.high, (name, d)


@pytest.fixture(scope="module")
def default_study(tmp_path_factory) -> xarray.Dataset:
    return run(OVERPARAM, tmp_path_factory.mktemp("overparam"), progress=False)


@pytest.mark.slow
def test_percentages_by_dimension_are_those_of_an_independent_program(default_study):
    table = tabulate(OVERPARAM, default_study)
    for row in table.rows:
        d = row.axes["d"]
        for name, by_d in REFERENCE.items():
            assert row.estimates[name].value == pytest.approx(by_d[d], abs=8), (name, d)
        if d >= 5:
            assert row.estimates["local_percent"].value >= 98
            assert row.estimates["feasible_percent"].value == 100
    shares = [row.estimates["global_percent"].value for row in table.rows]
    assert shares == sorted(shares)


@pytest.mark.slow
def test_where_all_tokens_are_support_vectors_training_is_global(default_study):
    wide = default_study.sel(d=[20, 30, 50])
    outcomes = wide.outcome.values[wide.all_support.values]
    assert outcomes.size > 100
    assert np.mean(outcomes == OUTCOMES.index("global")) >= 0.98


@pytest.mark.slow
def test_over_parameterised_prompt_is_local_and_its_global_share_grows(tmp_path):
    sizes = {"n": (4,), "T": (6,), "d": (10, 20, 40, 160)}
    study = evolve(OVERPARAM, parameter="p", problems=150, **sizes)
    rows = tabulate(study, run(study, tmp_path, progress=False)).rows
    shares = [row.estimates["global_percent"].value for row in rows]
    assert shares == sorted(shares)
    assert shares[-1] > 90
    assert all(row.estimates["local_percent"].value >= 98 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["cross", "self"])
@pytest.mark.parametrize("sizes", [{"n": (5, 10, 15)}, {"T": (5, 10, 15)}])
def test_global_share_falls_with_inputs_and_with_tokens(tmp_path, attention, sizes):
    study = evolve(OVERPARAM, **sizes, d=(15,), problems=150, attention=attention)
    rows = tabulate(study, run(study, tmp_path, progress=False)).rows
    shares = [row.estimates["global_percent"].value for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert all(row.estimates["local_percent"].value >= 98 for row in rows)


def test_a_single_problem_has_neither_percentages_nor_means(tmp_path):
    study = Study(n=3, T=4, d=5, problems=1, steps=20, measure=("outcome", "cosine"))
    results = run(study, tmp_path, progress=False)
    heading, row = tabulate(study, results).text().splitlines()
    assert heading.split() == ["n", "T", "d", "global", "local", "neither", "cosine"]
    kind = OUTCOMES[int(results.outcome[0])]
    assert row.split()[3:6] == ["yes" if x == kind or (x, kind) == ("local", "global") else "no"
                                for x in ("global", "local", "neither")]  # fmt: skip
    assert float(row.split()[6]) == pytest.approx(float(results.cosine[0]), abs=1e-4)


def test_a_table_is_pickled_with_its_measures(tmp_path):
    measures = ("outcome", "margin_ratio")
    study = Study(n=3, T=4, d=(5, 6), problems=7, steps=20, norms=("fro",), measure=measures)
    results = run(study, tmp_path, progress=False)
    table = tabulate(results)
    again = pickle.loads(pickle.dumps(table))
    assert again.csv() == table.csv()
    record = {name: results[name].to_numpy()[0] for name in measures}
    for measure, same in zip(table.measures, again.measures, strict=True):
        assert same.estimate(record) == measure.estimate(record)


@pytest.mark.parametrize("problems", [5, 6])
def test_intervals_are_spoken_of_where_there_are_some(tmp_path, problems):
    """Between order statistics: of five problems there are none."""
    pytest.importorskip("matplotlib")
    study = Study(
        n=3, T=4, d=5, problems=problems, steps=9, norms=("fro", "max"), measure=("margin_ratio",)
    )
    results = run(study, tmp_path, progress=False)
    table = tabulate(results)
    shown = terminal_report(study, table, [], 80, broken=False)
    caption = plots.study(results).get_supxlabel()
    has_some = problems == 6
    assert ("(" in table.text()) is has_some
    assert ("In brackets" in shown) is has_some
    assert ("95 % confidence interval" in caption.replace("\n", " ")) is has_some


def test_results_of_another_study_are_not_tabulated(tmp_path):
    study = evolve(SMALL, problems=2, steps=5)
    results = run(evolve(study, title="As in figure 1"), tmp_path, progress=False)
    assert [row.axes["d"] for row in tabulate(study, results).rows] == [2, 5]
    for changes, text in (
        ({"d": (2, 6)}, r"d is \[2, 6\], got \[2, 5\]"),
        ({"lr": 0.2}, "lr is 0.2, got"),
    ):
        with pytest.raises(
            ValueError, match=f"^results: expected those of the study, whose {text}"
        ):
            tabulate(evolve(study, **changes), results)
