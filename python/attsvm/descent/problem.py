"""Data and parameters as the core takes them: a batch of problems, and blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from attsvm import _core
from attsvm._arrays import ArrayLike, Float64Array, IndexArray
from attsvm._linalg import LowRank, euclidean_norm, in_own_span, own_coordinates
from attsvm._validation import (
    as_float64_array,
    as_float_array,
    as_float_dtype,
    require_direction,
    require_shape,
)
from attsvm.data.attention_data import AttentionData, require_queries
from attsvm.descent.blocks import Blocks, axes_of
from attsvm.descent.references import Factored, Reference, factors_of
from attsvm.heads import CoreHead, Head, fixed_head, require_loss_of_head, trained_head

_OF_MATRIX = (1, 2)


class Parameter(NamedTuple):
    """Blocks of parameters in the coordinates of the core, and what of W lies outside them."""

    # (B, rows, columns), as the core has them. For W and p one block V = W' (B, r, k), the part
    # inside the spans of tokens and queries.
    blocks: Sequence[Float64Array]
    rest: Float64Array | None  # (B, d, e): the part of W outside the spans; None where it is zero
    outside: Float64Array  # (B,): its norm


class Basis:
    """Orthonormal rows (B, k, d) with the span of k vectors, formed when first asked for.

    Until then it holds the vectors (B, k, d), which must not change. Threads that ask for the rows
    at once each form them, to the same bits.
    """

    def __init__(self, vectors: NDArray[Any], threads: int, *, formed: bool = False) -> None:
        self._held, self._threads = (vectors, formed), threads

    def rows(self) -> Float64Array:
        """Return the rows; the vectors are dropped."""
        rows, formed = self._held
        if not formed:
            vectors = rows.astype(np.float64, copy=False)
            _, basis = in_own_span(vectors, num_threads=self._threads)
            assert basis is not None
            rows, _ = self._held = basis, True
        return rows


def as_batch(
    name: str, value: ArrayLike, text: str, one: Sequence[int | None], batch: int | None
) -> Float64Array:
    """Check an array of shape `one` for each problem; return float64 (B, *one), perhaps read-only.

    An array without the batch axis serves all problems. None in `one` is any size.
    """
    in_batch = f"(B, {text[1:]}"
    both = text if batch is None else f"{text} or {in_batch}"
    ndim = {len(one), len(one) + (batch is not None)}
    array = as_float64_array(name, value, both, ndim=ndim)
    own = array.shape[array.ndim - len(one) :]
    wanted = tuple(found if size is None else size for size, found in zip(one, own, strict=True))
    lead = (batch or 1,)
    batched = array.ndim > len(one)
    shape = (in_batch, (*lead, *wanted)) if batched else (text, wanted)
    require_shape(name, array, *shape)
    return np.broadcast_to(array, (*lead, *wanted))


class Coordinates(NamedTuple):
    """What the caller's W and p are made of besides blocks in the coordinates of the core."""

    blocks: Blocks
    batch: int | None
    dimensions: tuple[int, int]
    # What tokens and queries have coordinates in; None: the axes.
    of_tokens: Basis | None = None
    of_queries: Basis | None = None
    inner_basis: Float64Array | None = None  # (B, c, m) of p and of the rows of W that move
    resting: Float64Array | None = None  # (B, m, d): the part of W' that does not

    @property
    def token_basis(self) -> Float64Array | None:
        """Orthonormal rows (B, k, d) that tokens have coordinates in; None where these are axes."""
        return None if self.of_tokens is None else self.of_tokens.rows()

    @property
    def query_basis(self) -> Float64Array | None:
        """Orthonormal rows (B, r, e) of queries, as `token_basis`."""
        return None if self.of_queries is None else self.of_queries.rows()

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """The shape of W (also where it is K Q') or p as the caller knows it."""
        return self._one if self.batch is None else (self.batch, *self._one)

    @property
    def _one(self) -> tuple[int, ...]:
        return self.dimensions[:1] if self.blocks.kind.queries == "one" else self.dimensions

    @property
    def answer(self) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """What takes an array with a batch axis to the one that the caller gets."""
        return itemgetter(0) if self.batch is None else lambda array: array

    def as_caller_blocks(
        self, blocks: Sequence[Float64Array], rest: Float64Array | None
    ) -> dict[str, Float64Array]:
        """Return blocks, or their gradients, by name, in the caller's axes behind the batch's."""
        if self.blocks.kind.form == "block":
            return {self.blocks.names[0]: self.as_caller_parameter(blocks[0], rest)}
        if self.inner_basis is not None and self.resting is not None:
            blocks = [self._lift_inner(blocks[0]) + self.resting, blocks[1] @ self.inner_basis]
        result = {}
        for shape, block in zip(self.blocks.kind.blocks, blocks, strict=True):
            laid = np.ascontiguousarray(np.swapaxes(block, 1, 2) if shape.transposed else block)
            laid = laid.reshape(len(laid), -1) if "1" in shape.axes else laid
            result[shape.name] = laid
        return result

    def as_caller_parameter(self, V: Float64Array, rest: Float64Array | None) -> Float64Array:
        """Return W (B, d, d) or p (B, d) from V (B, r, k) and the part outside the spans."""
        W = self._lift(V) if rest is None else self._lift(V) + rest
        return np.ascontiguousarray(W).reshape(len(V), *self._one)

    def factors(self, trained: Parameter) -> tuple[Float64Array, Float64Array]:
        """Return (left, right) of W = left' right, shapes (B, s, d) and (B, s, e)."""
        if self.blocks.kind.form == "product":
            left, right = self._left(trained.blocks[0]), np.swapaxes(trained.blocks[1], 1, 2)
        elif self.blocks.kind.form == "other":
            right = np.swapaxes(self._matrices(trained), 1, 2)
            left = np.broadcast_to(np.eye(right.shape[1]), (len(right), *2 * right.shape[1:2]))
        else:
            left = self._left(trained.blocks[0])
            B, r, _ = left.shape
            right = np.broadcast_to(np.eye(r), (B, r, r))
            if self.query_basis is not None:
                right = self.query_basis
        return left, right

    def dense(self, trained: Parameter) -> Float64Array:
        """Return W (B, d, d), or p (B, d)."""
        if self.blocks.kind.form == "product":
            left, right = (np.swapaxes(block, 1, 2) for block in trained.blocks)
            product: Float64Array = left @ right
            if self.token_basis is not None:
                product = np.swapaxes(self.token_basis, 1, 2) @ product
            return product.reshape(len(product), *self._one)
        V = trained.blocks[0] if self.blocks.kind.form == "block" else self._matrices(trained)
        return self.as_caller_parameter(V, trained.rest)

    def _matrices(self, parameter: Parameter) -> Float64Array:
        """Return V (B, e, d) of blocks of which it is none."""
        d, e = self.dimensions
        return _core.parameter_matrices(
            kind=self.blocks.kind,
            blocks=[np.ascontiguousarray(block) for block in parameter.blocks],
            query_dimension=e,
            dimension=d,
        )

    def as_parameter(self, name: str, value: Reference, *, with_rest: bool = True) -> Parameter:
        """Check W or p as given by the caller, and split it.

        One array given with a batch serves all of its problems. Of factors W is not formed unless
        `with_rest` asks for its `rest`.
        """
        if isinstance(value, Factored):
            split = self._split_factored(name, value)
            if not with_rest:
                return split
            value = LowRank(*factors_of(name, value)).dense().reshape(self.parameter_shape)
        text, B = "(d,)" if len(self._one) == 1 else "(d, d)", self.batch or 1
        W = as_batch(name, value, text, self._one, self.batch).reshape(B, *self.dimensions)
        W = inside = np.array(W)
        if self.token_basis is None and self.query_basis is None:
            return Parameter([np.ascontiguousarray(np.swapaxes(W, 1, 2))], None, np.zeros(B))
        with np.errstate(over="ignore", invalid="ignore"):
            if self.token_basis is not None:
                inside = self.token_basis @ inside
            if self.query_basis is not None:
                inside = inside @ np.swapaxes(self.query_basis, 1, 2)
        if not np.isfinite(inside).all():
            raise ValueError(
                f"{name}: expected entries whose sums float64 holds, got one of {np.abs(W).max()}"
            )
        V = np.ascontiguousarray(np.swapaxes(inside, 1, 2))
        rest = W - self._lift(V)
        return Parameter([V], rest, euclidean_norm(rest, _OF_MATRIX))

    def as_blocks(self, name: str, given: Mapping[str, ArrayLike]) -> Parameter:
        """Check blocks as given by the caller, such as K and Q of W = K Q' with any m >= 1.

        A block given without the batch axis serves all problems.
        """
        if self.blocks.kind.form == "block":
            ((block, value),) = given.items()
            return self.as_parameter(f"{name}[{block!r}]", value)
        B = self.batch or 1
        inner: dict[str, int] = {}
        blocks = []
        sizes = {"1": 1} | dict(zip("de", self.dimensions, strict=True))
        for shape in self.blocks.kind.blocks:
            axes, label = axes_of(shape), f"{name}[{shape.name!r}]"
            text = f"({', '.join(axes)}{',' if len(axes) == 1 else ''})".replace("e", "d")
            one = [None if axis == "m" else sizes[axis] for axis in axes]
            laid = as_batch(label, given[shape.name], text, one, self.batch)
            if "m" in axes:
                inner[shape.name] = sizes["m"] = laid.shape[1 + axes.index("m")]
            laid = np.swapaxes(laid, 1, 2) if shape.transposed and len(axes) == 2 else laid
            laid = laid.reshape(B, *(sizes[axis] for axis in shape.axes))
            blocks.append(np.array(laid, order="C"))
        if len(set(inner.values())) > 1:
            raise ValueError(
                f"{name}: expected {' and '.join(inner)} with one inner size m, got "
                f"{' and '.join(map(str, inner.values()))}"
            )
        return Parameter(blocks, None, np.zeros(B))

    def _split_factored(self, name: str, value: Factored) -> Parameter:
        given = factors_of(name, value)
        B = self.batch or 1
        left, right = (_with_axis(part, self.batch) for part in given)
        d, e = self.dimensions
        if left.shape[::2] != (B, d) or right.shape[::2] != (B, e):
            raise ValueError(
                f"{name}: expected a solution of this problem's shape {self.parameter_shape}, "
                f"got factors of shapes {given[0].shape} and {given[1].shape}"
            )
        left_inside, left_rest = _project(left, self.token_basis)
        right_inside, right_rest = _project(right, self.query_basis)
        V = np.ascontiguousarray(np.swapaxes(right_inside, 1, 2) @ left_inside)
        # left' right = (inside + rest)' right, and the three parts that are not inside/inside are
        # orthogonal to it and, taken as two, to each other.
        outside = np.hypot(
            LowRank(left_rest, right).norm(), LowRank(left_inside, right_rest).norm()
        )
        return Parameter([V], None, outside)

    def without_tokens(self, trained: Parameter) -> tuple[Coordinates, Parameter]:
        """Return both in the axes of tokens, where V (B, r, k) is then no larger than a basis."""
        V = trained.blocks[0]
        if self.of_tokens is None or self.blocks.kind.form != "block" or V.shape[1] > V.shape[2]:
            return self, trained
        return self._replace(of_tokens=None), trained._replace(blocks=[self._left(V)])

    def _left(self, rows: Float64Array) -> Float64Array:
        """Return rows (B, s, d) from their coordinates of tokens."""
        return rows if self.token_basis is None else rows @ self.token_basis

    def _lift(self, V: Float64Array) -> Float64Array:
        W = np.swapaxes(self._left(V), 1, 2)
        return W if self.query_basis is None else W @ self.query_basis

    def _lift_inner(self, image: Float64Array) -> Float64Array:
        """Return what moves of W' (B, m, d) from its coordinates."""
        assert self.inner_basis is not None
        inner = np.swapaxes(self.inner_basis, 1, 2)
        return inner @ (image if self.token_basis is None else image @ self.token_basis)


