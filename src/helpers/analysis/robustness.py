"""How much of its return a method keeps in a changed world (`helpers.envs.shifts`).

Each episode of a changed world has a partner that begins in the same way in the old one. Shares are
ratios of means: a mean of ratios would be ruled by a single bad partner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from helpers.analysis.statistics import RESAMPLES, Interval, percentile_interval
from helpers.envs.shifts import SHIFTS

Floats = Float[np.ndarray, " _episodes"] | Sequence[float]
World = tuple[str, float]
"""What is changed, and its factor."""


@dataclass(frozen=True)
class Kept:
    """Returns of one method in its own world and in W changed ones."""

    own: Float[np.ndarray, "seeds episodes"]
    changed: Mapping[World, Float[np.ndarray, "_seeds _episodes"]]
    """From the same first states as `own`, episode by episode."""

    def __post_init__(self) -> None:
        shapes = {returns.shape for returns in self.changed.values()}
        if shapes != {self.own.shape}:
            raise ValueError(
                f"returns in changed worlds have shapes {sorted(shapes)}, those in the old one "
                f"{self.own.shape}; each episode needs a partner"
            )

    @property
    def shares(self) -> Float[np.ndarray, " W"]:
        """Mean return in each changed world, over the mean return of the partners."""
        return np.array([returns.mean() for returns in self.changed.values()]) / self.own.mean()

    def draws(self, rng: np.random.Generator) -> Float[np.ndarray, "W resamples"]:
        """Shares of a two-level bootstrap: models, and within each of them pairs of episodes.

        A resample holds the same models and episodes in all worlds, since a model plays in all.
        """
        models, episodes = self.own.shape
        rows = rng.integers(models, size=(RESAMPLES, models, 1))
        columns = rng.integers(episodes, size=(RESAMPLES, models, episodes))
        means = [played[rows, columns].mean(axis=(1, 2)) for played in self.changed.values()]
        return np.array(means) / self.own[rows, columns].mean(axis=(1, 2))


def kept_of(results: Sequence[Mapping[str, Any]]) -> Kept:
    """What the results of one method's seeds say of changed worlds, in the order of `SHIFTS`.

    Raises:
        ValueError: results without changed worlds, or seeds with different ones.
    """
    by_seed = [
        {(name, float(f)): played for name, some in result["shifts"].items()
         for f, played in some.items()}
        for result in results
    ]  # fmt: skip
    worlds = sorted(by_seed[0], key=lambda world: (list(SHIFTS).index(world[0]), world[1]))
    if not worlds or any(set(other) != set(worlds) for other in by_seed):
        raise ValueError("results without changed worlds, or with different ones by seed")
    changed = {world: np.array([own[world] for own in by_seed]) for world in worlds}
    episodes = changed[worlds[0]].shape[1]
    return Kept(np.array([result["returns"][:episodes] for result in results]), changed)


def kept_by_seed(disturbed: Mapping[int, Floats], calm: Mapping[int, Floats], world: World) -> Kept:
    """What returns by seed, with and without one disturbance, say of it.

    The first episodes without it are the partners of those with it; seeds that lack either are left
    out.

    Raises:
        ValueError: no seed has both.
    """
    seeds = sorted(set(disturbed) & set(calm))
    if not seeds:
        raise ValueError(f"{world}: no seed of {sorted(disturbed)} among those of {sorted(calm)}")
    own = np.array([calm[seed][: len(disturbed[seed])] for seed in seeds])
    return Kept(own, {world: np.array([disturbed[seed] for seed in seeds])})


def share_intervals(kept: Kept, seed: int = 0) -> tuple[list[Interval], Interval]:
    """Share that is kept in each world, and its mean over worlds, with 95 % intervals."""
    return _intervals(kept.shares, kept.draws(np.random.default_rng(seed)))


def lead_intervals(ours: Kept, theirs: Kept, seed: int = 0) -> tuple[list[Interval], Interval]:
    """By how much our share exceeds theirs, in each world and on average over worlds.

    Both are resampled on their own, as in `difference_interval`.

    Raises:
        ValueError: other worlds in `theirs` than in `ours`.
    """
    if list(ours.changed) != list(theirs.changed):
        raise ValueError(f"worlds differ: {list(ours.changed)} and {list(theirs.changed)}")
    rng = np.random.default_rng(seed)
    return _intervals(ours.shares - theirs.shares, ours.draws(rng) - theirs.draws(rng))


def _intervals(
    points: Float[np.ndarray, " W"], draws: Float[np.ndarray, "W resamples"]
) -> tuple[list[Interval], Interval]:
    each = [percentile_interval(*pair) for pair in zip(points, draws, strict=True)]
    return each, percentile_interval(points.mean(), draws.mean(axis=0))
