"""Key-to-Door: a reward for something done much earlier (Mesnard et al. 2021; Chen et al. 2021).

Three rooms, each for a fixed number of steps: one with a key, an empty one, one with a door. Who
reaches the door is paid, but only if they took the key two rooms before. What is carried cannot be
seen, so that a policy without memory cannot know whether the door will pay. Neither paper published
its environment; sizes here are chosen so that random walks succeed about as often as theirs (3.1 %,
Chen et al. 2021, table 6).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Door, Key
from minigrid.minigrid_env import MiniGridEnv

MISSION = "get the key then go through the door"


class KeyToDoor(MiniGridEnv):
    """Key room, empty room, door room; actions left, right, forward and pickup.

    Args:
        size: cells of a room's side, walls included.
        phase_steps: steps in each room.
    """

    def __init__(self, size: int = 5, phase_steps: int = 20, **options: Any) -> None:
        self.phase_steps = phase_steps
        super().__init__(
            mission_space=MissionSpace(mission_func=lambda: MISSION),
            grid_size=size,
            max_steps=3 * phase_steps,
            **options,
        )
        self.action_space = spaces.Discrete(4)

    def reset(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin in the key room with empty hands."""
        self.has_key = False
        self.phase = 0
        return super().reset(**options)

    def step(
        self, action: int | np.integer
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Move; the next room opens when a room's time is over."""
        _, _, _, truncated, info = super().step(action)
        self.has_key |= self.carrying is not None
        self.carrying = None  # hidden from the observation
        at_door = isinstance(self.grid.get(*self.agent_pos), Door)
        if self.step_count % self.phase_steps == 0 and not (truncated or at_door):
            self.phase += 1
            self._gen_grid(self.width, self.height)
        return self.gen_obs(), float(at_door and self.has_key), at_door, truncated, info

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        self.mission = MISSION
        if self.phase == 2:
            wall = self._rand_int(0, 4)
            place = self._rand_int(1, width - 1)
            x, y = ((place, 0), (place, height - 1), (0, place), (width - 1, place))[wall]
            self.grid.set(x, y, Door("yellow", is_open=True))
        self.place_agent()
        if self.phase == 0:
            self.place_obj(Key("yellow"))
