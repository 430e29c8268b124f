"""AttentionData: what it takes, what it keeps, and what it never copies."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm.data import AttentionData, NextTokenData
from attsvm.datasets import unit_sphere

FIELDS = ("tokens", "labels", "queries", "value", "lengths")
n, T, d, B = 3, 4, 2, 5


def plain(lead: tuple[int, ...] = (), dtype: type = np.float64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "tokens": rng.integers(-4, 5, (*lead, n, T, d)).astype(dtype),
        "labels": rng.choice((-1, 1), (*lead, n)).astype(dtype),
        "queries": rng.integers(-4, 5, (*lead, n, d)).astype(dtype),
        "value": rng.integers(-4, 5, (*lead, d)).astype(dtype),
        "lengths": rng.integers(1, T + 1, (*lead, n)),
    }


def assert_same(first: AttentionData, second: AttentionData) -> None:
    for name in FIELDS:
        a, b = getattr(first, name), getattr(second, name)
        if a is None or b is None:
            assert a is b, name
        else:
            np.testing.assert_array_equal(a, b, strict=True, err_msg=name)


class HasArray:
    """What a tensor of another library looks like to NumPy."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.array, dtype=dtype)


class HasDLPack:
    """What a tensor without NumPy support looks like."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: object) -> object:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def strided(array: np.ndarray) -> np.ndarray:
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), dtype=array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def fortran(array: np.ndarray) -> np.ndarray:
    return np.asfortranarray(array)


def swapped(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("S"))


def unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, dtype=np.uint8)
    shifted = raw[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    assert not shifted.flags.aligned
    return shifted


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def whole_numbers(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int16)


@pytest.mark.parametrize("lead", [(), (B,)])
@pytest.mark.parametrize(
    "form",
    [
        np.ndarray.tolist,
        HasArray,
        HasDLPack,
        strided,
        fortran,
        swapped,
        unaligned,
        read_only,
        whole_numbers,
    ],
)
def test_every_form_of_the_same_numbers_is_the_same_problem(form, lead):
    arrays = plain(lead)
    expected = AttentionData(**arrays)
    assert_same(AttentionData(**{name: form(array) for name, array in arrays.items()}), expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("lead", [(), (B,)])
def test_contiguous_arrays_are_kept_as_views_of_the_callers_memory(lead, dtype):
    arrays = plain(lead, dtype)
    data = AttentionData(**arrays)
    for name in ("tokens", "labels", "queries", "value"):
        assert np.shares_memory(getattr(data, name), arrays[name]), name
        assert arrays[name].flags.writeable


def test_indices_stay_what_was_checked():
    arrays = plain() | {"sequence": np.arange(n)}
    data = AttentionData(**arrays)
    contexts = np.zeros((2, 3), dtype=np.int64)
    table = NextTokenData(np.eye(3), contexts, [0, 0])
    for name in ("lengths", "sequence"):
        before = getattr(data, name).copy()
        arrays[name][...] = 10**9
        assert np.array_equal(getattr(data, name), before), name
    contexts[...] = 10**9
    assert not table.contexts.any()
    copied = AttentionData(**{**arrays, "lengths": data.lengths, "sequence": data.sequence})
    assert np.shares_memory(copied.lengths, data.lengths)  # nobody can write to it
    assert np.shares_memory(copied.sequence, data.sequence)


@pytest.mark.parametrize("number", [1e-300, -1e300])
def test_numbers_that_the_type_of_the_tokens_cannot_hold_are_refused(number):
    tokens = np.ones((1, 2, 2), dtype=np.float32)
    queries = np.array([[0.0, number]])
    message = rf"^queries: expected numbers that float32 can hold, got {number:g} at \[0, 1\]$"
    with pytest.raises(ValueError, match=message.replace("+", r"\+")):
        AttentionData(tokens, [1], queries=queries)
    assert AttentionData(tokens.astype(float), [1], queries=queries).queries[0, 1] == number


@pytest.mark.parametrize("nest", [list, tuple, lambda rows: [list(rows)]])
def test_masked_arrays_inside_lists_are_refused(nest):
    rows = np.ma.masked_greater(np.ones((2, 3, 4)), 0.5)
    with pytest.raises(TypeError, match=r"^tokens: expected a plain array, got a masked array$"):
        AttentionData(nest(rows), [1, -1])


def test_another_value_head_leaves_the_rest_of_the_problem():
    data = AttentionData(**plain((B,)))
    other = data.with_value(np.arange(float(d)))
    assert np.shares_memory(other.tokens, data.tokens)
    assert other.value.tolist() == [list(range(d))] * B
    assert_same(other.with_value(data.value), data)


@pytest.mark.parametrize("lead", [(), (B,)])
def test_a_problem_with_its_batch_axis_is_a_batch_of_one(lead):
    data = AttentionData(**plain(lead))
    batch = data.batched()
    assert batch.batch == (B if lead else 1)
    assert np.shares_memory(batch.tokens, data.tokens)
    assert_same(batch.problem(0), data.problem(0) if lead else data)
    if not lead:
        assert data.repeated(3).batch == 3
        with pytest.raises(ValueError, match=r"^data: expected one problem, got a batch of 1$"):
            batch.repeated(2)
        assert_same(data.repeated(3).problem(2), data)


def test_fields_are_contiguous_and_cannot_be_changed():
    data = AttentionData(**plain((B,)))
    for name in FIELDS:
        array = getattr(data, name)
        assert array.flags.c_contiguous
        assert not array.flags.writeable
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(data, name, array)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_type_of_the_tokens_is_the_type_of_the_problem(dtype):
    other = np.float32 if dtype == np.float64 else np.float64
    data = AttentionData(**{**plain((), other), "tokens": plain((), dtype)["tokens"]})
    assert data.dtype == dtype
    for name in FIELDS[:-1]:
        assert getattr(data, name).dtype == dtype, name
    assert data.lengths.dtype == np.int64


def test_sizes_of_one_problem_and_of_a_batch():
    one, many = AttentionData(**plain()), AttentionData(**plain((B,)))
    assert (one.n, one.T, one.d, one.batch) == (n, T, d, None)
    assert (many.n, many.T, many.d, many.batch) == (n, T, d, B)


def test_without_lengths_every_token_is_valid():
    for lead in [(), (B,)]:
        arrays = plain(lead)
        data = AttentionData(arrays["tokens"], arrays["labels"])
        np.testing.assert_array_equal(data.lengths, np.full((*lead, n), T), strict=True)
        assert data.valid.shape == (*lead, n, T)
        assert data.valid.all()
        assert data.queries is None
        assert data.value is None


def test_valid_marks_the_first_tokens_of_each_sequence():
    data = AttentionData(np.zeros((3, 4, 2)), [1, -1, 1], lengths=[1, 4, 2])
    np.testing.assert_array_equal(data.valid, [[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]])


def test_one_value_serves_every_problem_of_a_batch():
    arrays = plain((B,))
    data = AttentionData(arrays["tokens"], arrays["labels"], value=[1.0, -2.0])
    np.testing.assert_array_equal(data.value, np.tile([1.0, -2.0], (B, 1)), strict=True)
    assert data.value.flags.c_contiguous


@given(lead=st.integers(1, 4), seed=st.integers(0, 99), full=st.booleans())
def test_the_problems_of_a_batch_are_its_slices(lead, seed, full):
    rng = np.random.default_rng(seed)
    arrays = {
        "tokens": rng.standard_normal((lead, n, T, d)),
        "labels": rng.choice((-1, 1), (lead, n)),
        "queries": rng.standard_normal((lead, n, d)) if full else None,
        "value": rng.standard_normal((lead, d)) if full else None,
        "lengths": rng.integers(1, T + 1, (lead, n)) if full else None,
    }
    data = AttentionData(**arrays)
    problems = list(data.problems())
    assert len(problems) == lead
    for b, problem in enumerate(problems):
        parts = {name: None if array is None else array[b] for name, array in arrays.items()}
        assert_same(problem, AttentionData(**parts))
        assert_same(problem, data.problem(b - lead))
        assert problem.batch is None
        assert np.shares_memory(problem.tokens, data.tokens)
        assert not problem.tokens.flags.writeable


def test_problems_that_are_not_there_are_not_taken():
    data = unit_sphere(2, 3, 4, batch=3, rng=0)
    assert_same(data.take([2, 2]).problem(1), data.problem(2))
    with pytest.raises(ValueError, match=r"^problems: expected 0..2, got 3 at \[1\]$"):
        data.take([0, 3])
    with pytest.raises(TypeError, match=r"^problems: expected integers"):
        data.take([0.5])
    with pytest.raises(ValueError, match=r"^problems: expected data with a batch axis"):
        data.problem(0).take([0])


def test_one_problem_is_its_own_only_problem():
    data = AttentionData(**plain())
    assert list(data.problems()) == [data]


@pytest.mark.parametrize(
    "form", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))]
)
@pytest.mark.parametrize("lead", [(), (B,)])
def test_copies_and_pickles_are_the_same_and_stay_read_only(form, lead):
    arrays = plain(lead)
    for data in [AttentionData(**arrays), AttentionData(arrays["tokens"], arrays["labels"])]:
        again = form(data)
        assert_same(again, data)
        assert not again.tokens.flags.writeable


def test_replace_checks_like_the_constructor():
    data = AttentionData(**plain())
    flipped = dataclasses.replace(data, labels=-data.labels)
    np.testing.assert_array_equal(flipped.labels, -data.labels)
    assert flipped.tokens is not None
    assert np.shares_memory(flipped.tokens, data.tokens)
    with pytest.raises(ValueError, match=r"^labels: "):
        dataclasses.replace(data, labels=2 * data.labels)


def test_repr_says_sizes_type_and_what_is_there():
    ones = {"tokens": np.ones((6, 8, 10)), "labels": np.ones(6)}
    assert repr(AttentionData(**ones)) == "AttentionData(n=6, T=8, d=10, dtype=float64)"
    full = AttentionData(
        np.ones((2, 3, 4, 5), dtype=np.float32),
        np.ones((2, 3)),
        queries=np.ones((2, 3, 5)),
        value=np.ones(5),
        lengths=[[2, 3, 4], [4, 4, 4]],
    )
    assert repr(full) == (
        "AttentionData(batch=2, n=3, T=4, d=5, dtype=float32, lengths 2..4, with queries and value)"
    )


@given(at=st.integers(0, 3 * 70_000 - 1), bad=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_one_number_that_is_not_finite_is_found_wherever_it_is(at, bad):
    tokens = np.zeros((3, 7_000, 10))
    tokens.reshape(-1)[at] = bad
    where = ", ".join(str(i) for i in np.unravel_index(at, tokens.shape))
    with pytest.raises(ValueError, match=rf"^tokens: expected finite .* got {bad} at \[{where}\]$"):
        AttentionData(tokens, np.ones(3))


def test_the_door_allocates_next_to_nothing():
    tokens, labels = np.zeros((4, 1024, 1024)), np.ones(4)
    tracemalloc.start()
    try:
        AttentionData(tokens, labels)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < tokens.nbytes / 50


def test_more_than_2_to_the_31_numbers_are_read_to_the_last():
    tokens = np.zeros((2, 2**15, 2**15 + 1), dtype=np.float32)
    data = AttentionData(tokens, [1, -1])
    assert np.shares_memory(data.tokens, tokens)
    tokens[-1, -1, -1] = np.nan
    with pytest.raises(ValueError, match=rf"got nan at \[1, {2**15 - 1}, {2**15}\]"):
        AttentionData(tokens, [1, -1])


def test_a_subset_of_a_batch_holds_those_problems():
    rng = np.random.default_rng(3)
    data = AttentionData(rng.standard_normal((4, 2, 3, 5)), np.ones((4, 2)), lengths=[[1, 3]] * 4)
    some = data.subset([False, True, False, True])
    assert some.batch == 2
    assert np.array_equal(some.tokens, data.tokens[[1, 3]])
    assert some.value is None
    for which, message in (
        ([True] * 3, r"which: expected shape \(B,\)"),
        ([False] * 4, "which: expected at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            data.subset(which)
    with pytest.raises(TypeError, match="which: expected bool"):
        data.subset([0, 1, 0, 1])
    with pytest.raises(ValueError, match="which: expected data with a batch axis"):
        data.problem(0).subset([True])
