"""The report of a study: its page and figures, beside numbers computed from the results anew."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr
from attrs import evolve as replace
from scipy import stats

import attsvm
from attsvm.cli import main
from attsvm.studies import OUTCOMES, Study, open_results, report, run, tabulate
from attsvm.studies.expectations import REFERENCE

pytest.importorskip("plotly")
pytest.importorskip("jinja2")
bs4 = pytest.importorskip("bs4")
figures = pytest.importorskip("attsvm.studies.html_report.figures").figures

SMALL = replace(Study.load("overparam"), n=(3,), T=(4,), d=(2, 5, 9), problems=12, steps=100)


def read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return bs4.BeautifulSoup(text, "html.parser", string_containers={})


def words(element: Any) -> str:
    return " ".join(element.get_text().split())


def rows(page: Any) -> list[dict[str, Any]]:
    """Rows of the table of results by their headings."""
    headings = [words(heading) for heading in page.select("#table thead th")]
    return [
        dict(zip(headings, row.find_all("td"), strict=True))
        for row in page.select("#table tbody tr")
    ]


def key(cell: Any) -> float:
    """The number by which a cell is sorted."""
    return float(cell.find("data")["value"])


def drawn(study: Study, results: xarray.Dataset) -> dict[str, Any]:
    """Figures of a study by their names, with the number of their panel."""
    panels = figures(study, results, tabulate(study, results))
    return {each.id: each.figure for drawings in panels.values() for each in drawings}


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "small"
    run(SMALL, path, progress=False)
    return path


@pytest.fixture(scope="module")
def results(directory) -> xarray.Dataset:
    return open_results(directory).load()


@pytest.fixture(scope="module")
def page(directory) -> Any:
    return read(report(directory))


@pytest.fixture
def changed(directory, tmp_path) -> Callable[..., Path]:
    """A copy of the study in which the values of the first cell, or of several, are replaced."""

    def change(*cells: int, **values: Any) -> Path:
        copy = shutil.copytree(directory, tmp_path / "copy")
        # Zarr 3 leaves out chunks of fill values, which would be damage, unless asked; Zarr 2 not.
        config = getattr(zarr, "config", None)
        with config.set({"array.write_empty_chunks": True}) if config else nullcontext():
            store = zarr.open_group(str(copy / "results.zarr"), mode="r+")
            for name, value in values.items():
                for cell in cells or (0,):
                    store[name][0, 0, cell] = value
        return copy

    return change


class TestTable:
    def test_shares_and_their_intervals(self, page, results):
        shares = {
            "global %": results.outcome == OUTCOMES.index("global"),
            "local %": results.outcome != OUTCOMES.index("neither"),
            "neither %": results.outcome == OUTCOMES.index("neither"),
            "feasible %": results.feasible,
            "all support %": results.all_support,
        }
        table = rows(page)
        assert [words(row["d"]) for row in table] == ["2", "5", "9"]
        for row in table:
            assert words(row["problems"]) == "12"
            for heading, of_problems in shares.items():
                count = int(of_problems.sel(n=3, T=4, d=int(words(row["d"]))).sum())
                assert key(row[heading]) == pytest.approx(100 * count / 12)
                ends = stats.binomtest(count, 12).proportion_ci(method="wilson")
                low, high = math.floor(100 * ends.low), math.ceil(100 * ends.high)
                assert words(row[heading]) == f"{100 * count / 12:.1f} {low}–{high}"

    def test_mean_cosine_and_its_interval(self, page, results):
        for row in rows(page):
            cosines = results.cosine.sel(n=3, T=4, d=int(words(row["d"]))).dropna("problem").values
            value, ends, *runs = words(row["mean cosine"]).split(maxsplit=2)
            assert key(row["mean cosine"]) == pytest.approx(cosines.mean())
            assert float(value) == pytest.approx(cosines.mean(), abs=5e-5)
            low, high = stats.t.interval(0.95, len(cosines) - 1, cosines.mean(), stats.sem(cosines))
            shown = [float(end) for end in ends.split("–")]
            assert shown == pytest.approx([low, min(high, 1)], abs=1.01e-4)
            assert runs == ([] if len(cosines) == 12 else [f"of {len(cosines)}"])

    def test_a_cell_without_a_number_shows_a_dash(self, changed):
        first = rows(read(report(changed(cosine=math.nan))))[0]["mean cosine"]
        assert (words(first), first.find("data")["value"]) == ("- of 0", "")

    def test_negative_numbers_are_not_mistaken_for_intervals(self, changed):
        cosines = np.linspace(-0.4, 0.2, 12)
        ends = stats.t.interval(0.95, 11, cosines.mean(), stats.sem(cosines))
        low, high = (-math.floor(1e4 * ends[0]) / 1e4, math.ceil(1e4 * ends[1]) / 1e4)
        first = rows(read(report(changed(cosine=cosines))))[0]["mean cosine"]
        assert words(first) == f"−0.1000 −{low:.4f}–{high:.4f}"

    def test_every_column_is_explained(self, page):
        explained = [term.get_text() for term in page.find_all("dt")]
        assert explained == ["n", "T", *rows(page)[0]]


class TestAccuracy:
    def test_largest_gap_and_residual_of_solutions_and_of_proofs(self, page, results):
        table = {
            words(row.td): [words(cell) for cell in row.find_all("td")[1:]]
            for row in page.select("#accuracies tbody tr")
        }
        assert (~results.feasible).any()
        for tokens in ("optimal", "selected"):
            norm, gap, kkt = (results[f"svm_{tokens}_{x}"] for x in ("norm", "gap", "kkt"))
            solved = np.isfinite(norm)
            for what, those in (("solved", solved), ("proved to have no solution", ~solved)):
                if those.any():
                    residuals = kkt.where(those).max("problem").squeeze()
                    assert table.pop(f"SVM of the {tokens} tokens, {what}") == [
                        f"{those.sum().item()}",
                        f"{gap.where(those).max().item():.1e}",
                        f"{residuals.max().item():.1e}",
                        f"n=3, T=4, d={residuals.idxmax('d').item():g}",
                    ]
        assert table == {}

    def test_a_study_that_did_not_record_it_says_so(self, tmp_path):
        run(replace(SMALL, measure=("outcome",)), tmp_path, progress=False)
        assert "Not recorded" in words(read(report(tmp_path)))


class TestFigures:
    def test_shares_and_intervals_are_those_of_the_table(self, page, results):
        bars = {trace.name: trace for trace in drawn(SMALL, results)["shares-0"].data}
        for name, heading in {"Global": "global %", "Neither": "neither %"}.items():
            trace = bars[name]
            assert list(trace.x) == ["2", "5", "9"]
            assert list(trace.y) == pytest.approx([key(row[heading]) for row in rows(page)])
            error = trace.error_y
            for y, below, above in zip(trace.y, error.arrayminus, error.array, strict=True):
                ends = stats.binomtest(round(12 * y / 100), 12).proportion_ci(method="wilson")
                assert [y - below, y + above] == pytest.approx([100 * ends.low, 100 * ends.high])

    @pytest.mark.parametrize("smallest", [1e-3, 1e-25])
    def test_boxes_are_quantiles_of_what_cosines_are_short_of_one(self, changed, smallest):
        gaps = np.geomspace(smallest, 1e5 * smallest, 12)
        copy = open_results(changed(cosine=1 - gaps, cosine_gap=gaps))
        (box,) = drawn(SMALL, copy)["cosine-0"].data
        for k, d in enumerate((2, 5, 9)):
            values = copy.cosine_gap.sel(n=3, T=4, d=d).dropna("problem").values
            parts = [box[part][k] for part in ("lowerfence", "q1", "median", "q3", "upperfence")]
            expected = np.percentile(values, [5, 25, 50, 75, 95])
            assert parts == pytest.approx(expected, rel=1e-12, abs=0)

    @pytest.mark.parametrize(
        ("name", "variable"),
        [
            ("norm-0", "history_norm"),
            ("loss-0", "history_loss_gap"),
            ("attention-0", "history_max_attention"),
        ],
    )
    def test_histories_are_medians_over_the_recorded_steps(self, results, name, variable):
        curves = drawn(SMALL, results)[name].data
        assert [curve.name for curve in curves] == ["2", "5", "9"]
        for curve in curves:
            history = results[variable].sel(n=3, T=4, d=int(curve.name))
            assert list(curve.x) == results.step.values[1:].tolist() == [1, 2, 5, 10, 20, 50, 100]
            assert list(curve.y) == pytest.approx(history.median("problem").values[1:])

    def test_every_figure_has_a_heading_a_caption_and_its_script(self, page):
        names = [f"{name}-0" for name in ("shares", "cosine", "norm", "loss", "attention")]
        drawings = page.find_all(class_="plotly-graph-div")
        assert [each["id"] for each in drawings] == names
        for name, figure in zip(names, page.find_all("figure"), strict=True):
            assert words(figure.h3)
            assert words(figure.figcaption)
            _, _, arguments = figure.script.get_text().partition("Plotly.newPlot(")
            assert arguments.split(",")[0].strip() == f'"{name}"'

    def test_reference_is_drawn_where_the_settings_are_its_own(self, results, tmp_path):
        study = replace(Study.load("overparam"), d=(8, 9), problems=8)
        shares = drawn(study, run(study, tmp_path, progress=False))["shares-0"]
        marks = [each for each in shares.data if each.name == "Independent computation"]
        assert [(list(mark.x), list(mark.y), mark.showlegend) for mark in marks] == [
            (["8"], [REFERENCE["global_percent"][8]], True),
            (["8"], [REFERENCE["local_percent"][8]], False),
            (["8"], [REFERENCE["all_support_percent"][8]], False),
        ]
        others = [each.name for each in drawn(SMALL, results)["shares-0"].data]
        assert "Independent computation" not in others

    def test_other_axes_make_panels_and_the_longest_stands_along(self, tmp_path):
        study = replace(SMALL, d=(3, 5, 9), loss=("logistic", "exponential"), steps=20)
        results = run(study, tmp_path, progress=False)
        page = read(report(tmp_path))
        losses = ("logistic", "exponential")
        assert [words(each) for each in page.find_all("summary")] == [
            f"n = 3, T = 4, loss = {loss}" for loss in losses
        ]
        for k, loss in enumerate(losses):
            expected = [key(row["global %"]) for row in rows(page) if words(row["loss"]) == loss]
            assert list(drawn(study, results)[f"shares-{k}"].data[0].y) == pytest.approx(expected)

    def test_figures_without_a_mark_on_a_logarithmic_axis_are_left_out(self, tmp_path):
        """In one dimension all cosines are 1, and one token of two that are equal moves nothing."""
        study = Study(n=1, T=2, d=1, problems=40, steps=50, measure=("cosine", "history"))
        results = run(study, tmp_path, progress=False)
        assert np.nanmin(results.cosine) == 1
        assert not {"cosine-0", "norm-0"} & set(drawn(study, results))

    def test_two_long_axes_span_maps(self, tmp_path):
        study = Study(n=(1, 2, 3, 4, 5), T=3, d=(2, 3, 4, 5, 6, 7), problems=2, steps=5)
        results = run(study, tmp_path, progress=False)
        table = tabulate(study, results)
        (heat,) = drawn(study, results)["map-global_percent"].data
        assert list(heat.x) == ["2", "3", "4", "5", "6", "7"]
        assert list(heat.y) == ["1", "2", "3", "4", "5"]
        for row in table.rows:
            place = list(heat.y).index(str(row.axes["n"])), list(heat.x).index(str(row.axes["d"]))
            assert np.array(heat.z)[place] == row.estimates["global_percent"].value

    def test_few_problems_are_a_curve_each(self, tmp_path):
        names = ("outcome", "cosine", "cosine_history")
        study = Study(n=3, T=4, d=5, problems=4, steps=50, measure=names, record=(5, 50))
        results = run(study, tmp_path, progress=False)
        (figure,) = drawn(study, results).values()
        assert [curve.name for curve in figure.data] == ["0", "1", "2", "3"]
        for curve, gaps in zip(figure.data, results.history_cosine_gap.values, strict=True):
            assert list(curve.x) == [5, 50]
            assert list(curve.y) == pytest.approx(gaps, rel=1e-12)
        assert [words(each) for each in read(report(tmp_path)).find_all("summary")] == [
            "Each problem"
        ]

    def test_the_way_to_the_svm_is_drawn_beside_the_norm(self, tmp_path):
        study = Study(n=3, T=4, d=(2, 5), problems=6, steps=50, measure=("cosine_history",))
        results = run(study, tmp_path, progress=False)
        figure = drawn(study, results)["direction-0"]
        for curve, gaps in zip(figure.data, results.history_cosine_gap.values, strict=True):
            solved = gaps[~np.isnan(gaps).all(axis=1)]
            assert list(curve.x) == list(study.recorded_steps[1:])
            assert list(curve.y) == pytest.approx(np.median(solved, axis=0)[1:], rel=1e-12)

    def test_one_problem_is_a_point_without_an_interval(self, tmp_path):
        results = run(replace(SMALL, problems=1), tmp_path, progress=False)
        all_drawn = drawn(replace(SMALL, problems=1), results)
        (points,) = all_drawn["cosine-0"].data
        assert points.type == "scatter"
        assert list(points.y) == pytest.approx(results.cosine_gap.values.ravel(), rel=1e-12)
        assert np.isnan(all_drawn["shares-0"].data[0].error_y.array).all()
        page = read(report(tmp_path))
        assert all(cell.small is None for cell in page.select("#table td"))


class TestSettings:
    def test_the_declaration_reads_back_as_the_study(self, page, tmp_path):
        copy = tmp_path / "overparam.toml"
        copy.write_text(page.find(id="declaration").get_text())
        assert Study.load(copy) == SMALL

    def test_versions_instruction_set_and_seed_are_those_recorded(self, page, results):
        table = {words(row.th): words(row.td) for row in page.select("#versions tr")}
        assert table["instruction set"] == results.attrs["isa"]
        assert table["seed"] == "0"
        for name in ("attsvm", "numpy", "scipy", "osqp", "python"):
            assert table[name] == results.attrs[name]

    def test_the_commands_run(self, page, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        Path("overparam.toml").write_text(page.find(id="declaration").get_text())
        install, *commands = page.find(id="rerun").get_text().splitlines()
        assert install == f'pip install "attsvm[report]=={attsvm.__version__}"'
        for command in commands:
            program, *arguments = command.split()
            assert program == "attsvm"
            assert main(arguments) == 0
        again = read(Path("out/overparam/report.html"))
        assert again.find(id="table") == page.find(id="table")
        exec(page.find(id="open").get_text(), {})
        assert "<xarray.Dataset>" in capsys.readouterr().out

    def test_commands_of_a_name_with_spaces_are_quoted(self, tmp_path):
        run(replace(SMALL, name="my study", problems=2, steps=5), tmp_path, progress=False)
        commands = read(report(tmp_path)).find(id="rerun").get_text()
        assert "attsvm study 'my study.toml' --out 'out/my study'\n" in commands
        assert "attsvm report 'out/my study'" in commands

    def test_the_study_is_summarised_in_words(self, page):
        summary = words(page.find(id="summary"))
        assert summary.startswith("Attention was trained on 36 problems")
        assert "W trained from zero by 100 normalised steps of 0.1, logistic loss" in summary
        assert "every combination of n = 3; T = 4; d = 2, 5, 9." in summary


class TestPage:
    def test_it_is_one_document_with_language_title_and_contents(self, page, directory):
        assert page.html["lang"] == "en"
        assert page.title.get_text() == SMALL.title
        assert [heading.get_text() for heading in page.find_all("h1")] == [SMALL.title]
        ids = [element["id"] for element in page.find_all(id=True)]
        assert len(ids) == len(set(ids))
        assert [f"#{heading['id']}" for heading in page.find_all("h2")] == [
            link["href"] for link in page.select("nav a")
        ]
        assert all(each["aria-labelledby"] in ids for each in page.select("[aria-labelledby]"))
        assert_closed((directory / "report.html").read_text(encoding="utf-8"))

    def test_nothing_is_loaded(self, page):
        assert not page.find_all(["link", "img", "iframe", "object", "embed", "base"])
        for element in page.find_all(True):
            assert not {"src", "srcset", "data"} & set(element.attrs)
            assert element.get("href", "#").startswith("#")
        assert "url(" not in page.style.get_text()
        assert "@import" not in page.style.get_text()
        policy = page.find("meta", {"http-equiv": True})["content"]
        assert policy.startswith("default-src 'none'")
        assert "http" not in policy

    def test_the_same_results_make_the_same_bytes(self, directory, tmp_path):
        elsewhere = shutil.copytree(directory, tmp_path / "elsewhere")
        first = report(directory, tmp_path / "first.html").read_bytes()
        assert report(elsewhere).read_bytes() == first
        assert report(elsewhere / "results.zarr", tmp_path / "b.html").read_bytes() == first

    def test_text_of_the_declaration_cannot_end_what_holds_it(self, tmp_path):
        title = "</title></script><script>alert(1)</script> & co"
        run(replace(SMALL, title=title, problems=2, steps=5), tmp_path, progress=False)
        page = read(report(tmp_path))
        assert page.h1.get_text() == page.title.get_text() == title


def assert_closed(source: str) -> None:
    """Assert that every element that is opened is closed, in order."""
    opened = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag != "meta":
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Parser().feed(source)
    assert opened == []


class TestOtherStudies:
    def test_progress_of_finished_and_unfinished_studies(self, page, changed):
        assert words(page.find(id="progress")) == "Finished: all 3 cells, 36 problems."
        unfinished = read(report(changed(1, finished=False)))
        progress = words(unfinished.find(id="progress"))
        assert progress.startswith("Unfinished: 2 of 3 cells, 24 of 36 problems")
        assert [words(row["d"]) for row in rows(unfinished)] == ["2", "9"]

    def test_ragged_sizes_and_factors(self, tmp_path):
        changes = {"n": (2, 3), "parameter": "KQ", "d": 4, "T": 3, "init": ("uniform", "balanced")}
        measure = ("selected", "cosine", "svm_selected", "history")
        run(replace(SMALL, **changes, measure=measure), tmp_path, progress=False)
        page = read(report(tmp_path))
        assert [(words(row["n"]), words(row["init"])) for row in rows(page)] == [
            (n, init) for n in "23" for init in ("uniform", "balanced")
        ]
        assert page.find(id="shares-0") is None

    def test_a_study_without_axes_or_shares(self, tmp_path):
        run(replace(SMALL, n=3, T=4, d=5, measure=("selected",)), tmp_path, progress=False)
        page = read(report(tmp_path))
        (row,) = rows(page)
        assert [words(cell) for cell in row.values()] == ["3", "4", "5", "12"]
        assert page.find("figure") is None
        assert words(page.find(id="progress")) == "Finished: its only cell, 12 problems."

    def test_a_file_of_problems_need_not_exist_any_more(self, tmp_path):
        problems = tmp_path / "mine.npz"
        attsvm.save(problems, attsvm.datasets.unit_sphere(3, 4, 9, rng=0))
        run(Study(data=str(problems), lr=(0.1, 0.5), steps=20), tmp_path / "out", progress=False)
        problems.unlink()
        page = read(report(tmp_path / "out"))
        summary = words(page.find(id="summary"))
        assert "mine.npz; W trained" in summary
        assert "1 problem, seed" in summary
        assert [words(row["lr"]) for row in rows(page)] == ["0.1", "0.5"]
        assert "SHA-256 of the file of problems" in words(page.find(id="versions"))

    def test_digits(self, tmp_path):
        pytest.importorskip("sklearn")
        changes = {"n": (3,), "d": (4, 8), "problems": 4, "steps": 10}
        run(replace(Study.load("overparam-digits"), **changes), tmp_path, progress=False)
        page = read(report(tmp_path))
        assert "digits 3 and 8" in words(page.find(id="summary"))
        assert "not independent evidence" in words(page.find(id="expected"))
        assert "scikit-learn" in words(page.find(id="versions"))


class TestCommand:
    def refused(self, *arguments: object, capsys) -> str:
        assert main(["report", *map(str, arguments)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    def test_formats_of_no_figure_are_refused_before_the_report_is_written(self, tmp_path, capsys):
        study = Study(n=3, T=4, d=5, problems=2, steps=5, measure=("selected",))
        run(study, tmp_path / "bare")
        assert main(["report", str(tmp_path / "bare"), "--format", "pdf"]) == 2
        assert "--format: expected none where nothing is drawn" in capsys.readouterr().err
        assert not (tmp_path / "bare" / "report.html").exists()

    def test_it_writes_the_report_where_it_says(self, directory, tmp_path, capsys):
        assert main(["report", str(directory), "--out", str(tmp_path / "a.html")]) == 0
        assert capsys.readouterr().out == f"Written: {tmp_path / 'a.html'}\n"
        assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
        assert main(["report", str(directory)]) == 0
        assert capsys.readouterr().out == f"Written: {directory / 'report.html'}\n"

    @pytest.mark.parametrize("what", ["nothing", "empty directory", "file", "other zarr"])
    def test_no_results_of_a_study(self, tmp_path, capsys, what):
        place = tmp_path / "place"
        if what == "file":
            place.write_text("no study")
        elif what == "other zarr":
            zarr.open_group(str(place), mode="w", zarr_format=2).attrs["title"] = "Other"
        elif what == "empty directory":
            place.mkdir()
        error = self.refused(place, capsys=capsys)
        assert f"attsvm: error: {place}: expected the results of a study" in error
        assert list(tmp_path.iterdir()) == [place] * (what != "nothing")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ("colour = 3", "colour: expected one of the fields"),
            ("problems = 13", "its results have the sizes"),
            ("problems =", "expected TOML"),
        ],
    )
    def test_a_declaration_that_is_not_of_these_results(self, changed, capsys, change, reason):
        copy = changed()
        for name in (".zattrs", ".zmetadata"):
            path = copy / "results.zarr" / name
            path.write_text(path.read_text().replace("problems = 12", change))
        error = self.refused(copy, "--out", copy / "a.html", capsys=capsys)
        assert f"{copy}: expected the results of a study: " in error
        assert reason in error
        assert not (copy / "a.html").exists()

    def test_a_study_without_a_result_so_far(self, changed, capsys):
        copy = changed(0, 1, 2, finished=False)
        error = self.refused(copy, "--out", copy / "a.html", capsys=capsys)
        assert "expected a finished problem or more, got a study without results so far" in error
        assert not (copy / "a.html").exists()

    def test_nowhere_to_write(self, directory, tmp_path, capsys):
        error = self.refused(directory, "--out", tmp_path / "no" / "a.html", capsys=capsys)
        assert "--out: expected an existing directory" in error

    def test_starting_afresh_removes_the_report_of_what_was_there(self, changed):
        copy = changed()
        report(copy)
        run(replace(SMALL, steps=5), copy, overwrite=True, progress=False)
        assert not (copy / "report.html").exists()

    def test_the_extra_is_named(self, directory):
        program = (
            "import sys; sys.modules['plotly'] = None  # as if it were not installed\n"
            "from attsvm.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        command = [sys.executable, "-c", program, "report", str(directory)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr == (
            'attsvm: error: attsvm.studies.report needs plotly: pip install "attsvm[report]"\n'
        )


def test_every_curve_of_the_means_looks_as_in_the_figure(tmp_path):
    pytest.importorskip("matplotlib")
    study = Study(
        n=10, T=4, d=(20, 30), problems=3, steps=5, test=10, parameter="p", data="signal_noise",
        label_noise=0.3, measure=("accuracy", "fitted", "test_accuracy", "attention_by_kind"),
    )  # fmt: skip
    results = run(study, tmp_path / "means")
    table = tabulate(study, results)
    ((drawing,),) = figures(study, results, table).values()
    (axes,) = attsvm.plots.study(table).axes
    shown = {bars.get_label(): bars.lines[0].get_color() for bars in axes.containers}
    assert len(shown) == 8
    assert {trace.name: trace.line.color for trace in drawing.figure.data} == shown
    looks = {(x.line.color, x.line.dash, x.marker.symbol) for x in drawing.figure.data}
    assert len(looks) == 8
