"""What is in a dataset: the registry's entry and the card that lies beside the data."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int

from helpers.data.catalogue import DatasetSpec
from helpers.data.episodes import Dataset
from helpers.envs.grids import unpack
from helpers.tasks import Task

KEPT_EPISODES = 1000
"""Episodes whose return and length are listed in the registry."""
FINAL_SEED = 500_000
"""First environment seed of the final evaluation; intermediate ones start at 0, the sweep at
600,000. All lie below the seeds of SAC (1,000,000s) and of the datasets (10,000,000s)."""
EVALUATION_LEVELS = 200


def describe(dataset: Dataset, task: Task) -> dict[str, Any]:
    """Registry entry: hash, sizes, returns, and what the actions and observations are like.

    `returns` and `lengths` list every episode, or 1,000 evenly spaced ones of a larger set.
    """
    returns, lengths, episodes = dataset.returns, dataset.lengths, len(dataset.lengths)
    kept = np.linspace(0, episodes - 1, min(episodes, KEPT_EPISODES)).round().astype(int)
    entry = {
        "sha256": dataset.content_hash(),
        "episodes": episodes,
        "steps": int(lengths.sum()),
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
        "length_mean": float(lengths.mean()),
        "length_max": int(lengths.max()),
        "terminated": float(dataset.terminated.mean()),
        "returns": [round(float(r), 2) for r in returns[kept]],
        "lengths": [int(n) for n in lengths[kept]],
    }
    if task.discrete:
        entry["actions"] = np.bincount(dataset.actions, minlength=task.action_size).tolist()
    if dataset.observations.dtype.kind == "f":
        entry["observation_mean"] = [float(x) for x in dataset.observations.mean(axis=0)]
        entry["observation_std"] = [float(x) for x in dataset.observations.std(axis=0)]
    if "pose" in task.layout:
        entry.update(_describe_grids(dataset, task))
    return entry


def _describe_grids(dataset: Dataset, task: Task) -> dict[str, Any]:
    """Missions, levels, levels that the evaluation will meet again, and where the agent was."""
    first = np.asarray(dataset.observations[dataset.starts])
    levels = {row.tobytes() for row in first}
    env = task.make()
    seeds = range(FINAL_SEED, FINAL_SEED + EVALUATION_LEVELS)
    tested = [task.pack(env.reset(seed=seed)[0]).tobytes() for seed in seeds]
    return {
        "missions": len(np.unique(unpack(first, task.layout)["mission"], axis=0)),
        "levels": len(levels),
        "tested_levels_met": sum(level in levels for level in tested),
        "visits": _visits(dataset, task).tolist(),
    }


def _visits(dataset: Dataset, task: Task) -> Int[np.ndarray, "W H"]:
    """Steps at which the agent stood in each cell."""
    pose = unpack(dataset.observations, task.layout)["pose"]
    width, height, _ = task.layout["grid"]
    cells = np.ravel_multi_index((pose[:, 0], pose[:, 1]), (width, height))
    return np.bincount(cells, minlength=width * height).reshape(width, height)


def facts(task: Task, entry: dict[str, Any]) -> list[tuple[str, str]]:
    """What a card tells in its table, as pairs of a name and a value."""
    sizes = [
        ("episodes", f"{entry['episodes']:,}"),
        ("steps", f"{entry['steps']:,}"),
        ("length of an episode", f"mean {entry['length_mean']:.1f}, max {entry['length_max']:,}"),
        (
            "return",
            f"mean {entry['return_mean']:,.2f}, deviation {entry['return_std']:,.2f}, "
            f"{entry['return_min']:,.2f} to {entry['return_max']:,.2f}",
        ),
        ("ended by the environment", f"{entry['terminated']:.1%} of the episodes"),
        ("observation", _kind(task)),
        (
            "action",
            f"one of {task.action_size}" if task.discrete else f"{task.action_size} numbers",
        ),
    ]
    if "levels" in entry:
        met = f"{entry['tested_levels_met']} of {EVALUATION_LEVELS}"
        sizes += [
            ("missions", f"{entry['missions']:,} different ones"),
            ("levels", f"{entry['levels']:,} different ones; of the evaluation's, {met} are here"),
        ]
    return sizes


def card(spec: DatasetSpec, task: Task, entry: dict[str, Any], versions: list[str]) -> str:
    """The dataset card, in Markdown: what it is, how it was made, what it holds, what it lacks."""
    lines = [
        f"# {spec.id}",
        "",
        f"{task.env_id}: {spec.description}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts(task, entry)),
        "",
        f"**Made by** `python -m helpers collect {spec.id}`, {_source(spec)}, with "
        f"{', '.join(versions)}. SHA-256 of the arrays: `{entry['sha256'][:16]}`.",
        "",
        "**Licence**: that of the book (MIT). Simulated, so about nobody.",
        "",
    ]
    return "\n".join(lines)


def _kind(task: Task) -> str:
    if task.layout:
        return ", ".join(f"{name} {'x'.join(map(str, s))}" for name, s in task.layout.items())
    return f"{task.observation_size} numbers"


def _source(spec: DatasetSpec) -> str:
    if spec.mixture:
        return f"from {' and '.join(spec.mixture)}"
    if spec.delays:
        return f"from {spec.delays}"
    if spec.replay:
        return f"from the actions in {spec.replay}.safetensors"
    return f"environment seeds from {spec.seed:,}, behaviour {spec.behaviour}"
