"""Diagrams drawn by code: value recursion, the token stream, the Decision Transformer.

One unit of a canvas is one inch at the width of the text column, so font sizes in points hold.
Token colours are those of every other figure (`plotting.TOKEN_COLOURS`). The Decision Transformer
follows Chen et al. 2021 (https://arxiv.org/abs/2106.01345) and its code, kzl/decision-transformer
at e2d82e6, `gym/decision_transformer/models/decision_transformer.py`.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from helpers.plotting import BACKGROUND, GRID, INK, QUIET, TOKEN_COLOURS, WIDTH, shade, tint

SYMBOLS = {"return": r"\hat R", "state": "s", "action": "a"}
"""The three tokens of a step, in order."""
NETWORK = "#eceef0"
"""Fill of anything with weights."""
LOOP = "#96305f"
"""The path on which an estimate becomes its own target."""


def _canvas(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    figure = plt.figure(figsize=(width, height), layout="none")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")
    return figure, ax


def _box(
    ax: Axes,
    centre: tuple[float, float],
    size: tuple[float, float],
    text: str = "",
    *,
    fill: str = NETWORK,
    edge: str = QUIET,
    fontsize: float = 10.0,
    rounding: float = 0.07,
    **options: object,
) -> None:
    x, y = centre
    w, h = size
    ax.add_patch(
        FancyBboxPatch(
            (x - w / 2 + rounding, y - h / 2 + rounding),
            w - 2 * rounding,
            h - 2 * rounding,
            boxstyle=f"round,pad={rounding}",
            facecolor=fill,
            edgecolor=edge,
            linewidth=1.1,
            zorder=options.pop("zorder", 3),
            linestyle=options.pop("linestyle", "-"),
        )
    )
    if text:
        _text(ax, x, y, text, fontsize=fontsize, **options)


def _text(ax: Axes, x: float, y: float, text: str, **options: object) -> None:
    ax.text(
        x,
        y,
        text,
        **({"ha": "center", "va": "center", "color": INK, "fontsize": 10.0, "zorder": 6} | options),
    )


def _token(
    ax: Axes, kind: str, x: float, y: float, text: str, *, size: float = 0.46, **options: object
) -> None:
    colour = TOKEN_COLOURS[kind]
    options = {"fill": tint(colour, 0.24), "edge": colour, "color": shade(colour, 0.55)} | options
    _box(ax, (x, y), (size, size), text, **{"fontsize": 11.5} | options)


def _arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    colour: str = QUIET,
    bend: float = 0.0,
    width: float = 1.2,
    path: str | None = None,
    **options: object,
) -> None:
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle=options.pop("arrowstyle", "-|>"),
            mutation_scale=options.pop("head", 10),
            connectionstyle=path or f"arc3,rad={bend}",
            color=colour,
            linewidth=width,
            shrinkA=0,
            shrinkB=0,
            zorder=options.pop("zorder", 2),
            capstyle="butt",
            joinstyle="round",
            **options,
        )
    )


def _line(ax: Axes, *points: tuple[float, float], colour: str = QUIET, width: float = 1.2) -> None:
    ax.plot(*zip(*points, strict=True), color=colour, linewidth=width, linestyle="-", zorder=2)


def _plus(ax: Axes, x: float, y: float, *, radius: float = 0.105) -> None:
    ax.add_patch(
        Circle((x, y), radius, facecolor=BACKGROUND, edgecolor=QUIET, linewidth=1.1, zorder=4)
    )
    arm = 0.6 * radius
    for dx, dy in ((arm, 0), (0, arm)):
        ax.plot(
            (x - dx, x + dx),
            (y - dy, y + dy),
            color=INK,
            linewidth=1.1,
            linestyle="-",
            zorder=5,
        )


def draw_value_recursion() -> Figure:
    """One Q-learning update: the target holds the network's own estimate, so the path is a loop."""
    figure, ax = _canvas(4.0)
    state, action, reward = (TOKEN_COLOURS[kind] for kind in ("state", "action", "reward"))
    row, middle, top = 0.62, 2.02, 3.5
    left, right, received = 1.75, 4.75, 3.55

    # The recorded transition.
    _box(ax, (3.2, row), (4.5, 0.86), fill="#f3f4f1", edge=GRID, zorder=1)
    for x, kind, text in (
        (left - 0.35, "state", "$s$"),
        (left + 0.35, "action", "$a$"),
        (received, "reward", "$r$"),
        (right, "state", "$s^\\prime$"),
    ):
        _token(ax, kind, x, row, text)
    _arrow(ax, (left + 0.62, row), (received - 0.27, row))
    _arrow(ax, (received + 0.27, row), (right - 0.27, row))
    _text(ax, 5.6, row, "one recorded\ntransition", ha="left", color=QUIET, fontsize=9.5)

    # The same network, read twice.
    for x in (left, right):
        _box(ax, (x, middle), (1.3, 0.54), r"network $Q_\theta$", fontsize=10.5)
    _arrow(ax, (left + 0.68, middle), (right - 0.68, middle), colour=LOOP, width=1.9)
    _text(ax, 2.97, middle + 0.16, r"same weights $\theta$", color=LOOP, fontsize=9.5)
    _arrow(ax, (left - 0.35, row + 0.25), (left - 0.35, middle - 0.29), colour=state)
    _arrow(ax, (left + 0.35, row + 0.25), (left + 0.35, middle - 0.29), colour=action)
    _arrow(ax, (right, row + 0.25), (right, middle - 0.29), colour=state)
    # The reward passes behind the path of the weights.
    _line(ax, (received, row + 0.25), (received, middle - 0.07), colour=reward)
    _line(ax, (received, middle + 0.07), (received, top - 0.14), colour=reward)
    _arrow(ax, (received, top - 0.14), (3.87, top - 0.14), colour=reward)

    # Left: the prediction. Right: bars, max, target.
    _arrow(ax, (left, middle + 0.29), (left, top - 0.3))
    _box(
        ax, (left, top), (1.62, 0.54), r"prediction $Q_\theta(s,a)$", fill=BACKGROUND, fontsize=10.0
    )
    _bars(ax, right, middle + 0.37, action)
    _arrow(ax, (right + 0.07, middle + 0.9), (right + 0.07, top - 0.29), colour=LOOP, width=1.9)
    _text(ax, right + 0.2, middle + 1.03, "the best one", ha="left", color=LOOP, fontsize=9.5)
    label = r"$Q_\theta(s^\prime,a^\prime)$ for every $a^\prime$"
    _text(ax, right + 0.55, middle + 0.52, label, ha="left", fontsize=9.5)
    _box(
        ax,
        (5.25, top),
        (2.75, 0.54),
        r"target  $r+\gamma\,\max_{a^\prime}\,Q_\theta(s^\prime,a^\prime)$",
        fill=tint(LOOP, 0.13),
        edge=LOOP,
        fontsize=10.5,
    )
    _arrow(ax, (3.87, top + 0.08), (left + 0.84, top + 0.08), colour=LOOP, width=1.9)
    _text(ax, 3.22, top + 0.23, "pulls", color=LOOP, fontsize=9.5)

    # The update closes the loop.
    corner = left - 1.02
    _line(ax, (left - 0.81, top), (corner, top), (corner, middle), colour=LOOP, width=1.9)
    _arrow(ax, (corner, middle), (left - 0.66, middle), colour=LOOP, width=1.9)
    _text(ax, corner - 0.1, 2.76, "changes\nweights", ha="right", color=LOOP, fontsize=9.5)
    return figure


