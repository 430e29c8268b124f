from collections.abc import Callable
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

isa: str
version: str
interface: str
openmp: bool

class DescentResult(TypedDict):
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    head: NDArray[np.float64]
    attention: NDArray[np.float64]
    log_attention: NDArray[np.float64]
    selected: NDArray[np.int64]
    loss: NDArray[np.float64]
    loss_gap: NDArray[np.float64]
    norm: NDArray[np.float64]
    log_grad_norm: NDArray[np.float64]
    max_attention: NDArray[np.float64]
    head_norm: NDArray[np.float64]
    cosine_gap: NDArray[np.float64]
    head_cosine_gap: NDArray[np.float64]
    margin: NDArray[np.float64]
    certified_cosine: NDArray[np.float64]
    top: NDArray[np.int64]

class IdDescentResult(TypedDict):
    coefficients: NDArray[np.float64]
    attention: NDArray[np.float64]
    log_attention: NDArray[np.float64]
    selected: NDArray[np.int64]
    history: NDArray[np.float64]
    cosine_gap: NDArray[np.float64]

class SvmResult(TypedDict):
    dual: NDArray[np.float64]
    margins: NDArray[np.float64]
    left: NDArray[np.float64]
    right: NDArray[np.float64]
    norm: NDArray[np.float64]
    gap: NDArray[np.float64]
    kkt: NDArray[np.float64]
    status: NDArray[np.int8]
    iterations: NDArray[np.int64]

def default_threads() -> int: ...
def release_threads() -> None: ...
def releases_its_threads() -> bool: ...
def descend(
    *,
    tokens: NDArray[np.float64] | NDArray[np.float32],
    queries: NDArray[np.float64],
    head_kind: str,
    scores: NDArray[np.float64],
    labels: NDArray[np.float64],
    vector: NDArray[np.float64],
    hidden: NDArray[np.float64],
    penalty: float,
    trains_head: bool,
    lengths: NDArray[np.int64],
    sequence: NDArray[np.int64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    outside: NDArray[np.float64],
    references: NDArray[np.float64],
    references_outside: NDArray[np.float64],
    head_references: NDArray[np.float64],
    certify: bool,
    loss: str,
    rule: str,
    rates: tuple[float, float, float],
    decays: tuple[float, float, float],
    polyak_factor: float,
    largest_step: float,
    ridge: float,
    movement: str,
    inertia: tuple[float, float, float],
    batch_size: int,
    seed: int,
    steps: int,
    record: NDArray[np.int64],
    threads: int,
    report: Callable[[float], object] | None,
) -> DescentResult: ...
def descend_by_ids(
    *,
    pair: NDArray[np.int64],
    is_right: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    pairs: int,
    row_gram: NDArray[np.float64],
    column_gram: NDArray[np.float64],
    references: NDArray[np.float64],
    reference_norms: NDArray[np.float64],
    rule: str,
    rates: tuple[float, float, float],
    decays: tuple[float, float, float],
    polyak_factor: float,
    largest_step: float,
    movement: str,
    inertia: tuple[float, float, float],
    steps: int,
    record: NDArray[np.int64],
    threads: int,
    report: Callable[[float], object] | None,
) -> IdDescentResult: ...
def loss_and_gradient(
    *,
    tokens: NDArray[np.float64] | NDArray[np.float32],
    queries: NDArray[np.float64],
    head_kind: str,
    scores: NDArray[np.float64],
    labels: NDArray[np.float64],
    vector: NDArray[np.float64],
    hidden: NDArray[np.float64],
    penalty: float,
    trains_head: bool,
    lengths: NDArray[np.int64],
    sequence: NDArray[np.int64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    loss: str,
    threads: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
def token_scores(
    *,
    tokens: NDArray[np.float64] | NDArray[np.float32],
    labels: NDArray[np.float64],
    value: NDArray[np.float64],
    lengths: NDArray[np.int64],
    sequence: NDArray[np.int64],
    threads: int,
) -> NDArray[np.float64]: ...
def row_bases(
    *,
    rows: NDArray[np.float64],
    threads: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def smallest_frobenius(
    *,
    tokens: NDArray[np.float64] | NDArray[np.float32],
    queries: NDArray[np.float64],
    selected: NDArray[np.int64],
    lengths: NDArray[np.int64],
    rhs: NDArray[np.float64],
    equality: NDArray[np.bool_],
    start: NDArray[np.float64] | None,
    optimality: float,
    infeasibility: float,
    threads: int,
    report: Callable[[float], object] | None,
) -> SvmResult: ...
def smallest_nuclear(
    *,
    tokens: NDArray[np.float64],
    queries: NDArray[np.float64],
    selected: NDArray[np.int64],
    lengths: NDArray[np.int64],
    rhs: NDArray[np.float64],
    equality: NDArray[np.bool_],
    method: str,
    optimality: float,
    infeasibility: float,
    threads: int,
    report: Callable[[float], object] | None,
) -> SvmResult: ...
