"""attsvm.torch: a module whose forward pass is torch's and whose parameters attsvm trains."""

from __future__ import annotations

import numpy as np
import pytest

import attsvm
from attsvm import AttentionData

torch = pytest.importorskip("torch", reason="torch is not installed (NEIGHBOURS)")

from attsvm.torch import Attention  # noqa: E402

PARAMETERS = ["W", "p", "KQ", "Wp", "W+p", ("v", "W"), ("p", "v"), ("v", "KQ"), ("v", "Wp")]
each_parameter = pytest.mark.parametrize("parameter", PARAMETERS, ids=str)
n, T, d = 5, 4, 3

pytestmark = pytest.mark.usefixtures("one_thread_of_torch")


def tensors(batch=None, dtype=torch.float64, seed=0):
    """Tokens, queries, labels and lengths."""
    rng = np.random.default_rng(seed)
    lead = () if batch is None else (batch,)
    lengths = rng.integers(1, T + 1, (*lead, n))
    return (
        torch.tensor(rng.standard_normal((*lead, n, T, d)), dtype=dtype),
        torch.tensor(rng.standard_normal((*lead, n, d)), dtype=dtype),
        torch.tensor(rng.choice([-1.0, 1.0], (*lead, n)), dtype=dtype),
        torch.tensor(lengths),
    )


def module(parameter, batch=None, dtype=torch.float64, seed=0):
    """With parameters drawn from N(0, 1)."""
    rng = np.random.default_rng(seed)
    prompt = rng.standard_normal(d) if "Wp" in (parameter, *parameter[-1:]) else None
    model = Attention(
        d, parameter, value=rng.standard_normal(d), prompt=prompt, batch=batch, dtype=dtype
    )
    with torch.no_grad():
        for block in model.parameters():
            block.copy_(torch.tensor(rng.standard_normal(block.shape)))
    return model


def addresses(model):
    return {name: block.data_ptr() for name, block in model.named_parameters()}


@each_parameter
@pytest.mark.parametrize("batch", [None, 2])
def test_gradients_of_autograd_are_those_of_attsvm(parameter, batch):
    tokens, queries, labels, lengths = tensors(batch)
    model = module(parameter, batch)
    loss = torch.nn.functional.softplus(-labels * model(tokens, queries, lengths)).mean(dim=-1)
    loss.sum().backward()
    data = AttentionData(tokens, labels, queries=queries, lengths=lengths, value=model.v.detach())
    at = {name: block.detach() for name, block in model.named_parameters()}
    if model.prompt is not None:
        at["p"] = model.prompt
    expected, gradients = attsvm.functional.loss_and_grad(data, at)
    assert loss.detach().numpy() == pytest.approx(expected, rel=1e-13)
    for name, block in model.named_parameters():
        error = np.linalg.norm(block.grad.numpy() - gradients[name])
        assert error < 1e-12 * np.linalg.norm(gradients[name])


@each_parameter
def test_autograd_is_the_derivative_of_the_forward_pass(parameter):
    tokens, queries, _, lengths = tensors()
    model = module(parameter)
    inputs = (tokens.requires_grad_(), queries.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, z: model(x, z, lengths), inputs)


@each_parameter
@pytest.mark.parametrize("batch", [None, 2])
def test_training_is_that_of_attsvm_from_where_the_parameters_are(parameter, batch):
    tokens, queries, labels, lengths = tensors(batch)
    model = module(parameter, batch)
    before = addresses(model)
    start = {name: block.detach().numpy().copy() for name, block in model.named_parameters()}
    run = model.fit(tokens, labels, queries=queries, lengths=lengths, steps=30, rule="gd")
    data = AttentionData(tokens, labels, queries=queries, lengths=lengths, value=model.v.detach())
    prompt = None if model.prompt is None else model.prompt.numpy()
    expected = attsvm.train(
        data, parameter=parameter, init=start, prompt=prompt, steps=30, rule="gd"
    )
    assert addresses(model) == before
    for name, block in model.named_parameters():
        assert getattr(run, name).tolist() == getattr(expected, name).tolist()
        assert block.tolist() == getattr(run, name).tolist()
    attention = model.attention(tokens, queries, lengths).detach().numpy()
    assert attention == pytest.approx(run.attention, abs=1e-12)


def test_training_goes_on_after_steps_of_torch():
    """Two gd steps by torch and two by attsvm are four of either."""
    tokens, queries, labels, _ = tensors()
    model, alone = module("W"), module("W")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.softplus(-labels * model(tokens, queries)).mean().backward()
        optimizer.step()
    model.fit(tokens, labels, queries=queries, steps=2, rule="gd", lr=0.5)
    alone.fit(tokens, labels, queries=queries, steps=4, rule="gd", lr=0.5)
    assert model.W.detach().numpy() == pytest.approx(alone.W.detach().numpy(), rel=1e-12)


