"""Plans of a LEAP model under a magnifying glass: all of them scored, changed, carried out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from helpers.data.episodes import Dataset
from helpers.models.leap import Leap, PlaceReader
from helpers.tasks import Task


def every_plan(length: int, actions: int) -> Int[Tensor, "plans H"]:
    """All plans of one action or more, END (the number `actions`) behind those that are shorter."""
    plans = [
        [*head, *[actions] * (length - used)]
        for used in range(1, length + 1)
        for head in itertools.product(range(actions), repeat=used)
    ]
    return torch.tensor(plans)


@torch.inference_mode()
def every_energy(
    model: Leap, observations: Real[Tensor, "E S"], plans: Int[Tensor, "plans H"]
) -> Float[Tensor, "E plans"]:
    """Energy of each plan about each observation: that of `GibbsPlanner.energy`, in fewer passes.

    Plans that differ in one place become the same sentence when that place is masked, so the model
    reads each masked sentence once.
    """
    reader, active = PlaceReader(model, observations), model.active(plans)
    energy = torch.zeros(len(observations), len(plans))
    for place in range(plans.shape[1]):
        masked = plans.clone()
        masked[:, place] = model.config.mask
        sentences, which = masked.unique(dim=0, return_inverse=True)
        places = torch.full((len(sentences), 1), place)
        for i in range(len(observations)):
            owner = torch.full((len(sentences),), i)
            scores = reader(sentences, places, owner)[:, 0].log_softmax(dim=-1)
            chosen = scores[which].gather(1, plans[:, place, None])[:, 0]
            energy[i] -= chosen.where(active[:, place], 0.0)
    return energy


def first_plans(data: Dataset, length: int, end: int) -> Int[Tensor, "episodes H"]:
    """How each episode begins, as a plan: END stands behind its last action."""
    plans = np.full((len(data.lengths), length), end)
    for plan, start, steps in zip(plans, data.starts, data.lengths, strict=True):
        used = min(length, int(steps))
        plan[:used] = data.actions[start : start + used]
    return torch.from_numpy(plans)


def one_change(
    plan: Int[Tensor, " H"], end: int
) -> tuple[Int[Tensor, "changes H"], Int[np.ndarray, "changes 2"]]:
    """All plans that differ from `plan` in a single place, and the place and token of each change.

    END in a new place ends the plan there; a plan keeps one action at least, and places behind its
    END are left alone.
    """
    used = int((plan != end).sum())
    changed, where = [], []
    for place, token in itertools.product(range(min(used + 1, len(plan))), range(end + 1)):
        if token == plan[place] or (place == 0 and token == end):
            continue
        other = plan.clone()
        other[place] = token
        if token == end:
            other[place:] = end
        changed.append(other)
        where.append((place, token))
    return torch.stack(changed), np.array(where)


@dataclass(frozen=True)
class Walk:
    """What became of actions carried out in a level."""

    poses: Int[np.ndarray, "steps 3"]
    """x, y and direction (0 east, 1 south, 2 west, 3 north) at first and after every action."""
    success: bool


def walk(task: Task, seed: int, actions: Sequence[int] | Int[np.ndarray, " H"]) -> Walk:
    """Carry out actions in the level of that seed, to the episode's end at the latest.

    Args:
        task: a grid.
        seed: of the level.
        actions: tokens of a plan; anything that is no action ends it.
    """
    env = task.make()
    env.reset(seed=seed)
    level = env.unwrapped
    poses, reward, over = [(*level.agent_pos, level.agent_dir)], 0.0, False
    for action in actions:
        if over or not 0 <= action < task.action_size:
            break
        _, reward, terminated, truncated, _ = env.step(int(action))
        over = terminated or truncated
        poses.append((*level.agent_pos, level.agent_dir))
    env.close()
    return Walk(np.array(poses, int), float(reward) > 0)
