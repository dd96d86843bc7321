"""The ledger: every experiment with its command, seeds, minutes and machine.

The table stands on a page of its own, book/runs.md; `python -m helpers ledger` writes it anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from helpers import paths
from helpers.experiments import Run, load_experiments
from helpers.files import read_json

PAGE = Path("book/runs.md")
BEGIN, END = "<!-- ledger: begin -->", "<!-- ledger: end -->"


def ledger_rows() -> list[dict[str, Any]]:
    """One row an experiment, in the order of `experiments.toml`."""
    rows = []
    for name, runs in load_experiments().items():
        results = [read_json(run.result_path()) for run in runs if run.state() == "done"]
        rows.append(
            {
                "experiment": name,
                "method": runs[0].method,
                "cells": len({(run.dataset, run.demonstrations) for run in runs}),
                "seeds": sorted({run.seed for run in runs}),
                "done": len(results),
                "of": len(runs),
                "train": _minutes(results, "train_seconds"),
                "evaluate": _minutes(results, "evaluation_seconds"),
                "needs": _needs(runs[0]),
            }
        )
    return rows


def _minutes(results: Sequence[dict[str, Any]], key: str) -> tuple[float, float] | None:
    """Least and most minutes of a run."""
    minutes = [result.get(key, 0.0) / 60.0 for result in results]
    return (float(np.min(minutes)), float(np.max(minutes))) if minutes else None


def _needs(run: Run) -> list[str]:
    """Experiments whose models a run plays, asks or imitates."""
    return [partner.experiment for partner in run.partners.values()]


def ledger_table() -> str:
    """The rows as a table in Markdown."""
    lines = [
        "| `python -m helpers run` | Method | Sets | Seeds | Results | Training (min) "
        "| Playing (min) | Needs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in ledger_rows():
        cells = (
            f"`{row['experiment']}`",
            row["method"],
            str(row["cells"]),
            ", ".join(map(str, row["seeds"])),
            f"{row['done']} of {row['of']}",
            _span(row["train"]),
            _span(row["evaluate"]),
            ", ".join(f"`{name}`" for name in row["needs"]) or "–",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _span(minutes: tuple[float, float] | None) -> str:
    if minutes is None:
        return "not run"
    if minutes[1] == 0:
        return "–"
    low, high = (f"{x:.1f}" if x < 9.95 else f"{x:.0f}" for x in minutes)
    return low if low == high else f"{low} to {high}"


def totals() -> str:
    """What trainings and final evaluations took, and where: a sentence in Markdown."""
    declared = sum(map(len, load_experiments().values()))
    results = [
        read_json(run.result_path())
        for runs in load_experiments().values()
        for run in runs
        if run.state() == "done"
    ]
    seconds = [r.get("train_seconds", 0.0) + r.get("evaluation_seconds", 0.0) for r in results]
    machines = sorted({result["versions"]["machine"] for result in results})
    return (
        f"There are {len(results)} results of {declared} declared runs. Their trainings and final "
        f"evaluations took {sum(seconds) / 3600:.0f} hours of one core, on machines of the kind "
        f"{'; '.join(machines)}."
    )


def page_with_ledger() -> tuple[Path, str]:
    """The page with the table of the present results, and where it belongs."""
    path = paths.ROOT / PAGE
    text = path.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return path, f"{before}{BEGIN}\n\n{totals()}\n\n{ledger_table()}\n\n{END}{after}"
