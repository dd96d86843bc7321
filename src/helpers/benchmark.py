"""The benchmark: which methods meet on which sets, and what of their results is compared.

Sets of one *kind* share a score, D4RL's for HalfCheetah and successes in percent elsewhere. Nothing
is averaged over kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from helpers.analysis.statistics import (
    Interval,
    Scores,
    difference_interval,
    mean_interval,
    side,
)
from helpers.data.catalogue import get_spec, registry
from helpers.experiments import Run, load_experiments
from helpers.files import BadFile
from helpers.runs import obtain
from helpers.tasks import Task, get_task

SEEDS = (0, 1)
"""Every cell has them. Further declared ones are shown where they are done."""


@dataclass(frozen=True)
class Entry:
    """One row of a table: a method, under the name it has there."""

    label: str
    style: str
    """Key of `plotting.METHOD_STYLES`."""
    experiments: tuple[str, ...]
    """Tables of experiments.toml that hold its runs."""


@dataclass(frozen=True)
class Kind:
    """Sets whose scores mean the same, and the methods that are trained on them."""

    title: str
    score: str
    """What is compared, with its unit."""
    datasets: Mapping[str, str]
    """Names in tables, by id."""
    entries: tuple[Entry, ...]


def _five(prefix: str, best: Entry) -> tuple[Entry, ...]:
    """The methods that learn from every kind of set but BabyAI's; `best` imitates the best part."""
    bc, iql, cql, dt = (
        Entry(style.upper(), style, (prefix + style,)) for style in ("bc", "iql", "cql", "dt")
    )
    return bc, best, iql, cql, dt


_CHEETAH = _five("", Entry("10% BC", "bc10", ("bc10",)))
_TT = (Entry("TT", "tt", ("tt",)), Entry("TT, no search", "tt", ("tt-greedy",)))
KINDS = {
    "halfcheetah": Kind(
        "HalfCheetah",
        "D4RL score",
        {f"halfcheetah/{tier}": tier for tier in ("medium", "medium-replay", "medium-expert")},
        (*_CHEETAH, *_TT),
    ),
    "delayed": Kind(
        "HalfCheetah, delayed",
        "D4RL score",
        {"halfcheetah-delayed/medium": "medium, delayed"},
        _CHEETAH,
    ),
    "key-to-door": Kind(
        "Key-to-Door",
        "success (%)",
        {f"key-to-door/random-{n}": f"{n:,} walks" for n in (1_000, 10_000)},
        _five("sparse-", Entry("filtered BC", "bc10", ("sparse-filtered",))),
    ),
    "pointmaze": Kind(
        "PointMaze",
        "success (%)",
        {"pointmaze/halves": "two halves"},
        _five("stitch-", Entry("filtered BC", "bc10", ("stitch-filtered",))),
    ),
    "babyai": Kind(
        "BabyAI",
        "success (%)",
        {
            "babyai-gotolocal-s7n5/expert": "GoToLocalS7N5",
            "babyai-pickuploc/expert": "PickupLoc",
            "babyai-gotoobjmaze-s4/expert": "GoToObjMazeS4",
        },
        (
            *(
                Entry(style.upper(), style, (f"babyai-{style}",))
                for style in ("bc", "iql", "cql", "dt", "tt")
            ),
            Entry("LEAP", "leap", ("babyai-leap", "babyai-leap-maze")),
        ),
    ),
}


# --- results -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """The results of one method on one set."""

    entry: Entry
    dataset: str
    task: Task
    """Where its models were evaluated."""
    results: tuple[dict[str, Any], ...]
    """Result files, one a seed."""

    @cached_property
    def scores(self) -> Float[np.ndarray, "seeds episodes"]:
        """Scores of the last checkpoints' episodes."""
        return self.task.score(np.array([result["returns"] for result in self.results]))

    @property
    def models(self) -> Float[np.ndarray, " _models"]:
        """Mean score of each seed in `SEEDS`: as many for every cell, so that sets weigh alike."""
        kept = [i for i, r in enumerate(self.results) if r["run"]["seed"] in SEEDS]
        return self.scores[kept].mean(axis=1)

    @cached_property
    def interval(self) -> Interval:
        """Mean score over seeds and episodes."""
        return mean_interval(self.scores)

    @property
    def checks(self) -> Float[np.ndarray, "seeds checks episodes"]:
        """Scores of the evaluations during training, the last step included; may have size 0."""
        rows = [[check["returns"] for check in r["checks"]] for r in self.results]
        values = np.array(rows, float) if any(map(any, rows)) else np.zeros((len(rows), 0, 0))
        return self.task.score(values)

    @property
    def best(self) -> float | None:
        """Mean of each seed's best check; nothing where there were none."""
        return float(self.checks.mean(axis=2).max(axis=1).mean()) if self.checks.size else None

    @property
    def minutes(self) -> Float[np.ndarray, " seeds"]:
        """Of training."""
        return np.array([result["train_seconds"] for result in self.results]) / 60.0


