"""Attention to the last tokens: as a mask, and as a band that is computed alone."""

import pytest
import torch
import torch.nn.functional as F

from helpers.models.transformer import Transformer, TransformerConfig, causal_mask
from helpers.models.windowed import banded_attention, window_mask, windowed_block


def test_a_window_by_hand():
    found = window_mask(5, 2)[0, 0].int().tolist()
    assert found == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize("window", [7, 8, 100])
def test_a_window_as_long_as_the_sequence_is_the_full_mask(window):
    assert torch.equal(window_mask(7, window), causal_mask(7))


@pytest.mark.parametrize(("length", "window"), [(12, 4), (13, 4), (5, 9), (6, 6), (9, 1)])
def test_a_band_gives_what_the_mask_gives(length, window):
    q, k, v = torch.randn(3, 2, 3, length, 8, generator=torch.Generator().manual_seed(0))
    masked = F.scaled_dot_product_attention(q, k, v, window_mask(length, window))
    assert torch.allclose(banded_attention(q, k, v, window), masked, atol=1e-6)


def core(heads: int) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(width=16, layers=1, heads=heads, dropout=0.0)).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model


@torch.inference_mode()
def test_a_windowed_block_is_the_core_under_a_window():
    model, x = core(2), torch.randn(2, 11, 16)
    found = model.norm(windowed_block(model.blocks[0], x, 3))
    assert torch.allclose(found, model(x, window_mask(11, 3)), atol=1e-4)
    assert not torch.allclose(found, model(x, causal_mask(11)), atol=1e-2)


def test_a_single_head_has_no_keys():
    with pytest.raises(ValueError, match="use two or more heads"):
        windowed_block(core(1).blocks[0], torch.zeros(1, 4, 16), 2)
