"""Single transitions, drawn at random from a dataset that may be larger than memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from helpers.data.episodes import Dataset
from helpers.data.windows import to_single


@dataclass(frozen=True)
class Transitions:
    """What memoryless methods train on: state, action, reward, next state, whether it was the end.

    Only an end that the environment decided cuts off the future; after a time limit, values are
    bootstrapped from the last observation.
    """

    observations: Real[Tensor, "N S"]
    """As the dataset holds them, perhaps on disk; only drawn rows are read."""
    final_observations: Real[Tensor, "E S"]
    actions: Float[Tensor, "N A"] | Int[Tensor, " N"]
    rewards: Float[Tensor, " N"]
    terminated: Bool[Tensor, " N"]
    ends: Int[Tensor, " N"]
    """Index of the episode whose last step this is, -1 for all other steps."""

    def sample(self, rng: np.random.Generator, batch_size: int) -> dict[str, Tensor]:
        """A batch of transitions, drawn uniformly with replacement: arrays (B, ...)."""
        rows = torch.from_numpy(rng.integers(len(self.rewards), size=batch_size))
        following = self.observations[(rows + 1).clamp(max=len(self.rewards) - 1)]
        ends = self.ends[rows]
        last = ends >= 0
        following[last] = self.final_observations[ends[last]]
        return {
            "observations": to_single(self.observations[rows]),
            "actions": to_single(self.actions[rows]),
            "rewards": self.rewards[rows],
            "next_observations": to_single(following),
            "terminated": self.terminated[rows],
        }


def make_transitions(dataset: Dataset) -> Transitions:
    """Prepare a dataset for sampling; takes 13 bytes a step beside the dataset itself."""
    last = dataset.starts + dataset.lengths - 1
    terminated = np.zeros(len(dataset.rewards), bool)
    terminated[last] = dataset.terminated
    ends = np.full(len(dataset.rewards), -1)
    ends[last] = np.arange(len(last))
    return Transitions(
        observations=torch.from_numpy(dataset.observations),
        final_observations=torch.from_numpy(dataset.final_observations),
        actions=torch.from_numpy(dataset.actions),
        rewards=torch.from_numpy(dataset.rewards.astype(np.float32)),
        terminated=torch.from_numpy(terminated),
        ends=torch.from_numpy(ends),
    )


def best_episodes(dataset: Dataset, share: float) -> Dataset:
    """The episodes with the highest returns that together hold at most `share` of all steps.

    At least one, and the better of a pair first; what percentile behaviour cloning imitates (Chen
    et al. 2021, section 5; kzl/decision-transformer `experiment.py`, `pct_traj`).
    """
    if share == 1.0:
        return dataset
    order = np.argsort(-dataset.returns, kind="stable")
    steps = np.cumsum(dataset.lengths[order])
    kept = max(1, int(np.searchsorted(steps, share * steps[-1] * (1 + 1e-12), side="right")))
    return dataset.select(sorted(order[:kept].tolist()))
