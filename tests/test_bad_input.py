"""Everything a caller can get wrong either works or gives an error that names the argument.

A case is a call, the kind of error it raises and how the message starts. To cover another function,
add its cases to a list of its own and the list to `REFUSED`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from attsvm import (
    AttentionData,
    _validation,
    datasets,
    is_locally_optimal,
    optimal_tokens,
    save,
    scores,
)
from attsvm.theory import bregman_distance, cosine, cosine_gap, directional_distance

B, n, T, d = 2, 3, 4, 5


def refused(name: str, call: Callable[[], Any], error: type[Exception], start: str) -> Any:
    return pytest.param(call, error, start, id=re.sub(" at 0x[0-9A-F]+", "", name))  # no address


def arrays(lead: tuple[int, ...] = ()) -> dict[str, Any]:
    return {
        "tokens": np.ones((*lead, n, T, d)),
        "labels": np.ones((*lead, n)),
        "queries": np.ones((*lead, n, d)),
        "value": np.ones((*lead, d)),
        "lengths": np.full((*lead, n), T),
    }


def data_with(lead: tuple[int, ...] = (), **changes: Any) -> Callable[[], AttentionData]:
    return lambda: AttentionData(**{**arrays(lead), **changes})


def bregman_in_l3(A: Any, B: Any, axis: Any) -> Any:
    return bregman_distance(A, B, 3, axis=axis)


def one_bad(name: str, bad: float, lead: tuple[int, ...] = (), at: int = -1) -> np.ndarray:
    array = arrays(lead)[name].astype(np.float64)
    array.reshape(-1)[at] = bad
    return array


class Opaque:
    """No array at all."""


class Unreadable:
    """A tensor that refuses, like one on a GPU or with a gradient."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        raise self.error("detach it first")


class Parameter(Unreadable):
    """A tensor that requires a gradient, as torch has it."""

    requires_grad = True

    def detach(self) -> np.ndarray:
        return np.ones((3, 4, 5))


class Undetachable(Unreadable):
    """Says that it requires a gradient, but does not know how to leave it."""

    requires_grad = True


class OnDevice:
    def __dlpack__(self, **options: object) -> object:
        raise BufferError("on another device")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


NOT_NUMBERS = {
    "complex": np.ones((n, T, d), dtype=complex),
    "bool": np.ones((n, T, d), dtype=bool),
    "text": np.full((n, T, d), "1.0"),
    "objects": np.full((n, T, d), None),
    "dates": np.zeros((n, T, d), dtype="datetime64[s]"),
    "records": np.zeros((n, T, d), dtype=[("x", float)]),
    "float16": np.ones((n, T, d), dtype=np.float16),
    "longdouble": np.ones((n, T, d), dtype=np.longdouble),
    "none": None,
    "string": "tokens.npz",
    "opaque": Opaque(),
    "dict": {},
    "masked": np.ma.masked_equal(np.ones((n, T, d)), 1),
    "unreadable": Unreadable(RuntimeError),
    "unreadable type": Unreadable(TypeError),
    "on device": OnDevice(),
    "undetachable": Undetachable(RuntimeError),
}

