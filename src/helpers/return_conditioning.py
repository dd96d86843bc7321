"""Imitation conditioned on the return, with counts instead of a network.

Two toy tasks without states show what asking for a return can promise. In LEVER the actions
alone decide the return; in GAMBLE luck decides it too. The agent counts, for every number of steps
done and every return-to-go, how often each action was recorded, and imitates those frequencies:
the conditional distribution that a return-conditioned model of infinite capacity would learn.
Brandfonbrener et al. 2022 (https://arxiv.org/abs/2206.01079) and Paster et al. 2022
(https://arxiv.org/abs/2205.15967) analyse the limits shown here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Bandit:
    """A task without states; rewards are whole numbers."""

    horizon: int
    payoffs: tuple[tuple[tuple[int, float], ...], ...]
    """For each action, the rewards it may pay and their probabilities."""
    behaviour: tuple[float, ...]
    """Probability of each action in the recorded data."""

    @property
    def action_values(self) -> Float[np.ndarray, " A"]:
        """Expected reward of each action."""
        return np.array([sum(r * p for r, p in outcomes) for outcomes in self.payoffs])

    def pay(
        self, actions: Int[np.ndarray, " B"], rng: np.random.Generator
    ) -> Int[np.ndarray, " B"]:
        """Rewards of a batch of actions."""
        chance = rng.random(len(actions))
        rewards = np.zeros(len(actions), dtype=int)
        for action, outcomes in enumerate(self.payoffs):
            amounts, probabilities = (np.array(values) for values in zip(*outcomes, strict=True))
            drawn = np.searchsorted(np.cumsum(probabilities)[:-1], chance, side="right")
            rewards = np.where(actions == action, amounts[drawn], rewards)
        return rewards


LEVER = Bandit(horizon=10, payoffs=(((0, 1.0),), ((1, 1.0),)), behaviour=(6 / 7, 1 / 7))
"""Ten steps; pulling the lever (action 1) pays 1. The data pull it one time in seven."""
GAMBLE = Bandit(horizon=1, payoffs=(((1, 1.0),), ((0, 0.8), (3, 0.2))), behaviour=(0.5, 0.5))
"""One choice: 1 for certain (action 0), or 3 with probability 1/5 and else nothing (action 1)."""


@dataclass(frozen=True)
class Recorded:
    """Episodes of the behaviour policy."""

    actions: Int[np.ndarray, "N T"]
    rewards: Int[np.ndarray, "N T"]

    @property
    def returns_to_go(self) -> Int[np.ndarray, "N T"]:
        """Sum of the rewards from each step to the end."""
        return self.rewards[:, ::-1].cumsum(axis=1)[:, ::-1]

    @property
    def returns(self) -> Int[np.ndarray, " N"]:
        """Return of each episode."""
        return self.rewards.sum(axis=1)


def record(bandit: Bandit, episodes: int, rng: np.random.Generator) -> Recorded:
    """Let the behaviour policy act."""
    shape = (episodes, bandit.horizon)
    actions = rng.choice(len(bandit.behaviour), size=shape, p=bandit.behaviour)
    return Recorded(actions, bandit.pay(actions.ravel(), rng).reshape(shape))


def conditional_policy(
    data: Recorded, num_actions: int, largest: int
) -> Float[np.ndarray, "T R A"]:
    """Frequency of each action given the step and the return-to-go.

    Args:
        data: recorded episodes.
        num_actions: A.
        largest: largest return-to-go of the table, R - 1.

    Returns:
        Probabilities. Where the data hold no such pair they are the overall action frequencies:
        a choice of this table, since imitation says nothing there.
    """
    horizon = data.actions.shape[1]
    counts = np.zeros((horizon, largest + 1, num_actions))
    steps = np.broadcast_to(np.arange(horizon), data.actions.shape)
    known = data.returns_to_go <= largest
    np.add.at(counts, (steps[known], data.returns_to_go[known], data.actions[known]), 1.0)
    overall = np.bincount(data.actions.ravel(), minlength=num_actions) / data.actions.size
    seen = counts.sum(axis=-1, keepdims=True)
    return np.where(seen > 0, counts / np.maximum(seen, 1.0), overall)


def achieve(
    bandit: Bandit,
    policy: Float[np.ndarray, "T R A"],
    target: int,
    episodes: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, " episodes"]:
    """Ask for a return, act, and subtract each reward from what is still asked."""
    to_go = np.full(episodes, target)
    for step in range(bandit.horizon):
        probabilities = policy[step, np.clip(to_go, 0, policy.shape[1] - 1)]
        cut = np.cumsum(probabilities, axis=1)[:, :-1]
        actions = np.sum(rng.random(episodes)[:, None] >= cut, axis=1)
        to_go = to_go - bandit.pay(actions, rng)
    return target - to_go


def sweep_targets(
    bandit: Bandit,
    targets: list[int],
    *,
    episodes: int,
    seeds: int,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "seeds targets"], Float[np.ndarray, " seeds"]]:
    """Achieved mean return for each asked return, and the largest return in each data set.

    Args:
        bandit: the task.
        targets: returns to ask for.
        episodes: recorded per data set, and acted per target.
        seeds: number of data sets.
        rng: for data and acting.
    """
    achieved, best = [], []
    for _ in range(seeds):
        data = record(bandit, episodes, rng)
        policy = conditional_policy(data, len(bandit.behaviour), max(targets))
        best.append(data.returns.max())
        achieved.append(
            [achieve(bandit, policy, target, episodes, rng).mean() for target in targets]
        )
    return np.array(achieved), np.array(best, dtype=float)
