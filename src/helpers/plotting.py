"""The look of every figure: one style, one colour per method, and the few shapes chapters share.

Colours start from Okabe and Ito's palette (2008, https://jfly.uni-koeln.de/color/) and are moved
until each has a contrast of 3 or more with the figure background and every pair within a set
stays apart under simulated deuteranopia and protanopia (Machado et al. 2009). The tests hold that.
Colour never stands alone: each method also has a marker and a line style.

The background is opaque and near white, because the site's dark theme does not recolour axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import matplotlib.colors as mcolors
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

BACKGROUND = "#fcfcfa"
INK = "#22262b"
QUIET = "#6b7178"
"""Axis lines, secondary text."""
GRID = "#e3e4e0"
WIDTH = 7.2
"""Inches of a figure that fills the text column; fonts are sized for this width."""


@dataclass(frozen=True)
class MethodStyle:
    """How one method is drawn in every chapter."""

    label: str
    colour: str
    marker: str
    linestyle: str | tuple[int, tuple[float, ...]]


METHOD_STYLES = {
    "dt": MethodStyle("DT", "#0072b2", "o", "-"),
    "tt": MethodStyle("TT", "#ee5a00", "s", (0, (6.0, 1.6))),
    "leap": MethodStyle("LEAP", "#078a8a", "D", (0, (7.0, 1.6, 1.4, 1.6))),
    "cql": MethodStyle("CQL", "#de5a9e", "^", (0, (3.0, 1.4))),
    "iql": MethodStyle("IQL", "#a68e1e", "v", (0, (4.0, 1.4, 1.2, 1.4, 1.2, 1.4))),
    "bc": MethodStyle("BC", "#1f1f1f", "X", (0, (1.4, 1.4))),
    "bc10": MethodStyle("10% BC", "#4a93f0", "P", (0, (1.2, 2.4))),
    "behaviour": MethodStyle("behaviour", "#78896e", ".", (0, (9.0, 3.0))),
}
METHOD_COLOURS = {name: style.colour for name, style in METHOD_STYLES.items()}
METHOD_MARKERS = {name: style.marker for name, style in METHOD_STYLES.items()}
METHOD_LINESTYLES = {name: style.linestyle for name, style in METHOD_STYLES.items()}

TIERS = ("random", "medium-replay", "medium", "medium-expert", "expert")
TIER_COLOURS = {
    tier: mcolors.to_hex(mpl.colormaps["plasma"](position))
    for tier, position in zip(TIERS, (0.62, 0.50, 0.36, 0.22, 0.0), strict=True)
}
"""Darker is better data; from the perceptually uniform map plasma."""

TOKEN_COLOURS = {
    "return": "#e65100",
    "state": "#1f4fb0",
    "action": "#2f9a62",
    "reward": "#7e4291",
    "value": "#77901f",
    "mask": "#748088",
}
"""One colour per kind of token, in diagrams and in attention plots."""

SERIES_COLOURS = ("#22262b", "#3b3fa0", "#2c9386", "#96305f", "#94831a")
"""For curves that are none of the methods, in order; pair them with SERIES_LINESTYLES."""
SERIES_LINESTYLES = (
    "-",
    (0, (6.0, 1.6)),
    (0, (1.4, 1.4)),
    (0, (7.0, 1.6, 1.4, 1.6)),
    (0, (3.0, 1.4)),
)

SEQUENTIAL = "viridis"
"""For maps of one quantity from 0 upwards, such as attention."""


def use_style() -> None:
    """Set matplotlib up for the book, with reproducible SVG output inside a notebook."""
    mpl.rcParams.update(mpl.rcParamsDefault | _keep_backend())
    mpl.rcParams.update(_rc_params())
    _set_notebook_format()


def _keep_backend() -> dict[str, object]:
    return {key: mpl.rcParams[key] for key in ("backend", "interactive")}


def _rc_params() -> dict[str, object]:
    return {
        "figure.figsize": (WIDTH, 0.5 * WIDTH),
        "figure.dpi": 110,
        "figure.facecolor": BACKGROUND,
        "figure.constrained_layout.use": True,
        "savefig.facecolor": BACKGROUND,
        "savefig.bbox": "tight",
        "savefig.pad_inches": 0.08,
        "savefig.dpi": 200,
        "svg.hashsalt": "transformers-take-the-wheel",
        "font.family": "DejaVu Sans",
        "mathtext.fontset": "dejavusans",
        "font.size": 10,
        "axes.labelsize": 10.5,
        "xtick.labelsize": 9.5,
        "ytick.labelsize": 9.5,
        "legend.fontsize": 9.5,
        "text.color": INK,
        "axes.facecolor": BACKGROUND,
        "axes.edgecolor": QUIET,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.prop_cycle": mpl.cycler(color=SERIES_COLOURS)
        + mpl.cycler(linestyle=SERIES_LINESTYLES),
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "lines.linewidth": 1.9,
        "lines.markersize": 5.5,
        "legend.frameon": False,
        "legend.handlelength": 2.8,
        "image.cmap": SEQUENTIAL,
    }


def _set_notebook_format() -> None:
    """Inside IPython, send figures as SVG without a date; elsewhere do nothing."""
    try:
        from IPython import get_ipython
    except ImportError:
        return
    if get_ipython() is None:
        return
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("svg", metadata={"Date": None})


def new_axes(
    columns: int = 1, rows: int = 1, *, height: float = 3.2, **options: object
) -> tuple[Figure, np.ndarray]:
    """A figure as wide as the text column.

    Args:
        columns: panels side by side.
        rows: panels above each other.
        height: inches of one row.
        **options: passed on to `plt.subplots`.

    Returns:
        The figure and its axes, an object array of length rows * columns.
    """
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, height * rows), squeeze=False, **options
    )
    return figure, axes.ravel()


def band(
    ax: Axes,
    x: ArrayLike,
    mean: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    colour: str,
    label: str | None = None,
    **line: object,
) -> Line2D:
    """Draw a line and the band of its 95 % interval.

    Args:
        ax: where to draw.
        x: positions.
        mean: the line.
        low: lower end of the interval.
        high: upper end of the interval.
        colour: of the line; the band is the same colour, lighter.
        label: for the legend.
        **line: passed on to `Axes.plot`, such as linestyle or marker.

    Returns:
        The line.

    Raises:
        ValueError: lengths differ, or the interval is upside down.
    """
    x, mean, low, high = (np.asarray(values, dtype=float) for values in (x, mean, low, high))
    if not len(x) == len(mean) == len(low) == len(high):
        raise ValueError(
            f"band: x, mean, low, high have lengths {len(x)}, {len(mean)}, {len(low)}, "
            f"{len(high)}; give one value of each per point"
        )
    if np.any(low > high):
        raise ValueError("band: low exceeds high somewhere; are the two arguments swapped?")
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    (drawn,) = ax.plot(x, mean, color=colour, label=label, **line)
    return drawn


def method_band(
    ax: Axes,
    method: str,
    x: ArrayLike,
    mean: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    **line: object,
) -> Line2D:
    """`band` in the colour, line style, marker and label of a method of METHOD_STYLES."""
    style = METHOD_STYLES[method]
    options = {"linestyle": style.linestyle, "marker": style.marker, "label": style.label} | line
    return band(ax, x, mean, low, high, colour=style.colour, **options)


def series_look(index: int) -> dict[str, object]:
    """Colour and line style of the curve with that number, as options for `band`."""
    return {"colour": SERIES_COLOURS[index], "linestyle": SERIES_LINESTYLES[index]}


def tint(colour: str, strength: float = 0.2) -> str:
    """Mix a colour into the background: 0 gives the background, 1 the colour itself."""
    mixed = strength * np.array(mcolors.to_rgb(colour)) + (1 - strength) * np.array(
        mcolors.to_rgb(BACKGROUND)
    )
    return mcolors.to_hex(mixed)


def shade(colour: str, strength: float = 0.35) -> str:
    """Mix ink into a colour, for text of that colour on its own tint."""
    mixed = (1 - strength) * np.array(mcolors.to_rgb(colour)) + strength * np.array(
        mcolors.to_rgb(INK)
    )
    return mcolors.to_hex(mixed)


def direct_label(ax: Axes, x: float, y: float, text: str, colour: str, **options: object) -> None:
    """Write a curve's name beside it, which is read faster than a legend."""
    ax.annotate(
        text,
        (x, y),
        **(
            {
                "xytext": (6, 0),
                "textcoords": "offset points",
                "va": "center",
                "ha": "left",
                "color": shade(colour),
                "fontsize": 9.5,
                "annotation_clip": False,
            }
            | options
        ),
    )


def rows_downwards(ax: Axes, labels: Sequence[str], top: float) -> None:
    """A labelled row at each whole number, the first one on top; values are read along x."""
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, top)
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