class Trained(NamedTuple):
    """A batch of trained parameters, in the coordinates they were trained in until asked for.

    A pickle has the parameters in the axes of the tokens instead of a basis of the tokens.
    """

    coordinates: Coordinates
    parameter: Parameter
    query: Float64Array | None  # (B, 1, e): that of all inputs, None where the data have queries
    other_head: str | None  # as of `CoreHead`

    def __reduce__(self) -> tuple[type[Trained], tuple[Any, ...]]:
        """Return what a pickle holds."""
        both = self.coordinates.without_tokens(self.parameter)
        return Trained, (*both, self.query, self.other_head)

    @property
    def blocks(self) -> Blocks:
        """What was trained."""
        return self.coordinates.blocks

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of W or p as the caller knows it."""
        return self.coordinates.parameter_shape

    def dense(self) -> Float64Array:
        """Form W (B, d, d), also where it is made of other blocks, or p (B, d)."""
        return self.coordinates.dense(self.parameter)

    def by_block(self) -> dict[str, Float64Array]:
        """Return every block by name in the caller's axes."""
        return self.coordinates.as_caller_blocks(self.parameter.blocks, self.parameter.rest)

    def factors(self) -> tuple[Float64Array, Float64Array] | None:
        """Return (left, right) of W = left' right; None where the start left a part outside."""
        if self.parameter.rest is not None:
            return None
        return self.coordinates.factors(self.parameter)

    @property
    def answer(self) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """That of the coordinates."""
        return self.coordinates.answer


