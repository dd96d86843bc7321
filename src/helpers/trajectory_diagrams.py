"""Pictures of the Trajectory Transformer: its architecture, who looks at whom, a beam search.

One unit of a canvas is one inch at the width of the text column, as in `helpers.diagrams`, whose
shapes are used. The architecture follows Janner et al. 2021 (https://arxiv.org/abs/2106.02039) and
jannerm/trajectory-transformer at 8834a6e, `trajectory/models/transformers.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from helpers.diagrams import LOOP, _arrow, _box, _canvas, _line, _text, _token
from helpers.models.trajectory import TrajectoryConfig
from helpers.plotting import BACKGROUND, GRID, INK, METHOD_COLOURS, QUIET, TOKEN_COLOURS, tint


def draw_trajectory_transformer(config: TrajectoryConfig) -> Figure:
    """The model from numbers to the distribution of the next token.

    Args:
        config: its sizes are written into the picture.
    """
    figure, ax = _canvas(5.65)
    left, right = 1.2, 7.05
    middle, width = (left + right) / 2, right - left
    number_y, cut_y, token_y, embed_y, block_y, head_y, next_y = 0.38, 0.83, 1.5, 2.3, 3.3, 4.3, 5.1
    tokens = _step_symbols(config)
    xs = [left + 0.3 + 0.583 * i for i in range(len(tokens))]
    hidden = xs[-2]

    for y, text in (
        (number_y, "numbers"),
        (token_y, f"tokens\n0 to {config.bins - 1}"),
        (next_y, "next\ntoken"),
    ):
        _text(ax, 0.08, y, text, ha="left", color=QUIET, fontsize=9.5)
    _box(ax, (middle, cut_y), (width, 0.32), "discretiser: bins of each dimension", fontsize=10.0)
    _box(ax, (middle, embed_y), (width, 0.52), fontsize=10.0)
    text = "embedding of the token, a table for each dimension\n+ embedding of its position"
    _text(ax, middle, embed_y, text, fontsize=9.5, linespacing=1.3)
    for offset in (0.12, 0.06, 0.0):
        _box(ax, (middle - offset, block_y + offset), (width, 0.86), zorder=3 - offset)
    text = f"causal transformer block  × {config.layers}"
    _text(ax, middle - 0.9, block_y + 0.13, text, fontsize=10.5)
    text = f"width {config.width}, {config.heads} heads"
    _text(ax, middle - 0.9, block_y - 0.18, text, color=QUIET, fontsize=9.5)
    _box(ax, (hidden, block_y), (0.74, 0.62), "no one\nlooks here", fontsize=7.8, zorder=5,
         fill=BACKGROUND, edge=LOOP, linestyle=(0, (3, 2)), linespacing=1.25)  # fmt: skip
    text = f"linear map, one for each dimension: {config.bins} bins and the end"
    _box(ax, (middle, head_y), (width, 0.34), text, fontsize=10.0)
    for i, (x, (kind, symbol)) in enumerate(zip(xs, tokens, strict=True)):
        following = tokens[i + 1] if i + 1 < len(tokens) else None
        _draw_column(ax, x, kind, symbol, following, (cut_y, token_y, embed_y, block_y, head_y))
    _bracket(ax, xs[0], xs[-2], 0.2, f"one time step: {config.step_size} tokens")
    return figure


def _step_symbols(config: TrajectoryConfig) -> list[tuple[str, str]]:
    """Kind and symbol of the tokens drawn: a step, shortened, and the first of the next one."""
    return [
        ("state", "s^1"),
        ("state", "s^2"),
        ("", "…"),
        ("state", f"s^{{{config.observation_size}}}"),
        ("action", "a^1"),
        ("", "…"),
        ("action", f"a^{{{config.action_size}}}"),
        ("reward", "r"),
        ("value", "V"),
        ("state", r"s^{\prime 1}"),
    ]


def _draw_column(
    ax: Axes,
    x: float,
    kind: str,
    symbol: str,
    following: tuple[str, str] | None,
    rows: tuple[float, float, float, float, float],
) -> None:
    """One token on its way up, and the one that is predicted from it."""
    cut_y, token_y, embed_y, block_y, head_y = rows
    if not kind:
        for y in (0.38, token_y, head_y + 0.8):
            _text(ax, x, y, symbol, color=QUIET)
        return
    colour = TOKEN_COLOURS[kind]
    _text(ax, x, 0.38, f"${symbol}$", color=colour, fontsize=10.5)
    _arrow(ax, (x, 0.5), (x, cut_y - 0.17), colour=colour, head=7)
    _arrow(ax, (x, cut_y + 0.17), (x, token_y - 0.25), colour=colour, head=8)
    _token(ax, kind, x, token_y, f"${symbol}$", fontsize=10.0)
    _arrow(ax, (x, token_y + 0.24), (x, embed_y - 0.27), colour=colour, head=8)
    _arrow(ax, (x, embed_y + 0.27), (x, block_y - 0.44), head=8)
    _arrow(ax, (x, block_y + 0.56), (x, head_y - 0.18), head=8)
    if following is None:
        return
    predicted, name = following
    edge = TOKEN_COLOURS.get(predicted, QUIET)
    _arrow(ax, (x, head_y + 0.18), (x, head_y + 0.55), colour=edge, head=8)
    if predicted:
        hat = rf"$\hat {name}$"
        _token(ax, predicted, x, head_y + 0.8, hat, linestyle=(0, (3, 2)), fontsize=10.0)
    else:
        _text(ax, x, head_y + 0.8, name, color=QUIET)


def _bracket(ax: Axes, low: float, high: float, y: float, text: str) -> None:
    _line(ax, (low - 0.2, y + 0.06), (low - 0.2, y), (high + 0.2, y), (high + 0.2, y + 0.06))
    _text(ax, (low + high) / 2, y - 0.02, text, color=QUIET, fontsize=9.5, va="top")


def draw_attention_pattern(
    allowed: Bool[np.ndarray, "L L"], observation_size: int, action_size: int
) -> Figure:
    """A grid of who may look at whom; rows look, columns are looked at.

    Args:
        allowed: the mask; its sequence begins with the first entry of an observation.
        observation_size: S.
        action_size: A.
    """
    size = observation_size + action_size + 2
    kinds = ["state"] * observation_size + ["action"] * action_size + ["reward", "value"]
    names = [f"s^{i + 1}" for i in range(observation_size)]
    names += [f"a^{i + 1}" for i in range(action_size)] + ["r", "V"]
    length, cell = len(allowed), 0.3
    figure, ax = _canvas(0.62 + cell * length)
    left, top = 0.75, 0.1 + cell * length
    for p in range(length):
        kind, name = kinds[p % size], names[p % size]
        colour = TOKEN_COLOURS[kind]
        at = left + cell * (p + 0.5), top - cell * (p + 0.5)
        for x, y in ((at[0], top + 0.17), (left - 0.19, at[1])):
            _text(ax, x, y, f"${name}$", color=colour, fontsize=10.0)
        for q in range(length):
            _draw_cell(ax, left + cell * p, top - cell * (q + 1), cell, colour, allowed[q, p])
        if kind == "value":
            ax.add_patch(Rectangle((left + cell * p, top - cell * length), cell, cell * length,
                                   fill=False, edgecolor=colour, linewidth=1.4, zorder=5,
                                   linestyle=(0, (3, 2))))  # fmt: skip
    for t in range(1, length // size):
        _line(ax, (left + cell * size * t, top), (left + cell * size * t, top + 0.32), colour=QUIET)
        _line(ax, (left - 0.35, top - cell * size * t), (left, top - cell * size * t), colour=QUIET)
    for t in range(length // size):
        centre = cell * size * (t + 0.5)
        _text(ax, left + centre, top + 0.37, f"step {t}, looked at", color=QUIET, fontsize=9.5)
        _text(ax, left - 0.47, top - centre, f"step {t}, looks", color=QUIET, fontsize=9.5,
              rotation=90)  # fmt: skip
    notes = (
        "filled: may be\nlooked at",
        "empty above the\ndiagonal: the future",
        "dashed columns:\nvalues, hidden\nfrom everyone",
    )
    for i, note in enumerate(notes):
        _text(ax, left + cell * length + 0.25, top - cell * length * (0.3 + 0.2 * i), note,
              ha="left", fontsize=9.5, linespacing=1.35)  # fmt: skip
    return figure


def _draw_cell(
    ax: Axes, x: float, y: float, cell: float, colour: str, filled: bool | np.bool_
) -> None:
    face = tint(colour, 0.55) if filled else BACKGROUND
    ax.add_patch(Rectangle((x, y), cell, cell, facecolor=face, edgecolor=GRID, linewidth=0.9,
                           zorder=3))  # fmt: skip


# --- a search ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SearchTree:
    """One environment's search, step by step, from `Plans.history`."""

    scores: list[Float[np.ndarray, " candidates"]]
    """Minus infinity for copies."""
    kept: list[Int[np.ndarray, " beams"]]
    parents: list[Int[np.ndarray, " candidates"]]
    """Candidate of the step before that each one continues; the first ones continue none: -1."""
    best: list[int]
    """The candidate of each step that the best plan goes through."""


