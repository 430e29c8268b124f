"""Attention in PyTorch: a layer that attsvm trains, and measurements of models (`torch`)."""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError('attsvm.torch needs PyTorch: pip install "attsvm[torch]"') from error

from attsvm.torch.call import AttentionCall
from attsvm.torch.inspection import inspect
from attsvm.torch.layer import AttentionLayer
from attsvm.torch.module import Attention
from attsvm.torch.reading import read
from attsvm.torch.watch import Watch

__all__ = ["Attention", "AttentionCall", "AttentionLayer", "Watch", "inspect", "read"]
