"""Problems to study: random ones, and the real digits."""

from attsvm.datasets.handwritten_digits import digits
from attsvm.datasets.signal_tokens import gaussian_classes, near_orthogonal
from attsvm.datasets.sphere import unit_sphere

__all__ = ["digits", "gaussian_classes", "near_orthogonal", "unit_sphere"]
