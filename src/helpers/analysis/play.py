"""Episodes of a Decision Transformer in play, with all that it was told: what it looked at when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from helpers.agents import DecisionAgent
from helpers.analysis.disturbances import WatchedAgent
from helpers.evaluate import rollout
from helpers.models.decision import DecisionTransformer
from helpers.tasks import Task


@dataclass(frozen=True)
class Played:
    """n episodes of T steps each, in the task's own units."""

    returns_to_go: Float[np.ndarray, "n T"]
    """As the agent was told: the target less what it had earned."""
    observations: Real[np.ndarray, "n T S"]
    actions: Real[np.ndarray, "n T ..."]
    rewards: Float[np.ndarray, "n T"]

    def window(self, step: int, length: int) -> dict[str, Tensor]:
        """What the agent was given at `step`: the last `length` steps, or all so far if fewer.

        The action of the step itself is in it as well; no prediction of that step depends on it.
        """
        rows = np.arange(max(0, step - length + 1), step + 1)
        numbers = {
            name: torch.from_numpy(getattr(self, name)[:, rows])
            for name in ("returns_to_go", "observations", "actions")
        }
        return {**numbers, "timesteps": torch.from_numpy(rows).expand(len(self.rewards), -1)}


def play_and_note(
    model: DecisionTransformer, task: Task, seeds: list[int], target: float
) -> Played:
    """Play one episode per seed, all for the same target return.

    Raises:
        ValueError: episodes of different lengths, which do not fit into one table.
    """
    agent = DecisionAgent(model, np.full(len(seeds), target))
    watched = WatchedAgent(agent)
    played = rollout(watched, task, seeds)
    steps = int(played.lengths.max())
    if (played.lengths != steps).any():
        raise ValueError(
            f"{task.name}: episodes have {played.lengths.min()} to {steps} steps; play a task "
            "whose episodes all last to its time limit"
        )
    seen = np.stack([rows for _, rows, _ in watched.log], axis=1)
    return Played(
        returns_to_go=agent.returns_to_go[:, :steps].numpy(),
        # As the model was given them; the simulator's are doubles.
        observations=seen.astype(np.float32) if seen.dtype.kind == "f" else seen,
        actions=np.stack([done for _, _, done in watched.log], axis=1),
        rewards=played.rewards[:, :steps],
    )
