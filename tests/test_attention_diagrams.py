"""Pictures of attention show what they say."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from helpers.analysis.attention import AttentionMaps
from helpers.analysis.statistics import Interval
from helpers.attention_diagrams import draw_map, draw_scores, head_labels, lift_bar, mean_map


def maps(length: int = 3) -> AttentionMaps:
    allowed = torch.ones(2, length, length, dtype=torch.bool).tril()
    weights = (allowed / allowed.sum(-1, keepdim=True)).expand(1, 1, -1, -1, -1).transpose(1, 2)
    steps = torch.arange(length).expand(2, -1)
    return AttentionMaps(weights, allowed, steps % 2, ("return", "state"), steps)


def test_a_map_of_lifts_leaves_forbidden_keys_blank_and_even_ones_at_one():
    figure, ax = plt.subplots()
    image = draw_map(ax, maps(), mean_map(maps(), 0))
    shown = np.ma.filled(image.get_array(), np.nan)
    np.testing.assert_allclose(shown[np.tril_indices(3)], 1.0)
    assert np.isnan(shown[np.triu_indices(3, 1)]).all()
    low, high = image.get_clim()
    np.testing.assert_allclose([low, high], [1 / 8, 8])
    assert image.norm(1.0) == pytest.approx(0.5), "no preference has the colour of the middle"
    strips = [child for child in ax.child_axes if child.images]
    assert [strip.images[0].get_array().size for strip in strips] == [3, 3]
    lift_bar(figure, image, [ax])
    labels = [text.get_text() for text in figure.axes[-1].get_yticklabels()]
    assert labels == ["1/8", "1/4", "1/2", "1", "2", "4", "8"]
    plt.close(figure)


def test_windows_of_different_masks_are_not_averaged():
    found = maps()
    found.allowed[1, 2, 0] = False
    with pytest.raises(ValueError, match="average alike windows only"):
        mean_map(found, 0)


def test_scores_run_downwards_with_unbroken_intervals():
    figure, ax = plt.subplots()
    rows = {"first": Interval(1.0, 0.5, 2.0), "second": Interval(3.0, 2.5, 3.5)}
    draw_scores(ax, rows, {"even": {"first": 0.1, "second": 0.2}}, ["#000000", "#111111"])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["first", "second"]
    assert list(ax.get_yticks()) == [1, 0]
    ends = [collection.get_segments()[0][:, 0].tolist() for collection in ax.collections]
    assert ends == [[0.5, 2.0], [2.5, 3.5]]
    assert all(collection.get_linestyle()[0][1] is None for collection in ax.collections)
    plt.close(figure)


def test_heads_are_named_by_layer_and_number():
    assert head_labels(2, 2) == ["1.1", "1.2", "2.1", "2.2"]
