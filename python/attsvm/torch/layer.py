"""An attention layer on sampled inputs: logits, weights, scores, and W of every head in factors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from attsvm._arrays import BoolArray, Float64Array, IndexArray
from attsvm._linalg import LowRank
from attsvm._softmax import log_softmax
from attsvm._validation import as_choice
from attsvm.data import AttentionData
from attsvm.torch.call import AttentionCall, attended

Positions: TypeAlias = 'Literal["all", "last"] | int | Callable[[BoolArray], BoolArray]'


@dataclass(frozen=True, eq=False, repr=False)
class AttentionLayer:
    """The heads of a layer on n inputs: pairs of a sample and a query position in it.

    Attributes
    ----------
    name : str
        Of the module in its model.
    sample, position : ndarray of int64, shape (n,)
        Input i is the position ``position[i]`` of the sample ``sample[i]`` of the batch.
    keys : ndarray, shape (B, T, d)
        Tokens x_t of every sample.
    queries : ndarray, shape (n, d)
        z_i. Keys and queries have zeros as last coordinates where the others have more of them; a
        layer whose queries have a bias has 1 as the last coordinate of every z_i.
    left, right : ndarray, shape (H, m, d)
        W = left' right of every head, so that its logits are x_t' W z_i: 1/√m is in `left`, the
        bias in `right`.
    attended : ndarray of bool, shape (H, n, T)
        Which token which input attends to; False where a mask excludes it.
    logits : ndarray, shape (H, n, T)
        x_t' W z_i, and -inf at masked tokens.
    scores : ndarray, shape (H, n, T), or None
        γ_it = -<∂loss/∂o_i, V x_it> with o_i the mixture of the head, -inf at masked tokens; None
        without a loss.
    """

    name: str
    sample: IndexArray
    position: IndexArray
    keys: Float64Array
    queries: Float64Array
    left: Float64Array
    right: Float64Array
    attended: BoolArray
    logits: Float64Array
    scores: Float64Array | None

    def __repr__(self) -> str:
        H, n, T = self.logits.shape
        return f"AttentionLayer(heads={H}, inputs={n}, tokens={T})"

    @property
    def heads(self) -> int:
        """Number H of heads."""
        return len(self.left)

    @cached_property
    def log_attention(self) -> Float64Array:
        """Logarithms of the softmax weights, (H, n, T); -inf at masked tokens."""
        return np.asarray(log_softmax(self.logits, axis=-1))

    @cached_property
    def attention(self) -> Float64Array:
        """Softmax weights s_it, (H, n, T)."""
        return np.exp(self.log_attention)

    @cached_property
    def selected(self) -> IndexArray:
        """Token α_i of the largest logit, the first of equals, (H, n)."""
        return np.asarray(np.argmax(self.logits, axis=-1), dtype=np.int64)

    @cached_property
    def margins(self) -> Float64Array:
        """(x_iα - x_it)' W z_i, shape (H, n, T); inf at the selected and at masked tokens."""
        largest = np.take_along_axis(self.logits, self.selected[..., np.newaxis], axis=-1)
        margins: Float64Array = largest - self.logits
        np.put_along_axis(margins, self.selected[..., np.newaxis], np.inf, axis=-1)
        return margins

    def weights(self, head: int) -> LowRank:
        """Return W of a head in factors."""
        return LowRank(self.left[head], self.right[head])

    def order(self, head: int) -> IndexArray:
        """Return the tokens of every input in the order of `problem`: those attended to first."""
        return np.argsort(~self.attended[head], axis=-1, kind="stable")

    def problem(self, head: int) -> AttentionData:
        """Return the inputs of a head as a problem with queries, whose labels are all 1.

        A mask that does not leave the first tokens of a sequence puts those it leaves first: token
        t of input i is token ``order(head)[i, t]`` of the layer.
        """
        lengths, order = self.attended[head].sum(axis=-1), self.order(head)
        ones = np.ones(len(self.sample))
        if (order == np.arange(order.shape[1])).all():
            return AttentionData(
                self.keys, ones, queries=self.queries, lengths=lengths, sequence=self.sample
            )
        tokens = self.keys[self.sample[:, np.newaxis], order]
        return AttentionData(tokens, ones, queries=self.queries, lengths=lengths)

    def selected_in_problem(self, head: int) -> IndexArray:
        """Return the selected tokens (n,) of a head as tokens of its `problem`."""
        places = self.order(head) == self.selected[head][:, np.newaxis]
        return np.asarray(np.argmax(places, axis=-1), dtype=np.int64)


def positions_of(positions: Any) -> Callable[[BoolArray], BoolArray]:
    """Return what chooses among the positions (B, L) that are no padding."""
    if callable(positions):
        return lambda real: _of_function(positions, real)
    if isinstance(positions, int | np.integer) and not isinstance(positions, bool):
        return lambda real: _at(int(positions), real)
    as_choice("positions", positions, ("all", "last"))
    return (lambda real: real) if positions == "all" else _last