def _bars(ax: Axes, x: float, base: float, colour: str) -> None:
    """Four estimates side by side, the highest one strong."""
    heights = (0.22, 0.34, 0.5, 0.16)
    for index, height in enumerate(heights):
        best = height == max(heights)
        ax.add_patch(
            Rectangle(
                (x - 0.36 + 0.18 * index, base),
                0.14,
                height,
                facecolor=colour if best else tint(colour, 0.35),
                edgecolor="none",
                zorder=3,
            )
        )
    ax.plot((x - 0.42, x + 0.42), (base, base), color=QUIET, lw=0.9, linestyle="-")


def draw_token_stream() -> Figure:
    """A trajectory as a sentence: a causal transformer predicts each action from what precedes."""
    figure, ax = _canvas(3.6)
    row, core, top = 0.72, 1.85, 2.86
    step, gap = 1.83, 0.55
    for t in range(3):
        start = 1.2 + step * t
        for index, (kind, symbol) in enumerate(SYMBOLS.items()):
            x = start + gap * index
            last = t == 2 and kind == "action"
            _token(
                ax,
                kind,
                x,
                row,
                f"${symbol}_{t}$" if not last else "?",
                **({"linestyle": (0, (3, 2)), "fill": BACKGROUND} if last else {}),
            )
            if not last:
                _arrow(ax, (x, row + 0.24), (x, core - 0.29), colour=TOKEN_COLOURS[kind])
            if kind == "state":
                colour = TOKEN_COLOURS["action"]
                _arrow(ax, (x, core + 0.29), (x, top - 0.25), colour=colour)
                _token(ax, "action", x, top, f"$\\hat a_{t}$", linestyle=(0, (3, 2)))
        _line(
            ax, (start - 0.22, 0.36), (start - 0.22, 0.3), (start + 1.32, 0.3), (start + 1.32, 0.36)
        )
        _text(ax, start + gap, 0.15, f"step {t}", color=QUIET, fontsize=9.5)
    _box(
        ax,
        (3.58, core),
        (5.5, 0.56),
        "causal transformer: a token sees itself and the tokens to its left",
        fontsize=10.5,
    )
    _text(ax, 0.1, row, "trajectory\nso far", ha="left", color=QUIET, fontsize=9.5)
    _text(ax, 0.1, top, "predicted\nactions", ha="left", color=QUIET, fontsize=9.5)
    for t in range(3):
        x = 1.2 + step * t + gap
        text = f"compare with $a_{t}$" if t < 2 else "what to do now"
        _text(ax, x, top + 0.43, text, color=shade(TOKEN_COLOURS["action"], 0.5), fontsize=9.5)
    _arrow(ax, (6.42, row), (7.0, row))
    _text(ax, 6.71, row + 0.17, "time", color=QUIET, fontsize=9.5)
    return figure


