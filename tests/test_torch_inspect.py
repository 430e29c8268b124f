"""attsvm.torch.inspect: models are read as their layers compute, and measured as by attsvm."""

from __future__ import annotations

import numpy as np
import pytest

import attsvm
from attsvm import AttentionData

torch = pytest.importorskip("torch", reason="torch is not installed (NEIGHBOURS)")
pytest.importorskip("xarray", reason="xarray is not installed")

from attsvm.torch import Attention, AttentionCall, inspect, read  # noqa: E402
from attsvm.torch.call import NotReadableError  # noqa: E402

B, T, d, H = 3, 5, 8, 2

pytestmark = pytest.mark.usefixtures("one_thread_of_torch")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def randomised(model, spread=0.5):
    """Biases start at 0, and small matrices attend equally: draw all of them."""
    with torch.no_grad():
        for block in model.parameters():
            block.normal_(0.0, spread)
    return model.eval()


def causal(length=T):
    return torch.ones(length, length, dtype=torch.bool).triu(1)


def padding():
    """True at padding: of 0, 2 and 1 tokens."""
    return torch.arange(T) >= torch.tensor([[T], [T - 2], [T - 1]])


def assert_weights(layer, weights, tolerance=1e-5):
    """The softmax of x'Wz, from the tokens and W alone, is the attention the model returns."""
    expected = weights.detach().double().numpy()[layer.sample, :, layer.position]
    for head in range(layer.heads):
        W = layer.weights(head).dense()
        logits = np.einsum("ntd,de,ne->nt", layer.keys[layer.sample], W, layer.queries)
        logits = np.where(layer.attended[head], logits, -np.inf)
        assert attsvm.functional.softmax(logits, axis=1) == pytest.approx(
            expected[:, head], abs=tolerance
        )
        data = layer.problem(head)
        ones = AttentionData(
            data.tokens_per_input, data.labels, queries=data.queries, lengths=data.lengths
        )
        logits = np.einsum("ntd,de,ne->nt", ones.tokens, W, ones.queries)
        by_problem = attsvm.functional.softmax(np.where(ones.valid, logits, -np.inf), axis=1)
        in_order = np.take_along_axis(expected[:, head], layer.order(head), axis=1)
        assert by_problem == pytest.approx(in_order, abs=tolerance)
        assert (layer.order(head)[np.arange(len(logits)), layer.selected_in_problem(head)]
                == layer.selected[head]).all()  # fmt: skip


