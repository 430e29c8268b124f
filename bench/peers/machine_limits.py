"""The machine itself: how fast memory can be read, and matrix products done, by all threads.

The read is a sum compiled from `read.c` for this machine, or torch.sum where that is faster; the
products are those of PyTorch or NumPy, whichever is faster here.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.tasks import Products, Read

_SQUARE = 1024


def version() -> str:
    return f"PyTorch {torch.__version__}, NumPy {np.__version__}"


def read(task: Read) -> Callable[[int], Callable[[], dict[str, Any]]]:
    """A run reads the bytes as many times as it is told."""
    torch.set_num_threads(task.threads)
    array = np.ones(task.size // 8)
    tensor = torch.from_numpy(array)
    kernel = _compiled_read()

    def by_kernel(passes: int) -> None:
        kernel(array.ctypes.data, array.size, passes, task.threads)

    def by_torch(passes: int) -> None:
        for _ in range(passes):
            tensor.sum()

    ways = {"read.c": by_kernel, "torch.sum": by_torch}
    best, seconds = _fastest(ways)

    def run(passes: int) -> Callable[[], dict[str, Any]]:
        ways[best](passes)
        return lambda: {"by": best, "bytes_per_second": task.size / seconds, "units": 1.0}

    return run


def products(task: Products) -> Callable[[int], Callable[[], dict[str, Any]]]:
    """A run does as many products as it is told; its result says what one of them is."""
    torch.set_num_threads(task.threads)
    best, product, flops, seconds = _fastest_product(task.shape)

    def run(products: int) -> Callable[[], dict[str, Any]]:
        for _ in range(products):
            product()
        return lambda: {
            "by": best,
            "flops_per_second": flops / seconds,
            "units": task.flops / flops,
        }

    return run


@functools.cache
def _fastest_product(shape: tuple[int, int]) -> tuple[str, Callable[[], Any], float, float]:
    """Name, product, its operations and its seconds, of the way with the highest rate."""
    ways: dict[str, Callable[[int], Any]] = {}
    flops = {}
    for rows, inner in (shape, (_SQUARE, _SQUARE)):
        A, B = torch.rand(rows, inner).double(), torch.rand(inner, inner).double()
        out = torch.empty_like(A)
        a, b, c = A.numpy(), B.numpy(), np.empty((rows, inner))
        size = f"{rows}x{inner}x{inner}"
        ways[f"PyTorch {size}"] = lambda _, A=A, B=B, out=out: torch.mm(A, B, out=out)
        ways[f"NumPy {size}"] = lambda _, a=a, b=b, c=c: np.matmul(a, b, out=c)
        flops[f"PyTorch {size}"] = flops[f"NumPy {size}"] = 2.0 * rows * inner * inner
    best, seconds = _fastest(ways, flops)
    return best, lambda: ways[best](1), flops[best], seconds


def _fastest(
    ways: dict[str, Callable[[int], Any]], work: dict[str, float] | None = None
) -> tuple[str, float]:
    """The way with the least time for its work, and the seconds of one call."""
    seconds = {}
    for name, way in ways.items():
        way(1)
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            way(1)
            times.append(time.perf_counter() - begin)
        seconds[name] = min(times)
    best = min(ways, key=lambda name: seconds[name] / (work[name] if work else 1.0))
    return best, seconds[best]


def _compiled_read() -> Callable[..., float]:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "read.so"
        flags = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
        source = Path(__file__).with_name("read.c")
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
        function: Any = ctypes.CDLL(str(library)).read_array
    function.restype = ctypes.c_double
    function.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_int]
    return function
