"""The crossroads as a MiniGrid level, so that models which read maps can be asked to stitch.

Two corridors cross. An open yellow door in the east pays 1, a grey one in the north nothing; either
ends the episode. Recorded trips go from the west to the north, or from the south to the east; the
test starts in the west. Everything is known: the best return is 1, and `fewest_steps` counts how
soon it can be had.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Door, Wall
from minigrid.minigrid_env import MiniGridEnv

from helpers.envs.grids import DIRECTIONS
from helpers.envs.mazes import CENTRE, ENDS, SIDE

MISSION = "go through the yellow door"
LEFT, RIGHT, FORWARD = range(3)


def cell_of(end: str) -> tuple[int, int]:
    """X and y of an arm's end, or of the centre; the outer wall is counted."""
    row, column = ENDS[end]
    return column + 1, row + 1


class Crossroads(MiniGridEnv):
    """Start at the end of an arm, looking anywhere; actions left, right and forward.

    Args:
        max_steps: time limit.
    """

    def __init__(self, max_steps: int = 30, **options: Any) -> None:
        self.start = "west"
        super().__init__(
            mission_space=MissionSpace(mission_func=lambda: MISSION),
            grid_size=SIDE + 2,
            max_steps=max_steps,
            **options,
        )
        self.action_space = spaces.Discrete(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin; `options={"start": "south"}` begins at another arm's end than the west."""
        self.start = (options or {}).get("start", "west")
        return super().reset(seed=seed)

    def step(
        self, action: int | np.integer
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Move; a door is an end."""
        observation, _, _, truncated, info = super().step(action)
        door = isinstance(self.grid.get(*self.agent_pos), Door)
        paid = tuple(self.agent_pos) == cell_of("east")
        return observation, float(paid), door, truncated and not door, info

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        for x in range(width):
            for y in range(height):
                if not is_open(x, y):
                    self.grid.set(x, y, Wall())
        self.grid.set(*cell_of("east"), Door("yellow", is_open=True))
        self.grid.set(*cell_of("north"), Door("grey", is_open=True))
        self.mission = MISSION
        self.agent_pos = cell_of(self.start)
        self.agent_dir = int(self._rand_int(0, 4))


def is_open(x: int, y: int) -> bool:
    """Whether a cell belongs to one of the corridors."""
    return CENTRE + 1 in (x, y) and 1 <= x <= SIDE and 1 <= y <= SIDE


def fewest_steps(x: int, y: int, direction: int) -> int:
    """Actions from a pose to the paying door: breadth first over cells and directions."""
    seen, frontier, steps = {(x, y, direction)}, [(x, y, direction)], 0
    while frontier:
        if any(pose[:2] == cell_of("east") for pose in frontier):
            return steps
        reached = {after for pose in frontier for after in _neighbours(*pose)} - seen
        # The grey door is an end too; nothing follows from it.
        frontier = [pose for pose in reached if pose[:2] != cell_of("north")]
        seen |= reached
        steps += 1
    raise ValueError(f"no way leads from ({x}, {y}) to the yellow door")


def _neighbours(x: int, y: int, direction: int) -> list[tuple[int, int, int]]:
    ahead = x + DIRECTIONS[direction][0], y + DIRECTIONS[direction][1]
    moved = [(*ahead, direction)] if is_open(*ahead) else []
    return [(x, y, (direction + 1) % 4), (x, y, (direction - 1) % 4), *moved]
