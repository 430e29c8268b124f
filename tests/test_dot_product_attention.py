"""scaled_dot_product_attention is a drop-in for torch's."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from attsvm.functional import scaled_dot_product_attention, softmax

try:
    import torch
except ImportError:
    torch = None

beside_torch = pytest.mark.skipif(torch is None, reason="torch is not installed (NEIGHBOURS)")
inf, nan = np.inf, np.nan


def drawn(*shapes, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def qkv(L=4, S=6, dtype=np.float64):
    return drawn((2, 3, L, 5), (2, 3, S, 5), (2, 3, S, 7), dtype=dtype)


def assert_like_torch(q, k, v, attn_mask=None, rtol=1e-13, **options):
    result = scaled_dot_product_attention(q, k, v, attn_mask, **options)
    tensors = [None if x is None else torch.tensor(x) for x in (q, k, v, attn_mask)]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = torch.nn.functional.scaled_dot_product_attention(*tensors, **options).numpy()
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=rtol, atol=rtol)


MASK = np.random.default_rng(1).random((4, 6)) > 0.5
MASK[1] = False  # a query that sees nothing
MASK[0] = True
ADDED = np.where(MASK, np.random.default_rng(2).standard_normal((4, 6)), -inf)
MASKS = {
    "none": None,
    "bool": MASK,
    "of the batch": np.stack([MASK, ~MASK])[:, np.newaxis],
    "one row": MASK[2:3],
    "one column": MASK[:, :1],
    "all axes": np.broadcast_to(MASK, (2, 3, 4, 6)),
    "added": ADDED,
    "added float32": ADDED.astype(np.float32),
    "added +inf": np.where(MASK, 0.0, inf),
    "added nan": np.where(MASK, 0.0, nan),
    "added large": np.full((4, 6), -1e308),
}


@beside_torch
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_masks_are_torchs(mask):
    assert_like_torch(*qkv(), mask)


def test_query_that_sees_nothing_gets_zero():
    q, k, v = qkv()
    for mask in (MASK, ADDED):
        mixed = scaled_dot_product_attention(q, k, v, mask)
        assert not mixed[:, :, 1].any()
        assert np.isfinite(mixed).all()


@beside_torch
@pytest.mark.parametrize(("L", "S"), [(4, 6), (6, 4), (1, 5), (5, 1)])
def test_causal_attention_starts_at_the_first_key(L, S):
    assert_like_torch(*qkv(L, S), is_causal=True)


@beside_torch
@pytest.mark.parametrize("causal", [False, True])
def test_fused_kernel_of_torch_gives_the_same(causal):
    """Which torch takes by itself for E = E' and finite numbers."""
    q, k, v = drawn((2, 3, 40, 8), (2, 3, 50, 8), (2, 3, 50, 8))
    tensors = (torch.tensor(x) for x in (q, k, v))
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        expected = torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=causal)
    result = scaled_dot_product_attention(q, k, v, is_causal=causal)
    np.testing.assert_allclose(result, expected.numpy(), rtol=1e-12, atol=1e-14)


@beside_torch
@pytest.mark.parametrize("scale", [None, 1.0, 0.0, -2.0, 1e3])
def test_scale(scale):
    assert_like_torch(*qkv(), scale=scale)


@beside_torch
@pytest.mark.parametrize(
    "shapes",
    [
        ((4, 5), (6, 5), (6, 7)),
        ((3, 4, 5), (3, 6, 5), (3, 6, 7)),
        ((2, 3, 4, 5), (2, 1, 6, 5), (2, 1, 6, 7)),
        ((2, 3, 4, 5), (3, 6, 5), (3, 6, 7)),
        ((1, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)),
        ((2, 3, 0, 5), (2, 3, 6, 5), (2, 3, 6, 7)),
        ((2, 3, 4, 5), (2, 3, 0, 5), (2, 3, 0, 7)),
        ((2, 3, 4, 0), (2, 3, 6, 0), (2, 3, 6, 7)),
        ((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 0)),
        ((0, 3, 4, 5), (0, 3, 6, 5), (0, 3, 6, 7)),
    ],
)
def test_shapes_broadcast_and_may_be_empty(shapes):
    assert_like_torch(*drawn(*shapes))


@beside_torch
@pytest.mark.parametrize("heads", [(6, 3, 3), (6, 1, 1), (6, 3, 1), (4, 4, 2)])
def test_grouped_queries(heads):
    q, k, v = drawn((2, heads[0], 4, 5), (2, heads[1], 6, 5), (2, heads[2], 6, 7))
    assert_like_torch(q, k, v, enable_gqa=True)
    assert_like_torch(q, k, v, MASK, enable_gqa=True)


