from collections.abc import Callable, Sequence
from typing import Final, TypedDict

import numpy as np
from numpy.typing import NDArray
from typing_extensions import NotRequired, Unpack

from attsvm._arrays import BoolArray, Float64Array, IndexArray

Tokens = Float64Array | NDArray[np.float32]

isa: str
version: str
interface: str
openmp: bool

class DescentResult(TypedDict):
    blocks: list[Float64Array]
    attention: Float64Array
    log_attention: Float64Array
    selected: IndexArray
    series: Float64Array  # as of `IdDescentResult`; of a trained head its norm is the 4th
    largest_score: float
    head: NotRequired[Float64Array]  # if trained
    # Of what was asked for
    balance_drift: NotRequired[Float64Array]
    cosine_gap: NotRequired[Float64Array]
    head_cosine_gap: NotRequired[Float64Array]
    margin: NotRequired[Float64Array]
    certified_cosine: NotRequired[Float64Array]
    certified_ratio: NotRequired[Float64Array]
    top: NotRequired[IndexArray]
    recorded_attention: NotRequired[Float64Array]
    recorded_log_attention: NotRequired[Float64Array]
    recorded_blocks: list[Float64Array]
    recorded_head: NotRequired[Float64Array]

class IdDescentResult(TypedDict):
    coefficients: Float64Array
    attention: Float64Array
    log_attention: Float64Array
    selected: IndexArray
    # (5, B, R): loss, loss less its infimum, norm, log of the gradient's norm, top weight
    series: Float64Array
    cosine_gap: Float64Array

class SvmResult(TypedDict):
    dual: Float64Array
    margins: Float64Array
    left: Float64Array
    right: Float64Array
    norm: Float64Array
    gap: Float64Array
    kkt: Float64Array
    status: NDArray[np.int8]
    unique: NDArray[np.int8]
    iterations: IndexArray

def default_threads() -> int: ...

class Loss:
    """A loss l(m) of margins m, with its struct in `losses.hpp`."""

    # What margins are: "real", "attention" on the right tokens, or "log_probability".
    margins: Final[str]
    infimum: Final[float]  # over all margins
    largest_score: Final[float]  # of a token, at most
    positive: Final[bool]  # whether it has `log_value`
    has_excess: Final[bool]  # whether it has `log_excess`
    def value(self, m: Float64Array) -> Float64Array:
        """Compute l."""
    def slope(self, m: Float64Array) -> Float64Array:
        """Compute l'."""
    def curvature(self, m: Float64Array) -> Float64Array:
        """Compute l''."""
    def log_slope(self, m: Float64Array) -> Float64Array:
        """Compute log(-l'), right far beyond where l' underflows."""
    def log_value(self, m: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
        """Compute log l, l'/l and l''/l."""
    def log_excess(
        self, best: Float64Array, log_shortfall: Float64Array, log_share: Float64Array
    ) -> tuple[Float64Array, Float64Array, Float64Array]:
        """Compute log e of e = l(b - x) - l(b), x = exp(y), and its two derivatives by y.

        `log_share` is log((b - x) / b), which only losses of attention use, with b = 1.
        """

class Geometry:
    """A norm N of `geometries`, with the exponent p of "lp"."""

    newton_schulz: int
    name: Final[str]  # one of `geometries`
    p: Final[float]  # of "lp"
    by_coordinate: Final[bool]  # whether directions depend on the coordinates of the matrix
    has_mirror: Final[bool]  # whether mirror descent has it
    def __init__(self, name: str, p: float = 2.0) -> None: ...
    def norm(self, matrices: Float64Array) -> Float64Array:
        """Compute N of every matrix of a stack (..., d, e)."""
    def dual_norm(self, matrices: Float64Array) -> Float64Array:
        """Compute N*(G), the largest <G, D> over N(D) <= 1, of every matrix G."""
    def direction(self, matrices: Float64Array) -> Float64Array:
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
    description: Final[str]  # in a sentence about a run
    by_coordinate: Final[bool]  # whether steps depend on the coordinates of tokens and queries
    needs_infimum: Final[bool]  # whether the infimum of the loss must be known
    # Whether every block moves by multiples of its gradients alone.
    moves_along_gradients: Final[bool]
    mirrors: Final[bool]  # whether it is mirror descent
    flows: Final[bool]  # whether its steps are integrated
    takes_momentum: Final[bool]  # whether the rule goes with momentum
    takes_average: Final[bool]  # whether running means of gradients may take their place
    takes_norm: Final[bool]  # whether another norm than its own may be given
    def __init__(self, kind: str) -> None: ...
    def copy(self) -> StepRule: ...

class BlockShape:
    """A block of parameters, in the core (B, rows, columns)."""

    name: Final[str]  # as the caller knows it
    # Rows and columns: "1", "d" of tokens, "e" of queries, or "m", which is free.
    axes: Final[tuple[str, str]]
    transposed: Final[bool]  # whether the caller has the transpose

class Parameterisation:
    """How parameters make query directions, with its struct in `parameterisation.hpp`."""

    name: Final[str]
    blocks: Final[list[BlockShape]]
    # What a query is: that of the "data", "one" for the number 1, or the fixed "prompt".
    queries: Final[str]
    # How W follows: its transpose is the "block", "product" of two blocks, or "other".
    form: Final[str]
    bilinear: Final[bool]  # whether W is bilinear in two blocks
    diagonal: Final[bool]  # whether W has nothing off its diagonal
    reducible: Final[bool]  # whether coordinates in the spans of tokens and queries suffice

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
        scores: Float64Array | None,
        labels: Float64Array,
        vector: Float64Array | None,
        hidden: Float64Array | None,
        penalty: float,
        trained: bool,
    ) -> None: ...

