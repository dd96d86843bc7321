"""The verdicts on the post's claims: as a table, as a picture, and by topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np
from matplotlib.axes import Axes

from helpers.analysis.statistics import Interval
from helpers.claims import VERDICTS, Judged
from helpers.plotting import INK, QUIET, SERIES_COLOURS

MARKS = {"supported": "\N{CHECK MARK}", "refuted": "\N{BALLOT X}", "inconclusive": "?"}
LOOKS = {
    "supported": (SERIES_COLOURS[2], "o"),
    "inconclusive": (QUIET, "s"),
    "refuted": (SERIES_COLOURS[3], "X"),
}
"""Colour and marker of a verdict, in the order in which figures show them."""


# --- numbers -----------------------------------------------------------------------------------


def number(value: float, size: float | None = None) -> str:
    """With as many digits as a number of that size needs; typographic minus."""
    size = abs(value) if size is None else size
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:z,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def plain(value: float) -> str:
    """A threshold as it is written in the file."""
    return f"{value:,g}".replace("-", "\N{MINUS SIGN}")


def text(interval: Interval) -> str:
    """Such as 9.75 (7.50 to 12.08); a number that is counted stands alone."""
    values = (interval.score, interval.low, interval.high)
    size = float(np.abs(values).max())
    score, low, high = (number(value, size) for value in values)
    return score if interval.low == interval.high else f"{score} ({low} to {high})"


def measured(interval: Interval) -> str:
    """As `text`, but never alone: what is measured has an interval, even if it has no width."""
    shown = text(interval)
    return shown if " (" in shown else f"{shown} ({shown} to {shown})"


def stacked(shown: str) -> str:
    """As HTML: the interval below the number, each on one line."""
    return shown.replace(" (", "<br>(").replace(" to ", "&nbsp;to&nbsp;")


def in_words(name: str) -> str:
    """The name of a claim as figures show it."""
    return name.replace("-", " ")


# --- verdicts ----------------------------------------------------------------------------------


def counts(judged: Sequence[Judged]) -> dict[str, int]:
    """Number of claims of each verdict."""
    found = Counter(one.verdict for one in judged)
    return {verdict: found[verdict] for verdict in VERDICTS}


def topics(judged: Sequence[Judged]) -> list[str]:
    """All topics in the order of the file."""
    return list(dict.fromkeys(one.claim.topic for one in judged))


def chapter_link(target: str, shown: str = "") -> str:
    """To a chapter's page, as HTML, or to what has a name there.

    Args:
        target: file of the chapter without its ending; behind a #, the name of a figure or table.
        shown: instead of the words of the file's name.
    """
    chapter, mark, name = target.partition("#")
    words = chapter.partition("_")[2].replace("_", " ")
    return f'<a href="{chapter}.html{mark}{name}">{shown or words}</a>'


def verdict_table(judged: Sequence[Judged]) -> str:
    """All claims by topic, as HTML; every row is a target for links, `claim-` and its id."""
    head = ("claim (section of the post)", "test", "statistic", "verdict")
    rows = []
    for topic in topics(judged):
        rows.append(f'<tr><th colspan="{len(head)}" scope="rowgroup">{escape(topic)}</th></tr>')
        rows += [_row(one) for one in judged if one.claim.topic == topic]
    return table(head, rows)


def _row(one: Judged) -> str:
    claim = one.claim
    cells = (
        f"<i>{in_words(claim.id)}</i> ({escape(claim.section)})<br>{escape(claim.claim)}",
        f"{escape(claim.test)} ({chapter_link(claim.chapter)})",
        f"{stacked(text(one.interval))}<br>threshold&nbsp;{plain(claim.threshold)}",
        f"{MARKS[one.verdict]}&nbsp;{one.verdict}",
    )
    return f'<tr id="claim-{claim.id}">' + "".join(f"<td>{c}</td>" for c in cells) + "</tr>"


def table(head: Sequence[str], rows: Sequence[str]) -> str:
    """As HTML, in the look of the chapter's tables."""
    titles = "".join(f"<th>{title}</th>" for title in head)
    return (
        f'<table class="dense ruled"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def topic_table(judged: Sequence[Judged]) -> str:
    """Names of the claims by topic and verdict, as HTML; each leads to its row."""
    rows = []
    for topic in topics(judged):
        cells = []
        for verdict in LOOKS:
            names = [one.claim.id for one in judged
                     if one.claim.topic == topic and one.verdict == verdict]  # fmt: skip
            links = [f'<a href="#claim-{name}">{in_words(name)}</a>' for name in names]
            cells.append(f"<td>{'; '.join(links) or chr(0x2013)}</td>")
        rows.append(f"<tr><th>{escape(topic)}</th>{''.join(cells)}</tr>")
    return table(("topic", *(f"{MARKS[verdict]} {verdict}" for verdict in LOOKS)), rows)


def draw_verdicts(ax: Axes, judged: Sequence[Judged]) -> None:
    """One row a claim: its interval relative to its threshold, which is the vertical line.

    Statistics have different units, so each row has a scale of its own: the end of the interval
    that is further from the threshold lies at 1 or -1. On the right, statistic and threshold.
    """
    row, ticks = 0.0, []
    for verdict, (colour, marker) in LOOKS.items():
        group = [one for one in judged if one.verdict == verdict]
        ax.text(-1.08, row, f"{MARKS[verdict]} {verdict} ({len(group)})", color=colour,
                fontsize=8.5, fontweight="bold", va="center")  # fmt: skip
        for one in sorted(group, key=lambda one: -_scaled(one)[0]):
            row += 1
            score, low, high = _scaled(one)
            ax.plot([low, high], [row, row], color=colour, lw=2.2, linestyle="-")
            ax.plot(score, row, marker, color=colour, ms=5)
            shown = f"{number(one.interval.score)}  |  {plain(one.claim.threshold)}"
            ax.text(1.08, row, shown, fontsize=6.8, va="center", color=INK)
            ticks.append((row, in_words(one.claim.id)))
        row += 1.6
    ax.axvline(0, color=INK, lw=1, linestyle="-")
    ax.set_yticks([at for at, _ in ticks], [name for _, name in ticks], fontsize=7)
    ax.set(xlim=(-1.1, 1.1), ylim=(row - 0.6, -1), xticks=[-1, 0, 1])
    ax.set_xticklabels(["against the claim", "threshold", "for the claim"], fontsize=8)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")


def _scaled(one: Judged) -> tuple[float, float, float]:
    """Score, low and high less the threshold, over the larger distance of an end from it."""
    interval, threshold = one.interval, one.claim.threshold
    values = np.array([interval.score, interval.low, interval.high]) - threshold
    return tuple(values / max(np.abs(values).max(), 1e-12))