@beside_torch
@pytest.mark.parametrize("value", [inf, -inf, nan, 1e300])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("mask", [None, MASK], ids=["all seen", "masked"])
def test_values_that_are_not_finite(place, value, mask):
    arrays = qkv()
    arrays[place][0, 1, 2, 3] = value
    assert_like_torch(*arrays, mask)
    if mask is None:
        assert_like_torch(*arrays, is_causal=True)


@beside_torch
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float16, 2e-3)])
def test_shorter_types_are_kept(dtype, rtol):
    assert_like_torch(*qkv(dtype=dtype), rtol=rtol)
    assert_like_torch(*qkv(dtype=dtype), ADDED.astype(dtype), rtol=rtol)


def test_byte_orders_are_no_other_types():
    q, k, v = qkv()
    swapped = scaled_dot_product_attention(q.astype(">f8"), k.astype("<f8"), v.astype(">f8"))
    assert swapped.dtype.isnative
    assert swapped.tolist() == scaled_dot_product_attention(q, k, v).tolist()


@beside_torch
def test_tensors_are_accepted():
    q, k, v = qkv()
    mixed = scaled_dot_product_attention(*(torch.tensor(x) for x in (q, k, v)))
    assert type(mixed) is np.ndarray
    assert mixed.tolist() == scaled_dot_product_attention(q, k, v).tolist()


def relative_errors(result, exact):
    """Entry by entry against mpmath numbers, relative to the largest one."""
    size = max(abs(x) for x in exact.flat)
    return max(
        float(abs(mpmath.mpf(float(a)) - b) / size)
        for a, b in zip(result.flat, exact.flat, strict=True)
    )


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_accurate_against_many_digits(scale):
    q, k, v = drawn((3, 4), (5, 4), (5, 2), seed=3)
    with mpmath.workdps(60):
        Q, K, V = (
            np.vectorize(lambda x: mpmath.mpf(float(x)), otypes=[object])(x) for x in (q, k, v)
        )
        weights = np.vectorize(mpmath.exp, otypes=[object])(scale * Q @ K.T)
        exact = weights @ V / weights.sum(axis=1)[:, np.newaxis]
        ours = relative_errors(scaled_dot_product_attention(q, k, v, scale=scale), exact)
        assert ours < 1e-13
        if torch is not None:
            q, k, v = (torch.tensor(x) for x in (q, k, v))
            theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)
            assert ours <= relative_errors(theirs.numpy(), exact) + 2**-52


def test_is_the_attention_of_the_papers_at_scale_one():
    X, W, z = drawn((1, 6, 4), (4, 4), (1, 1, 4))
    mixed = scaled_dot_product_attention(z @ W.T, X, X, scale=1.0)
    assert mixed[0, 0] == pytest.approx(softmax(X[0] @ W @ z[0, 0]) @ X[0])


@pytest.mark.parametrize(
    ("change", "error", "names"),
    [
        ({"dropout_p": 0.1}, ValueError, "dropout_p: expected 0.0"),
        ({"is_causal": True, "attn_mask": MASK}, ValueError, "attn_mask: expected None"),
        ({"attn_mask": MASK.astype(int)}, TypeError, "attn_mask: expected bool or"),
        ({"attn_mask": MASK[:3]}, ValueError, "attn_mask: expected a shape"),
        ({"attn_mask": np.ones((5, 1, 1, 4, 6))}, ValueError, "attn_mask: expected a shape"),
        ({"key": np.ones((2, 3, 6, 4))}, ValueError, "key: expected shape"),
        ({"value": np.ones((2, 3, 5, 7))}, ValueError, "value: expected shape"),
        ({"key": np.ones((2, 2, 6, 5))}, ValueError, "query, key, value: expected leading"),
        ({"key": np.ones((2, 2, 6, 5)), "enable_gqa": True}, ValueError, "key: expected a number"),
        ({"query": np.ones(5)}, ValueError, "query: expected two axes"),
        ({"query": np.ones((2, 3, 4, 5), dtype=np.float32)}, TypeError, "key: expected dtype"),
        ({"value": np.ones((2, 3, 6, 7), dtype=complex)}, TypeError, "value: expected real"),
        ({"scale": nan}, ValueError, "scale: "),
    ],
)
def test_bad_arguments_are_named(change, error, names):
    q, k, v = qkv()
    with pytest.raises(error, match=f"^{names}"):
        scaled_dot_product_attention(**{"query": q, "key": k, "value": v, **change})
