"""softmax and log_softmax are drop-ins for SciPy's, and no less accurate."""

from __future__ import annotations

import warnings

import mpmath
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attsvm._softmax import logsumexp
from attsvm.functional import log_softmax, softmax

PAIRS = [(softmax, scipy.special.softmax), (log_softmax, scipy.special.log_softmax)]
both = pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=["softmax", "log_softmax"])
inf, nan = np.inf, np.nan


def outcome(function, *arguments, **options):
    """What a call gives, or the kind of its error; and whether it warned of invalid values."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = function(*arguments, **options)
        except (ValueError, TypeError) as error:
            return type(error).__name__, None
    return result, [str(each.message).split(" encountered")[0] for each in caught]


def assert_like(ours, theirs, x, **options):
    (a, warned), (b, theirs_warned) = outcome(ours, x, **options), outcome(theirs, x, **options)
    if isinstance(a, str) or isinstance(b, str):
        assert a == b
        return
    assert type(a) is type(b)
    assert a.dtype == b.dtype
    assert np.shape(a) == np.shape(b)
    eps = np.finfo(a.dtype).eps
    np.testing.assert_allclose(a, b, rtol=8 * eps, atol=8 * eps)
    assert warned == theirs_warned


EDGES = {
    "a number": 5.0,
    "an int": 5,
    "one": [3.0],
    "two": [1.0, -2.0],
    "no axis": np.array(0.5),
    "-inf": [-inf, 0.0],
    "all -inf": [-inf, -inf],
    "-inf number": -inf,
    "+inf": [inf, 0.0],
    "two +inf": [inf, inf],
    "+inf and -inf": [inf, -inf, 0.0],
    "nan": [nan, 0.0, 1.0],
    "nan and inf": [nan, inf],
    "large": [1e308, -1e308, 0.0],
    "ties": [2.0, 2.0, 2.0, 1.0],
    "small": [5e-324, 0.0],
    "float16": np.array([1, 2, 3], dtype=np.float16),
    "float32": np.array([1, 2, 30], dtype=np.float32),
    "longdouble": np.array([1, 2, 3], dtype=np.longdouble),
    "integers": np.arange(6).reshape(2, 3),
    "complex": np.array([1 + 2j, 1 - 2j, 0.5j]),
    "complex64": np.array([1 + 2j, 3], dtype=np.complex64),
    "nothing": [],
    "no rows": np.ones((0, 3)),
    "strided": np.arange(24.0).reshape(2, 3, 4)[:, ::2, ::-1],
    "big-endian": np.array([1.0, 2.0], dtype=">f8"),
}


@both
@pytest.mark.parametrize("x", EDGES.values(), ids=EDGES)
def test_edges_are_those_of_scipy(ours, theirs, x):
    assert_like(ours, theirs, x)


@both
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -3, (0, 1), (-1, 0), (0, 1, 2), (), 3, (1, 1)])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 0, 4), (1, 1, 1)])
def test_axes_are_those_of_scipy(ours, theirs, axis, shape):
    x = np.random.default_rng(0).standard_normal(shape)
    assert_like(ours, theirs, x, axis=axis)


numbers = arrays.arrays(
    np.float64, arrays.array_shapes(max_dims=3, max_side=4), elements=st.floats(-1e300, 1e300)
)


@both
@given(x=numbers, data=st.data())
def test_numbers_are_those_of_scipy(ours, theirs, x, data):
    axis = data.draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    assert_like(ours, theirs, x, axis=axis)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int8])
def test_short_and_unsigned_integers_do_not_wrap(dtype):
    """SciPy subtracts the largest in the type of the integers."""
    x = np.array([0, 100, 101], dtype=dtype)
    assert softmax(x).tolist() == scipy.special.softmax(x.astype(float)).tolist()
    assert log_softmax(x) == pytest.approx(scipy.special.log_softmax(x.astype(float)), rel=1e-15)


def worst_relative_errors(function, exact, xs):
    errors = []
    for x, truth in zip(xs, exact, strict=True):
        result = function(x)
        with mpmath.workdps(60):
            errors += [
                float(abs((mpmath.mpf(float(a)) - b) / b))
                for a, b in zip(result, truth, strict=True)
            ]
    return max(errors)


def exact_log_softmax(x):
    with mpmath.workdps(60):
        values = [mpmath.mpf(float(t)) for t in x]
        top = max(range(len(values)), key=values.__getitem__)
        terms = [mpmath.exp(t - values[top]) for t in values]
        rest = mpmath.fsum(term for i, term in enumerate(terms) if i != top)
        return [t - values[top] - mpmath.log1p(rest) for t in values]


def test_as_accurate_as_scipy_or_more():
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal(n) * scale for n in (2, 5, 50) for scale in (1e-8, 1, 10, 200)]
    logs = [exact_log_softmax(x) for x in xs]
    with mpmath.workdps(60):
        weights = [[mpmath.exp(t) for t in row] for row in logs]
    ours = worst_relative_errors(softmax, weights, xs)
    assert ours <= worst_relative_errors(scipy.special.softmax, weights, xs)
    ours = worst_relative_errors(log_softmax, logs, xs)
    assert ours < 1e-14
    assert ours <= worst_relative_errors(scipy.special.log_softmax, logs, xs)


@given(x=numbers.filter(np.size), data=st.data())
def test_log_sum_exps_are_those_of_scipy(x, data):
    axis = data.draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    keepdims = data.draw(st.booleans())
    expected = scipy.special.logsumexp(x, axis=axis, keepdims=keepdims)
    found = logsumexp(x, axis, keepdims=keepdims)
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize(
    ("x", "expected"),
    [([-inf, -inf], -inf), ([0.0, -inf], 0.0), ([inf, 0.0], inf), ([0.0, 0.0, -800.0], np.log(2))],
)
def test_log_sum_exps_of_infinities_and_ties(x, expected):
    assert logsumexp(np.array(x)) == expected


@pytest.mark.parametrize("gap", [1.0, 30.0, 50.0, 300.0, 700.0])
def test_logarithm_of_a_weight_near_one_keeps_its_digits(gap):
    """log softmax = -log1p(e^-gap) of the top one, -gap less that of the other."""
    with mpmath.workdps(400):
        expected = float(-mpmath.log1p(mpmath.exp(-mpmath.mpf(gap))))
    assert log_softmax([0.0, -gap])[0] == pytest.approx(expected, rel=1e-15, abs=0)
    if gap > 40:
        assert scipy.special.log_softmax([0.0, -gap])[0] == 0


class WithArray:
    def __array__(self, dtype=None, copy=None):
        return np.array([1.0, 2.0], dtype=dtype)


class WithDLPack:
    def __dlpack__(self, **options):
        return np.array([1.0, 2.0]).__dlpack__(**options)

    def __dlpack_device__(self):
        return (1, 0)


@pytest.mark.parametrize("x", [WithArray(), WithDLPack()])
@pytest.mark.parametrize("function", [softmax, log_softmax])
def test_arrays_of_other_libraries(function, x):
    assert function(x).tolist() == function([1.0, 2.0]).tolist()


@pytest.mark.parametrize("function", [softmax, log_softmax])
@pytest.mark.parametrize(
    "x",
    [np.ma.array([1.0, 2.0], mask=[0, 1]), [True, False], [None], ["a"], [1, "2"], np.array([{}])],
)
def test_what_holds_no_numbers_is_refused(function, x):
    with pytest.raises(TypeError, match=r"^x: "):
        function(x)


@pytest.mark.parametrize("function", [softmax, log_softmax])
@pytest.mark.parametrize(("shape", "axis"), [((0,), None), ((3, 0), 1), ((0, 3), 0)])
def test_a_sum_over_nothing_is_refused(function, shape, axis):
    with pytest.raises(ValueError, match=r"^x: expected numbers to sum over, got shape \("):
        function(np.ones(shape), axis)


@pytest.mark.parametrize("function", [softmax, log_softmax])
def test_float16_is_summed_in_float32(function):
    """A vocabulary of 128,256 logits: e^3.2 each is beyond what float16 can sum."""
    logits = np.linspace(-3.0, 3.2, 128_256).astype(np.float16)
    got = function(logits)
    exact = function(logits.astype(np.float64))
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, exact, rtol=1e-3, atol=6e-8)
    assert got.any()