def test_module_is_its_parameters():
    tokens, queries, labels, _ = tensors()
    model = module(("v", "KQ"))
    model.fit(tokens, labels, queries=queries, steps=10)
    other = Attention(d, ("v", "KQ"), dtype=torch.float64)
    other.load_state_dict(model.state_dict())
    assert other(tokens, queries).tolist() == model(tokens, queries).tolist()
    assert set(model.state_dict()) == {"K", "Q", "v"}
    assert set(module("W").state_dict()) == {"W", "v"}
    assert {name for name, _ in module("W").named_parameters()} == {"W"}
    assert repr(model) == "Attention(d=3, parameter=('v', 'KQ'))"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_tensors_are_read_in_their_own_memory(dtype, monkeypatch):
    tokens, queries, labels, lengths = tensors(dtype=dtype)
    model = module("W", dtype=dtype)
    seen = []

    def train(data, **options):
        seen.append(data)
        return attsvm.train(data, **options)

    monkeypatch.setattr("attsvm.torch.module.train", train)
    model.fit(tokens, labels, queries=queries, lengths=lengths, steps=3)
    (data,) = seen
    for name, tensor in {
        "tokens": tokens, "labels": labels, "queries": queries,
        "value": model.v,
    }.items():  # fmt: skip
        assert getattr(data, name).ctypes.data == tensor.data_ptr(), name


def test_single_precision_is_rounded_at_the_end_only():
    tokens, queries, labels, _ = tensors(dtype=torch.float32)
    model = module("W", dtype=torch.float32)
    run = model.fit(tokens, labels, queries=queries, steps=50)
    assert model.W.dtype == torch.float32
    assert model.W.tolist() == run.W.astype(np.float32).tolist()


def test_weights_go_into_the_theory():
    """Trained by torch alone, W is compared with the SVM of the tokens it selects."""
    data = attsvm.datasets.unit_sphere(4, 3, 6, rng=1)
    model = Attention(6, value=data.value, dtype=torch.float64)
    tokens, queries = torch.tensor(data.tokens), torch.tensor(data.queries)
    labels = torch.tensor(data.labels)
    for _ in range(900):
        (gradient,) = torch.autograd.grad(
            torch.nn.functional.softplus(-labels * model(tokens, queries)).mean(), model.W
        )
        with torch.no_grad():
            model.W -= 0.1 * gradient / gradient.norm()
    selected = model.attention(tokens, queries).argmax(dim=-1)
    solution = attsvm.att_svm(data, selected)
    assert attsvm.cosine(model.direction, solution.W) > 0.99
    assert model.direction.data_ptr() == model.W.data_ptr()
    run = attsvm.train(data, steps=900)
    assert attsvm.cosine(model.direction, run.W) > 1 - 1e-9


def test_direction_of_factors_is_their_product():
    model = module("KQ")
    expected = model.K.detach().numpy() @ model.Q.detach().numpy().T
    assert model.direction.numpy() == pytest.approx(expected)
    assert module("p").direction.shape == (d,)


def test_query_is_the_first_token_where_none_is_given():
    tokens, _, labels, _ = tensors()
    model = module("W")
    assert model(tokens).tolist() == model(tokens, tokens[:, 0]).tolist()
    run = model.fit(tokens, labels, steps=5)
    given = module("W").fit(tokens, labels, queries=tokens[:, 0], steps=5)
    assert run.W.tolist() == given.W.tolist()


def test_fits_attention_data():
    data = attsvm.datasets.unit_sphere(n, T, d, rng=0)
    model = Attention(d, value=data.value, dtype=torch.float64)
    run = model.fit(data, steps=20)
    assert run.W.tolist() == attsvm.train(data, steps=20).W.tolist()
    with pytest.raises(ValueError, match=r"^data: expected no value, or that of the module"):
        module("W").fit(data)
    with pytest.raises(ValueError, match=r"^labels: expected None beside AttentionData"):
        model.fit(data, data.labels)


@pytest.mark.parametrize(
    ("make", "error", "start"),
    [
        (lambda: Attention(0, value=[]), ValueError, "d: "),
        (lambda: Attention(d, "WQ", value=np.ones(d)), ValueError, "parameter: "),
        (lambda: Attention(d), ValueError, r"value: needed .* as by 'v\+W', got None"),
        (
            lambda: Attention(9, value=np.ones(9)).fit(attsvm.datasets.unit_sphere(3, 4, 5, rng=0)),
            ValueError,
            "data: expected tokens of dimension 9, got 5",
        ),
        (lambda: Attention(d, value=np.ones(4)), ValueError, "value: expected shape"),
        (lambda: Attention(d, "Wp", value=np.ones(d)), ValueError, "prompt: needed"),
        (lambda: Attention(d, value=np.ones(d), prompt=np.ones(d)), ValueError, "prompt: expected"),
        (lambda: Attention(d, value=np.ones(d), inner=2), ValueError, "inner: expected None"),
        (lambda: Attention(d, value=np.ones(d), batch=0), ValueError, "batch: "),
        (lambda: module("W").fit(tensors()[0]), ValueError, "labels: needed with tokens"),
        (lambda: module("W").fit(*tensors()[::2], init=0), TypeError, "init: expected not to be"),
        (lambda: module("W").fit(*tensors()[::2], head=1), TypeError, "head: expected not to be"),
        (lambda: module("W").fit(*tensors()[::2], speed=1), TypeError, ""),
        (lambda: module("W", dtype=torch.float16).fit(*tensors()[::2]), TypeError, "W: expected f"),
        (lambda: module("W").fit(tensors()[0].half(), tensors()[2]), TypeError, "data: expected f"),
        (
            lambda: module("W").to("meta").fit(*tensors()[::2]),
            TypeError,
            "W: expected a tensor on the CPU, got one on meta",
        ),
        (lambda: module("W").fit(tensors()[0][0], tensors()[2]), ValueError, "data: expected shap"),
        (lambda: module("W").fit(*tensors()[::2], lr=-1.0), ValueError, "lr: "),
    ],
)
def test_bad_arguments_are_named(make, error, start):
    with pytest.raises(error, match=f"^{start}"):
        make()