Cells = dict[tuple[str, str], Cell]
"""By label of the method and id of the set."""


def load_cells(kind: Kind, profile: str) -> Cells:
    """All results of a kind; methods that are not trained on a set have no cell there.

    Args:
        kind: of `KINDS`.
        profile: as of `runs.obtain`. In smoke, one tiny model of a method stands for all its sets,
            and there is none of those that plan through a thousand steps.

    Raises:
        BadFile: a cell does not declare one of `SEEDS`; or, in the book profile, the result of one
            is missing or stale.
    """
    experiments, cells = load_experiments(), {}
    for entry in kind.entries:
        runs = [run for name in entry.experiments for run in experiments[name]]
        declared = [run for run in runs if run.dataset in kind.datasets]
        if profile == "smoke":
            results = _tiny(declared)
        else:
            _check_seeds(entry, declared)
            results = [(run.dataset, obtain(run, profile)[0]) for run in reported(declared)]
        for dataset in kind.datasets:
            if own := tuple(result for of, result in results if of == dataset):
                cells[entry.label, dataset] = Cell(
                    entry, dataset, get_task(own[0]["run"]["task"]), own
                )
    return cells


def _tiny(declared: Sequence[Run]) -> list[tuple[str, dict[str, Any]]]:
    first = declared[0]
    if first.method == "tt" and not get_task(first.task).grid_size:
        return []
    result = obtain(first, "smoke")[0]
    return [(dataset, result) for dataset in dict.fromkeys(run.dataset for run in declared)]


def reported(runs: Sequence[Run]) -> list[Run]:
    """Those of `SEEDS`, and further ones that are done."""
    return [run for run in runs if run.seed in SEEDS or run.state() == "done"]


def _check_seeds(entry: Entry, declared: Sequence[Run]) -> None:
    for dataset in dict.fromkeys(run.dataset for run in declared):
        found = {run.seed for run in declared if run.dataset == dataset}
        if lacking := sorted(set(SEEDS) - found):
            raise BadFile(
                f"experiments.toml: {list(entry.experiments)} lack seeds {lacking} of {dataset}; "
                f"every cell of the benchmark has {SEEDS}"
            )


def data_score(dataset: str) -> float:
    """Mean score of the episodes of a set, from the registry.

    Exact where a score is linear in the return: D4RL's, and successes that are paid 1.
    """
    task = get_task(get_spec(dataset).task)
    return float(task.normalised_score(registry()[dataset]["return_mean"]))


# --- comparisons -------------------------------------------------------------------------------


def compare(ours: Cell, theirs: Cell) -> Interval:
    """Difference of their mean scores."""
    return difference_interval(ours.scores, theirs.scores)


def column(cells: Cells, dataset: str) -> dict[str, Cell]:
    """The cells of one set, by method."""
    return {label: cell for (label, of), cell in cells.items() if of == dataset}


def leaders(cells: Mapping[str, Cell]) -> list[str]:
    """The method with the highest mean, and those that are not clearly below it."""
    first = max(cells, key=lambda label: cells[label].scores.mean())
    return [label for label in cells if side(compare(cells[first], cells[label])) < 1]


def ranking(cells: Mapping[str, Cell]) -> list[str]:
    """Methods by falling mean."""
    return sorted(cells, key=lambda label: -cells[label].scores.mean())


def model_scores(kind: Kind, cells: Cells, label: str) -> Scores:
    """Mean score of each model of a method, by set; empty unless it has all sets of the kind."""
    if any((label, dataset) not in cells for dataset in kind.datasets):
        return {}
    return {dataset: cells[label, dataset].models for dataset in kind.datasets}


# --- what choosing a checkpoint adds -----------------------------------------------------------


def choice_gain(
    checks: Float[np.ndarray, "seeds checks episodes"], splits: int = 200, seed: int = 0
) -> tuple[float, float]:
    """By how much the best check exceeds the last: as one would report it, and on other episodes.

    The first choice sees the episodes that it is then judged by. For the second, episodes are
    split in halves again and again: one half chooses, the other judges. What remains there is
    worth having, what vanishes was luck. (A half chooses worse than all episodes would.)

    Args:
        checks: scores.
        splits: how often.
        seed: of the splits.

    Returns:
        Both means over seeds; the second is not a number where there is one episode only.
    """
    reported = (checks.mean(axis=2).max(axis=1) - checks[:, -1].mean(axis=1)).mean()
    seeds, _, episodes = checks.shape
    if episodes < 2:
        return float(reported), float("nan")
    rng, gains = np.random.default_rng(seed), []
    for _ in range(splits):
        order = rng.permutation(episodes)
        choosing, judging = checks[..., order[: episodes // 2]], checks[..., order[episodes // 2 :]]
        chosen = choosing.mean(axis=2).argmax(axis=1)
        means = judging.mean(axis=2)
        gains.append(means[np.arange(seeds), chosen] - means[:, -1])
    return float(reported), float(np.mean(gains))