class TestPapersModel:
    """One layer of the papers gives what attsvm gives on the same data."""

    def problem(self, dtype, seed=0):
        data = attsvm.datasets.unit_sphere(6, T, d, rng=seed, dtype=dtype)
        lengths = np.random.default_rng(seed).integers(2, T + 1, 6)
        return AttentionData(
            data.tokens, data.labels, queries=data.queries, value=data.value, lengths=lengths
        )

    @pytest.mark.parametrize(("dtype", "rel"), [("float64", 1e-12), ("float32", 1e-6)])
    @pytest.mark.parametrize("parameter", ["W", "KQ"])
    def test_everything_is_that_of_attsvm(self, dtype, rel, parameter):
        data = self.problem(np.dtype(dtype))
        run = attsvm.train(data, parameter=parameter, steps=300, init="uniform", rng=0)
        model = Attention(d, parameter, value=data.value, dtype=getattr(torch, dtype))
        with torch.no_grad():
            for name, block in model.named_parameters():
                block.copy_(torch.tensor(getattr(run, name)))
        W = model.double().direction.numpy()
        model.to(getattr(torch, dtype))
        labels = torch.tensor(data.labels)
        batch = [torch.tensor(x) for x in (data.tokens, data.queries, data.lengths)]
        found = inspect(model, batch, loss=lambda f: -(labels * f).sum()).isel(layer=0, head=0)
        (layer,) = read(model, batch, loss=lambda f: -(labels * f).sum())

        gamma = np.where(data.valid, attsvm.scores(data), -np.inf)
        assert np.where(data.valid, layer.scores[0], 0) == pytest.approx(
            np.where(data.valid, gamma, 0), rel=rel, abs=rel
        )
        logits = np.einsum(
            "ntd,de,ne->nt", *(x.astype(float) for x in (data.tokens, W, data.queries))
        )
        selected = np.where(data.valid, logits, -np.inf).argmax(axis=1)
        assert (found.selected == selected).all()
        best = attsvm.optimal_tokens(data)
        assert (found["global"] == (selected == best)).all()
        assert float(found.global_share) == np.mean(selected == best)
        for norm in ("fro", "nuc"):
            svm = attsvm.att_svm(data, selected, norm=norm)
            of = found.sel(norm=norm)
            assert of.svm_status == "optimal"
            assert float(of.svm_norm) == pytest.approx(svm.norm, rel=max(rel, 1e-11))
            cosine = attsvm.cosine(W, svm.W)
            assert float(of.cosine) == pytest.approx(cosine, rel=max(rel, 1e-9), abs=1e-9)
            least = attsvm.theory.margins(W, data, selected).min()
            size = np.linalg.norm(W, norm)
            assert float(of.margin_ratio) == pytest.approx(
                least / size * svm.norm, rel=max(rel, 1e-11)
            )
            assert int(of.support_vectors) == attsvm.support_tokens(data, svm).sum()
            assert bool(of.local.all()) == attsvm.is_locally_optimal(data, selected, svm)
            assert float(of.local_share) == of.local.mean()
        s = attsvm.functional.softmax(np.where(data.valid, logits, -np.inf), axis=1)
        assert found.sparsity.values == pytest.approx(attsvm.sparsity(s), rel=1e-10)
        assert found.largest_weight.values == pytest.approx(s.max(axis=1), rel=1e-10)
        assert float(found.fro_norm) == pytest.approx(np.linalg.norm(W), rel=1e-12)
        assert float(found.nuc_norm) == pytest.approx(np.linalg.norm(W, "nuc"), rel=1e-12)
        assert float(found.spec_norm) == pytest.approx(np.linalg.norm(W, 2), rel=1e-12)
        assert float(found.effective_rank) == pytest.approx(attsvm.effective_rank(W), rel=1e-12)

    @pytest.mark.parametrize("loss", ["logistic", "exponential"])
    def test_scores_of_a_loss_are_those_of_the_papers_times_its_slope(self, loss):
        data = self.problem(np.float64)
        model = randomised(Attention(d, value=data.value, dtype=torch.float64))
        labels = torch.tensor(data.labels)
        batch = [torch.tensor(x) for x in (data.tokens, data.queries, data.lengths)]
        margins = (labels * model(*batch)).detach()
        of = {
            "logistic": lambda m: torch.nn.functional.softplus(-m),
            "exponential": lambda m: torch.exp(-m),
        }[loss]
        slope = {"logistic": 1 / (1 + margins.exp()), "exponential": torch.exp(-margins)}[
            loss
        ].numpy()
        (layer,) = read(model, batch, loss=lambda f: of(labels * f).mean())
        gamma = attsvm.scores(data) * slope[:, np.newaxis] / data.n
        assert layer.scores[0][data.valid] == pytest.approx(gamma[data.valid], rel=1e-12)

    @pytest.mark.parametrize("parameter", ["p", "Wp"])
    def test_prompts_are_queries_of_one_coordinate(self, parameter):
        data = self.problem(np.float64)
        prompt = np.ones(d) if parameter == "Wp" else None
        model = randomised(
            Attention(d, parameter, value=data.value, prompt=prompt, dtype=torch.float64)
        )
        (layer,) = read(model, (torch.tensor(data.tokens), None, torch.tensor(data.lengths)))
        weights = model.attention(torch.tensor(data.tokens), None, torch.tensor(data.lengths))
        assert layer.attention[0] == pytest.approx(weights.detach().numpy(), abs=1e-14)


