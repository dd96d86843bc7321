"""The statistics of the post, defects included, to show what they measure.

None of them should be used. Each function says what is wrong with it; `analysis.attention` has the
version that is not. That they are *these* statistics was found by reading the post's figures:
its numbers come out of these formulas, most of them whatever the network (tests/test_errata.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from helpers.analysis.attention import AttentionMaps


def random_attention(
    length: int,
    *,
    heads: int = 1,
    layers: int = 3,
    kinds: int = 3,
    hidden_kind: int | None = None,
    sharpness: float = 1.0,
    windows: int = 2,
    seed: int = 0,
) -> AttentionMaps:
    """Causal attention of no network at all: its scores are drawn from a normal distribution.

    What a statistic says of this, it says of no model. `attention.uniform` makes it even.

    Args:
        length: L, tokens of a window.
        heads: H of a layer.
        layers: layers.
        kinds: tokens of a time step, each of a kind of its own.
        hidden_kind: one that nobody may look at, such as TT's values; not the first.
        sharpness: standard deviation of the scores before the softmax; 0 is even attention.
        windows: B.
        seed: of the scores.
    """
    generator = torch.Generator().manual_seed(seed)
    scores = sharpness * torch.randn(layers, windows, heads, length, length, generator=generator)
    place = torch.arange(length)
    allowed = torch.ones(length, length, dtype=torch.bool).tril()
    if hidden_kind is not None:
        allowed = allowed & (place % kinds != hidden_kind)
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1)
    names = tuple(f"kind {kind}" for kind in range(kinds))
    return AttentionMaps(
        weights,
        allowed.expand(windows, -1, -1),
        (place % kinds).expand(windows, -1),
        names,
        (place // kinds).expand(windows, -1),
    )


def mean_weight(maps: AttentionMaps) -> Float[Tensor, "layers B"]:
    """Mean attention: 1 / L for any network, because every row sums to 1."""
    return maps.weights.mean(dim=(2, 3, 4))


def sparsity(maps: AttentionMaps, below: float = 0.01) -> Float[Tensor, "layers B"]:
    """Share of small entries of the head average: half of them are zeros of the causal mask.

    The threshold does not know the number of keys (even attention over 100 keys is 0.01), and
    averaging heads first fills gaps, the more so the more heads there are.
    """
    return (maps.weights.mean(dim=2) < below).float().mean(dim=(-2, -1))


def variance(maps: AttentionMaps) -> Float[Tensor, "layers B"]:
    """Variance of all entries of the head average: ruled by the mask and the length."""
    return maps.weights.mean(dim=2).var(dim=(-2, -1), correction=0)


def head_entropy(maps: AttentionMaps) -> Float[Tensor, "layers B H"]:
    """Entropy in nats of the whole matrix as if it were one distribution: ln L + the mean of rows.

    It exceeds what any row can have, and grows with the window.
    """
    length = maps.weights.shape[-1]
    return torch.special.entr(maps.weights / length).sum(dim=(-2, -1))


def look_back(maps: AttentionMaps) -> Float[Tensor, "layers B"]:
    """Mean distance of a head-averaged map in *tokens*, of which a step has 3 to 25."""
    place = torch.arange(maps.weights.shape[-1], dtype=maps.weights.dtype)
    distance = (place[:, None] - place).abs()
    return (maps.weights.mean(dim=2) * distance).sum(dim=-1).mean(dim=-1)


def allocation(
    maps: AttentionMaps, query: int, again: int, parts: Sequence[float] = (0.25, 0.5)
) -> Float[Tensor, "B 4"]:
    """Last layer's shares of old, middle and recent keys, and of one key *once more*.

    The last column belongs to one of the other three already, so a row sums to more than 1. The
    windows hold a quarter, a half and a quarter of the keys, so even attention gives these numbers.

    Args:
        maps: of B windows.
        query: the token whose attention is divided up.
        again: the key that is counted twice: one return-to-go of all those in the window.
        parts: share of the keys in the old and in the middle window.
    """
    row = maps.weights[-1].mean(dim=1)[:, query, : query + 1]
    first, second = round(parts[0] * (query + 1)), round(sum(parts) * (query + 1))
    windows = (row[:, :first], row[:, first:second], row[:, second:], row[:, [again]])
    return torch.stack([part.sum(dim=-1) for part in windows], dim=-1)
