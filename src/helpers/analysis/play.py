"""Episodes of a Decision Transformer in play, with all that it was told: what it looked at when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from helpers.agents import Actions, DecisionAgent
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


class _Diary(DecisionAgent):
    """Notes what it sees and does."""

    def reset(self, n: int) -> None:
        """Begin `n` episodes and a new page."""
        super().reset(n)
        self.seen: list[Real[np.ndarray, "n S"]] = []
        self.done: list[Actions] = []

    def act(self, observations: Real[np.ndarray, "n S"]) -> Actions:
        """The actions, noted."""
        # As the model is given them; the simulator's are doubles, and the array is used again.
        precise = observations.dtype.kind == "f"
        self.seen.append(observations.astype(np.float32 if precise else observations.dtype))
        self.done.append(super().act(observations))
        return self.done[-1]


def play_and_note(
    model: DecisionTransformer, task: Task, seeds: list[int], target: float
) -> Played:
    """Play one episode per seed, all for the same target return.

    Raises:
        ValueError: episodes of different lengths, which do not fit into one table.
    """
    agent = _Diary(model, np.full(len(seeds), target))
    played = rollout(agent, task, seeds)
    steps = int(played.lengths.max())
    if (played.lengths != steps).any():
        raise ValueError(
            f"{task.name}: episodes have {played.lengths.min()} to {steps} steps; play a task "
            "whose episodes all last to its time limit"
        )
    return Played(
        returns_to_go=agent.returns_to_go[:, :steps].numpy(),
        observations=np.stack(agent.seen, axis=1),
        actions=np.stack(agent.done, axis=1),
        rewards=played.rewards[:, :steps],
    )
