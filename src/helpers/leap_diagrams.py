"""Pictures of LEAP: its architecture, a plan's energy, plans being refined, an oracle's worth.

One unit of a canvas is one inch at the width of the text column, as in `helpers.diagrams`, whose
shapes are used. The architecture is that of `helpers.models.leap`, which follows Chen et al. 2023
(https://arxiv.org/abs/2303.16189) with the departures listed there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from helpers.analysis.plans import Walk, walk
from helpers.analysis.statistics import Interval
from helpers.diagrams import LOOP, _arrow, _box, _canvas, _line, _text, _token
from helpers.envs.grids import ACTIONS, DIRECTIONS
from helpers.models.leap import LeapConfig
from helpers.plotting import (
    BACKGROUND,
    GRID,
    INK,
    METHOD_STYLES,
    QUIET,
    TOKEN_COLOURS,
    WIDTH,
    shade,
    tint,
)
from helpers.tasks import Task

DASHES = (0, (3, 2))
TEAL = METHOD_STYLES["leap"].colour


def words(
    plan: Sequence[int] | Int[np.ndarray, " H"] | Int[Tensor, " H"],
    actions: Sequence[str] = ACTIONS,
) -> list[str]:
    """The tokens of a plan as words; END follows the actions, and MASK follows END."""
    vocabulary = [*actions, "END", "MASK"]
    return [vocabulary[int(token)] for token in plan]


# --- the model ---------------------------------------------------------------------------------


def draw_leap(config: LeapConfig) -> Figure:
    """The model from a level and a masked plan to the distribution of the masked action.

    Args:
        config: its sizes are written into the picture.
    """
    figure, ax = _canvas(5.35)
    left, right, state = 1.2, 7.05, 1.72
    middle, width = (left + right) / 2, right - left
    input_y, encoder_y, token_y, embed_y, block_y, head_y, out_y = (
        0.4, 1.08, 1.78, 2.5, 3.5, 4.4, 5.02
    )  # fmt: skip
    tokens = _plan_symbols(config)
    xs = [2.85 + 3.87 / (len(tokens) - 1) * i for i in range(len(tokens))]
    for y, text in ((input_y, "input"), (token_y, "tokens"), (out_y, "filled in")):
        _text(ax, 0.08, y, text, ha="left", color=QUIET, fontsize=9.5)
    _text(ax, state, input_y, "level,\nmission", fontsize=9.5)
    _text(ax, xs[2], input_y, "a plan with a gap", fontsize=9.5)
    _line(ax, (xs[0] - 0.25, input_y + 0.24), (xs[0] - 0.25, input_y + 0.18),
          (xs[-1] + 0.25, input_y + 0.18), (xs[-1] + 0.25, input_y + 0.24))  # fmt: skip
    _box(ax, (state, encoder_y), (1.04, 0.42), "encoder", fontsize=10.0)
    _arrow(ax, (state, input_y + 0.24), (state, encoder_y - 0.22), head=8)
    _arrow(ax, (state, encoder_y + 0.22), (state, token_y - 0.26), head=8)
    _token(ax, "state", state, token_y, "$s$")
    text = f"embedding of the token + one of {1 + config.plan_length} embeddings of position"
    _box(ax, (middle, embed_y), (width, 0.34), text, fontsize=10.0)
    _draw_blocks(ax, config, middle, block_y, width)
    for x in (state, *(x for x, (kind, _) in zip(xs, tokens, strict=True) if kind)):
        _arrow(ax, (x, token_y + 0.25), (x, embed_y - 0.18), head=8)
        _arrow(ax, (x, embed_y + 0.18), (x, block_y - 0.5), head=8)
    for x, (kind, symbol) in zip(xs, tokens, strict=True):
        _draw_place(ax, kind, x, token_y, symbol)
    gap = xs[1]
    green = TOKEN_COLOURS["action"]
    _arrow(ax, (gap, block_y + 0.61), (gap, head_y - 0.18), colour=green)
    text = f"linear map: {config.actions} actions and END"
    _box(ax, (gap, head_y), (2.9, 0.34), text, fontsize=10.0, edge=green)
    _arrow(ax, (gap, head_y + 0.18), (gap, out_y - 0.25), colour=green)
    _token(ax, "action", gap, out_y, r"$\hat a_1$", linestyle=DASHES)
    _text(ax, gap + 1.6, head_y, "read off the gap only", ha="left", color=QUIET, fontsize=9.5)
    return figure


def _plan_symbols(config: LeapConfig) -> list[tuple[str, str]]:
    """Kind and symbol of the places drawn: a plan that is over before its last place."""
    symbols = [("action", "$a_0$"), ("mask", "MASK"), ("action", "$a_2$"), ("action", "$a_3$")]
    return [*symbols[: max(2, config.plan_length - 2)], ("action", "END"), ("", "padding")]


def _draw_place(ax: Axes, kind: str, x: float, y: float, symbol: str) -> None:
    if kind:
        wide = {"fontsize": 8.0} if len(symbol) < 5 and symbol.isalpha() else {}
        _token(ax, kind, x, y, symbol, **wide)
        return
    _token(ax, "mask", x, y, "", fill=BACKGROUND, linestyle=DASHES)
    _text(ax, x, y - 0.38, "padding:", color=QUIET, fontsize=8.5)
    _text(ax, x, y - 0.56, "no one looks", color=QUIET, fontsize=8.5)


def _draw_blocks(ax: Axes, config: LeapConfig, x: float, y: float, width: float) -> None:
    for offset in (0.12, 0.06, 0.0):
        _box(ax, (x, y + offset), (width - 0.16 * offset / 0.12, 0.98), zorder=3 - offset)
    _text(ax, x, y + 0.24, f"bidirectional transformer block  × {config.layers}", fontsize=10.5)
    _text(ax, x, y - 0.03, f"width {config.width}, {config.heads} heads", color=QUIET, fontsize=9.5)
    _arrow(ax, (x - 1.9, y - 0.29), (x + 1.9, y - 0.29), arrowstyle="<|-|>", colour=LOOP,
           zorder=5)  # fmt: skip
    _text(ax, x - 2.0, y - 0.29, "past", ha="right", color=LOOP, fontsize=9.5)
    _text(ax, x + 2.0, y - 0.29, "future", ha="left", color=LOOP, fontsize=9.5)


# --- energy ------------------------------------------------------------------------------------


def draw_energy(plan: Sequence[str], log_probabilities: Float[np.ndarray, " H"]) -> Figure:
    """A plan's energy as a sum: one row for each place, masked in turn.

    Args:
        plan: words of the plan; those behind the first END do not count.
        log_probabilities: of each word at its place, given the others.
    """
    active = plan.index("END") + 1 if "END" in plan else len(plan)
    step, first, column = 0.5, 1.1, 0.79
    figure, ax = _canvas(0.95 + step * active)
    height = 0.95 + step * active
    top = height - 0.24
    costs = -np.asarray(log_probabilities, float)[:active]
    ends = first + column * len(plan)
    _text(ax, 0.42, top, "state", color=QUIET, fontsize=9.5)
    _text(ax, first + column * (len(plan) - 1) / 2, top, "plan", color=QUIET, fontsize=9.5)
    _text(ax, ends - 0.05, top, "probability", color=QUIET, fontsize=9.5)
    _text(ax, ends + 0.72, top, "nats", color=QUIET, fontsize=9.5)
    longest = max(float(costs.max()), 1e-6)
    room = WIDTH - (ends + 1.05) - 0.1
    for i, cost in enumerate(costs):
        y = top - 0.42 - step * i
        _token(ax, "state", 0.42, y, "$s$", size=0.38, fontsize=10.0)
        for j, word in enumerate(plan):
            _draw_word(ax, first + column * j, y, "MASK" if j == i else word, j >= active)
        _text(ax, ends - 0.05, y, f"{np.exp(-cost):.3f}", fontsize=9.5)
        _text(ax, ends + 0.72, y, f"{cost:.3f}", fontsize=9.5)
        ax.add_patch(
            Rectangle((ends + 1.05, y - 0.13), room * cost / longest, 0.26, facecolor=TEAL,
                      edgecolor="none", zorder=3)
        )  # fmt: skip
    y = top - 0.42 - step * active
    _line(ax, (ends + 0.45, y + 0.22), (ends + 1.0, y + 0.22), colour=INK)
    _text(ax, ends + 0.32, y, "energy", ha="right", fontsize=10.0)
    _text(ax, ends + 0.72, y, f"{costs.sum():.3f}", fontsize=10.0)
    return figure


def _draw_word(
    ax: Axes, x: float, y: float, word: str, behind: bool, size: tuple[float, float] = (0.72, 0.38)
) -> None:
    kind = "mask" if word == "MASK" else "action"
    colour = TOKEN_COLOURS[kind]
    look: dict[str, object] = {
        "fill": tint(colour, 0.24),
        "edge": colour,
        "color": shade(colour, 0.55),
    }
    if behind:
        look = {"fill": BACKGROUND, "edge": GRID, "color": QUIET}
        word = "–" if word == "END" else word
    elif kind == "mask":
        look |= {"linestyle": DASHES}
    _box(ax, (x, y), size, word, fontsize=9.0, **look)


def draw_changes(
    ax: Axes, plan: Sequence[str], differences: Float[np.ndarray, "H tokens"], names: Sequence[str]
) -> None:
    """How much another word at each place adds to a plan's energy.

    Args:
        ax: where to draw.
        plan: words of the plan.
        differences: NaN where the word is the plan's own or may not stand.
        names: words of the columns.
    """
    largest = np.nanmax(np.abs(differences))
    for i, j in np.ndindex(differences.shape):
        value = differences[i, j]
        own = names[j] == plan[i] and np.isnan(value)
        face = BACKGROUND if np.isnan(value) else tint(TEAL, 0.75 * max(value, 0.0) / largest)
        lower = value < 0
        ax.add_patch(
            Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, facecolor=face,
                      edgecolor=LOOP if lower else GRID, linewidth=2.0 if lower else 0.9)
        )  # fmt: skip
        text = "plan" if own else "" if np.isnan(value) else f"{value:+.1f}".replace("-", "−")
        ax.text(j, i, text, ha="center", va="center", fontsize=9.0,
                color=TOKEN_COLOURS["action"] if own else INK)  # fmt: skip
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(plan)), [f"{i}: {word}" for i, word in enumerate(plan)])
    ax.set(xlim=(-0.55, len(names) - 0.45), ylim=(len(plan) - 0.45, -0.55))
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


# --- plans being refined -----------------------------------------------------------------------


@dataclass(frozen=True)
class Refinement:
    """One environment's plan after each iteration, the MASKs before the first one included."""

    name: str
    plans: Int[np.ndarray, "frames H"]
    energies: Float[np.ndarray, " frames"]
    """NaN for the MASKs, which are no plan."""

    @classmethod
    def of(
        cls,
        name: str,
        history: Int[np.ndarray, "I H"],
        energies: Float[np.ndarray, " I"],
        mask: int,
    ) -> Refinement:
        """From the record of a search (`GibbsPlans.history`) that began with MASKs."""
        start = np.full((1, history.shape[1]), mask)
        return cls(name, np.concatenate([start, history]), np.append(np.nan, energies))


