"""Fixed-shape training windows, drawn at random from a dataset that may be larger than memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from helpers.data.episodes import Dataset

BLOCK = 65_536
"""Rows that are in memory at once when statistics are taken."""


@dataclass(frozen=True)
class Windows:
    """Windows of `context_length` consecutive steps, left-padded at the end of an episode.

    The start is uniform over all transitions, which is the paper's rule (episode with probability
    proportional to its length, then a uniform start) in one draw; a window that would run past the
    end of its episode is shorter and padded in front (kzl/decision-transformer, `get_batch`).
    """

    observations: Real[Tensor, "N S"]
    """As the dataset holds them, perhaps on disk; only drawn rows are read."""
    actions: Float[Tensor, "N A"] | Int[Tensor, " N"]
    returns_to_go: Float[Tensor, " N"]
    timesteps: Int[Tensor, " N"]
    remaining: Int[Tensor, " N"]
    """Steps from here to the end of the episode, this one included."""
    context_length: int

    def sample(self, rng: np.random.Generator, batch_size: int) -> dict[str, Tensor]:
        """A batch of windows: arrays (B, K, ...) and `valid` (B, K), False on padding."""
        start = torch.from_numpy(rng.integers(len(self.timesteps), size=batch_size))
        padding = (self.context_length - self.remaining[start]).clamp(min=0)
        step = torch.arange(self.context_length) - padding[:, None]
        rows = start[:, None] + step.clamp(min=0)
        return {
            "returns_to_go": self.returns_to_go[rows],
            "observations": to_single(self.observations[rows]),
            "actions": to_single(self.actions[rows]),
            "timesteps": self.timesteps[rows],
            "valid": step >= 0,
        }


def to_single(drawn: Tensor) -> Tensor:
    """Doubles as floats; numbers of actions and packed grids as they are."""
    return drawn.float() if drawn.is_floating_point() else drawn


def make_windows(dataset: Dataset, context_length: int) -> Windows:
    """Prepare a dataset for sampling; takes 20 bytes a step beside the dataset itself."""
    steps = np.concatenate([np.arange(length) for length in dataset.lengths])
    return Windows(
        observations=torch.from_numpy(dataset.observations),
        actions=torch.from_numpy(dataset.actions),
        returns_to_go=torch.from_numpy(dataset.returns_to_go().astype(np.float32)),
        timesteps=torch.from_numpy(steps),
        remaining=torch.from_numpy(np.repeat(dataset.lengths, dataset.lengths) - steps),
        context_length=context_length,
    )


def observation_statistics(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (+1e-6, as in DT's code) of each observation entry."""
    rows = len(dataset.observations)
    blocks = [dataset.observations[i : i + BLOCK] for i in range(0, rows, BLOCK)]
    mean = sum(block.sum(axis=0, dtype=np.float64) for block in blocks) / rows
    variance = sum(np.square(block - mean).sum(axis=0) for block in blocks) / rows
    return mean.astype(np.float32), (np.sqrt(variance) + 1e-6).astype(np.float32)
