"""The benchmark's tables: scores, summaries, costs, and what others published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from helpers import published
from helpers.analysis.statistics import Interval, improvement_interval, iqm_interval
from helpers.benchmark import KINDS, Cell, Cells, Kind, column, leaders, model_scores
from helpers.train import TrainConfig

MISSING = "\N{EN DASH}"
ROWS = ("BC", "10% BC", "filtered BC", "IQL", "CQL", "DT", "TT", "LEAP")
"""Methods that are trained, in the order of tables over all kinds."""


def text(interval: Interval, digits: int = 1) -> str:
    """Such as 41.5 (41.0 to 42.0)."""
    return f"{interval:z.{digits}f}".replace("-", "\N{MINUS SIGN}")


def listed(names: Sequence[str], nothing: str = "none") -> str:
    """Such as "A, B and C"."""
    *most, last = names or [nothing]
    return f"{', '.join(most)} and {last}" if most else last


def score_table(kind: Kind, cells: Cells) -> pd.DataFrame:
    """A row for each method, a column for each set, as HTML; leaders of a column are bold."""
    table = pd.DataFrame(index=[entry.label for entry in kind.entries], columns=[], dtype=object)
    for dataset, name in kind.datasets.items():
        cells_of_set = column(cells, dataset)
        bold = leaders(cells_of_set)
        table[name] = [
            _html(cells_of_set[label], label in bold) if label in cells_of_set else MISSING
            for label in table.index
        ]
    return table


def _html(cell: Cell, bold: bool) -> str:
    interval = text(cell.interval)
    shown = f"<b>{interval}</b>" if bold else interval
    best = "" if cell.best is None else f"<br><small>best check {cell.best:z.1f}</small>"
    return shown + best.replace("-", "\N{MINUS SIGN}")


def summary_table(kind: Kind, cells: Cells, ours: str) -> pd.DataFrame:
    """Interquartile mean of each method that has all sets, and how often `ours` beats it."""
    reference = model_scores(kind, cells, ours)
    rows = {}
    for entry in kind.entries:
        if not (scores := model_scores(kind, cells, entry.label)):
            continue
        beaten = MISSING
        if entry.label != ours:
            beaten = text(improvement_interval(reference, scores), digits=2)
        rows[entry.label] = {
            "interquartile mean": text(iqm_interval(scores)),
            f"probability that {ours} is better": beaten,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def cost_table(cells: Mapping[str, Cells]) -> pd.DataFrame:
    """Minutes of training for one seed, with updates and batch, by method and kind.

    Args:
        cells: by key of `KINDS`.
    """
    table: dict[str, dict[str, str]] = {}
    for key, kind in KINDS.items():
        for entry in kind.entries:
            own = [cell for (label, _), cell in cells[key].items() if label == entry.label]
            if own and entry.label in ROWS:
                table.setdefault(entry.label, {})[kind.title] = _cost(own)
    order = [label for label in ROWS if label in table]
    return pd.DataFrame.from_dict(table, orient="index").loc[order].fillna(MISSING)


def _cost(cells: Sequence[Cell]) -> str:
    minutes = np.concatenate([cell.minutes for cell in cells])
    low, high = (f"{x:.1f}" if x < 9.95 else f"{x:.0f}" for x in (minutes.min(), minutes.max()))
    train = TrainConfig(**cells[0].results[0]["run"]["train"])
    span = low if low == high else f"{low} to {high}"
    return f"{span}<br><small>{train.steps:,} × {train.batch_size}</small>"


# --- published numbers -------------------------------------------------------------------------

PAPERS = {
    "BC": ("dt", "locomotion", "BC"),
    "10% BC": ("dt", "percentile", "10% BC"),
    "IQL": ("iql", "locomotion", "IQL"),
    "CQL": ("tt", "locomotion", "CQL"),
    "DT": ("dt", "locomotion", "DT"),
    "TT": ("tt", "locomotion", "TT quantile"),
}
"""Where each method's scores on D4RL were first printed, or first on the v2 sets (CQL's, which the
authors of IQL made and the TT paper shows): file, table and method of data/published."""


def published_score(name: str, table: str, method: str, task: str) -> str:
    """A score with its spread, as published; a dash where there is none."""
    rows = published.scores(name)
    rows = rows[(rows["table"] == table) & (rows["method"] == method) & (rows["task"] == task)]
    if rows.empty:
        return MISSING
    row = rows.iloc[0]
    spread = "" if np.isnan(row["spread"]) else f" ± {row['spread']:.1f}"
    return f"{row['score']:.1f}{spread}"


def beside_published(cells: Cells) -> pd.DataFrame:
    """HalfCheetah: our scores, those of the methods' papers and CORL's, a row a set and method."""
    kind, rows = KINDS["halfcheetah"], []
    for dataset, tier in kind.datasets.items():
        task = dataset.replace("/", "-")
        for label, where in PAPERS.items():
            cell = cells.get((label, dataset))
            rows.append(
                {
                    "set": tier,
                    "method": label,
                    "ours (v5, our sets)": MISSING if cell is None else text(cell.interval),
                    "its paper (v2 sets)": published_score(*where, task),
                    "CORL, last (v2 sets)": published_score("corl", "locomotion", label, task),
                }
            )
    return pd.DataFrame(rows)


def post_table() -> pd.DataFrame:
    """The post's table cell by cell: what it printed, what its sources give, and why."""
    rows = [
        {
            "benchmark": {"locomotion": "Locomotion", "atari": "Atari", "antmaze": "AntMaze"}[
                cell.domain
            ],
            "method": cell.method,
            "printed": cell.printed or MISSING,
            "sources": MISSING if cell.computed is None else f"{cell.computed:.1f}",
            "verdict": cell.verdict,
            "why": cell.explanation,
        }
        for cell in published.post_cells()
    ]
    order = ["Locomotion", "Atari", "AntMaze"]
    return pd.DataFrame(rows).sort_values(
        "benchmark", key=lambda names: names.map(order.index), kind="stable"
    )