def draw_decision_transformer(blocks: int = 3) -> Figure:
    """The Decision Transformer from tokens to actions, with one block opened.

    Args:
        blocks: how many transformer blocks the label states.
    """
    figure, ax = _canvas(6.35)
    xs = _draw_dt_inputs(ax)
    left, right = 0.18, max(xs) + 0.26
    centre, width = (left + right) / 2, right - left
    norm_y, block_y, final_y, head_y, action_y = 2.5, 3.42, 4.36, 5.02, 5.76
    block_low, block_high = block_y - 0.45, block_y + 0.45

    _box(ax, (centre, norm_y), (width, 0.34), "LayerNorm over each token", fontsize=10.0)
    for offset in (0.12, 0.06, 0.0):
        _box(ax, (centre + offset, block_y + offset), (width, 0.9), zorder=3 - offset)
    label = f"causal transformer block  × {blocks}"
    _text(ax, centre, block_y, label, fontsize=10.5)
    _box(ax, (centre, final_y), (width, 0.34), "final LayerNorm", fontsize=10.0)
    for x in xs:
        _arrow(ax, (x, norm_y + 0.18), (x, block_low - 0.01), head=8)
        _arrow(ax, (x, block_high + 0.14), (x, final_y - 0.18), head=8)

    # Only the state tokens are read.
    green = TOKEN_COLOURS["action"]
    for name, x in zip(("t-1", "t"), xs[1::3], strict=True):
        _arrow(ax, (x, final_y + 0.18), (x, head_y - 0.19), colour=green)
        _box(ax, (x, head_y), (1.15, 0.36), "linear, tanh", fontsize=10.0, edge=green)
        _arrow(ax, (x, head_y + 0.19), (x, action_y - 0.27), colour=green)
        symbol = f"$\\hat a_{{{name}}}$"
        _token(ax, "action", x, action_y, symbol, size=0.5, linestyle=(0, (3, 2)), fontsize=10.5)
    note = "read off the\nstate tokens only"
    _text(ax, (xs[1] + xs[4]) / 2, head_y + 0.55, note, color=QUIET, fontsize=9.5)

    _draw_dt_block(ax, 6.17)
    # Two lines open the block.
    for corner, y in ((block_high + 0.12, 5.13), (block_low + 0.06, 1.62)):
        ax.plot((right + 0.12, 5.36), (corner, y), color=QUIET, lw=0.9, linestyle=(0, (1.5, 2)))
    _text(
        ax,
        5.2,
        0.84,
        "$W$  linear embedding, one\n      for each kind of token\n$E$  learned time-step table",
        ha="left",
        color=QUIET,
        fontsize=9.5,
        linespacing=1.5,
    )
    return figure