class TestMultiheadAttention:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("batch_first", [True, False])
    @pytest.mark.parametrize(
        "mask", ["none", "causal", "padding", "both", "number", "by head", "left"]
    )
    def test_weights_are_the_softmax_of_the_logits(self, bias, batch_first, mask):
        model = randomised(torch.nn.MultiheadAttention(d, H, bias=bias, batch_first=batch_first))
        x = torch.randn(B, T, d)
        masks = {}
        if mask in ("causal", "both"):
            masks["attn_mask"] = causal()
        if mask in ("padding", "both"):
            masks["key_padding_mask"] = padding()
        if mask == "left":
            masks["key_padding_mask"] = padding().flip(1)
        if mask == "number":
            masks["attn_mask"] = torch.zeros(T, T).masked_fill(causal(), -torch.inf)
        if mask == "by head":
            masks["attn_mask"] = (torch.rand(B * H, T, T) < 0.4) & ~torch.eye(T, dtype=torch.bool)
        tokens = x if batch_first else x.transpose(0, 1)
        options = {"average_attn_weights": False, **masks}
        _, weights = model(tokens, tokens, tokens, **options)
        (layer,) = read(model, {"query": tokens, "key": tokens, "value": tokens, **options})
        assert_weights(layer, weights)
        kept = padding() if mask in ("padding", "both") else padding().flip(1)
        inputs = int((~kept).sum()) if mask in ("padding", "both", "left") else B * T
        assert len(layer.sample) == inputs

    @pytest.mark.parametrize("batched", [True, False])
    def test_cross_attention_with_tokens_of_other_sizes(self, batched):
        model = randomised(torch.nn.MultiheadAttention(d, H, kdim=5, vdim=3, batch_first=batched))
        z, x, v = (
            torch.randn(*((B,) if batched else ()), *shape) for shape in ((4, d), (7, 5), (7, 3))
        )
        _, weights = model(z, x, v, average_attn_weights=False)
        (layer,) = read(model, (z, x, v), loss=lambda out: out[0].square().sum())
        assert_weights(layer, weights if batched else weights[None])
        assert layer.keys.shape[-1] == layer.queries.shape[-1] == d + 1

    @pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
    @pytest.mark.parametrize("mode", ["train", "eval"])
    @pytest.mark.parametrize("gradients", [True, False])
    def test_an_encoder_is_read_whether_or_not_it_takes_its_fast_path(self, mode, gradients):
        layer = torch.nn.TransformerEncoderLayer(d, H, 16, batch_first=True)
        model = torch.nn.TransformerEncoder(layer, 2)
        randomised(model, 0.3).requires_grad_(gradients)
        x = torch.randn(B, T, d)
        inputs = x, None, padding()
        with torch.no_grad():
            before = model(*inputs)
        getattr(model, mode)()
        found = inspect(model, inputs, loss=lambda out: out.square().sum(), norms=())
        assert list(found.layer.values) == ["layers.0.self_attn", "layers.1.self_attn"]
        first = read(model, inputs, layers=0)[0]
        model.eval()
        _, weights = model.layers[0].self_attn(x, x, x, padding(), average_attn_weights=False)
        assert_weights(first, weights)
        with torch.no_grad():
            assert torch.equal(model(*inputs), before)

    def test_scores_are_the_derivative_of_the_loss_along_values(self):
        """More weight on token t by ε, without the softmax: the loss falls by γ_it ε."""
        model = randomised(torch.nn.MultiheadAttention(d, H, batch_first=True)).double()
        x = torch.randn(B, T, d, dtype=torch.float64)
        target = torch.randn(B, T, d, dtype=torch.float64)
        (layer,) = read(model, (x, x, x), loss=lambda out: ((out[0] - target) ** 2).sum())
        weights = torch.tensor(layer.attention).reshape(H, B, T, T)
        W = model.in_proj_weight[2 * d :].reshape(H, -1, d)
        values = torch.einsum("btd,hed->hbte", x, W)
        values = values + model.in_proj_bias[2 * d :].reshape(H, 1, 1, -1)

        def loss(s):
            o = torch.einsum("hblt,hbte->blhe", s, values).flatten(2)
            return ((model.out_proj(o) - target) ** 2).sum()

        weights.requires_grad_()
        (slope,) = torch.autograd.grad(loss(weights), weights)
        assert layer.scores == pytest.approx(
            -slope.reshape(H, B * T, T).numpy(), rel=1e-10, abs=1e-12
        )

    @pytest.mark.parametrize(
        ("options", "reason"),
        [({"add_bias_kv": True}, "add_bias_kv"), ({"add_zero_attn": True}, "add_zero_attn")],
    )
    def test_keys_that_are_no_tokens_are_refused(self, options, reason):
        model = torch.nn.MultiheadAttention(d, H, **options)
        x = torch.randn(T, B, d)
        with pytest.raises(NotReadableError, match=reason):
            inspect(model, (x, x, x))

    def test_a_bias_by_position_is_refused(self):
        model = torch.nn.MultiheadAttention(d, H, batch_first=True)
        x = torch.randn(B, T, d)
        with pytest.raises(NotReadableError, match="no bilinear form"):
            inspect(model, {"query": x, "key": x, "value": x, "attn_mask": torch.randn(T, T)})


