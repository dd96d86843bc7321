"""Every method behind one interface that acts in `n` environments at once."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from helpers.data.policies import Policy
from helpers.models import imitation, value_based
from helpers.models.decision import DecisionTransformer, load_decision
from helpers.models.feedforward import load_network
from helpers.models.trajectory import TrajectoryTransformer, load_trajectory
from helpers.planning.beam import BeamConfig, BeamPlanner, ValueFunction

Actions = Float[np.ndarray, "n A"] | Int[np.ndarray, " n"]
"""Vectors, or numbers where the task is discrete."""


@runtime_checkable
class Agent(Protocol):
    """What evaluation needs to know of a method."""

    def reset(self, n: int) -> None:
        """Begin `n` episodes."""

    def act(self, observations: Real[np.ndarray, "n S"]) -> Actions:
        """Actions for the current observations."""

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Take note of the rewards that followed the last actions."""


class PolicyAgent:
    """A memoryless policy (behaviour policies, behaviour cloning)."""

    def __init__(self, policy: Policy, *, sample: bool, seed: int = 0) -> None:
        self.actor = policy.actor(sample=sample)
        self.seed = seed

    def reset(self, n: int) -> None:
        """Restart the noise."""
        self.rng = np.random.default_rng(self.seed)

    def act(self, observations: Float[np.ndarray, "n S"]) -> Float[np.ndarray, "n A"]:
        """The policy's actions."""
        return self.actor(observations, self.rng)

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Nothing to remember."""


class MemorylessAgent:
    """A learned policy that looks at the present observation alone (BC, CQL, IQL)."""

    def __init__(self, model: imitation.ClonedPolicy | value_based.QLearner) -> None:
        self.model = model.eval()

    def reset(self, n: int) -> None:
        """Nothing to prepare."""

    @torch.inference_mode()
    def act(self, observations: Real[np.ndarray, "n S"]) -> Actions:
        """The policy's most likely actions, or those of highest value."""
        return self.model.act(torch.from_numpy(observations)).numpy()

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Nothing to remember."""


def memoryless_agent(checkpoint: Path, targets: Float[np.ndarray, " n"]) -> MemorylessAgent:
    """The agent of a saved checkpoint; it does what it learned, whatever the targets."""
    return MemorylessAgent(load_network(checkpoint, imitation.KINDS | value_based.KINDS)[0])


class DecisionAgent:
    """A Decision Transformer that keeps the last K steps and its remaining return.

    After every step the return-to-go is lowered by the reward received (Chen et al. 2021,
    section 3); each environment has its own target.
    """

    def __init__(self, model: DecisionTransformer, targets: Float[np.ndarray, " n"]) -> None:
        self.model = model.eval()
        self.targets = np.asarray(targets, np.float32)

    def reset(self, n: int) -> None:
        """Begin `n` episodes.

        Raises:
            ValueError: there are not `n` targets.
        """
        if len(self.targets) != n:
            raise ValueError(f"{len(self.targets)} target returns for {n} environments")
        config = self.model.config
        self.step = 0
        self.returns_to_go = torch.zeros(n, config.horizon + 1)
        self.returns_to_go[:, 0] = torch.from_numpy(self.targets)
        # The present and the last step; older ones live on in the prepared tokens.
        self.observations = torch.zeros(n, 2, config.observation_size)
        self.actions = torch.zeros(n, 2, config.action_size)
        self.window = SlidingWindow(3 * config.context_length - 1)

    @torch.inference_mode()
    def act(self, observations: Float[np.ndarray, "n S"]) -> Float[np.ndarray, "n A"]:
        """Deterministic actions given the last K steps."""
        t = self.step
        self.observations[:, 1] = torch.from_numpy(observations)
        two = slice(t - 1, t + 1) if t else slice(0, 1)
        tokens = self.model.tokens(
            self.returns_to_go[:, two],
            self.observations[:, two.start - two.stop :],
            self.actions[:, two.start - two.stop :],
            torch.arange(two.start, two.stop).expand(len(observations), -1),
        )
        # Of these, the last action and the present return-to-go and state are new.
        new = self.model.transformer.prepare(tokens[:, -4 if t else 0 : -1])
        actions = self.model.act(self.window.append(new))
        self.observations[:, 0] = self.observations[:, 1]
        self.actions[:, 0] = actions
        return actions.numpy()

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Lower the returns-to-go by the rewards."""
        t = self.step
        self.returns_to_go[:, t + 1] = self.returns_to_go[:, t] - torch.from_numpy(rewards).float()
        self.step = t + 1


