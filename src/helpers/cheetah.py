"""Pictures of HalfCheetah without a graphics card: the planar body drawn as line segments.

MuJoCo's own renderer needs OpenGL, which a server or a continuous-integration machine may lack. The
cheetah moves in a plane and consists of capsules, so their axes are all there is to see.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from helpers.data.episodes import Dataset
from helpers.plotting import BACKGROUND, QUIET, tint
from helpers.tasks import get_task

FRONT_LEG = ("fthigh", "fshin", "ffoot")


def poses(
    dataset: Dataset, episode: int, steps: Sequence[int]
) -> tuple[list[str], Float[np.ndarray, "frames parts 2 2"]]:
    """Replay an episode from its seed and actions; where the body is at the given steps.

    Args:
        dataset: with the seeds of its episodes.
        episode: which one.
        steps: increasing step numbers at which to look.

    Returns:
        Names of the body parts, and for each frame and part the (x, z) of both ends, in metres.
    """
    start = int(dataset.starts[episode])
    env = get_task("halfcheetah").make()
    env.reset(seed=int(dataset.seeds[episode]))
    frames = []
    for step in range(max(steps) + 1):
        if step in steps:
            names, segments = _segments(env.unwrapped.model, env.unwrapped.data)
            frames.append(segments)
        env.step(dataset.actions[start + step])
    env.close()
    return names, np.stack(frames)


def observed_poses(
    observations: Float[np.ndarray, "frames S"],
) -> tuple[list[str], Float[np.ndarray, "frames parts 2 2"]]:
    """Where the body is in given observations, such as predicted ones, as `poses` gives it.

    An observation is the whole state but for the distance run, which is set to 0.
    """
    env = get_task("halfcheetah").make()
    env.reset(seed=0)
    body, frames = env.unwrapped, []
    for observation in np.asarray(observations, np.float64):
        count = body.model.nq - 1
        body.set_state(np.append(0.0, observation[:count]), observation[count:])
        names, segments = _segments(body.model, body.data)
        frames.append(segments)
    env.close()
    return names, np.stack(frames)


def _segments(model: mujoco.MjModel, data: mujoco.MjData) -> tuple[list[str], np.ndarray]:
    """Both ends of every capsule's axis, which is the z axis of the geom's frame."""
    capsules = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE)
    centre = data.geom_xpos[capsules]
    axis = data.geom_xmat[capsules].reshape(-1, 3, 3)[:, :, 2]
    half = model.geom_size[capsules, 1:2] * axis
    ends = np.stack([centre - half, centre + half], axis=1)[:, :, [0, 2]]
    return [model.geom(i).name for i in capsules], ends


def draw_poses(
    ax: Axes,
    names: Sequence[str],
    frames: Float[np.ndarray, "frames parts 2 2"],
    colour: str,
    spacing: float = 1.6,
) -> None:
    """Draw the poses side by side, `spacing` metres apart, however far the body has run."""
    ends = []
    for i, frame in enumerate(frames):
        shift = i * spacing - frame[names.index("torso"), :, 0].mean()
        for name, ((x0, z0), (x1, z1)) in zip(names, frame, strict=True):
            shade = tint(colour, 0.45) if name in FRONT_LEG else colour
            ax.plot([x0 + shift, x1 + shift], [z0, z1], color=shade, lw=5, linestyle="-",
                    solid_capstyle="round", zorder=1 if name in FRONT_LEG else 2)  # fmt: skip
        ends.append(frame[..., 1].max())
    ax.axhline(0, color=QUIET, lw=1, linestyle="-")
    ax.set(xlim=(-0.8, (len(frames) - 1) * spacing + 0.8), ylim=(-0.08, max(1.35, *ends) + 0.05))
    ax.set_aspect("equal")
    ax.axis("off")


def pose_pictures(
    names: Sequence[str],
    frames: Float[np.ndarray, "frames parts 2 2"],
    colour: str,
    size: tuple[int, int] = (320, 200),
) -> UInt8[np.ndarray, "frames H W 3"]:
    """Each pose as a picture of its own, with the body in the middle and a tick at every metre.

    Args:
        names: of the body parts.
        frames: as `poses` gives them.
        colour: of the body.
        size: width and height in pixels.
    """
    pictures = []
    for frame in frames:
        inches = (size[0] / 100, size[1] / 100)
        figure = Figure(figsize=inches, dpi=100, facecolor=BACKGROUND, layout="none")
        canvas = FigureCanvasAgg(figure)
        ax = figure.add_axes((0, 0, 1, 1))
        draw_poses(ax, names, frame[None], colour)
        middle = frame[list(names).index("torso"), :, 0].mean()
        for metre in range(int(middle) - 3, int(middle) + 4):
            ax.plot([metre - middle] * 2, [-0.09, 0], color=QUIET, lw=1, linestyle="-")
        ax.set(xlim=(-1.2, 1.2), ylim=(-0.15, 1.35))
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return np.stack(pictures)
