"""Who acts while data are collected: random walks, BabyAI's bot, waypoint controllers, policies.

A behaviour is given a freshly reset environment and a generator, and returns what chooses the
actions of that episode. A chooser that returns None ends the recording.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float
from minigrid.core.world_object import WorldObj
from minigrid.utils.baby_ai_bot import BabyAIBot

from helpers import paths
from helpers.data.policies import load_policy
from helpers.envs import crossroads
from helpers.envs.grids import DIRECTIONS
from helpers.envs.mazes import CENTRE, ENDS, SIDE, centre_of, lake_map
from helpers.names import look_up

Choose = Callable[[Any], Any]
Behaviour = Callable[[gymnasium.Env, np.random.Generator], Choose]

MOVES = 3
"""Left, right, forward: what a noisy bot does at random. Picking up or opening at random would do
things that no demonstration undoes."""
LARGEST_NOISE = 0.8


def random_actions(env: gymnasium.Env, rng: np.random.Generator) -> Choose:
    """Uniformly random actions."""
    space = env.action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        return lambda _: int(rng.integers(space.n))
    return lambda _: rng.uniform(-1.0, 1.0, space.shape).astype(np.float32)


class SightedBot(BabyAIBot):
    """BabyAI's bot, seeing everything up to closed doors at once.

    Plain, it sees what the 7x7 view has shown it and explores for the rest: its demonstrations in a
    maze are then twice as long as need be, for reasons that a model with the whole grid before it
    cannot learn. LEAP's demonstrations are shortest ways to the goal (99 % of them, by our count),
    as are these wherever no door is closed.
    """

    def _process_obs(self) -> None:
        level = self.mission.unwrapped
        frontier = [tuple(level.agent_pos), tuple(level.front_pos)]
        while frontier:
            x, y = map(int, frontier.pop())
            self.vis_mask[x, y] = True
            if not _opaque(level.grid.get(x, y)):
                frontier += [place for place in _around(x, y) if not self.vis_mask[place]]


def _opaque(cell: WorldObj | None) -> bool:
    return cell is not None and not cell.see_behind()


def _around(x: int, y: int) -> Iterator[tuple[int, int]]:
    return ((x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy)


def bot(env: gymnasium.Env, rng: np.random.Generator, noisy: bool = False) -> Choose:
    """The bot; a noisy one acts at random in a share of steps that is drawn for each episode.

    Shares are uniform between 0 and 0.8, so that returns vary and say something about how an
    episode was played.
    """
    planner = SightedBot(env.unwrapped)
    noise = rng.uniform(0, LARGEST_NOISE) if noisy else 0.0
    last = None

    def choose(_: Any) -> int:
        nonlocal last
        planned = planner.replan(last)
        last = int(rng.integers(MOVES)) if noisy and rng.random() < noise else int(planned)
        return last

    return choose


def waypoints(env: gymnasium.Env, rng: np.random.Generator, end: str) -> Choose:
    """PointMaze: push towards the centre, then towards the end of an arm, with noise."""
    way = [centre_of("centre"), centre_of(end)]

    def choose(observation: Float[np.ndarray, " 6"]) -> Float[np.ndarray, " 2"]:
        position, velocity = observation[:2], observation[2:4]
        if len(way) > 1 and np.linalg.norm(way[0] - position) < 0.3:
            way.pop(0)
        force = 10 * (way[0] - position) - velocity + 0.5 * rng.normal(size=2)
        return force.clip(-1, 1).astype(np.float32)

    return choose


LAKE_MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))
"""FrozenLake's left, down, right, up as steps of row and column."""


def walk_arms(
    env: gymnasium.Env, rng: np.random.Generator, end: str, noise: float = 0.15
) -> Choose:
    """FrozenLake's cross: to the centre, on to the end of an arm; now and then a random safe step.

    Random steps stay on the ice, and past the centre on the way's own two arms.
    """
    ice, passed = lake_map(), False

    def choose(_: Any) -> int:
        nonlocal passed
        row, column = divmod(env.unwrapped.s, SIDE)
        passed |= (row, column) == ENDS["centre"]
        goal = ENDS[end] if passed else ENDS["centre"]
        safe = [
            action
            for action, (down, right) in enumerate(LAKE_MOVES)
            if 0 <= row + down < SIDE
            and 0 <= column + right < SIDE
            and ice[row + down][column + right] != "H"
        ]
        if rng.random() < noise and (row, column) != (CENTRE, CENTRE):
            return int(rng.choice(safe))
        return min(
            safe,
            key=lambda a: (
                abs(row + LAKE_MOVES[a][0] - goal[0]) + abs(column + LAKE_MOVES[a][1] - goal[1])
            ),
        )

    return choose


def trip(env: gymnasium.Env, rng: np.random.Generator, end: str, noise: float = 0.15) -> Choose:
    """Crossroads: to the centre, on to the door of an arm; now and then a random safe step.

    Random steps never enter another arm than the way's own two.
    """
    level = env.unwrapped
    arms = {"", level.start, end}

    def choose(_: Any) -> int:
        x, y = map(int, level.agent_pos)
        if rng.random() < noise:
            dx, dy = DIRECTIONS[level.agent_dir]
            safe = crossroads.is_open(x + dx, y + dy) and arm_of(x + dx, y + dy) in arms
            return int(rng.integers(crossroads.FORWARD + safe))
        goal = np.array(crossroads.cell_of("centre" if arm_of(x, y) == level.start else end))
        wanted = DIRECTIONS.index(tuple(np.sign(goal - (x, y)).tolist()))
        turns = (wanted - level.agent_dir) % 4
        return (crossroads.FORWARD, crossroads.RIGHT, crossroads.RIGHT, crossroads.LEFT)[turns]

    return choose


def arm_of(x: int, y: int) -> str:
    """Which arm of the crossroads a cell lies in; none for the centre."""
    column, row = x - 1 - CENTRE, y - 1 - CENTRE
    if column:
        return "east" if column > 0 else "west"
    return "" if not row else "south" if row > 0 else "north"


def _policy(name: str) -> Behaviour:
    actor = load_policy(paths.POLICIES / f"{name}.safetensors").actor(sample=True)
    return lambda env, rng: lambda observation: actor(observation, rng)


BEHAVIOURS: dict[str, Behaviour] = {
    "random": random_actions,
    "bot": bot,
    "noisy-bot": partial(bot, noisy=True),
    **{f"waypoints-{end}": partial(waypoints, end=end) for end in ("north", "east")},
    **{f"trip-{end}": partial(trip, end=end) for end in ("north", "east")},
    **{f"walk-{end}": partial(walk_arms, end=end) for end in ("north", "east")},
}


def get_behaviour(name: str) -> Behaviour:
    """A behaviour by its name here, or a policy by the name of its file in data/policies.

    Raises:
        UnknownName: neither.
        BadFile: the policy's file is not whole.
    """
    if (paths.POLICIES / f"{name}.safetensors").exists():
        return _policy(name)
    return look_up(BEHAVIOURS, name, "behaviour")
