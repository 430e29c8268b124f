"""Published figures computed anew: the framework, and that every figure shows what it should."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import mpmath
import numpy as np
import plain_loss
import pytest
from plain_attention import exact

import attsvm
from attsvm import cli
from attsvm.studies.figures import (
    joint_training,
    loss_comparison,
    multiple_inputs,
    single_input,
    trajectories,
)
from attsvm.studies.reproduce.check import Check, checks, table
from attsvm.studies.reproduce.figure import Figure, Outcome, Settings
from attsvm.studies.reproduce.iterates import axes_of, path_of
from attsvm.studies.reproduce.registry import FIGURES, named
from attsvm.studies.reproduce.runner import reproduce

GOOD = Check("one", 1.0, 1.0005, 1e-3)
BAD = Check("two", 1.0, 1.002, 1e-3)


def figure(*found, name="small", notes=(), draw=None, compute=None, quick=""):
    return Figure(
        name=name,
        title="A small figure",
        source="nowhere",
        size=(2.0, 2.0),
        compute=compute or (lambda settings: Outcome({"x": [0, 1]}, found, notes)),
        draw=draw or (lambda canvas, outcome: canvas.subplots().plot(outcome.data["x"])),
        quick=quick,
    )


def run_cli(monkeypatch, figures, *words):
    monkeypatch.setattr(cli, "FIGURES", tuple(figures))
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
            ("equal", 0.0, 1.0, True),
            ("equal", 0.0, np.nextafter(1.0, 2.0), False),
        ],
    )
    def test_kinds(self, kind, tolerance, obtained, passed):
        assert Check("x", 1.0, obtained, tolerance, kind).passed is passed

    @pytest.mark.parametrize("kind", ["within", "at least", "at most", "equal"])
    @pytest.mark.parametrize("obtained", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_never_passes(self, kind, obtained):
        assert not Check("x", 1.0, obtained, kind=kind).passed

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"expected": np.nan}, "expected: must be finite"),
            ({"tolerance": -1.0}, "tolerance: expected a finite number >= 0"),
            ({"tolerance": np.nan}, "tolerance: expected a finite number >= 0"),
            ({"tolerance": np.inf}, "tolerance: expected a finite number >= 0"),
            ({"kind": "equal"}, "tolerance: expected 0 where the kind is 'equal'"),
            ({"kind": "near"}, "kind: expected one of within"),
        ],
    )
    def test_a_check_that_says_nothing_is_refused(self, changed, message):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(GOOD, **changed)

    def test_arrays_are_several_checks(self):
        found = checks(["a", "b"], (1, 2), np.array([1.0, 3.0]), tolerance=0.5, source="theory")
        assert [(c.name, c.expected, c.passed, c.source) for c in found] == [
            ("a", 1.0, True, "theory"),
            ("b", 2.0, False, "theory"),
        ]
        with pytest.raises(ValueError, match="zip"):
            checks(["a", "b"], (1, 2), [1.0])

    def test_table_shows_all_of_every_check(self):
        lines = table([GOOD, BAD, Check("three", 0.99, np.nan, kind="at least")]).splitlines()
        assert lines[0].split() == ["number", "expected", "obtained", "tolerance", "source"]
        assert lines[1].split() == ["one", "1", "1.0005", "0.001", "ok", "published"]
        assert lines[2].split() == ["two", "1", "1.002", "0.001", "OUTSIDE", "published"]
        assert lines[3].split() == ["three", ">=", "0.99", "nan", "-", "OUTSIDE", "published"]


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
        assert written["source"] == "nowhere"
        assert written["passed"] is False
        assert written["error"] is None
        assert written["drawing"] is None
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
                "source": "published",
            },
            {
                "name": "three",
                "expected": 0.99,
                "obtained": None,
                "tolerance": 0.0,
                "kind": "at least",
                "passed": False,
                "source": "theory",
            },
        ]

    def test_drawing_is_written_beside_the_numbers(self, tmp_path):
        result = reproduce(figure(GOOD), tmp_path, Settings(), lambda figure, outcome: b"drawn")
        assert result.passed
        assert (tmp_path / "small.png").read_bytes() == b"drawn"
        assert json.loads((tmp_path / "small.json").read_text())["drawing"] == "small.png"
        assert {path.name for path in tmp_path.iterdir()} == {"small.json", "small.png"}

    def test_a_failure_is_kept_and_said(self, tmp_path):
        def fail(settings):
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

    def test_a_figure_without_numbers_does_not_pass(self, tmp_path):
        assert not reproduce(figure(), tmp_path, Settings()).passed

    def test_quick_says_what_is_left_out(self, tmp_path):
        texts = [
            reproduce(figure(GOOD, quick=less), tmp_path, Settings(quick=True)).text
            for less in ("30 runs in place of 100", "")
        ]
        assert "Quick: 30 runs in place of 100." in texts[0]
        assert "Quick: nothing is left out of this figure." in texts[1]


class TestCommand:
    def test_numbers_as_expected_give_zero(self, monkeypatch, tmp_path, capsys):
        pytest.importorskip("matplotlib")
        status = run_cli(monkeypatch, [figure(GOOD)], "--all", "--out", tmp_path, "--quiet")
        shown = capsys.readouterr()
        assert status == 0
        assert shown.err == ""
        assert "1 of 1 as expected" in shown.out
        assert str(tmp_path / "small.png") in shown.out
        assert (tmp_path / "small.png").read_bytes().startswith(b"\x89PNG")

    def test_one_number_outside_gives_one_and_the_others_are_still_computed(
        self, monkeypatch, tmp_path, capsys
    ):
        def fail(settings):
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
        assert shown.err == "attsvm: not as expected: first, second\n"
        assert json.loads((tmp_path / "third.json").read_text())["passed"] is True

    def test_ctrl_c_stops_all(self, monkeypatch, tmp_path, capsys):
        def stop(settings):
            raise KeyboardInterrupt

        figures = [figure(name="first", compute=stop), figure(GOOD, name="second")]
        assert run_cli(monkeypatch, figures, "--all", "--out", tmp_path) == 130
        assert list(tmp_path.iterdir()) == []

    def test_list_names_every_figure(self, capsys):
        assert cli.main(["reproduce", "--list"]) == 0
        names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
        assert names == [figure.name for figure in FIGURES]

    def test_unknown_name_lists_the_known_ones(self, capsys):
        assert cli.main(["reproduce", "nothing"]) == 2
        error = capsys.readouterr().err
        assert "got 'nothing'" in error
        assert all(figure.name in error for figure in FIGURES)

    @pytest.mark.parametrize("words", [[], ["single-input", "--all"], ["--all", "--list"]])
    def test_exactly_one_choice_of_figures(self, words, capsys):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["reproduce", *words])
        assert stopped.value.code == 2

    def test_error_is_raised_where_a_traceback_is_wanted(self, monkeypatch, tmp_path):
        def fail(settings):
            raise ZeroDivisionError("here")

        monkeypatch.setattr(cli, "FIGURES", (figure(compute=fail),))
        with pytest.raises(ZeroDivisionError, match="here"):
            cli.main(["--traceback", "reproduce", "--all", "--out", str(tmp_path)])

    def test_without_matplotlib_the_numbers_are_there_and_it_is_said(self, tmp_path):
        words = ["reproduce", "single-input", "--out", str(tmp_path)]
        program = (
            'import sys; sys.modules["matplotlib"] = None\n'
            f"from attsvm.cli import main; sys.exit(main({words!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert done.stderr == (
            "attsvm: no figure is drawn: "
            'attsvm.plots needs matplotlib: pip install "attsvm[plot]"\n'
        )
        assert {path.name for path in tmp_path.iterdir()} == {"single-input.json"}


def test_names_are_unique_and_found():
    names = [figure.name for figure in FIGURES]
    assert len(set(names)) == len(names)
    assert all(named(figure.name) is figure for figure in FIGURES)


SLOW = {"multi-token", "p3-digits", "p3-joint", "p3-rules", "regularization-paths"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(figure.name, marks=[pytest.mark.slow] if figure.name in SLOW else [])
        for figure in FIGURES
    ],
)
def test_every_figure_shows_what_was_published(name, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    status = cli.main(["reproduce", name, "--quick", "--quiet", "--out", str(tmp_path)])
    assert status == 0, capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.json", f"{name}.png"}


@pytest.mark.parametrize("parameter", ["p", "W", "KQ"])
def test_path_is_that_of_the_iterates(parameter):
    data = attsvm.datasets.unit_sphere(3, 4, 2, rng=0)
    shape = (2,) if parameter == "p" else (2, 2)
    settings = {"parameter": parameter, "rng": 1}
    run = attsvm.train(data, steps=30, record_every=1, reference=axes_of(*shape), **settings)
    path = path_of(run, *shape)
    for step in (0, 1, 7, 30):
        end = attsvm.train(data, steps=step, **settings).direction
        assert path[step] == pytest.approx(end, abs=1e-14)


def test_the_published_data_are_those_of_the_tests(toys):
    """Bit for bit: the figures hold them as short decimals of float32 numbers."""
    batch, head, _ = multiple_inputs.problem()
    drawn = np.array(toys["multi_input_X"])
    for tokens, scores in zip(batch.tokens, head.scores, strict=True):
        assert np.array_equal(tokens, drawn[..., :2])
        assert np.array_equal(scores, drawn[..., 2])
    for name in trajectories.PROBLEMS:
        data = trajectories.problem(name)
        for part, key in (("tokens", "X"), ("queries", "Z"), ("value", "v")):
            assert np.array_equal(getattr(data, part), np.array(toys[name][key]))


def many_digits(keys, scores, start, steps, slope, digits):
    """Final p of normalised steps of 0.1 on p, by the textbook formula in many digits."""
    with mpmath.workdps(digits):
        keys, scores = exact(np.asarray(keys)), exact(np.asarray(scores))
        p = exact(np.asarray(start))
        exp = np.frompyfunc(mpmath.exp, 1, 1)
        for _ in range(steps):
            weights = exp(keys @ p)
            weights = weights / weights.sum(axis=1, keepdims=True)
            margins = (weights * scores).sum(axis=1)
            slopes = np.array([slope(margin) for margin in margins])[:, np.newaxis]
            of_logits = slopes * weights * (scores - margins[:, np.newaxis])
            gradient = (of_logits[:, :, np.newaxis] * keys).sum(axis=(0, 1))
            p = p - gradient / mpmath.sqrt((gradient**2).sum()) / 10
        return p.astype(np.float64)


SLOPES = {
    "correlation": lambda margin: mpmath.mpf(-1),
    "logistic": lambda margin: -1 / (1 + mpmath.exp(margin)),
    "exponential": lambda margin: -mpmath.exp(-margin),
}


class TestExpectedNumbers:
    """What the figures state as computed in many digits is what comes out in many digits."""

    @pytest.mark.parametrize("case", ["global", "local"])
    def test_single_input(self, case):
        scores = [[1.0, 0.9, single_input.THIRD_SCORE[case]]]
        machines = {0: [-10 / 101, 100 / 101], 1: [1.0, 0.0]}
        for k, c in enumerate(single_input.STARTS):
            steps = single_input.STEPS
            p = many_digits([single_input.KEYS], scores, [0.0, c], steps, SLOPES["logistic"], 60)
            machine = machines[single_input.SELECTED[case][k]]
            stated = single_input.COSINES[case][k]
            assert attsvm.cosine(p, machine) == pytest.approx(stated, abs=1e-8)
            if case == "global":
                assert np.linalg.norm(p) == pytest.approx(single_input.NORMS[k], abs=1e-6)

    @pytest.mark.parametrize("step", [50, 100, 199, pytest.param(999, marks=pytest.mark.slow)])
    def test_multiple_inputs(self, step):
        batch, head, _ = multiple_inputs.problem()
        inputs, scores = batch.problem(0), head.scores[0]
        p = many_digits(inputs.tokens, scores, [0.0, 0.0], step, SLOPES["logistic"], step // 2 + 60)
        machine = attsvm.prompt_svm(inputs, [0, 0, 0]).p
        if step in multiple_inputs.COSINES:
            stated = multiple_inputs.COSINES[step]
            assert attsvm.cosine(p, machine) == pytest.approx(stated, abs=1e-7)
        if step in multiple_inputs.NORM_NGD:
            assert np.linalg.norm(p) == pytest.approx(multiple_inputs.NORM_NGD[step], abs=1e-5)

    def test_joint_training(self):
        data, start = joint_training.problem(joint_training.LOOSE), joint_training.START
        with mpmath.workdps(120):
            begin = {name: exact(np.array(value)) for name, value in start.items()}
            steps = joint_training.STEPS
            end = plain_loss.normalised_descent(data, begin, 0.1, steps, ("p", "v"))
            p = plain_loss.rounded(end["p"])
        assert p == pytest.approx(joint_training.LOOSE_END, abs=1e-5)

    @pytest.mark.parametrize("loss", loss_comparison.LOSSES)
    def test_losses_at_the_largest_score(self, loss):
        batch, head = loss_comparison.problem()
        inputs, scores = batch.problem(-1), head.scores[-1]
        p = many_digits(inputs.tokens, scores, [0.0, 0.0], 999, SLOPES[loss], 200)
        stated = loss_comparison.LATE_COSINES[loss]
        assert attsvm.cosine(p, [1.0, 0.0]) == pytest.approx(stated, abs=1e-7)

    @pytest.mark.parametrize("loss", loss_comparison.LOSSES)
    def test_limits_of_the_offsets(self, loss):
        """1/2 ln(C |l'(C)| / |l'(1)|)."""
        for C, stated in zip(
            loss_comparison.HIGH_SCORES, loss_comparison.LIMIT_OFFSETS[loss], strict=False
        ):
            limit = mpmath.log(C * SLOPES[loss](mpmath.mpf(C)) / SLOPES[loss](mpmath.mpf(1))) / 2
            assert float(limit) == pytest.approx(stated, abs=5.1e-4)
