"""JAX: the whole loop in one compiled program, vectorised over problems, one shard per device.

XLA's time depends on how formulas are put to it. Products are tried as contractions and as sums
that it fuses, with one or four steps to a turn of the loop; the quickest on the task is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from bench.peers import Run
from bench.tasks import NGD_EPS, Array, Descent

Blocks = tuple[jax.Array, ...]
Product = Callable[[str, jax.Array, jax.Array], jax.Array]
_LARGEST_FUSED = 2**17


def fused(formula: str, A: jax.Array, B: jax.Array) -> jax.Array:
    """Compute a product as a sum over a broadcast product, which XLA makes one loop of."""
    terms, result = formula.split("->")
    left, right = terms.split(",")
    axes = result + "".join(axis for axis in left if axis not in result)

    def spread(array: jax.Array, names: str) -> jax.Array:
        order = [names.index(axis) for axis in axes if axis in names]
        missing = [place for place, axis in enumerate(axes) if axis not in names]
        return jnp.expand_dims(jnp.transpose(array, order), missing)

    return (spread(A, left) * spread(B, right)).sum(axis=tuple(range(len(result), len(axes))))


def descent(task: Descent) -> Run:
    devices = len(jax.devices())
    place: Callable[[Array], jax.Array] = jax.device_put
    if task.batched and devices > 1:
        shard = NamedSharding(jax.make_mesh((devices,), ("b",)), PartitionSpec("b"))
        place = lambda array: jax.device_put(array, shard)  # noqa: E731
    arguments = tuple(place(a) for a in (task.tokens, task.queries, task.scores()))
    starts = tuple(map(place, task.starts()))

    small = not task.batched and task.tokens.size <= _LARGEST_FUSED
    products: tuple[Product, ...] = (jnp.einsum, fused) if small else (jnp.einsum,)
    turns = (1, 4) if small or task.batched else (1,)
    loops = [_loop(task, product, turn) for product in products for turn in turns]

    def seconds(loop: Callable[..., Blocks], steps: int) -> float:
        begin = time.perf_counter()
        jax.block_until_ready(loop(starts, steps, *arguments))
        return time.perf_counter() - begin

    for loop in loops:
        seconds(loop, 1)
    quickest = loops[0]
    if len(loops) > 1:
        steps = max(8, int(8 * 0.01 / seconds(loops[0], 8)))
        quickest = min(loops, key=lambda loop: min(seconds(loop, steps) for _ in range(3)))

    def run(steps: int) -> Callable[[], Array]:
        trained = jax.block_until_ready(quickest(starts, steps, *arguments))
        return lambda: task.outcome(*map(np.asarray, trained))

    return run


def _loop(task: Descent, product: Product, turn: int) -> Callable[..., Blocks]:
    def one(blocks: Blocks, X: jax.Array, Z: jax.Array, scores: jax.Array) -> Blocks:
        gradients = _gradients(task.parameter, product, X, Z, scores, blocks)
        return tuple(
            block - dL * (task.lr / (jnp.sqrt((dL * dL).sum()) + NGD_EPS))
            for block, dL in zip(blocks, gradients, strict=True)
        )

    step = jax.vmap(one) if task.batched else one

    @jax.jit
    def loop(blocks: Blocks, steps: jax.Array, *arguments: jax.Array) -> Blocks:
        def several(_: jax.Array, blocks: Blocks) -> Blocks:
            for _ in range(turn):
                blocks = step(blocks, *arguments)
            return blocks

        blocks = lax.fori_loop(0, steps // turn, several, blocks)
        if turn == 1:
            return blocks
        return lax.fori_loop(0, steps % turn, lambda _, b: step(b, *arguments), blocks)

    return loop


def _gradients(
    parameter: str, product: Product, X: jax.Array, Z: jax.Array, scores: jax.Array, blocks: Blocks
) -> Blocks:
    def query_gradient(q: jax.Array) -> jax.Array:
        """Compute u_i = dloss/dq_i from the query directions q_i, of one problem."""
        s = jax.nn.softmax(product("ntd,nd->nt", X, q), axis=-1)
        mean = (s * scores).sum(axis=-1, keepdims=True)
        c = s * (scores - mean) / (-X.shape[0] * (1 + jnp.exp(mean)))
        return product("nt,ntd->nd", c, X)

    if parameter == "p":
        return (query_gradient(jnp.broadcast_to(blocks[0], Z.shape)).sum(axis=0),)
    if parameter == "W":
        return (product("nd,ne->de", query_gradient(product("ne,de->nd", Z, blocks[0])), Z),)
    K, Q = blocks
    q = product("nm,dm->nd", product("ne,em->nm", Z, Q), K)
    G = product("nd,ne->de", query_gradient(q), Z)
    return product("de,em->dm", G, Q), product("de,dm->em", G, K)
