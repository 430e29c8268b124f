"""Experiments of "Implicit Bias and Fast Convergence Rates for Self-attention" (paper 3).

Near-orthogonal data with antipodal signals, n = T = 10, d = 512 unless a test says otherwise; W
from zero. Numbers are those of the TOML files of the figures, which `test_reproduce` compares; the
figure of the step rules takes long, so that what is quick in it is compared here too.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import attsvm
from attsvm import datasets, fit_rate, log_schedule, train
from attsvm.studies.figures import digits_rules, joint_rates, step_rules
from attsvm.studies.figures.step_rules import RULES, Problems, distance, least_attention
from attsvm.studies.reproduce.figure import Settings, Task

TASK = Task(step_rules.FIGURE, Settings())
STARTS = step_rules.FIGURE.settings["starts"]


@cache
def problems(count=8):
    return Problems.draw(count)


@cache
def history(kind, steps, *, loss="exponential", lr=None):
    lr = lr or RULES[kind].get("lr")
    return step_rules.run_rule(problems(), kind, loss=loss, steps=steps, lr=lr)


def at(record, step):
    return list(record["step"]).index(step)


def assert_stated(group, obtained, **changes):
    """Compare with numbers of the figure."""
    found = step_rules.FIGURE.numbers[group].checks(obtained, **changes)
    assert found
    assert not [check for check in found if not check.passed]


def norms():
    return np.asarray(problems().solution.norm)


def test_p3_1_every_constraint_of_the_svm_is_active():
    """So its multipliers solve K a = 1, K_(it)(js) = <x_α - x_it, x_α - x_js> <z_i, z_j>."""
    data, best, solution = problems().data, problems().best, problems().solution
    assert (np.asarray(solution.kkt) < 1e-8).all()
    for b in range(len(best)):
        signal = data.tokens[b, np.arange(10), best[b]]
        differences = signal[:, np.newaxis] - data.tokens[b]
        others = np.arange(10) != best[b][:, np.newaxis]
        rows = differences[others]
        queries = np.repeat(data.queries[b], 9, axis=0)
        multipliers = np.linalg.solve((rows @ rows.T) * (queries @ queries.T), np.ones(90))
        assert (multipliers > 0).all()
        assert solution.support[b].sum() == 90
        assert solution.norm[b] == pytest.approx(np.sqrt(multipliers.sum()), rel=1e-9)
        np.testing.assert_allclose(solution.W[b], rows.T @ (multipliers * queries.T).T, atol=1e-9)
    assert_stated("norm", norms().mean())


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_p3_2_normalised_steps_reach_the_direction_of_the_svm(loss):
    run = history("ngd", 1000, loss=loss)
    assert_stated(f"distance ngd {loss}", [distance(run)[:, -1].mean()], at=[1000])
    assert (run["norm"][:, -1] > 99).all()


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_p3_2_polyak_steps_reach_it_ten_times_sooner(loss):
    run = history("polyak", 100, loss=loss)
    assert_stated(f"distance polyak {loss}", [distance(run)[:, -1].mean()], at=[100])


def test_p3_2_order_of_the_rules_at_equal_steps():
    polyak, ngd, gd = (
        distance(history(kind, steps))[:, at(history(kind, steps), 100)]
        for kind, steps in (("polyak", 100), ("ngd", 1000), ("gd", 1000))
    )
    assert (polyak < ngd).all()
    assert (ngd < gd).all()


def test_p3_2_plain_descent_is_a_flow():
    """A tenth of the rate takes ten times the steps."""
    fast, slow = history("gd", 1000), history("gd", 10_000, lr=0.1)
    for step in (100, 1000):
        k, j = at(fast, step), at(slow, 10 * step)
        np.testing.assert_allclose(distance(fast)[:, k], distance(slow)[:, j], rtol=0.01)
        np.testing.assert_allclose(fast["norm"][:, k], slow["norm"][:, j], rtol=0.01)
    assert_stated("distance gd exponential", [distance(fast)[:, -1].mean()], at=[1000])


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_p3_3_normalised_steps_add_up(loss):
    run = history("ngd", 1000, loss=loss)
    along = run["norm"] / (0.1 * run["step"])
    assert (along <= 1 + 1e-12).all()
    assert (along[:, -1] >= 0.99).all()


@pytest.mark.parametrize("factor", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_p3_3_polyak_steps_have_length_norm_over_c_and_shrink_the_gap_by_e_to_minus_1_over_c(
    loss, factor
):
    steps = round(50 * factor)
    run = train(
        problems().data,
        rule=attsvm.StepRule("polyak", factor=factor),
        loss=loss,
        steps=steps,
        record_every=1,
    )
    gap, norm = run.history["loss_gap"], run.history["norm"]
    length = np.exp(np.log(gap[:, -1]) - run.history["log_grad_norm"][:, -1]) / factor
    np.testing.assert_allclose(length, norms() / factor, rtol=0.01)
    np.testing.assert_allclose(np.diff(norm)[:, -1], norms() / factor, rtol=0.01)
    np.testing.assert_allclose(gap[:, -1] / gap[:, -2], np.exp(-1 / factor), rtol=0.01)
    # The same from all steps of the second half.
    for fall in gap:
        rate = fit_rate(run.history["step"], fall, kind="exponential", window=(steps // 2, steps))
        assert rate.exponent == pytest.approx(-1 / factor, rel=0.01)
        assert rate.r_squared > 0.9999


def test_p3_3_plain_descent_grows_by_the_norm_of_the_svm_times_log_10_per_decade():
    """And the gap of the exponential loss tends to |W^mm|²/(η t); both within a tenth."""
    run = train(
        problems().data, rule="gd", lr=1.0, loss="exponential", steps=20_000,
        record_every=[2000, 20_000],
    )  # fmt: skip
    growth = np.diff(run.history["norm"])[:, 0]
    assert (growth / (norms() * np.log(10))).mean() == pytest.approx(1, abs=0.1)
    limit = norms() ** 2 / run.history["step"][-1]
    assert (run.history["loss_gap"][:, -1] / limit).mean() == pytest.approx(1, abs=0.1)


def test_p3_4_attention_missed_falls_exponentially():
    run = problems().train(range(200, 2001, 200), loss="exponential")
    least = least_attention(run)[:, at(run, 1000)].min()
    assert_stated("attention", [least], at=["exponential"])
    for missed, norm in zip(np.exp(run["log_miss"]), norms(), strict=True):
        rates = [fit_rate(run["step"], one, kind="exponential") for one in missed.T]
        assert min(rate.r_squared for rate in rates) > 0.99
        slopes = np.array([rate.exponent for rate in rates])
        np.testing.assert_allclose(slopes, -0.1 / norm, rtol=0.02)


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_direction_is_kept_to_a_gap_of_1e_140(loss):
    """Steps ten times as long as the table's: where 1 - attention has rounded to 0 since step 110.

    Gradients that are taken as a difference of scores and renormalised lose it there.
    """
    run = train(
        problems().data,
        loss=loss,
        lr=1.0,
        steps=1200,
        record_every=log_schedule(1200),
        reference=problems().solution,
    )
    assert (run.history["loss_gap"][:, -1] < 1e-140).all()
    assert (run.history["loss_gap"][:, -1] > 0).all()
    gaps = run.history["cosine_gap"]
    late = run.history["step"] >= 120
    assert (np.diff(gaps[:, late], axis=1) < 0).all()
    for apart in distance(run.history):
        assert fit_rate(run.history["step"], apart, window=(120, 1200)).high < -0.5


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("d = 64", 1.0), ("d = 64", 10.0), ("d = 64", 50.0), ("noisy signals", 10.0),
        *(
            pytest.param(name, size, marks=pytest.mark.slow)
            for name, size in (("noisy signals", 1.0), ("noisy signals", 50.0), ("d = 512", 1.0),
                               ("d = 512", 10.0), ("d = 512", 50.0))
        ),
    ],
)  # fmt: skip
def test_p3_5_every_random_start_ends_at_the_optimal_tokens(name, size):
    drawn = Problems.draw(10, **STARTS[name])
    for kind in ("ngd", "polyak"):
        attention, apart = step_rules.starts_that_reach(TASK, kind, size, drawn)
        assert (attention > 0.99).all()
        if name == "d = 512" and kind == "ngd":
            assert_stated("start ngd", [apart.mean()], at=[size])


@pytest.mark.parametrize("kind", ["gd", "ngd"])
@pytest.mark.parametrize("size", [1.0, 10.0])
def test_p3_5_attention_to_the_optimal_token_never_falls(kind, size):
    """From random starts, at every recorded step and for every input; d = 64."""
    drawn = Problems.draw(10, T=6, d=64)
    W = np.random.default_rng(2).standard_normal((10, 64, 64))
    W *= size / np.linalg.norm(W, axis=(1, 2), keepdims=True)
    run = drawn.train(
        log_schedule(2000, per_decade=8),
        init=W,
        rule=kind,
        lr=RULES[kind].get("lr"),
        loss="exponential",
    )
    assert (np.diff(run["log_miss"], axis=1) <= 0).all()
    assert run["log_miss"][:, -1].max() < run["log_miss"][:, 0].min()


@pytest.mark.parametrize("signals", ["orthogonal", "antipodal"])
def test_signals_with_noise_keep_the_order_and_the_rate(signals):
    """n = 20, T = 10, d = 200: some constraints are not active, and the power is below -1/2."""
    data = datasets.near_orthogonal(20, 10, 200, signals=signals, noise=1.0, batch=8, rng=1)
    solution = attsvm.att_svm(data, attsvm.optimal_tokens(data))
    assert np.mean(solution.norm) == pytest.approx(2.95, rel=0.1)
    active = np.asarray(solution.support).sum(axis=(1, 2))
    assert ((active > 150) & (active < 180)).all()
    apart = {}
    for kind, steps in (("polyak", 100), ("ngd", 10_000), ("gd", 100)):
        run = train(
            data,
            rule=kind,
            lr=RULES[kind].get("lr"),
            loss="exponential",
            steps=steps,
            record_every=log_schedule(steps),
            reference=solution,
        )
        apart[kind] = distance(run.history)
        if kind == "ngd":
            powers = [
                fit_rate(run.history["step"], d, window=(100, steps)).exponent for d in apart[kind]
            ]
            assert np.mean(powers) < -0.5
            apart[kind] = apart[kind][:, : at(run.history, 100) + 1]
    assert (apart["polyak"][:, -1] < apart["ngd"][:, -1]).all()
    assert (apart["ngd"][:, -1] < apart["gd"][:, -1]).all()


class TestJointTraining:
    """n = T = 10, d = 128, exponential loss, W and v from zero."""

    @pytest.fixture
    def runs(self, computed):
        return computed("p3-joint").data

    def test_p3_6_attention_of_constant_rates_is_sharp(self, runs):
        assert runs["constant"].history["max_attention"][:, -1].min() == 1

    def test_p3_7_loss_falls_as_e_to_the_cube_root(self, runs):
        law = joint_rates.cube_root_law(runs["decaying"])
        assert min(rate.r_squared for rate in law) > 0.999

    def test_p3_7_distance_of_w_falls_as_one_over_log_t(self, runs):
        run = runs["decaying"]
        apart = joint_rates.distances(run, "W").mean(axis=0)
        assert (np.diff(apart[run.history["step"] >= 100]) < 0).all()

    def test_plain_descent_fits_the_head_before_attention_is_sharp(self, runs):
        gd, ngd = runs["gd"], runs["constant"]
        for block in "Wv":
            apart = joint_rates.distances(gd, block)[:, -1]
            assert (apart > joint_rates.distances(ngd, block)[:, -1]).all()
        assert gd.attention.max(axis=-1).min() < 0.8


def test_digits_to_test_with_are_not_trained_on():
    fit, held_out = digits_rules.halves(3)
    for b in range(3):
        first = {image.tobytes() for image in fit.queries[b]}
        second = {image.tobytes() for image in held_out.queries[b]}
        assert len(first) == 116
        assert len(second) == 58
        assert not first & second


def test_the_attention_missed_is_that_of_the_run():
    drawn = Problems.draw(3, n=4, T=5, d=30)
    best, marks = drawn.best, [1, 7, 50, 120]
    for rule in ("gd", "ngd"):
        record = drawn.train(marks, rule=rule)
        run = train(drawn.data, steps=120, record_every=marks, rule=rule)
        np.testing.assert_array_equal(record["norm"], run.history["norm"])
        weights = np.take_along_axis(run.attention, best[..., np.newaxis], axis=-1)[..., 0]
        np.testing.assert_allclose(-np.expm1(record["log_miss"][:, -1]), weights, rtol=1e-12)