@pytest.mark.parametrize("tokens", [tensors()[0].bfloat16(), [*tensors()[0].bfloat16()]])
def test_bfloat16_is_refused_with_the_cast_that_helps(tokens):
    with pytest.raises(
        TypeError, match=r"^tokens: .*, got torch's bfloat16: tensor.float\(\) casts"
    ):
        AttentionData(tokens, tensors()[2])


@pytest.mark.parametrize("length", [0, -1, T + 1])
def test_lengths_outside_the_tokens_are_refused(length):
    tokens, queries, _, lengths = tensors()
    lengths[0] = length
    model = Attention(d, value=np.ones(d), dtype=torch.float64)
    with pytest.raises(ValueError, match=rf"lengths: expected 1..{T} \(T\)"):
        model(tokens, queries, lengths)


def test_sizes_that_do_not_fit_are_named():
    tokens, queries, _, _ = tensors()
    module = Attention(d, value=torch.ones(d), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"^tokens: expected shape .* n, T, 3\), got \(5, 4, 2\)"):
        module(tokens[..., :2], queries)
    with pytest.raises(ValueError, match=r"^queries: expected shape .* 5, 3\), got \(1, 3\)"):
        module(tokens, queries[:1])
    for name, given in (("tokens", tokens.tolist()), ("queries", queries.tolist()), ("lengths", 2)):
        arguments = {"tokens": tokens, "queries": queries, name: given}
        with pytest.raises(TypeError, match=f"^{name}: expected Tensor, got (list|int)$"):
            module(**arguments)


def test_nan_at_padding_reaches_no_prediction():
    tokens, queries, _, lengths = tensors()
    lengths[:] = T - 1
    model = Attention(d, value=np.ones(d), dtype=torch.float64)
    expected = model(tokens, queries, lengths)
    tokens[:, T - 1] = torch.nan
    assert torch.equal(model(tokens, queries, lengths), expected)


def test_a_module_in_float32_fits_the_data_that_its_value_is_from():
    data = attsvm.datasets.unit_sphere(6, 5, 4, rng=0)
    model = Attention(4, value=data.value, dtype=torch.float32)
    run = model.fit(data, steps=20)
    np.testing.assert_array_equal(run.W, attsvm.train(data, steps=20).W)


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("sparse", lambda x: x.to_sparse()),
        ("nested", lambda x: torch.nested.nested_tensor([x[0], x[1]])),
        ("quantised", lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8)),
        ("float16", lambda x: x.half()),
    ],
)
@pytest.mark.filterwarnings("ignore:.*nested tensors|.*quantiz")
def test_tensors_that_are_not_dense_numbers_are_refused(kind, make):
    tokens, queries, labels, _ = tensors()
    model = Attention(d, value=np.ones(d), dtype=torch.float64)
    with pytest.raises(TypeError, match=rf"data: expected .*{kind}"):
        model.fit(make(tokens), labels, queries=queries, steps=1)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, "float64"])
def test_parameters_of_another_type_than_floating_point_are_refused(dtype):
    with pytest.raises(TypeError, match="dtype: expected a floating-point"):
        Attention(d, value=np.ones(d), dtype=dtype)


def test_a_module_made_in_inference_mode_is_refused_outside_before_the_run():
    tokens, queries, labels, _ = tensors()
    with torch.inference_mode():
        model = Attention(d, value=np.ones(d), dtype=torch.float64)
        model.fit(tokens, labels, queries=queries, steps=3)
    with pytest.raises(ValueError, match="W: made in inference mode"):
        model.fit(tokens, labels, queries=queries, steps=3)


@pytest.mark.parametrize("batch", [None, 2])
def test_without_queries_it_is_fitted_with_the_first_tokens_that_it_takes(batch):
    tokens, _, labels, _ = tensors(batch)
    models = [module("W", batch) for _ in range(3)]
    plain = AttentionData(tokens, labels)
    problems = [(plain,), (tokens, labels), (plain.with_first_queries(),)]
    runs = [model.fit(*given, steps=20) for model, given in zip(models, problems, strict=True)]
    for run in runs[:2]:
        np.testing.assert_array_equal(run.W, runs[2].W)
    np.testing.assert_allclose(models[0].attention(tokens).detach(), runs[0].attention, rtol=1e-9)
