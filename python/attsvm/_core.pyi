from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

isa: str
version: str
interface: str
openmp: bool

class DescentResult(TypedDict):
    blocks: list[NDArray[np.float64]]
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
    balance_drift: NDArray[np.float64]
    cosine_gap: NDArray[np.float64]
    head_cosine_gap: NDArray[np.float64]
    margin: NDArray[np.float64]
    certified_cosine: NDArray[np.float64]
    certified_ratio: NDArray[np.float64]
    top: NDArray[np.int64]
    recorded_attention: NDArray[np.float64]
    recorded_log_attention: NDArray[np.float64]
    recorded_blocks: list[NDArray[np.float64]]
    recorded_head: NDArray[np.float64]

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
    unique: NDArray[np.int8]
    iterations: NDArray[np.int64]

def default_threads() -> int: ...

class Loss:
    """A loss l(m) of margins m, with its struct in `losses.hpp`."""

    @property
    def margins(self) -> str:
        """What margins are: "real", "attention" on the right tokens, or "log_probability"."""
    @property
    def infimum(self) -> float:
        """Over all margins."""
    @property
    def largest_score(self) -> float:
        """Of a token, at most."""
    @property
    def positive(self) -> bool:
        """Whether it has `log_value`."""
    @property
    def has_excess(self) -> bool:
        """Whether it has `log_excess`."""
    def value(self, m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute l."""
    def slope(self, m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute l'."""
    def curvature(self, m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute l''."""
    def log_slope(self, m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute log(-l'), right far beyond where l' underflows."""
    def log_value(
        self, m: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Compute log l, l'/l and l''/l."""
    def log_excess(
        self,
        best: NDArray[np.float64],
        log_shortfall: NDArray[np.float64],
        log_share: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Compute log e of e = l(b - x) - l(b), x = exp(y), and its two derivatives by y.

        `log_share` is log((b - x) / b), which only losses of attention use, with b = 1.
        """

class Geometry:
    """A norm N of `geometries`, with the exponent p of "lp"."""

    newton_schulz: int
    def __init__(self, name: str, p: float = 2.0) -> None: ...
    @property
    def name(self) -> str:
        """One of `geometries`."""
    @property
    def p(self) -> float:
        """Of "lp"."""
    @property
    def by_coordinate(self) -> bool:
        """Whether directions depend on the coordinates of the matrix."""
    @property
    def has_mirror(self) -> bool:
        """Whether mirror descent has it."""
    def norm(self, matrices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute N of every matrix of a stack (..., d, e)."""
    def dual_norm(self, matrices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute N*(G), the largest <G, D> over N(D) <= 1, of every matrix G."""
    def direction(self, matrices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute the D where it is attained; zero for zero."""

class BlockRate:
    """The rate of a block's k-th step is rate / k^decay."""

    rate: float
    decay: float
    geometry: Geometry
    def __init__(self, rate: float, decay: float, geometry: Geometry = ...) -> None: ...

class StepRule:
    """A rule of `step_rules` with its settings, as `step_rules.hpp` has them."""

    blocks: list[BlockRate]
    head: BlockRate
    polyak_factor: float
    largest_step: float
    ridge: float
    weight_decay: float
    average: float
    average_seen: float
    momentum: float
    nesterov: bool
    adam_beta: float
    adam_second_beta: float
    adam_epsilon: float
    flow_tolerance: float
    batch: int
    seed: int
    def __init__(self, kind: str) -> None: ...
    @property
    def description(self) -> str:
        """In a sentence about a run."""
    @property
    def by_coordinate(self) -> bool:
        """Whether steps depend on the coordinates of tokens and queries."""
    @property
    def needs_infimum(self) -> bool:
        """Whether the infimum of the loss must be known."""
    @property
    def moves_along_gradients(self) -> bool:
        """Whether every block moves by multiples of its gradients alone."""
    @property
    def mirrors(self) -> bool:
        """Whether it is mirror descent."""
    @property
    def flows(self) -> bool:
        """Whether its steps are integrated."""
    @property
    def takes_momentum(self) -> bool:
        """Whether the rule goes with momentum."""
    @property
    def takes_average(self) -> bool:
        """Whether running means of gradients may take their place."""
    @property
    def takes_norm(self) -> bool:
        """Whether another norm than its own may be given."""

class BlockShape:
    """A block of parameters, in the core (B, rows, columns)."""

    @property
    def name(self) -> str:
        """As the caller knows it."""
    @property
    def axes(self) -> tuple[str, str]:
        """Rows and columns: "1", "d" of tokens, "e" of queries, or "m", which is free."""
    @property
    def transposed(self) -> bool:
        """Whether the caller has the transpose."""

class Parameterisation:
    """How parameters make query directions, with its struct in `parameterisation.hpp`."""

    @property
    def name(self) -> str: ...
    @property
    def blocks(self) -> list[BlockShape]: ...
    @property
    def queries(self) -> str:
        """What a query is: that of the "data", "one" for the number 1, or the fixed "prompt"."""
    @property
    def form(self) -> str:
        """How W follows: its transpose is the "block", "product" of two blocks, or "other"."""
    @property
    def bilinear(self) -> bool:
        """Whether W is bilinear in two blocks."""
    @property
    def diagonal(self) -> bool:
        """Whether W has nothing off its diagonal."""
    @property
    def reducible(self) -> bool:
        """Whether coordinates in the spans of tokens and queries suffice."""

losses: dict[str, Loss]
parameterisations: dict[str, Parameterisation]
heads: tuple[str, ...]
geometries: tuple[str, ...]
step_rules: tuple[str, ...]

class Head:
    def __init__(
        self,
        *,
        kind: str,
        scores: NDArray[np.float64],
        labels: NDArray[np.float64],
        vector: NDArray[np.float64],
        hidden: NDArray[np.float64],
        penalty: float,
        trained: bool,
    ) -> None: ...

class Problem:
    def __init__(
        self,
        *,
        tokens: NDArray[np.float64] | NDArray[np.float32],
        queries: NDArray[np.float64],
        lengths: NDArray[np.int64],
        sequence: NDArray[np.int64],
        head: Head,
    ) -> None: ...

class Parameters:
    def __init__(
        self,
        *,
        kind: Parameterisation,
        blocks: Sequence[NDArray[np.float64]],
        outside: NDArray[np.float64],
    ) -> None: ...

class References:
    def __init__(
        self,
        *,
        inside: NDArray[np.float64],
        outside: NDArray[np.float64],
        head: NDArray[np.float64],
    ) -> None: ...

class Embeddings:
    def __init__(
        self,
        *,
        rows: NDArray[np.float64],
        columns: NDArray[np.float64],
        row_gram: NDArray[np.float64],
        column_gram: NDArray[np.float64],
    ) -> None: ...

def descend(
    *,
    problem: Problem,
    start: Parameters,
    references: References,
    loss: Loss,
    rule: StepRule,
    certify: bool,
    certified_norms: list[Geometry],
    steps: int,
    record: NDArray[np.int64],
    record_attention: bool,
    record_parameters: bool,
    threads: int,
    report: Callable[[float], object] | None,
) -> DescentResult: ...
def descend_by_ids(
    *,
    pair: NDArray[np.int64],
    is_right: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    pairs: int,
    embeddings: Embeddings,
    references: NDArray[np.float64],
    references_outside: NDArray[np.float64],
    rule: StepRule,
    steps: int,
    record: NDArray[np.int64],
    threads: int,
    report: Callable[[float], object] | None,
) -> IdDescentResult: ...
def loss_and_gradient(
    *, problem: Problem, at: Parameters, loss: Loss, threads: int
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]], NDArray[np.float64]]: ...
def parameter_matrices(
    *,
    kind: Parameterisation,
    blocks: Sequence[NDArray[np.float64]],
    query_dimension: int,
    dimension: int,
) -> NDArray[np.float64]: ...
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
    token_ids: NDArray[np.int64] | None,
    query_ids: NDArray[np.int64] | None,
    start: NDArray[np.float64] | None,
    active_set: bool,
    optimality: float,
    infeasibility: float,
    threads: int,
    report: Callable[[float], object] | None,
) -> SvmResult: ...
def certify_frobenius(
    *,
    tokens: NDArray[np.float64] | NDArray[np.float32],
    queries: NDArray[np.float64],
    selected: NDArray[np.int64],
    lengths: NDArray[np.int64],
    rhs: NDArray[np.float64],
    equality: NDArray[np.bool_],
    token_ids: NDArray[np.int64] | None,
    query_ids: NDArray[np.int64] | None,
    dual: NDArray[np.float64],
    left: NDArray[np.float64] | None,
    right: NDArray[np.float64] | None,
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
def smallest_in_norm(
    *,
    tokens: NDArray[np.float64],
    queries: NDArray[np.float64],
    selected: NDArray[np.int64],
    lengths: NDArray[np.int64],
    rhs: NDArray[np.float64],
    equality: NDArray[np.bool_],
    norm: str,
    p: float,
    optimality: float,
    infeasibility: float,
    threads: int,
    report: Callable[[float], object] | None,
) -> SvmResult: ...
