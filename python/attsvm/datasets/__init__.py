"""Problems to study: random ones, the real digits, and text."""

from attsvm.datasets.handwritten_digits import digits
from attsvm.datasets.next_tokens import next_token
from attsvm.datasets.signal_tokens import gaussian_classes, near_orthogonal, signal_noise
from attsvm.datasets.sphere import unit_sphere
from attsvm.datasets.texts import text

__all__ = [
    "digits",
    "gaussian_classes",
    "near_orthogonal",
    "next_token",
    "signal_noise",
    "text",
    "unit_sphere",
]
