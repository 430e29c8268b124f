"""A vision transformer on handwritten digits: its class token attends to fewer patches as W grows.

The published one is ViT-base on CIFAR-10, at a fixed learning rate of 0.003. Here a transformer of
two layers learns the digits of scikit-learn at the same rate, from several random starts.
"""

from __future__ import annotations

import numpy as np
import torch

from attsvm.extras import require_extra
from attsvm.studies.reproduce.drawing import Canvas, band, band_in_legend
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, INK, ORANGE
from attsvm.torch import Watch, inspect
from attsvm.torch.small_models import ImageTransformer, one_thread

FIGURE = Figure.of(__name__)
_COLOURS = (BLUE, ORANGE)


def compute(task: Task) -> Data:
    """Train from every seed, and record class-token attention and norms of W at some epochs."""
    require_extra("the figure vit-sparsity", "torch", "sklearn.datasets")
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = torch.tensor(loaded.images / 16, dtype=torch.float32)
    labels = torch.tensor(loaded.target)
    runs = []
    with task.bar(task["seeds"], "seeds") as advance:
        for seed in range(task["seeds"]):
            runs.append(_train(task, seed, images, labels))
            advance(1, f"seed {seed}")
    names = ("sparsity", "fro_norm", "margin_ratio")
    data: Data = {name: np.stack([run[name] for run in runs]) for name in names}
    data["accuracy"] = np.array([run["accuracy"] for run in runs])
    data["epochs"] = np.array(task["epochs"])
    _check(task, data)
    return data


def _train(task: Task, seed: int, images: torch.Tensor, labels: torch.Tensor) -> Data:
    """Return records (epochs, layers), means over heads, and the accuracy on unseen images."""
    cross_entropy = torch.nn.functional.cross_entropy
    with one_thread(), torch.random.fork_rng([]):
        torch.manual_seed(seed)
        order = torch.randperm(len(images))
        fit, unseen = order[task["tested_on"] :], order[: task["tested_on"]]
        watched_on = unseen[: task["watched_on"]]
        model = ImageTransformer(8, classes=10, **task["model"])
        optimizer = torch.optim.AdamW(model.parameters(), task["lr"])
        watch = Watch(model, every=1, positions=0, norms=())
        for epoch in range(task["epochs"][-1] + 1):
            if epoch in task["epochs"]:
                watch(epoch, images[watched_on])
            for batch in fit[torch.randperm(len(fit))].split(task["batch_size"]):
                optimizer.zero_grad()
                cross_entropy(model(images[batch]), labels[batch]).backward()
                optimizer.step()
        with torch.no_grad():
            right = model(images[unseen]).argmax(dim=-1) == labels[unseen]
    heads = watch.dataset.mean("head")
    end = inspect(model, images[watched_on], positions=0, norms="nuc", max_inputs=32)
    return {
        "sparsity": heads.sparsity.to_numpy(),
        "fro_norm": heads.fro_norm.to_numpy(),
        "margin_ratio": end.margin_ratio.isel(norm=0).mean("head").to_numpy(),
        "accuracy": float(right.double().mean()),
    }


def _check(task: Task, data: Data) -> None:
    sparsity, norm = data["sparsity"], data["fro_norm"]
    layers = ["layer 1", "layer 2"]
    task.check("sparsity", (sparsity[:, -1] / sparsity[:, 0]).max(axis=0), at=layers)
    task.check("norm", (norm[:, -1] / norm[:, 0]).min(axis=0), at=layers)
    task.check("together", _agreement(sparsity, norm), at=layers)
    task.check("accuracy", data["accuracy"].min())
    tokens = ", ".join(f"{s:.1f} to {e:.1f}" for s, e in sparsity[:, [0, -1]].mean(axis=0).T)
    sizes = ", ".join(f"{s:.2f} to {e:.2f}" for s, e in norm[:, [0, -1]].mean(axis=0).T)
    ratio = ", ".join(f"{r:.3f}" for r in data["margin_ratio"].mean(axis=0))
    task.notes.append(
        f"Means over heads and seeds, by layer: effective number of tokens {tokens} of 17; |W|_F "
        f"{sizes}; margin ratio in the nuclear norm at the end {ratio}. Theory says of one layer "
        "that the ratio tends to 1; here, where W and all other weights are trained for a finite "
        "time, the selection is far from that of largest margin."
    )


def _agreement(sparsity: Array, norm: Array) -> Array:
    """Compute the correlation of the steps of both along epochs, by layer; mean over seeds."""
    both = [
        [np.corrcoef(s, n)[0, 1] for s, n in zip(one.T, other.T, strict=True)]
        for one, other in zip(sparsity, norm, strict=True)
    ]
    return np.asarray(np.mean(both, axis=0))


def draw(canvas: Canvas, data: Data) -> None:
    """Plot sparsity and norm along the epochs, and one against the other."""
    along, size, against = canvas.subplots(1, 3)
    epochs = data["epochs"]
    for k, colour in enumerate(_COLOURS):
        band(along, epochs, data["sparsity"][..., k], colour, f"layer {k + 1}", within=(1, 17))
        band(size, epochs, data["fro_norm"][..., k], colour, within=(0, np.inf))
        for norms, tokens in zip(data["fro_norm"][..., k], data["sparsity"][..., k], strict=True):
            against.plot(norms, tokens, color=colour, linewidth=0.8)
            against.plot(norms[-1], tokens[-1], "o", color=colour, markersize=2.5)
    along.set(title="(a) effective number of tokens", xlabel="epoch")
    size.set(title=r"(b) norm $\|W\|_F$", xlabel="epoch")
    against.set(title="(c) tokens against norm", xlabel=r"$\|W\|_F$")
    for axes in (along, size):
        axes.set_xscale("symlog", linthresh=1)
    against.plot([], [], "o", color=INK, markersize=2.5, label="end of a run")
    against.legend()
    band_in_legend(along, "± 1 std")
    along.legend()