TOKENS = [
    *(
        refused(f"tokens {kind}", data_with(tokens=value), TypeError, "tokens: ")
        for kind, value in NOT_NUMBERS.items()
    ),
    *(
        refused(
            f"tokens {shape}",
            data_with(tokens=np.ones(shape)),
            ValueError,
            f"tokens: expected shape (n, T, d) or (B, n, T, d) with B problems, got {shape}",
        )
        for shape in [(), (8,), (6, 8), (1, 2, 3, 4, 5)]
    ),
    *(
        refused(
            f"tokens {shape}",
            data_with(tokens=np.ones(shape)),
            ValueError,
            "tokens: expected shape (n, T, d) or (B, n, T, d) without an empty axis, got ",
        )
        for shape in [(0, T, d), (n, 0, d), (n, T, 0), (0, n, T, d)]
    ),
    *(
        refused(f"tokens {bad}", data_with(tokens=one_bad("tokens", bad)), ValueError, start)
        for bad, start in [
            (np.nan, f"tokens: expected finite numbers, got nan at [{n - 1}, {T - 1}, {d - 1}]"),
            (np.inf, f"tokens: expected finite numbers, got inf at [{n - 1}, {T - 1}, {d - 1}]"),
            (-np.inf, f"tokens: expected finite numbers, got -inf at [{n - 1}, {T - 1}, {d - 1}]"),
        ]
    ),
    refused(
        "tokens nan at padding",
        data_with(tokens=one_bad("tokens", np.nan), lengths=[1] * n),
        ValueError,
        "tokens: expected finite numbers",
    ),
    refused(
        "tokens of different sequences",
        data_with(tokens=[[[1.0], [2.0]], [[1.0]]]),
        ValueError,
        "tokens: expected sequences padded to one length, with `lengths`, got 1 to 2 tokens",
    ),
    refused(
        "tokens of different dimensions",
        data_with(tokens=[[[1.0], [2.0]], [[1.0], [1.0, 2.0]]]),
        ValueError,
        "tokens: expected an array, got 1 to 2 entries along axis 2",
    ),
    refused(
        "labels ragged",
        data_with(labels=[[1], 1, -1]),
        ValueError,
        "labels: expected an array, got 0 to 1 entries along axis 1",
    ),
    refused(
        "tokens of sparse matrices",
        data_with(tokens=[sparse.eye_array(3)] * 2),
        TypeError,
        "tokens: expected dense tokens of shape (n, T, d), got a list of sparse ones",
    ),
    refused(
        "tokens bfloat16 as np.load reads them",
        data_with(tokens=np.ones((n, T, d), np.uint16).view("V2")),
        TypeError,
        "tokens: expected float64, float32 or integers, got an array of dtype |V2 (raw bytes, ",
    ),
    refused("tokens empty list", data_with(tokens=[]), ValueError, "tokens: expected shape (n, T"),
    refused("tokens huge int", data_with(tokens=[[[10**400]]]), TypeError, "tokens: expected"),
    *(
        refused(
            f"tokens over 2**31, {kind}",
            data_with(tokens=tokens),
            ValueError,
            "tokens: expected a C-contiguous float",
        )
        for kind, tokens in {
            "broadcast": np.broadcast_to(np.zeros(1), (2**16, 2**8, 2**8)),
            "integers": np.broadcast_to(np.zeros(1, dtype=np.int8), (2**11, 2**10, 2**10)),
            "byte order": np.broadcast_to(np.zeros(1, dtype=">f4"), (1, 2**16, 2**16, 1)),
        }.items()
    ),
]

LABELS = [
    *(
        refused(f"labels {kind}", data_with(labels=value), error, "labels: ")
        for kind, value, error in [
            ("zero and one", [0, 1, 1], ValueError),
            ("two", [1, 1, 2], ValueError),
            ("nearly one", [1, 1, 1 + 1e-15], ValueError),
            ("nan", [1, 1, np.nan], ValueError),
            ("inf", [1, 1, np.inf], ValueError),
            ("bool", [True, False, True], TypeError),
            ("text", ["1", "-1", "1"], TypeError),
            ("none", None, TypeError),
            ("unsigned", np.array([1, 1, 255], dtype=np.uint8), ValueError),
            ("short", [1, 1], ValueError),
            ("long", [1, 1, 1, 1], ValueError),
            ("column", np.ones((n, 1)), ValueError),
            ("scalar", 1, ValueError),
            ("empty", [], ValueError),
        ]
    ),
    refused(
        "labels that are names",
        data_with(labels=["cat"] * n),
        TypeError,
        "labels: expected -1 or +1, got an array of dtype <U3",
    ),
    refused(
        "labels say which",
        data_with(labels=[1, 0, 1]),
        ValueError,
        "labels: expected -1 or +1, got 0 at [1]",
    ),
    refused(
        "labels say the shape",
        data_with(labels=[1, 1]),
        ValueError,
        "labels: expected shape (n,) = (3,), got (2,)",
    ),
    refused(
        "labels without the batch axis",
        data_with((B,), labels=np.ones(n)),
        ValueError,
        "labels: expected shape (B, n) = (2, 3), got (3,)",
    ),
    refused(
        "labels of another batch",
        data_with((B,), labels=np.ones((B + 1, n))),
        ValueError,
        "labels: expected shape (B, n) = (2, 3), got (3, 3)",
    ),
]

