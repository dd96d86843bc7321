"""Dropout whose random numbers do not dominate a training step on a CPU.

PyTorch draws one random number an element; for a Decision Transformer of the paper's size that is
a sixth of the step. Here one 64-bit draw decides four elements by 16 bits each, which rounds the
probability to a multiple of 1 / 65,536 (0.1 becomes 0.100006). On other devices PyTorch's own
dropout is used. Measured by `benchmarks/training_step.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 2**16


class _Scale(torch.autograd.Function):
    """x * keep * scale in one pass, forward and backward."""

    @staticmethod
    def forward(ctx, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return torch.ops.aten.native_dropout_backward(x, keep, scale)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return torch.ops.aten.native_dropout_backward(gradient, keep, ctx.scale), None, None


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each element with probability `p` and scale the others by 1 / (1 - p)."""
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    threshold = round(p * LEVELS)
    keep = draws.view(torch.int16)[: x.numel()] >= threshold - LEVELS // 2
    return _Scale.apply(x, keep.view_as(x), LEVELS / (LEVELS - threshold))


class Dropout(nn.Module):
    """`dropout` as a module, active in training mode."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Apply to `x`."""
        return dropout(x, self.p, self.training)