def refinement_pictures(
    task: Task,
    seed: int,
    refinements: Sequence[Refinement],
    size: tuple[float, float] = (6.6, 4.3),
    dpi: int = 100,
) -> UInt8[np.ndarray, "frames H W 3"]:
    """Plans on their level, their words and their energies, one picture for each iteration.

    Args:
        task: a grid.
        seed: of the level.
        refinements: searches of the same length about this level, side by side.
        size: inches of a picture.
        dpi: pixels an inch.
    """
    env = task.make()
    env.reset(seed=seed)
    level = env.unwrapped.get_frame(False, 32)
    env.close()
    pictures = []
    for frame in range(len(refinements[0].plans)):
        figure = Figure(figsize=size, dpi=dpi, facecolor=BACKGROUND, layout="none")
        canvas = FigureCanvasAgg(figure)
        for i, refinement in enumerate(refinements):
            box = (i / len(refinements), 0.0, 1 / len(refinements), 1.0)
            _draw_refinement(figure, box, task, seed, level, refinement, frame)
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return np.stack(pictures)


def _draw_refinement(
    figure: Figure,
    box: tuple[float, float, float, float],
    task: Task,
    seed: int,
    level: UInt8[np.ndarray, "P P 3"],
    refinement: Refinement,
    frame: int,
) -> None:
    """One search at one iteration: level with the plan's way, words, energies so far."""
    left, bottom, width, height = box
    plan = refinement.plans[frame]
    walked = walk(task, seed, plan)
    ax = figure.add_axes((left, bottom + 0.32 * height, width, 0.6 * height))
    tile = level.shape[0] / task.grid_size
    ax.imshow(level, interpolation="antialiased", zorder=0)
    draw_way(ax, walked, tile)
    ax.axis("off")
    iteration = f"iteration {frame}" if frame else "before"
    figure.text(left + width / 2, bottom + 0.955 * height, f"{refinement.name}, {iteration}",
                ha="center", va="center", fontsize=10.5, color=INK)  # fmt: skip

    names = words(plan, ACTIONS[: task.action_size])
    inches = figure.get_size_inches()
    row = figure.add_axes((left, bottom + 0.21 * height, width, 0.1 * height))
    row.set(xlim=(0, inches[0] * width), ylim=(0, inches[1] * 0.1 * height))
    row.axis("off")
    room = (inches[0] * width - 0.2) / len(names)
    active = names.index("END") + 1 if "END" in names else len(names)
    for i, word in enumerate(names):
        at = (0.1 + room * (i + 0.5), 0.05 * inches[1] * height)
        _draw_word(row, *at, word, i >= active, (min(0.72, room - 0.04), 0.34))

    curve = figure.add_axes(
        (left + 0.16 * width, bottom + 0.105 * height, 0.78 * width, 0.1 * height)
    )
    _draw_curve(curve, refinement.energies, frame)
    energy = refinement.energies[frame]
    text = "no energy yet" if np.isnan(energy) else f"energy {energy:.2f}"
    text += ", reaches the goal" if walked.success else ""
    figure.text(left + width / 2, bottom + 0.04 * height, text, ha="center", va="center",
                fontsize=10.0, color=INK)  # fmt: skip


