"""Pictures of attention: maps with what each token is, and scores beside those of null models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch

from helpers.analysis.attention import AttentionMaps
from helpers.analysis.statistics import Interval
from helpers.plotting import GRID, INK, QUIET, SEQUENTIAL, SERIES_COLOURS, TOKEN_COLOURS

KIND_COLOURS = TOKEN_COLOURS | {"level": INK, "END": SERIES_COLOURS[3], "MASK": "#b9bfc4"}


def draw_map(
    ax: Axes,
    maps: AttentionMaps,
    weights: Float[np.ndarray, "L L"],
    *,
    lift: bool = True,
    largest: float = 8.0,
) -> AxesImage:
    """One map: queries are rows, keys are columns, strips along both sides give the kinds.

    Args:
        ax: where to draw.
        maps: of which the first window says who may look at whom, and what the tokens are.
        weights: of one head, or an average.
        lift: show each weight over an even share, on a logarithmic scale around 1, with forbidden
            keys blank; otherwise the weights themselves.
        largest: ends of the scale, 1 / `largest` to `largest`.

    Returns:
        The image, for a colour bar.
    """
    allowed, keys = maps.allowed[0].numpy(), maps.keys[0].numpy()
    if lift:
        shown = np.where(allowed, weights * keys[:, None], np.nan).clip(1 / largest, largest)
        options = {"cmap": "PuOr_r", "norm": LogNorm(1 / largest, largest)}
        ax.set_facecolor(GRID)
    else:
        shown, options = weights, {"cmap": SEQUENTIAL, "vmin": 0}
    image = ax.imshow(shown, interpolation="nearest", aspect="equal", **options)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    names = [maps.names[kind] for kind in maps.kinds[0]]
    _strip(ax.inset_axes((0.0, -0.055, 1.0, 0.035)), names, horizontal=True)
    _strip(ax.inset_axes((-0.055, 0.0, 0.035, 1.0)), names, horizontal=False)
    return image


def _strip(ax: Axes, names: Sequence[str], *, horizontal: bool) -> None:
    order = list(dict.fromkeys(names))
    numbers = np.array([order.index(name) for name in names])
    table = ListedColormap([KIND_COLOURS[name] for name in order])
    shape = (1, -1) if horizontal else (-1, 1)
    ax.imshow(numbers.reshape(shape), cmap=table, aspect="auto", vmin=-0.5, vmax=len(order) - 0.5)
    ax.set_axis_off()


def kind_legend(figure: Figure, names: Sequence[str], **options: object) -> None:
    """What the colours of the strips mean, below the figure."""
    patches = [Patch(color=KIND_COLOURS[name], label=name) for name in names]
    place = {"loc": "lower center", "ncols": len(patches), "frameon": False, "fontsize": 9}
    figure.legend(handles=patches, **{**place, **options})


def lift_bar(figure: Figure, image: AxesImage, axes: Sequence[Axes]) -> None:
    """What the colours of lifts mean, to the right of `axes`."""
    bar = figure.colorbar(image, ax=list(axes), shrink=0.7, aspect=24, pad=0.015)
    low, high = image.get_clim()
    ticks = [tick for tick in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8) if low <= tick <= high]
    bar.set_ticks(ticks, labels=[f"1/{1 / tick:.0f}" if tick < 1 else f"{tick}" for tick in ticks])
    bar.minorticks_off()
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8.5)
    bar.set_label("lift", fontsize=9)


def draw_scores(
    ax: Axes,
    rows: Mapping[str, Interval],
    nulls: Mapping[str, Mapping[str, float]],
    colours: Sequence[str],
) -> None:
    """A mark with its interval for each row, and small marks where null models stand.

    Args:
        ax: where to draw; rows run downwards.
        rows: scores by name.
        nulls: scores of each null model by the same names.
        colours: one a row.
    """
    heights = np.arange(len(rows))[::-1]
    for y, interval, colour in zip(heights, rows.values(), colours, strict=True):
        ax.hlines(y, interval.low, interval.high, color=colour, lw=2.4, zorder=3)
        ax.plot(interval.score, y, "o", color=colour, ms=5.5, zorder=4)
    for marker, (name, values) in zip(("|", "x"), nulls.items(), strict=False):
        at = [values[row] for row in rows]
        ax.plot(at, heights, marker, color=QUIET, ms=7, mew=1.3, linestyle="none", label=name)
    ax.set_yticks(heights, list(rows))
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.grid(axis="y", visible=False)


def draw_heads(
    ax: Axes,
    looks: Float[np.ndarray, " heads"],
    matters: Float[np.ndarray, " heads"],
    labels: Sequence[str],
    colours: Sequence[str] | str,
) -> None:
    """How striking each head looks against how much its loss changes, with its name beside it."""
    ax.scatter(looks, matters, s=28, c=colours, zorder=3)
    for x, y, label in zip(looks, matters, labels, strict=True):
        ax.annotate(label, (x, y), xytext=(4, 2), textcoords="offset points", fontsize=7.5,
                    color=QUIET)  # fmt: skip
    ax.set_ylim(bottom=0)


def mean_map(maps: AttentionMaps, layer: int) -> Float[np.ndarray, "L L"]:
    """A layer's weights averaged over windows and heads; windows must be alike in who sees whom.

    Raises:
        ValueError: windows of different masks, whose average would mix allowed and forbidden keys.
    """
    same: Bool[np.ndarray, ""] = (maps.allowed == maps.allowed[:1]).all().numpy()
    if not same:
        raise ValueError("the windows differ in who may look at whom; average alike windows only")
    return maps.weights[layer].mean(dim=(0, 1)).numpy()


def head_labels(layers: int, heads: int) -> list[str]:
    """Such as 2.1: second layer, first head."""
    numbers: Int[np.ndarray, "n 2"] = np.argwhere(np.ones((layers, heads), bool)) + 1
    return [f"{layer}.{head}" for layer, head in numbers]
