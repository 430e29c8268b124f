"""scaled_dot_product_attention with torch's signature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attsvm._arrays import ArrayLike
from attsvm._softmax import softmax
from attsvm._validation import as_bool, as_float, read_array


def scaled_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> NDArray[Any]:
    """Compute softmax(scale query key' + mask) value on NumPy arrays, as `torch.nn.functional`.

    Parameters
    ----------
    query : array_like, shape (..., L, E)
    key : array_like, shape (..., S, E)
    value : array_like, shape (..., S, E')
        All of one type, float16, float32 or float64 (integers become float64); leading axes
        broadcast. float16 is worked in float32.
    attn_mask : array_like, optional
        Broadcasts to (..., L, S). bool: False takes a key out. Floating-point numbers: added to
        the logits.
    dropout_p : float
        0.0. torch draws the weights that it drops from its own generator, which nothing outside of
        it repeats.
    is_causal : bool
        Query l sees the keys 0 to l; without `attn_mask`.
    scale : float, optional
        1 / sqrt(E) by default. The papers' attention has the scale 1.
    enable_gqa : bool
        Axis -3 counts heads, and each head of `key` and `value` serves as many heads of `query` in
        a row as there are to it.

    Returns
    -------
    ndarray, shape (..., L, E')
        0 for a query that sees no key.

    Notes
    -----
    Where torch's kernels differ, this is its math kernel, which torch documents: a mask, the causal
    one too, is -inf added to the logits, NaN where these are NaN or +inf, and what is NaN goes on
    as NaN (its fused CPU kernel makes 0 of it).

    Examples
    --------
    >>> import numpy as np
    >>> from attsvm.functional import scaled_dot_product_attention
    >>> tokens = np.eye(2)
    >>> scaled_dot_product_attention(tokens, tokens, tokens, is_causal=True, scale=np.log(3.0))
    array([[1.  , 0.  ],
           [0.25, 0.75]])
    """
    q, k, v = _of_one_type(query=query, key=key, value=value)
    if as_float("dropout_p", dropout_p) != 0:
        raise ValueError(
            f"dropout_p: expected 0.0, since torch's random draws are its own, got {dropout_p!r}"
        )
    if k.shape[-1] != q.shape[-1]:
        raise ValueError(f"key: expected shape (..., S, {q.shape[-1]}), got {k.shape}")
    if v.shape[-2] != k.shape[-2]:
        raise ValueError(f"value: expected shape (..., {k.shape[-2]}, E'), got {v.shape}")
    if as_bool("enable_gqa", enable_gqa):
        k, v = _for_each_head(q, "key", k), _for_each_head(q, "value", v)
    if as_bool("is_causal", is_causal) and attn_mask is not None:
        raise ValueError("attn_mask: expected None with is_causal=True")
    factor = max(q.shape[-1], 1) ** -0.5 if scale is None else as_float("scale", scale)
    try:
        np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    except ValueError as error:
        raise ValueError(
            "query, key, value: expected leading axes that broadcast, got "
            f"{q.shape}, {k.shape}, {v.shape}"
        ) from error
    own_type = q.dtype
    work = np.promote_types(own_type, np.float32)
    q, k, v = (array.astype(work, copy=False) for array in (q, k, v))
    with np.errstate(invalid="ignore", over="ignore"):  # torch says nothing either
        logits = (q @ np.swapaxes(k, -1, -2)) * work.type(factor)
        if is_causal:
            attn_mask = np.tri(*logits.shape[-2:], dtype=np.bool_)
        if attn_mask is not None:
            logits = _masked(logits, attn_mask)
        mixed: NDArray[Any] = _weights(logits) @ v
        return mixed.astype(own_type, copy=False)


def _of_one_type(**arrays: ArrayLike) -> list[NDArray[Any]]:
    """Check the arrays: two axes or more, and one floating-point type."""
    result: list[NDArray[Any]] = []
    for name, given in arrays.items():
        array = read_array(name, given)
        if array.dtype.kind in "iu":
            array = array.astype(np.float64)
        if array.dtype.kind != "f" or array.dtype.itemsize > 8:
            raise TypeError(f"{name}: expected real numbers, got an array of dtype {array.dtype}")
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if result and array.dtype != result[0].dtype:
            raise TypeError(f"{name}: expected dtype {result[0].dtype} of query, got {array.dtype}")
        if array.ndim < 2:
            raise ValueError(f"{name}: expected two axes or more, got shape {array.shape}")
        result.append(array)
    return result


def _for_each_head(query: NDArray[Any], name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Repeat each head of `array` until there are as many as of queries."""
    if query.ndim < 3 or array.ndim < 3:
        raise ValueError(f"{name}: expected an axis of heads, got shape {array.shape}")
    heads, own = query.shape[-3], array.shape[-3]
    if own == 0 or heads % own:
        raise ValueError(f"{name}: expected a number of heads that divides {heads}, got {own}")
    return np.asarray(np.repeat(array, heads // own, axis=-3))


def _masked(logits: NDArray[Any], attn_mask: ArrayLike) -> NDArray[Any]:
    mask = read_array("attn_mask", attn_mask)
    if mask.dtype.kind not in "bf":
        raise TypeError(f"attn_mask: expected bool or floating-point numbers, got {mask.dtype}")
    try:
        fits = np.broadcast_shapes(mask.shape, logits.shape) == logits.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"attn_mask: expected a shape that broadcasts to (..., L, S) = {logits.shape}, "
            f"got {mask.shape}"
        )
    if mask.dtype.kind == "b":
        mask = np.where(mask, 0.0, -np.inf)
    return np.asarray(np.add(logits, mask.astype(logits.dtype, copy=False)))


def _weights(logits: NDArray[Any]) -> NDArray[Any]:
    """Compute the softmax over the last axis; 0 throughout where every logit is -inf."""
    unseen = np.isneginf(logits).all(axis=-1, keepdims=True)
    weights: NDArray[Any] = logits if logits.size == 0 else softmax(logits, -1)
    weights[np.broadcast_to(unseen, weights.shape)] = 0
    return weights