def _draw_curve(ax: Axes, energies: Float[np.ndarray, " frames"], frame: int) -> None:
    """Energies up to a frame, on axes that hold all of them."""
    iterations = np.arange(len(energies))
    ax.plot(iterations[: frame + 1], energies[: frame + 1], color=TEAL, lw=1.6, linestyle="-")
    ax.plot(frame, energies[frame], "o", color=TEAL, ms=4)
    low, high = np.nanmin(energies), np.nanmax(energies)
    pad = 0.12 * (high - low) + 1e-3
    ax.set(xlim=(0, len(energies) - 0.5), ylim=(low - pad, high + pad), xticks=[])
    ax.set_yticks([low, high], [f"{low:.1f}", f"{high:.1f}"], fontsize=8.0)
    ax.grid(False)
    ax.set_facecolor(BACKGROUND)
    ax.spines[["top", "right"]].set_visible(False)


def draw_way(ax: Axes, walked: Walk, tile: float, colour: str = TEAL) -> None:
    """Where carried-out actions lead, over a picture of the level; the tip looks ahead.

    Args:
        ax: with the level's picture, whose pixels are its units.
        walked: from `helpers.analysis.plans.walk`.
        tile: pixels of a cell's side.
        colour: of the way.
    """
    xs, ys = ((walked.poses[:, i] + 0.5) * tile for i in range(2))
    for line_colour, line_width in (("white", 5.0), (colour, 3.0)):
        ax.plot(xs, ys, color=line_colour, lw=line_width, linestyle="-", zorder=3,
                solid_capstyle="round", solid_joinstyle="round")  # fmt: skip
    if len(walked.poses) == 1:
        return
    x, y = xs[-1], ys[-1]
    dx, dy = DIRECTIONS[walked.poses[-1, 2]]
    marker = (3, 0, -90.0 * (walked.poses[-1, 2] + 1))
    ax.plot(x + 0.12 * tile * dx, y + 0.12 * tile * dy, marker=marker, ms=11, color=colour,
            markeredgecolor="white", zorder=4)  # fmt: skip


