"""The Trajectory Transformer on grid levels: compact steps behind a token for map and mission.

A grid has hundreds of cells, most of which never change; cut into tokens as they are, a step would
be longer than a whole plan. So the map and the mission become one token in front of the sequence
(`grid_encoder`), and a step is what changes: 3 numbers of the pose, 2 of the carried object, the
action, the reward and the value. Poses count from the window's first step, in the agent's frame
there, as its map does: (cells ahead, cells to the right, left or right turns).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, Real
from torch import Tensor

from helpers.data.episodes import Dataset
from helpers.data.tokens import Discretiser, fit_discretiser
from helpers.envs.grids import DIRECTIONS, Layout, grid_layout, unpack
from helpers.models.trajectory import (
    TrajectoryConfig,
    TrajectoryTransformer,
    configure,
    discounted_values,
    penalised_rewards,
)
from helpers.tasks import Task

POSE = 5
"""Numbers of a step's observation: cells ahead and to the right, direction, object and colour."""


def relative_poses(
    poses: Integer[Tensor, "*batch T 5"], first: Integer[Tensor, "*batch 5"]
) -> Integer[Tensor, "*batch T 5"]:
    """Poses (x, y, direction, object, colour) as met from the pose `first`."""
    steps = torch.tensor(DIRECTIONS)
    poses, first = poses.long(), first.long().unsqueeze(-2)
    ahead = steps[first[..., 2]]
    right = steps[(first[..., 2] + 1) % 4]
    moved = poses[..., :2] - first[..., :2]
    turned = (poses[..., 2] - first[..., 2]) % 4
    return torch.cat(
        [
            torch.stack(((moved * ahead).sum(-1), (moved * right).sum(-1), turned), dim=-1),
            poses[..., 3:],
        ],
        dim=-1,
    )


def grid_edges(
    rewards: Float[np.ndarray, " N"], values: Float[np.ndarray, " N"], reach: int, bins: int
) -> Float[np.ndarray, "8 edges"]:
    """A bin for every whole number of pose, hands and action; quantiles of rewards and values.

    Args:
        rewards: of the data.
        values: of the data.
        reach: cells that can be walked within a window, in any direction.
        bins: N.

    Raises:
        ValueError: fewer bins than cells within reach.
    """
    if bins < 2 * reach + 1:
        raise ValueError(
            f"bins is {bins}, but an agent can be {reach} cells ahead or behind after "
            f"context_length {reach + 1}; {2 * reach + 1} bins are needed"
        )
    whole = np.arange(bins + 1) - 0.5
    sums = fit_discretiser(np.stack([rewards, values], axis=1), bins, "quantile").edges
    return np.stack([whole - reach, whole - reach, *[whole] * (POSE - 1), *sums])


def make_grid_trajectory(task: Task, dataset: Dataset, **changes: Any) -> TrajectoryTransformer:
    """A model shaped for a grid level.

    Raises:
        ValueError: an unknown or impossible field in `changes`.
    """
    shape = {
        "observation_size": POSE,
        "action_size": 1,
        "bins": 32,
        "termination_penalty": None,
        "actions": task.action_size,
        "grid_size": task.grid_size,
    }
    config = configure(shape, changes)
    model = TrajectoryTransformer(config)
    rewards, values = penalised_rewards(dataset, config), discounted_values(dataset, config)
    edges = grid_edges(rewards, values, config.context_length - 1, config.bins)
    model.edges.copy_(torch.from_numpy(edges))
    return model


@dataclass(frozen=True)
class GridWindows:
    """Windows of T consecutive steps, seen from their first one."""

    observations: Real[Tensor, "N S"]
    numbers: Float[np.ndarray, "N 3"]
    """Action, reward and value."""
    remaining: Integer[Tensor, " N"]
    """Steps from here to the end of the episode, this one included."""
    ends: Bool[Tensor, " N"]
    """Whether the environment ends this step's episode; otherwise the time limit does."""
    discretiser: Discretiser
    layout: Layout
    context_length: int

    def sample(self, rng: np.random.Generator, batch_size: int) -> dict[str, Tensor]:
        """A batch: first `observations` (B, S), `tokens` (B, L) with L = 8 T, `valid` (B, L).

        Behind a true end stand end tokens, as in `TrajectoryWindows`.
        """
        start = torch.from_numpy(rng.integers(len(self.numbers), size=batch_size))
        offset = torch.arange(self.context_length)
        inside = offset < self.remaining[start, None]
        rows = start[:, None] + torch.where(inside, offset, 0)
        poses = unpack(self.observations[rows], self.layout)["pose"]
        seen = relative_poses(poses, poses[:, 0])
        numbers = np.concatenate([seen.numpy(), self.numbers[rows]], axis=-1)
        tokens = torch.from_numpy(self.discretiser.encode(numbers))
        tokens = torch.where(inside[..., None], tokens, self.discretiser.bins)
        valid = (inside | self.ends[start, None])[..., None].expand_as(tokens)
        return {
            "observations": self.observations[start],
            "tokens": tokens.flatten(1),
            "valid": valid.flatten(1),
        }


def make_grid_windows(dataset: Dataset, model: TrajectoryTransformer) -> GridWindows:
    """Prepare a dataset for sampling."""
    config: TrajectoryConfig = model.config
    step = np.concatenate([np.arange(length) for length in dataset.lengths])
    rewards, values = penalised_rewards(dataset, config), discounted_values(dataset, config)
    return GridWindows(
        observations=torch.from_numpy(dataset.observations),
        numbers=np.stack([dataset.actions, rewards, values], axis=1).astype(np.float64),
        remaining=torch.from_numpy(np.repeat(dataset.lengths, dataset.lengths) - step),
        ends=torch.from_numpy(np.repeat(dataset.terminated, dataset.lengths)),
        discretiser=model.discretiser,
        layout=grid_layout(config.grid_size, config.grid_size),
        context_length=config.context_length,
    )
