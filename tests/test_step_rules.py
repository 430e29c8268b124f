"""Step rules: each against its formula written out, on every parameter; mini-batches; settings."""

from __future__ import annotations

import pickle
from collections.abc import Mapping

import numpy as np
import pytest

import attsvm
from attsvm import AttentionData, StepRule, _core, train
from attsvm.functional import loss_and_grad
from attsvm.heads import LinearScores, ReLU


def random_problem(seed=0, n=5, T=4, d=3, batch=()):
    rng = np.random.default_rng(seed)
    return AttentionData(
        rng.standard_normal((*batch, n, T, d)),
        rng.choice([-1.0, 1.0], (*batch, n)),
        queries=rng.standard_normal((*batch, n, d)),
        value=rng.standard_normal((*batch, d)),
    )


def starts(parameter, seed=1):
    rng = np.random.default_rng(seed)
    shapes = {"p": {"p": (3,)}, "W": {"W": (3, 3)}, "KQ": {"K": (3, 2), "Q": (3, 2)}}
    blocks = shapes[parameter[1] if isinstance(parameter, tuple) else parameter]
    if isinstance(parameter, tuple):
        blocks = {**blocks, "v": (3,)}
    return {name: rng.standard_normal(shape) for name, shape in blocks.items()}


def direction(G, norm, newton_schulz=None):
    """argmax <G, D> over N(D) <= 1."""
    if norm == "fro" or (G.ndim == 1 and norm in ("spec", "nuc")):
        return G / np.linalg.norm(G)
    if norm == "max":
        return np.sign(G)
    if norm == "l1":
        return np.where(np.abs(G) == np.abs(G).max(), np.sign(G), 0.0)
    if newton_schulz:
        X = G / np.linalg.norm(G)
        for _ in range(newton_schulz):
            A = X @ X.T
            X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
        return X
    if norm in ("spec", "nuc"):
        U, s, Vt = np.linalg.svd(G, full_matrices=False)
        kept = s > 1e-12 * s[0] if norm == "spec" else np.arange(s.size) == 0
        return U[:, kept] @ Vt[kept]
    q = norm / (norm - 1)
    return np.sign(G) * np.abs(G) ** (q - 1) / np.sum(np.abs(G) ** q) ** (1 / norm)


def written_out(data, at, rule, rates, steps, loss="logistic", head=None):
    """The update of every block, from its definition; full batches."""
    at = dict(at)
    velocity, square, mean = ({k: 0 * x for k, x in at.items()} for _ in range(3))
    beta, second = rule.betas
    for k in range(1, steps + 1):
        value, slopes = loss_and_grad(data, at, loss=loss, head=head)
        whole = np.sqrt(sum(np.sum(slope**2) for slope in slopes.values()))
        for name, slope in slopes.items():
            norm = rule.norm[name] if isinstance(rule.norm, Mapping) else rule.norm
            decay = rule.decay[name] if isinstance(rule.decay, Mapping) else rule.decay
            if decay is None:
                decay = 0.75 if "K" in at and norm != "fro" else 0.0
            rate = rates[name] * k**-decay
            if rule.kind in ("adam", "adamw"):
                velocity[name] = beta * velocity[name] + (1 - beta) * slope
                square[name] = second * square[name] + (1 - second) * slope**2
                m, s = velocity[name] / (1 - beta**k), square[name] / (1 - second**k)
                shrunk = (1 - rate * rule.weight_decay) * at[name]
                at[name] = shrunk - rate * m / (np.sqrt(s) + rule.epsilon)
                continue
            if rule.kind == "lion":
                seen = beta * mean[name] + (1 - beta) * slope
                mean[name] = second * mean[name] + (1 - second) * slope
                slope = seen
            if rule.ema:
                slope = mean[name] = rule.ema * mean[name] + (1 - rule.ema) * slope
            D = direction(slope, norm, rule.newton_schulz)
            if rule.kind in ("gd", "plain_mirror"):
                step = np.sum(slope * D) * D if rule.kind == "gd" else slope
            elif rule.kind == "mirror":
                q = 2.0 if norm == "fro" else norm / (norm - 1)
                step = slope / np.sum(np.abs(slope) ** q) ** (1 / q)
            elif rule.kind == "polyak":
                rate = k**-decay
                infimum = 0.0
                if "v" not in at:
                    infimum = np.mean(np.log1p(np.exp(-attsvm.scores(data).max(axis=1))))
                step = (value - infimum) / (rule.factor * whole**2)
                step = min(step, rule.largest_step or np.inf) * slope
            else:
                step = D
            velocity[name] = rule.momentum * velocity[name] + step
            moved = rate * (
                rule.momentum * velocity[name] + step if rule.nesterov else velocity[name]
            )
            shrunk = (1 - rate * rule.weight_decay) * at[name]
            if "mirror" not in rule.kind:
                at[name] = shrunk - moved
                continue
            p = 2.0 if norm == "fro" else norm
            dual = np.sign(shrunk) * np.abs(shrunk) ** (p - 1) - moved
            at[name] = np.sign(dual) * np.abs(dual) ** (1 / (p - 1))
    return at


