"""Validation of arguments, used by all subpackages.

Each check takes the name of the argument and its value, and gives the value back in the form the
package works with. Otherwise it raises an error that says ``name: expected this, got that``:
`TypeError` for the wrong kind of thing, `ValueError` for the right kind with a wrong shape or
value.
"""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from attsvm._arrays import ArrayLike, BoolArray, Float64Array, FloatArray, IndexArray

_Choice = TypeVar("_Choice", bound=str)
_Scalar = TypeVar("_Scalar", bound=np.generic)
_Value = TypeVar("_Value")

NUMBERS = "float64, float32 or integers"
_LARGEST_COPY = 2**31 - 1
_FINITE_CHUNK = 2**16
_LEAST_LIKENESS = 0.5
"""Share of letters that a misspelled name has in common with the one meant: that of "frobenius"."""
_MAY_BE_MASKED = (list, tuple, np.ndarray)
_BOOL = (bool, np.bool_)
_NO_NUMBER = (*_BOOL, str, bytes)


def as_float_array(
    name: str,
    value: ArrayLike,
    shape_text: str,
    *,
    ndim: int | Collection[int] = (),
    shape: tuple[int, ...] | None = None,
    dtype: npt.DTypeLike | None = None,
    numbers: str = NUMBERS,
) -> FloatArray:
    """Read a finite, C-contiguous float64 or float32 array, copied only where it has to be.

    Integers become float64; `dtype` casts to float64 or float32. The error says the shape in the
    letters of `shape_text`, ``"(n, T, d)"``; `ndim` are the allowed numbers of axes, none of them
    empty, unless the only `shape` that is right is known, and `numbers` what they are to be. The
    result is read-only, and shares the memory of `value` where that is already of the type asked
    for, C-contiguous and aligned. Refused are masked arrays, a value that is not finite or that
    float32 cannot hold, and a copy of more than 2**31 - 1 numbers.
    """
    array = read_array(name, value)
    if array.dtype.kind in "iu":
        own_type = np.dtype(np.float64)
    elif array.dtype.kind == "f" and array.dtype.itemsize in (4, 8):
        own_type = array.dtype.newbyteorder("=")
    else:
        raw = " (raw bytes, which np.load makes of bfloat16)" if array.dtype.kind == "V" else ""
        raise TypeError(f"{name}: expected {numbers}, got an array of dtype {array.dtype}{raw}")
    _require_axes(name, array, shape_text, ndim, shape)
    wanted = own_type if dtype is None else np.dtype(dtype)
    result = _contiguous(name, array, wanted)
    if wanted.itemsize < own_type.itemsize:
        held = ((result != 0) | (array == 0)) & (np.isfinite(result) | ~np.isfinite(array))
        require_all(name, held, array, "numbers that float32 can hold")
    require_finite(name, result)
    return read_only(result)


def as_float64_array(
    name: str,
    value: ArrayLike,
    shape_text: str,
    *,
    ndim: int | Collection[int] = (),
    shape: tuple[int, ...] | None = None,
) -> Float64Array:
    """Read a float64 array, as `as_float_array`."""
    array = as_float_array(name, value, shape_text, ndim=ndim, shape=shape, dtype=np.float64)
    return np.asarray(array, np.float64)


