"""LEAP (Chen et al. 2023, "Planning with Sequence Models through Iterative Energy Minimization").

A masked language model of plans. A state stands in front of H actions; every token may look at
every other one; the model predicts an action whose place holds MASK from the state and from the
*other* actions, those that come later included. Summed over the places, the negative logarithms of
these predictions are the plan's energy (`planning.gibbs`): its negative pseudo-log-likelihood.

Facts on the released code (hychen-naza/LEAP at dff7656, which has no licence: read, not used) are
in the chapter. Departures:

- the state is one token; there it stands again before every action, with the same image;
- a plan may end: END is an action like any other, predicted and paid for, and what stands behind
  it is padding, which nobody looks at. There, padding is looked at in training, cannot be
  predicted, and never occurs in a plan;
- positions count from the plan's beginning, in training and planning. There a second table counts
  from the episode's beginning, and planning adds the horizon to it;
- a training step hides any share of a window's places together (`masks`), as when a plan is filled
  from nothing; the paper's objective, one place at a time, never shows the planner's first input.
  Any one place alone is among these shares, so the energy is learnt too;
- maps and missions are read by the encoder of all methods (`grid_encoder`);
- where actions are vectors, plans are made of the numbers of codes (`action_codes`). There, actions
  are numbered in all tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor, nn

from helpers.data.episodes import Dataset
from helpers.data.windows import observation_statistics, to_single
from helpers.models.action_codes import fit_codes, nearest
from helpers.models.checkpoints import load_model
from helpers.models.dropout import dropout
from helpers.models.grid_encoder import GridEncoder, GridEncoderConfig
from helpers.models.transformer import INIT_STD, Transformer, TransformerConfig
from helpers.tasks import Task


@dataclass(frozen=True)
class LeapConfig:
    """Shape of a LEAP model; the defaults are its released code's for one-room levels."""

    observation_size: int
    action_size: int
    """A, number of actions, or length of an action that is a vector."""
    plan_length: int = 5
    """H, actions of a plan."""
    masks: int = 0
    """Places of a window that are masked one at a time in a training step; H is the paper's
    objective, fewer an estimate of it. 0 masks any share of them together."""
    width: int = 128
    layers: int = 3
    heads: int = 4
    dropout: float = 0.1
    activation: str = "gelu"
    grid_size: int = 0
    """Cells along an edge of a grid level; 0 where observations are vectors."""
    sight: str = "grid"
    """What is seen of a grid level: grid or view (`GridEncoderConfig`)."""
    oracle: bool = False
    """Whether the cell that the mission asks for is marked (`GridEncoderConfig`)."""
    action_codes: int = 0
    """K, vectors of actions among which a plan chooses; 0 where actions are numbered already."""

    def __post_init__(self) -> None:
        for name, least in (("plan_length", 1), ("masks", 0), ("action_codes", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; set it to {least} or more")

    @property
    def actions(self) -> int:
        """How many actions a plan chooses among."""
        return self.action_codes or self.action_size

    @property
    def end(self) -> int:
        """The token that says that the plan is over."""
        return self.actions

    @property
    def mask(self) -> int:
        """The token of a place that is to be predicted."""
        return self.actions + 1

    @property
    def core(self) -> TransformerConfig:
        """The part that concerns the transformer."""
        return TransformerConfig(self.width, self.layers, self.heads, self.dropout, self.activation)


class Leap(nn.Module):
    """Predicts each action of a plan from the state and the plan's other actions."""

    method = "leap"
    observation_mean: Tensor
    observation_std: Tensor
    codes: Tensor | None
    """The vectors (K, A) that numbers stand for; none where actions are numbered in the task."""

    def __init__(self, config: LeapConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        if config.grid_size:
            grid = GridEncoderConfig(config.grid_size, width, config.sight, config.oracle)
            self.embed_observation = GridEncoder(grid)
        else:
            self.embed_observation = nn.Linear(config.observation_size, width)
        self.embed_action = nn.Embedding(config.actions + 2, width)
        self.embed_position = nn.Parameter(torch.empty(config.plan_length + 1, width))
        nn.init.normal_(self.embed_position, std=INIT_STD)
        nn.init.normal_(self.embed_action.weight, std=INIT_STD)
        self.transformer = Transformer(config.core)
        self.predict = nn.Linear(width, config.actions + 1)
        self.register_buffer("observation_mean", torch.zeros(config.observation_size))
        self.register_buffer("observation_std", torch.ones(config.observation_size))
        codes = torch.zeros(config.action_codes, config.action_size)
        self.register_buffer("codes", codes if config.action_codes else None)

    def encode(self, observations: Real[Tensor, "B S"]) -> Float[Tensor, "B D"]:
        """The state tokens."""
        if not self.config.grid_size:
            observations = (observations.float() - self.observation_mean) / self.observation_std
        return self.embed_observation(observations)

    def forward(
        self, states: Float[Tensor, "B D"], plans: Int[Tensor, "B H"]
    ) -> Float[Tensor, "B H tokens"]:
        """Logits over actions and END of every place of plans that may hold END and MASK.

        END stands behind END to the end of a plan; only the first one is looked at.
        """
        x, allowed = self.tokens(states, plans)
        return self.predict(self.transformer(x, allowed, slice(1, None)))

    def tokens(
        self, states: Float[Tensor, "B D"], plans: Int[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "B L D"], Bool[Tensor, "B 1 L L"]]:
        """Embedded tokens, L = 1 + H, and who may look at whom."""
        x = torch.cat([states.unsqueeze(1), self.embed_action(plans)], dim=1)
        x = dropout(x + self.embed_position, self.config.dropout, self.training)
        seen = F.pad(self.active(plans), (1, 0), value=True)
        # A row of padding may look as well: nobody reads it, and a softmax needs something.
        return x, seen[:, None, None, :].expand(-1, -1, x.shape[1], -1)

    def active(self, plans: Int[Tensor, "B H"]) -> Bool[Tensor, "B H"]:
        """True up to the first END, itself included."""
        end = plans == self.config.end
        return end.cumsum(dim=1) - end.long() == 0

    def tokenise(
        self, actions: Float[np.ndarray, "N A"] | Int[np.ndarray, " N"]
    ) -> Int[np.ndarray, " N"]:
        """What stands for recorded actions in a plan: their numbers, or their nearest codes'."""
        if self.codes is None:
            return np.array(actions, np.int64)
        return nearest(actions, self.codes.cpu().numpy())

    def decode(
        self, tokens: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, "n A"] | Int[np.ndarray, " n"]:
        """What the actions of a plan are in the environment; no END among them."""
        return tokens if self.codes is None else self.codes.cpu().numpy()[tokens]


class PlaceReader:
    """Logits of single places of many plans about the same observations; without dropout.

    What the first block needs of a token depends on its place and action alone, so it is looked up;
    the last block computes the places that are asked for.
    """

    def __init__(self, model: Leap, observations: Real[Tensor, "E S"]) -> None:
        self.model, core = model, model.transformer
        state = model.encode(observations) + model.embed_position[0]
        self.states = core.prepare(state.unsqueeze(1))
        tokens = model.embed_position[1:, None] + model.embed_action.weight
        self.table = core.prepare(tokens).flatten(0, 1)
        self.first = torch.arange(len(tokens)) * tokens.shape[1]

    def __call__(
        self,
        plans: Int[Tensor, "rows H"],
        places: Int[Tensor, "rows Q"],
        owner: Int[Tensor, " rows"],
    ) -> Float[Tensor, "rows Q tokens"]:
        """`Leap.forward` at those places, for plans about the observations of those numbers."""
        prepared = torch.cat([self.states[owner], F.embedding(plans + self.first, self.table)], 1)
        seen = F.pad(self.model.active(plans), (1, 0), value=True)
        allowed = seen[:, None, None, :].expand(-1, -1, prepared.shape[1], -1)
        return self.model.predict(self.model.transformer.advance(prepared, allowed, places + 1))


# --- data --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlanWindows:
    """The H actions that follow a step, END behind the last one of an episode that ended."""

    observations: Real[Tensor, "N S"]
    actions: Int[Tensor, " N"]
    remaining: Int[Tensor, " N"]
    """Steps from here to the end of the episode, this one included."""
    ends: Bool[Tensor, " N"]
    """Whether the environment ends this step's episode; otherwise the time limit does."""
    plan_length: int
    end: int

    def sample(self, rng: np.random.Generator, batch_size: int) -> dict[str, Tensor]:
        """A batch: `observations` (B, S), `plans` (B, H), `valid` (B, H), `draws` (B, H + 1).

        `valid` is False behind an END and behind the time limit, of which nothing is known;
        `draws` are uniform numbers that decide what a training step masks.
        """
        start = torch.from_numpy(rng.integers(len(self.actions), size=batch_size))
        offset = torch.arange(self.plan_length)
        inside = offset < self.remaining[start, None]
        last = offset == self.remaining[start, None]
        rows = start[:, None] + torch.where(inside, offset, 0)
        return {
            "observations": to_single(self.observations[start]),
            "plans": torch.where(inside, self.actions[rows], self.end),
            "valid": inside | (last & self.ends[start, None]),
            "draws": torch.from_numpy(rng.random((batch_size, self.plan_length + 1))),
        }


def make_plan_windows(dataset: Dataset, model: Leap) -> PlanWindows:
    """Prepare a dataset for sampling."""
    step = np.concatenate([np.arange(length) for length in dataset.lengths])
    return PlanWindows(
        observations=torch.from_numpy(dataset.observations),
        actions=torch.from_numpy(model.tokenise(dataset.actions)),
        remaining=torch.from_numpy(np.repeat(dataset.lengths, dataset.lengths) - step),
        ends=torch.from_numpy(np.repeat(dataset.terminated, dataset.lengths)),
        plan_length=model.config.plan_length,
        end=model.config.end,
    )


def leap_loss(model: Leap, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
    """Mean of -log p(action | what is not masked, state) over masked places.

    With `masks` above 0 an estimate of the paper's pseudo-log-likelihood by the places drawn.
    """
    config = model.config
    states = model.encode(batch["observations"])
    plans, valid, draws = batch["plans"], batch["valid"], batch["draws"]
    if config.masks == 0:
        # Any share of the places (the last draw is the share), and one that counts in any case.
        # Places behind the END are hidden as well: the number of those in sight would tell it.
        first = draws[:, :-1].masked_fill(~valid, 2.0)
        hidden = (draws[:, :-1] <= draws[:, -1:]) | (first == first.amin(1, keepdim=True))
    else:
        count = min(config.masks, config.plan_length)
        places = draws[:, :-1].masked_fill(~valid, 2.0).topk(count, dim=1, largest=False).indices
        hidden = F.one_hot(places, config.plan_length).bool().flatten(0, 1)
        states, plans, valid = (
            part.repeat_interleave(count, dim=0) for part in (states, plans, valid)
        )
    logits, chosen = model(states, plans.masked_fill(hidden, config.mask)), hidden & valid
    return F.cross_entropy(logits[chosen].float(), plans[chosen])


# --- making, writing, reading ------------------------------------------------------------------


def make_leap(task: Task, dataset: Dataset, **changes: Any) -> Leap:
    """A model shaped for `task`.

    Raises:
        ValueError: an unknown or impossible field in `changes`, a task whose actions are vectors
            without `action_codes`, or one whose actions are numbered with them.
    """
    known = {field.name for field in fields(LeapConfig)}
    if unknown := sorted(set(changes) - known):
        raise ValueError(f"unknown LEAP options {unknown}; known: {sorted(known)}")
    coded = bool(changes.get("action_codes", 0))
    if not task.discrete and not coded:
        raise ValueError(
            f"task {task.name!r} has vectors for actions; LEAP plans with numbered ones: set "
            "action_codes, say to 64, to plan with as many vectors of the data"
        )
    if task.discrete and coded:
        raise ValueError(
            f"task {task.name!r} has numbered actions; remove action_codes, which is "
            f"{changes['action_codes']}"
        )
    shape = {
        "observation_size": task.observation_size,
        "action_size": task.action_size,
        "grid_size": task.grid_size,
    }
    model = Leap(LeapConfig(**{**shape, **changes}))
    if not task.grid_size:
        mean, std = observation_statistics(dataset)
        model.observation_mean.copy_(torch.from_numpy(mean))
        model.observation_std.copy_(torch.from_numpy(std))
    if coded:
        model.codes.copy_(torch.from_numpy(fit_codes(dataset.actions, model.config.action_codes)))
    return model


def load_leap(path: str | Path) -> tuple[Leap, dict[str, Any]]:
    """Read a checkpoint; see `checkpoints.load_model`."""
    return load_model(path, {"leap": (Leap, LeapConfig)})
