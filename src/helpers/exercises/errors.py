"""Exercises of chapter 9: sums taken apart, the share of attention, a window."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from helpers.exercises.compare import Numbers, compare, passed
from helpers.models.windowed import window_mask as reference_mask


def check_per_step(per_step: Callable[..., Numbers]) -> None:
    """Chapter 9: mean error of a step between two readings, from (times, sums)."""
    times, sums = np.array([2.0, 5.0, 6.0, 10.0]), np.array([1.0, 4.0, 4.5, 8.5])
    got = per_step(times.copy(), sums.copy())
    if got is not None and np.shape(got) == (3,):
        raise AssertionError(
            "error per step: there is one interval more, from step 0, where the sum is 0, to the "
            "first reading"
        )
    steps = np.diff(times, prepend=0)
    careless = np.diff(times, prepend=times[0] - 1)
    compare(
        got,
        np.diff(sums, prepend=0) / steps,
        {
            "several steps lie between two readings; divide by their number": np.diff(
                sums, prepend=0
            ),
            "this is the mean since the beginning, which hides what changed; take differences": (
                sums / times
            ),
            "the first reading stands for several steps as well": np.diff(sums, prepend=0)
            / careless,
            "this is the slope around each reading; take the interval before it": np.gradient(
                sums, times
            ),
            "these are differences of logarithms, which is growth and not error": np.diff(
                np.log(sums), prepend=0
            )
            / steps,
        },
        what="error per step",
    )
    passed("error per step")


def check_attention_share(attention_share: Callable[..., Numbers]) -> None:
    """Chapter 9: attention's share of a block's operations, from (length, width)."""
    length, width = 300, 200
    weights, pairs = 24 * length * width**2, 4 * length**2 * width
    own = 8 * length * width**2  # the four matrices of attention, twice for multiply and add
    compare(
        attention_share(length, width),
        pairs / (weights + pairs),
        {
            "the weighted mean of the values takes as many operations as the scores": (
                pairs / 2 / (weights + pairs / 2)
            ),
            "the perceptron is missing: it has eight D x D matrices": pairs / (own + pairs),
            "query, key, value and output are matrices too": pairs / (2 * own + pairs),
            "this is the ratio to the rest; divide by the sum": pairs / weights,
            "this is the share of the weights": weights / (weights + pairs),
            "a multiplication and an addition are two operations, with weights as well": (
                pairs / (weights / 2 + pairs)
            ),
        },
        what="attention's share",
    )
    passed("attention's share")


def check_window_mask(window_mask: Callable[..., torch.Tensor]) -> None:
    """Chapter 9: who may look at whom within the last tokens, from (length, window)."""
    length, window = 6, 3
    behind = np.arange(length)[:, None] - np.arange(length)
    slips = {
        "the window is missing: this is the causal mask": behind >= 0,
        "tokens see the future: keep the lower triangle": np.abs(behind) < window,
        "one token too many: the window counts the token itself": (behind >= 0)
        & (behind <= window),
        "a token sees itself": (behind > 0) & (behind < window),
        "a token sees itself, and one token less before it": (behind > 0) & (behind <= window),
        "the triangle is the wrong way round: rows look, columns are looked at": (behind <= 0)
        & (behind > -window),
        "this is what the window leaves out": behind >= window,
    }
    compare(
        window_mask(length, window),
        reference_mask(length, window)[0, 0],
        slips,
        what="window",
    )
    wide = window_mask(4, 9)
    compare(
        wide,
        np.tri(4),
        {"a window may be longer than the sequence": np.zeros((4, 4))},
        what="window longer than the sequence",
    )
    passed("window")
