"""The tables of the data chapter: levels, datasets and their cards, from the registry."""

from __future__ import annotations

import html

import pandas as pd

from helpers import paths
from helpers.data.cards import facts
from helpers.data.catalogue import DATASETS, DatasetSpec, registry
from helpers.files import read_json
from helpers.tasks import BABYAI_LEVELS, TASKS, get_task

LEAP_LENGTHS = {
    "gotolocal-s7n5": 2367 / 500,
    "gotolocal-s8n7": 2787 / 500,
    "gotoobjmaze-s4": 5453 / 500,
    "gotoobjmaze-s7": 10216 / 500,
    "pickuploc": 3205 / 500,
}
"""Mean length of LEAP's demonstrations, steps by episodes: counted by us in the 500 demonstrations
per level that its code ships (hychen-naza/LEAP, babyai/demos). Its file of S4R2 has open doors,
unlike the level that it evaluates and that ours is; of GoToSeq it ships none."""


NARROW = "\N{NARROW NO-BREAK SPACE}"


def level_table() -> pd.DataFrame:
    """A row for each BabyAI level: its size, its limit and its demonstrations."""
    known = registry()
    rows = []
    for name, task in TASKS.items():
        if name.removeprefix("babyai-") not in BABYAI_LEVELS:
            continue
        level, entry = name.removeprefix("babyai-"), known[f"{name}/expert"]
        width, height, _ = task.layout["grid"]
        published = LEAP_LENGTHS.get(level)
        rows.append(
            {
                "level": level,
                "grid": f"{width}{NARROW}×{NARROW}{height}",
                "step limit": task.horizon,
                "missions": f"{entry['missions']:,}",
                "demonstrations": f"{entry['episodes']:,}",
                "mean length": f"{entry['length_mean']:.1f}",
                "LEAP's": "" if published is None else f"{published:.1f}",
            }
        )
    return pd.DataFrame(rows)


def dataset_table() -> pd.DataFrame:
    """A row for each dataset of the book."""
    known = registry()
    rows = []
    for name, spec in DATASETS.items():
        entry = known[name]
        digits = 0 if abs(entry["return_mean"]) > 100 else 2
        mean, deviation = entry["return_mean"], entry["return_std"]
        rows.append(
            {
                "dataset": name,
                "what it holds": spec.description,
                "episodes": f"{entry['episodes']:,}",
                "steps": f"{entry['steps']:,}",
                "return": f"{_number(mean, digits)}{NARROW}±{NARROW}{_number(deviation, digits)}",
                "S": f"{get_task(spec.task).observation_size:,}",
            }
        )
    return pd.DataFrame(rows)


def _number(value: float, digits: int) -> str:
    return f"{value:z,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def cards_html() -> str:
    """The card of each dataset, folded, as HTML."""
    cards = "\n".join(_card_html(spec) for spec in DATASETS.values())
    return f'<div class="cards">\n{cards}\n</div>'


def _card_html(spec: DatasetSpec) -> str:
    task, entry = get_task(spec.task), registry()[spec.id]
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(value)}</td></tr>'
        for name, value in facts(task, entry)
    )
    metadata = read_json(paths.SAMPLES / spec.minari_id / "data" / "metadata.json")
    return (
        f"<details><summary><code>{spec.id}</code></summary>\n"
        f"<p>{html.escape(task.env_id)}: {html.escape(spec.description)}.</p>\n"
        f"<table>{rows}</table>\n"
        f"<p>Made by <code>python -m helpers collect {spec.id}</code> with "
        f"{html.escape(', '.join(sorted(metadata['requirements'])))}. SHA-256 of the arrays: "
        f"<code>{entry['sha256'][:16]}</code>.</p></details>"
    )