class SlidingWindow:
    """The last `length` rows of a growing sequence, in a buffer that is seldom shifted."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.filled = 0

    def append(self, rows: Float[Tensor, "n new P"]) -> Float[Tensor, "n L P"]:
        """Add rows at the end; returns a view of the last `length` rows, or of all so far."""
        n, new, width = rows.shape
        if self.filled == 0:
            self.buffer = rows.new_empty(n, 4 * self.length, width)
        if self.filled + new > self.buffer.shape[1]:
            kept = self.length - new
            self.buffer[:, :kept] = self.buffer[:, self.filled - kept : self.filled].clone()
            self.filled = kept
        self.buffer[:, self.filled : self.filled + new] = rows
        self.filled += new
        return self.buffer[:, max(0, self.filled - self.length) : self.filled]


def decision_agent(checkpoint: Path, targets: Float[np.ndarray, " n"]) -> DecisionAgent:
    """The agent of a saved checkpoint."""
    return DecisionAgent(load_decision(checkpoint)[0], targets)


class TrajectoryAgent:
    """A Trajectory Transformer that plans by beam search from its last steps.

    Observations outside the range of the data fall into the outermost bins.
    """

    def __init__(
        self,
        model: TrajectoryTransformer,
        config: BeamConfig,
        *,
        seed: int = 0,
        value: ValueFunction | None = None,
    ) -> None:
        self.planner = BeamPlanner(model, config, value=value)
        self.discretiser = model.discretiser
        self.shape, self.config, self.seed = model.config, config, seed

    def reset(self, n: int) -> None:
        """Begin `n` episodes; the draws of the planner restart."""
        self.generator = torch.Generator().manual_seed(self.seed)
        self.rows = np.zeros((n, self.shape.step_size))
        self.past = torch.zeros(n, 0, dtype=torch.int64)
        self.planned: list[np.ndarray] = []

    def act(self, observations: Float[np.ndarray, "n S"]) -> Float[np.ndarray, "n A"]:
        """The next actions of the present plans, or the first ones of new plans."""
        size = self.shape.observation_size
        self.rows[:, :size] = observations
        if not self.planned:
            tokens = torch.from_numpy(self.discretiser.encode(self.rows))[:, :size]
            plans = self.planner.plan(torch.cat([self.past, tokens], dim=1), self.generator)
            self.planned = list(plans.actions[:, : self.config.plan_every].swapaxes(0, 1))
        actions = self.planned.pop(0)
        self.rows[:, size:-2] = actions
        return actions

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Add the step to the past; its value is unknown, and nothing looks at it."""
        self.rows[:, -2] = rewards
        tokens = torch.from_numpy(self.discretiser.encode(self.rows))
        keep = self.config.context * self.shape.step_size
        grown = torch.cat([self.past, tokens], dim=1)
        self.past = grown[:, max(0, grown.shape[1] - keep) :]


def trajectory_agent(
    checkpoint: Path, targets: Float[np.ndarray, " n"], config: BeamConfig | None = None
) -> TrajectoryAgent:
    """The agent of a saved checkpoint; it asks for as much as it can get, whatever the targets."""
    return TrajectoryAgent(load_trajectory(checkpoint)[0], config or BeamConfig())
