"""Real images: handwritten digits, with their patches as tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from attsvm._arrays import FloatArray, IndexArray
from attsvm._validation import as_index_array, as_positive_float, as_positive_int
from attsvm.data.attention_data import AttentionData
from attsvm.datasets.drawing import draw_arrays, unit_rows

_SIDE = 8
_RIDGE = 1e-3  # penalty on |v|² per token; the tokens have unit norm


def digits(
    n: int,
    d: int,
    *,
    classes: tuple[int, int] = (3, 8),
    patch: int = 4,
    stride: int = 2,
    bandwidth: float = 1 / 6,
    batch: int | None = None,
    rng: int | np.random.Generator | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> AttentionData:
    """Draw images of two handwritten digits, with their patches as tokens.

    The images are the 1,797 of 8×8 pixels that scikit-learn carries. Each problem draws n distinct
    ones, as many of one class as of the other (an odd one by a fair coin), and embeds them with
    separate random features:

    tokens
        The square patches of an image, left to right and top to bottom. A patch is described by
        u = (pixels / bandwidth, position) / patch, with pixels scaled to [0, 1] and position the
        offset of its centre from the centre of the image in pixels: its content, and a positional
        encoding that keeps blank patches apart. It is embedded as x = cos(A u + b), the rows of A
        standard normal and b uniform on [0, 2π), scaled to unit norm: random Fourier features of a
        Gaussian kernel, under which two patches are at distance 1 when their pixels differ by
        `bandwidth` (root mean square) or their centres by one patch width. The dimension d is the
        number of features, so the problem can be over-parameterised without changing the images.
    labels
        -1 for ``classes[0]``, +1 for ``classes[1]``.
    value
        v is the unit vector along the ridge regression (no intercept) of the label of an image on
        each of its tokens, over the images of both classes that are not drawn for this problem. Up
        to scale v'x estimates the mean label of the images that hold the patch x, so that the score
        Y_i v'x_it says how far patch t speaks for the class of image i.
    queries
        The whole image, embedded in the same way by separate features, without position,
        u = pixels / bandwidth / 8: cross attention from the image to its patches, which may look
        for one kind of patch in one image and for another in the next.

    Parameters
    ----------
    n : int
        Images of one problem; at most half of what scikit-learn has of either class is drawn.
    d : int
        Random features. In d = 1 every token is -1 or +1.
    classes : pair of int
        Two different digits.
    patch : int
        Side of a patch in pixels, 1 to 8.
    stride : int
        Pixels between neighbouring patches. There are T = (1 + (8 - patch) // stride)² of them.
    bandwidth : float
        Root mean square difference of pixels in [0, 1] that counts as one bandwidth. Two images of
        the classes 3 and 8 typically differ by 0.32, two of their patches at one position by 0.35.
    batch, rng, dtype
        As of `unit_sphere`. The same seed draws the same images for every d, and the same features
        as far as they go.

    Returns
    -------
    AttentionData
        tokens ([B,] n, T, d), labels ([B,] n), queries ([B,] n, d), value ([B,] d).

    Notes
    -----
    What descent finds depends on `bandwidth`, because it sets how much the queries of different
    images have in common; the default was chosen with this in view. The share of 40 problems (n =
    10, d = 300, 3,000 normalised steps) that selected all optimal tokens was 5 % at 1/2, 45 % at
    1/4, 100 % at 1/6 and 98 % at 1/8, with mean cosines between queries of 0.81, 0.46, 0.19 and
    0.07; at d = 5 it was 21 % at 1/6, of 100 problems.

    References
    ----------
    Rahimi, Recht, "Random Features for Large-Scale Kernel Machines", 2007.
    """
    n, d = as_positive_int("n", n), as_positive_int("d", d)
    pair = as_index_array("classes", classes, "(2,)", shape=(2,))
    if pair.min() < 0 or pair.max() > 9 or pair[0] == pair[1]:
        raise ValueError(f"classes: expected two different digits, got {classes}")
    patch, stride = as_positive_int("patch", patch), as_positive_int("stride", stride)
    if patch > _SIDE:
        raise ValueError(f"patch: expected 1..{_SIDE} pixels, got {patch}")
    width = as_positive_float("bandwidth", bandwidth)

    images, targets = _images()
    chosen = np.isin(targets, pair)
    images, labels = images[chosen], np.where(targets[chosen] == pair[1], 1.0, -1.0)
    members = [np.flatnonzero(labels == label) for label in (-1.0, 1.0)]
    most = 2 * (min(len(member) for member in members) // 2)
    if n > most:
        raise ValueError(f"n: expected at most {most} images of the digits {classes}, got {n}")
    patches = _patches(images, patch, stride, width)
    wholes = images.reshape(len(images), _SIDE * _SIDE) / (width * _SIDE)

    def draw(rng: np.random.Generator) -> dict[str, FloatArray]:
        image_rng, token_rng, query_rng = rng.spawn(3)
        drawn = _draw_images(image_rng, members, n)
        held_out = np.delete(np.arange(len(labels)), drawn)
        embed = _random_features(token_rng, patches.shape[-1], d)
        return {
            "tokens": embed(patches[drawn]),
            "labels": labels[drawn],
            "queries": _random_features(query_rng, wholes.shape[-1], d)(wholes[drawn]),
            "value": _value(embed(patches[held_out]), labels[held_out]),
        }

    scales = {"bandwidth": width}
    return AttentionData(**draw_arrays(draw, batch=batch, rng=rng, dtype=dtype, scales=scales))


@cache
def _images() -> tuple[FloatArray, IndexArray]:
    """Read the images (1797, 8, 8), scaled to [0, 1], and the digit each of them shows."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ImportError(
            'attsvm.datasets.digits needs scikit-learn: pip install "attsvm[digits]"'
        ) from error
    bunch = load_digits()
    return bunch.images / 16.0, bunch.target.astype(np.int64)


