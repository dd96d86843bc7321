"""What a task is: its environment, shapes, horizon, target returns and reference scores."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import FlattenObservation

from helpers.envs.adaptation import WithLava
from helpers.envs.grids import ACTIONS, GridObservation, Layout, grid_layout, pack
from helpers.envs.mazes import SIDE, PointCross, lake_map, lake_state, point_map
from helpers.envs.tables import StartAt
from helpers.names import look_up

Returns = TypeVar("Returns", float, np.ndarray)


@dataclass(frozen=True)
class Task:
    """A decision problem on which methods are trained and compared."""

    name: str
    env_id: str
    """Gymnasium id, with the module that registers it; its version is printed beside scores."""
    observation_size: int
    """S, length of the observation vector (packed, for grids)."""
    action_size: int
    """A, length of the action vector, or number of actions where they are discrete."""
    horizon: int
    """Steps after which an episode is truncated, at the latest."""
    return_scale: float
    """Returns are divided by this before a network sees them (1,000 in DT's code for MuJoCo)."""
    target_return: float
    """Return asked of a return-conditioned agent unless told otherwise."""
    reference_scores: tuple[float, float] = (0.0, 1.0)
    """Returns that are mapped to 0 and 100. HalfCheetah's are D4RL's; they belong to mujoco-py's v2
    and v3 environments (d4rl/infos.py): a score of ours on v5 is comparable only approximately."""
    discrete: bool = False
    """Actions are numbers 0 to A - 1 instead of vectors."""
    layout: Layout = field(default_factory=dict)
    """Parts of an observation that is a dictionary; empty where it is a vector of numbers."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the environment."""
    wrappers: tuple[Callable[[gymnasium.Env], gymnasium.Env], ...] = ()
    """Applied in order."""
    recorded: EnvSpec | None = None
    """As stored with a dataset of others; takes the place of id, arguments and wrappers."""

    @property
    def grid_size(self) -> int:
        """Cells along an edge of a grid level; 0 where observations are vectors."""
        return self.layout["grid"][0] if self.layout else 0

    def make(self) -> gymnasium.Env:
        """A fresh environment."""
        with _quiet():
            env = gymnasium.make(
                self.recorded or self.env_id, disable_env_checker=True, **self.options
            )
        for wrapper in self.wrappers:
            env = wrapper(env)
        return env

    def pack(self, observation: Any) -> np.ndarray:
        """The environment's observation as the vector that agents and datasets hold."""
        return pack(observation, self.layout) if self.layout else np.asarray(observation)

    def normalised_score(self, episode_return: Returns) -> Returns:
        """100 (return - min) / (max - min), D4RL's score (Fu et al. 2020)."""
        low, high = self.reference_scores
        return 100.0 * (episode_return - low) / (high - low)

    def score(self, returns: np.ndarray) -> np.ndarray:
        """100 for a success in a grid, which pays for nothing else; D4RL's score elsewhere.

        PointMaze pays 1 for a success, and its reference returns are 0 and 1: the same again.
        """
        return 100.0 * (returns > 0) if self.layout else self.normalised_score(returns)


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
def _quiet() -> Iterator[None]:
    """Without notes that concern nobody here.

    MuJoCo 4 says of every HalfCheetah that its XML uses a deprecated attribute, and logs it;
    Gymnasium-Robotics says when imported that other environments of its have changed.
    """
    import mujoco

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
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


def _grid_task(
    name: str, env_id: str, size: int, horizon: int, actions: int = len(ACTIONS), **options: Any
) -> Task:
    """A MiniGrid level of `size` x `size` cells; a success is paid 1 - 0.9 (steps / limit)."""
    layout = grid_layout(size, size)
    return Task(
        name=name,
        env_id=env_id,
        observation_size=sum(int(np.prod(shape)) for shape in layout.values()),
        action_size=actions,
        horizon=horizon,
        return_scale=1.0,
        target_return=1.0,
        discrete=True,
        layout=layout,
        options=options,
        wrappers=(GridObservation,),
    )


# The step limit of a BabyAI level is room size squared, times rooms, times goals of the mission.
BABYAI_LEVELS = {
    "gotolocal": ("GoToLocal", 8, 64, {}),
    "gotoredballgrey": ("GoToRedBallGrey", 8, 64, {}),
    "pickup": ("Pickup", 22, 576, {}),
    # The levels of LEAP (its table 1); its mazes have open doors, MiniGrid's of that name do not.
    "gotolocal-s7n5": ("GoToLocalS7N5", 7, 49, {}),
    "gotolocal-s8n7": ("GoToLocalS8N7", 8, 64, {}),
    "gotoobjmaze-s4": ("GoToObjMazeS4", 10, 144, {"doors_open": True}),
    "gotoobjmaze-s7": ("GoToObjMazeS7", 19, 441, {"doors_open": True}),
    "gotoobjmaze-s4r2": ("GoToObjMazeS4R2", 7, 64, {}),
    "pickuploc": ("PickupLoc", 8, 64, {}),
    "gotoseq-s5r2": ("GoToSeqS5R2", 9, 400, {}),
}


def _tasks() -> Iterator[Task]:
    yield _HALFCHEETAH
    yield replace(_HALFCHEETAH, name="halfcheetah-delayed", wrappers=(RewardAtEnd,))
    for name, (level, size, horizon, options) in BABYAI_LEVELS.items():
        yield _grid_task(f"babyai-{name}", f"minigrid:BabyAI-{level}-v0", size, horizon, **options)
    # What LEAP is said to do beyond imitation: room models in a maze, lava, two missions at once.
    # As many steps as in the room, since a Decision Transformer has no embedding of later ones.
    open_maze = {"doors_open": True, "max_steps": 49}
    yield _grid_task("babyai-open-s4r2", "minigrid:BabyAI-GoToObjMazeS4R2-v0", 7, 49, **open_maze)
    room = _grid_task("babyai-lava", "minigrid:BabyAI-GoToLocalS7N5-v0", 7, 49)
    yield replace(room, wrappers=(WithLava, GridObservation))
    yield _grid_task("babyai-part", "helpers.envs:GoToPart-v0", 7, 49)
    yield _grid_task("babyai-both", "helpers.envs:GoToBoth-v0", 7, 49)
    yield _grid_task("key-to-door", "helpers.envs:KeyToDoor-v0", 5, 60, actions=4)
    yield _grid_task("crossroads", "helpers.envs:Crossroads-v0", SIDE + 2, 30, actions=3)
    yield Task(
        name="pointmaze",
        env_id="gymnasium_robotics:PointMaze_UMaze-v3",
        observation_size=6,
        action_size=2,
        horizon=300,
        return_scale=1.0,
        target_return=1.0,
        options={"maze_map": point_map(), "continuing_task": False, "max_episode_steps": 300},
        wrappers=(PointCross,),
    )
    yield Task(
        name="gridmaze",
        env_id="FrozenLake-v1",
        observation_size=49,
        action_size=4,
        horizon=20,
        return_scale=10.0,
        target_return=15.0,
        reference_scores=(-20.0, 15.0),
        discrete=True,
        options={
            "desc": lake_map(),
            "is_slippery": False,
            "reward_schedule": (20, -20, -1),
            "max_episode_steps": 20,
        },
        wrappers=(partial(StartAt, state=lake_state("west")), FlattenObservation),
    )
    yield Task(
        name="gamble",
        env_id="helpers.envs:Gamble-v0",
        observation_size=6,
        action_size=2,
        horizon=5,
        return_scale=5.0,
        target_return=5.0,
        reference_scores=(-5.0, 5.0),
        discrete=True,
        wrappers=(FlattenObservation,),
    )


TASKS = {task.name: task for task in _tasks()}


def get_task(name: str) -> Task:
    """The task of that name, or that of a Minari dataset on this machine (by its id).

    Raises:
        UnknownName: no such task; the message offers the nearest names.
        BadFile: an id of Minari's form whose dataset is not here or cannot be used.
    """
    if re.search(r"/.*-v\d+$", name):
        from helpers.data.own import own_task  # which builds on this module

        return own_task(name)
    return look_up(TASKS, name, "task")
