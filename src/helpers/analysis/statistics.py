"""Intervals over seeds and episodes, and summaries over tasks of one kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A point estimate with its 95 % bootstrap interval."""

    score: float
    low: float
    high: float

    def __str__(self) -> str:
        """Such as 4,870 (4,790 to 4,930)."""
        return f"{self:,.0f}"

    def __format__(self, spec: str) -> str:
        """All three numbers by one format: `f"{interval:.1f}"` such as 41.5 (41.0 to 42.0)."""
        spec = spec or ",.0f"
        return f"{self.score:{spec}} ({self.low:{spec}} to {self.high:{spec}})"

    def scaled(self, factor: float | int) -> Interval:
        """In another unit; with a negative factor, of the opposite."""
        low, high = sorted((factor * self.low, factor * self.high))
        return Interval(factor * self.score, low, high)


def side(interval: Interval, zero: float = 0.0) -> int:
    """1 if the whole interval lies above zero, -1 if below, 0 if it does not tell."""
    return 1 if interval.low > zero else -1 if interval.high < zero else 0


def mean_interval(values: Float[np.ndarray, "seeds episodes"], seed: int = 0) -> Interval:
    """Mean over seeds and episodes; percentile interval of a two-level bootstrap.

    Each resample draws seeds with replacement and then, within each, episodes: episodes of one
    trained model are not independent evidence about the method. With a single seed the interval
    speaks of that one model only.
    """
    values = np.asarray(values, float)
    return percentile_interval(values.mean(), mean_draws(values, np.random.default_rng(seed)))


def success_interval(
    values: Float[np.ndarray, "seeds episodes"], full: float = 100.0, seed: int = 0
) -> Interval:
    """Mean of episodes that succeed or fail; as `mean_interval`, unless all of them agree.

    Episodes that agree give a bootstrap nothing to resample: it would say 0 to 0. Then the bounds
    are the exact binomial ones for that many episodes (Clopper and Pearson 1934), as if each were a
    toss of one coin. Episodes of one trained model are tosses of that model's coin: the bounds say
    what these models do in further episodes, and nothing of models that are trained again.

    Args:
        values: 0 for a failure, `full` for a success.
        full: unit of the result, 100 for percent.
        seed: of the bootstrap.

    Raises:
        ValueError: another value, or no episode.
    """
    values = np.asarray(values, float)
    if not values.size or not np.isin(values, (0.0, full)).all():
        raise ValueError(f"a success is {full:g} and a failure 0; found {np.unique(values)}")
    if values.min() < values.max():
        return mean_interval(values, seed)
    exact = stats.binomtest(int((values == full).sum()), values.size).proportion_ci(0.95, "exact")
    return Interval(float(values.mean()), full * float(exact.low), full * float(exact.high))


def difference_interval(
    ours: Float[np.ndarray, "seeds episodes"],
    theirs: Float[np.ndarray, "others plays"],
    seed: int = 0,
) -> Interval:
    """Difference of two methods' means, ours minus theirs, with a two-level bootstrap interval.

    Both are resampled on their own: seed 0 of one method has nothing in common with seed 0 of
    another, and they may have different numbers of seeds.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    rng = np.random.default_rng(seed)
    draws = mean_draws(ours, rng) - mean_draws(theirs, rng)
    return percentile_interval(ours.mean() - theirs.mean(), draws)


def mean_draws(
    values: Float[np.ndarray, "seeds episodes"], rng: np.random.Generator
) -> Float[np.ndarray, " resamples"]:
    """Means of the resamples of a two-level bootstrap, for sums and differences of several."""
    seeds, episodes = values.shape
    rows = rng.integers(seeds, size=(RESAMPLES, seeds, 1))
    columns = rng.integers(episodes, size=(RESAMPLES, seeds, episodes))
    return values[rows, columns].mean(axis=(1, 2))


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
    return percentile_interval(achieved.mean(axis=(1, 2)) @ weights, slopes)


# --- several tasks of one kind (Agarwal et al. 2021) ---------------------------------------------

Scores = Mapping[str, Float[np.ndarray, " _seeds"]]
"""A normalised score for each trained model, by task."""


def iqm_interval(scores: Scores, seed: int = 0) -> Interval:
    """Interquartile mean over all runs of all tasks, with a stratified bootstrap interval.

    The mean of the middle half: one outstanding task cannot carry it, and unlike a median it uses
    more than one run. A resample draws seeds with replacement within each task; tasks are not
    redrawn, since nobody chose them at random.

    Raises:
        ValueError: no task, or a task without runs.
    """
    runs = _checked(scores)
    draws = np.concatenate(_resampled(runs, np.random.default_rng(seed)), axis=1)
    score = stats.trim_mean(np.concatenate(runs), 0.25)
    return percentile_interval(score, stats.trim_mean(draws, 0.25, axis=1))


def improvement_interval(ours: Scores, theirs: Scores, seed: int = 0) -> Interval:
    """Probability that a run of `ours` beats one of `theirs` on the same task, averaged over tasks.

    The Mann-Whitney statistic over its maximum; a tie counts a half.

    Raises:
        ValueError: other tasks in `theirs` than in `ours`, or a task without runs.
    """
    if list(ours) != list(theirs):
        raise ValueError(f"compare on the same tasks: {list(ours)} and {list(theirs)} differ")
    rng = np.random.default_rng(seed)
    mine, others = _checked(ours), _checked(theirs)
    point = np.mean([_wins(a[None], b[None]) for a, b in zip(mine, others, strict=True)])
    pairs = zip(_resampled(mine, rng), _resampled(others, rng), strict=True)
    return percentile_interval(point, np.mean([_wins(a, b) for a, b in pairs], axis=0))


def performance_profile(
    scores: Scores, thresholds: Float[np.ndarray, " n"], seed: int = 0
) -> list[Interval]:
    """Share of runs whose score exceeds each threshold, every task weighing the same.

    The whole distribution instead of one number; where the curves of two methods do not cross, the
    upper one is better whatever the summary.
    """
    runs = _checked(scores)
    draws = _resampled(runs, np.random.default_rng(seed))
    points = np.mean([(run[:, None] > thresholds).mean(axis=0) for run in runs], axis=0)
    shares = [
        np.mean([(draw > threshold).mean(axis=1) for draw in draws], axis=0)
        for threshold in thresholds
    ]
    return [percentile_interval(point, share) for point, share in zip(points, shares, strict=True)]


def _checked(scores: Scores) -> list[Float[np.ndarray, " _seeds"]]:
    if not scores:
        raise ValueError("no task to summarise")
    if empty := [task for task, runs in scores.items() if not len(runs)]:
        raise ValueError(f"no runs of {empty}; train them or leave the task out for all methods")
    return [np.asarray(runs, float) for runs in scores.values()]


def _resampled(
    runs: list[Float[np.ndarray, " _seeds"]], rng: np.random.Generator
) -> list[Float[np.ndarray, "_resamples _seeds"]]:
    return [run[rng.integers(len(run), size=(RESAMPLES, len(run)))] for run in runs]


def _wins(
    ours: Float[np.ndarray, "n seeds"], theirs: Float[np.ndarray, "n others"]
) -> Float[np.ndarray, " n"]:
    difference = ours[:, :, None] - theirs[:, None, :]
    return ((difference > 0) + 0.5 * (difference == 0)).mean(axis=(1, 2))


def percentile_interval(score: float, draws: Float[np.ndarray, " resamples"]) -> Interval:
    """The estimate with the middle 95 % of its bootstrap draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(float(score), float(low), float(high))
