"""attsvm.torch.Watch records what inspect measures, at the steps it should, within its budget."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (NEIGHBOURS)")
pytest.importorskip("xarray", reason="xarray is not installed")

from attsvm import plots  # noqa: E402
from attsvm.torch import Watch, inspect, watch  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread_of_torch")
B, T, d, H = 3, 4, 6, 2


def encoder():
    layer = torch.nn.TransformerEncoderLayer(d, H, 8, batch_first=True)
    return torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return encoder()


def loss(output):
    return output.square().mean()


def trained(model, watched, steps):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x = torch.randn(B, T, d)
    for step in range(steps):
        watched(step, x, loss)
        optimizer.zero_grad()
        loss(model(x)).backward()
        optimizer.step()
    return x


def test_every_record_is_that_of_inspect(model):
    watched = Watch(model, every=2, norms=("fro", "nuc"))
    x = torch.randn(B, T, d)
    for step in range(3):
        if step == 2:
            expected = inspect(model, x, loss)
        watched(step, x, loss)
        with torch.no_grad():
            for block in model.parameters():
                block.add_(0.1 * torch.randn_like(block))
    found = watched.dataset
    assert dict(found.sizes) == {"step": 2, "layer": 2, "head": H, "norm": 2}
    last = found.sel(step=2)
    for name in ("fro_norm", "margin_ratio", "cosine", "svm_status", "global_share"):
        assert (last[name] == expected[name]).all()
        assert last[name].attrs == expected[name].attrs
    for name in ("sparsity", "entropy", "largest_weight"):
        assert last[name].values == pytest.approx(expected[name].mean("input").values, rel=1e-12)
        assert last[name].attrs["formula"].startswith("mean_i of: ")
    assert (last.inputs == B * T).all()


def test_training_is_the_same_with_and_without(model):
    ends = []
    for every in (1, 1000):
        torch.manual_seed(1)
        twin = encoder()
        trained(twin, Watch(twin, every=every, norms=()), 5)
        ends.append([block.detach().clone() for block in twin.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_records_keep_to_their_share_of_the_time(model, monkeypatch):
    """A clock on which a record takes 1 and the rest of a step 1/2."""
    clock = [0.0]
    watched = Watch(model)
    measured = inspect(model, torch.zeros(B, T, d), norms="fro")

    def record(*given, **options):
        clock[0] += 1.0
        return measured

    monkeypatch.setattr(watch, "inspect", record)
    monkeypatch.setattr(watch.time, "perf_counter", lambda: clock[0])
    shares = []
    for step in range(1000):
        watched(step, None)
        clock[0] += 0.5
        shares.append(watched.seconds / clock[0])
    assert watched.dataset.step.values[0] == 0
    assert max(shares[40:]) <= 0.05
    assert shares[-1] > 0.045


def test_heads_draws_a_row_for_each_layer_and_a_line_for_each_head(model):
    pytest.importorskip("matplotlib")
    watched = Watch(model, every=1)
    trained(model, watched, 3)
    figure = plots.heads(watched.dataset)
    assert len(figure.axes) == 2 * 4
    assert all(len(axes.lines) == H for axes in figure.axes)
    sparsity = figure.axes[0].lines[1]
    assert sparsity.get_xdata() == pytest.approx(watched.dataset.fro_norm.values[:, 0, 1])
    assert sparsity.get_ydata() == pytest.approx(watched.dataset.sparsity.values[:, 0, 1])
    assert plots.png(figure).startswith(b"\x89PNG")
    without = plots.heads(watched.dataset[["sparsity", "fro_norm"]])
    assert len(without.axes) == 2
    for some, what in (({"step": []}, "steps"), ({"layer": 0}, "layers"), ({"head": 1}, "heads")):
        with pytest.raises(ValueError, match=f"^watched: expected .*, got no {what}$"):
            plots.heads(watched.dataset.isel(some))


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda model: Watch(model, every=0), ValueError, "every: expected"),
        (lambda model: Watch(model, budget=0), ValueError, "budget: expected"),
        (lambda model: Watch(model).dataset, ValueError, "dataset: expected records, got none"),
        (lambda model: plots.heads(inspect(model, torch.zeros(B, T, d))), ValueError, "no steps"),
    ],
)
def test_bad_use_is_named(model, use, error, message):
    with pytest.raises(error, match=message):
        use(model)


def test_steps_go_on(model):
    watched = Watch(model, every=1)
    x = torch.zeros(B, T, d)
    watched(3, x)
    with pytest.raises(ValueError, match="step: expected one after 3, got 3"):
        watched(3, x)
    with pytest.raises(ValueError, match="norm: expected one of fro, got 'nuc'"):
        plots.heads(watched.dataset, norm="nuc")
    assert np.isnan(watched.dataset.margin_ratio).any() or (watched.dataset.margin_ratio >= 0).all()