class Rotary(torch.nn.Module):
    """An attention layer that says by its submodule that it turns queries and keys."""

    def __init__(self):
        super().__init__()
        self.q_proj = torch.nn.Linear(d, d)
        self.rotary_emb = torch.nn.Identity()

    def forward(self, x):
        return self.q_proj(x)


class RotaryAttention(Rotary):
    pass


class Own(torch.nn.Module):
    """Attention of a class that is not known, with a temperature and dropout."""

    def __init__(self, always=False):
        super().__init__()
        self.project = torch.nn.Linear(d, 3 * d, bias=False)
        self.always = always

    def forward(self, x, temperature=1.0):
        q, k, v = self.project(x).chunk(3, dim=-1)
        s = torch.softmax(q @ k.mT / temperature, dim=-1)
        if self.always:
            s = torch.nn.functional.dropout(s, 0.5)
        return s @ v


def read_own(module, arguments, output):
    x = arguments["x"]
    Q, K, V = (part.mT.unsqueeze(0) for part in module.project.weight.chunk(3))
    values = (x @ V[0]).unsqueeze(1)
    return AttentionCall(x, x, Q, K, values, scale=1 / arguments["temperature"])


class TestAdapters:
    def test_a_class_that_is_not_known_is_read_by_an_adapter(self):
        model, x = Own(), torch.randn(B, T, d)
        layers = read(model, {"x": x, "temperature": 2.0}, adapters={Own: read_own})
        q, k, _ = model.project(x).chunk(3, dim=-1)
        assert_weights(layers[0], torch.softmax(q @ k.mT / 2, dim=-1)[:, None])

    def test_what_is_read_wrongly_is_refused(self):
        x = torch.randn(B, T, d)
        with pytest.raises(NotReadableError, match=r"model: Own \(Own\): the tokens and matrices"):
            inspect(Own(always=True), x, adapters={Own: read_own})

        def wrong(module, arguments, output):
            call = read_own(module, arguments, output)
            return AttentionCall(call.queries, call.keys, call.W_K, call.W_Q, call.values)

        with pytest.raises(NotReadableError, match="another formula of the logits"):
            inspect(Own(), x, adapters={Own: wrong})

    def test_an_argument_that_is_not_there_is_named(self):
        def asks(module, arguments, output):
            return arguments["hidden"]

        with pytest.raises(ValueError, match=r"asks for the argument 'hidden'; the layer has x, t"):
            inspect(Own(), torch.randn(B, T, d), adapters={Own: asks})

    def test_a_model_that_has_diverged_is_named(self):
        model = Own()
        torch.nn.init.constant_(model.project.weight, torch.nan)
        with pytest.raises(NotReadableError, match=r"expected a finite output, got NaN or inf"):
            inspect(model, torch.randn(B, T, d), adapters={Own: read_own})

    def test_shapes_of_an_adapter_are_named(self):
        def short(module, arguments, output):
            call = read_own(module, arguments, output)
            return AttentionCall(call.queries, call.keys, call.W_Q, call.W_K[..., :3], call.values)

        with pytest.raises(ValueError, match=r"W_K: expected shape \(1, 8, 8\), got \(1, 8, 3\)"):
            inspect(Own(), torch.randn(B, T, d), adapters={Own: short})

    def test_rotary_positions_are_refused_with_the_reason(self):
        with pytest.raises(NotReadableError, match="rotary positions turn queries and keys"):
            inspect(torch.nn.Sequential(RotaryAttention()), torch.randn(B, T, d))

    def test_a_model_without_attention_is_refused(self):
        with pytest.raises(
            ValueError, match=r"expected attention layers of .*MultiheadAttention.*, got none"
        ):
            inspect(torch.nn.Linear(d, d), torch.randn(B, d))


