"""Adapters that read the attention layers of torch and of Hugging Face transformers.

They are known by the names of their classes, so that transformers is never imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from inspect import signature
from typing import Any

import torch

from attsvm.torch.call import Adapter, AttentionCall, NotReadableError

_OF_BERT = ("query", "key", "value")
_OF_VIT = ("q_proj", "k_proj", "v_proj", "o_proj")
"""Linear maps of a layer: of queries, keys, values, and of the output if that is no mixture."""


def _by_head(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Cut the matrix (d, H m) of a projection x'A into those of its heads, (H, d, m)."""
    return weight.unflatten(1, (heads, -1)).transpose(0, 1)


def _vectors(tokens: torch.Tensor, weight: torch.Tensor, bias: Any, heads: int) -> torch.Tensor:
    """Return the values (B, H, T, e) of tokens (B, T, d) under x'A + b."""
    values = tokens @ weight if bias is None else tokens @ weight + bias
    return values.unflatten(-1, (heads, -1)).transpose(1, 2)


def _rows(array: Any, heads: int) -> Any:
    """Cut the rows of a bias (H m), or of the output's matrix (H e, d_o), into those of heads."""
    return None if array is None else array.unflatten(0, (heads, -1))


def read_multihead(module: Any, arguments: Mapping[str, Any], output: Any) -> AttentionCall:
    """Read a call of `torch.nn.MultiheadAttention`."""
    if module.bias_k is not None:
        raise NotReadableError("add_bias_kv: a learned key and value are no token of the input")
    if module.add_zero_attn:
        raise NotReadableError("add_zero_attn: a key of zeros is no token of the input")
    tokens = [arguments[name] for name in ("query", "key", "value")]
    if tokens[0].is_nested:
        raise NotReadableError("a nested tensor: pass padded tokens and a mask")
    batched = tokens[0].ndim == 3
    if not batched:
        tokens = [x.unsqueeze(0) for x in tokens]
    elif not module.batch_first:
        tokens = [x.transpose(0, 1) for x in tokens]
    queries, keys, sources = tokens
    H = module.num_heads
    if module.in_proj_weight is None:
        weights = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    else:
        weights = module.in_proj_weight.chunk(3)
    Q, K, V = (weight.mT for weight in weights)
    biases = (None, None, None) if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
    same = arguments["query"] is arguments["key"]
    return AttentionCall(
        queries=queries,
        keys=queries if same else keys,
        W_Q=_by_head(Q, H),
        W_K=_by_head(K, H),
        values=_vectors(sources, V, biases[2], H),
        bias=_rows(biases[0], H),
        scale=module.head_dim**-0.5,
        mask=_multihead_mask(arguments, batched, len(queries), H),
        W_O=_rows(module.out_proj.weight.mT, H),
        bias_O=module.out_proj.bias,
        batch_first=module.batch_first or not batched,
    )


def _multihead_mask(arguments: Mapping[str, Any], batched: bool, B: int, H: int) -> Any:
    """Join both masks, in which True excludes a token."""
    merged = None
    for name in ("attn_mask", "key_padding_mask"):
        mask = arguments[name]
        if mask is None:
            continue
        allowed = ~mask if mask.dtype == torch.bool else mask
        if name == "key_padding_mask":
            allowed = allowed[:, None, None, :] if batched else allowed
        elif allowed.ndim == 3:
            allowed = allowed.unflatten(0, (B, H))
        if merged is None:
            merged = allowed
        elif merged.dtype == allowed.dtype == torch.bool:
            merged = merged & allowed
        else:
            merged = _as_numbers(merged) + _as_numbers(allowed)
    return merged


def _as_numbers(mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask, 0.0, -torch.inf) if mask.dtype == torch.bool else mask


def _transformers_mask(module: Any, mask: Any, queries: Any, keys: Any) -> Any:
    """Return the mask of a layer of transformers; one that is left out may stand for causal."""
    if mask is None:
        L, T = queries.shape[1], keys.shape[1]
        eager = module.config._attn_implementation == "eager"
        if module.is_causal and L > 1 and not eager:
            return torch.ones(L, T, dtype=torch.bool, device=queries.device).tril()
        return None
    if not isinstance(mask, torch.Tensor) or mask.ndim != 4:
        raise NotReadableError(
            "a mask in the form of a fused kernel: load the model with "
            'attn_implementation="sdpa" or "eager"'
        )
    return mask[..., : keys.shape[1]]


def _require_no_past(module: Any, arguments: Mapping[str, Any], keys: torch.Tensor) -> None:
    cache = arguments.get("cache", arguments.get("past_key_values"))
    cache = getattr(cache, "self_attention_cache", cache)
    if cache is not None and cache.get_seq_length(module.layer_idx) != keys.shape[1]:
        raise NotReadableError("keys from a cache, whose tokens are not in the batch")


