"""Measurements of the attention heads of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from attsvm._arrays import Float64Array
from attsvm._linalg import LowRank, own_coordinates
from attsvm._validation import as_choice, as_nonnegative_int, as_positive_float
from attsvm.extras import require_extra
from attsvm.theory import effective_rank, rank, sparsity
from attsvm.threads import takes_threads
from attsvm.torch.call import Adapter
from attsvm.torch.layer import AttentionLayer, Positions
from attsvm.torch.margins import head_svms
from attsvm.torch.quantities import QUANTITIES
from attsvm.torch.reading import Loss, read

if TYPE_CHECKING:
    import xarray as xr


Values = dict[str, Any]


@takes_threads
def inspect(
    model: torch.nn.Module,
    batch: Any,
    loss: Loss | None = None,
    layers: str | int | Sequence[str | int] | None = None,
    positions: Positions = "all",
    max_inputs: int = 1000,
    *,
    norms: str | Sequence[str] = ("fro", "nuc"),
    max_constraints: int = 1000,
    steps: int = 0,
    tolerance: float = 0.01,
    adapters: Mapping[Any, Adapter] | None = None,
    rng: int = 0,
    num_threads: int | None = None,
) -> xr.Dataset:
    """Measure every attention head of a model on a batch: selection, norms, scores, and the SVM.

    The model runs once, forward, and where a `loss` is given backward. An input is a pair of a
    sample of the batch and a query position in it. Scores and soft sparsity are those of
    "Max-Margin Token Selection", the SVM and local optimality of "Transformers as Support Vector
    Machines".

    Parameters
    ----------
    model : torch.nn.Module
        With layers of `torch.nn.MultiheadAttention` (as in `torch.nn.TransformerEncoderLayer`), of
        the BERT, ViT or GPT-2 of Hugging Face transformers, of `Attention`, or of a class among
        the `adapters`.
    batch : Tensor, tuple or mapping
        What the model is called with: one tensor, several arguments, or arguments by name.
    loss : callable, optional
        Takes the output of the model, returns a tensor with one number. Without it there are no
        scores, nor what depends on them.
    layers : str, int or sequence of them, optional
        Names of modules, or their places among the layers found; all by default.
    positions : {"all", "last"}, int or callable
        Query positions: all, the last of every sample, one of every sample (0 is a class token), or
        those of a function from bools (B, L), True where a position is no padding, to bools.
    max_inputs : int
        If there are more inputs, so many are drawn, the same in all layers of equal lengths.
    norms : {"fro", "nuc"} or sequence of them
        Of the SVMs; an empty one for none, which is faster.
    max_constraints : int
        SVMs with at most so many constraints, Σ_i (T_i - 1), are solved; others are bounded, by
        weak duality with the attention weights as multipliers.
    steps, tolerance : int, float
        Of an ascent from these multipliers, in which both bounds of |W^mm|_F approach, until their
        relative distance is the tolerance.
    adapters : mapping of type to callable, optional
        Readers of further layers, by their class: see `AttentionCall`.
    rng : int
        Seed of the draw of inputs.
    num_threads : int, optional
        Threads of the core, as in `attsvm.train`; PyTorch has threads of its own.

    Returns
    -------
    xarray.Dataset
        With dimensions layer, head, input and norm. The ``long_name`` and ``formula`` of every
        variable are in its ``attrs``. Coordinates ``sample`` and ``position`` say which input is
        which. NaN, False, 0 or -1 stand where a layer has fewer heads or inputs than others, and
        NaN where a quantity does not exist, as the margin ratio of tokens that nothing separates.

    Raises
    ------
    ValueError
        A layer cannot be read: its logits are no bilinear form of its tokens (rotary positions, a
        bias by position), or what was read gives another output than the layer itself, which is
        checked in every call.

    Notes
    -----
    Everything is computed in float64 from the tokens that the layer gets, after a layer norm where
    one comes before it. The model is set to evaluation meanwhile; its modes, hooks, buffers,
    gradients and random generators are afterwards as before, also after an error.

    Examples
    --------
    >>> import torch
    >>> from attsvm.torch import inspect
    >>> layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    >>> x = torch.randn(4, 6, 16)
    >>> heads = inspect(layer, x, loss=lambda output: output.square().mean())
    >>> dict(heads.sizes)
    {'layer': 1, 'head': 2, 'input': 24, 'norm': 2}
    >>> heads.sparsity.attrs["formula"]
    '|s_i|_1² / |s_i|_2², from 1 to T_i'
    >>> bool((heads.margin_ratio <= 1).all())
    True
    """
    require_extra("attsvm.torch.inspect", "torch", "xarray")
    asked = (norms,) if isinstance(norms, str) else norms
    chosen = tuple(as_choice("norms", norm, ("fro", "nuc")) for norm in asked)
    options = {
        "max_constraints": as_nonnegative_int("max_constraints", max_constraints),
        "steps": as_nonnegative_int("steps", steps),
        "tolerance": as_positive_float("tolerance", tolerance),
    }
    found = read(
        model,
        batch,
        loss,
        layers=layers,
        positions=positions,
        max_inputs=max_inputs,
        adapters=adapters,
        rng=rng,
    )
    return _dataset(found, chosen, [measured(layer, chosen, **options) for layer in found])


def measured(layer: AttentionLayer, norms: Sequence[str], **options: Any) -> Values:
    """Measure the heads of a layer: arrays of the `QUANTITIES`, without the axis of layers."""
    logs = layer.log_attention
    attention = layer.attention
    values: Values = {
        "tokens": layer.attended.sum(axis=-1),
        "entropy": -np.sum(attention * np.where(layer.attended, logs, 0.0), axis=-1),
        "sparsity": sparsity(attention),
        "largest_weight": attention.max(axis=-1),
        "selected": layer.selected,
        "logit_gap": layer.margins.min(axis=-1),
        "constraints": (layer.attended.sum(axis=-1) - 1).sum(axis=-1),
        **_of_weights(layer),
    }
    if layer.scores is not None:
        best = layer.scores.max(axis=-1)
        chosen = np.take_along_axis(layer.scores, layer.selected[..., np.newaxis], axis=-1)[..., 0]
        values |= {"score": chosen, "best_score": best, "global": chosen == best}
        values["global_share"] = values["global"].mean(axis=-1)
    if norms:
        values |= _of_svms(layer, norms, **options)
    return values


def _of_weights(layer: AttentionLayer) -> Values:
    rows = LowRank(layer.left, layer.right).compact()
    core = own_coordinates(rows)  # no longer than wide: three SVDs of it follow
    singular = np.linalg.svd(core, compute_uv=False)
    return {
        "fro_norm": np.sqrt(np.square(singular).sum(axis=-1)),
        "nuc_norm": singular.sum(axis=-1),
        "spec_norm": singular[:, 0],
        "rank": rank(core),
        "effective_rank": effective_rank(core),
    }


def _of_svms(layer: AttentionLayer, norms: Sequence[str], **options: Any) -> Values:
    heads = [head_svms(layer, head, norms, **options) for head in range(layer.heads)]

    def each(name: str) -> Any:
        return np.array([[getattr(of[norm], name) for norm in norms] for of in heads])

    values = {f"svm_{name}": each(name) for name in ("status", "norm", "norm_upper", "gap")}
    values |= {name: each(name) for name in ("margin_ratio", "margin_ratio_upper", "cosine")}
    values["soft_penalty"] = each("penalty")
    supports = [[of[norm].support for norm in norms] for of in heads]
    counts = [[np.nan if s is None else s.sum() for s in row] for row in supports]
    values["support_vectors"] = np.array(counts, dtype=np.float64)
    if layer.scores is not None:
        local = np.zeros((layer.heads, len(norms), len(layer.sample)), dtype=np.bool_)
        share = np.full(local.shape[:2], np.nan)
        for head, row in enumerate(supports):
            gamma = layer.scores[head]
            chosen = np.take_along_axis(gamma, layer.selected[head][:, np.newaxis], axis=-1)
            for k, support in enumerate(row):
                if support is not None:
                    local[head, k] = ((chosen > gamma) | ~support).all(axis=-1)
                    share[head, k] = local[head, k].mean()
        values |= {"local": local, "local_share": share}
    return values


def _dataset(
    layers: Sequence[AttentionLayer], norms: Sequence[str], values: Sequence[Values]
) -> xr.Dataset:
    import xarray as xr

    sizes = {
        "head": max(layer.heads for layer in layers),
        "input": max(len(layer.sample) for layer in layers),
        "norm": len(norms),
    }
    variables: dict[str, Any] = {}
    for name, quantity in QUANTITIES.items():
        if name not in values[0]:
            continue
        arrays = [
            _padded(of[name], [sizes[dim] for dim in quantity.dims[1:]], quantity.missing)
            for of in values
        ]
        attrs = {"long_name": quantity.long_name, "formula": quantity.formula}
        variables[name] = (quantity.dims, np.stack(arrays), attrs)
    coordinates: dict[str, Any] = {"layer": [layer.name for layer in layers]}
    if norms:
        coordinates["norm"] = list(norms)
    for name, text in (("sample", "sample of the batch"), ("position", "query position")):
        rows = [_padded(getattr(layer, name), [sizes["input"]], -1) for layer in layers]
        coordinates[name] = (("layer", "input"), np.stack(rows), {"long_name": text})
    return xr.Dataset(variables, coordinates)


def _padded(array: Any, shape: Sequence[int], missing: Any) -> Float64Array:
    """Return an array of this shape, with what is missing beyond the given one."""
    given = np.asarray(array)
    if given.shape == tuple(shape):
        return given
    text = given.dtype.kind == "U"
    kind = given.dtype if text else np.result_type(given.dtype, type(missing))
    padded = np.full(shape, missing, dtype=kind)
    padded[tuple(slice(0, size) for size in given.shape)] = given
    return padded
