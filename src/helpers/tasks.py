"""What a task is: its environment, shapes, horizon, target returns and reference scores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import gymnasium
import numpy as np

from helpers.names import look_up

Returns = TypeVar("Returns", float, np.ndarray)


@dataclass(frozen=True)
class Task:
    """A decision problem on which methods are trained and compared."""

    name: str
    env_id: str
    """Gymnasium id; its version is printed beside every score."""
    observation_size: int
    """S, length of the observation vector."""
    action_size: int
    """A, length of the action vector."""
    horizon: int
    """Steps after which an episode is truncated."""
    return_scale: float
    """Returns are divided by this before a network sees them (1,000 in DT's code for MuJoCo)."""
    target_return: float
    """Return asked of a return-conditioned agent unless told otherwise."""
    reference_scores: tuple[float, float]
    """Returns that D4RL maps to 0 and 100. They belong to mujoco-py's v2 and v3 environments
    (D4RL, d4rl/infos.py): a score of ours on v5 is comparable only approximately."""
    delayed: bool = False
    """The whole return is paid with the last step, nothing before."""

    def make(self) -> gymnasium.Env:
        """A fresh environment."""
        with _quiet_mujoco():
            env = gymnasium.make(self.env_id)
        return RewardAtEnd(env) if self.delayed else env

    def normalised_score(self, episode_return: Returns) -> Returns:
        """100 (return - min) / (max - min), D4RL's score (Fu et al. 2020)."""
        low, high = self.reference_scores
        return 100.0 * (episode_return - low) / (high - low)


class RewardAtEnd(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
    """Pays the sum of all rewards with the last step of an episode and 0 before.

    The Decision Transformer's test of sparse rewards ("delayed" mode of its code).
    """

    def __init__(self, env: gymnasium.Env) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with nothing owed."""
        self.owed = 0.0
        return self.env.reset(**options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, and pay what is owed if the episode ends."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.owed += float(reward)
        paid = self.owed if terminated or truncated else 0.0
        return observation, paid, terminated, truncated, info


@contextlib.contextmanager
def _quiet_mujoco() -> Iterator[None]:
    """MuJoCo 4 says of every HalfCheetah that its XML uses a deprecated attribute, and logs it."""
    import mujoco

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


_HALFCHEETAH = Task(
    name="halfcheetah",
    env_id="HalfCheetah-v5",
    observation_size=17,
    action_size=6,
    horizon=1000,
    return_scale=1000.0,
    target_return=6000.0,
    reference_scores=(-280.178953, 12135.0),
)
TASKS = {
    task.name: task
    for task in (_HALFCHEETAH, replace(_HALFCHEETAH, name="halfcheetah-delayed", delayed=True))
}


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        UnknownName: no such task; the message offers the nearest names.
    """
    return look_up(TASKS, name, "task")