def _read_linear(
    module: Any, arguments: Mapping[str, Any], output: Any, names: tuple[str, ...]
) -> AttentionCall:
    """Read a call with linear maps of its own, of the given names."""
    queries = keys = arguments["hidden_states"]
    if "Cross" in type(module).__name__:
        keys = arguments["encoder_hidden_states"]
    else:
        _require_no_past(module, arguments, keys)
    query, key, value, *outer = (getattr(module, name) for name in names)
    H = module.num_attention_heads
    return AttentionCall(
        queries=queries,
        keys=keys,
        W_Q=_by_head(query.weight.mT, H),
        W_K=_by_head(key.weight.mT, H),
        values=_vectors(keys, value.weight.mT, value.bias, H),
        bias=_rows(query.bias, H),
        scale=module.scaling,
        mask=_transformers_mask(module, arguments["attention_mask"], queries, keys),
        W_O=_rows(outer[0].weight.mT, H) if outer else None,
        bias_O=outer[0].bias if outer else None,
    )


read_bert: Adapter = partial(_read_linear, names=_OF_BERT)
read_vit: Adapter = partial(_read_linear, names=_OF_VIT)


def read_gpt2(module: Any, arguments: Mapping[str, Any], output: Any) -> AttentionCall:
    """Read a call of GPT-2's attention, whose projections are one matrix (d, 3 d)."""
    queries = keys = arguments["hidden_states"]
    H, E = module.num_heads, module.embed_dim
    weights, biases = module.c_attn.weight, module.c_attn.bias
    if module.is_cross_attention:
        keys, mask = arguments["encoder_hidden_states"], arguments["encoder_attention_mask"]
        Q, b_Q = module.q_attn.weight, module.q_attn.bias
        (K, V), (_, b_V) = weights.split(E, dim=1), biases.split(E)
    else:
        _require_no_past(module, arguments, keys)
        mask = arguments["attention_mask"]
        (Q, K, V), (b_Q, _, b_V) = weights.split(E, dim=1), biases.split(E)
    return AttentionCall(
        queries=queries,
        keys=keys,
        W_Q=_by_head(Q, H),
        W_K=_by_head(K, H),
        values=_vectors(keys, V, b_V, H),
        bias=_rows(b_Q, H),
        scale=module.scaling,
        mask=_transformers_mask(module, mask, queries, keys),
        W_O=_rows(module.c_proj.weight, H),
        bias_O=module.c_proj.bias,
    )


def read_attention(module: Any, arguments: Mapping[str, Any], output: Any) -> AttentionCall:
    """Read a call of `attsvm.torch.Attention`: the head v is its output projection."""
    tokens, queries, lengths = (arguments[name] for name in ("tokens", "queries", "lengths"))
    if tokens.ndim != 3:
        raise NotReadableError("a batch of problems: pass one, with tokens of shape (n, T, d)")
    one = torch.ones(1, 1, dtype=tokens.dtype, device=tokens.device)
    names = [name for name, _ in module.named_parameters()]
    if "p" in names or module.prompt is not None:
        p = module.p if "p" in names else module.W @ module.prompt
        W_Q, W_K, z = one, p.unsqueeze(-1), one.expand(len(tokens), 1)
    else:
        W_K, W_Q = (
            (module.K, module.Q) if "K" in names else (torch.eye(module.d).to(tokens), module.W.mT)
        )
        z = tokens[:, 0] if queries is None else queries
    mask = None
    if lengths is not None:
        mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths.unsqueeze(-1)
        mask = mask[:, None, None, :]
        tokens = tokens.masked_fill(~mask[:, 0, 0, :, None], 0.0)
    return AttentionCall(
        queries=z.unsqueeze(1),
        keys=tokens,
        W_Q=W_Q.unsqueeze(0),
        W_K=W_K.unsqueeze(0),
        values=tokens.unsqueeze(1),
        mask=mask,
        W_O=module.v.view(1, -1, 1),
    )


ADAPTERS: dict[str, Adapter] = {
    "torch.nn.modules.activation.MultiheadAttention": read_multihead,
    "transformers.models.bert.modeling_bert.BertSelfAttention": read_bert,
    "transformers.models.bert.modeling_bert.BertCrossAttention": read_bert,
    "transformers.models.vit.modeling_vit.ViTAttention": read_vit,
    "transformers.models.gpt2.modeling_gpt2.GPT2Attention": read_gpt2,
    "attsvm.torch.module.Attention": read_attention,
}
"""By the full name of a class; its subclasses are read alike."""


def looks_like_attention(module: torch.nn.Module) -> bool:
    """Return whether a class without an adapter is named as attention and has projections."""
    return "attention" in type(module).__name__.lower() and any(
        isinstance(child, torch.nn.Linear) for child in module.children()
    )


def adapter_of_kin(module: torch.nn.Module) -> Adapter | None:
    """Return the adapter of a layer of transformers that is made as that of BERT or of ViT.

    That it also computes alike is checked in every call.
    """
    if not type(module).__module__.startswith("transformers.models."):
        return None
    for adapter, names in ((read_bert, _OF_BERT), (read_vit, _OF_VIT)):
        linear = all(isinstance(getattr(module, name, None), torch.nn.Linear) for name in names)
        if linear and hasattr(module, "num_attention_heads") and hasattr(module, "scaling"):
            return adapter
    return None


def not_bilinear(module: torch.nn.Module) -> str:
    """Return why the logits of a layer are not x'Wz, or nothing if that is not known."""
    rotary = any("rotary" in name for name, _ in module.named_modules())
    if rotary or "position_embeddings" in signature(module.forward).parameters:
        return (
            "rotary positions turn queries and keys, so that the logits are x_t' W(i - t) z_i with "
            "another matrix for each distance, and no bilinear form of the tokens"
        )
    return ""