def search_tree(
    history: list[dict[str, np.ndarray]], expansions: int, environment: int = 0
) -> SearchTree:
    """Who continues whom in a recorded search.

    Args:
        history: of `BeamPlanner.plan(..., record=True)`.
        expansions: candidates per surviving plan, of the planner's configuration.
        environment: which of those that were searched together.
    """
    scores = [step["scores"][environment] for step in history]
    kept = [step["kept"][environment] for step in history]
    parents = [np.full(len(scores[0]), -1)]
    for before, now in zip(kept[:-1], scores[1:], strict=True):
        parents.append(before[np.arange(len(now)) // expansions])
    last = kept[-1]
    best = [int(last[scores[-1][last].argmax()])]
    for step in range(len(history) - 1, 0, -1):
        best.append(int(parents[step][best[-1]]))
    return SearchTree(scores, kept, parents, best[::-1])


def draw_search(ax: Axes, tree: SearchTree) -> None:
    """Every candidate of a search at its score; survivors filled, the best plan as a thick line."""
    colour = METHOD_COLOURS["tt"]
    steps = len(tree.scores)
    drawn = [np.isfinite(scores) for scores in tree.scores]
    root = float(tree.scores[0][drawn[0]].mean())
    for step in range(steps):
        scores = tree.scores[step]
        survives = np.isin(np.arange(len(scores)), tree.kept[step]) & drawn[step]
        for c in np.flatnonzero(drawn[step]):
            start = tree.scores[step - 1][tree.parents[step][c]] if step else root
            on_best = c == tree.best[step]
            look = (INK, 2.4, 3) if on_best else (colour, 0.9, 2) if survives[c] else (GRID, 0.9, 1)
            ax.plot([step, step + 1], [start, scores[c]], color=look[0], lw=look[1],
                    zorder=look[2], linestyle="-")  # fmt: skip
        x = np.full(len(scores), step + 1.0)
        out = drawn[step] & ~survives
        ax.scatter(x[out], scores[out], s=22, facecolor=BACKGROUND, edgecolor=QUIET, zorder=4)
        ax.scatter(x[survives], scores[survives], s=30, color=colour, zorder=5)
        ax.scatter(step + 1, scores[tree.best[step]], s=46, color=INK, marker="D", zorder=6)
        counts = f"{int(survives.sum())} of {int(drawn[step].sum())}"
        ax.annotate(
            counts, (step + 1, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", ha="center", va="bottom", fontsize=9.0, color=QUIET,
        )  # fmt: skip
    ax.scatter(0, root, s=46, color=INK, marker="s", zorder=6)
    ax.set(xlabel="step of the plan", ylabel="score", xlim=(-0.2, steps + 0.3))
    ax.set_xticks(range(steps + 1), ["now", *(str(step + 1) for step in range(steps))])
    marks = {
        "best plan": {"marker": "D", "color": INK},
        "survives": {"marker": "o", "color": colour},
        "dropped": {"marker": "o", "markerfacecolor": BACKGROUND, "color": QUIET},
    }
    handles = [Line2D([], [], linestyle="none", label=name, **look) for name, look in marks.items()]
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.08), ncols=3, borderaxespad=0)
