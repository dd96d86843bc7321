"""Intervals over seeds and episodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A point estimate with its 95 % bootstrap interval."""

    score: float
    low: float
    high: float

    def __str__(self) -> str:
        """Such as 4,870 (4,790 to 4,930)."""
        return f"{self.score:,.0f} ({self.low:,.0f} to {self.high:,.0f})"


def mean_interval(values: Float[np.ndarray, "seeds episodes"], seed: int = 0) -> Interval:
    """Mean over seeds and episodes; percentile interval of a two-level bootstrap.

    Each resample draws seeds with replacement and then, within each, episodes: episodes of one
    trained model are not independent evidence about the method. With a single seed the interval
    speaks of that one model only.
    """
    values = np.asarray(values, float)
    seeds, episodes = values.shape
    rng = np.random.default_rng(seed)
    rows = rng.integers(seeds, size=(RESAMPLES, seeds, 1))
    columns = rng.integers(episodes, size=(RESAMPLES, seeds, episodes))
    means = values[rows, columns].mean(axis=(1, 2))
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def slope_interval(
    asked: Float[np.ndarray, " targets"],
    achieved: Float[np.ndarray, "targets seeds episodes"],
    seed: int = 0,
) -> Interval:
    """Least-squares slope of achieved on asked returns, with a two-level bootstrap interval.

    A resample draws seeds once for all targets, since a trained model plays all of them, and then
    episodes within each target and seed.
    """
    targets, seeds, episodes = achieved.shape
    centred = asked - asked.mean()
    weights = centred / np.square(centred).sum()
    rng = np.random.default_rng(seed)
    rows = np.arange(targets)[None, :, None, None]
    columns = rng.integers(seeds, size=(RESAMPLES, 1, seeds, 1))
    plays = rng.integers(episodes, size=(RESAMPLES, targets, seeds, episodes))
    slopes = achieved[rows, columns, plays].mean(axis=(2, 3)) @ weights
    low, high = np.percentile(slopes, [2.5, 97.5])
    return Interval(float(achieved.mean(axis=(1, 2)) @ weights), float(low), float(high))
