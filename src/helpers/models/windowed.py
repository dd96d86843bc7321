"""Attention to the last w tokens: a band instead of a triangle (as in Beltagy et al. 2020).

As a mask, a window goes through the core unchanged, and costs what the full triangle costs. Time
and memory are saved only by a computation that never forms what the mask would strike. Both are
here; they give the same (tested).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from helpers.models.transformer import Block, causal_mask


def window_mask(length: int, window: int) -> Bool[Tensor, "1 1 L L"]:
    """True where a query may look at a key: itself and the `window` - 1 tokens before it.

    A window of `length` or more is the causal mask. For `Transformer.forward`.
    """
    causal = causal_mask(length)
    return causal & ~causal.tril(-window)


def banded_attention(
    q: Float[Tensor, "B H L d"],
    k: Float[Tensor, "B H L d"],
    v: Float[Tensor, "B H L d"],
    window: int,
) -> Float[Tensor, "B H L d"]:
    """Attention under `window_mask`, in time and memory proportional to L.

    Queries are cut into blocks of `window`. A block meets its own keys and those of the block
    before it, and no others.
    """
    batch, heads, length, size = q.shape
    blocks = -(-length // window)
    tail = blocks * window - length
    q = F.pad(q, (0, 0, 0, tail)).unflatten(2, (blocks, window))
    k, v = (F.pad(x, (0, 0, window, tail)).unflatten(2, (blocks + 1, window)) for x in (k, v))
    k, v = (torch.cat([x[:, :, :-1], x[:, :, 1:]], dim=3) for x in (k, v))
    behind = window + torch.arange(window)[:, None] - torch.arange(2 * window)
    allowed = ((behind >= 0) & (behind < window)).repeat(blocks, 1, 1)
    allowed[0, :, :window] = False  # nothing stands before the first block
    # The fused kernel wants four axes: blocks become part of the batch.
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, allowed.repeat(batch, 1, 1).unsqueeze(1))
    mixed = mixed.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)
    return mixed[:, :, :length]


def windowed_block(block: Block, x: Float[Tensor, "B L D"], window: int) -> Float[Tensor, "B L D"]:
    """A block of the core whose tokens look at the last `window` ones, without dropout.

    Raises:
        ValueError: a block of a single head, whose attention has no keys (`Attention`).
    """
    attention = block.attention
    if attention.heads == 1:
        raise ValueError("a single head is computed as a bilinear form; use two or more heads")
    parts = attention.parts(block.norm_attention(x))
    q, k, v = (part.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part in parts)
    mixed = banded_attention(q, k, v, window).transpose(1, 2).flatten(2)
    return block.after_attention(x, attention.project(mixed))
