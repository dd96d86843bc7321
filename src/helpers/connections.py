"""One picture of three methods: which tokens a prediction may use, and what is open when acting.

The page *How the three are connected* shows it as `book/_static/connections.svg`, which
`write_picture` makes (`python -m helpers.connections`). The cells come from the masks of the
models; a test measures the same dependences in the models themselves.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from helpers import paths
from helpers.diagrams import _canvas, _text, _token
from helpers.files import write_bytes
from helpers.models.decision import STATE_TOKENS
from helpers.models.trajectory import TrajectoryConfig, TrajectoryTransformer
from helpers.models.transformer import causal_mask
from helpers.plotting import (
    BACKGROUND,
    GRID,
    METHOD_COLOURS,
    QUIET,
    TOKEN_COLOURS,
    shade,
    tint,
    use_style,
)

PICTURE = Path("book") / "_static" / "connections.svg"
CELL = 0.235
DASHES = (0, (3, 2))


@dataclass(frozen=True)
class Pattern:
    """A method's sequence, what of it is predicted, and from what."""

    method: str
    title: str
    objective: str
    """In mathematical notation."""
    kinds: list[str]
    """Of the L tokens, as in `TOKEN_COLOURS`."""
    symbols: list[str]
    predicted: list[int]
    """Positions of the P tokens whose likelihood is trained."""
    uses: Bool[np.ndarray, "P L"]
    """Which tokens each of these predictions may depend on."""
    asked: list[int]
    """Positions whose values are wishes when the method acts."""
    open: list[int]
    """Positions that the method fills in when it acts."""
    unknown: list[int]
    """Positions of the past that are unknown when it acts."""
    acts: str


def decision_pattern(steps: int = 3) -> Pattern:
    """Decision Transformer: an action is read from the state token in front of it."""
    allowed = causal_mask(3 * steps)[0, 0].numpy()
    return Pattern(
        method="dt",
        title="Decision Transformer",
        objective=r"$\sum_t\,\log p(a_t \mid \hat R_{\leq t},\, s_{\leq t},\, a_{<t})$",
        kinds=["return", "state", "action"] * steps,
        symbols=[rf"{name}_{t}" for t in range(steps) for name in (r"\hat R", "s", "a")],
        predicted=list(range(2, 3 * steps, 3)),
        uses=allowed[STATE_TOKENS],
        asked=list(range(0, 3 * steps, 3)),
        open=[3 * steps - 1],
        unknown=[],
        acts="one pass gives the action",
    )


def trajectory_pattern(steps: int = 2) -> Pattern:
    """Trajectory Transformer, with one entry a state and an action: each token from its past."""
    config = TrajectoryConfig(
        observation_size=1, action_size=1, context_length=steps, width=4, layers=1, heads=1
    )
    length = steps * config.step_size
    allowed = TrajectoryTransformer(config).allowed(length)[0, 0].numpy()
    present = length - config.step_size
    return Pattern(
        method="tt",
        title="Trajectory Transformer",
        objective=r"$\sum_i\,\log p(x_i \mid$ earlier tokens$)$",
        kinds=["state", "action", "reward", "value"] * steps,
        symbols=[f"{name}_{t}" for t in range(steps) for name in "sarV"],
        predicted=list(range(1, length)),
        # A token is read off at the place of the one before, whose own embedding is there.
        uses=(allowed | np.eye(length, dtype=bool))[:-1],
        asked=[],
        open=list(range(present + 1, length)),
        unknown=[present - 1],
        acts="a search for what pays best",
    )


def leap_pattern(plan_length: int = 4) -> Pattern:
    """LEAP: each action of a plan from the state and all other actions, later ones included."""
    places = list(range(1, plan_length + 1))
    return Pattern(
        method="leap",
        title="LEAP",
        objective=r"$\sum_i\,\log p(a_i \mid s,\, a_{-i})$",
        kinds=["state", *["action"] * plan_length],
        symbols=["s", *(f"a_{i}" for i in range(plan_length))],
        predicted=places,
        uses=~np.eye(plan_length + 1, dtype=bool)[places],
        asked=[],
        open=places,
        unknown=[],
        acts="a plan is refined\nplace by place",
    )


