"""The post's numbers come out of its formulas, most of them whatever the network."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from helpers.analysis import as_published
from helpers.analysis.attention import (
    AttentionMaps,
    normalised_entropy,
    small_weights,
    uniform,
)


def causal(length: int, heads: int = 1, kinds: int = 3, sharpness: float = 2.0) -> AttentionMaps:
    """Random causal attention of any network."""
    generator = torch.Generator().manual_seed(length)
    scores = sharpness * torch.randn(2, 3, heads, length, length, generator=generator)
    allowed = torch.ones(length, length, dtype=torch.bool).tril().expand(3, -1, -1)
    weights = scores.masked_fill(~allowed[None, :, None], float("-inf")).softmax(dim=-1)
    place = torch.arange(length).expand(3, -1)
    names = ("return", "state", "action")
    return AttentionMaps(weights, allowed, place % kinds, names, place // kinds)


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 9.0])
def test_the_mean_attention_of_any_network_is_one_over_its_length(sharpness):
    """The post has 0.010 for windows of 100 tokens; 0.029 for 25 windows, one of them short."""
    hundred = as_published.mean_weight(causal(100, sharpness=sharpness))
    assert torch.allclose(hundred, torch.tensor(0.010), atol=1e-6)
    short, full = (as_published.mean_weight(causal(n, sharpness=sharpness)) for n in (3, 63))
    assert torch.allclose((short + 24 * full) / 25, torch.tensor(0.0286), atol=1e-4)


def test_half_of_the_published_sparsity_is_the_mask():
    for length, zeros in ((63, 0.492), (100, 0.495)):
        even = uniform(causal(length))
        published = as_published.sparsity(even, below=1e-9)
        assert torch.allclose(published, torch.tensor(zeros), atol=1e-3)
        assert (small_weights(even) == 0).all(), "nothing is sparse about even attention"


def test_the_published_threshold_depends_on_the_window():
    """With the same preferences, a longer window looks sparser."""
    scores = [as_published.sparsity(causal(n, sharpness=0.1)).mean() - (n - 1) / (2 * n)
              for n in (60, 240)]  # fmt: skip
    assert scores[0] < 0.05 and scores[1] > 0.3
    honest = [small_weights(causal(n, sharpness=0.1)).mean() for n in (60, 240)]
    assert abs(honest[0] - honest[1]) < 0.01


def test_averaging_heads_first_hides_what_each_ignores():
    one, four = causal(60, heads=1, sharpness=4), causal(60, heads=4, sharpness=4)
    assert as_published.sparsity(four).mean() < as_published.sparsity(one).mean() - 0.08
    assert abs(small_weights(four).mean() - small_weights(one).mean()) < 0.03


def test_published_head_entropies_exceed_what_a_row_can_have():
    maps = causal(100, heads=4, sharpness=0.5)
    found = as_published.head_entropy(maps)
    rows = torch.special.entr(maps.weights).sum(dim=-1).mean(dim=-1)
    assert torch.allclose(found, math.log(100) + rows, atol=1e-3)
    assert (found > math.log(100)).all() and (normalised_entropy(maps) <= 1).all()
    even = as_published.head_entropy(uniform(maps))
    assert torch.allclose(even, torch.tensor(math.log(100) + 3.64), atol=0.01)


def test_even_attention_already_looks_back_a_quarter_of_the_window_in_tokens():
    found = as_published.look_back(uniform(causal(100)))
    assert torch.allclose(found, torch.tensor(24.75), atol=0.01)


def test_the_published_allocation_of_even_attention():
    """Shares of 0.25, 0.5 and 0.25 are the widths of the windows, and the sum exceeds 1."""
    maps = uniform(causal(60))
    found = as_published.allocation(maps, query=59, again=57)
    assert torch.allclose(found[:, :3], torch.tensor([0.25, 0.5, 0.25]))
    assert torch.allclose(found.sum(-1), torch.tensor(1 + 1 / 60))
    peaked = dataclasses.replace(maps, weights=causal(60, sharpness=3).weights)
    sums = as_published.allocation(peaked, query=59, again=57).sum(dim=-1)
    assert ((sums > 1) & (sums < 2)).all()


def test_published_variance_falls_with_the_window_of_even_attention():
    found = [as_published.variance(uniform(causal(n))).mean().item() for n in (20, 80)]
    assert found[0] > 3 * found[1] and np.isfinite(found).all()