class Draws(torch.nn.Module):
    """Counts its calls in a buffer, draws random numbers, and can fail after its layer."""

    def __init__(self, fail=False):
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(d, H, 0.3, batch_first=True)
        self.dropout = torch.nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(1))
        self.fail = fail

    def forward(self, x):
        self.calls += 1
        x = x + torch.rand(1)
        y = self.dropout(self.attention(x, x, x)[0])
        if self.fail:
            raise ZeroDivisionError("here")
        y += x
        return y


class TestNothingIsChanged:
    def state(self, model):
        hooks = [
            (dict(m._forward_hooks), dict(m._forward_pre_hooks), dict(m._backward_hooks))
            for m in model.modules()
        ]
        return (
            {name: tensor.clone() for name, tensor in model.state_dict().items()},
            [m.training for m in model.modules()],
            hooks,
            torch.get_rng_state().tolist(),
            [block.grad for block in model.parameters()],
            torch.backends.mha.get_fastpath_enabled(),
            torch.is_grad_enabled(),
        )

    @pytest.mark.parametrize("fail", [None, "model", "loss", "adapter"])
    def test_by_a_call_or_an_error(self, fail):
        model = Draws(fail == "model")
        model.attention.eval()  # a mode of its own
        model.dropout.register_forward_hook(lambda *given: None)
        before = self.state(model)

        def loss(output):
            if fail == "loss":
                raise ZeroDivisionError("here")
            return output.sum()

        def adapter(module, arguments, output):
            raise ZeroDivisionError("here")

        own = {torch.nn.MultiheadAttention: adapter} if fail == "adapter" else None
        if fail is None:
            inspect(model, torch.randn(B, T, d, generator=torch.Generator()), loss)
        else:
            with pytest.raises(ZeroDivisionError):
                inspect(model, torch.zeros(B, T, d), loss, adapters=own)
        after = self.state(model)
        assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
        assert before[1:] == after[1:]

    def test_also_under_no_grad_and_with_frozen_parameters(self):
        model = Draws().requires_grad_(False)
        x = torch.randn(B, T, d)
        with torch.no_grad():
            found = inspect(model, x, lambda out: out.square().sum(), norms=())
        assert float(np.abs(found.score).max()) > 0
        with torch.inference_mode():
            inspect(model, x, norms=())

    def test_tokens_are_those_the_layer_got_though_the_model_writes_over_them(self):
        class Overwrites(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.attention = torch.nn.MultiheadAttention(d, H, batch_first=True)

            def forward(self, x):
                x = x.clone()
                y, _ = self.attention(x, x, x)
                x += 1
                y *= 2
                return y + x

        model, x = Overwrites(), torch.randn(B, T, d)
        (layer,) = read(model, x, lambda out: out.sum())
        assert layer.keys[..., :d] == pytest.approx(x.double().numpy())
        (again,) = read(model.attention, (x, x, x), lambda out: 2 * out[0].sum())
        assert layer.scores == pytest.approx(again.scores, rel=1e-6)


class TestBounds:
    """SVMs that are too large are bounded, and the bounds hold."""

    @pytest.mark.parametrize("steps", [0, 40, 3000])
    def test_bounds_contain_the_solution(self, steps):
        model = randomised(torch.nn.MultiheadAttention(d, H, batch_first=True))
        x = torch.randn(B, T, d)
        exact = inspect(model, (x, x, x))
        found = inspect(model, (x, x, x), max_constraints=0, steps=steps, tolerance=1e-6)
        assert (exact.svm_status == "optimal").all()
        assert (found.svm_status == "bounded").all()
        for name in ("svm_norm", "margin_ratio"):
            lower, upper = found[name], found[f"{name}_upper"]
            assert (lower <= exact[name] * (1 + 1e-9)).all()
            assert (exact[name] <= upper * (1 + 1e-9)).all()
        fro = found.sel(norm="fro")
        assert (fro.cosine <= exact.cosine.sel(norm="fro") + 1e-9).all()
        if steps == 3000:
            assert (fro.svm_gap < 1e-6).all()
            assert fro.cosine.values == pytest.approx(exact.cosine.sel(norm="fro").values, abs=3e-3)

    def test_the_certified_cosine_is_that_of_attsvm(self):
        model = randomised(torch.nn.MultiheadAttention(d, 1, bias=False, batch_first=True), 2.0)
        x = torch.randn(B, 3, d)
        (layer,) = read(model, (x, x, x))
        found = inspect(model, (x, x, x), max_constraints=0).sel(norm="fro").cosine
        data, alpha = layer.problem(0), layer.selected_in_problem(0)
        W = layer.weights(0).dense()
        expected = attsvm.certified_cosine(W, data, alpha, layer.attention[0])
        assert float(found.squeeze()) == pytest.approx(expected, abs=1e-9)

    def test_where_nothing_separates_the_margin_is_soft_and_says_so(self):
        """Equal tokens in the same sequence cannot be separated."""
        model = randomised(torch.nn.MultiheadAttention(d, 1, batch_first=True))
        x = torch.randn(B, 2, d).repeat_interleave(2, dim=1)
        found = inspect(model, (x, x, x), lambda out: out[0].square().sum()).squeeze()
        soft = found.sel(norm="fro")
        assert soft.svm_status == "soft margin"
        assert np.isnan(soft.margin_ratio)
        assert np.isfinite(soft.soft_penalty)
        assert float(soft.svm_gap) < 1e-6
        assert 0 <= float(soft.local_share) <= 1

    @pytest.mark.parametrize("most", [0, 1000])
    def test_a_head_without_weights_has_no_direction(self, most):
        model = randomised(torch.nn.MultiheadAttention(d, 1, batch_first=True))
        torch.nn.init.zeros_(model.in_proj_weight)
        x = torch.randn(B, 3, d)
        found = inspect(model, (x, x, x), max_constraints=most)
        assert np.isnan(found.cosine).all()
        assert (found.margin_ratio == 0).all()
        assert (found.selected == 0).all()

    def test_a_single_token_has_no_constraints(self):
        model = torch.nn.MultiheadAttention(d, H, batch_first=True)
        x = torch.randn(B, 1, d)
        found = inspect(model, (x, x, x))
        assert (found.svm_status == "no constraints").all()
        assert np.isposinf(found.logit_gap).all()
        assert (found.entropy == 0).all()


class TestArguments:
    model = torch.nn.MultiheadAttention(d, H, batch_first=True)
    x = torch.zeros(B, T, d)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"loss": 1}, TypeError, "loss: expected a function .*, got int$"),
            ({"loss": torch.ones(2)}, TypeError, "got Tensor; several arguments .* are a tuple"),
            ({"loss": lambda out: out[0]}, ValueError, r"loss: expected a .*, got \(3, 5, 8\)"),
            ({"loss": lambda out: torch.zeros(())}, ValueError, "loss: .*, got a constant"),
            ({"positions": "first"}, ValueError, "positions: expected"),
            ({"positions": 9}, ValueError, "positions: expected a position of 5, got 9"),
            ({"positions": lambda real: real[0]}, ValueError, "positions: .* to return bools"),
            ({"positions": lambda real: ~real}, ValueError, "positions: expected some in layer"),
            ({"max_inputs": 0}, ValueError, "max_inputs"),
            ({"norms": "l2"}, ValueError, "norms: expected"),
            ({"layers": "other"}, ValueError, "layers: .* MultiheadAttention, got 'other'"),
            ({"layers": []}, ValueError, "layers: expected some"),
            ({"tolerance": 0}, ValueError, "tolerance"),
            ({"adapters": {3: read_own}}, TypeError, "adapters: expected classes"),
        ],
    )  # fmt: skip
    def test_bad_ones_are_named(self, options, error, message):
        with pytest.raises(error, match=message):
            inspect(self.model, (self.x, self.x, self.x), **options)

    def test_a_model_must_be_one(self):
        with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got ndarray"):
            inspect(np.zeros(3), self.x)

    @pytest.mark.parametrize(
        ("positions", "expected"),
        [
            ("all", [(k, t) for k, length in enumerate((5, 3, 4)) for t in range(length)]),
            ("last", [(0, 4), (1, 2), (2, 3)]),
            (0, [(0, 0), (1, 0), (2, 0)]),
            (-1, [(0, 4)]),
            (lambda real: real & (np.arange(T) > 2), [(0, 3), (0, 4), (2, 3)]),
        ],
    )  # fmt: skip
    def test_positions_are_without_padding(self, positions, expected):
        x = torch.randn(B, T, d)
        found = inspect(self.model, (x, x, x, padding()), positions=positions, norms=())
        pairs = zip(found.sample.values[0], found.position.values[0], strict=True)
        assert [(int(s), int(p)) for s, p in pairs] == expected

    def test_inputs_are_drawn_and_their_numbers_are_those_of_all(self):
        x = torch.randn(B, T, d)
        every = inspect(self.model, (x, x, x), norms=())
        some = inspect(self.model, (x, x, x), norms=(), max_inputs=4)
        assert some.sizes["input"] == 4
        place = some.sample.values[0] * T + some.position.values[0]
        assert (some.selected.values == every.selected.values[:, :, place]).all()
        assert some.entropy.values == pytest.approx(every.entropy.values[:, :, place], rel=1e-12)

    def test_every_variable_says_what_it_is(self):
        x = torch.randn(B, T, d)
        found = inspect(self.model, (x, x, x), lambda out: out[0].sum())
        assert all(found[name].attrs.keys() == {"long_name", "formula"} for name in found)

    def test_layers_of_other_sizes_are_padded(self):
        class Two(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.first = torch.nn.MultiheadAttention(d, 4, batch_first=True)
                self.second = torch.nn.MultiheadAttention(d, 2, batch_first=True)

            def forward(self, x):
                y, _ = self.first(x, x, x)
                z, _ = self.second(y[:, :2], y, y)
                return self.second(z, z, z)[0]

        found = inspect(Two(), torch.randn(B, T, d), lambda out: out.sum())
        assert list(found.layer.values) == ["first", "second", "second#2"]
        assert found.tokens.values[1, 3].tolist() == [0] * 15
        assert found.position.values[2].tolist() == [0, 1] * 3 + [-1] * 9
        assert (found.svm_status.values[1, 2:] == "").all()
        assert np.isnan(found.fro_norm.values[1, 2:]).all()
        assert found.tokens.values[2, 0].tolist() == [2] * 6 + [0] * 9
