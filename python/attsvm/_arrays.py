"""Types of arrays: what a caller may pass, and what is computed with."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt


class _SupportsDLPack(Protocol):
    def __dlpack__(self, *, stream: Any = None) -> Any: ...


ArrayLike: TypeAlias = "npt.ArrayLike | _SupportsDLPack"
"""Whatever NumPy can read: arrays, nested lists, objects with ``__array__`` or ``__dlpack__``."""

FloatArray: TypeAlias = "npt.NDArray[np.floating[Any]]"
"""float64 or float32."""

Float64Array: TypeAlias = "npt.NDArray[np.float64]"
IndexArray: TypeAlias = "npt.NDArray[np.int64]"
BoolArray: TypeAlias = "npt.NDArray[np.bool_]"
