"""Lessons: what a slow agent did, as a dataset on which a fast one is trained.

A planner's decision costs many passes through a transformer, a perceptron's one matrix product
after another. If what the planner adds is knowledge rather than search, imitating its plays keeps
it (policy distillation, Rusu et al. 2016).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from helpers.agents import Agent
from helpers.analysis.disturbances import WatchedAgent
from helpers.data.episodes import Dataset, join
from helpers.evaluate import CHUNK, MakeAgent, one_thread, rollout
from helpers.files import read_arrays, write_arrays
from helpers.tasks import Task

LESSON_SEED = 900_000_000
"""First environment seed of lessons, beyond those of datasets, trainings and evaluations."""


class _Notes(WatchedAgent):
    """Remembers what was earned, too."""

    def reset(self, n: int) -> None:
        """Begin `n` episodes."""
        super().reset(n)
        self.earned: list[Float[np.ndarray, " _n"]] = []

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Rewards, noted."""
        super().observe(rewards)
        self.earned.append(rewards.copy())


def take_notes(agent: Agent, task: Task, seeds: list[int]) -> Dataset:
    """Play one episode per seed, all at once, and keep what was seen, done and earned.

    Only imitation may learn from it: an episode's last observation is not noted (its place holds
    the one before), and an early end is taken for the environment's own.
    """
    notes = _Notes(agent)
    played = rollout(notes, task, seeds)
    playing, seen, done = (np.concatenate(parts) for parts in zip(*notes.log, strict=True))
    order = np.argsort(playing, kind="stable")  # one episode behind the other, each in its order
    ends = np.cumsum(played.lengths) - 1
    return Dataset(
        observations=seen[order],
        actions=done[order],
        rewards=np.concatenate(notes.earned)[order],
        lengths=played.lengths.astype(np.int64),
        terminated=played.lengths < task.horizon,
        final_observations=seen[order][ends],
        seeds=np.array(seeds, np.int64),
    )


def lessons(
    make_agent: MakeAgent, task: Task, count: int, folder: Path, progress: bool = False
) -> Dataset:
    """Episodes of a teacher, from `LESSON_SEED` on; those already in `folder` are not played again.

    Args:
        make_agent: called with the target returns of a chunk.
        task: where to play.
        count: episodes.
        folder: of this teacher's lessons, a file for each chunk.
        progress: show a bar over chunks.
    """
    parts = []
    for first in tqdm(range(0, count, CHUNK), unit="chunk", disable=not progress, leave=False):
        seeds = [LESSON_SEED + i for i in range(first, min(first + CHUNK, count))]
        path = folder / f"{first:06d}-{len(seeds)}.safetensors"
        if not path.exists():
            with one_thread():  # as in evaluations
                agent = make_agent(np.full(len(seeds), float(task.target_return)))
                notes = take_notes(agent, task, seeds)
            write_arrays(path, asdict(notes))
        parts.append(Dataset(**read_arrays(path)[0]))
    return join(parts)