class Problem:
    def __init__(
        self,
        *,
        tokens: Tokens,
        queries: Float64Array,
        lengths: IndexArray,
        sequence: IndexArray,
        head: Head,
    ) -> None: ...

class Parameters:
    def __init__(
        self, *, kind: Parameterisation, blocks: Sequence[Float64Array], outside: Float64Array
    ) -> None: ...

class References:
    def __init__(
        self, *, inside: Float64Array, outside: Float64Array, head: Float64Array
    ) -> None: ...

class Embeddings:
    def __init__(
        self,
        *,
        rows: Float64Array,
        columns: Float64Array,
        row_gram: Float64Array,
        column_gram: Float64Array,
    ) -> None: ...

class Svms:
    """SVM problems, of the arrays of an `attsvm.svm.svm_problem.SvmProblem` in their order."""

    def __init__(
        self,
        tokens: Tokens,
        queries: Float64Array,
        selected: IndexArray,
        lengths: IndexArray,
        rhs: Float64Array,
        equality: BoolArray,
        token_ids: IndexArray | None,
        query_ids: IndexArray | None,
    ) -> None: ...

def descend(
    *,
    problem: Problem,
    start: Parameters,
    references: References | None,
    loss: Loss,
    rule: StepRule,
    certify: bool,
    certified_norms: list[Geometry],
    steps: int,
    record: IndexArray,
    record_attention: bool,
    record_parameters: bool,
    threads: int,
    report: Callable[[float], object] | None,
) -> DescentResult: ...
def descend_by_ids(
    *,
    pair: IndexArray,
    is_right: NDArray[np.uint8],
    lengths: IndexArray,
    pairs: int,
    embeddings: Embeddings,
    references: Float64Array,
    references_outside: Float64Array,
    rule: StepRule,
    steps: int,
    record: IndexArray,
    threads: int,
    report: Callable[[float], object] | None,
) -> IdDescentResult: ...
def loss_and_gradient(
    *, problem: Problem, at: Parameters, loss: Loss, threads: int
) -> tuple[Float64Array, float, list[Float64Array], Float64Array]: ...
def parameter_matrices(
    *, kind: Parameterisation, blocks: Sequence[Float64Array], query_dimension: int, dimension: int
) -> Float64Array: ...
def token_scores(
    *,
    tokens: Tokens,
    labels: Float64Array,
    value: Float64Array,
    lengths: IndexArray,
    sequence: IndexArray,
    threads: int,
) -> Float64Array: ...
def all_finite(arrays: Sequence[Float64Array]) -> bool: ...
def row_coordinates(*, rows: Float64Array, threads: int) -> Float64Array: ...
def row_bases(*, rows: Float64Array, threads: int) -> tuple[Float64Array, Float64Array]: ...

class SvmSettings(TypedDict):
    optimality: float
    infeasibility: float
    threads: int
    report: Callable[[float], object] | None

def smallest_frobenius(
    *,
    svms: Svms,
    start: Float64Array | None,
    active_set: bool,
    extended: bool,
    **settings: Unpack[SvmSettings],
) -> SvmResult: ...
def certify_frobenius(
    *,
    svms: Svms,
    dual: Float64Array,
    left: Float64Array | None,
    right: Float64Array | None,
    **settings: Unpack[SvmSettings],
) -> SvmResult: ...
def smallest_nuclear(
    *, svms: Svms, method: str, extended: bool, **settings: Unpack[SvmSettings]
) -> SvmResult: ...
def smallest_in_norm(
    *, svms: Svms, norm: str, p: float, extended: bool, **settings: Unpack[SvmSettings]
) -> SvmResult: ...