def _last(real: BoolArray) -> BoolArray:
    last = real.shape[1] - 1 - np.argmax(real[:, ::-1], axis=1)
    return np.asarray(real & (np.arange(real.shape[1]) == last[:, np.newaxis]))


def _at(place: int, real: BoolArray) -> BoolArray:
    L = real.shape[1]
    if not -L <= place < L:
        raise ValueError(f"positions: expected a position of {L}, got {place}")
    return np.asarray(real & (np.arange(L) == place % L))


def _of_function(positions: Callable[[BoolArray], BoolArray], real: BoolArray) -> BoolArray:
    chosen = np.asarray(positions(real.copy()))
    if chosen.dtype != np.bool_ or chosen.shape != real.shape:
        raise ValueError(
            f"positions: expected the function to return bools of shape {real.shape}, got "
            f"{chosen.dtype} {chosen.shape}"
        )
    return chosen & real


def layer_of(
    name: str,
    call: AttentionCall,
    gradient: torch.Tensor | None,
    choose: Callable[[BoolArray], BoolArray],
    most: int,
    rng: int,
) -> AttentionLayer:
    """Evaluate a call at its chosen inputs, at most `most` of them, in float64."""
    allowed = attended(call)
    real = allowed.any(dim=-1).all(dim=1)
    if call.queries is call.keys and call.mask is not None:
        real = real & allowed.any(dim=1).any(dim=1)  # what nothing attends to is padding
    chosen = np.argwhere(choose(real.cpu().numpy()))
    if not len(chosen):
        raise ValueError(f"positions: expected some in layer {name}, got none")
    if len(chosen) > most:
        kept = np.random.default_rng(rng).choice(len(chosen), most, replace=False)
        chosen = chosen[np.sort(kept)]
    sample, position = (np.ascontiguousarray(column, dtype=np.int64) for column in chosen.T)
    place = _Places(sample, position, call.queries.device)

    queries, keys = _float64(call.queries), _float64(call.keys)
    W_Q, W_K, values = (_float64(x) for x in (call.W_Q, call.W_K, call.values))
    z = queries[place.sample, place.position]
    if call.bias is not None:
        z = torch.cat([z, z.new_ones(len(z), 1)], dim=-1)
        W_Q = torch.cat([W_Q, _float64(call.bias)[:, None]], dim=1)
    directions = torch.einsum("nd,hdm->hnm", z, W_Q)
    logits = place.products(directions, torch.einsum("btd,hdm->bhtm", keys, W_K * call.scale))
    mask = allowed[place.sample, :, place.position].transpose(0, 1).expand(logits.shape)
    scores = None
    if gradient is not None:
        of_inputs = _float64(gradient)[place.sample, place.position]
        if call.W_O is None:
            of_mixtures = of_inputs.unflatten(-1, (len(W_Q), -1)).transpose(0, 1)
        else:
            of_mixtures = torch.einsum("no,heo->hne", of_inputs, _float64(call.W_O))
        scores = _array(-place.products(of_mixtures, values).masked_fill(~mask, torch.inf))
    d = max(z.shape[-1], keys.shape[-1])
    layer = AttentionLayer(
        name=name,
        sample=sample,
        position=position,
        keys=_padded(keys, d),
        queries=_padded(z, d),
        left=_padded(W_K.mT * call.scale, d),
        right=_padded(W_Q.mT, d),
        attended=np.asarray(mask.cpu().numpy()),
        logits=_array(logits.masked_fill(~mask, -torch.inf)),
        scores=scores,
    )
    for what in ("keys", "queries", "left", "right"):
        if not np.isfinite(getattr(layer, what)).all():
            raise ValueError(f"model: expected finite tokens and matrices in layer {name}, got NaN")
    return layer


class _Places:
    """Inputs gathered by samples, so that products with their tokens are those of matrices."""

    def __init__(self, sample: IndexArray, position: IndexArray, device: torch.device) -> None:
        counts = np.bincount(sample)
        within = np.arange(len(sample)) - np.repeat(np.cumsum(counts) - counts, counts)
        self.most = int(counts.max())
        self.sample, self.position, self.within = (
            torch.as_tensor(index, device=device) for index in (sample, position, within)
        )

    def products(self, vectors: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Compute <u_hi, x_ht> of vectors (H, n, e) and the tokens (B, H, T, e): (H, n, T)."""
        B, H, _, e = tokens.shape
        gathered = vectors.new_zeros(B, H, self.most, e)
        gathered[self.sample, :, self.within] = vectors.transpose(0, 1)
        products = gathered @ tokens.mT
        return products[self.sample, :, self.within].transpose(0, 1)


def _float64(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in float64, on the CPU where its device has none."""
    device = "cpu" if tensor.device.type == "mps" else tensor.device
    return tensor.to(device=device, dtype=torch.float64)


def _padded(tensor: torch.Tensor, d: int) -> Float64Array:
    return _array(torch.nn.functional.pad(tensor, (0, d - tensor.shape[-1])))


def _array(tensor: torch.Tensor) -> Float64Array:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