def final(run):
    blocks = {"p": run.p} if run.attention_parameter == "p" else {"W": run.W}
    if run.attention_parameter == "KQ":
        blocks = {"K": run.K, "Q": run.Q}
    return blocks if run.v is None else {**blocks, "v": run.v}


RULES = [
    StepRule("gd"),
    StepRule("gd", momentum=0.9),
    StepRule("gd", momentum=0.7, nesterov=True, decay=0.5),
    StepRule("ngd"),
    StepRule("ngd", momentum=0.5),
    StepRule("ngd", decay=0.75),
    StepRule("polyak"),
    StepRule("polyak", factor=5.0, largest_step=0.3),
    StepRule("polyak", factor=3.0, momentum=0.3, nesterov=True),
    StepRule("adam"),
    StepRule("adam", betas=(0.5, 0.9), epsilon=1e-3, decay=0.25),
    StepRule("adam", epsilon=0.0),
    StepRule("adamw", weight_decay=0.5),
    StepRule("sign"),
    StepRule("signum", ema=0.8),
    StepRule("lion", weight_decay=0.1),
    StepRule("coordinate", momentum=0.5),
    StepRule("spectral"),
    StepRule("muon", weight_decay=0.3, decay=0.5),
    StepRule("muon", newton_schulz=5),
    StepRule("ngd", norm="nuc"),
    StepRule("ngd", norm=3.0, ema=0.5, momentum=0.5, nesterov=True),
    StepRule("gd", norm="max"),
    StepRule("gd", norm="l1"),
    StepRule("gd", norm="spec"),
    StepRule("gd", norm=1.5),
    StepRule("mirror", norm=3.0),
    StepRule("mirror", norm=1.75, weight_decay=0.2, ema=0.5),
    StepRule("plain_mirror", norm=1.1, momentum=0.5),
    StepRule("mirror"),
]


def name_of(rule):
    plain = StepRule(rule.kind)
    changed = [f"{k}={v}" for k, v in vars(rule).items() if v != getattr(plain, k)]
    return " ".join([rule.kind, *changed])


