"""The benchmark's figures: a row a method, with models, episodes and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from helpers.analysis.statistics import performance_profile
from helpers.benchmark import Cell, Cells, Kind, model_scores
from helpers.plotting import BACKGROUND, INK, METHOD_STYLES, QUIET, rows_downwards


def draw_methods(
    ax: Axes,
    cells: Mapping[str, Cell],
    labels: Sequence[str],
    *,
    episodes: bool = False,
    hollow: Mapping[str, float] | None = None,
    reference: float | None = None,
) -> None:
    """One row a method: mean with its interval, below it a small mark for each model.

    Args:
        ax: where to draw; the rows run downwards in the order of `labels`.
        cells: results of one set, by label; a label without a cell leaves its row empty.
        labels: of all rows.
        episodes: also draw each episode as a tick.
        hollow: another value for a row, drawn as a hollow diamond.
        reference: value of a dashed line.
    """
    for row, label in enumerate(labels):
        if label not in cells:
            ax.text(0.02, row, "not run", transform=ax.get_yaxis_transform(), va="center",
                    color=QUIET, fontsize=8.5)  # fmt: skip
            continue
        cell = cells[label]
        style = METHOD_STYLES[cell.entry.style]
        for i, values in enumerate(cell.scores):
            height = row + 0.15 + 0.16 * i
            if episodes:
                ax.plot(values, np.full(len(values), height), "|", color=style.colour, ms=3.6,
                        mew=0.7, alpha=0.45, rasterized=True)  # fmt: skip
                ax.plot(values.mean(), height, "|", color=INK, ms=6, mew=1.6)
            else:
                ax.plot(values.mean(), height, style.marker, color=style.colour, ms=4)
        interval = cell.interval
        ax.plot([interval.low, interval.high], [row - 0.1] * 2, color=style.colour, lw=2.4,
                linestyle="-")  # fmt: skip
        ax.plot(interval.score, row - 0.1, marker=style.marker, ms=7, color=style.colour)
        if hollow and label in hollow:
            ax.plot(hollow[label], row - 0.36, "D", ms=5.5, mfc=BACKGROUND, mec=INK, mew=1.2)
    if reference is not None:
        ax.axvline(reference, color=QUIET, lw=1, linestyle="--", zorder=0)
    rows_downwards(ax, labels, -0.6)


def hollow_key(text: str) -> Line2D:
    """What a legend shows for the hollow diamonds of `draw_methods`."""
    return Line2D([], [], marker="D", ms=6, mfc=BACKGROUND, mec=INK, mew=1.2, lw=0, label=text)


def draw_profiles(
    ax: Axes, kind: Kind, cells: Cells, thresholds: Float[np.ndarray, " n"], seed: int = 0
) -> None:
    """Share of models above each threshold, a curve a method that has all sets of the kind."""
    for entry in kind.entries:
        if not (scores := model_scores(kind, cells, entry.label)):
            continue
        style = METHOD_STYLES[entry.style]
        shares = performance_profile(scores, thresholds, seed)
        low, high = ([getattr(s, end) for s in shares] for end in ("low", "high"))
        ax.fill_between(thresholds, low, high, step="post", color=style.colour, alpha=0.1, lw=0)
        ax.step(thresholds, [s.score for s in shares], where="post", color=style.colour,
                linestyle=style.linestyle, label=entry.label)  # fmt: skip
    ax.set(xlabel=f"{kind.score}, {kind.title}", ylim=(-0.02, 1.02))


def draw_gains(
    ax: Axes,
    labels: Sequence[str],
    styles: Sequence[str],
    reported: Float[np.ndarray, "methods sets"],
    kept: Float[np.ndarray, "methods sets"] | None = None,
) -> None:
    """What a choice of checkpoints adds: filled as reported, hollow on other episodes.

    Small marks are sets, large ones their means.
    """
    for row, (style, values) in enumerate(zip(styles, reported, strict=True)):
        look = METHOD_STYLES[style]
        if len(values) > 1:
            ax.plot(values, [row - 0.14] * len(values), look.marker, ms=4, color=look.colour,
                    alpha=0.5)  # fmt: skip
        ax.plot([0, values.mean()], [row - 0.14] * 2, color=look.colour, lw=1.2, linestyle="-")
        ax.plot(values.mean(), row - 0.14, marker=look.marker, ms=7.5, color=look.colour)
        if kept is not None:
            ax.plot(kept[row], [row + 0.2] * kept.shape[1], "D", ms=3.2, mfc=BACKGROUND,
                    mec=look.colour, alpha=0.6)  # fmt: skip
            ax.plot(kept[row].mean(), row + 0.2, "D", ms=6, mfc=BACKGROUND, mec=INK, mew=1.2)
    ax.axvline(0, color=QUIET, lw=0.9, linestyle="-", zorder=0)
    rows_downwards(ax, labels, -0.5)