def as_index_array(
    name: str,
    value: ArrayLike,
    shape_text: str,
    *,
    ndim: int | Collection[int] = (),
    shape: tuple[int, ...] | None = None,
) -> IndexArray:
    """Read a C-contiguous, read-only int64 array; floats are refused even when they are whole.

    It is a copy unless the array is read-only and of nobody's writable memory: what is used as an
    index must stay what was checked. Parameters are those of `as_float_array`.
    """
    array = read_array(name, value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got an array of dtype {array.dtype}")
    _require_axes(name, array, shape_text, ndim, shape)
    if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected integers below 2**63, got {array.max()}")
    result = _contiguous(name, array, np.dtype(np.int64))
    if result is array and not _is_frozen(array):
        result = array.copy()
    result.flags.writeable = False
    return read_only(result)


def as_bool_array(
    name: str, value: ArrayLike, shape_text: str, *, shape: tuple[int, ...]
) -> BoolArray:
    """Read a C-contiguous, read-only array of bool, as `as_float_array`; numbers are refused."""
    array = read_array(name, value)
    if array.dtype.kind != "b":
        raise TypeError(f"{name}: expected bool, got an array of dtype {array.dtype}")
    require_shape(name, array, shape_text, shape)
    return read_only(_contiguous(name, array, np.dtype(np.bool_)))


def as_instance(name: str, value: object, *kinds: type[_Value]) -> _Value:
    """Return `value` if it is of one of these types, else raise `TypeError`."""
    if not isinstance(value, kinds):
        got = type(value)
        alike = any(kind.__name__ == got.__name__ for kind in kinds)
        *wanted, given = (
            f"{kind.__module__}.{kind.__name__}" if alike else kind.__name__
            for kind in (*kinds, got)
        )
        raise TypeError(f"{name}: expected {' or '.join(wanted)}, got {given}")
    return value


def as_bool(name: str, value: bool) -> bool:
    """Return `value` as a bool; numbers and strings are refused."""
    if not isinstance(value, _BOOL):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def as_choice(name: str, value: object, choices: Collection[_Choice]) -> _Choice:
    """Return `value` if it is one of `choices`, else raise an error that lists them."""
    if isinstance(value, str):
        for choice in choices:
            if value == choice:
                return choice
    listed = ", ".join(repr(choice) for choice in choices)
    error = ValueError if isinstance(value, str) else TypeError
    raise error(f"{name}: expected one of {listed}, got {value!r}{nearest(value, choices)}")


def nearest(value: object, known: Iterable[str]) -> str:
    """Return what ends the error on an unknown name: which of those known is the most like it.

    Examples
    --------
    >>> nearest("ndg", ["gd", "ngd"]), nearest("FRO", ["fro", "nuc"]), nearest("x", ["fro"])
    ("; did you mean 'ngd'?", "; did you mean 'fro'?", '')
    """
    if not isinstance(value, str):
        return ""
    from difflib import get_close_matches  # only where there is an error

    by_lower_case = {name.lower(): name for name in known}
    near = get_close_matches(value.lower(), by_lower_case, 1, _LEAST_LIKENESS)
    return f"; did you mean {by_lower_case[near[0]]!r}?" if near else ""


def as_int(name: str, value: int, smallest: int | None = None, wanted: str = "an integer") -> int:
    """Return `value` as an int; floats and bools are refused. Errors name the `wanted`."""
    if isinstance(value, _BOOL):
        raise TypeError(f"{name}: expected {wanted}, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name}: expected {wanted}, got {value!r}") from error
    if smallest is not None and number < smallest:
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    return number


def as_nonnegative_int(name: str, value: int) -> int:
    """Return `value` as an int that is 0 or more; floats and bools are refused."""
    return as_int(name, value, 0, "a non-negative integer")


def as_positive_int(name: str, value: int) -> int:
    """Return `value` as an int that is 1 or more; floats and bools are refused."""
    return as_int(name, value, 1, "a positive integer")


def as_float(
    name: str,
    value: float,
    wanted: str = "a finite number",
    holds: Callable[[float], bool] = math.isfinite,
) -> float:
    """Return `value` as a finite float for which `holds` is true; strings and bools are refused.

    Errors name the `wanted`.
    """
    if isinstance(value, _NO_NUMBER):
        raise TypeError(f"{name}: expected {wanted}, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected {wanted}, got {value!r}") from error
    except OverflowError as error:
        raise ValueError(f"{name}: expected {wanted}, got {value!r}") from error
    if not (math.isfinite(number) and holds(number)):
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    return number


def as_positive_float(name: str, value: float) -> float:
    """Return `value` as a finite float above 0; strings and bools are refused."""
    return as_float(name, value, "a positive number", lambda number: number > 0)


def as_nonnegative_float(name: str, value: float) -> float:
    """Return `value` as a finite float that is 0 or more; strings and bools are refused."""
    return as_float(name, value, "a number >= 0", lambda number: number >= 0)


def as_float_in(name: str, value: float, low: float, high: float, *, ends: str = "[]") -> float:
    """Return `value` as a float from `low` to `high`, each end included or not, as in "[)"."""
    wanted = f"a number in {ends[0]}{number_text(low)}, {number_text(high)}{ends[1]}"
    above, below = (operator.le if end in "[]" else operator.lt for end in ends)
    return as_float(name, value, wanted, lambda x: above(low, x) and below(x, high))


def as_float_dtype(name: str, value: Any) -> np.dtype[Any]:
    """Return `value` as the NumPy dtype float64 or float32, in the native byte order."""
    wanted = f"{name}: expected float64 or float32, got {value!r}"
    if value is None:
        raise TypeError(wanted)
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except (TypeError, ValueError) as error:
        raise TypeError(wanted) from error
    if dtype not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise TypeError(wanted)
    return dtype


def as_axis(
    name: str, value: int | tuple[int, ...] | None, ndim: int
) -> int | tuple[int, ...] | None:
    """Return `value` if it names different axes of an array with `ndim` of them, as in NumPy."""
    axes = value if isinstance(value, tuple) else () if value is None else (value,)
    numbers = [as_int(name, one, None, "None, an integer or a tuple of them") for one in axes]
    if any(not -ndim <= number < ndim for number in numbers):
        raise np.exceptions.AxisError(
            f"{name}: expected axes of an array with {ndim}, got {value!r}"
        )
    if len({number % ndim for number in numbers}) < len(numbers):
        raise ValueError(f"{name}: expected different axes, got {value!r}")
    return value


def as_path(name: str, value: str | os.PathLike[str]) -> Path:
    """Return `value`, text or path-like, as a path."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}: expected a str or a path-like, got {type(value).__name__}")
    return Path(value)


def as_generator(name: str, value: int | np.random.Generator | None) -> np.random.Generator:
    """Return a random generator from None (fresh entropy), an int seed >= 0, or a generator."""
    if isinstance(value, np.random.Generator):
        return value
    if value is None:
        return np.random.default_rng()
    wanted = "None, a non-negative integer or a numpy.random.Generator"
    return np.random.default_rng(as_int(name, value, 0, wanted))


def require_shape(
    name: str, array: npt.NDArray[Any], shape_text: str, expected: tuple[int, ...]
) -> None:
    """Raise `ValueError` unless `array` has the shape `expected`, in letters `shape_text`."""
    if array.shape != expected:
        raise ValueError(f"{name}: expected shape {shape_text} = {expected}, got {array.shape}")


def require_keys(name: str, value: Mapping[Any, Any], keys: Collection[str]) -> None:
    """Raise `ValueError` unless these are the keys of `value`."""
    if set(value) != set(keys):
        wanted = f"the key{'s' if len(keys) > 1 else ''} {' and '.join(map(repr, keys))}"
        raise ValueError(f"{name}: expected {wanted}, got {sorted(map(str, value))}")


def require_names(name: str, keys: Collection[Any]) -> None:
    """Raise `TypeError` at the first of the keys of a dict that is not text."""
    for key in keys:
        if not isinstance(key, str):
            raise TypeError(f"{name}: expected names as keys, got {key!r}")


def require_range(
    name: str, array: IndexArray, low: int, high: int | np.integer[Any] | IndexArray
) -> None:
    """Raise `ValueError` at the first integer outside `low` to `high`, which may be an array."""
    wrong = (array < low) | (array > high)
    if np.count_nonzero(wrong):  # of few numbers in less time than any()
        where = first_index(wrong)
        largest = np.broadcast_to(high, array.shape)[where]
        raise ValueError(
            f"{name}: expected {low}..{largest}, got {array[where]} at {position_text(where)}"
        )


def require_unmasked(name: str, value: Any) -> None:
    """Raise `TypeError` for a masked array, by itself or inside lists: its mask would be lost."""
    if _is_masked(value):
        raise TypeError(f"{name}: expected a plain array, got a masked array")


def require_nonnegative(name: str, array: npt.NDArray[Any], what: str) -> None:
    """Raise `ValueError` at the first number below 0; `what` are the numbers of `array`."""
    # NaN, which is no number below 0, passes.
    require_all(name, ~(array < 0), array, f"{what} of 0 or more")


def require_all(
    name: str, right: BoolArray, array: npt.NDArray[Any], expected: str, got: str = "{}"
) -> None:
    """Raise `ValueError` at the first number of `array` for which `right` is False.

    `got` is the format in which the error writes that number.
    """
    if not right.all():
        where = first_index(~right)
        raise ValueError(
            f"{name}: expected {expected}, got {got.format(number_text(array[where]))} at "
            f"{position_text(where)}"
        )


def require_direction(name: str, points: BoolArray | np.bool_) -> None:
    """Raise `ValueError` unless `points`, True where a vector is not zero, is so throughout."""
    zero = ~np.asarray(points)
    if zero.any():
        at = f" at {position_text(first_index(zero))}" if zero.size > 1 else ""
        raise ValueError(f"{name}: expected a direction, got zero{at}")


def require_finite(name: str, array: npt.NDArray[Any]) -> None:
    """Raise `ValueError` at the first NaN or inf of a C-contiguous array.

    The array is read in pieces, so nothing of its size is allocated.
    """
    flat = array.reshape(-1)
    for start in range(0, flat.size, _FINITE_CHUNK):
        finite = np.isfinite(flat[start : start + _FINITE_CHUNK])
        if not finite.all():
            index = start + int(finite.argmin())
            where = tuple(int(i) for i in np.unravel_index(index, array.shape))
            raise ValueError(
                f"{name}: expected finite numbers, got {flat[index]} at {position_text(where)}"
            )


def read_only(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """Return a view of `array` that cannot be written through."""
    view = array.view()
    view.flags.writeable = False
    return view


class ReadOnlyArrays:
    """A frozen dataclass whose arrays stay read-only in its copies and pickles."""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Set the fields, arrays read-only: copied and unpickled ones come writeable."""
        for name, value in state.items():
            fixed = read_only(value) if isinstance(value, np.ndarray) else value
            object.__setattr__(self, name, fixed)


def first_index(mask: BoolArray) -> tuple[int, ...]:
    """Return the index of the first True of `mask`, which has one."""
    return tuple(int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape))