def draw_connections() -> Figure:
    """Three patterns side by side: the masks above, the moment of acting below."""
    patterns = (decision_pattern(), trajectory_pattern(), leap_pattern())
    figure, ax = _canvas(3.95)
    left = 0.5
    for pattern in patterns:
        _draw_pattern(ax, left, pattern)
        left += CELL * len(pattern.kinds) + 0.68
    return figure


def _draw_pattern(ax: Axes, left: float, pattern: Pattern) -> None:
    top, act_y = 3.2, 0.78
    middle = left + CELL * len(pattern.kinds) / 2
    _text(ax, middle, top + 0.57, pattern.title, color=METHOD_COLOURS[pattern.method], fontsize=11,
          fontweight="bold")  # fmt: skip
    for column, (kind, symbol) in enumerate(zip(pattern.kinds, pattern.symbols, strict=True)):
        x = left + CELL * (column + 0.5)
        _text(ax, x, top + 0.16, f"${symbol}$", color=shade(TOKEN_COLOURS[kind]), fontsize=9)
        for row, (position, uses) in enumerate(zip(pattern.predicted, pattern.uses, strict=True)):
            own = position == column
            _draw_use(ax, x, top - CELL * (row + 0.5), kind, filled=bool(uses[column]), own=own)
        _draw_moment(ax, x, act_y, pattern, column)
    for row, position in enumerate(pattern.predicted):
        symbol, colour = pattern.symbols[position], TOKEN_COLOURS[pattern.kinds[position]]
        _text(ax, left - 0.18, top - CELL * (row + 0.5), f"${symbol}$", color=shade(colour),
              fontsize=9)  # fmt: skip
    bottom = top - CELL * len(pattern.predicted)
    _text(ax, middle, bottom - 0.22, pattern.objective, fontsize=9)
    _text(ax, middle, act_y - 0.26, pattern.acts, fontsize=9, va="top", linespacing=1.3)
    _text(ax, middle, act_y + 0.26, "when acting", fontsize=9, color=QUIET)


def _draw_use(ax: Axes, x: float, y: float, kind: str, *, filled: bool, own: bool) -> None:
    colour = TOKEN_COLOURS[kind]
    face = tint(colour, 0.55) if filled else BACKGROUND
    corner = (x - CELL / 2, y - CELL / 2)
    ax.add_patch(Rectangle(corner, CELL, CELL, facecolor=face, edgecolor=GRID, linewidth=0.9,
                           zorder=3))  # fmt: skip
    if own:
        _text(ax, x, y - 0.01, "?", color=shade(colour), fontsize=9.5, fontweight="bold")


def _draw_moment(ax: Axes, x: float, y: float, pattern: Pattern, position: int) -> None:
    """Given tokens are tinted, wishes are solid, what is filled in is dashed, unknown is empty."""
    kind = pattern.kinds[position]
    looks = {"fill": tint(TOKEN_COLOURS[kind], 0.24)}
    if position in pattern.asked:
        looks = {"fill": TOKEN_COLOURS[kind]}
    elif position in pattern.open:
        looks = {"fill": BACKGROUND, "linestyle": DASHES}
    elif position in pattern.unknown:
        looks = {"fill": BACKGROUND, "edge": GRID}
    text = "?" if position in pattern.open else ""
    _token(ax, kind, x, y, text, size=CELL - 0.035, fontsize=9.0, rounding=0.03, **looks)


def write_picture(path: Path | None = None) -> Path:
    """Draw into a file, the same bytes every time with the same version of matplotlib."""
    path = path or paths.ROOT / PICTURE
    buffer = io.BytesIO()
    with mpl.rc_context():
        use_style()
        figure = draw_connections()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(figure)
    write_bytes(path, buffer.getvalue())
    return path


if __name__ == "__main__":
    print(write_picture())
