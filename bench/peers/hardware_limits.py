"""The hardware's limits: the rate of reading memory, and of matrix products, by all threads.

The read is a sum compiled from `read.c` for this processor, or torch.sum where that is faster; the
products are those of PyTorch or NumPy, whichever is faster here.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from timeit import repeat
from typing import Any

import numpy as np
import torch

from bench.peers import Run
from bench.tasks import Products, Read

_SQUARE = 1024


def read(task: Read) -> Run:
    """Return a run that reads the bytes several times."""
    torch.set_num_threads(task.threads)
    array = np.ones(task.size // 8)
    tensor, kernel = torch.from_numpy(array), _compiled_read()

    def by_torch(passes: int) -> None:
        for _ in range(passes):
            tensor.sum()

    ways: dict[str, Callable[[int], Any]] = {
        "read.c": lambda passes: kernel(array.ctypes.data, array.size, passes, task.threads),
        "torch.sum": by_torch,
    }
    seconds = {name: _seconds(lambda way=way: way(1)) for name, way in ways.items()}
    best = min(ways, key=seconds.__getitem__)
    found = {"by": best, "bytes_per_second": task.size / seconds[best], "scale": 1.0}

    def run(passes: int) -> Callable[[], dict[str, Any]]:
        ways[best](passes)
        return lambda: dict(found)

    return run


def products(task: Products) -> Run:
    """Return a run that does several products; `scale` is the task's work in one of them."""
    torch.set_num_threads(task.threads)
    best, product, flops, seconds = _fastest_product(task.shape)
    found = {"by": best, "flops_per_second": flops / seconds, "scale": task.flops / flops}

    def run(products: int) -> Callable[[], dict[str, Any]]:
        for _ in range(products):
            product()
        return lambda: dict(found)

    return run


@functools.cache
def _fastest_product(shape: tuple[int, int]) -> tuple[str, Callable[[], Any], float, float]:
    """Return name, product, operations and seconds of the product with the highest rate."""
    found = []
    for rows, inner in (shape, (_SQUARE, _SQUARE)):
        A, B = torch.rand(rows, inner).double(), torch.rand(inner, inner).double()
        C, size = torch.empty_like(A), f"{rows}x{inner}x{inner}"
        numpy = functools.partial(np.matmul, A.numpy(), B.numpy(), out=C.numpy())
        for name, product in (
            (f"PyTorch {size}", functools.partial(torch.mm, A, B, out=C)),
            (f"NumPy {size}", numpy),
        ):
            found.append((name, product, 2.0 * rows * inner * inner, _seconds(product)))
    return max(found, key=lambda way: way[2] / way[3])


def _seconds(call: Callable[[], Any]) -> float:
    return min(repeat(call, call, repeat=5, number=1))


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
