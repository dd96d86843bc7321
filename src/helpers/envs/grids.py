"""MiniGrid and BabyAI: what an agent may see, as small integers, and what it is told, as words.

One observation holds everything that any model of the book reads: the whole grid (LEAP), the 7x7
view in front of the agent (BabyAI's own observation), where the agent stands and what it carries,
and the mission. A model takes the parts it is meant to see.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Real, UInt8
from minigrid.core.constants import COLOR_NAMES, COLOR_TO_IDX, OBJECT_TO_IDX
from minigrid.envs.babyai.core.verifier import AfterInstr, SeqInstr
from minigrid.minigrid_env import MiniGridEnv

ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Step of x and y for the directions east, south, west, north; to the right is the next one."""
LARGEST_CODE = 30
"""No object, colour, state or coordinate of our levels exceeds it."""
MISSION_LENGTH = 28
"""Words of a mission and padding; the longest of GoToSeq has 26."""
MISSION_CHARACTERS = 160
WORDS = (
    *("", ",", "a", "and", "after", "then", "the", "to", "you", "your", "of", "on"),
    *("go", "pick", "up", "open", "put", "next", "use", "get", "fetch", "through"),
    *("ball", "box", "key", "door", *COLOR_NAMES),
    *("in", "front", "behind", "left", "right"),
)
"""Index = token; the empty word is padding. BabyAI's language (Chevalier-Boisvert et al. 2019)."""
_TOKENS = {word: token for token, word in enumerate(WORDS)}

Array = np.ndarray | torch.Tensor
Layout = Mapping[str, tuple[int, ...]]
"""Names and shapes of the parts of an observation, in the order in which they are packed."""


def grid_layout(width: int, height: int) -> Layout:
    """Parts of an observation of a level of that size.

    `grid` and `view` hold an object, a colour and a state for each cell, indexed (x, y); the agent
    is drawn into `grid` with its direction for a state. `pose` is x, y, direction (0 east, 1 south,
    2 west, 3 north), object and colour carried (1 and 0 for empty hands). `target` is x and y of
    what the mission asks for next: an oracle's knowledge, which LEAP's released code reads and
    which no other model should.
    """
    return {
        "grid": (width, height, 3),
        "view": (7, 7, 3),
        "pose": (5,),
        "target": (2,),
        "mission": (MISSION_LENGTH,),
    }


@lru_cache(maxsize=65536)
def _tokens(mission: str) -> bytes:
    words = re.findall(r"[^\s,]+|,", mission)
    unknown = sorted({word for word in words if word not in _TOKENS})
    if unknown:
        raise ValueError(
            f"mission {mission!r} has unknown words {unknown}; helpers.envs.grids.WORDS lists "
            "the language: add them at its end and train again"
        )
    if len(words) > MISSION_LENGTH:
        raise ValueError(
            f"mission {mission!r} has {len(words)} words; there is room for {MISSION_LENGTH}"
        )
    return bytes([*(_TOKENS[word] for word in words), *[0] * (MISSION_LENGTH - len(words))])


def encode_mission(mission: str) -> UInt8[np.ndarray, " M"]:
    """Word tokens of a mission, padded with 0.

    Raises:
        ValueError: unknown words, or too many.
    """
    return np.frombuffer(_tokens(mission), np.uint8)


def decode_mission(tokens: UInt8[np.ndarray, " M"]) -> str:
    """The mission that `encode_mission` was given."""
    return " ".join(WORDS[token] for token in tokens if token).replace(" ,", ",")


class GridObservation(gymnasium.ObservationWrapper, gymnasium.utils.RecordConstructorArgs):
    """A MiniGrid environment's whole grid, 7x7 view, pose and mission."""

    def __init__(self, env: gymnasium.Env) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        level = env.unwrapped
        cells = {
            name: spaces.Box(0, LARGEST_CODE, shape, np.uint8)
            for name, shape in grid_layout(level.width, level.height).items()
            if name != "mission"
        }
        letters = "".join(sorted(set("".join(WORDS)) | {" "}))
        mission = spaces.Text(MISSION_CHARACTERS, charset=letters)
        self.observation_space = spaces.Dict({**cells, "mission": mission})

    def reset(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode, without BabyAI's print for every level that it draws and rejects."""
        with contextlib.redirect_stdout(io.StringIO()):
            return super().reset(**options)

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Add what MiniGrid leaves out."""
        level = self.env.unwrapped
        x, y = level.agent_pos
        grid = level.grid.encode()
        grid[x, y] = OBJECT_TO_IDX["agent"], COLOR_TO_IDX["red"], level.agent_dir
        held = level.carrying
        carried = (OBJECT_TO_IDX[held.type], COLOR_TO_IDX[held.color]) if held else (1, 0)
        return {
            "grid": grid,
            "view": observation["image"],
            "pose": np.array([x, y, level.agent_dir, *carried], np.uint8),
            "target": target_cell(level),
            "mission": observation["mission"],
        }


def target_cell(level: MiniGridEnv) -> UInt8[np.ndarray, " 2"]:
    """Where the mission's next object is, or zeros (a wall) where a level has no such object.

    Of several, the one with the fewest cells to walk if nothing stood in the way.
    """
    instruction = getattr(level, "instrs", None)
    while isinstance(instruction, SeqInstr):
        # "a, then b" is a Before, "b after you a" an After; the parts of an And may come in turn.
        first, second = instruction.instr_a, instruction.instr_b
        done = instruction.a_done
        if isinstance(instruction, AfterInstr):
            first, second, done = second, first, instruction.b_done
        instruction = second if done == "success" else first
    cells = instruction.desc.obj_poss if instruction else []
    x, y = level.agent_pos
    return np.array(
        min(cells, key=lambda cell: abs(cell[0] - x) + abs(cell[1] - y), default=(0, 0)), np.uint8
    )


def pack(observation: Mapping[str, Any], layout: Layout) -> Real[np.ndarray, " S"]:
    """One observation as a vector: its parts in the layout's order, the mission as tokens."""
    parts = [
        encode_mission(observation[name]) if name == "mission" else observation[name].ravel()
        for name in layout
    ]
    return np.concatenate(parts)


def pack_tensors(parts: Mapping[str, torch.Tensor], layout: Layout) -> Real[torch.Tensor, "B S"]:
    """The inverse of `unpack` for a batch."""
    return torch.cat([parts[name].flatten(1) for name in layout], dim=1)


def unpack(packed: Real[Array, "*batch S"], layout: Layout) -> dict[str, Real[Array, ...]]:
    """The parts of packed observations, as views; works on tensors as well."""
    sizes = [int(np.prod(shape)) for shape in layout.values()]
    if packed.shape[-1] != sum(sizes):
        raise ValueError(
            f"observations have {packed.shape[-1]} entries but the layout has {sum(sizes)}; "
            "choose the dataset's own task"
        )
    ends = np.cumsum(sizes)
    return {
        name: packed[..., end - size : end].reshape(*packed.shape[:-1], *shape)
        for (name, shape), end, size in zip(layout.items(), ends, sizes, strict=True)
    }