def _patches(images: FloatArray, patch: int, stride: int, bandwidth: float) -> FloatArray:
    """Return u, pixels and position of every patch in bandwidths, (images, T, patch² + 2)."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (patch, patch), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    count, rows, columns = windows.shape[:3]
    pixels = windows.reshape(count, rows * columns, patch * patch) / (bandwidth * patch)
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    offsets = np.stack([row.ravel(), column.ravel()], axis=-1) * stride + (patch - _SIDE) / 2
    positions = np.broadcast_to(offsets / patch, (count, rows * columns, 2))
    return np.concatenate([pixels, positions], axis=-1)


def _random_features(
    rng: np.random.Generator, inputs: int, d: int
) -> Callable[[FloatArray], FloatArray]:
    """Draw the map from u to cos(A u + b) of unit norm; a larger d adds to its features."""
    frequency_rng, phase_rng = rng.spawn(2)
    frequencies = frequency_rng.standard_normal((d, inputs))
    phases = phase_rng.uniform(0.0, 2 * np.pi, d)
    return lambda u: unit_rows(np.cos(u @ frequencies.T + phases))


def _draw_images(rng: np.random.Generator, members: list[IndexArray], n: int) -> IndexArray:
    """Draw the indices of n distinct images, balanced between the two classes."""
    counts = [n // 2, n // 2]
    counts[rng.integers(2)] += n % 2
    drawn = [
        rng.choice(member, size=count, replace=False)
        for member, count in zip(members, counts, strict=True)
    ]
    return rng.permutation(np.concatenate(drawn))


def _value(tokens: FloatArray, labels: FloatArray) -> FloatArray:
    """Compute the unit vector along the ridge regression of labels (m,) on tokens (m, T, d)."""
    m, T, d = tokens.shape
    rows = tokens.reshape(m * T, d)
    gram = rows.T @ rows + _RIDGE * m * T * np.eye(d)
    return unit_rows(np.linalg.solve(gram, rows.T @ np.repeat(labels, T)))