def _draw_dt_inputs(ax: Axes) -> list[float]:
    """Two steps of tokens, their embeddings and the shared time step; returns token positions."""
    token_y, embed_y, bus_y, plus_y = 0.72, 1.3, 1.66, 1.98
    spacing, positions = 0.57, []
    for start, name in ((0.44, "t-1"), (2.84, "t")):
        tokens = [start + 0.55 + spacing * index for index in range(3)]
        positions += tokens
        _box(ax, (start, token_y), (0.5, 0.46), f"${name}$", fill=BACKGROUND)
        _arrow(ax, (start, token_y + 0.24), (start, embed_y - 0.17), head=8)
        _box(ax, (start, embed_y), (0.46, 0.32), "$E$", edge=LOOP)
        _line(ax, (start, embed_y + 0.17), (start, bus_y), (tokens[-1] - 0.27, bus_y), colour=LOOP)
        for (kind, symbol), x in zip(SYMBOLS.items(), tokens, strict=True):
            colour = TOKEN_COLOURS[kind]
            _token(ax, kind, x, token_y, f"${symbol}_{{{name}}}$", fontsize=10.0)
            _arrow(ax, (x, token_y + 0.24), (x, embed_y - 0.17), colour=colour, head=8)
            _box(ax, (x, embed_y), (0.46, 0.32), f"$W_{{{symbol}}}$", fontsize=9.0, edge=colour)
            _arrow(ax, (x, embed_y + 0.17), (x, plus_y - 0.11), colour=colour, head=8)
            _plus(ax, x, plus_y)
            _arrow(ax, (x, plus_y + 0.11), (x, 2.32), head=8)
            # The same time-step vector joins each token of the step.
            _line(ax, (x - 0.27, bus_y), (x - 0.27, plus_y), colour=LOOP)
            _arrow(ax, (x - 0.28, plus_y), (x - 0.11, plus_y), colour=LOOP, head=7)
        low, high = start - 0.24, tokens[-1] + 0.22
        _line(ax, (low, 0.42), (low, 0.36), (high, 0.36), (high, 0.42))
        _text(ax, (low + high) / 2, 0.2, f"step ${name}$", color=QUIET, fontsize=9.5)
    return positions


def _draw_dt_block(ax: Axes, x: float) -> None:
    """One pre-norm block: x + attention(LayerNorm(x)), then the same with the MLP."""
    _box(ax, (x, 3.37), (1.66, 3.6), fill=BACKGROUND, edge=QUIET, zorder=1)
    _text(ax, x, 5.32, "inside a block", color=QUIET, fontsize=9.5)
    x, side = x + 0.12, x - 0.68
    _line(ax, (x, 1.3), (x, 1.75))
    for base, text in ((1.75, "causal\nself-attention"), (3.4, "MLP\n$D$ → 4$D$ → $D$")):
        _arrow(ax, (x, base - 0.05), (x, base + 0.17), head=8)
        _box(ax, (x, base + 0.33), (1.12, 0.3), "LayerNorm", fontsize=9.5)
        _arrow(ax, (x, base + 0.48), (x, base + 0.64), head=8)
        _box(ax, (x, base + 0.88), (1.12, 0.46), text, fontsize=9.5, linespacing=1.25)
        _arrow(ax, (x, base + 1.11), (x, base + 1.31), head=8)
        _plus(ax, x, base + 1.42)
        # The residual path goes round both.
        _line(ax, (x, base + 0.02), (side, base + 0.02), (side, base + 1.42))
        _arrow(ax, (side, base + 1.42), (x - 0.11, base + 1.42), head=8)
    _line(ax, (x, 3.28), (x, 3.4))
    _arrow(ax, (x, 4.93), (x, 5.16), head=8)
