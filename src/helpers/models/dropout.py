"""Dropout whose random numbers do not dominate a training step on a CPU.

PyTorch draws one random number an element and multiplies by a mask of booleans, which its CPU
kernels convert one at a time. Here one 64-bit draw of NumPy's fastest generator decides four
elements by 16 bits each, and the mask never is a boolean. The probability is rounded to a multiple
of 1 / 65,536 (0.1 becomes 0.100006). On other devices PyTorch's own dropout is used. Measured by
`benchmarks/training_step.py`.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 2**16


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each element with probability `p` and scale the others by 1 / (1 - p)."""
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    return x * _mask(x, p)


def add_dropped(x: Tensor, change: Tensor, p: float, training: bool) -> Tensor:
    """`x + dropout(change)` in one pass: what a residual branch needs."""
    if not training or p == 0.0:
        return x + change
    if x.device.type != "cpu":
        return x + F.dropout(change, p)
    return _AddMasked.apply(x, change, _mask(change, p))


def _mask(x: Tensor, p: float) -> Tensor:
    """Zeros and 1 / (1 - p), of the shape and type of `x`."""
    seed = int(torch.randint(2**63 - 1, ()))  # torch's seed still decides everything
    draws = np.random.SFC64(seed).random_raw((x.numel() + 3) // 4)
    bits = torch.from_numpy(draws.view(np.int16))[: x.numel()].view(x.shape)
    # Clamped to a threshold and the number below it, 16-bit integers become 1 and 0.
    zeros = round(p * LEVELS)
    below = zeros - LEVELS // 2 - 1
    keep = bits.clamp_(below, below + 1).sub_(below)
    return keep.to(x.dtype).mul_(LEVELS / (LEVELS - zeros))


class _AddMasked(torch.autograd.Function):
    """x + change * mask, for which autograd alone would make two more passes."""

    @staticmethod
    def forward(ctx, x: Tensor, change: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return torch.addcmul(x, change, mask)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradient, gradient * mask, None