class CoreProblem(NamedTuple):
    """Arrays of one call of the core: tokens (B, s, T, k), queries (B, n, r), and a head.

    The parameter is V (B, r, k): V = W' for logits X W z, and the single row p' for logits X p,
    whose queries are all the number 1. With a fixed p the logits X W p have queries |p|, and W
    counts along p alone. Where it pays, tokens and queries stand in coordinates of their spans:
    k = sT < d and r = n < e. Not so for W = K Q', where what of a random start lies outside the
    spans is part of W and changes; with a ridge, which pulls at it; with Adam's steps, which depend
    on the coordinates; and for tokens where v is trained, whose start need not lie in their span.
    Where W and p of X W p are trained, the spans depend on their start: `from_start`.
    """

    coordinates: Coordinates
    tokens: NDArray[Any]
    queries: Float64Array
    head: CoreHead
    lengths: IndexArray
    sequence: IndexArray
    threads: int

    @classmethod
    def of(
        cls,
        data: AttentionData,
        blocks: Blocks,
        head: Head | None,
        loss: str,
        *,
        prompt: ArrayLike | None = None,
        value: Any = None,
        value_name: str = "init['v']",
        reduced: bool = True,
        dtype: DTypeLike | None,
        threads: int,
        passes: int,
        batches: bool = False,
    ) -> CoreProblem:
        """Check that `data` has what `blocks` and `head` need, and lay it out.

        `prompt` is the fixed p of "Wp", `value` the start of a trained v, which the caller calls
        `value_name`. `reduced` says whether descent is the same in other orthonormal coordinates;
        `passes` is how often the tokens will be read: what a reduction must pay for. With
        mini-`batches` the first step does not read all tokens, and scores that the loss cannot bear
        are looked for here.
        """
        stored = data.tokens
        if dtype is not None:
            storage = as_float_dtype("dtype", dtype)
            stored = as_float_array("dtype", stored, "tokens", ndim={3, 4}, dtype=storage)
        tokens = np.ascontiguousarray(_with_axis(stored, data.batch))
        lengths = np.ascontiguousarray(_with_axis(data.lengths, data.batch))
        queries = _queries(data, blocks.kind.queries, prompt)
        dimensions, of_queries = (data.d, queries.shape[2]), None
        if reduced := reduced and blocks.kind.reducible:
            queries, of_queries = _reduced(queries, prompt is not None, threads)
        if blocks.head:
            require_loss_of_head(loss, head, trained=True)
            if head is not None:
                raise ValueError(
                    f"head: expected None where v is trained, got {type(head).__name__}"
                )
            core_head = trained_head(value_name, value, data)
        else:
            core_head = fixed_head(data, head, loss, tokens, lengths, threads, scored=batches)
        coordinates = Coordinates(
            blocks=blocks, batch=data.batch, dimensions=dimensions, of_queries=of_queries
        )
        problem = cls(
            coordinates=coordinates,
            tokens=tokens,
            queries=queries,
            head=core_head,
            lengths=lengths,
            sequence=data.sequence_index,
            threads=threads,
        )
        B, s, T, d = tokens.shape
        if blocks.head or not (reduced and _reduction_pays(s * T, d, passes)):
            return problem
        flat = tokens.reshape(B, s * T, d)
        of_flat = own_coordinates(flat.astype(np.float64, copy=False), num_threads=threads)
        # The caller may write to his tokens, and to his queries, before he asks for W.
        basis = Basis(flat.copy(), threads)
        return problem._of_tokens(of_flat.reshape(B, s, T, -1), basis)

    def from_start(self, start: Parameter, passes: int) -> tuple[CoreProblem, Parameter]:
        """Return problem and start in coordinates of what moves, where W and p are trained.

        With g = Σ u_i in the span of the tokens, the gradients are g p' and W'g: p stays in the
        span of its start and of the W'x, and of W only the action on this span changes. Tokens get
        coordinates of their span and of its image by W.
        """
        W, p = start.blocks
        B, s, T, d = self.tokens.shape
        m, count = W.shape[1], s * T + 1
        if not _reduction_pays(count, m, passes):
            return self, start
        flat = self.tokens.reshape(B, s * T, d).astype(np.float64, copy=False)
        moving = np.concatenate([flat @ np.swapaxes(W, 1, 2), p], axis=1)
        _, inner = in_own_span(moving, num_threads=self.threads)
        assert inner is not None
        at = self.coordinates._replace(inner_basis=inner)
        problem, image = self._replace(coordinates=at), inner @ W
        if not at.blocks.head and s * T + count < d:
            both = np.concatenate([flat, image], axis=1)
            coordinates, rows = in_own_span(both, num_threads=self.threads)
            assert rows is not None
            image = np.ascontiguousarray(coordinates[:, s * T :])
            tokens = np.ascontiguousarray(coordinates[:, : s * T]).reshape(B, s, T, -1)
            problem = problem._of_tokens(tokens, Basis(rows, self.threads, formed=True))
        blocks = [image, p @ np.swapaxes(inner, 1, 2)]
        at = problem.coordinates
        at = at._replace(resting=W - at._lift_inner(image))
        return problem._replace(coordinates=at), Parameter(blocks, None, start.outside)

    def _of_tokens(self, coordinates: Float64Array, basis: Basis) -> CoreProblem:
        """Return the problem of tokens (B, s, T, k) in this basis.

        Scores stay those of the tokens themselves: tokens that are equal have equal ones.
        """
        head = self.head.scored(self.tokens, self.lengths, self.threads)
        if head.scores is None:
            head = head.in_basis(basis.rows())
        at = self.coordinates._replace(of_tokens=basis)
        return self._replace(coordinates=at, tokens=coordinates, head=head)

    def to_core(self) -> _core.Problem:
        """Return the arrays as the core takes them."""
        return _core.Problem(
            tokens=self.tokens,
            queries=self.queries,
            lengths=self.lengths,
            sequence=self.sequence,
            head=self.head.to_core(),
        )

    def trained(self, parameter: Parameter) -> Trained:
        """Return a parameter with what it takes to be read and evaluated: neither tokens nor head.

        The bases that are not formed yet are those of this problem.
        """
        at, query = self.coordinates, None
        if at.blocks.kind.queries != "data":
            first, basis = self.queries[:, :1], at.query_basis
            query = first.copy() if basis is None else first @ basis
        return Trained(at, parameter, query, self.head.other_head)

    def to_core_parameters(self, parameter: Parameter) -> _core.Parameters:
        """Return what the core starts from."""
        return _core.Parameters(
            kind=self.coordinates.blocks.kind, blocks=parameter.blocks, outside=parameter.outside
        )

    def zero(self) -> Parameter:
        """Return blocks of zeros, of those without a free axis, in the coordinates of the core."""
        B = self.tokens.shape[0]
        sizes = {"1": 1, "d": self.tokens.shape[3], "e": self.queries.shape[2]}
        axes = self.coordinates.blocks.axes
        blocks = [np.zeros((B, sizes[rows], sizes[columns])) for rows, columns in axes]
        return Parameter(blocks, None, np.zeros(B))


