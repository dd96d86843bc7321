"""Levels that ask for more than was trained: lava on the way, and two missions at once.

They test what LEAP is said to do beyond imitation (Chen et al. 2023, section 5.3): avoid obstacles
that are added afterwards, and serve the goals of several models together. Its own levels are not
part of MiniGrid and carry no licence; these ask the same questions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import gymnasium
from minigrid.core.constants import COLOR_NAMES
from minigrid.core.world_object import Lava
from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel
from minigrid.envs.babyai.core.verifier import GoToInstr, ObjDesc
from minigrid.minigrid_env import MiniGridEnv

KINDS = ("ball", "box", "key")
Cell = tuple[int, int]


class WithLava(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
    """Turns some free cells of a level into lava, which ends an episode without a reward.

    An object that the mission asks for can still be reached.

    Args:
        env: a BabyAI level.
        cells: how many.
    """

    def __init__(self, env: gymnasium.Env, cells: int = 4) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, cells=cells)
        super().__init__(env)
        self.cells = cells

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the same seed puts the lava in the same cells."""
        _, info = self.env.reset(**options)
        level = self.env.unwrapped
        free = [
            (x, y)
            for x in range(level.width)
            for y in range(level.height)
            if level.grid.get(x, y) is None and (x, y) != tuple(level.agent_pos)
        ]
        order = level.np_random.permutation(len(free))
        added = 0
        for i in order:
            if added == self.cells:
                break
            level.grid.set(*free[i], Lava())
            if can_reach(level, level.instrs.desc.obj_poss):
                added += 1
            else:
                level.grid.set(*free[i], None)
        return level.gen_obs(), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step; BabyAI alone would pay those who burn before the right object."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        level = self.env.unwrapped
        burnt = isinstance(level.grid.get(*level.agent_pos), Lava)
        return observation, 0.0 if burnt else float(reward), terminated, truncated, info


def can_reach(level: MiniGridEnv, goals: list[Cell]) -> bool:
    """Whether the agent can step next to one of the goals over free cells, or stands there."""
    start = tuple(int(v) for v in level.agent_pos)
    seen, frontier = {start}, deque([start])
    while frontier:
        for cell in _beside(frontier.popleft()):
            if cell in goals:
                return True
            if cell not in seen and level.grid.get(*cell) is None:
                seen.add(cell)
                frontier.append(cell)
    return False


def _beside(cell: Cell) -> Iterator[Cell]:
    x, y = cell
    return iter(((x + 1, y), (x, y + 1), (x - 1, y), (x, y - 1)))


class GoToNamed(GoToInstr):
    """Go to an object of that description, in words of our own."""

    def __init__(self, description: ObjDesc, words: str) -> None:
        super().__init__(description)
        self.words = words

    def surface(self, env: MiniGridEnv) -> str:
        """The mission."""
        return self.words


class _Room(RoomGridLevel):
    """One room with five objects."""

    def __init__(self, room_size: int = 7, **options: Any) -> None:
        super().__init__(num_rows=1, num_cols=1, room_size=room_size, **options)


class GoToPart(_Room):
    """One room; the mission names a colour ("go to red") or a kind ("go to ball"), never both."""

    def gen_mission(self) -> None:
        """Place the objects and choose one's colour or kind."""
        self.place_agent()
        objects = self.add_distractors(num_distractors=5, all_unique=False)
        self.check_objs_reachable()
        chosen = self._rand_elem(objects)
        if self._rand_bool():
            self.instrs = GoToNamed(ObjDesc(None, chosen.color), f"go to {chosen.color}")
        else:
            self.instrs = GoToNamed(ObjDesc(chosen.type), f"go to {chosen.type}")


class GoToBoth(_Room):
    """One room; "go to red and go to ball" asks for the one object that is both.

    Two of the others have its colour and two are of its kind, so that either mission alone is
    served by the right object in one of three cases only.
    """

    def gen_mission(self) -> None:
        """Place the objects."""
        self.place_agent()
        colour, kind = self._rand_elem(COLOR_NAMES), self._rand_elem(KINDS)
        kinds = [other for other in KINDS if other != kind]
        colours = [other for other in COLOR_NAMES if other != colour]
        self.add_object(0, 0, kind, colour)
        for _ in range(2):
            self.add_object(0, 0, self._rand_elem(kinds), colour)
            self.add_object(0, 0, kind, self._rand_elem(colours))
        self.check_objs_reachable()
        words = f"go to {colour} and go to {kind}"
        self.instrs = GoToNamed(ObjDesc(kind, colour), words)