QUERIES_AND_VALUE = [
    *(
        refused(f"{name} {kind}", data_with(**{name: value}), error, f"{name}: ")
        for name in ("queries", "value")
        for kind, value, error in [
            ("nan", one_bad(name, np.nan), ValueError),
            ("inf", one_bad(name, -np.inf, at=0), ValueError),
            ("complex", arrays()[name].astype(complex), TypeError),
            ("bool", arrays()[name].astype(bool), TypeError),
            ("text", "first", TypeError),
            ("of another d", arrays()[name][..., :-1], ValueError),
            ("with the batch axis", arrays((B,))[name], ValueError),
            ("scalar", 1.0, ValueError),
            ("empty", [], ValueError),
        ]
    ),
    refused(
        "queries of another n",
        data_with(queries=np.ones((n + 1, d))),
        ValueError,
        "queries: expected shape (n, d) = (3, 5), got (4, 5)",
    ),
    refused(
        "queries without the batch axis",
        data_with((B,), queries=np.ones((n, d))),
        ValueError,
        "queries: expected shape (B, n, d) = (2, 3, 5), got (3, 5)",
    ),
    refused(
        "value of another batch",
        data_with((B,), value=np.ones((B + 1, d))),
        ValueError,
        "value: expected shape (B, d) = (2, 5), got (3, 5)",
    ),
    refused(
        "one value of another d",
        data_with((B,), value=np.ones(d + 1)),
        ValueError,
        "value: expected shape (d,) = (5,), got (6,)",
    ),
    refused(
        "value that float32 cannot hold",
        data_with(tokens=np.ones((n, T, d), dtype=np.float32), value=np.full(d, 1e300)),
        ValueError,
        "value: expected numbers that float32 can hold, got 1e+300 at [0]",
    ),
]

LENGTHS = [
    *(
        refused(f"lengths {kind}", data_with(lengths=value), error, "lengths: ")
        for kind, value, error in [
            ("zero", [0, 1, 1], ValueError),
            ("negative", [1, -1, 1], ValueError),
            ("over T", [1, 1, T + 1], ValueError),
            ("beyond 64 bits", np.array([1, 1, 2**64 - 1], dtype=np.uint64), ValueError),
            ("floats", [1.0, 2.0, 3.0], TypeError),
            ("halves", [1.5, 2, 3], TypeError),
            ("nan", [1, 2, np.nan], TypeError),
            ("bool", [True, True, True], TypeError),
            ("text", "123", TypeError),
            ("short", [1, 2], ValueError),
            ("scalar", 3, ValueError),
            ("mask", np.ones((n, T), dtype=bool), TypeError),
        ]
    ),
    refused(
        "lengths say which",
        data_with(lengths=[1, 9, 1]),
        ValueError,
        "lengths: expected 1..4, got 9 at [1]",
    ),
]

PROBLEMS = [
    refused("no batch", lambda: data_with()().problem(0), IndexError, "b: expected data with"),
    refused("b too large", lambda: data_with((B,))().problem(B), IndexError, "b: expected"),
    refused("b too small", lambda: data_with((B,))().problem(-B - 1), IndexError, "b: expected"),
    refused("b float", lambda: data_with((B,))().problem(1.0), TypeError, "b: expected"),
]

