"""Values for sequence models: returns-to-go that know better ways, and a critic for the beam.

Both take a learned critic (IQL or CQL) and leave the sequence model as it is. QDT (Yamagata et al.
2023) trains a Decision Transformer on returns-to-go that are raised to the value of the state
wherever an episode did worse than the data allow. TT+Q (Janner et al. 2021, section 4.3) ranks the
beam's candidates by the critic instead of by the returns of the episodes that the model learned.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from helpers.data.episodes import Dataset
from helpers.envs.grids import DIRECTIONS, grid_layout, pack_tensors, unpack
from helpers.models.checkpoints import load_model
from helpers.models.value_based import KINDS, ImplicitQLearning, QLearner

BLOCK = 4096
"""Observations that a critic reads at once."""


def load_critic(path: Path) -> QLearner:
    """The trained learner of a checkpoint.

    Raises:
        BadFile: the file is missing, not whole, or of another kind of model.
    """
    return load_model(path, KINDS)[0].eval()


@torch.inference_mode()
def state_values(model: QLearner, observations: Real[Tensor, "B S"]) -> Float[Tensor, " B"]:
    """V(s): IQL's own; for CQL the lower critic's value of its policy's action."""
    if isinstance(model, ImplicitQLearning):
        return model.value(observations)[0, :, 0]
    return model.critics(observations, model.act(observations)).amin(dim=0)


def relabel(dataset: Dataset, model: QLearner) -> Dataset:
    """The dataset with returns-to-go R_t = r_t + max(R_{t+1}, V(s_{t+1})) (QDT, algorithm 1).

    Values are discounted where returns-to-go are not, so they promise too little rather than too
    much. Nothing is assumed about what follows an episode's last step.

    Returns:
        The same episodes with other rewards: those whose sums are the new returns-to-go. Only a
        method that reads nothing else of the rewards may be trained on them.
    """
    observations = torch.from_numpy(dataset.observations)
    if observations.is_floating_point():
        observations = observations.float()
    values = torch.cat([state_values(model, block) for block in observations.split(BLOCK)]).numpy()
    returns = np.array(dataset.rewards, np.float64)
    ends = dataset.starts + dataset.lengths - 1
    # Backwards through all episodes at once, as in `trajectory.discounted_values`.
    for back in range(1, int(dataset.lengths.max())):
        rows = (ends - back)[dataset.lengths > back]
        returns[rows] += np.maximum(returns[rows + 1], values[rows + 1])
    after = np.append(returns[1:], 0.0)
    after[ends] = 0.0
    return replace(dataset, rewards=returns - after)


class VectorCritic:
    """Q(s, a) of vectors, for `BeamPlanner`."""

    def __init__(self, model: QLearner) -> None:
        self.model = model

    def __call__(
        self, states: Float[Tensor, "rows S"], actions: Float[Tensor, "rows A"]
    ) -> Float[Tensor, " rows"]:
        """Values of the lower critic."""
        return self.model.critics(states.float(), actions.float()).amin(dim=0)


class GridCritic:
    """Q(s, a) on grid levels: draws the agent where a plan imagines it, on the map as first seen.

    The cell on which it stood is taken for empty floor, and nothing else on the map to change:
    enough for tasks that are solved by walking.
    """

    def __init__(self, model: QLearner) -> None:
        if model.config.sight != "grid":
            raise ValueError(
                f"the critic has sight {model.config.sight!r}; a plan imagines poses on the whole "
                'grid: train it with sight = "grid"'
            )
        self.model = model
        size = model.config.grid_size
        self.layout = grid_layout(size, size)

    def look(self, first: Real[Tensor, "E S"]) -> None:
        """Set what the poses of the next plans count from."""
        self.first = unpack(first, self.layout)

    def __call__(
        self, states: Float[Tensor, "rows 5"], actions: Float[Tensor, "rows 1"]
    ) -> Float[Tensor, " rows"]:
        """Values of the lower critic; `rows` holds equally many candidates of each environment."""
        count = len(states) // len(self.first["pose"])
        parts = {name: part.repeat_interleave(count, dim=0) for name, part in self.first.items()}
        old, size = parts["pose"].long(), self.model.config.grid_size
        steps = torch.tensor(DIRECTIONS)
        ahead, right = steps[old[:, 2]], steps[(old[:, 2] + 1) % 4]
        moved = states.round().long()
        place = old[:, :2] + moved[:, :1] * ahead + moved[:, 1:2] * right
        place = place.clamp(0, size - 1)
        turned = (old[:, 2] + moved[:, 2]) % 4
        grid, row = parts["grid"].clone(), torch.arange(len(states))
        agent = grid[row, old[:, 0], old[:, 1]]
        grid[row, old[:, 0], old[:, 1]] = torch.tensor([1, 0, 0], dtype=grid.dtype)
        agent[:, 2] = turned.to(agent.dtype)
        grid[row, place[:, 0], place[:, 1]] = agent
        pose = torch.cat([place, turned[:, None], moved[:, 3:]], dim=1).to(grid.dtype)
        packed = pack_tensors({**parts, "grid": grid, "pose": pose}, self.layout)
        return self.model.critics(packed, actions[:, 0].round().long()).amin(dim=0)
