"""Models put to tasks that they were not trained for, without training: lava and composition.

Lava that was added afterwards: the network never sees it (it has no embedding for it); LEAP's
planner adds an energy to plans that step into it, which needs to know how an agent moves, and for
Decision Transformer the same knowledge forbids the next step. Missions that are joined by "and":
energies are added over the missions, log-probabilities of the next action likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Real
from minigrid.core.constants import OBJECT_TO_IDX
from torch import Tensor

from helpers.agents import Actions, DecisionAgent, LeapAgent
from helpers.envs.grids import DIRECTIONS, WORDS, Layout, grid_layout, unpack
from helpers.models.decision import DecisionTransformer
from helpers.models.leap import Leap
from helpers.planning.gibbs import Constraint, GibbsConfig, GibbsPlanner, GibbsPlans

EMPTY, LAVA, DOOR, AGENT = (OBJECT_TO_IDX[name] for name in ("empty", "lava", "door", "agent"))
LEFT, RIGHT, AHEAD = range(3)
FORBIDDEN = 1e3
"""Energy of a step into lava: no plan without one is worse."""


@dataclass(frozen=True)
class Adaptation:
    """What is done beyond training."""

    lava: str = "seen"
    """seen (as any other object), hidden (from the network), or avoided (hidden, and an energy)."""
    compose: bool = False
    """Missions joined by "and" are read one by one, and their energies added."""

    def __post_init__(self) -> None:
        if self.lava not in ("seen", "hidden", "avoided"):
            raise ValueError(f"lava is {self.lava!r}; choose seen, hidden or avoided")


def hide_lava(
    observations: Real[np.ndarray, "n S"], layout: Layout
) -> tuple[Real[np.ndarray, "n S"], Bool[Tensor, "n W W"]]:
    """The observations with free cells in place of lava, and where the lava is."""
    observations = observations.copy()
    found = np.zeros(0)
    for name in ("view", "grid"):
        cells = unpack(observations, layout)[name]
        found = cells[..., 0] == LAVA
        cells[found] = EMPTY, 0, 0
    return observations, torch.from_numpy(found)


def lava_energy(observations: Real[Tensor, "n S"], lava: Bool[Tensor, "n W W"]) -> Constraint:
    """`FORBIDDEN` for a plan whose steps, carried out from here, lead into lava."""
    parts = unpack(observations, grid_layout(*lava.shape[1:]))
    objects, states = parts["grid"][..., 0], parts["grid"][..., 2]
    open_door = (objects == DOOR) & (states == 0)
    free = (objects == EMPTY) | (objects == AGENT) | open_door
    pose = parts["pose"].long()
    steps = torch.tensor(DIRECTIONS)

    def energy(plans: Int[Tensor, "rows H"], rows: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        place, direction = pose[rows, :2], pose[rows, 2]
        burnt = torch.zeros(len(rows), dtype=torch.bool)
        for action in plans.T:
            direction = (direction + (action == RIGHT).long() - (action == LEFT).long()) % 4
            ahead = place + steps[direction]
            moves = (action == AHEAD) & free[rows, ahead[:, 0], ahead[:, 1]]
            place = torch.where(moves[:, None], ahead, place)
            burnt |= lava[rows, place[:, 0], place[:, 1]]
        return FORBIDDEN * burnt.float()

    return energy


def split_mission(observations: Real[np.ndarray, "n S"], layout: Layout) -> list[np.ndarray]:
    """The observations with the first, and with the second of the missions joined by "and".

    Raises:
        ValueError: a mission without "and".
    """
    halves = [observations.copy(), observations.copy()]
    words = unpack(observations, layout)["mission"]
    missions = [unpack(half, layout)["mission"] for half in halves]
    for row, tokens in enumerate(words):
        places = np.flatnonzero(tokens == WORDS.index("and"))
        if len(places) != 1:
            text = " ".join(WORDS[token] for token in tokens if token)
            raise ValueError(f"mission {text!r} does not join two missions with 'and'")
        for mission, part in zip(missions, np.split(tokens, places), strict=True):
            part = part[part != WORDS.index("and")]
            mission[row] = np.pad(part, (0, len(tokens) - len(part)))
    return halves


class AdaptedLeapAgent(LeapAgent):
    """A LEAP model with further energies."""

    def __init__(
        self, model: Leap, config: GibbsConfig, adaptation: Adaptation, *, seed: int = 0
    ) -> None:
        super().__init__(model, config, seed=seed)
        self.adaptation = adaptation
        self.layout = grid_layout(model.config.grid_size, model.config.grid_size)
        if adaptation.compose:
            self.planner = GibbsPlanner([model, model], config)

    def plan(self, observations: Real[np.ndarray, "n S"]) -> GibbsPlans:
        """New plans."""
        if self.adaptation.lava != "seen":
            observations, lava = hide_lava(observations, self.layout)
            if self.adaptation.lava == "avoided":
                self.planner.constraint = lava_energy(torch.from_numpy(observations), lava)
        if not self.adaptation.compose:
            return super().plan(observations)
        halves = split_mission(observations, self.layout)
        return self.planner.plan([torch.from_numpy(half) for half in halves], self.generator)


class AdaptedDecisionAgent:
    """A Decision Transformer with the same knowledge: forbidden steps, added log-probabilities."""

    def __init__(
        self, model: DecisionTransformer, targets: Float[np.ndarray, " n"], adaptation: Adaptation
    ) -> None:
        self.adaptation = adaptation
        self.agents = [DecisionAgent(model, targets) for _ in range(1 + adaptation.compose)]
        self.layout = grid_layout(model.config.grid_size, model.config.grid_size)

    def reset(self, n: int) -> None:
        """Begin `n` episodes."""
        for agent in self.agents:
            agent.reset(n)

    def act(self, observations: Real[np.ndarray, "n S"]) -> Actions:
        """The likeliest actions of those that are left."""
        lava = None
        if self.adaptation.lava != "seen":
            observations, lava = hide_lava(observations, self.layout)
        seen = [observations]
        if self.adaptation.compose:
            seen = split_mission(observations, self.layout)
        scores = torch.zeros(())
        for agent, half in zip(self.agents, seen, strict=True):
            scores = scores + agent.scores(half).log_softmax(dim=-1)
        if lava is not None and self.adaptation.lava == "avoided":
            rows = torch.arange(len(observations))
            energy = lava_energy(torch.from_numpy(observations), lava)
            scores[:, AHEAD] -= energy(torch.full((len(rows), 1), AHEAD), rows)
        actions = scores.argmax(dim=-1)
        for agent in self.agents:
            agent.take(actions)
        return actions.numpy()

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Lower the returns-to-go by the rewards."""
        for agent in self.agents:
            agent.observe(rewards)

    def keep(self, rows: Int[np.ndarray, " m"]) -> None:
        """Forget the other episodes."""
        for agent in self.agents:
            agent.keep(rows)


def split_options(planner: dict[str, Any]) -> tuple[dict[str, Any], Adaptation | None]:
    """A run's planner options without those of `Adaptation`, and these if there are any."""
    ours = {name: planner[name] for name in ("lava", "compose") if name in planner}
    rest = {name: value for name, value in planner.items() if name not in ours}
    return rest, Adaptation(**ours) if ours else None