SIZES = [
    *(
        refused(
            f"unit_sphere {name} {value!r}",
            lambda name=name, value=value: datasets.unit_sphere(
                **{"n": 2, "T": 2, "d": 2, name: value}
            ),
            ValueError if isinstance(value, int) and not isinstance(value, bool) else TypeError,
            f"{name}: expected a positive integer, got {value!r}",
        )
        for name in ("n", "T", "d", "batch")
        for value in (0, -1, 2.0, "2", True, [2])
    ),
    *(
        refused(
            f"digits {name} {value!r}",
            lambda name=name, value=value: datasets.digits(**{"n": 2, "d": 2, name: value}),
            error,
            f"{name}: expected",
        )
        for name, value, error in [
            ("n", 0, ValueError),
            ("n", 1.5, TypeError),
            ("d", 0, ValueError),
            ("d", None, TypeError),
            ("batch", 0, ValueError),
            ("patch", 0, ValueError),
            ("patch", 9, ValueError),
            ("stride", 0, ValueError),
            ("stride", -1, ValueError),
            ("bandwidth", 0, ValueError),
            ("bandwidth", np.nan, ValueError),
            ("bandwidth", "1/6", TypeError),
            ("classes", (3, 3), ValueError),
            ("classes", (3, 10), ValueError),
            ("classes", (-1, 3), ValueError),
            ("classes", (1, 2, 3), ValueError),
            ("classes", 3, ValueError),
            ("classes", ("3", "8"), TypeError),
            ("classes", (3.0, 8.0), TypeError),
        ]
    ),
    *(
        refused(
            f"unit_sphere {name} {value!r}",
            lambda name=name, value=value: datasets.unit_sphere(2, 2, 2, **{name: value}),
            error,
            f"{name}: expected {start}",
        )
        for name, value, error, start in [
            ("attention", "both", ValueError, "one of 'cross', 'self', got 'both'"),
            ("attention", None, TypeError, "one of 'cross', 'self', got None"),
            ("rng", -1, ValueError, "None, a non-negative integer or a numpy.random.Generator"),
            ("rng", 1.0, TypeError, "None, a non-negative integer or a numpy.random.Generator"),
            ("rng", "seed", TypeError, "None, a non-negative integer or a numpy.random.Generator"),
            ("rng", True, TypeError, "None, a non-negative integer or a numpy.random.Generator"),
            ("rng", np.random.RandomState(0), TypeError, "None, a non-negative integer or a"),
            ("dtype", np.float16, TypeError, "float64 or float32"),
            ("dtype", int, TypeError, "float64 or float32"),
            ("dtype", None, TypeError, "float64 or float32"),
            ("dtype", "nonsense", TypeError, "float64 or float32"),
            ("dtype", ">f8", TypeError, "float64 or float32"),
        ]
    ),
]

THEORY = [
    *(
        refused(
            f"{function.__name__} of no data",
            lambda f=function: f([1]),
            TypeError,
            "data: expected",
        )
        for function in (scores, optimal_tokens)
    ),
    *(
        refused(
            f"{function.__name__} without a value",
            lambda f=function: f(data_with(value=None)()),
            ValueError,
            "data: expected a value",
        )
        for function in (scores, optimal_tokens)
    ),
    *(
        refused(
            f"is_locally_optimal, selected {kind}",
            lambda value=value: is_locally_optimal(data_with()(), value, None),
            error,
            "selected: ",
        )
        for kind, value, error in [
            ("floats", [0.0, 1.0, 2.0], TypeError),
            ("bool", [True, True, True], TypeError),
            ("short", [0, 1], ValueError),
            ("scalar", 0, ValueError),
            ("negative", [0, -1, 0], ValueError),
            ("too large", [0, T, 0], ValueError),
        ]
    ),
    refused(
        "is_locally_optimal, padding selected",
        lambda: is_locally_optimal(data_with(lengths=[4, 2, 4])(), [0, 2, 0], None),
        ValueError,
        "selected: expected 0..1, got 2 at [1]",
    ),
    *(
        refused(
            f"is_locally_optimal, tolerance {value!r}",
            lambda value=value: is_locally_optimal(data_with()(), [0] * n, None, tolerance=value),
            error,
            "tolerance: expected a positive number, got ",
        )
        for value, error in [
            (0, ValueError),
            (-1e-4, ValueError),
            (np.nan, ValueError),
            (np.inf, ValueError),
            ("1e-4", TypeError),
            (None, TypeError),
            (True, TypeError),
        ]
    ),
    *(
        refused(
            f"{function.__name__} {kind}",
            lambda f=function, A=A, B=B, axis=axis: f(A, B, axis=axis),
            error,
            start,
        )
        for function in (cosine, cosine_gap, directional_distance, bregman_in_l3)
        for kind, A, B, axis, error, start in [
            ("zero", [0.0], [1.0], None, ValueError, "A: expected a direction"),
            ("nan", [1.0], [np.nan], None, ValueError, "B: expected finite"),
            ("inf", [np.inf], [1.0], None, ValueError, "A: expected finite"),
            ("scalar", 1.0, 1.0, None, ValueError, "A: expected shape of one axis or more"),
            ("complex", [1j], [1.0], None, TypeError, "A: expected float64"),
            ("shapes", [1.0, 2.0], [1.0], None, ValueError, "B: expected shape of A = (2,)"),
            ("axis", [1.0], [1.0], 1, ValueError, "axis: expected axes of an array with 1, got 1"),
        ]
    ),
]