def number_text(value: float | np.floating[Any]) -> str:
    """Write a number with all its digits, as few as tell it from its neighbours.

    Examples
    --------
    >>> number_text(3.0), number_text(1.0000001), number_text(1e-9)
    ('3', '1.0000001', '1e-09')
    """
    return str(value).removesuffix(".0")


def in_words(value: Any) -> str:
    """Write a setting, or the list of several: numbers as `number_text` does.

    Examples
    --------
    >>> in_words(20260101), in_words([0.1, 1e-05, 3.0]), in_words(["W", "p"])
    ('20260101', '0.1/1e-05/3', 'W/p')
    """
    if isinstance(value, list):
        return "/".join(map(in_words, value))
    return number_text(value) if isinstance(value, float) else str(value)


def position_text(index: tuple[int, ...]) -> str:
    """Write `index` as in an error: ``[3, 0, 1]``."""
    return f"[{', '.join(str(i) for i in index)}]"


def read_array(name: str, value: Any) -> npt.NDArray[Any]:
    """Read `value` as an array of its type and shape; masked arrays are refused.

    A tensor that requires a gradient is read without it.
    """
    if type(value) is np.ndarray:
        return value
    require_unmasked(name, value)
    try:
        if getattr(value, "requires_grad", False):
            value = value.detach()
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        array = np.asarray(value)
    except ValueError as error:
        if "inhomogeneous" in str(error):
            raise ValueError(f"{name}: expected an array, got {_uneven(value)}") from error
        raise ValueError(f"{name}: cannot be read as an array: {error}") from error
    except (TypeError, AttributeError, RuntimeError, BufferError) as error:
        if "ScalarType" in str(error):
            raise TypeError(
                f"{name}: expected numbers of a type that NumPy has, got torch's "
                f"{str(error).split()[-1].lower()}: tensor.float() casts it"
            ) from error
        raise TypeError(f"{name}: cannot be read as an array: {error}") from error
    if array.dtype == object and array.ndim == 0 and not isinstance(value, np.ndarray):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}")
    return array


