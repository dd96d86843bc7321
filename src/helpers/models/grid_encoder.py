"""What every method sees of a grid level: map, mission and hands, as one vector of features.

The map is turned and shifted (round the edges, as on a torus) so that the agent stands in its
corner and looks along the first axis: what lies two cells ahead is then the same input wherever the
agent is. Two convolutions follow, each modulated by the mission (FiLM, Perez et al. 2018; the
encoders of BabyAI and LEAP modulate too). LEAP's released code leaves the map as it is and encodes
the agent's coordinates instead; turning gives a model less to learn from 500 demonstrations, and
every method here the same start.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer, Real
from torch import Tensor, nn

from helpers.envs.grids import DIRECTIONS, WORDS, grid_layout, unpack
from helpers.models.distinct import first_of_each

OBJECTS, COLOURS, STATES = 12, 6, 4
"""Codes of a cell: MiniGrid's 11 objects (one more here for the oracle's mark), 6 colours, and 3
states of a door or 4 directions of the agent."""
VIEW = 7


@dataclass(frozen=True)
class GridEncoderConfig:
    """Shape of a grid encoder."""

    grid_size: int
    """W, cells along an edge of the level."""
    width: int = 128
    """D, features that come out."""
    sight: str = "grid"
    """grid (the whole level) or view (the 7 x 7 cells before the agent that it can see)."""
    oracle: bool = False
    """Mark the cell that the mission asks for next, as LEAP's released code does."""
    channels: int = 32
    distinct: bool = False
    """Whether rows that are equal are encoded once: cheaper where a batch repeats itself."""

    def __post_init__(self) -> None:
        if self.sight not in ("grid", "view"):
            raise ValueError(f"sight is {self.sight!r}; choose grid or view")
        if self.oracle and self.sight == "view":
            raise ValueError("the oracle marks a cell of the whole grid; set sight to grid")


def turn(grid: Real[Tensor, "B W W C"], pose: Integer[Tensor, "B 5"]) -> Real[Tensor, "B W W C"]:
    """The map as the agent meets it: entry (f, r) is f cells ahead and r to the right, modulo W."""
    batch, size = grid.shape[:2]
    steps = torch.tensor(DIRECTIONS, device=grid.device)
    direction = pose[:, 2].long()
    ahead, right = steps[direction], steps[(direction + 1) % 4]  # (B, 2)
    offsets = torch.arange(size, device=grid.device)
    here = pose[:, :2].long()
    cells = (
        here[:, None, None]
        + offsets[:, None, None] * ahead[:, None, None]
        + offsets[None, :, None] * right[:, None, None]
    ) % size  # (B, W, W, 2): x and y
    flat = (cells[..., 0] * size + cells[..., 1]).view(batch, -1, 1)
    channels = grid.shape[-1]
    return grid.flatten(1, 2).gather(1, flat.expand(-1, -1, channels)).view_as(grid)


class MissionEncoder(nn.Module):
    """A GRU over the words of a mission; each distinct one of a batch is read once."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(len(WORDS), width)
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, missions: Integer[Tensor, "B M"]) -> Float[Tensor, "B D"]:
        """State of the GRU behind the last word; word 0 is padding."""
        distinct, which = missions.unique(dim=0, return_inverse=True)
        lengths = (distinct != 0).sum(dim=1).clamp(min=1)
        states, _ = self.gru(self.words(distinct[:, : int(lengths.max())].long()))
        last = states[torch.arange(len(distinct), device=missions.device), lengths - 1]
        return last[which]


class GridEncoder(nn.Module):
    """Features of packed observations of a grid level (`helpers.envs.grids.pack`)."""

    def __init__(self, config: GridEncoderConfig) -> None:
        super().__init__()
        self.config = config
        channels, width = config.channels, config.width
        self.mission = MissionEncoder(width // 2)
        self.objects = nn.Embedding(OBJECTS, channels)
        self.colours = nn.Embedding(COLOURS, channels)
        self.states = nn.Embedding(STATES, channels)
        around = "circular" if config.sight == "grid" else "zeros"
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode=around) for _ in range(2)
        )
        self.modulation = nn.Linear(width // 2, 2 * channels * 2)
        self.carried = nn.Embedding(OBJECTS * COLOURS, width)
        side = config.grid_size if config.sight == "grid" else VIEW
        self.flatten = nn.Linear(channels * side**2, width)
        self.mission_out = nn.Linear(width // 2, width)
        self.out = nn.Linear(width, width)

    def forward(self, observations: Real[Tensor, "*batch S"]) -> Float[Tensor, "*batch D"]:
        """Encode observations of any leading shape."""
        rows = observations.reshape(-1, observations.shape[-1])
        if self.config.distinct:
            first, which = first_of_each(rows)
            features = self._encode(rows[first])[which]
        else:
            features = self._encode(rows)
        return features.view(*observations.shape[:-1], -1)

    def _encode(self, observations: Real[Tensor, "B S"]) -> Float[Tensor, "B D"]:
        config = self.config
        layout = grid_layout(config.grid_size, config.grid_size)
        parts = unpack(observations, layout)
        pose = parts["pose"]
        cells = turn(parts["grid"], pose) if config.sight == "grid" else parts["view"]
        x = self._embed(cells.long())
        if config.oracle:
            x = (
                x
                + self._mark(parts["target"], parts["grid"].shape, pose)[..., None]
                * (self.objects.weight[-1])
            )
        mission = self.mission(parts["mission"])
        x = x.permute(0, 3, 1, 2)  # (B, channels, W, W), channels last in memory
        scales = self.modulation(mission).view(-1, 2, 2, config.channels, 1, 1).unbind(1)
        for convolution, modulation in zip(self.convolutions, scales, strict=True):
            scale, shift = modulation.unbind(1)
            x = F.relu(x * (1 + scale) + shift)
            x = x + convolution(x)
        features = self.flatten(F.relu(x).permute(0, 2, 3, 1).flatten(1))
        hands = self.carried(pose[:, 3].long() * COLOURS + pose[:, 4].long())
        features = F.relu(features + hands + self.mission_out(mission))
        return self.out(features)

    def _embed(self, cells: Integer[Tensor, "B W W 3"]) -> Float[Tensor, "B W W C"]:
        """Sum of the embeddings of object, colour and state: one table of all combinations."""
        table = (
            self.objects.weight[:, None, None]
            + self.colours.weight[None, :, None]
            + self.states.weight[None, None, :]
        ).flatten(0, 2)
        thing, colour, state = cells.unbind(-1)
        return F.embedding((thing * COLOURS + colour) * STATES + state, table)

    @staticmethod
    def _mark(
        target: Integer[Tensor, "B 2"], shape: tuple[int, ...], pose: Integer[Tensor, "B 5"]
    ) -> Float[Tensor, "B W W"]:
        """1 at the cell that the oracle names, in the agent's frame."""
        batch, size = shape[:2]
        marks = torch.zeros(batch, size * size, device=target.device)
        marks.scatter_(1, (target[:, :1].long() * size + target[:, 1:].long()), 1.0)
        return turn(marks.view(batch, size, size, 1), pose)[..., 0]
