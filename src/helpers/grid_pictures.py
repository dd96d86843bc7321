"""Pictures of the small worlds: grids as MiniGrid draws them, visits, ways through the mazes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from minigrid.minigrid_env import MiniGridEnv

from helpers.data.episodes import Dataset
from helpers.envs.mazes import CENTRE, SIDE, centre_of
from helpers.plotting import GRID, QUIET
from helpers.tasks import Task

Picture = UInt8[np.ndarray, "_ _ 3"]
LABEL_OFFSETS = {"west": (0, -0.75), "east": (0, -0.75), "north": (0.65, 0), "south": (0.65, 0)}


def _replayed(task: Task, data: Dataset, episode: int) -> Iterator[MiniGridEnv]:
    """The level before each action of a recorded episode, and after the last one."""
    env = task.make()
    env.reset(seed=int(data.seeds[episode]))
    yield env.unwrapped
    start = int(data.starts[episode])
    rewards = 0.0
    for action in data.actions[start : start + int(data.lengths[episode])]:
        rewards += float(env.step(int(action))[1])
        yield env.unwrapped
    if not np.isclose(rewards, data.returns[episode]):
        raise ValueError(
            f"{task.name}: episode {episode} was recorded with return {data.returns[episode]:.3f}, "
            f"but its seed and actions now give {rewards:.3f}; the environment has changed: "
            "install the versions of requirements.lock"
        )


def replay_pictures(
    task: Task, data: Dataset, episode: int, tile: int = 32
) -> UInt8[np.ndarray, "frames H W 3"]:
    """What MiniGrid draws at each step of a recorded episode, replayed from seed and actions.

    The part of the grid that the agent sees is lighter.

    Args:
        task: of the data; a grid.
        data: with the seeds of its episodes.
        episode: which one.
        tile: pixels of a cell's side.

    Raises:
        ValueError: the replay does not earn the recorded return.
    """
    return np.stack([level.get_frame(True, tile) for level in _replayed(task, data, episode)])


def two_views(
    task: Task, data: Dataset, episode: int, step: int, tile: int = 16
) -> tuple[Picture, Picture]:
    """The whole grid and the agent's own view at one step of a recorded episode."""
    for now, level in enumerate(_replayed(task, data, episode)):
        if now == step:
            return level.get_frame(True, tile), level.get_frame(True, tile, agent_pov=True)
    raise ValueError(f"episode {episode} has {data.lengths[episode]} steps; there is no {step}")


def three_rooms(task: Task, seed: int, tile: int = 32) -> list[Picture]:
    """Key room, empty room and door room of a Key-to-Door episode, each at its start."""
    env = task.make()
    env.reset(seed=seed)
    level = env.unwrapped
    pictures = [level.get_frame(False, tile)]
    for step in range(1, 2 * level.phase_steps + 1):
        env.step(0)  # turn on the spot
        if step % level.phase_steps == 0:
            pictures.append(level.get_frame(False, tile))
    return pictures


def draw_picture(ax: Axes, picture: Picture, name: str) -> None:
    """A picture with its name beneath."""
    ax.imshow(picture, interpolation="antialiased")
    ax.set(xticks=[], yticks=[], xlabel=name)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def draw_visits(ax: Axes, visits: Int[np.ndarray, "W H"], name: str) -> None:
    """How often the agent stood in each cell, relative to the cell most visited; grey is never."""
    visits = np.asarray(visits, float)
    share = np.ma.masked_equal(visits / visits.max(), 0).T
    ax.set_facecolor(GRID)
    ax.imshow(share, vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[], xlabel=name)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def ways(task: Task, data: Dataset) -> list[Float[np.ndarray, "_ 2"]]:
    """Where each episode in one of the crosses went: x to the east, y to the north, in cells."""
    final = data.final_observations
    paths = []
    for i, (start, length) in enumerate(zip(data.starts, data.lengths, strict=True)):
        seen = np.concatenate([data.observations[start : start + length], final[i : i + 1]])
        if task.discrete:
            rows, columns = np.divmod(seen.argmax(axis=1), SIDE)
            paths.append(np.stack([columns - CENTRE, CENTRE - rows], axis=1).astype(float))
        else:
            paths.append(np.asarray(seen[:, :2], float))
    return paths


def draw_cross(ax: Axes) -> None:
    """The corridors of the two mazes and the names of the arms."""
    arm = CENTRE + 0.5
    for x, y in ((arm, 0.5), (0.5, arm)):
        ax.fill([-x, x, x, -x], [-y, -y, y, y], color=GRID, lw=0, zorder=0)
    for end, (dx, dy) in LABEL_OFFSETS.items():
        x, y = centre_of(end)
        text = f"{end}\n(goal)" if end == "east" else end
        ax.text(x + dx, y + dy, text, color=QUIET, fontsize=9.5,
                ha="left" if dx else "center", va="center" if dx else "top")  # fmt: skip
    ax.set(xlim=(-4.2, 4.2), ylim=(-4.2, 4.2), aspect="equal")
    ax.axis("off")


def draw_ways(
    ax: Axes,
    paths: list[Float[np.ndarray, "_ 2"]],
    colour: str,
    *,
    linestyle: str | tuple[int, tuple[float, ...]] = "-",
    spread: float = 0.0,
) -> None:
    """The ways of several episodes.

    Args:
        ax: where to draw, over `draw_cross`.
        paths: as `ways` gives them.
        colour: of the lines and of the dots at their starts.
        linestyle: of the lines.
        spread: shifts the ways apart by this share of a cell, where they lie on each other.
    """
    shifts = spread * (np.arange(len(paths)) - (len(paths) - 1) / 2)
    for path, shift in zip(paths, shifts, strict=True):
        ax.plot(*(path + shift).T, color=colour, lw=1.3, linestyle=linestyle)
        ax.plot(*(path[0] + shift), "o", ms=5, color=colour)
