"""Offline datasets in memory: all transitions of a set of episodes end to end, and their check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from helpers.files import BadFile, array_hash
from helpers.tasks import Task

FIELDS = ("observations", "actions", "rewards")


@dataclass(frozen=True)
class Dataset:
    """Transitions of E episodes, N steps in all, concatenated in order.

    The last observation of an episode, which no action follows, is in `final_observations`.
    """

    observations: Real[np.ndarray, "N S"]
    """Floats, or packed bytes for grids (`helpers.envs.grids`)."""
    actions: Float[np.ndarray, "N A"] | Int[np.ndarray, " N"]
    """Vectors, or numbers where actions are discrete."""
    rewards: Float[np.ndarray, " N"]
    lengths: Int[np.ndarray, " E"]
    terminated: Bool[np.ndarray, " E"]
    """True where the environment ended the episode, False where the time limit did."""
    final_observations: Real[np.ndarray, "E S"]
    seeds: Int[np.ndarray, " E"]
    """Seed given to `reset`, -1 where unknown."""

    @property
    def starts(self) -> Int[np.ndarray, " E"]:
        """Index of the first transition of each episode."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]])

    @property
    def returns(self) -> Float[np.ndarray, " E"]:
        """Undiscounted return of each episode."""
        return np.add.reduceat(self.rewards, self.starts)

    def returns_to_go(self) -> Float[np.ndarray, " N"]:
        """Undiscounted sum of rewards from each step to the end of its episode."""
        suffix = np.cumsum(self.rewards[::-1], dtype=np.float64)[::-1]
        ends = self.starts + self.lengths
        after = np.append(suffix, 0.0)[ends]
        return suffix - np.repeat(after, self.lengths)

    def content_hash(self) -> str:
        """SHA-256 of all arrays: two collections with one seed must agree on it."""
        return array_hash({name: getattr(self, name) for name in self.__dataclass_fields__})

    def select(self, episodes: Sequence[int]) -> Dataset:
        """The given episodes, in the given order."""
        chosen = list(episodes)
        steps = [np.arange(self.starts[e], self.starts[e] + self.lengths[e]) for e in chosen]
        rows = np.concatenate(steps) if steps else np.zeros(0, int)
        per_step = {name: getattr(self, name)[rows] for name in FIELDS}
        names = ("lengths", "terminated", "final_observations", "seeds")
        return Dataset(**per_step, **{name: getattr(self, name)[chosen] for name in names})


def join(parts: list[Dataset]) -> Dataset:
    """All episodes of `parts`, in order."""
    fields = Dataset.__dataclass_fields__
    return Dataset(**{k: np.concatenate([getattr(p, k) for p in parts]) for k in fields})


def check(dataset: Dataset, source: str | Path, task: Task | None = None) -> Dataset:
    """Return `dataset` unchanged if it is usable.

    Raises:
        BadFile: no episodes, an episode of length 0, NaN or infinite values, lengths that do not
            add up, or shapes that do not fit `task`; names the source, the field and the place.
    """
    if len(dataset.lengths) == 0:
        raise BadFile(f"{source}: the dataset has no episodes; collect it again")
    if (dataset.lengths <= 0).any():
        index = int(np.argmin(dataset.lengths))
        raise BadFile(f"{source}: episode {index} has length 0; remove it or collect it again")
    steps = int(dataset.lengths.sum())
    for name in FIELDS:
        array = getattr(dataset, name)
        if len(array) != steps:
            raise BadFile(
                f"{source}: {name} has {len(array)} rows but the episode lengths add up to {steps}"
            )
        if array.dtype.kind != "f":
            continue
        bad = ~np.isfinite(array.reshape(steps, -1)).all(axis=1)
        if bad.any():
            step = int(np.argmax(bad))
            episode = int(np.searchsorted(np.cumsum(dataset.lengths), step, side="right"))
            raise BadFile(
                f"{source}: {name} has NaN or infinite values in {int(bad.sum())} steps, the first "
                f"in episode {episode} at step {step - int(dataset.starts[episode])}; "
                "drop those episodes or collect them again"
            )
    if task is not None:
        _check_shapes(dataset, source, task)
    return dataset


def _check_shapes(dataset: Dataset, source: str | Path, task: Task) -> None:
    wanted = f"task {task.name!r} ({task.env_id}) needs"
    shape = dataset.observations.shape
    if shape[1:] != (task.observation_size,):
        raise BadFile(
            f"{source}: observations have shape {shape}, but {wanted} "
            f"(steps, {task.observation_size}); choose the dataset's own task"
        )
    actions = dataset.actions
    if actions.shape[1:] != (() if task.discrete else (task.action_size,)):
        numbers = "(steps)" if task.discrete else f"(steps, {task.action_size})"
        raise BadFile(
            f"{source}: actions have shape {actions.shape}, but {wanted} {numbers}; "
            "choose the dataset's own task"
        )
    if task.discrete and not (0 <= actions.min() and actions.max() < task.action_size):
        raise BadFile(
            f"{source}: actions reach from {actions.min()} to {actions.max()}, but {wanted} "
            f"0 to {task.action_size - 1}; choose the dataset's own task"
        )