def _with_axis(array: NDArray[Any], batch: int | None) -> NDArray[Any]:
    """Return the array of one problem with a batch axis; that of a batch as it is."""
    return array[np.newaxis] if batch is None else array


def _queries(data: AttentionData, source: str, prompt: ArrayLike | None) -> Float64Array:
    """Return queries (B, n, e): those of the data, the number 1, or p for every input."""
    B, n, d = data.batch or 1, data.n, data.d
    if source == "prompt":
        if prompt is None:
            raise ValueError("prompt: needed to train W in the logits X W p, got None")
        p = as_batch("prompt", prompt, "(d,)", (d,), data.batch)
        require_direction("prompt", p.any(axis=-1))
        return np.array(np.broadcast_to(p[:, np.newaxis], (B, n, d)), order="C")
    if prompt is not None:
        raise ValueError("prompt: expected None where logits are not X W p, got an array")
    if source == "one":
        return np.ones((B, n, 1))
    queries = _with_axis(require_queries(data, "training W"), data.batch)
    return np.ascontiguousarray(queries, dtype=np.float64)


def _reduced(queries: Float64Array, one: bool, threads: int) -> tuple[Float64Array, Basis | None]:
    """Return queries (B, n, e), or `one` for all inputs, in coordinates of their span if smaller.

    That is cheap, and V would be (d, d) without.
    """
    B, n, e = queries.shape
    if one:
        prompt = queries[:, :1]
        length = np.linalg.norm(prompt, axis=2, keepdims=True)
        lengths = np.ascontiguousarray(np.broadcast_to(length, (B, n, 1)))
        return lengths, Basis(prompt / length, threads, formed=True)
    if n >= e:
        return queries, None
    return own_coordinates(queries, num_threads=threads), Basis(queries.copy(), threads)


def _reduction_pays(count: int, dimension: int, passes: int) -> bool:
    """Return whether a basis of `count` vectors costs less than the columns it saves."""
    return count < dimension and passes * (dimension - count) >= 2 * count * dimension


def _project(rows: Float64Array, basis: Float64Array | None) -> tuple[Float64Array, Float64Array]:
    """Return coordinates of the rows (B, s, d) in the basis, and the part of the rows outside."""
    if basis is None:
        return rows, np.zeros_like(rows)
    inside = rows @ np.swapaxes(basis, 1, 2)
    return inside, rows - inside @ basis
