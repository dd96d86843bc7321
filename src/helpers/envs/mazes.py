"""Crossroads: mazes whose data hold the two halves of a way and never the whole.

Both mazes are a cross. Every recorded trip passes its centre: from the south to the goal in the
east, which is paid, or from the west to the north, which is not. The test starts in the west. A
method that repeats what it has seen finds no paid trip from there; one that can *stitch* turns
east at the centre.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Float

SIDE = 7
CENTRE = SIDE // 2
ENDS = {
    "west": (CENTRE, 0),
    "north": (0, CENTRE),
    "south": (SIDE - 1, CENTRE),
    "east": (CENTRE, SIDE - 1),
    "centre": (CENTRE, CENTRE),
}
"""Row and column of the arms' ends; the goal is in the east."""


def lake_map() -> list[str]:
    """The cross for Gymnasium's FrozenLake: ice, holes beside it, and the goal."""
    cross = [
        ["F" if CENTRE in (row, column) else "H" for column in range(SIDE)] for row in range(SIDE)
    ]
    for end, letter in (("west", "S"), ("east", "G")):
        row, column = ENDS[end]
        cross[row][column] = letter
    return ["".join(row) for row in cross]


def lake_state(end: str) -> int:
    """FrozenLake's number of an arm's end."""
    row, column = ENDS[end]
    return row * SIDE + column


def point_map() -> list[list[int]]:
    """The cross for PointMaze: corridors of one metre between walls (1)."""
    inner = range(1, SIDE + 1)
    return [
        [
            int(not (row in inner and column in inner and CENTRE + 1 in (row, column)))
            for column in range(SIDE + 2)
        ]
        for row in range(SIDE + 2)
    ]


def _cell(end: str) -> np.ndarray:
    """PointMaze's cell of an arm's end, which counts the outer wall."""
    return np.array(ENDS[end]) + 1


class PointCross(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
    """PointMaze in the cross: observation x, y, their velocities, and the goal's x and y.

    `reset(options={"start": "south"})` starts at another arm's end than the west.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.observation_space = spaces.Box(-np.inf, np.inf, (6,), np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[np.ndarray, " 6"], dict[str, Any]]:
        """Begin near the end of an arm."""
        cells = {"reset_cell": _cell((options or {}).get("start", "west"))}
        observation, info = self.env.reset(seed=seed, options={**cells, "goal_cell": _cell("east")})
        return _vector(observation), info

    def step(
        self, action: Float[np.ndarray, " 2"]
    ) -> tuple[Float[np.ndarray, " 6"], float, bool, bool, dict[str, Any]]:
        """Push the ball."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return _vector(observation), float(reward), terminated, truncated, info


def _vector(observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " 6"]:
    return np.concatenate([observation["observation"], observation["desired_goal"]])


def centre_of(end: str) -> Float[np.ndarray, " 2"]:
    """X and y in metres of the middle of an arm's last cell in PointMaze."""
    row, column = ENDS[end]
    return np.array([column - CENTRE, CENTRE - row], float)
