"""The report of a study: what is on the page, beside numbers computed from the results anew."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from scipy import stats

import attsvm
from attsvm.cli import main
from attsvm.studies import OUTCOMES, Study, report, run
from attsvm.studies.expectations import REFERENCE

pytest.importorskip("plotly")
pytest.importorskip("jinja2")

SMALL = replace(Study.load("overparam"), n=(3,), T=(4,), d=(2, 5, 9), problems=12, steps=100)
VOID = {"meta", "br", "img", "link", "input", "hr", "source", "base", "embed", "area", "col"}


@dataclass
class Element:
    """An element of a page, with its attributes and the text within it."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def all(self, tag: str) -> list[Element]:
        found = [self] if self.tag == tag else []
        return found + [each for child in self.children for each in child.all(tag)]

    def by_id(self, name: str) -> Element:
        if self.attributes.get("id") == name:
            return self
        (found,) = (c.by_id(name) for c in self.children if name in c.ids)
        return found

    @property
    def ids(self) -> set[str]:
        own = {self.attributes["id"]} if "id" in self.attributes else set()
        return own.union(*(child.ids for child in self.children))

    @property
    def text(self) -> str:
        return "".join(self.texts)


class Page(HTMLParser):
    """The tree of a page in which every element that is opened is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(source)
        self.close()
        assert self.open == [self.root]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        for element in self.open:
            element.texts.append(data)


def read(path: Path) -> Element:
    return Page(path.read_text(encoding="utf-8")).root


def rows(page: Element) -> list[dict[str, Element]]:
    """Rows of the table of results by their headings."""
    table = page.by_id("table")
    headings = [heading.text.strip() for heading in table.all("thead")[0].all("th")]
    return [
        dict(zip(headings, row.all("th") + row.all("td"), strict=True))
        for row in table.all("tbody")[0].all("tr")
    ]


def drawing(page: Element, name: str) -> dict:
    return json.loads(page.by_id(f"{name}-data").text)


def words(element: Element) -> str:
    return " ".join(element.text.split())


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "small"
    run(SMALL, path, progress=False)
    return path


@pytest.fixture(scope="module")
def results(directory) -> xarray.Dataset:
    return xarray.open_zarr(directory / "results.zarr").load()


@pytest.fixture(scope="module")
def page(directory) -> Element:
    return read(report(directory))


def unfinish(directory: Path, copy: Path, *cells: int) -> Path:
    """A copy of a study in which cells along d have not been measured."""
    shutil.copytree(directory, copy)
    finished = zarr.open_group(str(copy / "results.zarr"), mode="r+")["finished"]
    for cell in cells:
        finished[0, 0, cell] = False
    return copy


class TestTable:
    def test_shares_and_their_intervals(self, page, results):
        shares = {
            "global %": results.outcome == OUTCOMES.index("global"),
            "local %": results.outcome != OUTCOMES.index("neither"),
            "neither %": results.outcome == OUTCOMES.index("neither"),
            "feasible %": results.feasible,
            "all SV %": results.all_support,
        }
        table = rows(page)
        assert [row["d"].text for row in table] == ["2", "5", "9"]
        for row in table:
            place = {"n": 3, "T": 4, "d": int(row["d"].text)}
            assert row["problems"].text == "12"
            for heading, of_problems in shares.items():
                count = int(of_problems.sel(place).sum())
                assert float(row[heading].attributes["data-key"]) == pytest.approx(100 * count / 12)
                ends = stats.binomtest(count, 12).proportion_ci(method="wilson")
                low, high = math.floor(100 * ends.low + 1e-9), math.ceil(100 * ends.high - 1e-9)
                assert words(row[heading]) == f"{100 * count / 12:.1f} {low}–{high}"

    def test_mean_cosine_and_its_interval(self, page, results):
        for row in rows(page):
            cosines = results.cosine.sel(n=3, T=4, d=int(row["d"].text)).values
            cosines = cosines[~np.isnan(cosines)]
            shown = words(row["mean cosine"]).split()
            assert float(row["mean cosine"].attributes["data-key"]) == pytest.approx(cosines.mean())
            assert float(shown[0]) == pytest.approx(cosines.mean(), abs=5e-5)
            low, high = stats.t.interval(0.95, len(cosines) - 1, cosines.mean(), stats.sem(cosines))
            ends = [float(end) for end in shown[1].split("–")]
            assert ends == pytest.approx([low, min(high, 1)], abs=1.01e-4)
            assert shown[2:] == ([] if len(cosines) == 12 else ["of", str(len(cosines))])

    def test_a_cell_without_a_number_shows_a_dash(self, directory, tmp_path):
        copy = unfinish(directory, tmp_path / "copy")
        zarr.open_group(str(copy / "results.zarr"), mode="r+")["cosine"][0, 0, 0] = math.nan
        first = rows(read(report(copy)))[0]["mean cosine"]
        assert (words(first), first.attributes["data-key"]) == ("- of 0", "")

    def test_negative_numbers_are_not_mistaken_for_intervals(self, directory, tmp_path):
        copy = unfinish(directory, tmp_path / "copy")
        cosines = np.linspace(-0.4, 0.2, 12)
        zarr.open_group(str(copy / "results.zarr"), mode="r+")["cosine"][0, 0, 0] = cosines
        ends = stats.t.interval(0.95, 11, cosines.mean(), stats.sem(cosines))
        low, high = (-math.floor(1e4 * ends[0]) / 1e4, math.ceil(1e4 * ends[1]) / 1e4)
        first = rows(read(report(copy)))[0]["mean cosine"]
        assert words(first) == f"−0.1000 −{low:.4f}–{high:.4f}"
        assert words(first).count("–") == 1

    def test_every_column_is_explained(self, page):
        explained = [term.text for term in page.all("dt")]
        assert explained == list(rows(page)[0])[3:]


class TestAccuracy:
    def test_largest_gap_and_residual_of_solutions_and_of_proofs(self, page, results):
        seen = {}
        for row in page.by_id("accuracies").all("tbody")[0].all("tr"):
            what, count, gap, kkt, _ = row.all("th") + row.all("td")
            keys = (float(each.attributes["data-key"]) for each in (gap, kkt))
            seen[what.text] = (int(count.text), *keys)
        for tokens in ("optimal", "selected"):
            norm, gap, kkt = (results[f"svm_{tokens}_{x}"].values for x in ("norm", "gap", "kkt"))
            solved = np.isfinite(norm)
            for what, those in (("solved", solved), ("proved to have no solution", ~solved)):
                name = f"SVM of the {tokens} tokens, {what}"
                if those.any():
                    expected = (those.sum(), gap[those].max(), kkt[those].max())
                    assert seen.pop(name) == pytest.approx(expected, rel=1e-12, abs=0)
        assert seen == {}
        infeasible = (~results.feasible).sum()
        assert infeasible > 0

    def test_the_cell_of_the_largest_residual_is_named(self, page, results):
        kkt = results.svm_selected_kkt.where(np.isfinite(results.svm_selected_norm))
        worst = kkt.max("problem").squeeze().idxmax("d").item()
        text = words(page.by_id("accuracies"))
        assert f"n=3, T=4, d={worst:g}" in text

    def test_a_study_that_did_not_record_it_says_so(self, tmp_path):
        run(replace(SMALL, measure=("outcome",)), tmp_path, progress=False)
        assert "did not record it" in words(read(report(tmp_path)))


class TestFigures:
    def test_shares_and_intervals_are_those_of_the_table(self, page):
        data = drawing(page, "shares-0")["data"]
        headings = {"Global": "global %", "Not Local": "neither %"}
        for name, heading in headings.items():
            (bars,) = (each for each in data if each["name"] == name)
            keys = [float(row[heading].attributes["data-key"]) for row in rows(page)]
            assert bars["x"] == ["2", "5", "9"]
            assert bars["y"] == pytest.approx(keys, abs=1e-3)
            for y, low, high in zip(
                bars["y"], bars["error_y"]["arrayminus"], bars["error_y"]["array"], strict=True
            ):
                ends = stats.binomtest(round(12 * y / 100), 12).proportion_ci(method="wilson")
                assert [y - low, y + high] == pytest.approx(
                    [100 * ends.low, 100 * ends.high], abs=1e-3
                )

    def test_cosines_are_drawn_by_their_quantiles(self, page, results):
        (box,) = drawing(page, "cosine-0")["data"]
        for k, d in enumerate((2, 5, 9)):
            gaps = 1 - results.cosine.sel(n=3, T=4, d=d).dropna("problem").values
            drawn = [box[part][k] for part in ("lowerfence", "q1", "median", "q3", "upperfence")]
            assert drawn == pytest.approx(np.percentile(gaps, [5, 25, 50, 75, 95]), rel=1e-5)

    def test_cosines_that_round_to_one_are_drawn_by_what_they_are_short_of_it(
        self, directory, tmp_path
    ):
        copy = shutil.copytree(directory, tmp_path / "copy")
        store = zarr.open_group(str(copy / "results.zarr"), mode="r+")
        gaps = np.geomspace(1e-25, 1e-20, 12)
        store["cosine"][0, 0, 0], store["cosine_gap"][0, 0, 0] = 1 - gaps, gaps
        (box,) = drawing(read(report(copy)), "cosine-0")["data"]
        drawn = [box[part][0] for part in ("lowerfence", "q1", "median", "q3", "upperfence")]
        assert drawn == pytest.approx(np.percentile(gaps, [5, 25, 50, 75, 95]), rel=1e-5, abs=0)

    @pytest.mark.parametrize(
        ("figure", "variable"), [("norm-0", "history_norm"), ("loss-0", "history_loss_gap")]
    )
    def test_histories_are_medians_over_the_recorded_steps(self, page, results, figure, variable):
        curves = drawing(page, figure)["data"]
        assert [curve["name"] for curve in curves] == ["2", "5", "9"]
        for curve in curves:
            history = results[variable].sel(n=3, T=4, d=int(curve["name"]))
            assert curve["x"] == results.step.values[1:].tolist() == [1, 2, 5, 10, 20, 50, 100]
            assert curve["y"] == pytest.approx(history.median("problem").values[1:], rel=1e-5)

    def test_every_figure_has_a_heading_a_caption_and_its_data(self, page):
        figures = page.all("figure")
        names = [figure.all("div")[0].attributes["id"] for figure in figures]
        assert names == ["shares-0", "cosine-0", "norm-0", "loss-0"]
        for figure in figures:
            assert figure.all("h3")[0].text
            assert figure.all("figcaption")[0].text

    def test_reference_is_drawn_where_the_settings_are_its_own(self, tmp_path, page):
        study = replace(Study.load("overparam"), d=(8, 9), problems=8)
        run(study, tmp_path, progress=False)
        marks = [
            trace
            for trace in drawing(read(report(tmp_path)), "shares-0")["data"]
            if trace["name"] == "Independent computation"
        ]
        assert [(mark["x"], mark["y"]) for mark in marks] == [
            (["8"], [REFERENCE[name][8]])
            for name in ("global_percent", "local_percent", "all_support_percent")
        ]
        assert [mark["showlegend"] for mark in marks] == [True, False, False]
        assert "Independent" not in page.by_id("shares-0-data").text

    def test_other_axes_make_panels_and_the_longest_stands_along(self, tmp_path):
        study = replace(SMALL, d=(3, 5, 9), loss=("logistic", "exponential"), steps=20)
        run(study, tmp_path, progress=False)
        page = read(report(tmp_path))
        assert [summary.text for summary in page.all("summary")] == [
            "n = 3, T = 4, loss = logistic",
            "n = 3, T = 4, loss = exponential",
        ]
        for k, loss in enumerate(("logistic", "exponential")):
            by_d = {
                row["d"].text: float(row["global %"].attributes["data-key"])
                for row in rows(page)
                if row["loss"].text == loss
            }
            bars = drawing(page, f"shares-{k}")["data"][0]
            assert bars["y"] == pytest.approx([by_d[x] for x in bars["x"]], abs=1e-3)


class TestSettings:
    def test_the_declaration_reads_back_as_the_study(self, page, tmp_path):
        copy = tmp_path / "overparam.toml"
        copy.write_text(page.by_id("declaration").text)
        assert Study.load(copy) == SMALL

    def test_versions_instruction_set_and_seed_are_those_recorded(self, page, results):
        table = {
            row.all("th")[0].text: row.all("td")[0].text for row in page.by_id("versions").all("tr")
        }
        assert table["instruction set"] == results.attrs["isa"]
        assert table["seed"] == "0"
        for name in ("attsvm", "numpy", "scipy", "osqp", "python"):
            assert table[name] == results.attrs[name]

    def test_the_commands_run(self, page, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        Path("overparam.toml").write_text(page.by_id("declaration").text)
        install, *commands = page.by_id("rerun").text.strip().splitlines()
        assert install == f'pip install "attsvm[report]=={attsvm.__version__}"'
        for command in commands:
            program, *arguments = command.split()
            assert program == "attsvm"
            assert main(arguments) == 0
        again = read(Path("out/overparam/report.html"))
        assert again.by_id("table") == page.by_id("table")
        exec(page.by_id("open").text, {})
        assert "<xarray.Dataset>" in capsys.readouterr().out

    def test_what_was_studied_is_said_in_words(self, page):
        summary = words(page.by_id("summary"))
        assert summary.startswith("Attention was trained on 36 problems")
        assert "W trained from zero by 100 normalised steps of 0.1, logistic loss" in summary
        assert "every combination of n = 3; T = 4; d = 2, 5, 9." in summary


class TestPage:
    def test_it_is_one_document_with_language_title_and_headings(self, page):
        assert page.all("html")[0].attributes["lang"] == "en"
        assert page.all("title")[0].text == page.all("h1")[0].text == SMALL.title
        assert len(page.all("h1")) == 1
        for table in page.all("table"):
            assert table.all("caption")
            assert {each.attributes["scope"] for each in table.all("th")} <= {"col", "row"}
        ids = [each.attributes["id"] for each in walk(page) if "id" in each.attributes]
        assert len(ids) == len(set(ids))
        for element in walk(page):
            assert element.attributes.get("aria-labelledby", "results") in ids

    def test_nothing_is_loaded(self, page):
        for element in walk(page):
            assert element.tag not in ("link", "img", "iframe", "object", "embed", "base")
            assert not {"src", "href", "srcset", "data", "style"} & set(element.attributes)
        (style,) = page.all("style")
        assert "url(" not in style.text
        assert "@import" not in style.text
        policy = next(
            m.attributes["content"] for m in page.all("meta") if "http-equiv" in m.attributes
        )
        assert policy.startswith("default-src 'none'")
        assert "http" not in policy

    def test_the_same_results_make_the_same_bytes(self, directory, tmp_path):
        elsewhere = tmp_path / "elsewhere"
        shutil.copytree(directory, elsewhere)
        first = report(directory, tmp_path / "first.html").read_bytes()
        assert report(elsewhere).read_bytes() == first
        assert report(elsewhere / "results.zarr", tmp_path / "b.html").read_bytes() == first

    def test_text_of_the_declaration_cannot_end_what_holds_it(self, tmp_path):
        title = "</title></script><script>alert(1)</script> & co"
        run(replace(SMALL, title=title, problems=2, steps=5), tmp_path, progress=False)
        page = read(report(tmp_path))
        assert page.all("h1")[0].text == page.all("title")[0].text == title


def walk(element: Element) -> list[Element]:
    return [element] + [each for child in element.children for each in walk(child)]


class TestOtherStudies:
    def test_an_unfinished_study_is_reported_as_such(self, directory, tmp_path):
        page = read(report(unfinish(directory, tmp_path / "copy", 1)))
        said = words(page.by_id("progress"))
        assert said.startswith("Unfinished: 2 of 3 cells, 24 of 36 problems")
        assert [row["d"].text for row in rows(page)] == ["2", "9"]
        assert drawing(page, "shares-0")["data"][0]["x"] == ["2", "9"]

    def test_a_finished_study_says_so(self, page):
        assert words(page.by_id("progress")) == "Finished: all 3 cells, 36 problems."

    def test_ragged_sizes_and_factors(self, tmp_path):
        changes = {"n": (2, 3), "parameter": "KQ", "d": 4, "T": 3, "init": ("uniform", "balanced")}
        measure = ("selected", "cosine", "svm_selected", "history")
        run(replace(SMALL, **changes, measure=measure), tmp_path, progress=False)
        page = read(report(tmp_path))
        assert [(row["n"].text, row["init"].text) for row in rows(page)] == [
            (n, init) for n in "23" for init in ("uniform", "balanced")
        ]
        assert "shares-0" not in page.ids

    def test_a_study_without_axes_or_shares(self, tmp_path):
        run(replace(SMALL, n=3, T=4, d=5, measure=("selected",)), tmp_path, progress=False)
        page = read(report(tmp_path))
        (row,) = rows(page)
        assert {name: cell.text for name, cell in row.items()} == {
            "n": "3",
            "T": "4",
            "d": "5",
            "problems": "12",
        }
        assert page.all("figure") == []
        assert words(page.by_id("progress")) == "Finished: its only cell, 12 problems."

    def test_ones_own_problems_need_not_be_there_any_more(self, tmp_path):
        problems = tmp_path / "mine.npz"
        attsvm.save(problems, attsvm.datasets.unit_sphere(3, 4, 9, batch=5, rng=0))
        out = tmp_path / "out"
        run(Study(data=str(problems), lr=(0.1, 0.5), steps=20), out, progress=False)
        problems.unlink()
        page = read(report(out))
        assert "mine.npz; W trained" in words(page.by_id("summary"))
        assert [row["lr"].text for row in rows(page)] == ["0.1", "0.5"]
        assert "SHA-256 of the file of problems" in page.by_id("versions").text

    def test_digits(self, tmp_path):
        pytest.importorskip("sklearn")
        changes = {"n": (3,), "d": (4, 8), "problems": 4, "steps": 10}
        run(replace(Study.load("overparam-digits"), **changes), tmp_path, progress=False)
        page = read(report(tmp_path))
        assert "digits 3 and 8" in words(page.by_id("summary"))
        assert "not independent evidence" in words(page.by_id("expected"))
        assert "scikit-learn" in page.by_id("versions").text


class TestErrors:
    def refused(self, *arguments: object, capsys) -> str:
        assert main(["report", *map(str, arguments)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    def test_nothing_there(self, tmp_path, capsys):
        said = self.refused(tmp_path / "none", capsys=capsys)
        assert said == (
            f"attsvm: error: {tmp_path}/none: expected the results of a study, got none there"
        )

    @pytest.mark.parametrize("what", ["empty directory", "file", "other zarr"])
    def test_no_results_of_a_study(self, tmp_path, capsys, what):
        place = tmp_path / "place"
        if what == "file":
            place.write_text("no study")
        elif what == "other zarr":
            zarr.open_group(str(place), mode="w", zarr_format=2).attrs["title"] = "Other"
        else:
            place.mkdir()
        said = self.refused(place, capsys=capsys)
        assert f"{place}: expected the results of a study" in said
        assert list(tmp_path.iterdir()) == [place]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("colour = 3", "colour is no field of a study"),
            ("problems = 13", "its results have the sizes"),
            ("problems =", "expected TOML"),
        ],
    )
    def test_a_declaration_that_is_not_of_these_results(
        self, directory, tmp_path, capsys, change, words
    ):
        copy = tmp_path / "copy"
        shutil.copytree(directory, copy)
        for name in (".zattrs", ".zmetadata"):
            path = copy / "results.zarr" / name
            path.write_text(path.read_text().replace("problems = 12", change))
        said = self.refused(copy, "--out", tmp_path / "a.html", capsys=capsys)
        assert f"{copy}: expected the results of a study: " in said
        assert words in said
        assert not (tmp_path / "a.html").exists()

    def test_a_study_without_a_result_so_far(self, directory, tmp_path, capsys):
        copy = unfinish(directory, tmp_path / "copy", 0, 1, 2)
        (copy / "report.html").unlink(missing_ok=True)
        said = self.refused(copy, capsys=capsys)
        assert "expected a finished problem or more, got a study without results so far" in said
        assert not (copy / "report.html").exists()

    def test_nowhere_to_write(self, directory, tmp_path, capsys):
        said = self.refused(directory, "--out", tmp_path / "no" / "a.html", capsys=capsys)
        assert "expected an existing directory" in said

    def test_starting_afresh_removes_the_report_of_what_was_there(self, directory, tmp_path):
        copy = tmp_path / "copy"
        shutil.copytree(directory, copy)
        report(copy)
        run(replace(SMALL, steps=5), copy, overwrite=True, progress=False)
        assert not (copy / "report.html").exists()

    def test_the_extra_is_named(self, directory):
        program = (
            "import sys; sys.modules['plotly'] = None  # as if it were not installed\n"
            "from attsvm.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, "report", str(directory)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr == (
            'attsvm: error: attsvm.studies.report needs plotly: pip install "attsvm[report]"\n'
        )


def test_the_command_writes_the_report_where_it_says(directory, tmp_path, capsys):
    assert main(["report", str(directory), "--out", str(tmp_path / "a.html")]) == 0
    assert capsys.readouterr().out == f"Written: {tmp_path / 'a.html'}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    assert main(["report", str(directory)]) == 0
    assert capsys.readouterr().out == f"Written: {directory / 'report.html'}\n"


def test_figures_without_a_mark_on_a_logarithmic_axis_are_left_out(tmp_path):
    """In one dimension all cosines are 1, and one token of two that are equal moves nothing."""
    study = Study(n=1, T=2, d=1, problems=10, steps=50, measure=("cosine", "history"))
    results = run(study, tmp_path, progress=False)
    assert np.nanmin(results.cosine) == 1
    page = report(tmp_path).read_text(encoding="utf-8")
    assert 'id="cosine-0"' not in page
    assert 'id="norm-0"' not in page


def test_commands_of_a_name_with_spaces_are_quoted(tmp_path):
    run(replace(SMALL, name="my study"), tmp_path, progress=False)
    commands = read(report(tmp_path)).by_id("rerun").text
    assert "attsvm study 'my study.toml' --out 'out/my study'\n" in commands
    assert "attsvm report 'out/my study'" in commands