# --- results -----------------------------------------------------------------------------------

Pairs = Mapping[str, Mapping[str, tuple[Interval, Interval]]]
"""Level to method to what it reaches without and with the oracle."""


def draw_gains(ax: Axes, pairs: Pairs, published: Mapping[tuple[str, str], float]) -> None:
    """Success without and with an oracle, of each method on each level.

    Args:
        ax: where to draw.
        pairs: what was reached.
        published: percentages by (method's label, level), drawn as bars across where there are any.
    """
    for row, (level, methods) in enumerate(pairs.items()):
        for i, (method, (without, told)) in enumerate(methods.items()):
            style = METHOD_STYLES[method]
            y = row + 0.19 * (i - (len(methods) - 1) / 2)
            ax.plot([without.score, told.score], [y, y], color=style.colour, lw=1.1, alpha=0.55,
                    linestyle="-")  # fmt: skip
            for interval, face in ((without, BACKGROUND), (told, style.colour)):
                ax.plot([interval.low, interval.high], [y, y], color=style.colour, lw=2.6,
                        linestyle="-", solid_capstyle="butt")  # fmt: skip
                ax.plot(interval.score, y, marker=style.marker, color=style.colour, ms=6.5,
                        markerfacecolor=face)  # fmt: skip
            if (style.label, level) in published:
                ax.plot(published[style.label, level], y, "|", color=INK, ms=9, mew=1.8)
    ax.set_yticks(range(len(pairs)), pairs)
    ax.set(ylim=(len(pairs) - 0.45, -0.55), xlabel="success (%)")
    ax.grid(axis="x")
    ax.grid(False, axis="y")
    for row in range(1, len(pairs)):
        ax.axhline(row - 0.5, color=GRID, lw=0.8, linestyle="-")
    used = dict.fromkeys(method for methods in pairs.values() for method in methods)
    handles = [
        Line2D([], [], linestyle="none", marker=METHOD_STYLES[m].marker, markersize=6.5,
               color=METHOD_STYLES[m].colour, label=METHOD_STYLES[m].label)
        for m in used
    ]  # fmt: skip
    handles.append(Line2D([], [], linestyle="none", marker="o", markersize=6.5, color=QUIET,
                          markerfacecolor=BACKGROUND, label="without oracle"))  # fmt: skip
    handles.append(Line2D([], [], linestyle="none", marker="|", markersize=9, color=INK,
                          markeredgewidth=1.8, label="published, with oracle"))  # fmt: skip
    ax.legend(handles=handles, ncols=len(handles), loc="lower left", bbox_to_anchor=(-0.22, 1.01),
              borderaxespad=0, handletextpad=0.3, columnspacing=1.2, handlelength=1.2)  # fmt: skip