def entry_count(value: object) -> int:
    """Count the entries of a list, tuple, array or tensor along its first axis; 0 of all else."""
    shape = (len(value),) if isinstance(value, list | tuple) else getattr(value, "shape", ())
    return int(shape[0]) if shape else 0


def _uneven(value: Any) -> str:
    """Describe lists of which no array is made: along which axis their lengths differ."""
    axis, level = 0, [value]
    while len(counts := {entry_count(one) for one in level}) == 1 and 0 not in counts:
        axis, level = axis + 1, [entry for one in level for entry in one]
    return f"{min(counts)} to {max(counts)} entries along axis {axis}"


def _is_frozen(array: Any) -> bool:
    """Test whether an array, and every array that it is a view of, is read-only."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return False
        array = array.base
    return array is None


def _is_masked(value: Any) -> bool:
    """Test whether a value is a masked array, or a list or tuple with one in it."""
    if isinstance(value, list | tuple):
        return any(_is_masked(x) for x in value if isinstance(x, _MAY_BE_MASKED))
    # `np.ma` would import what takes a tenth of the import of NumPy.
    return "numpy.ma" in sys.modules and isinstance(value, np.ma.MaskedArray)


def _require_axes(
    name: str,
    array: npt.NDArray[Any],
    shape_text: str,
    ndim: int | Collection[int],
    shape: tuple[int, ...] | None,
) -> None:
    if shape is not None:
        require_shape(name, array, shape_text, shape)
        return
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if array.ndim not in allowed:
        batch = " with B problems" * ("(B, " in shape_text)
        raise ValueError(f"{name}: expected shape {shape_text}{batch}, got {array.shape}")
    if 0 in array.shape:
        raise ValueError(
            f"{name}: expected shape {shape_text} without an empty axis, got {array.shape}"
        )


def _contiguous(name: str, array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    if array.size > _LARGEST_COPY:
        raise ValueError(
            f"{name}: expected a C-contiguous {dtype} array, got dtype {array.dtype} with strides "
            f"{array.strides}; a copy of {array.size} numbers (more than 2**31 - 1) is not made "
            f"unasked: pass np.ascontiguousarray({name}, dtype=np.{dtype})"
        )
    with np.errstate(over="ignore"):
        return np.require(array, dtype, ["C", "A"])
