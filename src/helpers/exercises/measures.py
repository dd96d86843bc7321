"""Exercises of the later chapters: how to measure and compare."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helpers.exercises.compare import Numbers, compare, passed


def check_interquartile_mean(interquartile_mean: Callable[..., Numbers]) -> None:
    """Chapter 7: mean of the middle half of the values."""
    values = np.array([9.0, 1.0, 4.0, 40.0, 2.0, 3.0, 5.0, 8.0])
    ordered = np.sort(values)
    compare(
        interquartile_mean(values.copy()),
        ordered[2:6].mean(),
        {
            "this is the mean of all values": values.mean(),
            "this is the median; average the whole middle half": np.median(values),
            "sort first: the quarters are of the ordered values": values[2:6].mean(),
            "leave out a quarter on either side, not a single value": ordered[1:-1].mean(),
            "leave out the lowest quarter too": ordered[:6].mean(),
            "leave out the highest quarter too": ordered[2:].mean(),
        },
        what="interquartile mean",
    )
    passed("interquartile mean")


def check_probability_of_improvement(
    probability_of_improvement: Callable[..., Numbers],
) -> None:
    """Chapter 7: share of pairs in which ours is higher, from (ours, theirs)."""
    ours, theirs = np.array([1.0, 4.0, 6.0]), np.array([0.0, 4.0, 5.0, 9.0])
    pairs = ours[:, None] - theirs[None, :]
    wins, ties = (pairs > 0).sum(), (pairs == 0).sum()
    compare(
        probability_of_improvement(ours.copy(), theirs.copy()),
        (wins + ties / 2) / pairs.size,
        {
            "a tie counts a half": wins / pairs.size,
            "a tie counts a half, not a whole": (wins + ties) / pairs.size,
            "the pairs are the wrong way round": 1 - (wins + ties / 2) / pairs.size,
            "compare all pairs of runs, not the means": float(ours.mean() > theirs.mean()),
            "this is how often ours is lower or equal": (pairs <= 0).mean(),
            "divide by the number of pairs, not of runs": (wins + ties / 2) / len(ours),
        },
        what="probability of improvement",
    )
    passed("probability of improvement")


def check_flattery(flattery: Callable[..., Numbers]) -> None:
    """Chapter 7: by how much the best check exceeds the truth, from (checkpoints, error, rng)."""
    many = np.random.default_rng(1).normal(0.0, 1.0, (200_000, 10))
    luck = many.max(axis=1).mean()
    compare(
        flattery(10, 2.0, np.random.default_rng(0)),
        2 * luck,
        {
            "the error scales the luck": luck,
            "error is a standard deviation, not a variance": luck * np.sqrt(2.0),
            "this is what all checkpoints average to, not the best one": 0.0,
            "this is the spread of one evaluation": 2.0,
        },
        what="luck of the best of ten",
        tolerance=0.08,
    )
    alone = flattery(1, 2.0, np.random.default_rng(0))
    compare(alone, 0.0, {"a single checkpoint leaves nothing to choose": 2.0}, what="luck of one",
            tolerance=0.08)  # fmt: skip
    passed("luck of the best")