@pytest.mark.parametrize("rule", RULES, ids=name_of)
@pytest.mark.parametrize("parameter", ["p", "W", "KQ", ("v", "W")], ids=str)
def test_every_rule_is_its_formula(rule, parameter):
    data = random_problem()
    init = starts(parameter)
    rates = dict.fromkeys(init, 0.05) | ({"v": 0.02} if "v" in init else {})
    run = train(
        data,
        parameter=parameter,
        rule=rule,
        lr=rates if rule.takes_rate else None,
        steps=12,
        init=init,
    )
    expected = written_out(data, init, rule, rates, 12)
    for name, got in final(run).items():
        np.testing.assert_allclose(got, expected[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("parameter", ["p", "W"])
def test_adam_is_its_formula_where_tokens_and_queries_span_less_than_the_space(parameter):
    """Adam's steps depend on coordinates: they are those of the caller."""
    data = random_problem(n=2, T=2, d=12)
    shape = (12,) if parameter == "p" else (12, 12)
    run = train(data, parameter=parameter, rule="adam", lr=0.05, steps=200)
    expected = written_out(
        data, {parameter: np.zeros(shape)}, StepRule("adam"), {parameter: 0.05}, 200
    )
    np.testing.assert_allclose(final(run)[parameter], expected[parameter], rtol=1e-7, atol=1e-9)


def test_rates_decay_by_block():
    data = random_problem()
    init = starts(("v", "p"))
    rule = StepRule("ngd", decay={"p": 1.0, "v": 2 / 3})
    rates = {"p": 3.0, "v": 0.3}
    run = train(data, parameter=("v", "p"), rule=rule, lr=rates, steps=20, init=init)
    expected = written_out(data, init, rule, rates, 20)
    np.testing.assert_allclose(run.p, expected["p"], rtol=1e-9)
    np.testing.assert_allclose(run.v, expected["v"], rtol=1e-9)


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_a_batch_is_trained_as_its_problems_are(rule):
    B = 19
    data = random_problem(2, batch=(B,))
    init = np.random.default_rng(3).standard_normal((B, 3, 3))
    steps = 3 if rule.kind == "polyak" and rule.largest_step is None else 30  # later they overflow
    lr = 0.02 if rule.takes_rate else None
    together = train(data, rule=rule, lr=lr, steps=steps, init=init)
    for b in (0, 7, 18):
        alone = train(data.problem(b), rule=rule, lr=lr, steps=steps, init=init[b])
        np.testing.assert_allclose(together.W[b], alone.W, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", [kind for kind in _core.step_rules if kind != "flow"])
def test_a_mini_batch_of_everything_is_the_full_batch(kind):
    data = random_problem(4)
    steps = 4 if kind == "polyak" else 50
    rate = {"lr": 0.01} if StepRule(kind).takes_rate else {}
    settings = {"steps": steps, **rate, "record_every": 2}
    full = train(data, rule=kind, **settings)
    batches = train(data, rule=StepRule(kind, batch_size=5), **settings)
    np.testing.assert_allclose(batches.W, full.W, rtol=1e-9, atol=1e-12)
    for key in ("loss", "norm", "log_grad_norm"):
        np.testing.assert_allclose(batches.history[key], full.history[key], rtol=1e-9)


@pytest.mark.parametrize("kind", ["gd", "ngd", "polyak"])
def test_mini_batches_visit_every_input_once_before_any_twice(kind):
    """Steps on one input at a time: the order is found again from the steps themselves."""
    data = random_problem(5, n=6)
    settings = {"kind": kind}
    if kind == "polyak":
        settings["factor"] = 100.0  # Polyak steps are long where the data conflict
    rule = StepRule(**settings, batch_size=1)
    W, order = np.zeros((3, 3)), []
    for step in range(1, 19):
        after = train(data, rule=rule, steps=step, rng=11).W
        candidates = []
        for i in range(data.n):
            one = AttentionData(
                data.tokens[[i]], data.labels[[i]], queries=data.queries[[i]], value=data.value
            )
            candidates.append(train(one, rule=StepRule(**settings), steps=1, init=W).W)
        apart = [np.abs(after - candidate).max() for candidate in candidates]
        order.append(int(np.argmin(apart)))
        assert min(apart) < 1e-12 * max(1.0, np.abs(after).max())
        W = after
    for epoch in (order[:6], order[6:12], order[12:]):
        assert sorted(epoch) == list(range(6))
    assert order[:6] != order[6:12] or order[6:12] != order[12:]


def test_mini_batches_depend_on_the_seed_alone():
    data = random_problem(6, n=300, T=20, d=30)
    data = AttentionData(
        np.repeat(data.tokens, 1, axis=0), data.labels, queries=data.queries, value=data.value
    )
    rule = StepRule("ngd", batch_size=64)
    one = train(data, rule=rule, steps=30, rng=1, num_threads=1)
    for threads in (2, 3):
        many = train(data, rule=rule, steps=30, rng=1, num_threads=threads)
        assert np.array_equal(one.W, many.W)
    assert not np.array_equal(one.W, train(data, rule=rule, steps=30, rng=2).W)
    # Records are of the whole data, wherever they are made.
    often = train(data, rule=rule, steps=30, rng=1, record_every=1)
    assert np.array_equal(one.W, often.W)
    assert often.history["loss"][-1] == one.history["loss"][-1]


def test_mini_batches_of_shared_tokens_and_other_heads():
    rng = np.random.default_rng(7)
    tokens, labels = rng.standard_normal((3, 5, 4)), rng.choice([-1.0, 1.0], 3)
    data = AttentionData.per_position(tokens, labels, value=rng.standard_normal(4))
    copies = AttentionData(
        data.own_tokens, data.labels, queries=data.queries, value=data.value, lengths=data.lengths
    )
    head = ReLU(rng.standard_normal((4, 3)))
    scores = LinearScores(rng.standard_normal(data.valid.shape))
    for settings in ({}, {"head": head}, {"head": scores}, {"parameter": ("v", "KQ")}):
        rule = StepRule("ngd", batch_size=4, momentum=0.5)
        shared = train(data, rule=rule, steps=25, rng=8, **settings)
        apart = train(copies, rule=rule, steps=25, rng=8, **settings)
        assert np.array_equal(shared.W, apart.W)


def test_momentum_and_adam_still_reach_the_machine(local_convergence):
    """Normalised steps with momentum go where normalised steps go."""
    data = local_convergence
    run = train(data, rule=StepRule("ngd", momentum=0.9), lr=0.02, steps=4000)
    solution = attsvm.att_svm(data, run.selected)
    assert np.median(attsvm.cosine(run.W, solution.W, axis=(1, 2))) > 0.998


def test_polyak_steps_take_no_rate():
    assert train(random_problem(), rule="polyak", steps=3).lr == {"W": 1.0}
    with pytest.raises(ValueError, match=r"^lr: expected no value for kind='polyak', got 0.5$"):
        train(random_problem(), rule="polyak", lr=0.5)


def test_equal_rules_have_one_hash():
    by_block = [
        StepRule("adam", betas=b, decay={"K": 0.5, "Q": 0}) for b in ([0.9, 0.99], (0.9, 0.99))
    ]
    reverse = StepRule("adam", betas=np.array([0.9, 0.99]), decay={"Q": 0.0, "K": 0.5})
    assert by_block[0] == by_block[1] == reverse
    assert len({*by_block, reverse, StepRule(), StepRule("ngd"), StepRule(decay=0.5)}) == 3
    assert by_block[0].betas == (0.9, 0.99)


@pytest.mark.parametrize(
    "text",
    [
        "StepRule('ngd')",
        "StepRule('adam', betas=(0.9, 0.9), epsilon=0.0)",
        "StepRule('ngd', decay={'W': 1.0, 'v': 0.5}, norm=3.0)",
    ],
)
def test_a_rule_is_written_as_the_call_that_makes_it(text):
    rule = eval(text, {"StepRule": StepRule})
    assert repr(rule) == text


def test_a_rule_is_pickled_with_its_run():
    rule = StepRule("ngd", decay={"W": 0.5}, momentum=0.2)
    run = train(random_problem(), rule=rule, steps=5)
    again = pickle.loads(pickle.dumps(run))
    assert again.rule == "ngd"
    assert dict(again.step_rule.decay) == {"W": 0.5}
    assert again.step_rule.momentum == 0.2


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"kind": "sgd"}, ValueError, "kind: expected one of"),
        ({"momentum": 1.0}, ValueError, r"momentum: expected a number in \[0, 1\)"),
        ({"momentum": -0.1}, ValueError, r"momentum: expected a number in \[0, 1\)"),
        ({"nesterov": True}, ValueError, "nesterov: expected False without momentum"),
        ({"kind": "adam", "momentum": 0.9}, ValueError, "momentum: expected no value for"),
        ({"kind": "gd", "largest_step": 1.0}, ValueError, "largest_step: expected no value for"),
        ({"kind": "polyak", "largest_step": 0.0}, ValueError, "largest_step: expected a positive"),
        ({"factor": 0.0}, ValueError, "factor: expected a positive number"),
        ({"betas": (0.9,)}, ValueError, "betas: expected two numbers"),
        ({"betas": 0.9}, TypeError, "betas: expected two numbers, got 0.9"),
        ({"betas": "ab"}, TypeError, "betas: expected two numbers"),
        ({"betas": (0.9, 1.0)}, ValueError, r"betas: expected a number in \[0, 1\)"),
        ({"decay": "fast"}, TypeError, "decay: expected a finite number"),
        ({"decay": {"W": np.nan}}, ValueError, r"decay\['W'\]: expected a finite number"),
        ({"batch_size": 0}, ValueError, "batch_size: expected a positive integer"),
        ({"epsilon": -1.0}, ValueError, "epsilon: expected a number >= 0"),
        ({"norm": "op"}, ValueError, "norm: expected one of"),
        ({"norm": 1.0}, ValueError, r"norm: expected one of .* or a number p > 1, got 1\.0"),
        ({"norm": {"W": 0.5}}, ValueError, r"norm\['W'\]: expected"),
        ({"kind": "sign", "norm": "l1"}, ValueError, "norm: expected no value for kind='sign'"),
        ({"kind": "polyak", "norm": "max"}, ValueError, "norm: expected no value for"),
        ({"kind": "mirror", "norm": "max"}, ValueError, "norm: expected 'fro' or a number p > 1"),
        ({"kind": "signum", "betas": (0.9, 0.99)}, ValueError, "betas: expected no value for"),
        ({"epsilon": 0.0}, ValueError, "epsilon: expected no value for kind='ngd', got 0.0"),
        ({"kind": "gd", "factor": 1.0}, ValueError, "factor: expected no value for kind='gd'"),
        ({"tolerance": 1e-6}, ValueError, "tolerance: expected no value for kind='ngd'"),
        ({"kind": "adam", "ema": 0.9}, ValueError, "ema: expected no value for kind='adam'"),
        ({"ema": 1.0}, ValueError, r"ema: expected a number in \[0, 1\)"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay: expected a number >= 0"),
        ({"newton_schulz": 5}, ValueError, "newton_schulz: expected no value for kind='ngd'"),
        ({"kind": "muon", "newton_schulz": 0}, ValueError, "newton_schulz: expected a positive"),
    ],
)
def test_rules_refuse_what_they_cannot_use(settings, error, message):
    with pytest.raises(error, match=message):
        StepRule(**settings)


