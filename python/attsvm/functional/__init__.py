"""NumPy equivalents of functions of SciPy and torch; the loss of attention and its gradient."""

from attsvm.functional.dot_product_attention import scaled_dot_product_attention
from attsvm.functional.loss_and_grad import loss_and_grad
from attsvm.functional.softmax import log_softmax, softmax

__all__ = ["log_softmax", "loss_and_grad", "scaled_dot_product_attention", "softmax"]
