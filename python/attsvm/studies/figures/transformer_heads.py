"""The heads of a causal character model along training with AdamW, Muon and SGD.

What theory proves of one layer, trained for ever, is measured in each head of two layers, trained
for a while: the margin of W over the largest one, and the cosine with the SVM, in two norms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from attsvm.datasets import __file__ as datasets
from attsvm.studies.reproduce.drawing import Canvas, band, band_in_legend, legend_outside
from attsvm.studies.reproduce.figure import Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREEN, ORANGE
from attsvm.torch import Watch
from attsvm.torch.small_models import CharacterTransformer, Muon, one_thread

FIGURE = Figure.of(__name__)
_COLOURS = {"AdamW": BLUE, "Muon": ORANGE, "SGD": GREEN}
_TEXT = Path(datasets).with_name("tutorials.txt")


def compute(task: Task) -> Data:
    """Train with every optimiser from the same start, on the same batches."""
    text = _TEXT.read_text(encoding="utf-8")
    characters = sorted(set(text))
    ids = torch.tensor([characters.index(one) for one in text])
    data: Data = {}
    with task.bar(len(_COLOURS), "optimisers") as advance:
        for optimiser in _COLOURS:
            data[optimiser] = _train(task, optimiser, ids, len(characters))
            advance(1, optimiser)
    _check(task, data)
    return data


def _train(task: Task, optimiser: str, ids: torch.Tensor, characters: int) -> Data:
    """Return the records of all heads, arrays (steps, heads of both layers), and the losses."""
    T, marks = task["model"]["context"], task["marks"]
    draws = torch.Generator().manual_seed(task["seed"])

    def batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        starts = torch.randint(len(ids) - T, (size, 1), generator=draws)
        windows = ids[starts + torch.arange(T + 1)]
        return windows[:, :-1], windows[:, 1:]

    def loss_of(targets: torch.Tensor) -> Any:
        return lambda logits: torch.nn.functional.cross_entropy(logits.mT, targets)

    watched, targets = batch(task["watched_on"])
    with one_thread(), torch.random.fork_rng([]):
        torch.manual_seed(task["seed"])
        model = CharacterTransformer(characters, **task["model"])
        optimizers = _optimizers(task, optimiser, model)
        watch = Watch(model, every=1, norms=("fro", "nuc"), max_inputs=task["inputs"])
        losses = []
        for step in range(marks[-1] + 1):
            if step in marks:
                watch(step, watched, loss_of(targets))
                with torch.no_grad():
                    losses.append(float(loss_of(targets)(model(watched))))
            x, y = batch(task["batch_size"])
            for each in optimizers:
                each.zero_grad()
            loss_of(y)(model(x)).backward()
            for each in optimizers:
                each.step()
    found = watch.dataset.stack(of=("layer", "head"))
    names = ("fro_norm", "sparsity", "global_share")
    record: Data = {name: found[name].to_numpy() for name in names}
    for norm in ("fro", "nuc"):
        one = found.sel(norm=norm)
        for name in ("margin_ratio", "cosine", "svm_gap"):
            record[f"{name} {norm}"] = one[name].transpose("step", "of").to_numpy()
    return {**record, "steps": np.array(marks), "loss": np.array(losses)}


def _optimizers(task: Task, optimiser: str, model: torch.nn.Module) -> list[Any]:
    rates = task["rates"]
    if optimiser == "SGD":
        return [torch.optim.SGD(model.parameters(), rates["SGD"], momentum=0.9)]
    if optimiser == "AdamW":
        return [torch.optim.AdamW(model.parameters(), rates["AdamW"])]
    matrices = {id(x): x for x in model.blocks.parameters() if x.ndim == 2}
    others = [x for x in model.parameters() if id(x) not in matrices]
    adam = torch.optim.AdamW(others, rates["AdamW"])
    return [Muon(matrices.values(), rates["Muon"]), adam]


def _check(task: Task, data: Data) -> None:
    names = list(data)
    ratios = {
        name: np.stack([of["margin_ratio fro"], of["margin_ratio nuc"]])
        for name, of in data.items()
    }
    task.check("ratio", [ratios[name].max() for name in names], at=names)
    task.check(
        "gap",
        [max(of["svm_gap fro"].max(), of["svm_gap nuc"].max()) for of in data.values()],
        at=names,
    )
    for key, record in (("norm", "fro_norm"), ("tokens", "sparsity"), ("cosine", "cosine nuc")):
        ends = [np.median(of[record][-1]) / np.median(of[record][0]) for of in data.values()]
        task.check(key, ends, at=names)
    if task["marks"][-1] >= task["told_apart"]:
        cosines = [
            [np.median(data[name][f"cosine {norm}"][-1]) for norm in ("nuc", "fro")]
            for name in ("AdamW", "SGD")
        ]
        task.check("nuclear", [nuclear / frobenius for nuclear, frobenius in cosines])
    task.check("limit", [np.median(ratios[name][:, -1]) for name in names], at=names)
    for name, of in data.items():
        first, last = (
            ", ".join(
                f"{np.median(of[f'{what} {norm}'][k]):.3f}"
                for what in ("margin_ratio", "cosine")
                for norm in ("fro", "nuc")
            )
            for k in (0, -1)
        )
        task.notes.append(
            f"{name}: loss {of['loss'][0]:.2f} to {of['loss'][-1]:.2f}; medians over heads of the "
            f"margin ratio (Frobenius, nuclear) and the cosine with the SVM (Frobenius, nuclear) "
            f"before: {first}; after: {last}; best token selected in "
            f"{100 * np.median(of['global_share'][-1]):.0f} % of the inputs."
        )


def draw(canvas: Canvas, data: Data) -> None:
    """Plot medians over heads, in the range of all, along the steps."""
    panels = canvas.subplots(2, 2).ravel()
    shown = (
        ("sparsity", "(a) effective number of tokens"),
        ("fro_norm", r"(b) norm $\|W\|_F$"),
        ("margin_ratio nuc", "(c) margin ratio, nuclear norm"),
        ("cosine nuc", "(d) cosine, nuclear-norm SVM"),
    )
    for axes, (name, title) in zip(panels, shown, strict=True):
        for optimiser, record in data.items():
            colour = _COLOURS[optimiser]
            band(axes, record["steps"], record[name].T, colour, optimiser, middle="median")
        axes.set(title=title, xlabel="step")
        axes.set_xscale("symlog", linthresh=10)
    panels[2].set_yscale("log")
    band_in_legend(panels[0], "range of all heads")
    legend_outside(canvas, panels[0], "outside lower center", 4)