CHECKS = [
    *(
        refused(f"{check.__name__} {kind}", lambda c=check, v=value: c("x", v), error, "x: expec")
        for check in (_validation.as_float, _validation.as_positive_float)
        for kind, value, error in [
            ("nan", np.nan, ValueError),
            ("inf", np.inf, ValueError),
            ("text", "1", TypeError),
            ("bytes", b"1", TypeError),
            ("none", None, TypeError),
            ("complex", 1j, TypeError),
            ("array", np.ones(2), TypeError),
            ("bool", False, TypeError),
            ("huge", 10**400, ValueError),
        ]
    ),
    *(
        refused(
            f"as_nonnegative_int {value!r}",
            lambda v=value: _validation.as_nonnegative_int("x", v),
            error,
            "x: ",
        )
        for value, error in [
            (-1, ValueError),
            (0.0, TypeError),
            (None, TypeError),
            (True, TypeError),
        ]
    ),
    *(
        refused(
            f"as_bool_array {kind}",
            lambda v=value: _validation.as_bool_array("x", v, "(n,)", shape=(2,)),
            error,
            "x: expected",
        )
        for kind, value, error in [
            ("numbers", [0, 1], TypeError),
            ("no axis", True, ValueError),
            ("two axes", [[True]], ValueError),
            ("empty", np.ones(0, dtype=bool), ValueError),
        ]
    ),
]

FILES = [
    refused("save something else", lambda: save("/nowhere/x", [1]), TypeError, "data: expected"),
]

REFUSED = [
    *TOKENS,
    *LABELS,
    *QUERIES_AND_VALUE,
    *LENGTHS,
    *PROBLEMS,
    *SIZES,
    *THEORY,
    *CHECKS,
    *FILES,
]


@pytest.mark.parametrize(("call", "error", "start"), REFUSED)
def test_wrong_input_gives_an_error_that_names_the_argument(call, error, start):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value).startswith(start)


WORKS = {
    "one token": data_with(tokens=np.ones((n, 1, d)), lengths=None),
    "one of everything": lambda: AttentionData([[[0]]], [1], queries=[[0]], value=[0], lengths=[1]),
    "a batch of one": data_with((1,)),
    "zero vectors": data_with(tokens=np.zeros((n, T, d)), value=np.zeros(d)),
    "numbers near overflow": data_with(tokens=np.full((n, T, d), np.finfo(float).max)),
    "denormal numbers": data_with(tokens=np.full((n, T, d), 5e-324)),
    "equal tokens": data_with(tokens=np.ones((n, T, d))),
    "labels all of one class": data_with(labels=-np.ones(n)),
    "unsigned tokens": data_with(tokens=np.full((n, T, d), 255, dtype=np.uint8)),
    "numbers in objects of NumPy": data_with(lengths=[np.int8(1), np.uint32(2), np.int64(3)]),
    "tuples": data_with(tokens=((((1.0,) * d,) * T),) * n),
}


@pytest.mark.parametrize("make", WORKS.values(), ids=WORKS)
def test_odd_but_right_input_works(make):
    data = make()
    assert np.isfinite(data.tokens).all()
    assert data.tokens.flags.c_contiguous


def test_a_tensor_that_requires_a_gradient_is_read_without_it():
    assert (AttentionData(Parameter(RuntimeError), [1, 1, -1]).tokens == 1).all()
