"""The ledger: every experiment with its command, seeds, minutes, machine and chapters.

The tables stand on a page of their own, book/runs.md; `python -m helpers ledger` writes them anew.
Which chapter reads what is not declared anywhere: while a chapter is executed, `runs.obtain` notes
what it is asked for. In a clone in which no chapter was executed, the page keeps what it says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from helpers import paths
from helpers.experiments import Run, load_experiments
from helpers.files import read_json

PAGE = Path("book/runs.md")
BEGIN, END = "<!-- ledger: begin -->", "<!-- ledger: end -->"
CHAPTERS_BEGIN, CHAPTERS_END = "<!-- chapters: begin -->", "<!-- chapters: end -->"
READ_LOG = "HELPERS_READ_LOG"
"""Environment variable: the file to which a chapter's kernel adds the experiments it reads."""
READS = ".reads.txt"
"""Suffix of that file beside an executed chapter."""


def note_read(experiment: str) -> None:
    """Note that a chapter wants a result of this experiment; nothing outside an execution."""
    if log := os.environ.get(READ_LOG):
        with Path(log).open("a") as file:
            file.write(f"{experiment}\n")


def noted_reads(chapter: Path) -> set[str]:
    """Experiments that an executed chapter (its notebook) asked for."""
    return set(chapter.with_suffix(READS).read_text().split())


def chapter_reads(executed: Path | None = None) -> dict[str, list[str]]:
    """Experiments that each chapter reads, in the order of `experiments.toml`, by its stem.

    Args:
        executed: folder of chapters executed in the profile book; one that is not there, or was
            executed with other parameters, has what the page says. None: all have.
    """
    from helpers.book import chapters

    rows = re.findall(r"^\| \[\d\d\]\(chapters/(\w+)\.ipynb\) \|(.*)$", _page(), re.MULTILINE)
    reads = {stem: set(re.findall("`([^`]+)`", row)) for stem, row in rows}
    for source in chapters() if executed else ():
        notebook = executed / f"{source.stem}.ipynb"
        stamp = notebook.with_suffix(".stamp.json")
        noted = notebook.with_suffix(READS).exists() and stamp.exists()
        if noted and read_json(stamp)["parameters"] == {}:
            reads[source.stem] = noted_reads(notebook)
    known = load_experiments()
    return {
        source.stem: [name for name in known if name in reads.get(source.stem, ())]
        for source in chapters()
    }


def chapter_table(reads: Mapping[str, Sequence[str]]) -> str:
    """What each chapter reads and what it took to make it, as a table in Markdown."""
    lines = ["| Chapter | Reads results of | Results | Hours of one core |", "|---|---|---|---|"]
    for stem, names in reads.items():
        results = [result for name in names for result in _results(load_experiments()[name])]
        hours = f"{sum(map(_seconds, results)) / 3600:.1f}" if results else "–"
        shown = ", ".join(f"`{name}`" for name in names) or "none"
        link = f"[{stem[:2]}](chapters/{stem}.ipynb)"
        lines.append(f"| {link} | {shown} | {len(results) or '–'} | {hours} |")
    return "\n".join(lines)


def _results(runs: Sequence[Run]) -> list[dict[str, Any]]:
    return [read_json(run.result_path()) for run in runs if run.state() == "done"]


def _seconds(result: Mapping[str, Any]) -> float:
    return result.get("train_seconds", 0.0) + result.get("evaluation_seconds", 0.0)


def _page() -> str:
    return (paths.ROOT / PAGE).read_text()


def ledger_rows() -> list[dict[str, Any]]:
    """One row an experiment, in the order of `experiments.toml`."""
    rows = []
    for name, runs in load_experiments().items():
        results = _results(runs)
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


def ledger_table(reads: Mapping[str, Sequence[str]]) -> str:
    """The rows as a table in Markdown; `reads` is what each chapter reads."""
    lines = [
        "| `python -m helpers run` | Method | Sets | Seeds | Results | Training (min) "
        "| Playing (min) | Needs | Chapters |",
        "|---|---|---|---|---|---|---|---|---|",
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
            ", ".join(str(int(c[:2])) for c in reads if row["experiment"] in reads[c]) or "–",
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
    results = [result for runs in load_experiments().values() for result in _results(runs)]
    seconds = map(_seconds, results)
    machines = sorted({_machine(result["versions"]) for result in results})
    return (
        f"There are {len(results)} results of {declared} declared runs. Their trainings and final "
        f"evaluations took {sum(seconds) / 3600:.0f} hours of one core, on machines of the kind "
        f"{'; '.join(machines)}."
    )


def _machine(versions: Mapping[str, str]) -> str:
    """Such as x86_64, 2 cores; and the processor, which older results do not name."""
    return ", ".join(versions[key] for key in ("machine", "processor") if key in versions)


def page_with_ledger(executed: Path | None = None) -> tuple[Path, str]:
    """The page with the tables of the present results, and where it belongs.

    Args:
        executed: as in `chapter_reads`.
    """
    text, reads = _page(), chapter_reads(executed)
    for begin, end, inside in (
        (CHAPTERS_BEGIN, CHAPTERS_END, chapter_table(reads)),
        (BEGIN, END, f"{totals()}\n\n{ledger_table(reads)}"),
    ):
        before, after = text.split(begin)[0], text.split(end)[1]
        text = f"{before}{begin}\n\n{inside}\n\n{end}{after}"
    return paths.ROOT / PAGE, text
