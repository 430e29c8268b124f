"""Published figures computed anew: the framework, and every figure against its TOML file."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest

import attsvm
from attsvm import cli, plots
from attsvm.studies.reproduce import registry
from attsvm.studies.reproduce.check import SOURCES, Check, table
from attsvm.studies.reproduce.expected import Expected
from attsvm.studies.reproduce.figure import PAPERS, Figure, Settings
from attsvm.studies.reproduce.registry import FIGURES, matching, named
from attsvm.studies.reproduce.runner import reproduce

GOOD = Check("one", 1.0, 1.0005, 1e-3)
BAD = Check("two", 1.0, 1.002, 1e-3)


def figure(*found, name="small", notes=(), draw=None, compute=None, quick="", seconds=(1.0, 1.0)):
    def computation(task):
        task.checks += found
        task.notes += notes
        return {"x": [0, 1]}

    return Figure(
        name=name,
        title="A small figure",
        papers=("2306.13596",),
        place="figure 0",
        size=(2.0, 2.0),
        seconds=seconds,
        computation=compute or computation,
        drawing=draw or (lambda canvas, data: canvas.subplots().plot(data["x"])),
        quick=quick,
    )


def run_cli(monkeypatch, figures, *words):
    monkeypatch.setattr(registry, "FIGURES", tuple(figures))
    return cli.main(["reproduce", *map(str, words)])


class TestCheck:
    @pytest.mark.parametrize(
        ("kind", "tolerance", "obtained", "passed"),
        [
            ("within", 0.5, 1.5, True),
            ("within", 0.5, 0.5, True),
            ("within", 0.5, 1.75, False),
            ("within", 0.5, 0.25, False),
            ("at least", 0.0, 1.0, True),
            ("at least", 0.0, 7.0, True),
            ("at least", 0.0, 0.75, False),
            ("at least", 0.5, 0.75, True),
            ("at most", 0.0, 1.0, True),
            ("at most", 0.0, -7.0, True),
            ("at most", 0.0, 1.25, False),
            ("at most", 0.5, 1.25, True),
            ("factor", 2.0, 2.0, True),
            ("factor", 2.0, 0.5, True),
            ("factor", 2.0, 2.25, False),
            ("factor", 2.0, 0.25, False),
            ("factor", 2.0, -1.0, False),
            ("equal", 0.0, 1.0, True),
            ("equal", 0.0, np.nextafter(1.0, 2.0), False),
        ],
    )
    def test_kinds(self, kind, tolerance, obtained, passed):
        assert Check("x", 1.0, obtained, tolerance, kind).passed is passed

    @pytest.mark.parametrize("kind", ["within", "factor", "at least", "at most", "equal"])
    @pytest.mark.parametrize("obtained", [np.nan, np.inf, -np.inf])
    def test_numbers_that_are_not_finite_never_pass(self, kind, obtained):
        tolerance = 2.0 if kind == "factor" else 0.0
        assert Check("x", 1.0, obtained, tolerance, kind).verdict == "OUTSIDE"

    @pytest.mark.parametrize(
        ("expected", "obtained", "tolerance", "verdict"),
        [
            (0.0086, 0.0219, 0.022, "not comparable"),
            (-1.0, 0.5, 2.0, "not comparable"),
            (1.0, 0.5, 1.0, "ok"),
            (0.0086, 0.0419, 0.022, "OUTSIDE"),
            (0.0, 1e-9, 1e-8, "ok"),
        ],
    )
    def test_a_tolerance_larger_than_the_number_compares_nothing(
        self, expected, obtained, tolerance, verdict
    ):
        check = Check("x", expected, obtained, tolerance)
        assert check.verdict == verdict
        assert check.passed is (verdict == "ok")

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"expected": np.nan}, "expected: must be finite"),
            ({"tolerance": -1.0}, "tolerance: expected a finite number >= 0"),
            ({"tolerance": np.nan}, "tolerance: expected a finite number >= 0"),
            ({"tolerance": np.inf}, "tolerance: expected a finite number >= 0"),
            ({"kind": "equal"}, "tolerance: expected 0 where the kind is 'equal'"),
            ({"kind": "factor", "tolerance": 0.5}, "tolerance: expected a finite number >= 1"),
            ({"kind": "near"}, "kind: expected one of within"),
            ({"source": "hearsay"}, "source: expected one of published"),
        ],
    )
    def test_invalid_checks_are_refused(self, changed, message):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(GOOD, **changed)

    def test_table_shows_all_of_every_check(self):
        lines = table([GOOD, BAD, Check("three", 0.99, np.nan, kind="at least")]).splitlines()
        assert lines[0].split() == ["number", "expected", "obtained", "tolerance", "source"]
        assert lines[1].split() == ["one", "1", "1.0005", "0.001", "ok", "published"]
        assert lines[2].split() == ["two", "1", "1.002", "0.001", "OUTSIDE", "published"]
        assert lines[3].split() == ["three", ">=", "0.99", "nan", "-", "OUTSIDE", "published"]


class TestExpected:
    NORMS = Expected.read(
        {"name": "|p| at {}", "source": "theory", "at": "steps", "expected": [1, 2, 4],
         "tolerance": [0.5, "sampling", 0.25], "sampling": {"errors": 3, "runs": 4}},
        {"steps": [10, 20, 40]},
    )  # fmt: skip

    def test_numbers_are_compared_by_their_places(self):
        single = dataclasses.replace(self.NORMS, sampling={}, tolerance=(0.25,))
        found = single.checks({10: 1, 20: 2.5, 30: 9, 40: 4})
        assert [(c.expected, c.obtained, c.verdict) for c in found] == [
            (1, 1, "ok"),
            (2, 2.5, "OUTSIDE"),
            (4, 4, "ok"),
        ]
        with pytest.raises(KeyError):
            single.checks({20: 2.5})

    def test_means_of_runs_have_tolerances_of_their_standard_errors(self):
        runs = np.array([[1.0, 1.0, 1.3], [2.0, 2.2, 2.4], [4.0, 4.0, 4.0]])
        found = self.NORMS.checks(runs)
        assert [c.name for c in found] == ["|p| at 10", "|p| at 20", "|p| at 40"]
        assert [c.expected for c in found] == [1, 2, 4]
        assert [c.obtained for c in found] == pytest.approx([1.1, 2.2, 4.0])
        error = 0.2 * np.sqrt(1 / 4 + 1 / 3)
        assert [c.tolerance for c in found] == pytest.approx([0.5, 3 * error, 0.25])
        assert "3 standard errors" in found[1].reason
        least = dataclasses.replace(self.NORMS, sampling={"errors": 3, "least": 9, "runs": 4})
        assert least.checks(runs)[1].tolerance == 9
        spread = dataclasses.replace(self.NORMS, sampling={"errors": 1, "spread": [1, 2, 3]})
        assert spread.checks(runs)[1].tolerance == pytest.approx(2 / np.sqrt(3))

    def test_some_places_and_numbers_that_are_computed(self):
        found = self.NORMS.checks([[2.0, 2.0]], at=[20], expected=[3.0], tolerance=0.5)
        assert [(c.name, c.expected, c.tolerance) for c in found] == [("|p| at 20", 3.0, 0.5)]

    def test_a_tolerance_relative_to_the_number(self):
        one = Expected.read(
            {"name": "x", "source": "theory", "expected": -4, "relative": 0.25, "reason": "rough"}
        )
        (check,) = one.checks(-4.5)
        assert (check.name, check.tolerance, check.reason) == (
            "x",
            1.0,
            "0.25 of the number; rough",
        )

    @pytest.mark.parametrize("obtained", [1.0, [1.0, 2.0], [[1.0, 2.0]], np.ones((2, 3))])
    def test_other_shapes_are_refused(self, obtained):
        with pytest.raises(ValueError, match="obtained: expected runs at 3 places"):
            self.NORMS.checks(obtained)

    def test_unknown_keys_are_refused(self):
        with pytest.raises(TypeError, match="tolerence"):
            Expected.read({"name": "x", "source": "theory", "tolerence": 1})


class TestRunner:
    def test_numbers_are_written_as_json(self, tmp_path):
        nan = Check("three", 0.99, np.nan, kind="at least", source="theory")
        one = figure(GOOD, nan, notes=("a note",), quick="half of it")
        result = reproduce(one, tmp_path / "new" / "dir", Settings(quick=True, num_threads=2))
        assert not result.passed
        (path,) = result.written
        assert path == tmp_path / "new" / "dir" / "small.json"
        written = json.loads(path.read_text())
        assert written["figure"] == "small"
        assert written["source"] == (
            "Max-Margin Token Selection in Attention Mechanism (arXiv 2306.13596), figure 0"
        )
        assert written["papers"] == ["2306.13596"]
        assert written["passed"] is False
        assert written["error"] is None
        assert written["drawings"] == []
        assert written["settings"] == {"quick": True, "num_threads": 2}
        assert written["less_in_quick"] == "half of it"
        assert written["notes"] == ["a note"]
        assert written["attsvm"] == attsvm.__version__
        assert written["environment"]["numpy"] == np.__version__
        assert written["seconds"] >= 0
        assert written["checks"] == [
            {
                "name": "one",
                "expected": 1.0,
                "obtained": 1.0005,
                "tolerance": 1e-3,
                "kind": "within",
                "passed": True,
                "verdict": "ok",
                "source": "published",
                "origin": "",
                "reason": "",
            },
            {
                "name": "three",
                "expected": 0.99,
                "obtained": None,
                "tolerance": 0.0,
                "kind": "at least",
                "passed": False,
                "verdict": "OUTSIDE",
                "source": "theory",
                "origin": "",
                "reason": "",
            },
        ]

    def test_drawing_is_written_beside_the_numbers(self, tmp_path):
        result = reproduce(
            figure(GOOD), tmp_path, Settings(), lambda *_: {"png": b"drawn", "pdf": b"too"}
        )
        assert result.passed
        assert (tmp_path / "small.png").read_bytes() == b"drawn"
        assert json.loads((tmp_path / "small.json").read_text())["drawings"] == [
            "small.png",
            "small.pdf",
        ]
        assert {path.name for path in tmp_path.iterdir()} == {
            "small.json",
            "small.pdf",
            "small.png",
        }

    def test_a_failure_is_kept_and_reported(self, tmp_path):
        def fail(task):
            raise FloatingPointError("it overflowed")

        result = reproduce(figure(compute=fail), tmp_path, Settings())
        assert not result.passed
        assert "FAILED: FloatingPointError: it overflowed" in result.text
        assert "it overflowed" in json.loads((tmp_path / "small.json").read_text())["error"]

    def test_a_drawing_that_fails_keeps_the_numbers(self, tmp_path):
        def fail(figure, outcome):
            raise RuntimeError("no ink")

        result = reproduce(figure(GOOD), tmp_path, Settings(), fail)
        assert not result.passed
        assert result.checks == (GOOD,)
        assert not (tmp_path / "small.png").exists()

    def test_a_figure_without_comparable_numbers_does_not_pass(self, tmp_path):
        vague = Check("vague", 1.0, 1.5, 2.0)
        assert not reproduce(figure(), tmp_path, Settings()).passed
        assert not reproduce(figure(vague), tmp_path, Settings()).passed
        result = reproduce(figure(GOOD, vague), tmp_path, Settings())
        assert result.passed
        assert "1 of 2 as expected (2 published), 1 not comparable" in result.text

    def test_a_quick_run_reports_what_is_left_out(self, tmp_path):
        texts = [
            reproduce(figure(GOOD, quick=less), tmp_path, Settings(quick=True)).text
            for less in ("30 runs in place of 100", "")
        ]
        assert "Quick: 30 runs in place of 100." in texts[0]
        assert "Quick: nothing is left out of this figure." in texts[1]


def test_a_quick_run_of_every_figure_takes_no_longer():
    for each in FIGURES:
        full, quick = each.seconds
        assert full >= quick > 0


class TestCommand:
    def test_numbers_as_expected_give_the_status_zero(self, monkeypatch, tmp_path, capsys):
        pytest.importorskip("matplotlib")
        status = run_cli(monkeypatch, [figure(GOOD)], "--all", "--out", tmp_path, "--quiet")
        shown = capsys.readouterr()
        assert status == 0
        assert shown.err == ""
        assert "1 of 1 as expected" in shown.out
        assert str(tmp_path / "small.png") in shown.out
        assert (tmp_path / "small.png").read_bytes().startswith(b"\x89PNG")

    def test_one_number_outside_gives_the_status_one_and_the_others_are_still_computed(
        self, monkeypatch, tmp_path, capsys
    ):
        def fail(task):
            raise attsvm.SolverError("not certified")

        figures = [
            figure(GOOD, BAD, name="first"),
            figure(name="second", compute=fail),
            figure(GOOD, name="third"),
        ]
        assert run_cli(monkeypatch, figures, "--all", "--out", tmp_path) == 1
        shown = capsys.readouterr()
        assert "1 of 2 as expected" in shown.out
        assert "SolverError: not certified" in shown.out
        assert "1 of 3 figures as expected" in shown.out
        assert "numbers of all: 2 of 3 as expected (3 published)" in shown.out
        assert all(f"{source}: {meaning}" in shown.out for source, meaning in SOURCES.items())
        assert shown.err == "attsvm: not as expected: first, second\n"
        assert json.loads((tmp_path / "third.json").read_text())["passed"] is True

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            ([], "2 figures: about 5 min of processor time"),
            (["--quick"], "2 figures: about 21 s of processor time"),
        ],
    )
    def test_how_long_it_takes_is_said_before_it_starts(
        self, monkeypatch, tmp_path, capsys, words, line
    ):
        def first(task):
            assert capsys.readouterr().out.splitlines() == [line, ""]
            task.checks.append(GOOD)
            return {"x": [0, 1]}

        figures = [
            figure(name="first", compute=first, seconds=(0.2, 0.1)),
            figure(GOOD, name="second", seconds=(300.0, 20.9)),
        ]
        assert run_cli(monkeypatch, figures, "--all", "--out", tmp_path, *words) == 0
        assert "2 of 2 figures as expected" in capsys.readouterr().out

    def test_ctrl_c_stops_all(self, monkeypatch, tmp_path, capsys):
        def stop(task):
            raise KeyboardInterrupt

        figures = [figure(name="first", compute=stop), figure(GOOD, name="second")]
        assert run_cli(monkeypatch, figures, "--all", "--out", tmp_path) == 130
        assert list(tmp_path.iterdir()) == []

    def test_list_has_every_figure_by_paper_with_the_sources_of_its_numbers(self, capsys):
        assert cli.main(["reproduce", "--list"]) == 0
        shown = capsys.readouterr().out
        lines = shown.splitlines()
        indented = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
        assert indented == [figure.name for figure in FIGURES]
        papers = [line for line in lines if "arXiv" in line and not line.startswith(" ")]
        assert papers == [str(paper) for paper in PAPERS.values()]
        line = next(k for k, line in enumerate(lines) if line.split()[:1] == ["single-input"])
        assert lines[line + 1] == f"{'':26}4 published, 37 recomputed; about 1 s"
        line = next(
            k for k, line in enumerate(lines) if line.split()[:1] == ["over-parameterisation"]
        )
        assert re.search(r"; about \d+ s, with --quick \d+ s$", lines[line + 1])
        assert re.search(r"^in all: .*; about \d+ min, with --quick \d+ min of", shown, re.M)
        assert all(f"{source}: {meaning}" in shown for source, meaning in SOURCES.items())

    def test_unknown_name_lists_the_known_ones_and_the_nearest(self, capsys):
        assert cli.main(["reproduce", "nothing"]) == 2
        error = capsys.readouterr().err
        assert "got 'nothing'" in error
        assert "did you mean" not in error
        assert all(figure.name in error for figure in FIGURES)
        assert cli.main(["reproduce", "singl-input"]) == 2
        assert "did you mean 'single-input'?" in capsys.readouterr().err

    def test_a_paper_is_all_of_its_figures(self, monkeypatch, tmp_path, capsys):
        of_paper = [figure(GOOD, name="first"), figure(GOOD, name="second")]
        monkeypatch.setattr(registry, "matching", lambda name: matching(name, of_paper))
        assert cli.main(["reproduce", "2306.13596", "--out", str(tmp_path)]) == 0
        assert {path.stem for path in tmp_path.iterdir()} == {"first", "second"}
        assert "2 of 2 figures as expected" in capsys.readouterr().out

    @pytest.mark.parametrize("words", [[], ["single-input", "--all"], ["--all", "--list"]])
    def test_exactly_one_choice_of_figures(self, words, capsys):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["reproduce", *words])
        assert stopped.value.code == 2

    def test_error_is_raised_where_a_traceback_is_wanted(self, monkeypatch, tmp_path):
        def fail(task):
            raise ZeroDivisionError("here")

        monkeypatch.setattr(registry, "FIGURES", (figure(compute=fail),))
        with pytest.raises(ZeroDivisionError, match="here"):
            cli.main(["--traceback", "reproduce", "--all", "--out", str(tmp_path)])

    def test_without_matplotlib_the_numbers_are_written_with_a_notice(self, tmp_path):
        words = ["reproduce", "single-input", "--out", str(tmp_path)]
        program = (
            'import sys; sys.modules["matplotlib"] = None\n'
            f"from attsvm.cli import main; sys.exit(main({words!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert done.stderr == (
            "attsvm: a figure is not drawn: "
            'attsvm.plots needs matplotlib: pip install "attsvm[plot]"\n'
        )
        assert {path.name for path in tmp_path.iterdir()} == {"single-input.json"}


def test_names_are_unique_and_lead_to_figures():
    names = [name for figure in FIGURES for name in (figure.name, *figure.aliases)]
    assert len(set(names)) == len(names)
    assert all(named(name) is figure for figure in FIGURES for name in (figure.name,))
    assert named("overparam").name == "over-parameterisation"
    assert matching("single-input") == (named("single-input"),)
    paths = named("regularization-paths")
    for arxiv in PAPERS:
        figures = matching(arxiv)
        assert figures == tuple(figure for figure in FIGURES if arxiv in figure.papers)
        assert (paths in figures) is (arxiv in ("2306.13596", "2308.16898"))


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_every_number_has_a_source_and_every_tolerance_a_reason(figure):
    names = []
    for key, group in figure.numbers.items():
        assert group.source in SOURCES, key
        assert group.origin, key
        assert len(group.expected) in (0, 1, len(group.at)), key
        assert len(group.tolerance) in (0, 1, len(group.at)), key
        if group.kind in ("within", "factor"):
            assert group.reason or group.sampling, key
        names += [
            (group.kind, group.name.format(*at) if isinstance(at, list) else group.name.format(at))
            for at in group.at
        ]
    assert len(set(names)) == len(names)


SLOW = {
    *("factor-norms", "multi-token", "p3-digits", "p3-rules", "regularization-paths"),
    *("label-noise", "transformer-heads", "vit-sparsity"),
}


@pytest.fixture(autouse=True)
def what_a_figure_needs(request):
    """Leave out figures of packages that are not installed."""
    if "name" in request.fixturenames:
        for module in named(request.getfixturevalue("name")).needs:
            pytest.importorskip(module, reason=f"{module} is not installed (NEIGHBOURS)")


def assert_reproduced(figure, outcome):
    assert not [check for check in outcome.checks if check.verdict == "OUTSIDE"]
    assert any(check.passed for check in outcome.checks)
    pytest.importorskip("matplotlib")
    assert plots.png(plots.published(figure, outcome)).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(figure.name, marks=[pytest.mark.slow] if figure.name in SLOW else [])
        for figure in FIGURES
    ],
)
def test_numbers_of_a_quick_run(name, computed):
    assert_reproduced(named(name), computed(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [figure.name for figure in FIGURES if figure.quick])
def test_numbers_of_a_full_run(name, computed):
    """And every number that the file states is compared."""
    figure, outcome = named(name), computed(name, quick=False)
    assert_reproduced(figure, outcome)
    assert len(outcome.checks) == len(figure.sources)
