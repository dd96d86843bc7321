"""Every method behind one interface that acts in `n` environments at once."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from helpers.data.policies import Policy
from helpers.models.decision import DecisionTransformer, load_decision


@runtime_checkable
class Agent(Protocol):
    """What evaluation needs to know of a method."""

    def reset(self, n: int) -> None:
        """Begin `n` episodes."""

    def act(self, observations: Float[np.ndarray, "n S"]) -> Float[np.ndarray, "n A"]:
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
        # The window is a view of the whole history: nothing is shifted as time goes on.
        self.returns_to_go = torch.zeros(n, config.horizon + 1)
        self.observations = torch.zeros(n, config.horizon + 1, config.observation_size)
        self.actions = torch.zeros(n, config.horizon + 1, config.action_size)
        self.returns_to_go[:, 0] = torch.from_numpy(self.targets)

    @torch.inference_mode()
    def act(self, observations: Float[np.ndarray, "n S"]) -> Float[np.ndarray, "n A"]:
        """Deterministic actions given the last K steps."""
        t = self.step
        self.observations[:, t] = torch.from_numpy(observations)
        window = slice(max(0, t + 1 - self.model.config.context_length), t + 1)
        actions = self.model.act(
            self.returns_to_go[:, window],
            self.observations[:, window],
            self.actions[:, window],
            torch.arange(window.start, window.stop).expand(len(observations), -1),
        )
        self.actions[:, t] = actions
        return actions.numpy()

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Lower the returns-to-go by the rewards."""
        t = self.step
        self.returns_to_go[:, t + 1] = self.returns_to_go[:, t] - torch.from_numpy(rewards).float()
        self.step = t + 1


def decision_agent(checkpoint: Path, targets: Float[np.ndarray, " n"]) -> DecisionAgent:
    """The agent of a saved checkpoint."""
    return DecisionAgent(load_decision(checkpoint)[0], targets)