def test_training_refuses_rules_that_do_not_fit():
    data = random_problem()
    with pytest.raises(ValueError, match=r"batch_size: expected at most 5 \(n\), got 6"):
        train(data, rule=StepRule(batch_size=6), steps=1)
    with pytest.raises(ValueError, match="decay: expected the key 'W'"):
        train(data, rule=StepRule(decay={"p": 1.0}), steps=1)
    with pytest.raises(ValueError, match="norm: expected the key 'W'"):
        train(data, rule=StepRule(norm={"p": "max"}), steps=1)
    with pytest.raises(ValueError, match=r"weight_decay: expected at most 10 \(1/lr\), got 11"):
        train(data, rule=StepRule("sign", weight_decay=11), lr=0.1, steps=1)


def test_blocks_have_norms_of_their_own():
    data = random_problem()
    init = starts(("v", "W"))
    rule = StepRule(norm={"W": "spec", "v": "max"})
    run = train(data, parameter=("v", "W"), rule=rule, lr=0.05, steps=10, init=init)
    expected = written_out(data, init, rule, {"W": 0.05, "v": 0.05}, 10)
    np.testing.assert_allclose(run.W, expected["W"], rtol=1e-9)
    np.testing.assert_allclose(run.v, expected["v"], rtol=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_mirror_descent_with_p_2_is_gradient_descent(momentum):
    data = random_problem()
    for mirror, plain in (("mirror", "ngd"), ("plain_mirror", "gd")):
        one = train(data, rule=StepRule(mirror, norm=2, momentum=momentum), steps=50)
        other = train(data, rule=StepRule(plain, momentum=momentum), steps=50)
        assert np.array_equal(one.W, other.W)
